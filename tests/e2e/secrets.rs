//! Steps of knocks are secrets: who may read them, where they are written, how long they are
//! kept.

use std::fs;
use std::io;
use std::os::unix::fs::FileExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::harness::{Daemon, Door, Net, Ran, chmod, until};
use crate::{OTHER, STEPS, ssh};

/// Steps whose numbers stand for nothing else here.
const SECRET: [&str; 4] = ["47131", "28417/udp", "31873", "42967"];
/// Those of a wrong configuration and of one-time lists.
const WRONG: &str = "51839";
const LIST: &str = "# keep-this-quiet\n39461,27583:udp,44293\n48179,26171:udp,33791\n";

/// The numbers of secret steps in a text, and it is said where.
#[track_caller]
fn assert_quiet(of: &str, text: &str) {
    let listed = LIST.split(|c: char| !c.is_ascii_digit());
    let fixed = SECRET.map(|step| step.trim_end_matches("/udp"));
    let secrets: Vec<&str> = listed.chain(fixed).chain([WRONG]).collect();
    let words = text.split(|c: char| !c.is_ascii_alphanumeric());
    for word in words.filter(|word| !word.is_empty()) {
        assert!(!secrets.contains(&word), "{of} tells of {word}:\n{text}");
    }
}

/// A door with secret steps, and one whose steps stand in a list.
fn doors(daemon: &Daemon) -> [Door; 2] {
    let list = format!("one_time_sequences = {:?}", daemon.path("list"));
    [
        Door::opens("ssh", "22/tcp", "1h").to(&SECRET),
        Door::opens("web", "443/tcp", "1h").knock(&list),
    ]
}

#[test]
fn steps_are_told_nowhere() {
    let net = Net::new(2);
    let mut daemon = Daemon::prepare(&net.server, &[]);
    daemon.set("trial", "\"10m\"");
    daemon.write("list", LIST);
    daemon.argue("--verbose");
    // A last step that every system sends from, and one that follows itself: warnings.
    let unwise = Door::opens("bad", "80/tcp", "1h").to(&[SECRET[0], SECRET[3], SECRET[3], "61001"]);
    let [one, two] = doors(&daemon);
    daemon.configure(&[one.clone(), two.clone(), unwise.clone()]);
    daemon.run();
    let server = net.server.v4;
    let [a, b] = &net.clients[..] else { panic!() };

    // Attempts, grants, a line spent, a line spent again.
    a.knock(server, &SECRET);
    daemon.wait_lease("ssh", a.v4);
    b.knock(server, &[SECRET[0], SECRET[2]]);
    daemon.wait_log("ssh: 10.66.0.12: failed after stage 1");
    let line = ["39461", "27583/udp", "44293"];
    b.knock(server, &line);
    daemon.wait_lease("web", b.v4);
    until("the line is used", || daemon.read("list").contains("#9461"));

    // Everything that posternctl says but what it is for.
    let quiet = |arguments: &[&str], code: i32| {
        let ran = daemon.ctl(arguments);
        assert_eq!(ran.code(), code, "{ran:?}");
        let of = format!("posternctl {arguments:?}");
        assert_quiet(&of, &format!("{}{}", ran.stdout, ran.stderr));
        ran
    };
    for json in [&["list"][..], &["status"], &["reload"], &["confirm"]] {
        quiet(json, 0);
        quiet(&[json, &["--json"]].concat(), 0);
    }
    let checked = quiet(&["check", "--json"], 0);
    assert!(checked.stdout.contains("door.bad.knock.sequence"));
    let aloud = daemon.ctl(&["check"]);
    assert!(
        aloud.stdout.contains(SECRET[3]),
        "it is for that: {aloud:?}"
    );

    // Mistakes in the lines that hold steps, and around them.
    for wrong in [
        format!("sequence = [\"{}\", \"{WRONG}/icmp\"]", SECRET[0]),
        format!("sequence = [{}, {WRONG}/udp]", SECRET[0]),
        format!("sequence = [\"{}\", \"{WRONG}\"", SECRET[0]),
        format!("{WRONG} = [{}]", SECRET[0]),
    ] {
        let before = daemon.log().matches("not reloaded").count();
        daemon.configure(&[Door::opens("ssh", "22/tcp", "1h").knock(&wrong)]);
        let socket = daemon.path("control");
        let ran = quiet(&["-s", socket.to_str().unwrap(), "reload"], 78);
        assert!(ran.stderr.contains("postern.toml:"), "{ran:?}");
        let whole = wrong.starts_with(WRONG);
        let pointed = ran.stderr.contains("posternctl check says what");
        assert!(whole || pointed, "{ran:?}");
        quiet(&["check", "--json"], 78);
        daemon.signal(Signal::SIGHUP);
        until("the log says it for both", || {
            daemon.log().matches("not reloaded").count() == before + 2
        });
        let second = Ran::of(&mut daemon.command());
        assert_eq!(second.code(), 78, "{second:?}");
        assert_quiet("posternd", &second.stderr);
    }
    daemon.configure(&[one, two, unwise]);

    // A listener's death, and what every process tells of itself.
    let listener = daemon.listener();
    for pid in [daemon.monitor(), listener] {
        for file in ["cmdline", "environ", "comm"] {
            let path = format!("/proc/{pid}/{file}");
            let bytes = fs::read(&path).unwrap();
            assert_quiet(&path, &String::from_utf8_lossy(&bytes));
        }
    }
    kill(listener, Signal::SIGABRT).unwrap();
    daemon.wait_log("listener");
    until("there is another", || daemon.listener() != listener);
    daemon.stop();

    for entry in fs::read_dir(daemon.path("state")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            let bytes = fs::read(&path).unwrap();
            let name = path.display().to_string();
            assert_quiet(&name, &String::from_utf8_lossy(&bytes));
        }
    }
    assert!(daemon.log().contains("stage 3"), "{}", daemon.log());
    assert_quiet("the log", &daemon.log());
    assert_quiet("standard error", &daemon.read("stderr"));
}

/// Where a process's memory holds a text.
fn holds(pid: Pid, text: &str) -> Vec<String> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let memory = fs::File::open(format!("/proc/{pid}/mem")).unwrap();
    let region = |line: &str| -> io::Result<bool> {
        let (from, to) = line.split(' ').next().unwrap().split_once('-').unwrap();
        let at = |number| u64::from_str_radix(number, 16).unwrap();
        let mut bytes = vec![0; (at(to) - at(from)) as usize];
        memory.read_exact_at(&mut bytes, at(from))?;
        Ok(String::from_utf8_lossy(&bytes).contains(text))
    };
    let writable = maps.lines().filter(|line| line.contains(" rw"));
    // What cannot be read is no memory of its own: devices.
    let found = writable.filter(|line| region(line).unwrap_or(false));
    found.map(str::to_owned).collect()
}

#[test]
fn nothing_that_was_read_outlives_its_use() {
    let net = Net::new(1);
    let mut daemon = Daemon::prepare(&net.server, &[]);
    daemon.write("list", LIST);
    let marked = |mark: &str, doors: &[Door]| {
        daemon.configure(doors);
        let text = daemon.read("postern.toml");
        daemon.write("postern.toml", &format!("{text}# {mark}\n"));
    };
    marked("hush-the-first", &doors(&daemon));
    daemon.run();
    let (monitor, listener) = (daemon.monitor(), daemon.listener());
    let state = daemon.path("state").display().to_string();
    for (pid, text) in [(monitor, state.as_str()), (listener, "posternd: listener")] {
        assert_ne!(holds(pid, text), [""; 0], "{text} can be seen");
    }
    let gone = |text: &str| {
        assert_eq!(holds(monitor, text), [""; 0], "{text}");
    };
    // The files' text, its pieces, the frame to the listener.
    let frame = format!("\"number\":{}", SECRET[0]);
    for text in [
        "hush-the-first",
        "keep-this-quiet",
        "39461,",
        SECRET[0],
        &frame,
    ] {
        gone(text);
    }
    // The stack keeps what passed through it until something else does.
    let kept = holds(listener, &frame);
    assert!(kept.iter().all(|map| map.ends_with("[stack]")), "{kept:?}");

    // The same for those read again: the list to be spent from, another configuration.
    net.client()
        .knock(net.server.v4, &["39461", "27583/udp", "44293"]);
    daemon.wait_lease("web", net.client().v4);
    let rest = Door::opens("ssh", "22/tcp", "1h").to(&STEPS);
    daemon.configure(std::slice::from_ref(&rest));
    let text = daemon.read("postern.toml");
    daemon.write("postern.toml", &format!("{text}# hush-the-second\n"));
    daemon.reload();
    for text in ["hush-the-second", "keep-this-quiet", "48179,", STEPS[0]] {
        gone(text);
    }
}

/// The kernel writes no core of the monitor, whatever limit it inherits.
#[test]
fn a_monitor_that_crashes_leaves_no_core() {
    let net = Net::new(0);
    let mut daemon = Daemon::start(&net.server, &[ssh("1h")]);
    let dumps = |pid: Pid| {
        let limit = ["--pid", &pid.to_string(), "--core=unlimited:unlimited"];
        let ran = Ran::of(Command::new("prlimit").args(limit));
        assert_eq!(ran.code(), 0, "{ran:?}");
        kill(pid, Signal::SIGABRT).unwrap();
    };
    let elsewhere = tempfile::tempdir().unwrap();
    let other = Command::new("sleep")
        .arg("1000")
        .current_dir(elsewhere.path())
        .spawn();
    let mut other = other.unwrap();
    dumps(Pid::from_raw(other.id() as i32));
    if !other.wait().unwrap().core_dumped() {
        println!("no process leaves a core here: {}", core_pattern());
    }
    dumps(daemon.monitor());
    let status = daemon.wait();
    assert_eq!(status.signal(), Some(Signal::SIGABRT as i32));
    assert!(!status.core_dumped());
}

fn core_pattern() -> String {
    fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap()
}

/// Modes by which a group or all can read.
const READABLE: [u32; 3] = [0o644, 0o640, 0o604];

#[test]
fn a_configuration_that_others_can_read_is_refused_at_every_reading() {
    let net = Net::new(1);
    let mut daemon = Daemon::prepare(&net.server, &[ssh("1h")]);
    let path = daemon.path("postern.toml");
    chmod(path.parent().unwrap(), 0o755);
    let mend = format!("chmod go-r {}", path.display());
    for (n, mode) in (1..).zip(READABLE) {
        chmod(&path, mode);
        daemon.spawn();
        assert_eq!(daemon.wait().code(), Some(78), "{mode:o}");
        assert_eq!(daemon.read("stderr").matches(&mend).count(), n);
    }
    assert!(!daemon.path("state").exists(), "nothing was done");
    chmod(&path, 0o600);
    daemon.run();
    for mode in READABLE {
        daemon.configure(&[ssh("2h")]);
        chmod(&path, mode);
        let ran = daemon.ctl(&["reload"]);
        assert_eq!(ran.code(), 78, "{ran:?}");
        assert!(ran.stderr.contains(&mend), "{ran:?}");
    }
    until("the log says so", || {
        daemon.log().matches(&mend).count() == READABLE.len()
    });
    net.client().knock(net.server.v4, &STEPS);
    daemon.wait_lease("ssh", net.client().v4);
}

#[test]
fn a_list_that_others_can_read_opens_nothing() {
    let net = Net::new(2);
    let mut daemon = Daemon::prepare(&net.server, &[]);
    let list = daemon.write("list", LIST);
    chmod(list.parent().unwrap(), 0o755);
    let [_, web] = doors(&daemon);
    daemon.configure(&[ssh("1h"), web]);
    let mend = format!("chmod go-r {}", list.display());
    let (line, server) = (["39461", "27583/udp", "44293"], net.server.v4);
    let [a, b] = &net.clients[..] else { panic!() };

    // At the start; the other doors open.
    chmod(&list, 0o644);
    daemon.run();
    daemon.wait_log(&mend);
    a.knock(server, &line);
    a.knock(server, &STEPS);
    daemon.wait_lease("ssh", a.v4);
    assert!(daemon.lease("web", a.v4).is_none());

    // Mended, and spoilt again under way.
    chmod(&list, 0o600);
    daemon.reload();
    chmod(&list, 0o640);
    a.knock(server, &line);
    daemon.wait_log(&format!("web: knock of {} refused", a.v4));
    assert!(daemon.lease("web", a.v4).is_none());
    assert_eq!(daemon.log().matches(&mend).count(), 2);
    chmod(&list, 0o600);
    b.knock(server, &line);
    daemon.wait_lease("web", b.v4);
    // And nothing written beside it stays behind.
    let new = list.with_extension("new");
    assert!(!new.exists() && fs::read_to_string(&list).unwrap().contains("#9461"));
}

/// Debian installs /etc/knockd.conf with mode 0644: a drop-in must start with it.
#[test]
fn a_knockd_conf_that_others_can_read_is_said_and_taken() {
    let net = Net::new(1);
    let daemon = Daemon::prepare(&net.server, &[]);
    let (config, list) = (daemon.path("knockd.conf"), daemon.path("list"));
    let (log, pid) = (daemon.path("log"), daemon.path("pid"));
    let opened = daemon.path("opened");
    let text = format!(
        "[options]\nInterface = eth0\nLogFile = {}\nPidFile = {}\n[fixed]\nSequence = {}\n\
         TCPFlags = syn,!ack\nStart_Command = touch {opened}\n\
         [listed]\nOne_Time_Sequences = {}\nStart_Command = true\n",
        log.display(),
        pid.display(),
        OTHER.join(",").replace('/', ":"),
        list.display(),
        opened = opened.display(),
    );
    let run = tempfile::tempdir().unwrap();
    for (path, text) in [(&config, text.as_str()), (&list, LIST)] {
        fs::write(path, text).unwrap();
        chmod(path, 0o644);
    }
    chmod(config.parent().unwrap(), 0o755);
    // knockd.conf names neither control socket nor state directory: /var is this daemon's own.
    let mut command = net.server.command("sh");
    let own = "mount --bind \"$1\" /var/run && mount --bind \"$1\" /var/lib && \
               exec \"$2\" -c \"$3\" 2>\"$4\"";
    command.args(["-c", own, "sh"]);
    command
        .arg(run.path())
        .arg(crate::harness::program("posternd"));
    let mut child = command
        .arg(&config)
        .arg(daemon.path("stderr"))
        .spawn()
        .unwrap();
    for path in [&config, &list] {
        daemon.wait_log(&format!("chmod go-r {}", path.display()));
    }
    daemon.wait_log("listening on eth0");
    until("it opens", || {
        net.client().knock(net.server.v4, &OTHER);
        opened.exists()
    });
    assert_quiet("the log", &daemon.log());
    assert!(Path::new(&pid).exists());
    child.kill().unwrap();
    child.wait().unwrap();
}
