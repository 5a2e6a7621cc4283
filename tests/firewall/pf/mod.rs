//! pf, by a double of pfctl. Needs root: each test has a network namespace of its own, whose
//! list of sessions is what the kernel says.

mod adoption;
mod commands;
mod driving;
mod idle;
mod named;
mod networks;
mod recorded;
mod repairs;
mod states;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sched::{CloneFlags, unshare};
use postern::config::{Action, Door, Opens, Pass};
use postern::firewall::pf::Pf;
use postern::firewall::{Firewall, Opening, Order};
use serde_json::Value;

use crate::doors::{close, extend, idle, left, open, opening, opens, prefix6, tcp, udp};
use crate::suite::{Subject, carry_out, suite};

const INTERFACE: &str = "srv0";

/// The double, in a directory of its own.
struct Double {
    dir: tempfile::TempDir,
}

impl Double {
    fn new() -> Double {
        let double = Double {
            dir: tempfile::tempdir().unwrap(),
        };
        double.install();
        double
    }

    fn install(&self) {
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_pfctl-double"), self.file("pfctl")).unwrap();
    }

    fn path(&self) -> &str {
        self.dir.path().to_str().unwrap()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Runs it as an administrator would; what it printed, and its exit status.
    fn run(&self, args: &[&str], stdin: &str) -> (String, i32) {
        use std::io::Write;
        let mut child = Command::new(self.file("pfctl"))
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut pipe = child.stdin.take().unwrap();
        // It need not want to read.
        let _ = pipe.write_all(stdin.as_bytes());
        drop(pipe);
        let ended = child.wait_with_output().unwrap();
        let text = [ended.stderr, ended.stdout].concat();
        (
            String::from_utf8(text).unwrap(),
            ended.status.code().unwrap(),
        )
    }

    /// Runs a command line of plain words, which must succeed.
    fn pfctl(&self, line: &str, stdin: &str) -> String {
        let args: Vec<&str> = line.split_whitespace().collect();
        let (text, status) = self.run(&args, stdin);
        assert_eq!(status, 0, "{line}: {text}");
        text
    }

    /// The rules of our anchor.
    fn rules(&self) -> String {
        self.pfctl("-a postern -s rules", "")
    }

    fn state(&self) -> Value {
        serde_json::from_slice(&std::fs::read(self.file("state.json")).unwrap()).unwrap()
    }

    /// Changes what the kernel knows.
    fn edit(&self, change: impl FnOnce(&mut Value)) {
        let mut state = self.state();
        change(&mut state);
        std::fs::write(self.file("state.json"), state.to_string()).unwrap();
    }

    /// Which calls are to fail, each with its words, exit status and output.
    fn fail(&self, lines: &str) {
        std::fs::write(self.file("fail"), lines).unwrap();
    }

    /// Takes the log of the calls so far.
    fn calls(&self) -> String {
        let text = std::fs::read_to_string(self.file("log")).unwrap_or_default();
        let _ = std::fs::remove_file(self.file("log"));
        text
    }

    /// How many calls there were since the log was last taken.
    fn count(&self) -> usize {
        let calls = self.calls();
        calls.lines().filter(|line| !line.starts_with('>')).count()
    }

    /// The entries of a table as the kernel knows them.
    fn table(&self, anchor: &str, name: &str) -> BTreeSet<String> {
        let state = self.state();
        let entries = state["tables"][anchor][name].as_array();
        entries
            .into_iter()
            .flatten()
            .map(|entry| {
                let address = entry["address"].as_str().unwrap();
                match (address.contains(':'), entry["prefix"].as_u64().unwrap()) {
                    (false, 32) | (true, 128) => address.to_owned(),
                    (_, prefix) => format!("{address}/{prefix}"),
                }
            })
            .collect()
    }
}

/// pf under test.
struct Anchor {
    double: Double,
    firewall: Pf,
}

impl Anchor {
    fn new() -> Anchor {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        Anchor::here()
    }

    /// In the network namespace that the thread is in.
    fn here() -> Anchor {
        let double = Double::new();
        Anchor {
            firewall: fresh(double.path()),
            double,
        }
    }

    /// Carries out orders, all of which must succeed.
    fn obey(&mut self, orders: &[Order]) {
        for done in carry_out(&mut self.firewall, orders) {
            assert_eq!(done.result, Ok(()), "{:?}", done.order);
        }
    }

    /// Upholds; what was mended and which strangers were seen.
    fn uphold(&mut self, openings: &[(Opening, Option<std::time::Duration>)]) -> [Vec<String>; 2] {
        let upkeep = self.firewall.uphold(openings).unwrap();
        [upkeep.mended, upkeep.strangers]
    }
}

fn fresh(path: &str) -> Pf {
    Pf::with_path(&[INTERFACE.to_owned()], &[], path).unwrap()
}

fn doors() -> Vec<Door> {
    vec![
        opens("ssh", &[tcp(22)], true),
        opens("sftp", &[tcp(22)], false),
    ]
}

fn changed(mut door: Door, change: impl FnOnce(&mut Opens)) -> Door {
    if let Action::Open(opens) = &mut door.action {
        change(opens);
    }
    door
}

const NONE: [String; 0] = [];

impl Subject for Anchor {
    fn firewall(&mut self) -> &mut dyn Firewall {
        &mut self.firewall
    }

    fn doors(&self) -> Vec<Door> {
        doors()
    }

    fn crash(&mut self) {
        self.firewall = fresh(self.double.path());
    }

    fn let_in(&mut self) -> BTreeSet<Opening> {
        let mut all = BTreeSet::new();
        for (table, door) in [("door_ssh", 0), ("door_sftp", 1)] {
            let entries = self.double.table("postern", table);
            all.extend(entries.iter().map(|address| opening(door, address)));
        }
        all
    }
}

suite!(Anchor::new());
