//! posternctl, the program: what it asks posternd, what it prints, how it ends.
//!
//! posternd is a double here: [`Double`] takes one question, notes it, and answers as told.

#![cfg(all(feature = "daemon", unix))]

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::thread::{self, JoinHandle};

use postern::config::Drive;
use postern::daemon::control::{
    DoorView, FireView, GuardState, GuardView, InterfaceView, KeyView, LeaseView, OpeningsView,
    Refusals, Response, RestartView, StatusView,
};
use postern::daemon::fire::{Stretch, Tally};
use postern::firewall::Driven;
use postern::knock::{Counters, spa};
use tempfile::TempDir;

fn posternctl(directory: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_posternctl"))
        .args(args)
        .current_dir(directory)
        .output()
        .unwrap()
}

#[track_caller]
fn ended(output: &Output, status: i32, stdout: &str, stderr: &str) {
    assert_eq!(String::from_utf8_lossy(&output.stdout), stdout);
    assert_eq!(String::from_utf8_lossy(&output.stderr), stderr);
    assert_eq!(output.status.code(), Some(status));
}

/// A monitor that answers one question.
struct Double {
    directory: TempDir,
    asked: JoinHandle<String>,
}

impl Double {
    fn answering(response: &Response) -> Double {
        Double::saying(serde_json::to_string(response).unwrap() + "\n")
    }

    fn saying(answer: String) -> Double {
        let directory = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(directory.path().join("s")).unwrap();
        let asked = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut question = String::new();
            BufReader::new(&stream).read_line(&mut question).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
            question
        });
        Double { directory, asked }
    }

    /// Runs posternctl with these arguments; what it did, and the line it asked.
    fn ask(self, args: &[&str]) -> (Output, String) {
        let mut all = vec!["-s", "s"];
        all.extend(args);
        let output = posternctl(self.directory.path(), &all);
        (output, self.asked.join().unwrap())
    }
}

/// Compares with a file of tests/ctl; with UPDATE_GOLDEN set it is written instead.
#[track_caller]
fn golden(name: &str, actual: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/ctl")
        .join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&file, actual).unwrap();
    }
    assert_eq!(actual, fs::read_to_string(&file).unwrap(), "{name}");
}

fn leases() -> Vec<LeaseView> {
    let lease = |door: &str, address: &str, remaining| LeaseView {
        door: door.into(),
        address: address.parse().unwrap(),
        key: None,
        since: "2026-11-21T20:15:00Z".into(),
        until: "2026-11-21T20:15:30Z".into(),
        remaining,
        in_force: true,
        failure: None,
    };
    vec![
        lease("ssh", "192.0.2.7", 5),
        LeaseView {
            in_force: false,
            failure: Some("/usr/sbin/nft: exit status 1: Error:\n  no such table".into()),
            ..lease("ssh", "2001:db8::1:7", 30)
        },
        LeaseView {
            key: Some("alice".into()),
            ..lease("backup-and-more", "198.51.100.250", 604800)
        },
    ]
}

fn guards() -> Vec<GuardView> {
    let guard = |guard: &str, state, until: Option<&str>| GuardView {
        guard: guard.into(),
        state,
        until: until.map(str::to_owned),
    };
    let until = Some("2026-11-21T20:25:00Z");
    vec![
        guard("nft 22/tcp to me on xl0", GuardState::Confirmed, None),
        guard("nft 80/tcp to me on xl0", GuardState::Trial, until),
        guard("nft 443/tcp to me on xl0", GuardState::Withdrawn, None),
    ]
}

fn status() -> StatusView {
    StatusView {
        version: "0.1.0".into(),
        monitor: 4711,
        listener: Some(4712),
        user: "_postern".into(),
        confined_by: vec!["no_new_privs".into(), "seccomp".into()],
        since: "2026-11-21T20:00:00Z".into(),
        config: "/etc/postern.toml".into(),
        generation: 3,
        interfaces: vec![
            InterfaceView {
                name: "xl0".into(),
                listening: true,
            },
            InterfaceView {
                name: "tun0".into(),
                listening: false,
            },
        ],
        firewall: "nft".into(),
        driven: Some(Driven {
            by: Drive::InProcess,
            why: None,
        }),
        guards: guards(),
        openings: OpeningsView {
            in_force: 2,
            failed: 0,
        },
        doors: vec![
            DoorView {
                name: "ssh".into(),
                leases: 2,
                failed: 0,
                granted: 17,
                refused: 0,
                gave_way: 0,
            },
            DoorView {
                name: "wake".into(),
                leases: 0,
                failed: 0,
                granted: 1,
                refused: 0,
                gave_way: 0,
            },
        ],
        keys: Vec::new(),
        fire: None,
        ten_seconds: Stretch {
            seconds: 10,
            tally: Tally {
                passed: 4,
                ..Tally::default()
            },
        },
        minute: Stretch {
            seconds: 60,
            tally: Tally {
                passed: 32,
                ..Tally::default()
            },
        },
        packets: 1234,
        dropped: 5,
        attempts: Counters {
            held: 6,
            evicted: 7,
            trapped: 8,
            failed: 9,
            timed_out: 10,
            ..Counters::default()
        },
        spa: None,
        granted: 18,
        refused: 0,
        refused_for: Refusals::default(),
        withheld: 0,
        withheld_at: None,
        restarts: 0,
        last_restart: None,
    }
}

/// The same with all that can be told.
fn status_under_fire() -> StatusView {
    let lately = Tally {
        passed: 980_000,
        dropped: 11_760,
        evicted: 120,
        trapped: 9,
        failed: 55,
        timed_out: 150_000,
        keyless: 340_000,
        untried: 1_000,
        granted: 1,
        refused: 25,
        withheld: 400,
    };
    let quiet = status();
    StatusView {
        driven: Some(Driven {
            by: Drive::Command,
            why: Some("the kernel refused: Operation not permitted".into()),
        }),
        openings: OpeningsView {
            in_force: 1,
            failed: 1,
        },
        doors: vec![
            DoorView {
                failed: 1,
                refused: 1_204,
                gave_way: 3,
                ..quiet.doors[0].clone()
            },
            quiet.doors[1].clone(),
        ],
        keys: vec![
            KeyView {
                name: "alice".into(),
                granted: 1,
                refused: 100,
            },
            KeyView {
                name: "bob".into(),
                granted: 0,
                refused: 0,
            },
        ],
        fire: Some(FireView {
            since: "2026-11-21T20:03:10Z".into(),
            until: None,
            peak: 101_300,
            tally: lately,
        }),
        ten_seconds: Stretch {
            seconds: 10,
            tally: lately,
        },
        minute: Stretch {
            seconds: 60,
            tally: Tally {
                passed: 5_900_000,
                withheld: 2_000,
                ..lately
            },
        },
        packets: 7_012_345,
        dropped: 70_560,
        attempts: Counters {
            held: 61_000,
            ..quiet.attempts
        },
        spa: Some(spa::Counters {
            shapeless: 1,
            over_budget: 2_000,
            unauthenticated: 340_003,
            malformed: 4,
            stale: 5,
            address: 6,
            ports: 7,
            ..spa::Counters::default()
        }),
        refused: 1_304,
        refused_for: Refusals {
            allowance: 1_200,
            spent: 100,
            late: 0,
            address: 4,
            unwritten: 0,
        },
        withheld: 3_000,
        withheld_at: Some("2026-11-21T20:05:59Z".into()),
        restarts: 1,
        last_restart: Some(RestartView {
            at: "2026-11-21T20:01:00Z".into(),
            why: "killed by SIGKILL".into(),
        }),
        ..quiet
    }
}

#[test]
fn list_as_a_table() {
    let (output, asked) = Double::answering(&Response::Leases(leases())).ask(&["list"]);
    assert_eq!(asked, "{\"do\":\"list\"}\n");
    let table = String::from_utf8(output.stdout.clone()).unwrap();
    golden("list.txt", &table);
    assert_eq!(output.status.code(), Some(0));

    let (output, _) = Double::answering(&Response::Leases(Vec::new())).ask(&["list"]);
    ended(&output, 0, "no leases\n", "");
}

#[test]
fn list_as_json() {
    let (output, _) = Double::answering(&Response::Leases(leases())).ask(&["list", "--json"]);
    let parsed: Vec<LeaseView> = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(parsed, leases());

    let (output, _) = Double::answering(&Response::Leases(Vec::new())).ask(&["--json", "list"]);
    ended(&output, 0, "[]\n", "");
}

#[test]
fn status_in_words_and_as_json() {
    let over = FireView {
        until: Some("2026-11-21T20:09:10Z".into()),
        ..status_under_fire().fire.unwrap()
    };
    let over = StatusView {
        fire: Some(over),
        ..status()
    };
    for (file, status) in [
        ("status.txt", status()),
        ("status-under-fire.txt", status_under_fire()),
        ("status-after-fire.txt", over),
    ] {
        let response = Response::Status(Box::new(status.clone()));
        let (output, asked) = Double::answering(&response).ask(&["status"]);
        assert_eq!(asked, "{\"do\":\"status\"}\n");
        golden(file, &String::from_utf8(output.stdout).unwrap());
        assert_eq!(output.status.code(), Some(0));

        let (output, _) = Double::answering(&response).ask(&["status", "--json"]);
        let parsed: StatusView = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(parsed, status);
    }
}

#[test]
fn close() {
    let (output, asked) = Double::answering(&Response::Closed(2)).ask(&["close", "192.0.2.7"]);
    assert_eq!(
        asked,
        "{\"do\":\"close\",\"address\":\"192.0.2.7\",\"door\":null}\n"
    );
    ended(&output, 0, "2 leases of 192.0.2.7 ended\n", "");

    let (output, asked) =
        Double::answering(&Response::Closed(1)).ask(&["close", "2001:db8:1:2::/64"]);
    ended(&output, 0, "1 lease of 2001:db8:1:2::/64 ended\n", "");
    assert!(
        asked.contains("\"address\":\"2001:db8:1:2::/64\""),
        "{asked}"
    );
    let args = ["close", "2001:db8::7", "ssh"];
    let (output, asked) = Double::answering(&Response::Closed(1)).ask(&args);
    assert_eq!(
        asked,
        "{\"do\":\"close\",\"address\":\"2001:db8::7\",\"door\":\"ssh\"}\n"
    );
    ended(&output, 0, "1 lease of 2001:db8::7 ended\n", "");

    let (output, _) = Double::answering(&Response::Closed(0)).ask(&args);
    ended(&output, 1, "no lease of 2001:db8::7\n", "");

    let (output, _) = Double::answering(&Response::Closed(0)).ask(&["close", "::2", "--json"]);
    ended(&output, 1, "{\"closed\":0}\n", "");

    let refusal = Response::Error("ssh: no such door".into());
    let (output, _) = Double::answering(&refusal).ask(&args);
    ended(&output, 1, "", "posternctl: ssh: no such door\n");
}

#[test]
fn reload() {
    let warnings = [
        "/etc/postern.toml:9:1: warning: door.ssh.open_for: long",
        "state: later",
    ];
    let warnings = warnings.map(str::to_owned).to_vec();
    let response = Response::Reloaded {
        warnings,
        guards: guards(),
    };
    let (output, asked) = Double::answering(&response).ask(&["reload"]);
    assert_eq!(asked, "{\"do\":\"reload\"}\n");
    let expected = "/etc/postern.toml:9:1: warning: door.ssh.open_for: long\n\
                    warning: state: later\n\
                    the new configuration is in force\n\
                    guard nft 80/tcp to me on xl0: on trial until 2026-11-21T20:25:00Z, \
                    then withdrawn; knock and connect, or run posternctl confirm, to keep it\n\
                    guard nft 443/tcp to me on xl0: withdrawn; posternctl confirm puts it back, \
                    posternctl reload on trial\n";
    ended(&output, 0, expected, "");

    let (output, _) = Double::answering(&response).ask(&["reload", "--json"]);
    let all: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(all["warnings"][1], "state: later");
    assert_eq!(all["guards"][1]["state"], "trial");
    assert_eq!(all["guards"][1]["until"], "2026-11-21T20:25:00Z");

    let response = Response::Error("a.toml:1:1: one\na.toml:2:1: two".into());
    let (output, _) = Double::answering(&response).ask(&["reload"]);
    let expected = "posternctl: a.toml:1:1: one\nposternctl: a.toml:2:1: two\n";
    ended(&output, 78, "", expected);
}

#[test]
fn confirm_and_unguard() {
    let guards = || vec!["nft 22/tcp to me on xl0".to_owned()];
    let (output, asked) = Double::answering(&Response::Confirmed(guards())).ask(&["confirm"]);
    assert_eq!(asked, "{\"do\":\"confirm\"}\n");
    ended(&output, 0, "guard nft 22/tcp to me on xl0: confirmed\n", "");
    let (output, _) = Double::answering(&Response::Confirmed(Vec::new())).ask(&["confirm"]);
    ended(&output, 0, "no guard was on trial or withdrawn\n", "");
    let refusal = Response::Error("nothing is confirmed: no nft".into());
    let (output, _) = Double::answering(&refusal).ask(&["confirm"]);
    ended(
        &output,
        69,
        "",
        "posternctl: nothing is confirmed: no nft\n",
    );

    let (output, asked) = Double::answering(&Response::Unguarded(guards())).ask(&["unguard"]);
    assert_eq!(asked, "{\"do\":\"unguard\"}\n");
    let expected = "guard nft 22/tcp to me on xl0: taken away\n\
                    no guard stands now; posternctl confirm puts them back for good\n";
    ended(&output, 0, expected, "");
    let (output, _) = Double::answering(&Response::Unguarded(Vec::new())).ask(&["unguard"]);
    ended(&output, 0, "no guard stood\n", "");
    let (output, _) = Double::answering(&Response::Unguarded(guards())).ask(&["unguard", "--json"]);
    let expected = "{\"taken\":[\"guard nft 22/tcp to me on xl0\"]}\n";
    ended(&output, 0, expected, "");
    let (output, _) = Double::answering(&Response::Closed(1)).ask(&["unguard"]);
    assert_eq!(output.status.code(), Some(76));
}

#[test]
fn whoever_answers_may_not_be_posternd() {
    for answer in ["hello\n", "{\"closed\":1}\n", "{\"leases\":", "\n"] {
        let (output, _) = Double::saying(answer.into()).ask(&["list"]);
        let expected = format!(
            "posternctl: s: the answer is not one of a posternd of version {}\n",
            env!("CARGO_PKG_VERSION")
        );
        ended(&output, 76, "", &expected);
    }
    let (output, _) = Double::saying(String::new()).ask(&["list"]);
    ended(
        &output,
        69,
        "",
        "posternctl: s: posternd hung up without an answer\n",
    );
}

#[test]
fn posternd_is_not_running() {
    let top = tempfile::tempdir().unwrap();
    let expected = "posternctl: s: posternd is not running: start it, or name its socket with -s\n";
    for command in [
        &["list"][..],
        &["status"],
        &["reload"],
        &["close", "192.0.2.7"],
    ] {
        let mut args = vec!["-s", "s"];
        args.extend(command);
        ended(&posternctl(top.path(), &args), 69, "", expected);
    }
    // A socket that nobody listens at.
    drop(UnixListener::bind(top.path().join("s")).unwrap());
    ended(
        &posternctl(top.path(), &["list", "-s", "s"]),
        69,
        "",
        expected,
    );
}

#[test]
fn the_socket_is_the_one_that_the_configuration_names() {
    // Also when the configuration has become wrong since posternd read it.
    for text in [SOUND, "door = 1\n[", ""] {
        let double = Double::answering(&Response::Leases(Vec::new()));
        let directory = double.directory.path().to_owned();
        let file = directory.join("postern.toml");
        let control = format!("control = \"{}\"\n", directory.join("s").display());
        fs::write(&file, control + text).unwrap();
        let output = posternctl(&directory, &["list", "-c", "postern.toml"]);
        ended(&output, 0, "no leases\n", "");
        double.asked.join().unwrap();
    }
}

fn knockd_conf(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/knockd");
    fs::read_to_string(path.join(name)).unwrap()
}

#[test]
fn convert_prints_what_check_finds_sound() {
    let top = tempfile::tempdir().unwrap();
    let here = |name| top.path().join(name);
    let article = knockd_conf("article-freebsd.conf");
    let article = article.replace("000,8000,", "143,2912,16044,");
    fs::write(here("knockd.conf"), article).unwrap();
    let made = posternctl(top.path(), &["convert", "knockd.conf"]);
    assert_eq!(made.status.code(), Some(0));
    assert!(made.stderr.is_empty());
    fs::write(here("postern.toml"), &made.stdout).unwrap();
    fs::set_permissions(here("postern.toml"), fs::Permissions::from_mode(0o600)).unwrap();
    let checked = posternctl(top.path(), &["check", "postern.toml"]);
    assert_eq!(checked.status.code(), Some(0));
    let said = String::from_utf8_lossy(&checked.stdout);
    assert!(
        said.ends_with("postern.toml: sound, 1 door, 1 warning\n"),
        "{said}"
    );

    let json = posternctl(top.path(), &["--json", "convert", "knockd.conf"]);
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(json["toml"], String::from_utf8(made.stdout).unwrap());

    let said = "posternctl: postern.toml: it is a postern.toml already (or no Sequence stands in \
                it)\n";
    let again = posternctl(top.path(), &["convert", "postern.toml"]);
    ended(&again, 64, "", said);

    fs::write(here("sweep.conf"), "[a]\nsequence = 1,2,3\n").unwrap();
    let none = posternctl(top.path(), &["convert", "sweep.conf"]);
    assert_eq!(none.status.code(), Some(78));
    assert!(String::from_utf8_lossy(&none.stdout).contains("#[door.a]\n"));
    let said = String::from_utf8_lossy(&none.stderr);
    assert!(
        said.ends_with("posternctl: sweep.conf: no door is left: the comments say why\n"),
        "{said}"
    );

    fs::write(here("wrong.conf"), "[a]\nsequence = abc\n").unwrap();
    let said = "posternctl: wrong.conf:2:12: [a] sequence: \"abc\" is no port: knockd reads it as \
                0; write a number from 1 to 65535\n";
    ended(
        &posternctl(top.path(), &["convert", "wrong.conf"]),
        78,
        "",
        said,
    );
    let said = "posternctl: none.conf: No such file or directory\n";
    ended(
        &posternctl(top.path(), &["convert", "none.conf"]),
        66,
        "",
        said,
    );
}

/// A textbook's sequence is not taken over: check leads to where another is to be had, and the
/// file is sound when that stands in the place of the comment.
#[test]
fn convert_asks_for_another_sequence_than_the_textbooks() {
    let top = tempfile::tempdir().unwrap();
    let here = |name| top.path().join(name);
    fs::write(here("knockd.conf"), knockd_conf("article-freebsd.conf")).unwrap();
    let made = posternctl(top.path(), &["convert", "knockd.conf"]);
    assert_eq!(made.status.code(), Some(0));
    let said = "posternctl: knockd.conf: write a sequence where a comment asks for one\n";
    assert_eq!(String::from_utf8_lossy(&made.stderr), said);
    let made = String::from_utf8(made.stdout).unwrap();
    let theirs = "#sequence = [\"7000\", \"8000\", \"9000\"]\n";
    assert_eq!(made.matches(theirs).count(), 1, "{made}");

    let line = |part| 1 + made.lines().position(|line| line.contains(part)).unwrap();
    let (knock, sequence) = (line("[[door.openSSH.knock]]"), line("#sequence"));
    let check = |text: &str| {
        fs::write(here("postern.toml"), text).unwrap();
        fs::set_permissions(here("postern.toml"), fs::Permissions::from_mode(0o600)).unwrap();
        let checked = posternctl(top.path(), &["check", "postern.toml"]);
        let said = [checked.stdout, checked.stderr].concat();
        (checked.status.code(), String::from_utf8(said).unwrap())
    };
    let (code, said) = check(&made);
    assert_eq!(code, Some(78));
    let wanted = format!(
        "postern.toml:{knock}:1: door.openSSH.knock: the knock has no steps; write sequence = \
         [...] as posternctl keygen --sequence prints it, or ping = \"...\" as posternctl keygen \
         --ping does\n"
    );
    assert!(said.contains(&wanted), "{said}");

    let (code, said) = check(&made.replace("#sequence", "sequence"));
    assert_eq!(code, Some(78));
    let wanted = format!(
        "postern.toml:{sequence}:12: door.openSSH.knock.sequence: the sequence is in every manual \
         of knockd: whoever has read one tries it; posternctl keygen --sequence makes another\n"
    );
    assert!(said.contains(&wanted), "{said}");

    let keygen = posternctl(top.path(), &["keygen", "--sequence"]).stdout;
    let printed = String::from_utf8(keygen).unwrap();
    let (code, said) = check(&made.replace(theirs, &printed));
    assert_eq!(code, Some(0), "{said}");
}

/// A shell makes the file that output goes to.
#[test]
fn secrets_that_go_where_others_read_them() {
    let top = tempfile::tempdir().unwrap();
    fs::write(top.path().join("knockd.conf"), knockd_conf("pf.conf")).unwrap();
    for args in [
        &["convert", "knockd.conf"][..],
        &["keygen", "--sequence"],
        &["keygen", "--sequence", "--json"],
        &["keygen", "--ping"],
        &["keygen", "--spa", "alice", "--fixed"],
        &["keygen", "--spa", "alice", "--fixed", "--json"],
    ] {
        let said = |mode| {
            let to = fs::File::create(top.path().join("made")).unwrap();
            to.set_permissions(fs::Permissions::from_mode(mode))
                .unwrap();
            let mut command = Command::new(env!("CARGO_BIN_EXE_posternctl"));
            let command = command.args(args).current_dir(top.path()).stdout(to);
            let output = command.output().unwrap();
            assert_eq!(output.status.code(), Some(0));
            String::from_utf8(output.stderr).unwrap()
        };
        for mode in [0o644, 0o640, 0o604] {
            let wanted = format!(
                "posternctl: secrets go to a file that others can read (mode {mode:04o}): \
                 chmod go-r it\n"
            );
            assert!(said(mode).ends_with(&wanted), "{args:?}");
        }
        assert!(!said(0o600).contains("chmod"), "{args:?}");
    }
}

/// One of knockd's may be readable by all; nobody but root may write it.
#[test]
fn check_reads_knockd_conf() {
    let top = tempfile::tempdir().unwrap();
    fs::set_permissions(top.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let path = fs::canonicalize(top.path()).unwrap().join("knockd.conf");
    if top.path().metadata().unwrap().uid() != 0 {
        return; // only root's files can be believed
    }
    fs::write(&path, knockd_conf("pf.conf")).unwrap();
    let check = |mode| {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let output = posternctl(top.path(), &["check", "knockd.conf"]);
        assert_eq!(output.status.code(), Some(0));
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(check(0o600), "knockd.conf: sound, 2 doors\n");
    let path = path.display();
    assert_eq!(
        check(0o644),
        format!(
            "knockd.conf: warning: {path} holds secrets and can be read by others than root (mode \
             0644): chmod go-r {path}\nknockd.conf: sound, 2 doors, 1 warning\n"
        )
    );
    assert_eq!(
        check(0o666),
        format!(
            "knockd.conf: warning: posternd will refuse it: {path} can be written by others than \
             root (mode 0666): chmod go-w {path}\n\
             knockd.conf: warning: {path} holds secrets and can be read by others than root (mode \
             0666): chmod go-r {path}\nknockd.conf: sound, 2 doors, 2 warnings\n"
        )
    );
}

#[test]
fn wrong_command_lines() {
    let top = tempfile::tempdir().unwrap();
    for args in [
        &[][..],
        &["no-such-command"],
        &["list", "--no-such-option"],
        &["close"],
        &["close", "host.example.net"],
        &["keygen"],
        &["keygen", "--sequence", "--steps", "0"],
        &["keygen", "--sequence", "--steps", "33"],
        &["keygen", "--sequence", "--ping"],
        &["keygen", "--ping", "--udp"],
        &["keygen", "--ping", "--steps", "4"],
        &["keygen", "--ping", "--observed"],
        &["keygen", "--sequence", "--fixed"],
        &["keygen", "--spa"],
        &["keygen", "--spa", "alice"],
        &["keygen", "--spa", "alice", "--observed", "--fixed"],
        &["keygen", "--spa", "alice", "--fixed", "--udp"],
        &["keygen", "--spa", "1st", "--fixed"],
        &["keygen", "--spa", "a b", "--fixed"],
        &["replay"],
        &["convert"],
        &["replay", "x.pcap", "--to", "nowhere"],
    ] {
        let output = posternctl(top.path(), args);
        assert_eq!(output.status.code(), Some(64), "{args:?}");
        assert!(
            !output.stderr.is_empty() && output.stdout.is_empty(),
            "{args:?}"
        );
    }
    for args in [&["--version"][..], &["--help"], &["replay", "--help"]] {
        let output = posternctl(top.path(), args);
        assert_eq!(output.status.code(), Some(0), "{args:?}");
        assert!(
            output.stderr.is_empty() && !output.stdout.is_empty(),
            "{args:?}"
        );
    }
}

/// Nothing is wrong with it, and nothing unwise.
const SOUND: &str = r#"interface = "xl0"
firewall = "nft"

[door.ssh]
opens = ["22/tcp"]
open_for = "30s"
guard = true

[[door.ssh.knock]]
sequence = ["7143", "2912/udp", "29001", "16044"]
"#;

/// A directory with a configuration that posternd would take, if root runs the tests.
fn with_configuration(text: &str) -> TempDir {
    let top = tempfile::tempdir().unwrap();
    let file = top.path().join("postern.toml");
    fs::write(&file, text).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    top
}

fn is_root(top: &TempDir) -> bool {
    fs::metadata(top.path()).unwrap().uid() == 0
}

/// Standard output without what is said only because it is not root who runs the tests.
fn said(top: &TempDir, output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout);
    let mut kept = String::new();
    for line in text.lines() {
        if is_root(top) || !line.contains("posternd will refuse it") {
            kept += line;
            kept.push('\n');
        }
    }
    kept
}

#[test]
fn a_sound_configuration() {
    let top = with_configuration(SOUND);
    let args = [
        &["check", "postern.toml"][..],
        &["check", "-c", "postern.toml"],
        &["-c", "postern.toml", "check"],
    ];
    for args in args {
        let output = posternctl(top.path(), args);
        if is_root(&top) {
            ended(&output, 0, "postern.toml: sound, 1 door\n", "");
        }
        assert_eq!(output.status.code(), Some(0));
    }
    let output = posternctl(top.path(), &["check", "--json", "postern.toml"]);
    if is_root(&top) {
        ended(
            &output,
            0,
            "{\"sound\":true,\"mistakes\":[],\"warnings\":[]}\n",
            "",
        );
    }

    let output = posternctl(top.path(), &["check", "none.toml"]);
    let expected = "posternctl: none.toml: No such file or directory\n";
    ended(&output, 66, "", expected);
}

#[test]
fn every_mistake_is_told() {
    let text = "interface = \"xl0\"\nfirewal = \"nft\"\n\n[door.ssh]\nopens = [\"22/icmp\"]\n\
                open_for = \"30\"\n\n[[door.ssh.knock]]\nsequence = [\"0\"]\n";
    let top = with_configuration(text);
    let output = posternctl(top.path(), &["check", "postern.toml"]);
    assert_eq!(output.status.code(), Some(78));
    golden("wrong.txt", &said(&top, &output).replace(", 1 warning", ""));

    let output = posternctl(top.path(), &["check", "postern.toml", "--json"]);
    assert_eq!(output.status.code(), Some(78));
    let all: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(all["sound"], false);
    let first = &all["mistakes"][0];
    assert_eq!(first["file"], "postern.toml");
    assert_eq!((&first["line"], &first["column"]), (&2.into(), &1.into()));
    assert_eq!(first["key"], "firewal");
    assert!(first["message"].as_str().unwrap().contains("firewall"));

    // Nothing goes on with such a configuration.
    let output = posternctl(top.path(), &["replay", "-c", "postern.toml", "none.pcap"]);
    assert_eq!(output.status.code(), Some(78));
    assert!(output.stdout.is_empty());
}

#[test]
fn what_is_unwise() {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let text = format!(
        r#"{SOUND}
[door.wake]
start_command = "/usr/local/bin/wake %IP%"

[[door.wake.knock]]
sequence = ["9143", "2045", "14044"]

[[door.wake.knock]]
sequence = ["7143", "{port}", "2912", "16044"]

[[door.wake.knock]]
one_time_sequences = "DIRECTORY/none"

[[door.wake.knock]]
one_time_sequences = "DIRECTORY/used"

[[door.wake.knock]]
one_time_sequences = "DIRECTORY/list"

[door.tight]
opens = ["7144/tcp"]
open_for = "30s"
guard = true

[[door.tight.knock]]
sequence = ["7145", "7143"]
"#
    );
    let top = with_configuration("");
    let directory = top.path().to_str().unwrap();
    fs::write(
        top.path().join("postern.toml"),
        text.replace("DIRECTORY", directory),
    )
    .unwrap();
    for (name, text) in [("used", "#111,222\n"), ("list", "7301,7402\nssh,1\n")] {
        let file = top.path().join(name);
        fs::write(&file, text).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    }
    let output = posternctl(top.path(), &["check", "postern.toml"]);
    let text = said(&top, &output).replace(directory, "DIRECTORY");
    let text = text.replace(&format!("{port}/tcp"), "PORT/tcp");
    if is_root(&top) {
        golden("unwise.txt", &text);
    }
    assert!(
        text.contains("a service of this machine listens on PORT/tcp"),
        "{text}"
    );
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn what_the_command_line_or_the_system_must_have() {
    let top = with_configuration(&SOUND.replace("interface = \"xl0\"", "user = \"nobody-here\""));
    let output = posternctl(top.path(), &["check", "postern.toml"]);
    if is_root(&top) {
        golden("missing.txt", &said(&top, &output));
    }
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn files_that_posternd_does_not_take() {
    let top = with_configuration(SOUND);
    if !is_root(&top) {
        return; // what is wrong then is always the owner
    }
    let mode = |path: PathBuf, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode));
    mode(top.path().to_owned(), 0o755).unwrap();
    mode(top.path().join("postern.toml"), 0o644).unwrap();
    let file = top.path().join("postern.toml").canonicalize().unwrap();
    let file = file.display();
    let output = posternctl(top.path(), &["check", "postern.toml"]);
    let expected = format!(
        "postern.toml: warning: posternd will refuse it: {file} holds secrets and can be read \
         by others than root (mode 0644): chmod go-r {file}\n\
         postern.toml: sound, 1 door, 1 warning\n"
    );
    ended(&output, 0, &expected, "");
    let output = posternctl(top.path(), &["check", "postern.toml", "--json"]);
    let all: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(all["warnings"][0]["line"], serde_json::Value::Null);
    assert_eq!(all["sound"], true);
}

#[test]
fn new_sequences_are_sound_and_differ() {
    let top = with_configuration("");
    let mut seen = std::collections::BTreeSet::new();
    for (args, steps) in [
        (&[][..], 5),
        (&[], 5),
        (&["--steps", "8"], 8),
        (&["--udp"], 5),
        (&["--udp", "--steps", "1"], 1),
        (&["--steps", "32"], 32),
    ] {
        let mut all = vec!["keygen", "--sequence"];
        all.extend(args);
        let output = posternctl(top.path(), &all);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(seen.insert(text.clone()), "the same sequence twice");
        assert_eq!(text.contains("/udp"), args.contains(&"--udp"), "{text}");
        assert!(text.contains("postern knock HOST "), "{text}");

        // As it comes it goes into a configuration.
        let before = SOUND
            .lines()
            .take_while(|line| !line.starts_with("sequence"));
        let configuration = before.chain([text.as_str()]).collect::<Vec<_>>().join("\n");
        fs::write(top.path().join("postern.toml"), configuration).unwrap();
        let output = posternctl(top.path(), &["check", "postern.toml", "--json"]);
        let all: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(all["sound"], true, "{all}");
        let few = all["warnings"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|w| w["line"].is_u64());
        assert_eq!(few.count(), usize::from(steps == 1), "{all}");

        all_json(&top, args, steps);
    }
}

fn all_json(top: &TempDir, args: &[&str], steps: usize) {
    let mut all = vec!["keygen", "--sequence", "--json"];
    all.extend(args);
    let output = posternctl(top.path(), &all);
    let made: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(made["sequence"].as_array().unwrap().len(), steps);
}

/// What keygen prints, and what it says beside it.
fn made(top: &TempDir, args: &[&str]) -> (String, serde_json::Value) {
    let mut all = vec!["keygen"];
    all.extend(args);
    let output = posternctl(top.path(), &all);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    all.push("--json");
    let json = posternctl(top.path(), &all).stdout;
    (text, serde_json::from_slice(&json).unwrap())
}

/// A configuration that is sound, with this in the place of its knock, and with this behind it.
fn sound_with(top: &TempDir, knock: &str, behind: &str) {
    let before = SOUND
        .lines()
        .take_while(|line| !line.starts_with("sequence"));
    let lines = before.chain([knock, behind]).collect::<Vec<_>>().join("\n");
    fs::write(top.path().join("postern.toml"), lines).unwrap();
    let output = posternctl(top.path(), &["check", "postern.toml", "--json"]);
    let all: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(all["sound"], true, "{all}");
}

#[test]
fn new_pings_are_sound_and_differ() {
    let top = with_configuration("");
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..8 {
        let (text, json) = made(&top, &["--ping"]);
        sound_with(&top, &text, "");
        sound_with(&top, json["line"].as_str().unwrap(), "");
        let quoted = text.split('"').nth(1).unwrap();
        let knock = format!("# Without a profile: ping -c1 -p {quoted} HOST\n");
        assert!(text.ends_with(&knock), "{text}");
        for secret in [quoted, json["ping"].as_str().unwrap()] {
            assert_eq!(secret.len(), 32);
            assert!(seen.insert(secret.to_owned()), "the same secret twice");
        }
    }
}

#[test]
fn new_keys_are_sound_and_differ() {
    use postern::config::Config;

    let top = with_configuration("");
    let mut seen = std::collections::BTreeSet::new();
    for (args, observed) in [
        (["--spa", "alice", "--observed"], true),
        (["--spa", "alice", "--fixed"], false),
        (["--spa", "always", "--fixed"], false),
    ] {
        let (text, json) = made(&top, &args);
        let parts: Vec<&str> = text.split("\n\n").collect();
        assert_eq!(parts.len(), 3, "{text}");
        let sequence = "sequence = [\"7143\", \"12912\", \"29001\", \"3381\"]";
        for section in [parts[0], json["section"].as_str().unwrap()] {
            sound_with(&top, sequence, section);
            let read = fs::read_to_string(top.path().join("postern.toml")).unwrap();
            let config: Config = postern::config::toml::parse("it", &read).unwrap();
            let key = &config.keys[0];
            assert_eq!((key.name.as_str(), key.observed), (args[1], observed));
            assert_eq!((key.secret.cipher.len(), key.secret.hmac.len()), (32, 64));
            assert!(seen.insert(key.secret.cipher.clone()), "the same key twice");
            assert!(seen.insert(key.secret.hmac.clone()), "the same key twice");
        }
        // The three say the same, and those who ask for what a key does not allow are not let in.
        let secrets: Vec<&str> = parts[0].split('"').skip(1).step_by(2).take(2).collect();
        for part in &parts {
            for secret in &secrets {
                assert!(part.contains(secret), "{text}");
            }
        }
        assert_eq!(parts[1].contains("from = \"observed\""), observed);
        assert_eq!(parts[2].contains("ALLOW_IP source"), observed);
        assert_eq!(json["observed"], observed);
        for (name, key) in [("section", 0), ("profile", 1), ("fwknoprc", 2)] {
            let shape = |text: &str| {
                let lines = text.trim_end().lines().filter(|l| !l.starts_with('#'));
                let word = |l: &str| l.split(' ').next().unwrap_or_default().to_owned();
                lines.map(word).collect::<Vec<_>>()
            };
            assert_eq!(shape(json[name].as_str().unwrap()), shape(parts[key]));
        }
    }
}

/// fwknop's own client reads its part, and says so by making a packet.
#[test]
#[cfg(target_os = "linux")]
fn fwknop_reads_what_keygen_prints() {
    let Ok(found) = Command::new("fwknop").arg("--version").output() else {
        eprintln!("there is no fwknop here");
        return;
    };
    assert!(found.status.success());
    let top = with_configuration("");
    for (args, address) in [("--observed", "0.0.0.0"), ("--fixed", "192.0.2.7")] {
        let (_, json) = made(&top, &["--spa", "alice", args]);
        let stanza = json["fwknoprc"].as_str().unwrap();
        let stanza = stanza
            .replace("HOST\n", "198.51.100.5\n")
            .replace("ADDRESS", address);
        let file = top.path().join("fwknoprc");
        fs::write(&file, stanza).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        let ran = Command::new("fwknop")
            .args(["-T", "-v", "-n", "alice", "-E", "args", "--rc-file"])
            .arg(&file)
            .env("HOME", top.path())
            .current_dir(top.path())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&ran.stdout);
        assert!(ran.status.success(), "{ran:?}");
        assert!(said.contains(&format!("{address},tcp/22")), "{said}");
        assert!(said.contains("HMAC Type: 3 (SHA256)"), "{said}");
    }
}

/// What a person on a terminal is asked, what they answer, and what comes of it.
#[test]
#[cfg(target_os = "linux")]
fn keygen_asks_on_a_terminal() {
    let top = with_configuration("");
    let program = env!("CARGO_BIN_EXE_posternctl");
    let asked = |answer: &str| {
        let line = format!("umask 077; '{program}' keygen --spa alice >made");
        let mut script = Command::new("script")
            .args(["-qec", &line, "/dev/null"])
            .current_dir(top.path())
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut typed = script.stdin.take().unwrap();
        typed.write_all(answer.as_bytes()).unwrap();
        let output = script.wait_with_output().unwrap();
        drop(typed);
        let shown = String::from_utf8_lossy(&output.stdout).into_owned();
        let made = fs::read_to_string(top.path().join("made")).unwrap();
        (output.status.code(), shown, made)
    };
    for (answer, observed) in [("y\n", true), ("what?\nno\n", false)] {
        let (status, shown, made) = asked(answer);
        assert_eq!(status, Some(0), "{shown}");
        let questions = shown.matches("Will alice be behind NAT? [y/n]").count();
        assert_eq!(questions, answer.lines().count(), "{shown}");
        assert!(made.contains(&format!("observed = {observed}\n")), "{made}");
        let secret = made.split('"').nth(1).unwrap();
        assert!(!shown.contains(secret), "secrets go to standard output");
    }
    // The end of input.
    let (status, shown, made) = asked("\u{4}");
    assert_eq!((status, made.as_str()), (Some(64), ""), "{shown}");
    assert!(
        shown.contains("say --observed if so, and --fixed if not"),
        "{shown}"
    );
}
