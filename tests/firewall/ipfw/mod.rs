//! ipfw: a double of its command, with what stands in the place of the kernel's rules and tables.
//! Needs root, for network namespaces.

mod commands;
mod double;
mod failures;
mod idle;
mod networks;
mod repairs;
mod sessions;
mod strangers;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use postern::config::{Door, Pass};
use postern::firewall::ipfw::Ipfw;
use postern::firewall::{Failure, Firewall, Opening, Order, Upkeep};

use crate::doors::{
    close, extend, idle, left, numbered, open, opening, opens_of, prefix6, tcp, udp,
};
use crate::suite::{Subject, carry_out, still, suite};

use double::Double;

/// How doors let addresses in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    Table,
    Rules,
}

struct Rules {
    firewall: Ipfw,
    double: Double,
    by: By,
    since: Instant,
}

impl Rules {
    fn new(by: By) -> Rules {
        Rules::at(Double::new(), by)
    }

    /// With this double.
    fn at(double: Double, by: By) -> Rules {
        Rules {
            firewall: fresh(&double),
            double,
            by,
            since: Instant::now(),
        }
    }

    /// The same with doors established.
    fn with(doors: &[Door]) -> Rules {
        let mut rules = Rules::new(By::Table);
        assert_eq!(rules.firewall.establish(doors, &[]), Ok(Upkeep::default()));
        rules
    }

    /// Carries out orders, all of which must succeed.
    #[track_caller]
    fn obey(&mut self, orders: &[Order]) {
        for done in carry_out(&mut self.firewall, orders) {
            assert_eq!(done.result, Ok(()), "{:?}", done.order);
        }
    }

    /// Upholds the first door's openings, all of which end 600 seconds after the beginning.
    fn uphold(&mut self, who: &[&str]) -> Result<Upkeep, Failure> {
        let openings: Vec<_> = who.iter().map(|who| still(0, who, self.since)).collect();
        self.firewall.uphold(&openings)
    }

    /// Carries out one order that must fail.
    #[track_caller]
    fn fails(&mut self, order: Order) -> Failure {
        let done = carry_out(&mut self.firewall, &[order]).remove(0);
        done.result.unwrap_err()
    }
}

fn fresh(double: &Double) -> Ipfw {
    Ipfw::with_path(&["xl0".to_owned()], &[], double.path()).unwrap()
}

/// `ssh` and `sftp` at one port.
fn doors(by: By) -> Vec<Door> {
    let mut doors = vec![
        numbered("ssh", &[tcp(22)], 101, Some(2002)),
        numbered("sftp", &[tcp(22)], 1101, Some(2002)),
    ];
    if by == By::Rules {
        opens_of(&mut doors[0]).pass = Pass::Rules(101..=1100);
        opens_of(&mut doors[1]).pass = Pass::Rules(1101..=2001);
    }
    doors
}

impl Subject for Rules {
    fn firewall(&mut self) -> &mut dyn Firewall {
        &mut self.firewall
    }

    fn doors(&self) -> Vec<Door> {
        doors(self.by)
    }

    fn crash(&mut self) {
        self.firewall = fresh(&self.double);
    }

    fn let_in(&mut self) -> BTreeSet<Opening> {
        let mut all = BTreeSet::new();
        for (place, name) in [(0, "ssh"), (1, "sftp")] {
            if self.by == By::Table {
                let there = format!("table(postern_{name})");
                if !self.double.tables().concat().contains(&there) {
                    continue;
                }
                for line in self.double.table(name) {
                    let (address, end) = line.split_once(' ').unwrap();
                    assert!(end.parse::<u64>().unwrap() > 1_700_000_000, "{line}");
                    let address = address.split('/').next().unwrap();
                    assert!(all.insert(opening(place, address)), "{line}");
                }
            }
        }
        for line in self.double.rules().lines().filter(|_| self.by == By::Rules) {
            let Some((rule, _)) = line.split_once(" until ") else {
                continue;
            };
            let words: Vec<&str> = rule.split(' ').collect();
            let place = u16::from(words.last() == Some(&"postern:sftp"));
            assert_eq!(words[1..4], ["allow", "tcp", "from"], "{line}");
            assert!(all.insert(opening(place, words[4])), "{line}");
        }
        all
    }
}

mod by_table {
    use super::*;
    suite!(Rules::new(By::Table));
}

mod by_rules {
    use super::*;
    suite!(Rules::new(By::Rules));
}
