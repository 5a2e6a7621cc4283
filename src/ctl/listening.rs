//! Ports in use on this machine: where a step had better not be.

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::process::{Command, Stdio};

use crate::config::{Port, Protocol};

/// Ports that something on this machine listens at, other than on loopback. Empty where the
/// system does not say.
pub fn ports() -> BTreeSet<Port> {
    if cfg!(target_os = "linux") {
        let tables = [
            ("tcp", Protocol::Tcp),
            ("tcp6", Protocol::Tcp),
            ("udp", Protocol::Udp),
            ("udp6", Protocol::Udp),
        ];
        let read = |name| fs::read_to_string(format!("/proc/net/{name}")).unwrap_or_default();
        let listed = tables.map(|(name, protocol)| proc_net(&read(name), protocol));
        listed.into_iter().flatten().collect()
    } else {
        let mut command = Command::new("/usr/bin/sockstat");
        let listed = command.arg("-46l").stdin(Stdio::null()).output();
        let text = listed.map(|listed| listed.stdout).unwrap_or_default();
        sockstat(&String::from_utf8_lossy(&text))
    }
}

/// Ports from the text of `/proc/net/tcp` and its like (proc_pid_net(5)): sockets that listen
/// (TCP state 0A) or are not connected (UDP state 07).
fn proc_net(text: &str, protocol: Protocol) -> BTreeSet<Port> {
    let wanted = match protocol {
        Protocol::Tcp => "0A",
        Protocol::Udp => "07",
    };
    let port = |line: &str| {
        let mut fields = line.split_ascii_whitespace();
        let (address, number) = fields.nth(1)?.split_once(':')?;
        let state = fields.nth(1)?;
        (state == wanted && !is_loopback(kernel_address(address)?)).then_some(())?;
        let number = u16::from_str_radix(number, 16).ok()?;
        Some(Port { protocol, number })
    };
    text.lines().skip(1).filter_map(port).collect()
}

/// An address as the kernel prints it: words of 32 bits in hexadecimal, in this machine's byte
/// order.
fn kernel_address(hex: &str) -> Option<IpAddr> {
    let word = |at: usize| u32::from_str_radix(hex.get(at..at + 8)?, 16).ok();
    match hex.len() {
        8 => Some(Ipv4Addr::from(word(0)?.to_ne_bytes()).into()),
        32 => {
            let mut octets = [0; 16];
            for (n, part) in octets.chunks_exact_mut(4).enumerate() {
                part.copy_from_slice(&word(n * 8)?.to_ne_bytes());
            }
            Some(Ipv6Addr::from(octets).into())
        }
        _ => None,
    }
}

/// Ports from what `sockstat -46l` prints: somewhere on each line a protocol, then the local
/// address (sockstat(1); before them stands the command's name, which may hold blanks).
fn sockstat(text: &str) -> BTreeSet<Port> {
    let port = |line: &str| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        fields.windows(2).find_map(|pair| {
            let protocol = match pair[0] {
                "tcp4" | "tcp6" | "tcp46" => Protocol::Tcp,
                "udp4" | "udp6" | "udp46" => Protocol::Udp,
                _ => return None,
            };
            let (address, number) = pair[1].rsplit_once(':')?;
            let loopback = address.parse().is_ok_and(is_loopback);
            let number = number.parse().ok()?;
            (!loopback).then_some(Port { protocol, number })
        })
    };
    text.lines().filter_map(port).collect()
}

fn is_loopback(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(a) => a.is_loopback(),
        IpAddr::V6(a) => a.is_loopback() || a.to_ipv4_mapped().is_some_and(|a| a.is_loopback()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(ports: &BTreeSet<Port>) -> Vec<(Protocol, u16)> {
        ports.iter().map(|p| (p.protocol, p.number)).collect()
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn proc_net_as_linux_6_prints_it() {
        let tcp = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode                                                     \n\
           \x20  0: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 20051 1 0000000000000000 100 0 0 10 0                     \n\
           \x20  1: 0100007F:1538 00000000:0000 0A 00000000:00000000 00:00000000 00000000   105        0 20052 1 0000000000000000 100 0 0 10 0                     \n\
           \x20  2: 0A02000A:9C40 0B02000A:0016 01 00000000:00000000 02:000A7214 00000000     0        0 20053 2 0000000000000000 20 4 29 10 -1                    \n";
        assert_eq!(shown(&proc_net(tcp, Protocol::Tcp)), [(Protocol::Tcp, 22)]);
        let udp6 = "  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops\n\
           \x20 12: 00000000000000000000000000000000:0202 00000000000000000000000000000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 31 2 0000000000000000 0\n\
           \x20 13: 00000000000000000000000001000000:0203 00000000000000000000000000000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 32 2 0000000000000000 0\n";
        assert_eq!(
            shown(&proc_net(udp6, Protocol::Udp)),
            [(Protocol::Udp, 514)]
        );
    }

    #[test]
    fn sockstat_as_freebsd_prints_it() {
        let text = "\
USER     COMMAND    PID   FD PROTO  LOCAL ADDRESS         FOREIGN ADDRESS
root     sshd       1042  4  tcp6   *:22                  *:*
root     sshd       1042  5  tcp4   *:22                  *:*
www      php-fpm: m 1100  9  tcp4   192.0.2.1:9000        *:*
root     sendmail   990   4  tcp4   127.0.0.1:25          *:*
root     syslogd    800   6  udp6   *:514                 *:*
?        ?          ?     ?  udp4   *:2049                *:*
bind     named      801   7  udp6   ::1:53                *:*
";
        assert_eq!(
            shown(&sockstat(text)),
            [
                (Protocol::Tcp, 22),
                (Protocol::Tcp, 9000),
                (Protocol::Udp, 514),
                (Protocol::Udp, 2049)
            ]
        );
    }

    #[test]
    fn what_is_no_table_lists_nothing() {
        for text in ["", "x", "x\n0: ZZ:1 b 0A", "x\ntcp4", "tcp4 *:99999"] {
            assert!(proc_net(text, Protocol::Tcp).is_empty());
            assert!(sockstat(text).is_empty());
        }
    }
}
