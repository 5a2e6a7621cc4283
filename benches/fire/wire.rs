//! Two hosts on one cable, the same for everybody under test.

use std::collections::BTreeMap;
use std::fs;
use std::net::Ipv4Addr;
use std::time::{SystemTime, UNIX_EPOCH};

use nix::unistd::Pid;
use postern::spa::PORT;

use crate::harness::raw::{SYN, hardware, tcp, udp};
use crate::harness::{Host, Key, Net};
use crate::{daemons, forge};

/// Addresses that legitimate knocks come from: the first two bytes.
pub const KNOCKERS: [u8; 2] = [10, 67];

/// The address of one who knocks.
pub fn knocker(n: usize) -> Ipv4Addr {
    let [a, b] = KNOCKERS;
    Ipv4Addr::new(a, b, (n / 250) as u8, (n % 250 + 1) as u8)
}

/// The rules of a machine on the Internet, loaded whoever is under test. They track no
/// connections. What knockd's and fwknopd's commands open is the set `who`.
const RULES: [&str; 1] = ["table inet base {
    set who { type ipv4_addr; flags timeout; timeout 1h; }
    chain input { type filter hook input priority filter; policy drop;
        iif lo accept
        ip saddr @who tcp dport 22 accept
    }
}"];

/// A server and a client, each a network namespace, with nothing between their interfaces.
pub struct Wire {
    net: Net,
    to: [u8; 6],
}

impl Wire {
    /// A new one; it is gone when this is dropped.
    pub fn new() -> Wire {
        let net = Net::new(1);
        let (server, client) = (&net.server, net.client());
        // Without the switch: one interface less that takes time for each packet.
        server.run("ip link del eth0");
        client.run("ip link del eth0");
        server.run(&format!(
            "ip link add eth0 type veth peer name eth0 netns {}",
            client.name
        ));
        for host in [server, client] {
            host.run("ip link set eth0 addrgenmode none");
            host.run(&format!("ip addr add {}/24 dev eth0", host.v4));
            host.run("ip link set eth0 up");
        }
        let to = hardware(server, "eth0");
        for (host, other) in [(server, client), (client, server)] {
            let mac = hardware(other, "eth0").map(|byte| format!("{byte:02x}"));
            let (other, mac) = (other.v4, mac.join(":"));
            host.run(&format!(
                "ip neigh replace {other} lladdr {mac} dev eth0 nud permanent"
            ));
        }
        server.run(&format!("ip route add default via {}", client.v4));
        server.nft(&RULES);
        Wire { net, to }
    }

    /// Where daemons run.
    pub fn server(&self) -> &Host {
        &self.net.server
    }

    /// Where packets come from.
    pub fn client(&self) -> &Host {
        self.net.client()
    }

    /// An IPv4 packet in a frame to the server.
    pub fn frame(&self, packet: &[u8]) -> Vec<u8> {
        [&self.to[..], &[2, 0, 0, 0, 0, 0x77], &[8, 0], packet].concat()
    }

    /// A connection request.
    pub fn syn(&self, from: Ipv4Addr, port: u16) -> Vec<u8> {
        self.frame(&tcp(from.into(), self.server().v4.into(), port, SYN, 0))
    }

    /// A datagram to a port of the server's, without a checksum.
    pub fn datagram(&self, from: Ipv4Addr, port: u16, payload: &[u8]) -> Vec<u8> {
        let mut packet = udp(from.into(), self.server().v4.into(), port);
        packet.truncate(28);
        packet.extend(payload);
        let all = (packet.len() as u16).to_be_bytes();
        let udp = (packet.len() as u16 - 20).to_be_bytes();
        packet[2..4].copy_from_slice(&all);
        packet[24..26].copy_from_slice(&udp);
        packet[10..12].fill(0);
        let sum = packet[..20]
            .chunks(2)
            .map(|w| u32::from(u16::from_be_bytes([w[0], w[1]])))
            .sum();
        packet[10..12].copy_from_slice(&forge::fold(sum).to_be_bytes());
        self.frame(&packet)
    }

    /// A single packet that asks for its source to be let in at port 22.
    pub fn single_packet(&self, from: Ipv4Addr) -> Vec<u8> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.map_or(0, |since| since.as_secs());
        self.datagram(from, PORT, &daemons::key().seal(from, 22, now))
    }

    /// One that asks for nothing: no key of the server's has sealed it.
    pub fn forged_packet(&self) -> Vec<u8> {
        let payload = Key::new("nobody", &["d0"]).seal(knocker(0), 22, 1_700_000_000);
        self.datagram(Ipv4Addr::UNSPECIFIED, PORT, &payload)
    }
}

/// How many frames the interface has taken in that this process sees as eth0.
pub fn arrived(process: Pid) -> u64 {
    let text = fs::read_to_string(format!("/proc/{process}/net/dev")).unwrap_or_default();
    let figures = text.lines().find_map(|l| l.trim().strip_prefix("eth0:"));
    // Bytes, then packets, of what was received.
    let packets = figures.and_then(|f| f.split_whitespace().nth(1)?.parse().ok());
    packets.unwrap_or(0)
}

/// What each address has sent, in order.
pub type Heard = BTreeMap<Ipv4Addr, Vec<u16>>;
