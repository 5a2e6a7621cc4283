//! Who is under test: ours, Debian's knockd and fwknopd, and tcpdump as the floor.

use std::fs;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::cost::Cpu;
use crate::filter;
use crate::harness::{Daemon, Door, Key, LIMIT, chmod, eventually, until};
use crate::marks::Marks;
use crate::sender::processors;
use crate::wire::{Heard, KNOCKERS, Wire};

/// The secret of the ping that opens.
pub const PING: u128 = 0x6b3f_0c5e_9a8d_4721_8f6e_5d4c_3b2a_1908;
/// How many steps every sequence has.
pub const STEPS: usize = 4;
/// The name of the key that opens.
const KEY: &str = "somebody";

/// How ours is set: a name for people, and lines at the top of postern.toml. Before and after a
/// change that can be switched are two of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Variant {
    /// For people.
    pub name: &'static str,
    lines: &'static [(&'static str, &'static str)],
}

/// Without a word about it.
pub const DEFAULT: Variant = Variant {
    name: "postern",
    lines: &[],
};
/// nftables by its command.
pub const BY_COMMAND: Variant = Variant {
    name: "postern, nft's command",
    lines: &[("drive", "\"command\"")],
};
/// nftables by netlink.
pub const IN_PROCESS: Variant = Variant {
    name: "postern, nft in-process",
    lines: &[("drive", "\"in-process\"")],
};

impl Variant {
    /// Those that this posternd knows, of the two ways to drive nftables.
    pub fn drives(wire: &Wire) -> Vec<Variant> {
        let both = [BY_COMMAND, IN_PROCESS];
        if both.iter().all(|variant| variant.known(wire)) {
            return both.to_vec();
        }
        vec![Variant {
            lines: &[],
            ..BY_COMMAND
        }]
    }

    fn known(&self, wire: &Wire) -> bool {
        let mut daemon = Daemon::prepare(wire.server(), &[]);
        self.apply(&mut daemon);
        daemon.configure(&[Door::opens("door", "22/tcp", "1h").to(&["7143", "2912", "39001"])]);
        daemon.ctl(&["check"]).code() == 0
    }

    fn apply(&self, daemon: &mut Daemon) {
        for (key, value) in self.lines {
            daemon.set(key, value);
        }
    }
}

/// What a right knock does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opens {
    /// Runs a command that leaves a mark.
    Mark,
    /// Opens port 22 in nftables: ours by itself, theirs by a command.
    Nft,
    /// fwknopd's own: an iptables rule.
    Iptables,
    /// Nothing, of ours: it is told in the log.
    Nowhere,
}

/// Which doors and keys.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// What they do.
    pub opens: Opens,
    /// How many doors, each with a sequence of its own.
    pub doors: usize,
    /// How many keys open the first door; all are heard at one port.
    pub keys: usize,
    /// Whether a ping opens it too.
    pub ping: bool,
}

impl Setup {
    /// One door.
    pub fn new(opens: Opens) -> Setup {
        Setup {
            opens,
            doors: 1,
            keys: 0,
            ping: false,
        }
    }

    /// So many doors.
    pub fn doors(self, doors: usize) -> Setup {
        Setup { doors, ..self }
    }

    /// So many keys.
    pub fn keys(self, keys: usize) -> Setup {
        Setup { keys, ..self }
    }

    /// With a ping.
    pub fn ping(self) -> Setup {
        Setup { ping: true, ..self }
    }
}

/// The ports of the nth door's sequence: no port is in two.
pub fn sequence(door: usize) -> [u16; STEPS] {
    // Runs through a field of 59,999 numbers, each once: 20,011 divides nothing of it.
    let port = |n: usize| (2000 + (n * 20_011 + 7_143) % 59_999) as u16;
    std::array::from_fn(|step| port(door * STEPS + step))
}

/// The key that opens the first door.
pub fn key() -> Key {
    a_key(KEY).with("allowance = 100000")
}

fn a_key(name: &'static str) -> Key {
    Key::new(name, &["d0"]).with("ports = [\"22/tcp\"]")
}

/// Starts ours and waits until it listens.
pub fn postern<'w>(wire: &'w Wire, marks: &Marks, variant: Variant, setup: Setup) -> Daemon<'w> {
    let mut daemon = Daemon::prepare(wire.server(), &[]);
    variant.apply(&mut daemon);
    if setup.opens == Opens::Nowhere {
        daemon.set("firewall", "\"memory\"");
    }
    let doors: Vec<Door> = (0..setup.doors)
        .map(|n| {
            let name = leak(format!("d{n}"));
            let door = match setup.opens {
                Opens::Mark => Door::starts(name, &format!("{} %IP%", marks.mark().display())),
                _ => Door::opens(name, "22/tcp", "1h"),
            };
            let steps = sequence(n).map(|port| port.to_string());
            let door = door.to(&steps.each_ref().map(|step| step.as_str()));
            match setup.ping && n == 0 {
                true => door.knock(&format!("ping = \"{PING:032x}\"")),
                false => door,
            }
        })
        .collect();
    let others = (1..setup.keys).map(|n| a_key(leak(format!("k{n}"))));
    let keys: Vec<Key> = others.chain((setup.keys > 0).then(key)).collect();
    daemon.keys(&keys.iter().collect::<Vec<_>>());
    daemon.configure(&doors);
    daemon.within(&first_processor());
    daemon.run();
    daemon
}

/// The harness wants names that are there for ever.
fn leak(text: String) -> &'static str {
    Box::leak(text.into_boxed_str())
}

/// Daemons share one processor; the sender has the last.
fn first_processor() -> Vec<&'static str> {
    match processors() {
        1 => vec![],
        _ => vec!["taskset", "-c", "0"],
    }
}

/// A program of others' that runs until it is dropped.
pub struct Theirs {
    child: Child,
    directory: TempDir,
}

impl Theirs {
    /// Starts it in directories of its own, and waits until it captures.
    fn start(wire: &Wire, directory: TempDir, line: &[&str]) -> Theirs {
        const ROOM: &str = "for room in /run /var/lib /var/log; do \
                            mount -t tmpfs -o mode=755 none $room || exit; done; exec \"$@\"";
        let said = fs::File::create(directory.path().join("said")).unwrap();
        let mut command: Command = wire.server().command("sh");
        command.args(["-c", ROOM, "sh"]);
        command.args(first_processor()).args(line);
        command.stdin(Stdio::null());
        command.stdout(said.try_clone().unwrap()).stderr(said);
        let mut theirs = Theirs {
            child: command.spawn().unwrap(),
            directory,
        };
        until(&format!("{line:?} captures"), || {
            let ended = theirs.child.try_wait().unwrap();
            assert!(ended.is_none(), "{line:?} ended: {}", theirs.said());
            !filter::programs(theirs.pid()).is_empty()
        });
        theirs
    }

    /// Its process.
    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id() as i32)
    }

    /// What it has printed.
    pub fn said(&self) -> String {
        fs::read_to_string(self.directory.path().join("said")).unwrap_or_default()
    }

    /// SIGINT, and its end. What is in the kernel's buffer would be lost: first it must have been
    /// read, for which the kernel may take a second (libpcap's timeout for a block of it).
    fn interrupt(&mut self) {
        const BLOCK: Duration = Duration::from_millis(1100);
        let mut used = Cpu::of(&[self.pid()]).time;
        eventually("it has read all", LIMIT, || {
            thread::sleep(BLOCK);
            let before = std::mem::replace(&mut used, Cpu::of(&[self.pid()]).time);
            (used - before < Duration::from_millis(2)).then_some(())
        });
        kill(self.pid(), Signal::SIGINT).unwrap();
        eventually("it ends", LIMIT, || self.child.try_wait().unwrap());
    }
}

impl Drop for Theirs {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts knockd.
pub fn knockd(wire: &Wire, marks: &Marks, setup: Setup) -> Theirs {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let command = match setup.opens {
        Opens::Mark => format!("{} %IP%", marks.mark().display()),
        _ => "/usr/sbin/nft add element inet base who { %IP% }".to_owned(),
    };
    let mut text = format!("[options]\nLogFile = {}\n", path("log").display());
    for n in 0..setup.doors {
        let steps = sequence(n).map(|port| port.to_string()).join(",");
        text += &format!(
            "[d{n}]\nSequence = {steps}\nSeq_Timeout = 10\nTCPFlags = syn\nCommand = {command}\n"
        );
    }
    let file = path("knockd.conf");
    fs::write(&file, text).unwrap();
    let file = file.display().to_string();
    Theirs::start(
        wire,
        directory,
        &["/usr/sbin/knockd", "-i", "eth0", "-c", &file],
    )
}

/// Starts fwknopd, which listens by libpcap.
pub fn fwknopd(wire: &Wire, marks: &Marks, setup: Setup) -> Theirs {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let write = |name: &str, text: String| {
        fs::write(path(name), text).unwrap();
        chmod(&path(name), 0o600);
    };
    write(
        "fwknopd.conf",
        "PCAP_INTF eth0;\nENABLE_PCAP_PROMISC N;\n".into(),
    );
    let opens = match setup.opens {
        Opens::Iptables | Opens::Nowhere => String::new(),
        Opens::Mark | Opens::Nft => {
            let script = match setup.opens {
                Opens::Mark => marks.mark(),
                _ => marks.open(),
            };
            let script = script.display();
            format!("CMD_CYCLE_OPEN {script} $IP\nCMD_CYCLE_CLOSE NONE\n")
        }
    };
    // Every key is tried in turn until one holds: the right one is the last.
    let others = (1..setup.keys).map(|n| a_key(leak(format!("k{n}"))));
    let keys = others.chain([key()]);
    let stanzas = keys.map(|key| {
        let (cipher, hmac, mac) = key.written();
        format!(
            "SOURCE ANY\nKEY_BASE64 {cipher}\nHMAC_KEY_BASE64 {hmac}\nHMAC_DIGEST_TYPE {mac}\n\
             FW_ACCESS_TIMEOUT 3600\n{opens}"
        )
    });
    write("access.conf", stanzas.collect());
    let [conf, access, run] =
        ["fwknopd.conf", "access.conf", "run"].map(|name| path(name).display().to_string());
    fs::create_dir(&run).unwrap();
    #[rustfmt::skip]
    let line = [
        "/usr/sbin/fwknopd", "--foreground", "--config-file", &conf, "--access-file", &access,
        "--run-dir", &run,
    ];
    Theirs::start(wire, directory, &line)
}

/// tcpdumps with the filters that ours has, one for each of its captures, and in nftables what
/// ours leaves standing.
pub struct Floor {
    all: Vec<Theirs>,
    /// The files that they write, which have no name any more.
    kept: Vec<fs::File>,
}

/// What tcpdump says when it ends.
#[derive(Default)]
pub struct Dumped {
    /// Packets that the kernel dropped, because tcpdump's buffer was full.
    pub dropped: u64,
    /// The ports that those who knock have hit, where packets were kept.
    pub heard: Heard,
}

impl Floor {
    /// Starts them; `keep` what they hear, or write it to /dev/null.
    pub fn start(wire: &Wire, marks: &Marks, setup: Setup, keep: bool) -> Floor {
        let mut ours = postern(wire, marks, DEFAULT, setup);
        let programs = filter::programs(ours.listener());
        assert!(
            !programs.is_empty(),
            "the listener captures by packet sockets"
        );
        // Its table stands when it is dead.
        ours.kill();
        drop(ours);
        let mut kept = Vec::new();
        let all = programs.iter().map(|program| {
            // In memory.
            let room = keep.then(|| tempfile::tempdir_in("/dev/shm").unwrap());
            let path = room.as_ref().map(|room| room.path().join("pcap"));
            let file = path.as_deref().unwrap_or(Path::new("/dev/null"));
            let file = file.display().to_string();
            let directory = tempfile::tempdir().unwrap();
            #[rustfmt::skip]
            let line = ["tcpdump", "-n", "-i", "eth0", "-Z", "root", "-w", &file, "less", "1"];
            let dump = Theirs::start(wire, directory, &line);
            until("tcpdump listens", || dump.said().contains("listening on"));
            filter::attach(dump.pid(), program);
            kept.extend(path.map(|path| fs::File::open(path).unwrap()));
            dump
        });
        let all = all.collect();
        Floor { all, kept }
    }

    /// Their processes.
    pub fn pids(&self) -> Vec<Pid> {
        self.all.iter().map(Theirs::pid).collect()
    }

    /// Ends them; what they have kept is read.
    pub fn stop(mut self) -> Dumped {
        let mut dumped = Dumped::default();
        if self.kept.is_empty() {
            return dumped;
        }
        for dump in &mut self.all {
            dump.interrupt();
            let said = dump.said();
            let line = said.lines().find(|l| l.ends_with("dropped by kernel"));
            let dropped = line.and_then(|l| l.split(' ').next()?.parse::<u64>().ok());
            dumped.dropped += dropped.unwrap_or(0);
        }
        for file in &self.kept {
            let path = format!("/proc/self/fd/{}", file.as_raw_fd());
            read(Path::new(&path), &mut dumped.heard);
        }
        dumped
    }
}

/// The ports that those who knock hit in a capture file.
fn read(file: &Path, heard: &mut Heard) {
    use postern::packet::{What, parse};
    let mut file = postern::capture::File::open(file).expect("tcpdump's file");
    let link = file.link();
    while let Ok(Some(frame)) = file.next_frame() {
        let Some(arrival) = parse(frame.time, link, frame.bytes) else {
            continue;
        };
        let std::net::IpAddr::V4(source) = arrival.source else {
            continue;
        };
        let port = match arrival.what {
            What::Tcp { port, .. } | What::Udp { port, .. } => port,
            What::Echo { .. } => 0,
        };
        if source.octets()[..2] == KNOCKERS {
            heard.entry(source).or_default().push(port);
        }
    }
}
