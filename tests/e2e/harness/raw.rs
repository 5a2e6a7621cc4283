//! Packets made by hand: forged, oddly flagged, tagged.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::ifaddrs::getifaddrs;
use nix::libc;
use nix::sys::socket::sockopt::RcvBufForce;
use nix::sys::socket::{SockaddrStorage, bind, setsockopt};
use socket2::{Domain, Protocol, Socket, Type};

use super::host::Host;

pub const FIN: u8 = 0x01;
pub const SYN: u8 = 0x02;
pub const ACK: u8 = 0x10;

/// A TCP segment without data in an IP packet; `options` are IPv6 destination options headers
/// before it.
pub fn tcp(source: IpAddr, to: IpAddr, port: u16, flags: u8, options: u8) -> Vec<u8> {
    let mut segment = Vec::with_capacity(20);
    segment.extend(40_000u16.to_be_bytes());
    segment.extend(port.to_be_bytes());
    segment.extend(1u32.to_be_bytes());
    segment.extend(0u32.to_be_bytes());
    segment.extend([5 << 4, flags]);
    segment.extend(1024u16.to_be_bytes());
    segment.extend([0; 4]);
    let sum = checksum(&[&octets(source), &octets(to), &[0, 6, 0, 20], &segment]);
    segment[16..18].copy_from_slice(&sum.to_be_bytes());
    packet(source, to, 6, options, &segment)
}

/// A UDP datagram of one NUL byte in an IP packet. Without a checksum: allowed over IPv4 only.
pub fn udp(source: IpAddr, to: IpAddr, port: u16) -> Vec<u8> {
    let mut datagram = Vec::with_capacity(9);
    datagram.extend(40_000u16.to_be_bytes());
    datagram.extend(port.to_be_bytes());
    datagram.extend(9u16.to_be_bytes());
    datagram.extend([0; 3]);
    packet(source, to, 17, 0, &datagram)
}

/// An echo request in an IP packet (RFC 792, RFC 4443); the payload is of even length or odd.
pub fn echo(source: IpAddr, to: IpAddr, payload: &[u8]) -> Vec<u8> {
    let (kind, protocol) = if source.is_ipv4() { (8, 1) } else { (128, 58) };
    let mut message = vec![kind, 0, 0, 0, 0x12, 0x34, 0, 1];
    message.extend(payload);
    let odd = message.len() % 2;
    let length = (message.len() as u16).to_be_bytes();
    message.extend([0].repeat(odd));
    let sum = match source {
        IpAddr::V4(_) => checksum(&[&message]),
        // With what stands before it (RFC 8200, 8.1).
        IpAddr::V6(_) => {
            let before = [length[0], length[1], 0, protocol];
            checksum(&[&octets(source), &octets(to), &before, &message])
        }
    };
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    message.truncate(message.len() - odd);
    packet(source, to, protocol, 0, &message)
}

fn packet(source: IpAddr, to: IpAddr, protocol: u8, options: u8, payload: &[u8]) -> Vec<u8> {
    // An option headers' content: PadN over the six bytes that are left (RFC 8200, 4.2).
    let option = |next: u8| [next, 0, 1, 4, 0, 0, 0, 0];
    let mut packet = Vec::with_capacity(60);
    if source.is_ipv4() {
        packet.extend([0x45, 0]);
        packet.extend((20 + payload.len() as u16).to_be_bytes());
        packet.extend([0, 0, 0x40, 0, 64, protocol, 0, 0]);
        packet.extend(octets(source));
        packet.extend(octets(to));
        let sum = checksum(&[&packet]);
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
    } else {
        const DESTINATION_OPTIONS: u8 = 60;
        let length = payload.len() as u16 + 8 * u16::from(options);
        packet.extend([0x60, 0, 0, 0]);
        packet.extend(length.to_be_bytes());
        packet.extend([
            if options > 0 {
                DESTINATION_OPTIONS
            } else {
                protocol
            },
            64,
        ]);
        packet.extend(octets(source));
        packet.extend(octets(to));
        for n in 0..options {
            packet.extend(option(if n + 1 < options {
                DESTINATION_OPTIONS
            } else {
                protocol
            }));
        }
    }
    packet.extend(payload);
    packet
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(a) => a.octets().to_vec(),
        IpAddr::V6(a) => a.octets().to_vec(),
    }
}

/// RFC 1071, over parts of even length.
fn checksum(parts: &[&[u8]]) -> u16 {
    let words = parts.iter().flat_map(|part| part.chunks(2));
    let sum: u32 = words
        .map(|w| u32::from(u16::from_be_bytes([w[0], w[1]])))
        .sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    !((sum & 0xffff) + (sum >> 16)) as u16
}

/// Sends whole IP packets, whatever source they name.
pub struct Sender(Socket);

impl Sender {
    /// In this thread's namespace.
    pub fn new(v6: bool) -> Sender {
        let domain = if v6 { Domain::IPV6 } else { Domain::IPV4 };
        let kind = Type::from(libc::SOCK_RAW);
        let raw = Protocol::from(libc::IPPROTO_RAW);
        Sender(Socket::new(domain, kind, Some(raw)).unwrap())
    }

    /// Sends one; waits while the system has no room for it.
    pub fn send(&self, to: IpAddr, packet: &[u8]) {
        loop {
            match self.0.send_to(packet, &SocketAddr::new(to, 0).into()) {
                Ok(_) => return,
                Err(e) if e.raw_os_error() == Some(libc::ENOBUFS) => std::thread::yield_now(),
                Err(e) => panic!("{e}"),
            }
        }
    }
}

/// Sends Ethernet frames on an interface, and hears them.
pub struct Wire(Socket);

impl Wire {
    /// One that only sends, in this thread's namespace.
    pub fn new(interface: &str) -> Wire {
        Wire::of(interface, None)
    }

    /// One that hears all that passes from now on.
    pub fn tap(interface: &str) -> Wire {
        let all = Protocol::from(i32::from((libc::ETH_P_ALL as u16).to_be()));
        let tap = Wire::of(interface, Some(all));
        tap.0.set_nonblocking(true).unwrap();
        setsockopt(&tap.0, RcvBufForce, &(64 << 20)).unwrap();
        tap
    }

    fn of(interface: &str, protocol: Option<Protocol>) -> Wire {
        let kind = Type::from(libc::SOCK_RAW);
        let socket = Socket::new(Domain::from(libc::AF_PACKET), kind, protocol).unwrap();
        let link = |a: &SockaddrStorage| a.as_link_addr().copied();
        let mut all = getifaddrs()
            .unwrap()
            .filter(|a| a.interface_name == interface);
        let address = all.find_map(|a| link(a.address.as_ref()?)).unwrap();
        bind(socket.as_raw_fd(), &address).unwrap();
        Wire(socket)
    }

    /// Sends a packet to a hardware address, in a frame with these VLAN tags.
    pub fn send(&self, to: [u8; 6], tags: &[u16], packet: &[u8]) {
        let mut frame = to.to_vec();
        frame.extend([2, 0, 0, 0, 0, 0x77]);
        for tag in tags {
            frame.extend([0x81, 0x00]);
            frame.extend(tag.to_be_bytes());
        }
        frame.extend(if packet[0] >> 4 == 4 {
            [0x08, 0x00]
        } else {
            [0x86, 0xdd]
        });
        frame.extend(packet);
        self.again(&frame);
    }

    /// Sends a whole frame.
    pub fn again(&self, frame: &[u8]) {
        self.0.send(frame).unwrap();
    }

    /// What has been heard.
    pub fn frames(&mut self) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        let mut frame = [0; 2048];
        while let Ok(length) = self.0.read(&mut frame) {
            frames.push(frame[..length].to_vec());
        }
        frames
    }
}

impl From<Wire> for OwnedFd {
    fn from(wire: Wire) -> OwnedFd {
        wire.0.into()
    }
}

/// The hardware address of a host's interface.
pub fn hardware(host: &Host, interface: &str) -> [u8; 6] {
    let text = host.run(&format!("cat /sys/class/net/{interface}/address"));
    let bytes: Vec<u8> = text
        .trim()
        .split(':')
        .map(|b| u8::from_str_radix(b, 16).unwrap())
        .collect();
    bytes.try_into().unwrap()
}

/// The far side of a tun(4) interface: what is written here arrives on it.
pub struct Tun(File);

impl Tun {
    /// Makes the interface in this thread's namespace.
    pub fn new(name: &str) -> Tun {
        let file = File::options()
            .read(true)
            .write(true)
            .open("/dev/net/tun")
            .unwrap();
        // struct ifreq of netdevice(7): 16 bytes of name, then the flags.
        let mut request = [0u8; 40];
        request[..name.len()].copy_from_slice(name.as_bytes());
        let flags = (libc::IFF_TUN | libc::IFF_NO_PI) as i16;
        request[16..18].copy_from_slice(&flags.to_ne_bytes());
        // SAFETY: TUNSETIFF reads and writes one struct ifreq, which is no longer than the array.
        let done = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, request.as_mut_ptr()) };
        assert_eq!(done, 0, "{}", io::Error::last_os_error());
        Tun(file)
    }

    /// Gives the interface, which must be down, another type: ARPHRD_ of linux/if_arp.h.
    pub fn set_type(&self, kind: libc::c_ulong) {
        // SAFETY: TUNSETLINK takes its argument as a number (linux/drivers/net/tun.c).
        let done = unsafe { libc::ioctl(self.0.as_raw_fd(), libc::TUNSETLINK, kind) };
        assert_eq!(done, 0, "{}", io::Error::last_os_error());
    }

    /// Lets a packet arrive.
    pub fn send(&mut self, packet: &[u8]) {
        self.0.write_all(packet).unwrap();
    }
}
