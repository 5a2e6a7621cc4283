//! A namespace and what is done inside it.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::Duration;

use nix::sched::{CloneFlags, setns};
use socket2::{Domain, Protocol, Socket, Type};

use super::wait::{LIMIT, eventually};

/// How long a connection is tried for until it counts as unanswered.
const PATIENCE: Duration = Duration::from_millis(400);
/// From one step of a knock to the next.
const DELAY: Duration = Duration::from_millis(5);

/// A network namespace.
pub struct Host {
    /// The namespace's name.
    pub name: String,
    /// Its IPv4 address on eth0.
    pub v4: Ipv4Addr,
    /// Its IPv6 address on eth0.
    pub v6: Ipv6Addr,
    /// What commands find in place of /usr/local/sbin.
    doubles: OnceLock<PathBuf>,
}

/// What a connection request meets.
#[derive(Debug)]
pub enum Answer {
    /// Somebody listens.
    Open(TcpStream),
    /// A reset, or an ICMP message: how the system calls it.
    Refused(io::ErrorKind),
    /// Nothing came back.
    Silence,
}

impl Answer {
    /// Whether somebody listens; a refusal, which tells of the port, is neither yes nor no.
    #[track_caller]
    pub fn is_open(&self) -> bool {
        match self {
            Answer::Open(_) => true,
            Answer::Silence => false,
            Answer::Refused(how) => panic!("neither open nor silent: {how}"),
        }
    }

    /// The other way round.
    #[track_caller]
    pub fn is_silence(&self) -> bool {
        !self.is_open()
    }
}

impl Host {
    pub(super) fn new(name: String, v4: u8, v6: u16) -> Host {
        let v4 = Ipv4Addr::new(10, 66, 0, v4);
        Host {
            name,
            v4,
            v6: Ipv6Addr::new(0xfd66, 0, 0, 0, 0, 0, 0, v6),
            doubles: OnceLock::new(),
        }
    }

    /// A command that will run inside.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command
            .args(["netns", "exec", &self.name])
            .stdin(Stdio::null());
        if let Some(directory) = self.doubles.get() {
            // ip gives each command a mount namespace of its own.
            let mount = "mount --bind \"$0\" /usr/local/sbin && exec \"$@\"";
            command.args(["sh", "-c", mount]).arg(directory);
        }
        command.arg(program);
        command
    }

    /// Has commands find a double of a command of FreeBSD's, by the command's name.
    pub fn install_double(&self, name: &str, directory: &Path) {
        let double = match name {
            "ipfw" => env!("CARGO_BIN_EXE_ipfw-double"),
            "pfctl" => env!("CARGO_BIN_EXE_pfctl-double"),
            _ => panic!("there is no double of {name}"),
        };
        std::os::unix::fs::symlink(double, directory.join(name)).unwrap();
        self.doubles.set(directory.to_owned()).unwrap();
    }

    /// Runs a command line without quotes inside and says what it printed; it must succeed.
    pub fn run(&self, line: &str) -> String {
        let mut words = line.split_whitespace();
        let mut command = self.command(words.next().unwrap());
        output(command.args(words), "")
    }

    /// nft with these commands.
    pub fn nft(&self, commands: &[&str]) {
        output(
            self.command("nft").args(["-f", "-"]),
            &(commands.join("\n") + "\n"),
        );
    }

    /// `add` or `del`; an IPv6 address is used at once.
    pub fn address(&self, verb: &str, address: &str, interface: &str) {
        let nodad = if verb == "add" && address.contains(':') {
            "nodad"
        } else {
            ""
        };
        self.run(&format!("ip addr {verb} {address} dev {interface} {nodad}"));
    }

    /// Runs a closure in a thread that is inside.
    pub fn inside<T: Send>(&self, f: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let entered = scope.spawn(|| {
                self.enter();
                f()
            });
            entered
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Moves this thread inside, for good.
    pub fn enter(&self) {
        let namespace = File::open(format!("/run/netns/{}", self.name)).unwrap();
        setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
    }

    /// Tries to connect.
    pub fn connect(&self, to: impl Into<IpAddr>, port: u16) -> Answer {
        self.connect_from(None, to, port)
    }

    /// Tries to connect from one of several addresses.
    pub fn connect_from(&self, source: Option<IpAddr>, to: impl Into<IpAddr>, port: u16) -> Answer {
        self.connect_within(PATIENCE, source, to.into(), port)
    }

    /// Whether somebody answers, on however slow a machine.
    #[track_caller]
    pub fn reaches(&self, to: impl Into<IpAddr>, port: u16) -> bool {
        self.reaches_from(None, to, port)
    }

    /// The same from one of several addresses.
    #[track_caller]
    pub fn reaches_from(&self, source: Option<IpAddr>, to: impl Into<IpAddr>, port: u16) -> bool {
        self.connect_within(LIMIT, source, to.into(), port)
            .is_open()
    }

    fn connect_within(
        &self,
        limit: Duration,
        source: Option<IpAddr>,
        to: IpAddr,
        port: u16,
    ) -> Answer {
        let to = SocketAddr::new(to, port);
        self.inside(move || {
            let socket = Socket::new(Domain::for_address(to), Type::STREAM, None).unwrap();
            if let Some(source) = source {
                socket.bind(&SocketAddr::new(source, 0).into()).unwrap();
            }
            match socket.connect_timeout(&to.into(), limit) {
                Ok(()) => Answer::Open(socket.into()),
                Err(e) if e.kind() == io::ErrorKind::TimedOut => Answer::Silence,
                Err(e) => Answer::Refused(e.kind()),
            }
        })
    }

    /// Hits the steps (`7143`, `2912/udp`) one after another.
    pub fn knock(&self, to: impl Into<IpAddr>, steps: &[&str]) {
        self.knock_from(None, to, steps);
    }

    /// The same from one of several addresses.
    pub fn knock_from(&self, source: Option<IpAddr>, to: impl Into<IpAddr>, steps: &[&str]) {
        let to = to.into();
        self.inside(move || {
            for step in steps {
                hit(source, to, step);
                thread::sleep(DELAY);
            }
        });
    }

    /// Knocks and connects to the echo service, again and again until it answers.
    pub fn knock_in(&self, to: impl Into<IpAddr>, steps: &[&str], port: u16) -> Session {
        let to = to.into();
        eventually("a knock lets in", super::LIMIT, || {
            self.knock(to, steps);
            self.session(to, port)
        })
    }

    /// A session with the echo service, if the door is open.
    pub fn session(&self, to: impl Into<IpAddr>, port: u16) -> Option<Session> {
        match self.connect_within(LIMIT, None, to.into(), port) {
            Answer::Open(stream) => Some(Session::new(stream)),
            _ => None,
        }
    }
}

/// Sends one step. The socket of a TCP step is handed back: the kernel repeats its SYN, if
/// nobody answers, as long as the socket stands.
pub fn hit(source: Option<IpAddr>, to: IpAddr, step: &str) -> Socket {
    let (port, kind) = match step.split_once('/') {
        Some((port, "udp")) => (port, Type::DGRAM),
        _ => (step, Type::STREAM),
    };
    let to = SocketAddr::new(to, port.parse().unwrap());
    let protocol = if kind == Type::DGRAM {
        Protocol::UDP
    } else {
        Protocol::TCP
    };
    let socket = Socket::new(Domain::for_address(to), kind, Some(protocol)).unwrap();
    if let Some(source) = source {
        socket.bind(&SocketAddr::new(source, 0).into()).unwrap();
    }
    socket.set_nonblocking(true).unwrap();
    // Refused or under way: it is sent.
    let _ = socket.connect(&to.into());
    if kind == Type::DGRAM {
        socket.send(&[0]).unwrap();
    }
    socket
}

/// A running connection to the echo service.
pub struct Session(BufReader<TcpStream>);

impl Session {
    pub fn new(stream: TcpStream) -> Session {
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(super::LIMIT)).unwrap();
        Session(BufReader::new(stream))
    }

    /// Says something and hears it come back: the session lives.
    #[track_caller]
    pub fn echo(&mut self) {
        self.0
            .get_mut()
            .write_all(b"still there?\n")
            .expect("the session lives");
        self.hear("still there?\n");
    }

    /// Hears this line next.
    #[track_caller]
    pub fn hear(&mut self, line: &str) {
        let mut heard = String::new();
        self.0.read_line(&mut heard).expect("the session lives");
        assert_eq!(heard, line);
    }

    /// The client's port.
    pub fn local_port(&self) -> u16 {
        self.0.get_ref().local_addr().unwrap().port()
    }
}

/// What a command printed; it must succeed.
pub fn output(command: &mut Command, stdin: &str) -> String {
    let Output {
        status,
        stdout,
        stderr,
    } = finish(command, stdin);
    let text = String::from_utf8_lossy(&stdout).into_owned();
    let said = String::from_utf8_lossy(&stderr);
    assert!(
        status.success(),
        "{command:?} < {stdin:?}: {status}\n{text}{said}"
    );
    text
}

fn finish(command: &mut Command, stdin: &str) -> Output {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    if !stdin.is_empty() {
        command.stdin(Stdio::piped());
    }
    let mut child = command
        .spawn()
        .unwrap_or_else(|e| panic!("{command:?}: {e}"));
    if let Some(mut pipe) = child.stdin.take() {
        pipe.write_all(stdin.as_bytes()).unwrap();
    }
    let mut stdout = Vec::new();
    child
        .stdout
        .take()
        .unwrap()
        .read_to_end(&mut stdout)
        .unwrap();
    let output = child.wait_with_output().unwrap();
    Output { stdout, ..output }
}
