use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use super::super::layout::On;
use super::*;
use crate::config::{Action, Door, Opens, Pass, Port, Protocol, To};

/// An anchor and a name.
type Place = (String, String);

/// What a **double** of /dev/pf has and does. It reads requests by the offsets that were printed
/// on 12.1.
#[derive(Debug, Default)]
struct State {
    /// By anchor and name: flags, and the entries.
    tables: BTreeMap<Place, (u32, BTreeSet<Vec<u8>>)>,
    /// /dev/pf is not there.
    absent: bool,
    refused: Option<Errno>,
    calls: Vec<Call>,
}

#[derive(Clone, Debug, Default)]
struct Double(Arc<Mutex<State>>);

impl Double {
    fn with(tables: &[(&str, &str, u32)]) -> Double {
        let double = Double::default();
        for (anchor, name, flags) in tables {
            let place = ((*anchor).to_owned(), (*name).to_owned());
            double
                .state()
                .tables
                .insert(place, (*flags, BTreeSet::new()));
        }
        double
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn entries(&self, anchor: &str, name: &str) -> Vec<Vec<u8>> {
        let place = (anchor.to_owned(), name.to_owned());
        self.state().tables[&place].1.iter().cloned().collect()
    }
}

fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap();
    String::from_utf8(bytes[..end].to_vec()).unwrap()
}

impl Device for Double {
    fn ready(&mut self) -> Result<(), Refusal> {
        match self.state().absent {
            true => Err(Refusal::Refused("/dev/pf: No such file".to_owned())),
            false => Ok(()),
        }
    }

    fn call(&mut self, request: &mut Request) -> Result<(), Errno> {
        let mut state = self.state();
        state.calls.push(request.call);
        if let Some(errno) = state.refused {
            return Err(errno);
        }
        let anchor = text(&request.head[..1024]);
        let name = text(&request.head[1024..1056]);
        if request.call == Call::Tables {
            let here: Vec<_> = state
                .tables
                .iter()
                .filter(|((a, _), _)| *a == anchor)
                .collect();
            if here.is_empty() {
                return Err(Errno::ENOENT);
            }
            request.head[1076..1080].copy_from_slice(&(here.len() as i32).to_ne_bytes());
            if here.len() * 1064 <= request.items.len() {
                let items = request.items.chunks_exact_mut(1064);
                for (((_, name), (flags, _)), item) in here.into_iter().zip(items) {
                    item[1024..1024 + name.len()].copy_from_slice(name.as_bytes());
                    item[1056..1060].copy_from_slice(&flags.to_ne_bytes());
                }
            }
            return Ok(());
        }
        let (_, entries) = state.tables.get_mut(&(anchor, name)).ok_or(Errno::ESRCH)?;
        for item in request.items.chunks_exact(20) {
            match request.call {
                Call::Add => entries.insert(item.to_vec()),
                _ => entries.remove(item),
            };
        }
        Ok(())
    }
}

const STANDS: u32 = 0x15;

fn door(name: &str, pass: Pass) -> Door {
    let port = Port {
        protocol: Protocol::Tcp,
        number: 22,
    };
    Door {
        name: name.to_owned(),
        action: Action::Open(Opens {
            guard: None,
            ports: vec![port],
            open_for: std::time::Duration::from_secs(30),
            pass,
            to: To::Me,
            connections: None,
            kill_states: false,
        }),
        on: Vec::new(),
        idle: None,
        prefix6: 128,
        knocks: Vec::new(),
        max_leases: 1024,
    }
}

fn layout() -> Layout {
    let doors = [
        door("ssh", Pass::Ours { rule: None }),
        door("web", Pass::Table("friends".to_owned())),
    ];
    Layout::new(&doors, &On::new(&[]).unwrap(), &[]).unwrap()
}

fn driven(double: &Double) -> InProcess {
    let mut in_process = InProcess::with(Box::new(double.clone()));
    in_process.drive(Drive::InProcess);
    in_process
}

fn by(in_process: &InProcess) -> (Drive, Option<String>) {
    let Driven { by, why } = in_process.driven();
    (by, why)
}

fn ip(text: &str) -> Network {
    text.parse().unwrap()
}

#[test]
fn networks_enter_and_leave() {
    let double = Double::with(&[("postern", "door_ssh", STANDS), ("", "friends", STANDS)]);
    let mut in_process = driven(&double);
    let layout = layout();
    let [ssh, web] = [0, 1].map(|door| layout.gate(door).unwrap());
    assert!(in_process.stands(&layout));
    let all = ["192.0.2.1", "2001:db8:0:1::/64"].map(ip);
    assert!(in_process.carry_out(ssh, &all, &[]));
    assert_eq!(double.entries("postern", "door_ssh").len(), 2);
    assert!(in_process.carry_out(ssh, &[], &all[..1]));
    assert_eq!(double.entries("postern", "door_ssh").len(), 1);
    assert!(in_process.carry_out(web, &all[..1], &[]));
    assert_eq!(double.entries("", "friends").len(), 1);
    assert!(in_process.carry_out(web, &[], &[]));
    let calls = [Call::Tables, Call::Add, Call::Delete, Call::Add];
    assert_eq!(double.state().calls, calls, "nothing is asked for nothing");
    assert_eq!(by(&in_process), (Drive::InProcess, None));
}

#[test]
fn what_is_amiss_is_for_the_command_to_see() {
    let layout = layout();
    for tables in [
        &[][..],
        &[("", "friends", STANDS)],
        &[("postern", "door_other", STANDS)],
        // No rule names it: flushed.
        &[("postern", "door_ssh", 0x05)],
    ] {
        let mut in_process = driven(&Double::with(tables));
        assert!(!in_process.stands(&layout), "{tables:?}");
        assert_eq!(by(&in_process), (Drive::InProcess, None));
    }
    let mut in_process = driven(&Double::default());
    assert!(!in_process.carry_out(layout.gate(1).unwrap(), &[ip("192.0.2.1")], &[]));
    assert_eq!(
        by(&in_process),
        (Drive::InProcess, None),
        "a table gone is no refusal"
    );
}

#[test]
fn an_anchor_of_many_tables() {
    let names: Vec<String> = (0..40).map(|number| format!("a{number}")).collect();
    let mut tables: Vec<_> = names
        .iter()
        .map(|name| ("postern", name.as_str(), 0))
        .collect();
    tables.push(("postern", "door_ssh", STANDS));
    let double = Double::with(&tables);
    assert!(driven(&double).stands(&layout()));
    assert_eq!(double.state().calls, [Call::Tables; 2]);
}

#[test]
fn a_kernel_that_refuses_is_tried_again() {
    let double = Double::with(&[("postern", "door_ssh", STANDS)]);
    let (mut in_process, layout) = (driven(&double), layout());
    let ssh = layout.gate(0).unwrap();
    double.state().refused = Some(Errno::EPERM);
    assert!(!in_process.carry_out(ssh, &[ip("192.0.2.1")], &[]));
    let why = "pf in the kernel: Operation not permitted".to_owned();
    assert_eq!(by(&in_process), (Drive::Command, Some(why)));
    double.state().refused = None;
    assert!(in_process.carry_out(ssh, &[ip("192.0.2.1")], &[]));
    assert_eq!(by(&in_process), (Drive::InProcess, None));
}

#[test]
fn structures_of_another_size_are_not_tried_again() {
    let double = Double::with(&[("postern", "door_ssh", STANDS)]);
    let (mut in_process, layout) = (driven(&double), layout());
    let ssh = layout.gate(0).unwrap();
    double.state().refused = Some(Errno::ENODEV);
    assert!(!in_process.stands(&layout));
    double.state().calls.clear();
    assert!(!in_process.carry_out(ssh, &[ip("192.0.2.1")], &[]));
    assert_eq!(double.state().calls, []);
    assert_eq!(by(&in_process).0, Drive::Command);
}

#[test]
fn without_the_device_the_command_is_in_charge_until_it_is_there() {
    let double = Double::with(&[("postern", "door_ssh", STANDS)]);
    double.state().absent = true;
    let mut in_process = driven(&double);
    let why = "/dev/pf: No such file".to_owned();
    assert_eq!(by(&in_process), (Drive::Command, Some(why)));
    double.state().absent = false;
    in_process.look();
    assert_eq!(by(&in_process), (Drive::InProcess, None));
}

#[cfg(not(target_os = "freebsd"))]
#[test]
fn elsewhere_the_command_stays_in_charge() {
    let mut in_process = InProcess::new();
    in_process.drive(Drive::InProcess);
    assert!(!in_process.stands(&layout()));
    let why = "only FreeBSD's kernel takes pf's calls".to_owned();
    assert_eq!(by(&in_process), (Drive::Command, Some(why)));
}
