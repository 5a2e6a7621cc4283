//! The double of ipfw(8), and the double held against what the real one printed.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sched::{CloneFlags, unshare};
use tempfile::TempDir;

/// A directory with a double of ipfw in it, and what stands there.
pub struct Double {
    dir: TempDir,
}

impl Double {
    /// One where nothing stands. The calling thread moves to a network namespace where no socket
    /// is open but what the test opens.
    pub fn new() -> Double {
        unshare(CloneFlags::CLONE_NEWNET).expect("a namespace");
        Double::here()
    }

    /// The same without moving.
    pub fn here() -> Double {
        let dir = tempfile::tempdir().unwrap();
        symlink(env!("CARGO_BIN_EXE_ipfw-double"), dir.path().join("ipfw")).unwrap();
        Double { dir }
    }

    /// The directory, to look for the command in.
    pub fn path(&self) -> &str {
        self.dir.path().to_str().unwrap()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// ipfw with this line; what it printed. Nobody counts it.
    #[track_caller]
    pub fn ipfw(&self, line: &str) -> String {
        let log = fs::read(self.file("log")).unwrap_or_default();
        let output = Command::new(self.file("ipfw")).arg(line).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "ipfw {line}: {said}");
        fs::write(self.file("log"), log).unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    /// The rules of set 31, as they are listed, without the default rule.
    pub fn rules(&self) -> String {
        let list = self.ipfw("set 31 list");
        let rules = list.lines().filter(|line| !line.starts_with("65535 "));
        rules.map(|line| format!("{line}\n")).collect()
    }

    /// The entries of a table of ours.
    pub fn table(&self, name: &str) -> Vec<String> {
        let list = self.ipfw(&format!("set 31 table postern_{name} list"));
        list.lines().map(str::to_owned).collect()
    }

    /// The names of all tables.
    pub fn tables(&self) -> Vec<String> {
        let list = self.ipfw("table all list");
        let headers = list.lines().filter(|line| line.starts_with("--- "));
        headers.map(str::to_owned).collect()
    }

    /// The calls since the last time, each with the batch that it was given.
    pub fn calls(&self) -> String {
        let calls = fs::read_to_string(self.file("log")).unwrap_or_default();
        let _ = fs::remove_file(self.file("log"));
        calls
    }

    /// How many calls there were since the last time.
    pub fn runs(&self) -> usize {
        let calls = self.calls();
        calls
            .lines()
            .filter(|line| line.starts_with("ipfw"))
            .count()
    }

    /// So many calls, of those with this argument, will fail.
    pub fn fail(&self, times: u32, status: i32, argument: &str, said: &str) {
        let text = format!("{times} {status} {argument}\n{said}\n");
        fs::write(self.file("fail"), text).unwrap();
    }

    /// Puts a script of the shell in its place, which knows it as `$real`.
    pub fn wrap(&self, script: &str) {
        let (ipfw, real) = (self.file("ipfw"), self.file("real"));
        fs::create_dir(&real).unwrap();
        let real = real.join("ipfw");
        fs::rename(&ipfw, &real).unwrap();
        let script = format!("#!/bin/sh\nreal={}\n{script}", real.display());
        fs::write(&ipfw, script).unwrap();
        fs::set_permissions(&ipfw, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Makes a file that the double looks for.
    pub fn mark(&self, name: &str) {
        fs::write(self.file(name), "").unwrap();
    }

    /// Takes a file away.
    pub fn unmark(&self, name: &str) {
        fs::remove_file(self.file(name)).unwrap();
    }
}

/// A command line of a shell, in which `ipfw` is the double; what it printed and how it ended,
/// as the recordings have it.
fn shell(dir: &Path, line: &str) -> String {
    let output = Command::new("/bin/sh")
        .args(["-c", &format!("exec 2>&1; {line}")])
        // A shell calls it by the name alone.
        .current_dir(dir)
        .env("PATH", format!("{}:/usr/bin:/bin", dir.display()))
        .env("LC_ALL", "C")
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    format!("{text}[exit {}]\n", output.status.code().unwrap())
}

/// `service ipfw start` or `restart`: a flush, then the rules that it tells of.
fn service(double: &Double, told: &str) {
    double.ipfw("-q flush");
    for line in told
        .lines()
        .filter(|line| line.starts_with(char::is_numeric))
    {
        assert_eq!(double.ipfw(&format!("add {line}")), format!("{line}\n"));
    }
}

#[test]
fn the_double_prints_what_ipfw_printed() {
    let recorded = include_str!("recorded.txt");
    let mut double = Double::here();
    let mut commands = 0;
    for (part, text) in recorded.split("\n=== ").enumerate() {
        if part > 0 {
            double = Double::here();
        }
        for text in text.split("fbsd12# ").skip(1) {
            let (line, printed) = text.split_once('\n').unwrap();
            let end = printed.find("[exit ").unwrap();
            let end = end + printed[end..].find(']').unwrap() + 1;
            let printed = format!("{}\n", &printed[..end]);
            commands += 1;
            if line.starts_with("service ipfw") {
                service(&double, &printed);
            } else if line == "sysctl net.inet.ip.fw.tables_sets=1" {
                double.mark("tables_sets");
            } else {
                assert_eq!(shell(double.dir.path(), line), printed, "{line}");
            }
        }
    }
    assert!(commands > 100, "{commands}");
}
