//! postern.exe, run by wine, knocks at a real posternd. tests/cross/windows.sh builds it and says
//! where it is.
//!
//! What only a real Windows can show is not shown here: wine's sockets are Linux's.

use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use crate::clients::opens_once;
use crate::harness::{Daemon, Door, Host, Net, Ran, Service, Sshd};
use crate::{STEPS, ssh};

/// Where postern.exe is, with what wine lacks beside it.
fn directory() -> PathBuf {
    let directory = std::env::var_os("POSTERN_WINDOWS").expect("make test-windows runs this");
    directory.into()
}

/// A wine whose sockets are in one namespace: its server makes them, so the server runs there,
/// and there is one at a time.
struct Wine<'h> {
    host: &'h Host,
    _one: MutexGuard<'static, ()>,
}

impl Wine<'_> {
    fn within(host: &Host) -> Wine<'_> {
        static ONE: Mutex<()> = Mutex::new(());
        let one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
        stop();
        let wine = Wine { host, _one: one };
        // Its services keep what the first program writes to open.
        let mut first = wine.command("cmd");
        first
            .args(["/c", "exit"])
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let started = first.status().unwrap();
        assert!(started.success(), "wine does not start: {started}");
        wine
    }

    /// A command that wine runs: the path of a program, or the name of one of its own.
    fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = self.host.command("wine");
        command.arg(program);
        command
    }

    fn postern(&self, arguments: &[&str]) -> Command {
        let mut command = self.command(directory().join("postern.exe"));
        command.args(arguments);
        command
    }

    fn ran(&self, arguments: &[&str]) -> Ran {
        Ran::of(&mut self.postern(arguments))
    }

    /// The user's `%APPDATA%`, as Windows programs see it and as a directory here.
    fn appdata(&self) -> (String, PathBuf) {
        let said = Ran::of(self.command("cmd").args(["/c", "echo %APPDATA%"])).stdout;
        let windows = said.trim_end().to_owned();
        let inside = windows.strip_prefix("C:\\").expect("it is on drive C");
        let prefix = std::env::var_os("WINEPREFIX").expect("make test-windows sets it");
        let unix = Path::new(&prefix)
            .join("drive_c")
            .join(inside.replace('\\', "/"));
        assert!(unix.is_dir(), "{unix:?}");
        (windows, unix)
    }

    /// Writes the profile file that is read by default; says what Windows calls it.
    fn profile(&self, text: impl AsRef<[u8]>) -> String {
        let (windows, unix) = self.appdata();
        fs::create_dir_all(unix.join("postern")).unwrap();
        fs::write(unix.join("postern/config.toml"), text).unwrap();
        format!("{windows}\\postern\\config.toml")
    }
}

impl Drop for Wine<'_> {
    fn drop(&mut self) {
        if let Ok(prefix) = std::env::var("WINEPREFIX") {
            let users = Path::new(&prefix).join("drive_c/users");
            for user in fs::read_dir(users).into_iter().flatten().flatten() {
                let _ = fs::remove_dir_all(user.path().join("AppData/Roaming/postern"));
            }
        }
        stop();
    }
}

/// Ends the wine server of this test's prefix, if there is one, and what it runs.
fn stop() {
    for flag in ["-k", "-w"] {
        let _ = Command::new("wineserver").arg(flag).status();
    }
}

/// What wine itself says, of a service of its own that fails on a machine without a display, say,
/// stands among what programs say.
#[track_caller]
fn ended(ran: &Ran, status: i32, stdout: &str, stderr: &str) {
    let said = ran.stderr.lines().filter(|l| !l.starts_with("wine: "));
    let said: Vec<&str> = said.collect();
    assert_eq!(said, stderr.lines().collect::<Vec<_>>(), "{ran:?}");
    assert_eq!(ran.stdout, stdout, "{ran:?}");
    assert_eq!(ran.code(), status, "{ran:?}");
}

/// The same, of one line of which only beginning and end are ours: the system's words, without
/// its full stop, stand between.
#[track_caller]
fn failed(ran: &Ran, status: i32, start: &str, end: &str) {
    let said = ran.stderr.lines().filter(|l| !l.starts_with("wine: "));
    let said: Vec<&str> = said.collect();
    let [line] = said[..] else {
        panic!("one line: {ran:?}")
    };
    let words = line.strip_prefix(start).and_then(|l| l.strip_suffix(end));
    let words = words.unwrap_or_else(|| panic!("{start}...{end}: {ran:?}"));
    assert!(
        !words.is_empty() && !words.ends_with('.') && !words.contains("os error"),
        "{ran:?}"
    );
    assert_eq!(ran.stdout, "", "{ran:?}");
    assert_eq!(ran.code(), status, "{ran:?}");
}

#[test]
#[ignore = "make test-windows runs it"]
fn it_knocks_by_a_profile_in_appdata() {
    let net = Net::new(2);
    let wine = Wine::within(net.client());
    // As Windows' own editors write it.
    let text = format!("[host.home]\r\naddress = \"10.66.0.1\"\r\nsequence = {STEPS:?}\r\n");
    wine.profile(text);
    opens_once(&net, false, |_| vec![wine.postern(&["knock", "home"])]);
}

#[test]
#[ignore = "make test-windows runs it"]
fn it_knocks_over_ipv6_and_says_each_step() {
    let net = Net::new(2);
    let wine = Wine::within(net.client());
    let knock = [&["knock", "-v", "fd66::1"], &STEPS[..]].concat();
    opens_once(&net, true, |_| vec![wine.postern(&knock)]);
    let said = "hitting tcp [fd66::1]:7143\n\
                hitting udp [fd66::1]:2912\n\
                hitting tcp [fd66::1]:39001\n\
                hitting tcp [fd66::1]:16044\n";
    ended(&wine.ran(&knock), 0, said, "");
}

#[test]
#[ignore = "make test-windows runs it"]
fn it_knocks_from_the_address_that_it_is_told() {
    let net = Net::new(1);
    let door = Door::opens("ssh", "22/tcp", "30s").to(&["7143", "39001", "16044"]);
    let daemon = Daemon::start(&net.server, &[door]);
    let client = net.client();
    client.address("add", "10.66.0.99/24", "eth0");
    let wine = Wine::within(client);
    // wine binds a UDP socket to the interface of an address, not to the address.
    let steps = ["7143", "39001", "16044"];
    let knock = ["knock", "--source", "10.66.0.99", "10.66.0.1"];
    ended(&wine.ran(&[&knock, &steps[..]].concat()), 0, "", "");
    daemon.wait_lease("ssh", [10, 66, 0, 99]);
    assert_eq!(daemon.leases().len(), 1);
    let elsewhere = wine.ran(&["knock", "--source", "192.0.2.9", "10.66.0.1", "7143"]);
    let start = "postern: tcp 10.66.0.1:7143: ";
    failed(&elsewhere, 69, start, "; nothing was sent");
}

#[test]
#[ignore = "make test-windows runs it"]
fn under_the_name_knock_it_takes_knocks_command_line() {
    let net = Net::new(2);
    let wine = Wine::within(net.client());
    let dir = tempfile::tempdir().unwrap();
    for file in fs::read_dir(directory()).unwrap() {
        let file = file.unwrap();
        let name = file
            .file_name()
            .to_str()
            .unwrap()
            .replace("postern", "knock");
        fs::copy(file.path(), dir.path().join(name)).unwrap();
    }
    opens_once(&net, false, |_| {
        let mut knock = wine.command(dir.path().join("knock.exe"));
        knock.args([
            "-d",
            "20",
            "10.66.0.1",
            "7143",
            "2912:udp",
            "39001",
            "16044",
        ]);
        vec![knock]
    });
}

#[test]
#[ignore = "make test-windows runs it"]
fn mistakes_are_said() {
    let net = Net::new(1);
    let wine = Wine::within(net.client());
    let file = format!("{}\\postern\\config.toml", wine.appdata().0);

    let none = format!("postern: home: no ports, and no profile: {file}: there is no such file\n");
    ended(&wine.ran(&["knock", "home"]), 64, "", &none);
    let usage = wine.ran(&["knock"]);
    assert_eq!(usage.code(), 64, "{usage:?}");
    assert!(
        usage.stderr.contains("Usage: postern.exe knock"),
        "{usage:?}"
    );
    let absent = wine.ran(&["knock", "-c", "C:\\none.toml", "home"]);
    ended(
        &absent,
        78,
        "",
        "postern: C:\\none.toml: there is no such file\n",
    );

    let unresolved = wine.ran(&["knock", "no-such-host.invalid", "7143"]);
    let start = "postern: no-such-host.invalid: cannot be resolved: ";
    failed(&unresolved, 68, start, "");
    // There is no route but to 10.66.0.0/24.
    let unsent = wine.ran(&["knock", "192.0.2.1", "7143", "2912/udp"]);
    let start = "postern: tcp 192.0.2.1:7143: ";
    failed(&unsent, 69, start, "; nothing was sent");
    let other = wine.ran(&["knock", "-6", "10.66.0.1", "7143"]);
    ended(&other, 68, "", "postern: 10.66.0.1: has no IPv6 address\n");

    let host = "[host.home]\r\nsequence = [\"7143\"]\r\n";
    wine.profile(host);
    let unknown = format!("postern: {file}: no [host.hone]; the nearest is home\n");
    ended(&wine.ran(&["knock", "hone"]), 78, "", &unknown);
    wine.profile(host.replace("sequence", "sequense"));
    let key = format!(
        "postern: {file}:2:1: host.home.sequense: unknown key; the nearest known one is sequence\n"
    );
    ended(&wine.ran(&["knock", "home"]), 78, "", &key);
    // What `echo ... > config.toml` makes in Windows PowerShell: UTF-16, with its mark.
    let wide = ["\u{feff}", host].concat();
    let wide: Vec<u8> = wide.encode_utf16().flat_map(u16::to_le_bytes).collect();
    wine.profile(wide);
    let encoding =
        format!("postern: {file}:1:1: the byte 0xff is not UTF-8; write the file in UTF-8\n");
    ended(&wine.ran(&["knock", "home"]), 78, "", &encoding);
    // What Notepad can make: UTF-8, with the same mark.
    wine.profile(["\u{feff}", host].concat().replace("home", "\"10.66.0.1\""));
    ended(&wine.ran(&["knock", "10.66.0.1"]), 0, "", "");
}

/// By IPv4: wine 8 lacks Icmp6SendEcho2.
#[test]
#[ignore = "make test-windows runs it"]
fn it_pings_with_a_secret() {
    const PING: &str = "ping = \"30313233343536373839616263646566\"";
    let net = Net::new(1);
    let door = Door::opens("ssh", "22/tcp", "30s").knock(PING);
    let daemon = Daemon::start(&net.server, &[door]);
    let wine = Wine::within(net.client());
    wine.profile(format!(
        "[host.home]\naddress = \"10.66.0.1\"\n[[host.home.way]]\n{PING}\n"
    ));
    ended(
        &wine.ran(&["ping", "-v", "home"]),
        0,
        "pinged 10.66.0.1\n",
        "",
    );
    daemon.wait_lease("ssh", net.client().v4);
}

#[test]
#[ignore = "make test-windows runs it"]
fn sealed_packets_open_by_both_carriers() {
    const KEYS: &str = "cipher_key = \"MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=\"\n\
                        hmac_key = \"ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4NzY1NDMyMTA=\"\n";
    let net = Net::new(1);
    let key = format!(
        "[key.alice]\n{KEYS}doors = [\"ssh\", \"dns\"]\nobserved = true\n\
         carriers = [\"62201/udp\", \"icmp\"]"
    );
    let dns = Door::opens("dns", "53/udp", "30s");
    let doors = [dns, Door::opens("ssh", "22/tcp", "30s").with(&key)];
    let daemon = Daemon::start(&net.server, &doors);
    let wine = Wine::within(net.client());
    wine.profile(format!(
        "[host.home]\naddress = \"10.66.0.1\"\n[[host.home.way]]\nspa = true\n{KEYS}\
         [host.far]\naddress = \"10.66.0.1\"\n[[host.far.way]]\nspa = true\n{KEYS}\
         carrier = \"icmp\"\nopens = [\"53/udp\"]\nfrom = \"observed\"\n"
    ));
    ended(&wine.ran(&["spa", "home"]), 0, "", "");
    daemon.wait_lease("ssh", net.client().v4);
    assert_eq!(daemon.leases().len(), 1);
    ended(&wine.ran(&["spa", "far"]), 0, "", "");
    daemon.wait_lease("dns", net.client().v4);
}

/// ssh is Debian's, its ProxyCommand is ours.
#[test]
#[ignore = "make test-windows runs it"]
fn ssh_enters_through_it() {
    let net = Net::new(1);
    let sshd = Sshd::start(&net.server);
    let _daemon = Daemon::start(&net.server, &[ssh("30s")]);
    let wine = Wine::within(net.client());
    wine.profile(format!(
        "[host.home]\naddress = \"10.66.0.1\"\nsequence = {STEPS:?}\n"
    ));
    let proxy = format!(
        "ProxyCommand=wine {}/postern.exe connect %h %p",
        directory().display()
    );
    let mut ssh = net.client().command("ssh");
    ssh.args(["-F", "none", "-T", "-o", "BatchMode=yes", "-o", &proxy]);
    ssh.args([
        "-o",
        "StrictHostKeyChecking=no",
        "-o",
        "UserKnownHostsFile=/dev/null",
    ]);
    ssh.args(["-o", "LogLevel=ERROR"]).arg("-i").arg(sshd.key());
    let ran = Ran::of(ssh.args(["root@home", "echo hello from $SSH_CONNECTION"]));
    assert!(ran.stdout.starts_with("hello from 10.66.0.11 "), "{ran:?}");
    ended(&ran, 0, &ran.stdout, "");
}

/// With pipes, as ssh makes them: the door opens, and bytes go both ways until the end.
#[test]
#[ignore = "make test-windows runs it"]
fn it_connects_through_a_door() {
    let net = Net::new(1);
    let _service = Service::start(&net.server, &[22]);
    let _daemon = Daemon::start(&net.server, &[ssh("30s")]);
    let wine = Wine::within(net.client());
    wine.profile(format!(
        "[host.home]\naddress = \"10.66.0.1\"\nsequence = {STEPS:?}\n"
    ));
    let mut child = wine
        .postern(&["connect", "home", "22"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let much: Vec<u8> = (0..1 << 20).map(|n: u32| (n >> 3 ^ n) as u8).collect();
    let (mut stdin, sent) = (child.stdin.take().unwrap(), much.clone());
    let says = thread::spawn(move || stdin.write_all(&sent).unwrap());
    let ran = child.wait_with_output().unwrap();
    says.join().unwrap();
    assert_eq!(String::from_utf8_lossy(&ran.stderr), "");
    assert_eq!(ran.status.code(), Some(0));
    assert!(
        ran.stdout == much,
        "{} of {} bytes",
        ran.stdout.len(),
        much.len()
    );

    let shut = wine.ran(&["connect", "-t", "1s", "10.66.0.1", "23"]);
    assert_eq!(shut.code(), 69, "{shut:?}");
    assert!(
        shut.stderr.starts_with("postern: 10.66.0.1 port 23: "),
        "{shut:?}"
    );
}

/// The line of the README for Windows without our program, which comes with cmd and curl. Here
/// wine's cmd says what it would run, for it does not wait for programs of Linux, and Debian's curl
/// runs it.
#[test]
#[ignore = "make test-windows runs it"]
fn cmd_and_curl_open() {
    let net = Net::new(2);
    let readme = include_str!("../../README.md");
    let mut lines = readme.lines().map(str::trim_start);
    let line = lines.find_map(|l| l.strip_prefix("C:\\> for ")).unwrap();
    let line = format!("for {line}").replace("server.example.net", "10.66.0.1");
    let said = {
        let wine = Wine::within(net.client());
        let shown = line.replace("@curl ", "@echo curl ");
        assert_ne!(shown, line);
        Ran::of(wine.command("cmd").args(["/c", &shown])).stdout
    };
    assert_eq!(said.lines().count(), STEPS.len(), "{said}");
    opens_once(&net, false, |client| {
        let run = |line: &str| {
            let mut command = client.command("env");
            command.args(line.split_whitespace());
            command
        };
        said.lines().map(run).collect()
    });
}
