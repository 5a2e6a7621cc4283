//! Traffic: this machine's own connections, which are real here.

use super::*;
use crate::net::{CLIENT_4, CLIENT_6, Net, SERVER_4, SERVER_6, listen};

fn here(by: By) -> (Net, Rules) {
    let net = Net::new();
    let mut rules = Rules::at(Double::here(), by);
    let mut doors = doors(by);
    doors[0] = idle(prefix6(doors[0].clone(), 64), 60);
    rules.firewall.establish(&doors, &[]).unwrap();
    (net, rules)
}

fn traffic(rules: &mut Rules) -> BTreeSet<Opening> {
    let traffic = rules.firewall.traffic().unwrap().into_iter();
    let at_once = |(opening, ago)| {
        assert_eq!(ago, Duration::ZERO);
        opening
    };
    traffic.map(at_once).collect()
}

#[test]
fn is_a_connection_that_stands_at_a_port_of_the_door() {
    for by in [By::Table, By::Rules] {
        let (net, mut rules) = here(by);
        let (ssh, web) = (listen(22), listen(80));
        rules.obey(&[open(0, CLIENT_4, 600), open(0, "fd77::/64", 600)]);
        rules.obey(&[open(1, CLIENT_4, 600)]);
        let elsewhere = net.reach(CLIENT_4, SERVER_4, 80);
        let nobodys = net.reach("10.77.0.3", SERVER_4, 22);
        let (strangers, _) = ssh.accept().unwrap();
        assert_eq!(traffic(&mut rules), BTreeSet::new());
        let four = net.reach(CLIENT_4, SERVER_4, 22);
        let (accepted, _) = ssh.accept().unwrap();
        assert_eq!(traffic(&mut rules), BTreeSet::from([opening(0, CLIENT_4)]));
        let six = net.reach(CLIENT_6, SERVER_6, 22);
        let both = [opening(0, CLIENT_4), opening(0, "fd77::/64")];
        assert_eq!(traffic(&mut rules), BTreeSet::from(both));
        // As long as it stands, be it silent, and over the moving of its lease's end.
        rules.obey(&[extend(0, CLIENT_4, 900)]);
        assert_eq!(traffic(&mut rules), BTreeSet::from(both));
        drop((four, accepted));
        let started = Instant::now();
        while traffic(&mut rules).contains(&both[0]) {
            assert!(started.elapsed() < crate::suite::PATIENCE, "it has ended");
            std::thread::sleep(Duration::from_millis(10));
        }
        assert_eq!(traffic(&mut rules), BTreeSet::from([both[1]]));
        drop((elsewhere, nobodys, strangers, six, web));
    }
}

#[test]
fn of_a_door_that_does_not_go_by_it_is_not_looked_at() {
    let _net = Net::new();
    let mut rules = Rules::at(Double::here(), By::Table);
    rules.firewall.establish(&doors(By::Table), &[]).unwrap();
    rules.double.calls();
    assert_eq!(traffic(&mut rules), BTreeSet::new());
    assert_eq!(rules.double.calls(), "");
}
