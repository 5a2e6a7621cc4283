use super::*;

fn session(local: &str, remote: &str) -> Session {
    Session {
        local: local.parse().unwrap(),
        remote: remote.parse().unwrap(),
    }
}

/// Recorded on Linux 6.18, x86_64: what the host order of an address is there.
#[cfg(target_endian = "little")]
#[test]
fn the_lines_of_proc() {
    let four = "\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 3052 1 0000000000000000 100 0 0 10 0
   1: 0109030A:0016 0209030A:9C40 01 00000000:00000000 00:00000000 00000000     0        0 0 1 0000000000000000 20 4 30 10 -1
   2: 0109030A:0016 0209030A:9C41 08 00000000:00000000 00:00000000 00000000     0        0 0 1 0000000000000000 20 4 30 10 -1
   3: 0109030A:0016 0209030A:9C42 06 00000000:00000000 03:00000F1A 00000000     0        0 0 3 0000000000000000
   4: 0109030A:0016 0209030A:9C43 03 00000000:00000000 01:00000040 00000000     0        0 0 1 0000000000000000
   5: 0109030A:9C40";
    assert_eq!(
        four.lines().filter_map(linux::session).collect::<Vec<_>>(),
        [
            session("10.3.9.1:22", "10.3.9.2:40000"),
            session("10.3.9.1:22", "10.3.9.2:40001"),
        ]
    );
    let six = "\
  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000000000000000000000000000:0016 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 3054 1 0000000000000000 100 0 0 10 0
   1: B80D0120000000000000000001000000:0016 B80D0120000000000000000002000000:9C40 01 00000000:00000000 00:00000000 00000000     0        0 0 1 0000000000000000 20 4 0 10 -1
   2: 0000000000000000FFFF00000109030A:0016 0000000000000000FFFF00000209030A:9C44 04 00000000:00000000 00:00000000 00000000     0        0 0 1 0000000000000000 20 4 0 10 -1
   3: 000080FE000000000000000001000000:0016 000080FE000000000000000002000000:9C45 01 00000000:00000000 00:00000000 00000000     0        0 0 1 0000000000000000 20 4 0 10 -1";
    assert_eq!(
        six.lines().filter_map(linux::session).collect::<Vec<_>>(),
        [
            session("[2001:db8::1]:22", "[2001:db8::2]:40000"),
            session("10.3.9.1:22", "10.3.9.2:40004"),
            session("[fe80::1]:22", "[fe80::2]:40005"),
        ]
    );
}

/// [unverified]: written after sockstat(1), not recorded on FreeBSD.
#[test]
fn the_lines_of_sockstat() {
    let text = "\
USER     COMMAND    PID   FD  PROTO  LOCAL ADDRESS         FOREIGN ADDRESS      
root     sshd       1234  4   tcp4   10.9.0.1:22           10.9.0.2:58040
root     sshd       1250  4   tcp6   2001:db8::1:22        2001:db8::2:62110
root     sshd       1251  4   tcp6   fe80::1%epair0a:22    fe80::2%epair0a:62111
root     my tcp4 d  1252  4   tcp46  10.9.0.1:22           10.9.0.2:62112
?        ?          ?     ?   tcp4   10.9.0.1:22           10.9.0.2:62113
root     sshd       1100  3   tcp4   *:22                  *:*
";
    assert_eq!(
        text.lines()
            .filter_map(sockstat::session)
            .collect::<Vec<_>>(),
        [
            session("10.9.0.1:22", "10.9.0.2:58040"),
            session("[2001:db8::1]:22", "[2001:db8::2]:62110"),
            session("[fe80::1]:22", "[fe80::2]:62111"),
            session("10.9.0.1:22", "10.9.0.2:62112"),
            session("10.9.0.1:22", "10.9.0.2:62113"),
        ]
    );
}

#[test]
fn no_session_of_the_loopback() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let _client = std::net::TcpStream::connect(address).unwrap();
    assert_eq!(established(&[address.port()]), Ok(Vec::new()));
    let ours = system::established(&[address.port()]).unwrap();
    assert_eq!(ours.len(), 1, "{ours:?}");
    assert_eq!(ours[0].local, address);
}

/// Sessions at 127.0.0.1, at ::1, of IPv4 at a socket of both families, and one half closed.
#[cfg(target_os = "linux")]
#[test]
fn the_kernel_says_the_same_both_ways() {
    use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};

    let listeners = ["127.0.0.1:0", "[::1]:0", "[::]:0", "127.0.0.1:0"];
    let listeners: Vec<TcpListener> = listeners.iter().flat_map(TcpListener::bind).collect();
    let mut ends = Vec::new();
    for listener in &listeners {
        let mut to = listener.local_addr().unwrap();
        if to.ip().is_unspecified() {
            to.set_ip(Ipv4Addr::LOCALHOST.into());
        }
        let client = TcpStream::connect(to).unwrap();
        ends.push((client, listener.accept().unwrap().0));
    }
    ends.last().unwrap().0.shutdown(Shutdown::Write).unwrap();
    let port = |listener: &TcpListener| listener.local_addr().unwrap().port();
    let mut ports: Vec<u16> = listeners.iter().map(port).collect();
    ports.sort_unstable();

    let mut of_files = linux::listed(&ports).unwrap();
    of_files.sort_unstable();
    assert_eq!(of_files.len(), listeners.len(), "{of_files:?}");
    let mut dumped = diag::established(&ports).unwrap();
    dumped.sort_unstable();
    assert_eq!(dumped, of_files);
    for port in ports {
        let dumped = diag::established(&[port]).unwrap();
        assert_eq!(dumped, linux::listed(&[port]).unwrap());
        assert_eq!(dumped.len(), 1);
    }
}

/// Recorded on Linux 6.18, x86_64.
#[cfg(all(target_os = "linux", target_endian = "little"))]
#[test]
fn what_the_kernel_answers() {
    let part = |bytes: &[u8]| {
        let mut sessions = Vec::new();
        let last = diag::read(bytes, &mut |session| sessions.push(session));
        (last, sessions)
    };
    let hex = |text: &str| -> Vec<u8> {
        let digits: Vec<char> = text.chars().filter(|c| !c.is_whitespace()).collect();
        let byte = |two: &[char]| u8::from_str_radix(&String::from_iter(two), 16).unwrap();
        digits.chunks(2).map(byte).collect()
    };
    // Of one IPv4 and one IPv6 session at a socket of both families, two parts, and their end.
    let six = hex(
        "7c0000001400020000000000b11200000a01000008aeecd200000000000000000000ffff7f00000100000000
         000000000000ffff7f000001000000009d1600000000000000000000000000000000000000000000508cbf00
         050008000000000008000f00000000000c001500010000000000000006001600120000007c00000014000200
         00000000b11200000a01000008ae8c9000000000000000000000000000000001000000000000000000000000
         00000001000000009e1600000000000000000000000000000000000000000000528cbf000500080000000000
         08000f00000000000c00150001000000000000000600160012000000",
    );
    assert_eq!(
        part(&six),
        (
            Ok(false),
            vec![
                session("127.0.0.1:2222", "127.0.0.1:60626"),
                session("[::1]:2222", "[::1]:35984"),
            ]
        )
    );
    let end = hex("140000000300020000000000b112000000000000");
    assert_eq!(part(&end), (Ok(true), Vec::new()));
    let four = hex(
        "7c0000001400020000000000b11200000201000008afbccc7f0000010000000000000000000000007f000001
         000000000000000000000000000000009f1600000000000000000000000000000000000000000000558cbf00
         050008000000000008000f00000000000c00150001000000000000000600160052000000",
    );
    let here = session("127.0.0.1:2223", "127.0.0.1:48332");
    assert_eq!(part(&four), (Ok(false), vec![here]));
    let all = [four.clone(), end.clone()].concat();
    assert_eq!(part(&all), (Ok(true), vec![here]));

    // No such family: ENOENT.
    let mut refused = [end, vec![0; 16]].concat();
    (refused[0], refused[4]) = (36, 2);
    refused[16..20].copy_from_slice(&(-2i32).to_ne_bytes());
    assert_eq!(part(&refused).0, Err(nix::errno::Errno::ENOENT));
    for length in 16..four.len() {
        assert!(part(&four[..length]).0.is_err(), "cut to {length}");
    }
    for length in 0..16 {
        let mut wrong = four.clone();
        wrong[0] = length;
        assert!(part(&wrong).0.is_err(), "said to have {length}");
    }
}
