//! Debian's knockd and ours, each with files and directories of its own.

use std::fs;
use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::harness::raw::{SYN, Wire, hardware, tcp, udp};
use crate::harness::{Host, LIMIT, Ran, chmod, eventually, program, until};

/// Which knockd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// Debian's.
    Theirs,
    /// posternd under the name knockd.
    Ours,
}

/// What stands in a configuration for a directory of each knockd's own.
pub const DIR: &str = "@DIR@";

/// Directories that each has for itself.
const ROOM: &str = "for room in /run /var/lib /var/log; do \
                    mount -t tmpfs -o mode=755 none $room || exit; done";

/// A knockd in a network namespace. It has /run, /var/lib and /var/log for itself.
pub struct Knockd<'h> {
    pub who: Who,
    host: &'h Host,
    dir: TempDir,
    child: Option<Child>,
}

impl<'h> Knockd<'h> {
    /// With this configuration, [`DIR`] replaced and the log set, listening on eth0.
    pub fn start(host: &'h Host, who: Who, doors: &str) -> Knockd<'h> {
        let mut knockd = Knockd::prepare(host, who, doors);
        knockd.run(&["-i", "eth0"]);
        knockd
    }

    /// The same, not started yet.
    pub fn prepare(host: &'h Host, who: Who, doors: &str) -> Knockd<'h> {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("knockd");
        std::os::unix::fs::symlink(program("posternd"), link).unwrap();
        let knockd = Knockd {
            who,
            host,
            dir,
            child: None,
        };
        knockd.configure(doors);
        knockd
    }

    /// Writes the configuration.
    pub fn configure(&self, doors: &str) {
        self.write(
            "knockd.conf",
            &format!("[options]\nLogFile = {DIR}/log\n{doors}"),
        );
    }

    /// Writes a file of mode 0600, [`DIR`] replaced.
    pub fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        let dir = self.dir.path().display().to_string();
        fs::write(&path, text.replace(DIR, &dir)).unwrap();
        chmod(&path, 0o600);
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A file's text; empty if there is none.
    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// The command line, in rooms of its own.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.host.command("sh");
        command.args(["-c", &format!("{ROOM} && exec \"$@\""), "sh"]);
        self.add_line(&mut command, arguments);
        command
    }

    fn add_line(&self, command: &mut Command, arguments: &[&str]) {
        command.arg(match self.who {
            Who::Theirs => PathBuf::from("/usr/sbin/knockd"),
            Who::Ours => self.path("knockd"),
        });
        command.arg("-c").arg(self.path("knockd.conf"));
        command.args(arguments);
    }

    /// The command line in the rooms of one that runs, or has run.
    pub fn command_in(&self, room: &fs::File, arguments: &[&str]) -> Command {
        let mut command = self.host.command("nsenter");
        let fd = format!(
            "--mount=/proc/{}/fd/{}",
            std::process::id(),
            room.as_raw_fd()
        );
        command.arg(fd);
        self.add_line(&mut command, arguments);
        command
    }

    /// Starts ours as `knockd` without a word more: its file stands where Debian's package has
    /// it.
    pub fn spawn_as_installed(&mut self) {
        let mut command = self.host.command("sh");
        let room = format!("{ROOM} && mount --bind \"$1\" /etc/knockd.conf && exec \"$2\"");
        command.args(["-c", &room, "sh"]);
        command
            .arg(self.path("knockd.conf"))
            .arg(self.path("knockd"));
        self.start_as(command);
    }

    /// The rooms of a process.
    pub fn room(pid: Pid) -> fs::File {
        fs::File::open(format!("/proc/{pid}/ns/mnt")).unwrap()
    }

    /// Starts it and waits until it listens.
    pub fn run(&mut self, arguments: &[&str]) {
        self.listen(self.command(arguments));
    }

    /// The same in the rooms of one that has run.
    pub fn run_in(&mut self, room: &fs::File, arguments: &[&str]) {
        self.listen(self.command_in(room, arguments));
    }

    fn listen(&mut self, command: Command) {
        let before = self.log().len();
        self.start_as(command);
        until("knockd listens", || {
            if let Some(status) = self.ended() {
                panic!(
                    "{:?} ended at once: {status}\n{}",
                    self.who,
                    self.read("said")
                );
            }
            self.log()[before..].contains("starting up, listening on ")
        });
    }

    /// Starts it.
    pub fn spawn(&mut self, arguments: &[&str]) {
        self.start_as(self.command(arguments));
    }

    fn start_as(&mut self, mut command: Command) {
        let said = fs::File::options()
            .create(true)
            .append(true)
            .open(self.path("said"))
            .unwrap();
        command.stdout(said.try_clone().unwrap()).stderr(said);
        self.child = Some(command.spawn().unwrap());
    }

    /// Runs it to its end.
    pub fn ran(&self, arguments: &[&str]) -> Ran {
        Ran::of(self.command(arguments).stdin(Stdio::null()))
    }

    /// Its exit status, if it has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.as_mut()?.try_wait().unwrap()
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> ExitStatus {
        let status = eventually("knockd ends", LIMIT, || self.ended());
        self.child = None;
        status
    }

    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.child.as_ref().expect("it runs").id() as i32)
    }

    /// Itself and its children.
    pub fn processes(&self) -> Vec<Pid> {
        let pid = self.pid();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
        let children = children.split_whitespace();
        let children = children.map(|c| Pid::from_raw(c.parse().unwrap()));
        children.chain([pid]).collect()
    }

    pub fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).unwrap();
    }

    /// SIGTERM, and its end.
    pub fn stop(&mut self) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        self.wait()
    }

    pub fn log(&self) -> String {
        self.read("log")
    }

    /// How often these words stand in the log.
    pub fn logged(&self, words: &str) -> usize {
        self.log().matches(words).count()
    }

    /// What its commands have written to the file `ran`, line by line.
    pub fn opened(&self) -> Vec<String> {
        self.read("ran").lines().map(str::to_owned).collect()
    }

    /// Waits until this line stands in `ran` so many times.
    #[track_caller]
    pub fn wait_opened(&self, line: &str, times: usize) {
        until(
            &format!("{:?} has run {line:?} {times} times", self.who),
            || self.opened().iter().filter(|l| *l == line).count() >= times,
        );
    }
}

impl Drop for Knockd<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let [log, said, ran] = ["log", "said", "ran"].map(|name| self.read(name));
            let config = self.read("knockd.conf");
            println!("--- {:?}: configuration\n{config}--- log\n{log}", self.who);
            println!("--- said\n{said}--- ran\n{ran}");
        }
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Both, with the same configuration, on the same interface.
pub fn both<'h>(host: &'h Host, doors: &str) -> [Knockd<'h>; 2] {
    [Who::Theirs, Who::Ours].map(|who| Knockd::start(host, who, doors))
}

/// A step: port and protocol, and the flags of a TCP segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hit {
    pub port: u16,
    pub udp: bool,
    pub flags: u8,
}

/// A connection request.
pub fn syn(port: u16) -> Hit {
    Hit {
        port,
        udp: false,
        flags: SYN,
    }
}

/// A datagram.
pub fn datagram(port: u16) -> Hit {
    Hit {
        port,
        udp: true,
        flags: 0,
    }
}

/// A wire to the server, from the thread that made it.
pub struct Line {
    wire: Wire,
    mac: [u8; 6],
}

impl Line {
    /// From inside `client` to `server`.
    pub fn new(client: &Host, server: &Host) -> Line {
        Line::to(client, server, "eth0")
    }

    /// To another interface of the server's.
    pub fn to(client: &Host, server: &Host, interface: &str) -> Line {
        let mac = hardware(server, interface);
        Line {
            wire: client.inside(|| Wire::new("eth0")),
            mac,
        }
    }

    /// Sends one step.
    pub fn hit(&self, from: impl Into<IpAddr>, to: impl Into<IpAddr>, hit: Hit) {
        let (from, to) = (from.into(), to.into());
        let packet = match hit.udp {
            true => udp(from, to, hit.port),
            false => tcp(from, to, hit.port, hit.flags, 0),
        };
        self.wire.send(self.mac, &[], &packet);
    }

    /// Sends steps one after another.
    pub fn knock(&self, from: impl Into<IpAddr>, to: impl Into<IpAddr>, hits: &[Hit]) {
        let (from, to) = (from.into(), to.into());
        for hit in hits {
            self.hit(from, to, *hit);
        }
    }

    /// Sends a packet as it is, in a frame with these VLAN tags.
    pub fn send(&self, tags: &[u16], packet: &[u8]) {
        self.wire.send(self.mac, tags, packet);
    }
}
