//! A network: a server and clients, each a network namespace, on one switch.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};

use super::host::{Host, output};

/// What the names of our namespaces begin with; the process's number follows.
const PREFIX: &str = "pt-";

/// A network that is gone, with every process in it, when this is dropped.
pub struct Net {
    /// Where posternd runs: 10.66.0.1, fd66::1 on eth0.
    pub server: Host,
    /// Those who knock: 10.66.0.11, fd66::11 on eth0, and so on.
    pub clients: Vec<Host>,
    switch: String,
}

impl Net {
    /// A server, and so many clients.
    pub fn new(clients: u8) -> Net {
        static ONCE: Once = Once::new();
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        ONCE.call_once(remove_leftovers);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}{}-{number}", std::process::id());

        let net = Net {
            server: Host::new(format!("{name}-s"), 1, 0x1),
            clients: (0..clients)
                .map(|n| Host::new(format!("{name}-{n}"), 11 + n, 0x11 + u16::from(n)))
                .collect(),
            switch: format!("{name}-w"),
        };
        let mut all = String::new();
        for name in net.names() {
            writeln!(all, "netns add {name}").unwrap();
        }
        batch(None, &all);
        // Forwards everything at once, also IPv6's multicast.
        let bridge = "link add sw type bridge forward_delay 0 mcast_snooping 0\nlink set sw up\n";
        batch(Some(&net.switch), bridge);
        for host in net.hosts() {
            net.plug(host, "eth0");
            host.address("add", &format!("{}/24", host.v4), "eth0");
            host.address("add", &format!("{}/64", host.v6), "eth0");
        }
        net
    }

    /// Gives a host an interface, up, without addresses, on the switch.
    pub fn plug(&self, host: &Host, interface: &str) {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let (name, switch) = (&host.name, &self.switch);
        let port = format!("p{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        batch(
            None,
            &format!(
                "link add {interface} netns {name} type veth peer name {port} netns {switch}\n"
            ),
        );
        batch(Some(switch), &format!("link set {port} master sw up\n"));
        batch(
            Some(name),
            &format!("link set lo up\nlink set {interface} up\n"),
        );
    }

    /// Has the switch drop all but neighbours' packets and what one of these matches of nft's
    /// does: the restrictive network that somebody is in.
    pub fn lets_through(&self, matches: &[&str]) {
        let mut rules = "table bridge net { chain forward {\n\
             type filter hook forward priority 0; policy drop;\n\
             ether type arp accept\n\
             icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept\n"
            .to_owned();
        for rule in matches {
            writeln!(rules, "{rule} accept").unwrap();
        }
        rules += "}\n}\n";
        let mut nft = Command::new("ip");
        nft.args(["netns", "exec", &self.switch, "nft", "-f", "-"]);
        output(&mut nft, &rules);
    }

    /// The only client.
    pub fn client(&self) -> &Host {
        &self.clients[0]
    }

    /// Removes all networks of this process, with every process in them.
    #[allow(
        dead_code,
        reason = "the bench alone, which is built apart, is interrupted"
    )]
    pub fn remove_all() {
        let own = std::process::id().to_string();
        remove_those(|pid| pid == own);
    }

    fn hosts(&self) -> impl Iterator<Item = &Host> {
        std::iter::once(&self.server).chain(&self.clients)
    }

    fn names(&self) -> impl Iterator<Item = &String> {
        self.hosts().map(|h| &h.name).chain([&self.switch])
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for name in self.names() {
            remove(name);
        }
    }
}

fn batch(namespace: Option<&str>, lines: &str) {
    let mut ip = Command::new("ip");
    if let Some(name) = namespace {
        ip.args(["-n", name]);
    }
    output(ip.args(["-batch", "-"]), lines);
}

/// A namespace, and who still runs there: their tests are over.
fn remove(name: &str) {
    let ip = |verb: &[&str]| {
        let ip = Command::new("ip")
            .arg("netns")
            .args(verb)
            .arg(name)
            .stderr(Stdio::null())
            .output();
        ip.map(|o| String::from_utf8_lossy(&o.stdout).into_owned())
            .unwrap_or_default()
    };
    for pid in ip(&["pids"])
        .split_whitespace()
        .filter_map(|p| p.parse().ok())
    {
        if pid != std::process::id() as i32 {
            let pid = nix::unistd::Pid::from_raw(pid);
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::SIGKILL);
        }
    }
    ip(&["del"]);
}

/// What runs that were killed left behind.
fn remove_leftovers() {
    assert!(
        nix::unistd::geteuid().is_root(),
        "the end-to-end tests need root"
    );
    remove_those(|pid| !Path::new("/proc").join(pid).exists());
}

/// Removes the namespaces of the runs, by their processes, of which this holds.
fn remove_those(holds: impl Fn(&str) -> bool) {
    for entry in fs::read_dir("/run/netns").into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let pid = name
            .strip_prefix(PREFIX)
            .and_then(|rest| rest.split('-').next());
        if pid.is_some_and(&holds) {
            remove(&name);
        }
    }
}
