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
