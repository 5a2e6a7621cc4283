//! `memory`: nothing touched, everything shown.

use std::collections::BTreeSet;

use postern::config::Door;
use postern::firewall::memory::Memory;
use postern::firewall::{Failure, Firewall, Opening};

use crate::doors::{close, left, open, opens, runs, tcp, udp};
use crate::suite::{Subject, carry_out, suite};

struct InMemory(Memory);

impl Subject for InMemory {
    fn firewall(&mut self) -> &mut dyn Firewall {
        &mut self.0
    }

    fn doors(&self) -> Vec<Door> {
        vec![
            opens("ssh", &[tcp(22)], true),
            opens("sftp", &[tcp(22)], false),
        ]
    }

    fn crash(&mut self) {
        self.0 = Memory::new();
    }

    fn let_in(&mut self) -> BTreeSet<Opening> {
        self.0.openings().unwrap().into_iter().collect()
    }
}

suite!(InMemory(Memory::new()));

#[test]
fn it_shows_what_would_stand() {
    let mut memory = Memory::new();
    let doors = [
        opens("ssh", &[tcp(22), udp(60000)], true),
        opens("sftp", &[tcp(22)], true),
        opens("web", &[tcp(443)], false),
        runs("wake", "/wake %IP%", Some("/sleep %IP%")),
    ];
    memory.establish(&doors, &[]).unwrap();
    let orders = [
        open(2, "2001:db8::7", 90),
        open(0, "192.0.2.7", 30),
        open(0, "192.0.2.8", 30),
        open(3, "192.0.2.7", 10),
        close(0, "192.0.2.8"),
    ];
    carry_out(&mut memory, &orders);
    assert_eq!(
        memory.list(),
        [
            "pass ssh: 192.0.2.7 to 22/tcp, 60000/udp for 30s",
            "pass web: 2001:db8::7 to 443/tcp for 90s",
            "started wake: 192.0.2.7 for 10s",
            "guard 22/tcp",
            "guard 60000/udp",
        ]
    );
}

#[test]
fn unguarding_leaves_the_rest_until_it_is_upheld() {
    let mut memory = Memory::new();
    memory
        .establish(
            &[opens("ssh", &[tcp(22)], true)],
            &[left(0, "192.0.2.7", 30)],
        )
        .unwrap();
    let before = memory.list();
    assert_eq!(memory.unguard().unwrap(), ["memory: guard 22/tcp"]);
    assert_eq!(memory.list(), before[..1]);
    assert_eq!(memory.unguard().unwrap(), [""; 0]);
    memory.uphold(&[left(0, "192.0.2.7", 30)]).unwrap();
    assert_eq!(memory.list(), before);
}

#[test]
fn it_fails_when_told_to() {
    let mut memory = Memory::new();
    memory
        .establish(&[opens("ssh", &[tcp(22)], true)], &[])
        .unwrap();
    let failure = Failure::Unexpected("no".to_owned());
    memory.fail_next(failure.clone());
    let done = carry_out(
        &mut memory,
        &[open(0, "192.0.2.7", 30), open(0, "192.0.2.8", 30)],
    );
    assert_eq!(done[0].result, Err(failure));
    assert_eq!(done[1].result, Ok(()));
    assert_eq!(memory.openings().unwrap(), [done[1].order.opening]);
}
