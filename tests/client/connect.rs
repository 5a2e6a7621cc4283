//! postern connect: the stream, its ends, and what is said when there is none.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread::{self, JoinHandle};

use super::{closed, ended, postern, profile, udp};

/// A listener on the loopback, its port, and what is done with the first who connects.
fn server<T: Send + 'static>(
    with: impl FnOnce(TcpStream) -> T + Send + 'static,
) -> (String, JoinHandle<T>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let served = thread::spawn(move || with(listener.accept().unwrap().0));
    (port, served)
}

/// postern connect, with pipes as ssh makes them.
fn connect(args: &[&str]) -> Child {
    let home = tempfile::tempdir().unwrap();
    Command::new(env!("CARGO_BIN_EXE_postern"))
        .arg("connect")
        .args(args)
        .env("HOME", home.path())
        .env_remove("XDG_CONFIG_HOME")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// It ends when it is told nothing.
fn ends(child: Child) -> Output {
    child.wait_with_output().unwrap()
}

/// Bytes that no shift of themselves equals.
fn much() -> Vec<u8> {
    let mut state = 1u32;
    let next = move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    std::iter::repeat_with(next).take(8 << 20).collect()
}

fn all(mut from: impl Read) -> Vec<u8> {
    let mut bytes = Vec::new();
    from.read_to_end(&mut bytes).unwrap();
    bytes
}

#[test]
fn both_ways_at_once_and_not_a_byte_is_lost() {
    let (port, served) = server(|stream| {
        let mut writer = stream.try_clone().unwrap();
        let sends = thread::spawn(move || {
            writer.write_all(&much()).unwrap();
            writer.shutdown(Shutdown::Write).unwrap();
        });
        let heard = all(&stream);
        sends.join().unwrap();
        heard
    });
    let mut child = connect(&["127.0.0.1", &port]);
    let mut stdin = child.stdin.take().unwrap();
    let says = thread::spawn(move || stdin.write_all(&much()).unwrap());
    let output = ends(child);
    says.join().unwrap();
    assert_eq!(output.status.code(), Some(0), "{:?}", output.stderr);
    assert!(output.stdout == much());
    assert!(served.join().unwrap() == much());
    assert!(output.stderr.is_empty());
}

/// What ssh hears as the end of a server; and a server that answers when it has heard all.
#[test]
fn the_end_of_one_direction_leaves_the_other() {
    let (port, served) = server(|mut stream| {
        let heard = all(&stream);
        stream.write_all(&heard).unwrap();
    });
    let mut child = connect(&["127.0.0.1", &port]);
    child.stdin.take().unwrap().write_all(b"question").unwrap();
    let output = ends(child);
    assert_eq!(output.stdout, b"question");
    assert_eq!(output.status.code(), Some(0));
    served.join().unwrap();

    let (port, served) = server(|mut stream| {
        stream.write_all(b"no more of me\n").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        all(&stream)
    });
    let mut child = connect(&["127.0.0.1", &port]);
    // To its end, while standard input is still open.
    assert_eq!(all(child.stdout.take().unwrap()), b"no more of me\n");
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"more of me").unwrap();
    drop(stdin);
    assert_eq!(served.join().unwrap(), b"more of me");
    assert_eq!(ends(child).status.code(), Some(0));
}

#[test]
fn a_broken_connection_is_said() {
    let (port, served) = server(|stream| {
        let mut heard = [0];
        (&stream).read_exact(&mut heard).unwrap();
        // What was sent and not read makes it a reset.
        let socket = socket2::SockRef::from(&stream);
        socket.set_linger(Some(std::time::Duration::ZERO)).unwrap();
    });
    let mut child = connect(&["127.0.0.1", &port]);
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"12345").unwrap();
    served.join().unwrap();
    let mut stderr = String::new();
    let mut said = child.stderr.take().unwrap();
    // It does not wait for the end of standard input.
    said.read_to_string(&mut stderr).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(74));
    let expected = format!("postern: 127.0.0.1 port {port}: Connection reset by peer\n");
    if cfg!(unix) {
        assert_eq!(stderr, expected);
    }
    drop(stdin);
}

/// ssh that was killed.
#[test]
fn it_ends_when_nobody_reads_any_more() {
    let (port, served) = server(|mut stream| {
        let bytes = much();
        while stream.write_all(&bytes).is_ok() {}
    });
    let mut child = connect(&["127.0.0.1", &port]);
    drop(child.stdout.take());
    let stdin = child.stdin.take();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    drop(stdin);
    served.join().unwrap();
}

#[test]
fn nobody_listens() {
    let port = closed().to_string();
    let expected = format!("postern: 127.0.0.1 port {port}: Connection refused\n");
    let refused = postern(&["connect", "127.0.0.1", &port]);
    if cfg!(unix) {
        ended(&refused, 69, "", &expected);
    }
    let unknown = postern(&["connect", "no-such-host.invalid", "22"]);
    assert_eq!(unknown.status.code(), Some(68));
    for args in [
        &["connect", "127.0.0.1", "0"][..],
        &["connect", "127.0.0.1", "ssh"],
        &["connect", "-t", "0s", "127.0.0.1"],
        &["connect", "-t", "11m", "127.0.0.1"],
        &["connect"],
    ] {
        assert_eq!(postern(args).status.code(), Some(64), "{args:?}");
    }
}

fn hello(args: &[&str]) -> Output {
    let (port, served) = server(|mut stream| stream.write_all(b"hello\n").unwrap());
    let args: Vec<&str> = args
        .iter()
        .map(|&arg| if arg == "PORT" { &port } else { arg })
        .collect();
    let mut child = connect(&args);
    drop(child.stdin.take());
    let output = ends(child);
    if output.status.success() {
        served.join().unwrap();
        assert_eq!(output.stdout, b"hello\n");
    }
    output
}

#[track_caller]
fn said(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// What is written for every host.
#[test]
fn only_hosts_with_a_profile_are_knocked_at() {
    let (socket, step) = udp();
    socket.set_nonblocking(true).unwrap();
    let top = tempfile::tempdir().unwrap();
    let text = format!("[host.home]\naddress = \"192.0.2.1\"\nsequence = [\"{step}/udp\"]\n");
    let file = profile(top.path(), &text, 0o600);

    let plain = hello(&["-c", &file, "127.0.0.1", "PORT"]);
    assert_eq!((plain.status.code(), said(&plain).as_str()), (Some(0), ""));
    let plain = hello(&["-v", "-c", &file, "127.0.0.1", "PORT"]);
    let expected = format!("postern: 127.0.0.1: {file} has no such host: no knock\n");
    assert_eq!(said(&plain), expected);
    assert!(socket.recv(&mut [0]).is_err());

    // Without any profile it is the same; but a file that was named has to be there.
    let plain = hello(&["127.0.0.1", "PORT"]);
    assert_eq!((plain.status.code(), said(&plain).as_str()), (Some(0), ""));
    let plain = hello(&["-v", "127.0.0.1", "PORT"]);
    assert!(said(&plain).ends_with("there is no such file: no knock\n"));
    let missing = hello(&["-c", "/no/such/file", "127.0.0.1", "PORT"]);
    assert_eq!(missing.status.code(), Some(78));
}

/// By its name; and by its address, which is what ssh's %h is where ssh_config names that.
#[test]
fn a_host_with_a_profile_is_knocked_at() {
    let (socket, step) = udp();
    let top = tempfile::tempdir().unwrap();
    let text = format!("[host.home]\naddress = \"127.0.0.1\"\nsequence = [\"{step}/udp\"]\n");
    let file = profile(top.path(), &text, 0o600);
    for name in ["home", "127.0.0.1"] {
        let knocked = hello(&["-v", "-c", &file, name, "PORT"]);
        assert!(knocked.status.success(), "{knocked:?}");
        assert_eq!(socket.recv(&mut [0; 8]).unwrap(), 1);
        let told = said(&knocked);
        let begins = "postern: 127.0.0.1: knocked by sequence\npostern: 127.0.0.1: connected by ";
        assert!(told.starts_with(begins), "{told}");
        assert!(!told.contains(&step.to_string()), "{told}");
    }

    let again = text.replace("host.home", "host.work");
    let file = profile(top.path(), &format!("{text}{again}"), 0o600);
    let expected = format!(
        "postern: {file}: host.home and host.work have the address 127.0.0.1; \
         name the one that is meant (ssh: %n in the place of %h)\n"
    );
    let both = postern(&["connect", "-c", &file, "127.0.0.1", "22"]);
    ended(&both, 78, "", &expected);
    let one = hello(&["-c", &file, "work", "PORT"]);
    assert!(one.status.success(), "{one:?}");
}

#[test]
fn the_profile_says_which_port() {
    let (socket, step) = udp();
    let (port, served) = server(|mut stream| stream.write_all(b"hello\n").unwrap());
    let top = tempfile::tempdir().unwrap();
    let text = format!(
        "[host.home]\naddress = \"127.0.0.1\"\nport = {port}\n\
         [[host.home.way]]\nsequence = [\"{step}/udp\"]\n"
    );
    let file = profile(top.path(), &text, 0o600);
    let knocked = postern(&["connect", "-c", &file, "home"]);
    ended(&knocked, 0, "hello\n", "");
    assert_eq!(socket.recv(&mut [0; 8]).unwrap(), 1);
    served.join().unwrap();
}

/// The next way is gone where one cannot be; what became of each is said.
#[test]
#[cfg(unix)]
fn what_did_not_work_is_said() {
    let top = tempfile::tempdir().unwrap();
    let port = closed();
    let step = closed();
    let text = format!(
        "[host.home]\naddress = \"127.0.0.1\"\nport = {port}\n\
         [[host.home.way]]\nsequence = [{step}]\n[[host.home.way]]\nsequence = [{step}]\n"
    );
    let file = profile(top.path(), &text, 0o600);
    let refused = postern(&["connect", "-t", "2s", "-c", &file, "home"]);
    let expected =
        format!("postern: 127.0.0.1 port {port}: Connection refused; knocked by sequence\n");
    ended(&refused, 69, "", &expected);

    // 192.0.2.0/24 is nobody's (RFC 5737).
    let source = ["--source", "192.0.2.7"];
    let unsent = postern(&[&["connect", "-t", "2s", "-c", &file, "home"][..], &source].concat());
    let why = "Cannot assign requested address";
    if cfg!(target_os = "linux") {
        let expected =
            format!("postern: 127.0.0.1 port {port}: {why}; sequence: {why}; nothing was sent\n");
        ended(&unsent, 69, "", &expected);
    }
    assert_eq!(unsent.status.code(), Some(69));
}

/// No knock is begun that cannot be ended.
#[test]
#[cfg(unix)]
fn a_sequence_that_takes_too_long_is_not_begun() {
    let (socket, step) = udp();
    socket.set_nonblocking(true).unwrap();
    let top = tempfile::tempdir().unwrap();
    let port = closed();
    let text = format!(
        "[host.home]\naddress = \"127.0.0.1\"\nport = {port}\n\
         sequence = [\"{step}/udp\", \"{step}/udp\", 1]\ndelay = \"1m\"\n"
    );
    let file = profile(top.path(), &text, 0o600);
    let refused = postern(&["connect", "-t", "2s", "-c", &file, "home"]);
    let expected = format!(
        "postern: 127.0.0.1 port {port}: Connection refused; \
         sequence: takes 2m, more than what is left\n"
    );
    ended(&refused, 69, "", &expected);
    assert!(socket.recv(&mut [0]).is_err());
}

/// As for the other commands.
#[test]
#[cfg(unix)]
fn a_wrong_profile_is_no_reason_to_go_without() {
    let top = tempfile::tempdir().unwrap();
    for (text, mode) in [("[host.home]\n", 0o600), ("", 0o644)] {
        let file = profile(Path::new(top.path()), text, mode);
        let wrong = hello(&["-c", &file, "127.0.0.1", "PORT"]);
        assert_eq!(wrong.status.code(), Some(78), "{wrong:?}");
        assert!(wrong.stdout.is_empty());
    }
}
