//! nftables: the real one, with real packets, in network namespaces. Needs root.

mod driving;
mod idle;
mod limits;
mod netlink;
mod networks;
mod openings;
mod repairs;
mod sessions;
mod transactions;

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use postern::config::{Door, Drive};
use postern::firewall::nft::Nft;
use postern::firewall::{Driven, Failure, Firewall, Opening, Order, What};

use crate::doors::{
    close, extend, idle, left, limited, on, open, opening, opens, prefix6, tcp, udp,
};
use crate::net::{
    CLIENT_4, CLIENT_6, INTERFACE, Net, SERVER_4, SERVER_6, Session, listen, nft, run, try_run,
};
use crate::suite::{PATIENCE, Subject, carry_out, still, suite};

struct Tables {
    firewall: Nft,
    net: Net,
    drive: Drive,
}

impl Tables {
    /// Driven as without a word of it in the configuration.
    fn new() -> Tables {
        Tables::by(Drive::InProcess)
    }

    fn by(drive: Drive) -> Tables {
        Tables {
            net: Net::new(),
            firewall: fresh(drive),
            drive,
        }
    }

    /// Carries out orders, all of which must succeed.
    fn obey(&mut self, orders: &[Order]) {
        for done in carry_out(&mut self.firewall, orders) {
            assert_eq!(done.result, Ok(()), "{:?}", done.order);
        }
    }

    /// It was no other way than the one that is tested.
    fn driven_so(&self) {
        let (by, why) = (self.drive, None);
        assert_eq!(self.firewall.driven(), Some(Driven { by, why }));
    }
}

fn fresh(drive: Drive) -> Nft {
    let mut firewall = Nft::new(&[INTERFACE.to_owned()], &[]).unwrap();
    firewall.drive(drive);
    firewall
}

/// Tests, each driven in-process and by the command.
macro_rules! either_way {
    ($($test:ident)*) => {
        mod in_process {
            $(
                #[test]
                fn $test() {
                    super::$test(postern::config::Drive::InProcess);
                }
            )*
        }
        mod by_command {
            $(
                #[test]
                fn $test() {
                    super::$test(postern::config::Drive::Command);
                }
            )*
        }
    };
}
use either_way;

fn doors() -> Vec<Door> {
    vec![
        opens("ssh", &[tcp(22)], true),
        opens("sftp", &[tcp(22)], false),
    ]
}

impl Subject for Tables {
    fn firewall(&mut self) -> &mut dyn Firewall {
        &mut self.firewall
    }

    fn doors(&self) -> Vec<Door> {
        doors()
    }

    fn crash(&mut self) {
        self.firewall = fresh(self.drive);
    }

    fn let_in(&mut self) -> BTreeSet<Opening> {
        self.driven_so();
        let mut all = BTreeSet::new();
        for (set, door) in [("ssh_4", 0), ("ssh_6", 0), ("sftp_4", 1), ("sftp_6", 1)] {
            let text = run(&format!("nft list set inet postern {set}"));
            let Some((_, elements)) = text.split_once("elements = {") else {
                continue;
            };
            for element in elements.split('}').next().unwrap().split(',') {
                let address = element.split_whitespace().next().unwrap();
                assert!(element.contains("comment \"postern:\""), "{element}");
                assert!(
                    element.contains(" expires "),
                    "it ends by itself: {element}"
                );
                all.insert(opening(door, address));
            }
        }
        all
    }
}

mod in_process {
    use super::*;

    suite!(Tables::by(Drive::InProcess));
}

mod by_command {
    use super::*;

    suite!(Tables::by(Drive::Command));
}

/// The ruleset without what moves by itself.
fn ruleset() -> String {
    run("nft -s -t list ruleset")
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < PATIENCE, "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
