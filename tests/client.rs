//! postern, the program, on the wire: loopback for what one machine can show, namespaces (with
//! the feature `e2e`, as root) for routes and neighbours.

#![cfg(feature = "client")]

use std::fs;
use std::io::{ErrorKind, Read};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::process::{Command, Output};
use std::thread;
use std::time::{Duration, Instant};

/// How long anything may take that happens at once.
const LIMIT: Duration = Duration::from_secs(20);

fn postern(args: &[&str]) -> Output {
    run(Command::new(env!("CARGO_BIN_EXE_postern")).args(args))
}

/// Runs it with no profile of whoever runs the tests in sight.
fn run(command: &mut Command) -> Output {
    let home = tempfile::tempdir().unwrap();
    command
        .env("HOME", home.path())
        .env_remove("XDG_CONFIG_HOME")
        .output()
        .unwrap()
}

#[track_caller]
fn ended(output: &Output, status: i32, stdout: &str, stderr: &str) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(String::from_utf8_lossy(&output.stdout), stdout);
    assert_eq!(said, stderr);
    assert_eq!(output.status.code(), Some(status));
}

/// The profile file with this text and mode.
fn profile(directory: &Path, text: &str, mode: u32) -> String {
    let file = directory.join("config.toml");
    fs::write(&file, text).unwrap();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
    }
    let _ = mode;
    file.to_str().unwrap().to_owned()
}

/// The next connection, which some systems give as one that was aborted before it was taken.
fn connection(listener: &TcpListener) -> Option<TcpStream> {
    listener.set_nonblocking(true).unwrap();
    let start = Instant::now();
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(false).unwrap();
                stream.set_read_timeout(Some(LIMIT)).unwrap();
                return Some(stream);
            }
            Err(e) if e.kind() == ErrorKind::ConnectionAborted => return None,
            Err(e) => assert_eq!(e.kind(), ErrorKind::WouldBlock),
        }
        assert!(start.elapsed() < LIMIT, "nobody came");
        thread::sleep(Duration::from_millis(5));
    }
}

fn udp() -> (UdpSocket, u16) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(LIMIT)).unwrap();
    let port = socket.local_addr().unwrap().port();
    (socket, port)
}

/// A port at which nobody listens. (Somebody may take it: nothing depends on it.)
fn closed() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

#[test]
fn a_tcp_step_is_a_connection_that_is_reset_at_once() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    ended(
        &postern(&["knock", "127.0.0.1", &port.to_string()]),
        0,
        "",
        "",
    );
    if let Some(mut stream) = connection(&listener) {
        let end = stream.read(&mut [0]).unwrap_err();
        assert_eq!(end.kind(), ErrorKind::ConnectionReset);
    }
}

#[test]
fn a_udp_step_is_one_nul_byte() {
    let (socket, port) = udp();
    ended(
        &postern(&["knock", "127.0.0.1", &format!("{port}/udp")]),
        0,
        "",
        "",
    );
    let mut bytes = [1; 8];
    assert_eq!(socket.recv(&mut bytes).unwrap(), 1);
    assert_eq!(bytes[0], 0);

    ended(
        &postern(&["knock", "127.0.0.1", &format!("{port}:udp")]),
        0,
        "",
        "",
    );
    assert_eq!(socket.recv(&mut bytes).unwrap(), 1);
    socket.set_nonblocking(true).unwrap();
    assert_eq!(
        socket.recv(&mut bytes).unwrap_err().kind(),
        ErrorKind::WouldBlock
    );
}

#[test]
fn closed_ports_are_hit_like_others_and_each_step_is_printed() {
    let (socket, open) = udp();
    let shut = closed();
    let steps = [
        format!("{shut}"),
        format!("{shut}/udp"),
        format!("{open}/udp"),
        format!("{shut}/tcp"),
        format!("{shut}/udp"),
        format!("{open}/udp"),
    ];
    let mut args = vec!["knock", "-v", "--delay", "1ms", "localhost", "-4"];
    args.extend(steps.iter().map(String::as_str));
    let expected = format!(
        "localhost is 127.0.0.1\n\
         hitting tcp 127.0.0.1:{shut}\n\
         hitting udp 127.0.0.1:{shut}\n\
         hitting udp 127.0.0.1:{open}\n\
         hitting tcp 127.0.0.1:{shut}\n\
         hitting udp 127.0.0.1:{shut}\n\
         hitting udp 127.0.0.1:{open}\n"
    );
    ended(&postern(&args), 0, &expected, "");
    assert_eq!(socket.recv(&mut [0; 8]).unwrap(), 1);
    assert_eq!(socket.recv(&mut [0; 8]).unwrap(), 1);
}

/// The program under another name.
#[cfg(unix)]
fn named(name: &str, args: &[&str]) -> Output {
    let directory = tempfile::tempdir().unwrap();
    let link = directory.path().join(name);
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_postern"), &link).unwrap();
    run(Command::new(link).args(args))
}

#[test]
#[cfg(unix)]
fn under_the_name_knock_it_takes_knocks_command_line() {
    let (socket, open) = udp();
    let shut = closed();
    let (tcp, udp) = (format!("{shut}"), format!("{open}:udp"));
    // Options may stand anywhere, be given twice, be cut short; the last of a kind counts.
    let knocked = named(
        "knock",
        &[
            "-v",
            "-6",
            "-4",
            "localhost",
            &tcp,
            "--del",
            "2",
            &udp,
            "-vd1",
        ],
    );
    let expected = format!("hitting tcp 127.0.0.1:{shut}\nhitting udp 127.0.0.1:{open}\n");
    ended(&knocked, 0, &expected, "");
    let mut bytes = [1; 8];
    assert_eq!(socket.recv(&mut bytes).unwrap(), 1);
    assert_eq!(bytes[0], 0);

    let knocked = named("knock", &["-u", "127.0.0.1", &format!("{open}:tcp")]);
    ended(&knocked, 0, "", "");
    assert_eq!(socket.recv(&mut bytes).unwrap(), 1);

    let version = named("knock", &["-V"]);
    let version = String::from_utf8(version.stdout).unwrap();
    assert!(version.starts_with("knock "), "{version}");
    let help = named("knock", &["-h"]);
    assert!(help.stdout.starts_with(b"usage: knock ") && help.status.success());
}

/// knock takes the port for 0, the protocol for TCP, and 66536 for 1000.
#[test]
#[cfg(unix)]
fn under_the_name_knock_mistakes_are_said() {
    for (args, said) in [
        (&["127.0.0.1"][..], "<port[:proto]>"),
        (&["127.0.0.1", "abc"], "\"abc\" is no port"),
        (&["127.0.0.1", "66536"], "\"66536\" is out of range"),
        (&["127.0.0.1", "7000:icmp"], "\"icmp\" is no protocol"),
        (&["-x", "127.0.0.1", "7000"], "'-x'"),
        (&["-d", "soon", "127.0.0.1", "7000"], "'soon'"),
        (
            &["-6", "127.0.0.1", "7000"],
            "127.0.0.1: has no IPv6 address",
        ),
    ] {
        let knocked = named("knock", args);
        let stderr = String::from_utf8(knocked.stderr).unwrap();
        assert!(stderr.contains(said), "{args:?}: {stderr}");
        assert_eq!(knocked.status.code(), Some(1), "{args:?}");
        assert!(knocked.stdout.is_empty(), "{args:?}");
    }
}

#[test]
fn a_source_can_be_chosen() {
    let (socket, port) = udp();
    let step = format!("{port}/udp");
    let knocked = postern(&["knock", "--source", "127.0.0.3", "127.0.0.1", &step]);
    if cfg!(target_os = "linux") {
        ended(&knocked, 0, "", "");
        assert_eq!(
            socket.recv_from(&mut [0; 8]).unwrap().1.ip().to_string(),
            "127.0.0.3"
        );
    }
    // 192.0.2.0/24 is nobody's (RFC 5737).
    let knocked = postern(&["knock", "--source", "192.0.2.1", "127.0.0.1", &step]);
    assert_eq!(knocked.status.code(), Some(69));
}

#[test]
fn a_name_that_does_not_resolve() {
    let knocked = postern(&["knock", "no-such-host.invalid", "1", "2"]);
    let said = String::from_utf8_lossy(&knocked.stderr);
    assert!(
        said.starts_with("postern: no-such-host.invalid: cannot be resolved: "),
        "{said}"
    );
    assert_eq!(said.lines().count(), 1, "{said}");
    assert_eq!(knocked.status.code(), Some(68));

    let knocked = postern(&["knock", "-6", "127.0.0.1", "1"]);
    ended(
        &knocked,
        68,
        "",
        "postern: 127.0.0.1: has no IPv6 address\n",
    );
}

#[test]
fn wrong_command_lines() {
    for args in [
        &["knock"][..],
        &[],
        &["knock", "127.0.0.1", "0"],
        &["knock", "127.0.0.1", "65536"],
        &["knock", "127.0.0.1", "7/icmp"],
        &["knock", "127.0.0.1", "ssh"],
        &["knock", "-4", "-6", "127.0.0.1", "1"],
        &["knock", "-d", "50", "127.0.0.1", "1"],
        &["knock", "--no-such-option"],
        &["no-such-command"],
    ] {
        let knocked = postern(args);
        assert_eq!(knocked.status.code(), Some(64), "{args:?}");
        assert!(!knocked.stderr.is_empty(), "{args:?}");
        assert!(knocked.stdout.is_empty(), "{args:?}");
    }
    for args in [&["--version"][..], &["--help"], &["knock", "--help"]] {
        let knocked = postern(args);
        assert_eq!(knocked.status.code(), Some(0), "{args:?}");
        assert!(knocked.stderr.is_empty(), "{args:?}");
        assert!(!knocked.stdout.is_empty(), "{args:?}");
    }
}

#[test]
fn a_profile_says_where_and_what() {
    let (socket, port) = udp();
    let home = tempfile::tempdir().unwrap();
    let text = format!(
        "[host.home]\naddress = \"127.0.0.1\"\nsequence = [\"{port}/udp\", \"{port}:udp\"]\n\
         delay = \"1ms\"\n\n[host.localhost]\nsequence = [{shut}]\n",
        shut = closed(),
    );
    let file = profile(home.path(), &text, 0o600);
    let hit = format!("hitting udp 127.0.0.1:{port}\n");
    let expected = hit.repeat(2);
    ended(
        &postern(&["knock", "-c", &file, "home", "-v"]),
        0,
        &expected,
        "",
    );
    assert_eq!(socket.recv(&mut [0; 8]).unwrap(), 1);
    assert_eq!(socket.recv(&mut [0; 8]).unwrap(), 1);
    ended(&postern(&["knock", "-c", &file, "localhost"]), 0, "", "");

    // Ports on the command line win, and the file is not looked at.
    let step = format!("{port}/udp");
    ended(
        &postern(&["knock", "-c", "/no/such/file", "127.0.0.1", &step]),
        0,
        "",
        "",
    );
}

#[test]
#[cfg(unix)]
fn the_profile_is_found_at_home() {
    let (socket, port) = udp();
    let text = format!("[host.home]\naddress = \"127.0.0.1\"\nsequence = [\"{port}/udp\"]\n");
    let home = tempfile::tempdir().unwrap();
    let knock = |variable: &str, directory: &Path| {
        let directory = directory.join("postern");
        fs::create_dir_all(&directory).unwrap();
        let file = profile(&directory, &text, 0o600);
        let knocked = Command::new(env!("CARGO_BIN_EXE_postern"))
            .args(["knock", "home"])
            .env_clear()
            .env(variable, home.path())
            .output()
            .unwrap();
        ended(&knocked, 0, "", "");
        assert_eq!(socket.recv(&mut [0; 8]).unwrap(), 1);
        fs::remove_file(file).unwrap();
    };
    knock("HOME", &home.path().join(".config"));
    knock("XDG_CONFIG_HOME", home.path());

    let knocked = Command::new(env!("CARGO_BIN_EXE_postern"))
        .args(["knock", "home"])
        .env_clear()
        .env("HOME", home.path())
        .output()
        .unwrap();
    let expected = format!(
        "postern: home: no ports, and no profile: {}: there is no such file\n",
        home.path().join(".config/postern/config.toml").display()
    );
    ended(&knocked, 64, "", &expected);
}

#[test]
#[cfg(unix)]
fn a_profile_that_others_can_read_is_refused() {
    let home = tempfile::tempdir().unwrap();
    for mode in [0o640, 0o604, 0o620, 0o602] {
        let file = profile(home.path(), "[host.home]\nsequence = [1]\n", mode);
        let expected = format!(
            "postern: {file} holds secrets and is open to others (mode {mode:04o}): \
             chmod 600 {file}\n"
        );
        ended(&postern(&["knock", "-c", &file, "home"]), 78, "", &expected);
    }
}

#[test]
fn every_mistake_in_a_profile_is_told_with_its_place() {
    let home = tempfile::tempdir().unwrap();
    let text = "\
[host.home]
adress = \"home.example.net\"
sequence = [\"7143\", \"2912/icmp\", 0, true]
delay = 50

[host.work]
address = \"\"

[host.bare]
[host.long]
sequence = []
delay = \"2m\"

[door.ssh]
";
    let file = profile(home.path(), text, 0o600);
    let expected = "\
postern: FILE:2:1: host.home.adress: unknown key; the nearest known one is address
postern: FILE:3:21: host.home.sequence: \"2912/icmp\": \"icmp\" is no protocol; write \"2912/tcp\" or \"2912/udp\"
postern: FILE:3:34: host.home.sequence: \"0\" is out of range; write a port from 1 to 65535
postern: FILE:3:37: host.home.sequence: a boolean is no port; write one such as \"7143\" or \"2912/udp\"
postern: FILE:4:9: host.home.delay: an integer is no duration; write one such as \"50ms\"
postern: FILE:7:11: host.work.address: \"\" is no address; write a name or an address in quotes
postern: FILE:9:1: host.bare: has no way to knock; write sequence = [...] with the ports to hit, ping = \"...\" or spa = true
postern: FILE:11:12: host.long.sequence: has 0 steps; write 1 to 32
postern: FILE:12:9: host.long.delay: \"2m\" is too long; write \"0s\" to \"1m\"
postern: FILE:14:2: door: unknown key; a profile file has tables [host.NAME] and nothing else
";
    let knocked = postern(&["knock", "-c", &file, "home"]);
    ended(&knocked, 78, "", &expected.replace("FILE", &file));

    let file = profile(home.path(), "[host.home\nsequence = [1]\n", 0o600);
    let knocked = postern(&["knock", "-c", &file, "home"]);
    let said = String::from_utf8_lossy(&knocked.stderr);
    assert!(
        said.starts_with(&format!("postern: {file}:1:11: ")),
        "{said}"
    );
    assert_eq!(knocked.status.code(), Some(78));
}

#[test]
fn a_host_that_the_profile_lacks() {
    let home = tempfile::tempdir().unwrap();
    let file = profile(home.path(), "[host.home]\nsequence = [1]\n", 0o600);
    let expected = format!("postern: {file}: no [host.hone]; the nearest is home\n");
    ended(&postern(&["knock", "-c", &file, "hone"]), 78, "", &expected);
    let expected = format!("postern: {file}: no [host.elsewhere]\n");
    ended(
        &postern(&["knock", "-c", &file, "elsewhere"]),
        78,
        "",
        &expected,
    );
    ended(
        &postern(&["knock", "-c", "/no/such/file", "home"]),
        78,
        "",
        "postern: /no/such/file: there is no such file\n",
    );
}

#[cfg(all(feature = "e2e", target_os = "linux"))]
#[path = "client/namespaces.rs"]
mod namespaces;

#[path = "client/connect.rs"]
mod connect;
#[path = "client/ways.rs"]
mod ways;
