//! Command line, log lines, ends.

use std::fs;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::pair::{DIR, Hit, Knockd, Line, Who, both, datagram, syn};
use crate::harness::raw::FIN;
use crate::harness::{LIMIT, Net, Ran, eventually, program, until};

/// A log without stamps, empty lines and directories.
fn lines(knockd: &Knockd) -> Vec<String> {
    let dir = knockd.path("").display().to_string();
    let log = knockd.log().replace(dir.trim_end_matches('/'), DIR);
    let lines = log.lines().filter(|line| !line.is_empty());
    lines
        .map(|line| {
            let (stamp, text) = line.split_at(19);
            let shape = stamp.replace(|c: char| c.is_ascii_digit(), "9");
            assert_eq!(shape, "[9999-99-99 99:99] ", "{line}");
            text.to_owned()
        })
        .collect()
}

/// What we say and knockd has no words for.
fn extra(line: &str) -> bool {
    ["there is no user ", "reloaded: ", "fail: the command for "]
        .iter()
        .any(|begin| line.starts_with(begin))
        || line.ends_with("posternctl check tells them")
}

#[test]
fn the_log_is_knockds() {
    let net = Net::new(1);
    let doors = format!(
        "[open SSH]\nSequence = 7000,8000:udp,9000\nSeq_Timeout = 3\nTCPFlags = syn\n\
         Start_Command = echo open %IP% >> {DIR}/ran\nCmd_Timeout = 1\n\
         Stop_Command = echo close %IP% >> {DIR}/ran\n\
         [fail]\nSequence = 7100,7101\nCommand = echo sorry; exit 3\n\
         [open]\nSequence = 7300,7301,7302\nCommand = true\n\
         [close]\nSequence = 7302,7301,7300\nCommand = true\n\
         [six]\nSequence = 7200\nCommand = echo four %IP% >> {DIR}/ran\n\
         Command_6 = echo six %IP% >> {DIR}/ran\n"
    );
    let mut both = both(&net.server, &doors);
    let wire = Line::new(net.client(), &net.server);
    let (client, client_6) = (net.client().v4, net.client().v6);
    let (to, to_6) = (net.server.v4, net.server.v6);
    let wait = |both: &[Knockd], words: &str| {
        for knockd in both {
            until(&format!("{:?} logs {words:?}", knockd.who), || {
                knockd.log().contains(words)
            });
        }
    };

    wire.knock(client, to, &[syn(7000), datagram(8000)]);
    wire.hit(
        client,
        to,
        Hit {
            flags: FIN,
            ..syn(9000)
        },
    );
    wire.hit(client, to, syn(9000));
    wait(&both, "close 10.66.0.11");
    wire.knock(client, to, &[syn(7100), syn(7101)]);
    wait(&both, "(3)");
    // The last step of the one is the first of the other.
    wire.knock(client, to, &[7300, 7301, 7302].map(syn));
    wait(&both, "open: running command");
    wire.knock(client, to, &[7302, 7301, 7300].map(syn));
    wait(&both, "close: running command");
    wire.knock(client_6, to_6, &[syn(7200)]);
    wait(&both, "six fd66::11");
    // knockd sees that time is up when the next packet comes.
    wire.hit(client, to, syn(7000));
    wait(&both[1..], "sequence timeout");
    let mut hits = 0;
    until("knockd sees it, too", || {
        wire.hit(client, to, syn(7200));
        hits += 1;
        both[0].log().contains("sequence timeout")
    });
    // It reads its file within the signal's handler: one that comes amid its work can hang it.
    for knockd in &both {
        knockd.wait_opened("four 10.66.0.11", hits);
    }
    for knockd in &both {
        knockd.signal(Signal::SIGHUP);
    }
    wait(&both, "re-reading config file");
    until("the new configuration is in force", || {
        wire.hit(client_6, to_6, syn(7200));
        both.iter().all(|knockd| {
            let log = knockd.log();
            let (_, after) = log.split_once("re-reading config file").unwrap();
            after.contains("six fd66::11")
        })
    });
    for knockd in &mut both {
        knockd.stop();
    }

    let [theirs, ours] = &both;
    // How often the last packets were sent depends on how fast both are.
    let once = |lines: Vec<String>| {
        let mut once: Vec<String> = Vec::new();
        for line in lines {
            if !extra(&line) && !once.ends_with(std::slice::from_ref(&line)) {
                once.push(line);
            }
        }
        once
    };
    let (theirs, ours) = (once(lines(theirs)), once(lines(ours)));
    let at = |lines: &[String]| lines.iter().position(|l| l.contains("timeout (")).unwrap();
    assert_eq!(theirs[..=at(&theirs)], ours[..=at(&ours)]);
    for words in ["re-reading config file: @DIR@/knockd.conf", "shutting down"] {
        for lines in [&theirs, &ours] {
            assert!(lines.iter().any(|l| l == words), "{words}: {lines:#?}");
        }
    }
}

#[test]
fn in_the_background_with_a_pidfile() {
    let net = Net::new(1);
    let doors = format!("[a]\nSequence = 7000\nCommand = echo a %IP% >> {DIR}/ran\n");
    let wire = Line::new(net.client(), &net.server);
    for who in [Who::Theirs, Who::Ours] {
        let mut knockd = Knockd::prepare(&net.server, who, &doors);
        let pidfile = knockd.path("pid").display().to_string();
        knockd.spawn(&["-d", "-i", "eth0", "-p", &pidfile]);
        assert!(knockd.wait().success(), "{who:?}");
        let pid = || fs::read_to_string(&pidfile).ok()?.trim().parse().ok();
        let found = eventually("a pidfile", LIMIT, pid);
        until("it listens", || {
            knockd.log().contains("starting up, listening on eth0")
        });
        wire.hit(net.client().v4, net.server.v4, syn(7000));
        knockd.wait_opened("a 10.66.0.11", 1);
        kill(Pid::from_raw(found), Signal::SIGTERM).unwrap();
        until("the pidfile is gone", || pid().is_none());
        assert!(knockd.log().contains("shutting down"));
    }
}

/// The file's LogFile and PidFile go before -g and -p, -i before the file's Interface. In the
/// foreground there is no pidfile, and `-v` says what is logged.
#[test]
fn what_goes_before_what() {
    let net = Net::new(1);
    for who in [Who::Theirs, Who::Ours] {
        let mut knockd = Knockd::prepare(&net.server, who, "");
        knockd.write(
            "knockd.conf",
            &format!(
                "[options]\nInterface = nosuch0\nPidFile = {DIR}/pid\n\
                 [a]\nSequence = 7000\nCommand = true\n"
            ),
        );
        let log = knockd.path("log").display().to_string();
        knockd.run(&["-v", "-i", "eth0", "-g", &log, "-p", "/nosuch/pid"]);
        Line::new(net.client(), &net.server).hit(net.client().v4, net.server.v4, syn(7000));
        until("it says what it does", || {
            let said = knockd.read("said");
            said.contains("10.66.0.11: a: OPEN SESAME\n")
                && said.contains("a: running command: true\n")
        });
        assert!(!knockd.path("pid").exists());
        knockd.stop();

        let pidfile = knockd.path("pid").display().to_string();
        knockd.spawn(&["-d", "-i", "eth0", "-g", &log, "-p", "/nosuch/pid"]);
        knockd.wait();
        until("the file's pidfile is used", || {
            fs::metadata(&pidfile).is_ok_and(|m| m.len() > 0)
        });
        let pid = fs::read_to_string(&pidfile)
            .unwrap()
            .trim()
            .parse()
            .unwrap();
        kill(Pid::from_raw(pid), Signal::SIGTERM).unwrap();
        until("it is gone", || !fs::exists(&pidfile).unwrap());
    }
}

#[test]
fn without_ipv6() {
    let net = Net::new(1);
    let doors = format!("[a]\nSequence = 7000\nCommand = echo a %IP% >> {DIR}/ran\n");
    let both = [Who::Theirs, Who::Ours].map(|who| {
        let mut knockd = Knockd::prepare(&net.server, who, &doors);
        knockd.run(&["-4", "-i", "eth0"]);
        knockd
    });
    let wire = Line::new(net.client(), &net.server);
    wire.hit(net.client().v6, net.server.v6, syn(7000));
    wire.hit(net.client().v4, net.server.v4, syn(7000));
    for knockd in &both {
        knockd.wait_opened("a 10.66.0.11", 1);
        assert_eq!(knockd.opened().len(), 1);
    }
}

/// Ends: knockd's wherever it says that something is wrong. For a wrong command line it ends
/// with 0, and by a signal with the signal's number.
#[test]
fn how_it_ends() {
    let net = Net::new(1);
    let door = "[a]\nSequence = 7000\nCommand = true\n";
    for who in [Who::Theirs, Who::Ours] {
        let mut knockd = Knockd::prepare(&net.server, who, door);
        let ours = who == Who::Ours;
        for (arguments, code, said) in [
            (&["-V"][..], 0, "knockd "),
            (&["--help"], 0, "usage: knockd [options]"),
            (&["--nonsense"], i32::from(ours), "--nonsense"),
            (&["-c", "/nosuch/knockd.conf"], 1, "/nosuch/knockd.conf"),
        ] {
            let ran = knockd.ran(arguments);
            assert_eq!(ran.code(), code, "{who:?} {arguments:?}: {ran:?}");
            let text = format!("{}{}", ran.stdout, ran.stderr);
            assert!(text.contains(said), "{who:?} {arguments:?}: {text}");
        }
        knockd.configure("[a]\nSequence = 70000\n");
        assert_eq!(knockd.ran(&["-i", "eth0"]).code(), 1, "{who:?}");
        knockd.configure(door);
        for signal in [Signal::SIGTERM, Signal::SIGINT] {
            knockd.run(&["-i", "eth0"]);
            knockd.signal(signal);
            let status = knockd.wait();
            assert_eq!(status.code(), Some(if ours { 0 } else { signal as i32 }));
        }
    }
}

/// What Debian's knock says of lines that can be meant, ours says.
#[test]
fn knock_says_what_knock_says() {
    let net = Net::new(1);
    let dir = tempfile::tempdir().unwrap();
    let link = dir.path().join("knock");
    std::os::unix::fs::symlink(program("postern"), &link).unwrap();
    let link = link.display().to_string();
    for line in [
        "-v 10.66.0.1 7000 8000:udp 9000:tcp",
        "-u -v 10.66.0.1 7000:tcp 1",
        "-6 -v fd66::1 7000 65535:udp",
        "10.66.0.1 7000 -vd 1 7001",
        "--delay 2 --verbose --ipv4 10.66.0.1 7000",
        "10.66.0.1 7000",
        "-4 fd66::1 7000",
        "10.66.0.1 ",
        "--nonsense 10.66.0.1 7000",
        "-d -1 10.66.0.1 7000",
    ] {
        let ran = ["/usr/bin/knock", &link]
            .map(|program| Ran::of(net.client().command(program).args(line.split_whitespace())));
        let [theirs, ours] = &ran;
        assert_eq!(theirs.code(), ours.code(), "{line}: {ran:?}");
        // knock prints its usage where ours says what is wrong.
        if theirs.code() == 0 {
            assert_eq!(theirs.stdout, ours.stdout, "{line}");
            assert!(ours.stderr.is_empty(), "{line}: {ran:?}");
        } else {
            assert!(!ours.stderr.is_empty(), "{line}");
        }
    }
}
