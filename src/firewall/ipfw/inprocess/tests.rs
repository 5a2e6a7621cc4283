use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::super::super::sessions::Session;
use super::super::batch::Name;
use super::super::layout::Rule;
use super::*;
use crate::config::Network;

mod orders;

/// A table's type, flags, value mask, and entries by prefix and key.
type Held = (u8, u8, u32, BTreeMap<Vec<u8>, u32>);
/// What is done to a double.
type Spoil = fn(&mut State);

/// What a **double** of ipfw in the kernel has and does. It reads requests by the offsets that
/// were printed on 12.1, not by those of the code under test.
#[derive(Debug)]
struct State {
    release: Option<u32>,
    format: Option<Format>,
    /// By name.
    tables: BTreeMap<String, Held>,
    /// Number, set, and the kernel's number of it.
    rules: Vec<(u32, u8, u32)>,
    /// Refuses requests of this opcode.
    refused: Option<(u16, Errno)>,
    /// Says so of entries.
    result: Option<u8>,
    /// Opcode and version of each request.
    asked: Vec<(u16, u16)>,
}

#[derive(Clone, Debug)]
struct Double(Arc<Mutex<State>>);

impl Double {
    fn new(format: Option<Format>, release: u32) -> Double {
        let table = |kind, flags| (kind, flags, u32::MAX, BTreeMap::new());
        Double(Arc::new(Mutex::new(State {
            release: Some(release),
            format,
            tables: BTreeMap::from([
                ("postern_ssh".to_owned(), table(1, 0)),
                ("postern_running".to_owned(), table(4, 0x1f)),
                ("theirs".to_owned(), table(1, 0)),
            ]),
            rules: vec![(101, 31, 1), (2002, 31, 2), (65535, 31, 0)],
            refused: None,
            result: None,
            asked: Vec::new(),
        })))
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn asked(&self) -> Vec<(u16, u16)> {
        std::mem::take(&mut self.state().asked)
    }

    /// The values of a table's entries.
    fn values(&self, table: &str) -> Vec<u32> {
        self.state().tables[table].3.values().copied().collect()
    }
}

fn number(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap())
}

impl Kernel for Double {
    fn ready(&mut self) -> Result<(), Refusal> {
        Ok(())
    }

    fn release(&self) -> Option<u32> {
        self.state().release
    }

    fn ask(&mut self, request: &mut [u8]) -> Result<usize, Errno> {
        let mut state = self.state();
        let opcode = u16::from_ne_bytes([request[0], request[1]]);
        let version = u16::from_ne_bytes([request[2], request[3]]);
        state.asked.push((opcode, version));
        if let Some((refused, errno)) = state.refused
            && refused == opcode
        {
            return Err(errno);
        }
        let wide = match (state.format, opcode, version) {
            (Some(format), 86 | 87, 1) => format == Format::Wide,
            (Some(Format::Narrow), 93 | 97, 0) => false,
            (Some(Format::Wide), 93 | 97, 1) => true,
            _ => return Err(Errno::EINVAL),
        };
        if opcode == 97 {
            let rules = state.rules.clone();
            return list(request, &rules);
        }
        let name = request[32..96].split(|byte| *byte == 0).next().unwrap();
        let name = String::from_utf8(name.to_vec()).unwrap();
        let kind = request[if wide { 29 } else { 27 }];
        let result = state.result;
        let Some((held, flags, mask, entries)) = state.tables.get_mut(&name) else {
            return Err(Errno::ESRCH);
        };
        if opcode == 93 {
            (request[96], request[97]) = (*held, *flags);
            request[108..112].copy_from_slice(&mask.to_ne_bytes());
            return Ok(request.len());
        }
        assert_eq!(
            number(request, 100) as usize,
            request.len() - 96,
            "length of the list"
        );
        assert_eq!(
            number(request, 104) as usize,
            (request.len() - 112) / 120,
            "count"
        );
        if kind != *held {
            return Err(Errno::EINVAL);
        }
        let mut missing = false;
        for entry in request[112..].chunks_exact_mut(120) {
            let key = [&entry[9..10], &entry[16..56]].concat();
            let there = entries.contains_key(&key);
            entry[10] = match (opcode, there) {
                _ if result.is_some() => result.unwrap_or_default(),
                (86, false) => 1,
                (86, true) => 2,
                (_, true) => 3,
                (_, false) => 5,
            };
            missing |= entry[10] == 5;
            match opcode {
                86 => drop(entries.insert(key, number(entry, 56))),
                _ => drop(entries.remove(&key)),
            }
        }
        match missing {
            true => Err(Errno::ENOENT),
            false => Ok(request.len()),
        }
    }
}

fn list(request: &mut [u8], rules: &[(u32, u8, u32)]) -> Result<usize, Errno> {
    let (first, last) = (number(request, 24), number(request, 28));
    let mut answer = Vec::new();
    for (place, set, id) in rules.iter().filter(|(n, ..)| (first..=last).contains(n)) {
        answer.extend(7_u16.to_ne_bytes());
        answer.extend([0; 2]);
        answer.extend(32_u32.to_ne_bytes());
        answer.extend([0, 0, 0, 0, 0, 0, *set, 0]);
        answer.extend(place.to_ne_bytes());
        answer.extend(id.to_ne_bytes());
        answer.extend([0xcd; 8]);
    }
    let length = 32 + 16 + answer.len();
    request[20..24].copy_from_slice(&(length as u32).to_ne_bytes());
    if request.len() < length {
        return Err(Errno::ENOMEM);
    }
    request[32..34].copy_from_slice(&3_u16.to_ne_bytes());
    request[36..40].copy_from_slice(&(length as u32 - 32).to_ne_bytes());
    request[48..length].copy_from_slice(&answer);
    Ok(length)
}

fn layout() -> Layout {
    let rule = |number| Rule {
        number,
        text: String::new(),
    };
    Layout {
        rules: vec![rule(101), rule(2002)],
        ..Layout::default()
    }
}

fn ip(text: &str) -> Network {
    text.parse().unwrap()
}

fn ssh() -> Table {
    Table::ours("ssh").unwrap()
}

fn entering(values: &[(&str, u32)]) -> Batch {
    let mut batch = Batch::default();
    batch.list_rules();
    for (address, value) in values {
        batch.enter(&ssh(), ip(address), *value);
    }
    batch
}

/// On a kernel where all is right, and seen to be.
fn driven(double: &Double) -> InProcess {
    let mut in_process = InProcess::with(Box::new(double.clone()));
    in_process.drive(Drive::InProcess);
    let before = in_process.image(&layout());
    in_process.right(before, &layout());
    double.asked();
    in_process
}

fn by(in_process: &InProcess) -> (Drive, Option<String>) {
    let Driven { by, why } = in_process.driven();
    (by, why)
}

#[test]
fn it_stays_with_the_command_until_told() {
    let double = Double::new(Some(Format::Narrow), 1_201_000);
    let mut in_process = InProcess::with(Box::new(double.clone()));
    assert!(!in_process.carry_out(&layout(), &entering(&[("192.0.2.1", 5)])));
    assert_eq!(in_process.image(&layout()), None);
    assert_eq!(by(&in_process), (Drive::Command, None));
    assert_eq!(double.asked(), []);
}

#[cfg(not(target_os = "freebsd"))]
#[test]
fn elsewhere_the_command_stays_in_charge() {
    let mut in_process = InProcess::new();
    in_process.drive(Drive::InProcess);
    assert!(!in_process.carry_out(&layout(), &entering(&[("192.0.2.1", 5)])));
    let why = "only FreeBSD's kernel takes ipfw's calls".to_owned();
    assert_eq!(by(&in_process), (Drive::Command, Some(why)));
}

#[test]
fn entries_are_made_moved_and_taken_out() {
    for (format, release) in [(Format::Narrow, 1_201_000), (Format::Wide, 1_500_068)] {
        let double = Double::new(Some(format), release);
        let mut in_process = driven(&double);
        let batch = entering(&[("192.0.2.1", 5), ("2001:db8:0:1::/64", 5), ("192.0.2.2", 9)]);
        assert!(in_process.carry_out(&layout(), &batch));
        assert_eq!(double.values("postern_ssh"), [5, 9, 5]);
        assert!(in_process.carry_out(&layout(), &entering(&[("192.0.2.2", 11)])));
        assert_eq!(double.values("postern_ssh"), [5, 11, 5]);

        let mut batch = Batch::default();
        let session = Session {
            local: "192.0.2.100:22".parse().unwrap(),
            remote: "192.0.2.1:50000".parse().unwrap(),
        };
        batch.admit(&Table::running(), &session);
        batch.leave(&ssh(), ip("192.0.2.1"));
        batch.leave(&ssh(), ip("192.0.2.200"));
        double.asked();
        assert!(in_process.carry_out(&layout(), &batch), "one was not there");
        assert_eq!(double.values("postern_ssh"), [11, 5]);
        assert_eq!(double.values("postern_running"), [0]);
        let version = u16::from(format == Format::Wide);
        let asked = [
            (97, version),
            (93, version),
            (93, version),
            (86, 1),
            (87, 1),
        ];
        assert_eq!(double.asked(), asked);
        assert_eq!(by(&in_process), (Drive::InProcess, None));
    }
}

#[test]
fn the_layout_is_what_the_kernel_answers_in() {
    // What a jail says of its release need not be true.
    for (format, release, tried) in [
        (Format::Narrow, 1_201_000, &[0, 0][..]),
        (Format::Wide, 1_500_068, &[1, 1]),
        (Format::Wide, 1_400_097, &[0, 1, 1]),
        (Format::Narrow, 1_500_000, &[1, 0, 0]),
    ] {
        let double = Double::new(Some(format), release);
        let mut in_process = InProcess::with(Box::new(double.clone()));
        in_process.drive(Drive::InProcess);
        assert!(in_process.image(&layout()).is_some());
        let versions: Vec<u16> = double.asked().iter().map(|(_, version)| *version).collect();
        assert_eq!(versions, tried, "{format:?} {release}");
    }
}

#[test]
fn a_layout_that_is_not_known_is_the_commands() {
    let double = Double::new(None, 1_900_000);
    let mut in_process = InProcess::with(Box::new(double.clone()));
    in_process.drive(Drive::InProcess);
    assert_eq!(in_process.image(&layout()), None);
    let why = "this kernel's layout of ipfw's calls is not known".to_owned();
    assert_eq!(by(&in_process), (Drive::Command, Some(why)));
    double.asked();
    assert!(!in_process.carry_out(&layout(), &entering(&[("192.0.2.1", 5)])));
    assert_eq!(double.asked(), [], "it is not asked again");
    double.state().format = Some(Format::Wide);
    in_process.drive(Drive::InProcess);
    assert!(in_process.image(&layout()).is_some(), "but after a reload");
}

#[test]
fn a_kernel_that_refuses_is_tried_again() {
    for (errno, words) in [
        (Errno::ENOPROTOOPT, "ipfw is not loaded"),
        (Errno::EPERM, "ipfw in the kernel: Operation not permitted"),
        (Errno::EINVAL, "ipfw in the kernel: Invalid argument"),
    ] {
        let double = Double::new(Some(Format::Narrow), 1_201_000);
        let mut in_process = driven(&double);
        let batch = entering(&[("192.0.2.1", 5)]);
        double.state().refused = Some((86, errno));
        assert!(!in_process.carry_out(&layout(), &batch));
        assert_eq!(by(&in_process), (Drive::Command, Some(words.to_owned())));
        assert!(in_process.image(&layout()).is_some());
        assert_eq!(by(&in_process).0, Drive::Command, "so the last went");
        double.state().refused = None;
        assert!(in_process.carry_out(&layout(), &batch));
        assert_eq!(by(&in_process), (Drive::InProcess, None));
    }
}

#[test]
fn it_is_known_before_the_first_order_that_the_kernel_refuses() {
    let double = Double::new(Some(Format::Narrow), 1_201_000);
    double.state().refused = Some((93, Errno::ENOPROTOOPT));
    let mut in_process = driven(&double);
    let why = Some("ipfw is not loaded".to_owned());
    assert_eq!(by(&in_process), (Drive::Command, why));
    double.state().refused = None;
    assert!(in_process.image(&layout()).is_some());
    assert_eq!(by(&in_process), (Drive::InProcess, None));
}

#[test]
fn what_is_amiss_is_the_commands_and_no_refusal() {
    let spoil: [(&str, Spoil); 7] = [
        ("a rule gone", |state| state.rules.truncate(1)),
        ("a rule made anew", |state| state.rules[1].2 = 77),
        ("a table gone", |state| {
            drop(state.tables.remove("postern_ssh"))
        }),
        ("a table locked", |state| {
            state.refused = Some((86, Errno::EACCES))
        }),
        ("a table full", |state| {
            state.refused = Some((86, Errno::EFBIG))
        }),
        ("an entry ignored", |state| state.result = Some(0)),
        ("an entry in error", |state| state.result = Some(7)),
    ];
    for (what, spoil) in spoil {
        let double = Double::new(Some(Format::Narrow), 1_201_000);
        let mut in_process = driven(&double);
        spoil(&mut double.state());
        assert!(
            !in_process.carry_out(&layout(), &entering(&[("192.0.2.1", 5)])),
            "{what}"
        );
        assert_eq!(by(&in_process), (Drive::InProcess, None), "{what}");
    }
}

#[test]
fn somebody_elses_rules_make_no_difference() {
    let double = Double::new(Some(Format::Narrow), 1_201_000);
    let mut in_process = driven(&double);
    let rules = (102..400).map(|number| (number, 0, 1000 + number));
    double.state().rules.splice(1..1, rules);
    assert!(in_process.carry_out(&layout(), &entering(&[("192.0.2.1", 5)])));
    let asked = double.asked();
    assert_eq!(
        asked[..3],
        [(97, 0), (97, 0), (93, 0)],
        "once more with more room"
    );
}

#[test]
fn rules_are_right_only_if_they_stayed_as_they_were() {
    let double = Double::new(Some(Format::Narrow), 1_201_000);
    let mut in_process = driven(&double);
    let before = in_process.image(&layout());
    double.state().rules[0].2 = 50;
    in_process.right(before, &layout());
    assert!(!in_process.carry_out(&layout(), &entering(&[("192.0.2.1", 5)])));
    let before = in_process.image(&layout());
    in_process.right(before, &layout());
    assert!(in_process.carry_out(&layout(), &entering(&[("192.0.2.1", 5)])));
    in_process.right(None, &layout());
    assert!(!in_process.carry_out(&layout(), &entering(&[("192.0.2.1", 5)])));
}

#[test]
fn tables_of_another_kind_are_the_commands() {
    let double = Double::new(Some(Format::Narrow), 1_201_000);
    let mut in_process = driven(&double);
    let mut batch = Batch::default();
    let theirs = Table::Theirs(Name::new("theirs").unwrap());
    batch.enter(&theirs, ip("192.0.2.1"), 5);
    assert!(in_process.carry_out(&layout(), &batch));
    // valtype fib
    double.state().tables.get_mut("theirs").unwrap().2 = 4;
    assert!(!in_process.carry_out(&layout(), &batch));
    let why = "table theirs holds keys or values of another kind".to_owned();
    assert_eq!(by(&in_process), (Drive::Command, Some(why)));
}

#[test]
fn rules_are_the_commands() {
    let double = Double::new(Some(Format::Narrow), 1_201_000);
    let mut in_process = driven(&double);
    let mut batch = entering(&[("192.0.2.1", 5)]);
    batch.delete(101);
    assert!(!in_process.carry_out(&layout(), &batch));
    assert_eq!(double.asked(), []);
}

#[test]
fn where_there_are_no_rules_of_ours_none_is_looked_for() {
    let double = Double::new(Some(Format::Narrow), 1_201_000);
    let mut in_process = driven(&double);
    let none = Layout::default();
    let before = in_process.image(&none);
    in_process.right(before, &none);
    assert!(in_process.carry_out(&none, &entering(&[("192.0.2.1", 5)])));
    assert_eq!(double.asked(), [(93, 0), (86, 1)]);
}
