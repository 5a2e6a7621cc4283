//! Orders, by the kernel's double and by a double of the command.

use std::fs;
use std::os::unix::fs::symlink;
use std::time::Duration;

use tempfile::TempDir;

use super::super::super::super::{Failure, Firewall, Opening, Order, What};
use super::super::super::Ipfw;
use super::super::super::tests::{door, opens};
use super::*;
use crate::config::{Door, Pass};

/// A **double** of ipfw(8).
const IPFW: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doubles/ipfw-rules.sh");

struct Machine {
    ipfw: Ipfw,
    kernel: Double,
    dir: TempDir,
}

fn machine(doors: &[Door]) -> Machine {
    let dir = TempDir::new().unwrap();
    symlink(IPFW, dir.path().join("ipfw")).unwrap();
    fs::write(dir.path().join("rules"), "").unwrap();
    let path = dir.path().to_str().unwrap();
    let mut ipfw = Ipfw::with_path(&["xl0".to_owned()], &[], path).unwrap();
    let kernel = Double::new(Some(Format::Narrow), 1_201_000);
    ipfw.in_process = InProcess::with(Box::new(kernel.clone()));
    ipfw.drive(Drive::InProcess);
    ipfw.establish(doors, &[]).unwrap();
    let machine = Machine { ipfw, kernel, dir };
    machine.batches();
    machine
}

impl Machine {
    /// What the command was given since the last time.
    fn batches(&self) -> String {
        let log = self.dir.path().join("log");
        let batches = fs::read_to_string(&log).unwrap_or_default();
        fs::write(log, "").unwrap();
        batches
    }

    fn orders(&mut self, orders: &[(u16, &str, What)]) -> Vec<Result<(), Failure>> {
        let order = |(door, address, what): &(u16, &str, What)| Order {
            opening: Opening {
                door: *door,
                address: ip(address),
            },
            what: *what,
        };
        let orders: Vec<Order> = orders.iter().map(order).collect();
        self.ipfw.apply(&orders);
        let done = self.ipfw.done().into_iter();
        done.map(|done| done.result).collect()
    }

    fn driven(&self) -> (Drive, Option<String>) {
        let Driven { by, why } = self.ipfw.driven().unwrap();
        (by, why)
    }
}

const OPEN: What = What::Open {
    remaining: Some(Duration::from_secs(600)),
};
const EXTEND: What = What::Extend {
    remaining: Duration::from_secs(900),
};

fn ssh_door() -> Door {
    door("ssh", &[22], 101, None)
}

#[test]
fn orders_are_carried_out_without_the_command() {
    let mut machine = machine(&[ssh_door()]);
    let opened = machine.orders(&[(0, "192.0.2.1", OPEN), (0, "2001:db8::1", OPEN)]);
    assert_eq!(opened, [Ok(()), Ok(())]);
    let first = machine.kernel.values("postern_ssh");
    assert_eq!(first.len(), 2);
    assert!(first.iter().all(|end| *end > 1_700_000_000));
    assert_eq!(machine.orders(&[(0, "192.0.2.1", EXTEND)]), [Ok(())]);
    let ends = machine.kernel.values("postern_ssh");
    assert!(ends.len() == 2 && ends.iter().max() > first.iter().max());
    assert_eq!(machine.orders(&[(0, "192.0.2.1", What::Close)]), [Ok(())]);
    assert_eq!(machine.kernel.values("postern_ssh").len(), 1);
    assert_eq!(machine.batches(), "");
    assert_eq!(machine.driven(), (Drive::InProcess, None));
}

#[test]
fn the_command_does_all_of_it_where_the_kernel_refuses() {
    let mut machine = machine(&[ssh_door()]);
    machine.kernel.state().refused = Some((86, Errno::EPERM));
    assert_eq!(machine.orders(&[(0, "192.0.2.1", OPEN)]), [Ok(())]);
    assert!(
        machine
            .batches()
            .contains("\nset 31 table postern_ssh add 192.0.2.1 ")
    );
    let why = "ipfw in the kernel: Operation not permitted".to_owned();
    assert_eq!(machine.driven(), (Drive::Command, Some(why)));
    machine.kernel.state().refused = None;
    assert_eq!(machine.orders(&[(0, "192.0.2.1", EXTEND)]), [Ok(())]);
    assert_eq!(machine.batches(), "");
    assert_eq!(machine.driven(), (Drive::InProcess, None));
}

#[test]
fn rules_that_are_gone_are_made_anew_first() {
    let mut machine = machine(&[ssh_door()]);
    fs::write(machine.dir.path().join("rules"), "").unwrap();
    machine.kernel.state().rules.remove(0);
    // The double's rules come back with another number of the kernel's.
    assert_eq!(machine.orders(&[(0, "192.0.2.1", OPEN)]), [Ok(())]);
    let batches = machine.batches();
    assert!(
        batches.contains("add 00101 set 31 allow tcp from table(postern_ssh)"),
        "{batches}"
    );
    machine.kernel.state().rules.push((101, 31, 90));
    assert_eq!(machine.orders(&[(0, "192.0.2.2", OPEN)]), [Ok(())]);
    assert_ne!(machine.batches(), "", "they may be somebody's");
    assert_eq!(machine.orders(&[(0, "192.0.2.3", OPEN)]), [Ok(())]);
    assert_eq!(machine.batches(), "", "they were seen to be right");
}

#[test]
fn doors_with_rules_of_their_own_are_the_commands() {
    let mut numbered = door("numbered", &[80], 0, None);
    opens(&mut numbered).pass = Pass::Rules(200..=210);
    let mut machine = machine(&[ssh_door(), numbered.clone()]);
    let why = Some("rules are left to ipfw(8): numbered".to_owned());
    assert_eq!(machine.driven(), (Drive::InProcess, why.clone()));
    let opened = machine.orders(&[(0, "192.0.2.1", OPEN), (1, "192.0.2.1", OPEN)]);
    assert_eq!(opened, [Ok(()), Ok(())]);
    assert_eq!(machine.kernel.values("postern_ssh").len(), 1);
    let batches = machine.batches();
    assert!(
        batches.contains("add 00200 set 31 allow tcp from 192.0.2.1 "),
        "{batches}"
    );
    assert!(!batches.contains("postern_ssh add"), "{batches}");
    machine.ipfw.establish(&[numbered], &[]).unwrap();
    assert_eq!(machine.driven(), (Drive::Command, why));
}
