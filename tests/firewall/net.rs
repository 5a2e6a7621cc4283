//! Two network namespaces joined by a cable: a server whose packet filter is under test, and a
//! client.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use nix::sched::{CloneFlags, setns};

use crate::suite::PATIENCE;

/// How long a SYN that is dropped is waited for.
const SILENCE: Duration = Duration::from_millis(500);

/// The interface of the server's end.
pub const INTERFACE: &str = "srv0";
pub const SERVER_4: &str = "10.77.0.1";
pub const SERVER_6: &str = "fd77::1";
pub const CLIENT_4: &str = "10.77.0.2";
pub const CLIENT_6: &str = "fd77::2";

pub struct Net {
    server: String,
    client: String,
}

impl Net {
    /// Makes both, and moves the calling thread (and the children it will have) to the server.
    pub fn new() -> Net {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = |end| format!("firewall-{}-{count}{end}", std::process::id());
        let net = Net {
            server: name("s"),
            client: name("c"),
        };
        let (s, c) = (&net.server, &net.client);
        for line in [
            format!("ip netns add {s}"),
            format!("ip netns add {c}"),
            format!("ip -n {s} link add {INTERFACE} type veth peer name cli0 netns {c}"),
            format!("ip -n {s} link set lo up"),
            format!("ip -n {s} link set {INTERFACE} up"),
            format!("ip -n {c} link set cli0 up"),
            format!("ip -n {s} addr add {SERVER_4}/24 dev {INTERFACE}"),
            format!("ip -n {c} addr add {CLIENT_4}/24 dev cli0"),
            format!("ip -n {c} addr add 10.77.0.3/24 dev cli0"),
            format!("ip -n {s} addr add {SERVER_6}/64 dev {INTERFACE} nodad"),
            format!("ip -n {c} addr add {CLIENT_6}/64 dev cli0 nodad"),
        ] {
            run(&line);
        }
        enter(&net.server);
        net
    }

    /// Gives the client another IPv6 address, of whatever network.
    pub fn add_client(&self, address: &str) {
        let c = &self.client;
        run(&format!("ip -n {c} addr add {address}/128 dev cli0 nodad"));
        run(&format!("ip -6 route add {address}/128 dev {INTERFACE}"));
    }

    /// Does something as the client.
    pub fn as_client<T: Send>(&self, what: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let client = || {
                enter(&self.client);
                what()
            };
            scope.spawn(client).join().unwrap()
        })
    }

    /// Connects from an address of the client's, with or without its port; `None`: silence.
    pub fn connect(&self, from: &str, to: &str, port: u16) -> Option<TcpStream> {
        self.connect_within(SILENCE, from, to, port)
    }

    /// Connects where somebody must answer, on however slow a machine.
    #[track_caller]
    pub fn reach(&self, from: &str, to: &str, port: u16) -> TcpStream {
        let reached = self.connect_within(20 * SILENCE, from, to, port);
        reached.expect("nobody answers")
    }

    fn connect_within(
        &self,
        limit: Duration,
        from: &str,
        to: &str,
        port: u16,
    ) -> Option<TcpStream> {
        let any = |_| SocketAddr::new(from.parse().unwrap(), 0);
        let from = from.parse().unwrap_or_else(any);
        let to = SocketAddr::new(to.parse().unwrap(), port);
        self.as_client(|| connect_from(from, to, limit))
    }
}

fn connect_from(from: SocketAddr, to: SocketAddr, limit: Duration) -> Option<TcpStream> {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use nix::sys::socket::{
        AddressFamily, SockFlag, SockType, SockaddrStorage, bind, connect, getsockopt, socket,
        sockopt::SocketError,
    };
    use std::os::fd::{AsFd, AsRawFd};

    let family = match to {
        SocketAddr::V4(_) => AddressFamily::Inet,
        SocketAddr::V6(_) => AddressFamily::Inet6,
    };
    let socket = socket(family, SockType::Stream, SockFlag::SOCK_NONBLOCK, None).unwrap();
    bind(socket.as_raw_fd(), &SockaddrStorage::from(from)).unwrap();
    match connect(socket.as_raw_fd(), &SockaddrStorage::from(to)) {
        Ok(()) | Err(nix::Error::EINPROGRESS) => {}
        Err(error) => panic!("{to}: {error}"),
    }
    let timeout = PollTimeout::try_from(limit).unwrap();
    let ready = poll(
        &mut [PollFd::new(socket.as_fd(), PollFlags::POLLOUT)],
        timeout,
    )
    .unwrap();
    if ready == 0 {
        return None;
    }
    let error = getsockopt(&socket, SocketError).unwrap();
    assert_eq!(error, 0, "{to} answered: {}", nix::Error::from_raw(error));
    let stream = TcpStream::from(socket);
    stream.set_nonblocking(false).unwrap();
    Some(stream)
}

impl Drop for Net {
    fn drop(&mut self) {
        for name in [&self.server, &self.client] {
            let _ = Command::new("ip").args(["netns", "del", name]).status();
        }
    }
}

fn enter(name: &str) {
    let file = File::open(format!("/run/netns/{name}")).unwrap();
    setns(file, CloneFlags::CLONE_NEWNET).unwrap();
}

/// Runs a command line of plain words; what it printed.
pub fn run(line: &str) -> String {
    let (ok, text) = try_run(line);
    assert!(ok, "{line}: {text}");
    text
}

pub fn try_run(line: &str) -> (bool, String) {
    let mut words = line.split_whitespace();
    run_words(words.next().unwrap(), &words.collect::<Vec<_>>(), "")
}

/// nft with a script.
pub fn nft(script: &str) -> String {
    let (ok, text) = run_words("nft", &["-f", "-"], script);
    assert!(ok, "{script}: {text}");
    text
}

fn run_words(program: &str, args: &[&str], stdin: &str) -> (bool, String) {
    let mut child = Command::new(program)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    child
        .stdin
        .take()
        .unwrap()
        .write_all(stdin.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (
        output.status.success(),
        String::from_utf8_lossy(&text).into_owned(),
    )
}

/// A TCP session between client and server.
pub struct Session {
    pub client: TcpStream,
    pub server: TcpStream,
}

impl Session {
    pub fn new(net: &Net, listener: &TcpListener, from: &str) -> Session {
        let address = listener.local_addr().unwrap();
        let to = if from.contains(':') {
            SERVER_6
        } else {
            SERVER_4
        };
        let client = net.reach(from, to, address.port());
        let (server, _) = listener.accept().unwrap();
        Session { client, server }
    }

    /// Whether what the client says arrives.
    pub fn client_speaks(&mut self) -> bool {
        says(&mut self.client, &mut self.server, PATIENCE)
    }

    /// Whether what the server says arrives.
    pub fn server_speaks(&mut self) -> bool {
        says(&mut self.server, &mut self.client, PATIENCE)
    }

    /// Whether what the client says does not arrive.
    pub fn client_is_cut(&mut self) -> bool {
        !says(&mut self.client, &mut self.server, SILENCE)
    }
}

fn says(from: &mut TcpStream, to: &mut TcpStream, limit: Duration) -> bool {
    from.write_all(b"x").unwrap();
    to.set_read_timeout(Some(limit)).unwrap();
    loop {
        return match to.read(&mut [0; 1]) {
            Ok(count) => count == 1,
            Err(error) => match error.kind() {
                ErrorKind::Interrupted => continue,
                ErrorKind::WouldBlock | ErrorKind::TimedOut => false,
                _ => panic!("{error}"),
            },
        };
    }
}

/// Listens on all of the server's addresses of both families.
pub fn listen(port: u16) -> TcpListener {
    TcpListener::bind(("::", port)).unwrap()
}
