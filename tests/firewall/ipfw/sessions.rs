//! Running sessions: real ones, in a network namespace. What becomes of their packets only a real
//! ipfw can tell; here is seen which of them are in the table of flows.

use super::*;
use crate::net::{CLIENT_4, Net, SERVER_4, SERVER_6, listen};

const FLOW: &str = "10.77.0.2,6,40000,10.77.0.1,22 0";

fn ssh() -> Door {
    numbered("ssh", &[tcp(22)], 101, Some(102))
}

fn here(by: By) -> (Net, Rules) {
    let net = Net::new();
    (net, Rules::at(Double::here(), by))
}

/// The sockets' end is seen when the kernel has seen it.
#[track_caller]
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let started = std::time::Instant::now();
    while !holds() {
        assert!(started.elapsed() < crate::suite::PATIENCE, "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn are_admitted_before_a_guard_arrives_and_forgotten_when_they_end() {
    let (net, mut rules) = here(By::Table);
    let listener = listen(22);
    let session = net.reach("10.77.0.2:40000", SERVER_4, 22);
    let (accepted, _) = listener.accept().unwrap();
    let session_6 = net.reach("[fd77::2]:40000", SERVER_6, 22);
    let elsewhere = listen(80);
    let web = net.reach("10.77.0.2:40001", SERVER_4, 80);
    rules.firewall.establish(&[ssh()], &[]).unwrap();
    assert_eq!(
        rules.double.table("running"),
        [FLOW, "fd77::2,6,40000,fd77::1,22 0"]
    );
    // One that came through the door has a state, but a flush of anybody's rules may take it.
    let late = net.reach("10.77.0.2:40002", SERVER_4, 22);
    assert_eq!(rules.firewall.uphold(&[]), Ok(Upkeep::default()));
    assert_eq!(rules.double.table("running").len(), 3);
    // A restart changes nothing.
    rules.crash();
    rules.double.calls();
    rules.firewall.establish(&[ssh()], &[]).unwrap();
    assert!(!rules.double.calls().contains("ipfw -q"));
    drop(session);
    drop(accepted);
    until("forgotten", || {
        assert_eq!(rules.firewall.uphold(&[]), Ok(Upkeep::default()));
        !rules.double.table("running").contains(&FLOW.to_owned())
    });
    drop((listener, elsewhere, web, late, session_6));
}

/// The list of sockets is older than the guard.
#[test]
fn are_admitted_that_began_while_the_guard_was_made() {
    let (net, mut rules) = here(By::Table);
    let listener = listen(22);
    let dir = rules.double.path().to_owned();
    let (making, made) = (format!("{dir}/making"), format!("{dir}/made"));
    rules.double.wrap(&format!(
        "if [ \"$1\" = -q ] && [ ! -e {making} ]; then\n\
         : >{making}; while [ ! -e {made} ]; do sleep 0.05; done\n\
         fi\n\
         exec $real \"$@\"\n"
    ));
    let late = std::thread::scope(|scope| {
        let late = scope.spawn(|| {
            until("made", || std::path::Path::new(&making).exists());
            let late = net.reach("10.77.0.2:40000", SERVER_4, 22);
            std::fs::write(&made, "").unwrap();
            late
        });
        rules.firewall.establish(&[ssh()], &[]).unwrap();
        late.join().unwrap()
    });
    assert_eq!(rules.double.table("running"), [FLOW]);
    drop((listener, late));
}

#[test]
fn are_admitted_again_when_their_entry_goes() {
    let (net, mut rules) = here(By::Table);
    let listener = listen(22);
    let session = net.reach("10.77.0.2:40000", SERVER_4, 22);
    rules.firewall.establish(&[ssh()], &[]).unwrap();
    rules.double.ipfw("table postern_running flush");
    rules
        .double
        .ipfw("table postern_running add 192.0.2.1,udp,1,192.0.2.2,2");
    let upkeep = rules.firewall.uphold(&[]).unwrap();
    let told = "running sessions were missing, admitted again: 10.77.0.2:40000";
    assert_eq!(upkeep.mended, [told]);
    let told = "table postern_running: the entry 192.0.2.1,17,1,192.0.2.2,2 0 is not ours: left \
                alone";
    assert_eq!(upkeep.strangers, [told]);
    assert_eq!(rules.double.table("running").len(), 2);
    drop((listener, session));
}

#[test]
fn are_admitted_at_their_leases_end() {
    for by in [By::Table, By::Rules] {
        let (net, mut rules) = here(by);
        let listener = listen(22);
        rules.firewall.establish(&doors(by), &[]).unwrap();
        rules.obey(&[open(0, CLIENT_4, 600)]);
        let session = net.reach("10.77.0.2:40000", SERVER_4, 22);
        let other = net.reach("10.77.0.3:40000", SERVER_4, 22);
        assert_eq!(rules.double.table("running"), [""; 0]);
        rules.obey(&[close(0, CLIENT_4)]);
        assert_eq!(rules.double.table("running"), [FLOW]);
        assert_eq!(rules.firewall.uphold(&[]), Ok(Upkeep::default()));
        let others = FLOW.replace("10.77.0.2", "10.77.0.3");
        assert_eq!(rules.double.table("running"), [FLOW, &others]);
        drop((listener, session, other));
    }
}

/// The old rule's states die with it.
#[test]
fn are_admitted_when_the_rule_of_their_address_is_replaced() {
    let (net, mut rules) = here(By::Rules);
    let listener = listen(22);
    rules.firewall.establish(&doors(By::Rules), &[]).unwrap();
    rules.obey(&[open(0, CLIENT_4, 600)]);
    let session = net.reach("10.77.0.2:40000", SERVER_4, 22);
    rules.double.calls();
    rules.obey(&[extend(0, CLIENT_4, 900)]);
    assert_eq!(rules.double.table("running"), [FLOW]);
    let calls = rules.double.calls();
    let place = |what: &str| {
        calls
            .find(what)
            .unwrap_or_else(|| panic!("{what}: {calls}"))
    };
    assert!(place("postern_running add") < place("add 00102"));
    assert!(place("add 00102") < place("delete 00101"));
    drop((listener, session));
}

/// Whatever rule is repaired or taken away, those that it may hold are admitted first.
#[test]
fn are_admitted_before_a_rule_goes() {
    let (net, mut rules) = here(By::Table);
    let listener = listen(22);
    let mut doors = doors(By::Table);
    rules.firewall.establish(&doors, &[]).unwrap();
    rules.obey(&[open(1, CLIENT_4, 600)]);
    let session = net.reach("10.77.0.2:40000", SERVER_4, 22);
    rules.double.calls();
    let flow = "postern_running add 10.77.0.2,tcp,40000,10.77.0.1,22";
    let before = |calls: &str, what: &str| {
        let place = |what: &str| {
            calls
                .find(what)
                .unwrap_or_else(|| panic!("{what}: {calls}"))
        };
        assert!(place(flow) < place(what), "{calls}");
    };
    // Changed.
    rules
        .double
        .ipfw("add 1101 set 31 allow ip from any to any // postern:sftp");
    rules.firewall.uphold(&[left(1, CLIENT_4, 600)]).unwrap();
    before(&rules.double.calls(), "set 31 delete 01101");
    rules.double.ipfw("table postern_running flush");
    rules.crash();
    // The door goes, the guard stays.
    doors.remove(1);
    rules.double.calls();
    rules.firewall.establish(&doors, &[]).unwrap();
    before(&rules.double.calls(), "set 31 delete 01101");
    assert_eq!(rules.double.table("running"), [FLOW]);
    drop((listener, session));
}
