//! Driven in-process: the same stands as by the command, no process is started, and the command
//! is there when the kernel will not have it so.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, Ordering};

use postern::config::Network;
use serde_json::Value;

use super::driving::in_nfts_place;
use super::repairs::handle;
use super::*;

/// All that stands in our table, without what moves by itself and what the kernel numbers as it
/// likes.
fn standing() -> Value {
    fn tidy(value: &mut Value) {
        match value {
            Value::Array(items) => {
                items.iter_mut().for_each(tidy);
                items.sort_by_cached_key(Value::to_string);
            }
            Value::Object(map) => {
                map.remove("handle");
                map.values_mut().for_each(tidy);
                let timeout = map.get("timeout").and_then(Value::as_u64);
                if let Some(expires) = map.remove("expires") {
                    let (left, whole) = (expires.as_u64().unwrap(), timeout.unwrap());
                    assert!(left <= whole && left + 60 > whole, "{left} of {whole}");
                }
                // What was left of 600 s, or more, when the kernel was told.
                if let Some(timeout @ 540..=600 | timeout @ 840..=900) = timeout {
                    map.insert("timeout".into(), (timeout.div_ceil(300) * 300).into());
                }
            }
            _ => {}
        }
    }
    let mut all = serde_json::from_str(&run("nft -j list table inet postern")).unwrap();
    tidy(&mut all);
    all
}

#[test]
fn the_same_stands_either_way() {
    let played = [Drive::InProcess, Drive::Command].map(|drive| {
        let mut tables = Tables::by(drive);
        let ssh = listen(22);
        let doors = [
            prefix6(opens("ssh", &[tcp(22)], true), 64),
            opens("sftp", &[tcp(22), udp(53)], false),
        ];
        tables.firewall.establish(&doors, &[]).unwrap();
        tables.obey(&[open(0, CLIENT_4, 600), open(1, CLIENT_6, 600)]);
        let mut sessions = Vec::new();
        for from in ["10.77.0.2:40000", "[fd77::2]:40000"] {
            let to = if from.starts_with('[') {
                SERVER_6
            } else {
                SERVER_4
            };
            sessions.push((tables.net.reach(from, to, 22), ssh.accept().unwrap()));
        }
        let mut all = Vec::new();
        for orders in [
            vec![open(0, "192.0.2.7", 600), open(0, "2001:db8::/64", 600)],
            vec![open(0, "192.0.2.7", 900), open(0, "fe80::1", 900)],
            vec![
                extend(0, "192.0.2.7", 600),
                extend(0, "2001:db8::/64", 900),
                open(1, "192.0.2.7", 600),
                extend(0, "198.51.100.9", 600),
                close(0, "198.51.100.8"),
            ],
            vec![close(0, CLIENT_4), close(1, CLIENT_6)],
            vec![close(0, "2001:db8::/64"), close(1, "192.0.2.7")],
        ] {
            tables.obey(&orders);
            all.push(standing());
            tables.driven_so();
        }
        all
    });
    let [in_process, by_command] = played;
    for (place, (a, b)) in in_process.iter().zip(&by_command).enumerate() {
        assert_eq!(a, b, "{place}");
        let text = a.to_string();
        assert!(text.contains("\"comment\":\"postern:\""), "{text}");
    }
    let last = in_process.last().unwrap().to_string();
    for element in [
        r#"["10.77.0.2",40000,"10.77.0.1",22]"#,
        r#"["fd77::2",40000,"fd77::1",22]"#,
    ] {
        let mut sorted: Vec<Value> = serde_json::from_str(element).unwrap();
        sorted.sort_by_cached_key(Value::to_string);
        let element = Value::from(sorted).to_string();
        assert!(last.contains(&element), "{element}: {last}");
    }
}

/// nft that writes down how it is called.
fn logged(tables: &mut Tables, dir: &Path) -> std::path::PathBuf {
    let log = dir.join("log");
    let script = format!(
        "#!/bin/sh\necho \"$*\" >>{}; exec nft \"$@\"\n",
        log.display()
    );
    in_nfts_place(dir, &script);
    let path = dir.to_str().unwrap();
    tables.firewall = Nft::with_path(&[INTERFACE.to_owned()], &[], path).unwrap();
    tables.firewall.drive(tables.drive);
    log
}

const LIST: &str = "-j -a list table inet postern\n";

#[test]
fn orders_cost_no_process() {
    let dir = tempfile::tempdir().unwrap();
    let mut tables = Tables::new();
    let log = logged(&mut tables, dir.path());
    tables.firewall.establish(&doors(), &[]).unwrap();
    let mut run = |orders: &[Order]| {
        let _ = std::fs::remove_file(&log);
        tables.obey(orders);
        tables.driven_so();
        std::fs::read_to_string(&log).unwrap_or_default()
    };
    assert_eq!(run(&[open(0, CLIENT_4, 600), open(1, CLIENT_6, 600)]), "");
    assert_eq!(run(&[extend(0, CLIENT_4, 600)]), "");
    // Once somebody has been at it, it is looked at.
    nft("add table inet other");
    assert_eq!(run(&[close(0, CLIENT_4)]), LIST);
    assert_eq!(run(&[close(1, CLIENT_6)]), "");
    // What need not be done is not thought done.
    assert_eq!(run(&[open(1, CLIENT_4, 600)]), "");
    nft("delete element inet postern sftp_4 { 10.77.0.2 }");
    nft("add element inet postern sftp_4 { 10.77.0.2 }");
    assert_eq!(run(&[extend(1, CLIENT_4, 600)]), LIST, "it is not ours");
    assert_eq!(run(&[extend(1, CLIENT_4, 600)]), "");
    nft("delete element inet postern sftp_4 { 10.77.0.2 }");
    assert!(run(&[extend(1, CLIENT_4, 600)]).starts_with(LIST));
    assert_eq!(tables.let_in(), BTreeSet::from([opening(1, CLIENT_4)]));
}

/// Whatever somebody has done since is mended before an order is carried out.
#[test]
fn an_order_mends_what_somebody_has_done() {
    let mut tables = Tables::new();
    tables.firewall.establish(&doors(), &[]).unwrap();
    tables.obey(&[open(0, CLIENT_4, 600)]);
    let right = ruleset();
    for (damage, address) in [
        ("flush ruleset", "192.0.2.1"),
        ("delete table inet postern", "192.0.2.2"),
        ("delete rule inet postern input handle N", "192.0.2.3"),
        ("flush set inet postern ssh_4", "192.0.2.4"),
    ] {
        nft(&damage.replace('N', &handle("guard 22/tcp")));
        tables.obey(&[open(1, address, 600)]);
        tables.driven_so();
        assert_eq!(ruleset(), right, "{damage}");
        let let_in = tables.let_in();
        assert!(let_in.contains(&opening(0, CLIENT_4)), "{damage}");
        assert!(let_in.contains(&opening(1, address)), "{damage}");
    }
}

/// The ruleset is never still.
#[test]
fn somebody_elses_transactions_between_ours() {
    let mut tables = Tables::new();
    tables.firewall.establish(&doors(), &[]).unwrap();
    nft("add table inet other; add set inet other every { type ipv4_addr; }");
    let (stop, moved) = (AtomicBool::new(false), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                nft("add element inet other every { 192.0.2.1 }");
                nft("delete element inet other every { 192.0.2.1 }");
                moved.store(true, Ordering::Relaxed);
            }
        });
        until("it moves", || moved.load(Ordering::Relaxed));
        for last in 1..=20 {
            let address = Ipv4Addr::new(192, 0, 2, last).to_string();
            tables.obey(&[open(0, &address, 600)]);
            tables.driven_so();
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(tables.let_in().len(), 20);
}

/// More than a socket's buffer holds, in one transaction.
#[test]
fn as_many_as_go_together() {
    let mut tables = Tables::new();
    tables.firewall.establish(&doors(), &[]).unwrap();
    let orders = |what: What| -> Vec<Order> {
        let addresses = (1..=4096).map(|n| Ipv6Addr::from(0x2001_0db8 << 96 | n));
        let openings = addresses.map(|address| Opening {
            door: 0,
            address: Network::host(address.into()),
        });
        openings.map(|opening| Order { opening, what }).collect()
    };
    let remaining = Duration::from_secs(600);
    tables.obey(&orders(What::Open {
        remaining: Some(remaining),
    }));
    tables.obey(&orders(What::Extend { remaining }));
    assert_eq!(tables.let_in().len(), 4096);
    tables.obey(&orders(What::Close));
    assert_eq!(tables.let_in().len(), 0);
}

/// This thread without, or again with, the right to change the packet filter. Programs that it
/// starts have all of root's.
fn may_administer(may: bool) {
    // linux/capability.h: the third version of struct __user_cap_header_struct, and two of
    // struct __user_cap_data_struct.
    let header = [0x2008_0522u32, 0];
    let mut data = [[0u32; 3]; 2];
    // SAFETY: both are as large as the kernel reads or writes.
    let got =
        unsafe { nix::libc::syscall(nix::libc::SYS_capget, header.as_ptr(), data.as_mut_ptr()) };
    assert_eq!(got, 0);
    const CAP_NET_ADMIN: u32 = 12;
    match may {
        true => data[0][0] |= 1 << CAP_NET_ADMIN,
        false => data[0][0] &= !(1 << CAP_NET_ADMIN),
    }
    // SAFETY: as above; it is of this thread alone.
    let set = unsafe { nix::libc::syscall(nix::libc::SYS_capset, header.as_ptr(), data.as_ptr()) };
    assert_eq!(set, 0);
}

/// As in a sandbox that forbids it.
#[test]
fn where_the_kernel_will_not_have_it_the_command_does() {
    let dir = tempfile::tempdir().unwrap();
    let mut tables = Tables::new();
    let log = logged(&mut tables, dir.path());
    tables.firewall.establish(&doors(), &[]).unwrap();
    tables.obey(&[open(0, CLIENT_4, 600)]);
    tables.driven_so();
    may_administer(false);
    let _ = std::fs::remove_file(&log);
    tables.obey(&[open(1, CLIENT_4, 600)]);
    // Nor does it say whether anybody has been at it.
    let calls = std::fs::read_to_string(&log).unwrap();
    assert_eq!(calls, format!("{LIST}-f -\n"), "at once");
    let refused = Driven {
        by: Drive::Command,
        why: Some("EPERM: Operation not permitted".to_owned()),
    };
    assert_eq!(tables.firewall.driven(), Some(refused.clone()));
    tables.obey(&[close(0, CLIENT_4)]);
    assert_eq!(tables.firewall.driven(), Some(refused));
    may_administer(true);
    tables.obey(&[open(1, CLIENT_6, 600)]);
    let both = [opening(1, CLIENT_4), opening(1, CLIENT_6)];
    assert_eq!(tables.let_in(), BTreeSet::from(both));
    // What is asked for is what is told.
    tables.firewall.drive(Drive::Command);
    tables.drive = Drive::Command;
    tables.obey(&[close(1, CLIENT_6)]);
    tables.driven_so();
}
