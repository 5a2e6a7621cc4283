//! posternctl(8) tells of every field of `posternctl status --json`.

use postern::config::Drive;
use postern::daemon::control::{
    DoorView, FireView, GuardState, GuardView, InterfaceView, KeyView, OpeningsView, Refusals,
    RestartView, StatusView,
};
use postern::daemon::fire::{LOST, PACKETS, Stretch, Tally};
use postern::firewall::Driven;
use postern::knock::{Counters, spa};
use serde_json::Value;

use crate::mdoc::Page;

/// All that can be told.
fn status() -> StatusView {
    let text = String::new;
    StatusView {
        version: text(),
        monitor: 0,
        listener: Some(0),
        user: text(),
        confined_by: Vec::new(),
        since: text(),
        config: text(),
        generation: 0,
        interfaces: vec![InterfaceView {
            name: text(),
            listening: true,
        }],
        firewall: text(),
        driven: Some(Driven {
            by: Drive::Command,
            why: Some(text()),
        }),
        guards: vec![GuardView {
            guard: text(),
            state: GuardState::Trial,
            until: Some(text()),
        }],
        openings: OpeningsView::default(),
        doors: vec![DoorView {
            name: text(),
            leases: 0,
            failed: 0,
            granted: 0,
            refused: 0,
            gave_way: 0,
        }],
        keys: vec![KeyView {
            name: text(),
            granted: 0,
            refused: 0,
        }],
        fire: Some(FireView {
            since: text(),
            until: Some(text()),
            peak: 0,
            tally: Tally::default(),
        }),
        ten_seconds: Stretch::default(),
        minute: Stretch::default(),
        packets: 0,
        dropped: 0,
        attempts: Counters::default(),
        spa: Some(spa::Counters::default()),
        granted: 0,
        refused: 0,
        refused_for: Refusals::default(),
        withheld: 0,
        withheld_at: Some(text()),
        restarts: 0,
        last_restart: Some(RestartView {
            at: text(),
            why: text(),
        }),
    }
}

/// The names in an object, and in those that it holds.
fn names(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                found.push(name.clone());
                names(value, found);
            }
        }
        Value::Array(all) => all.iter().for_each(|value| names(value, found)),
        _ => {}
    }
}

#[test]
fn each_field_of_status_is_told_of() {
    let status = serde_json::to_value(status()).unwrap();
    let section = Page::read("posternctl.8").section("UNDER FIRE");
    let entries = section.entries();
    let (mut heads, mut told) = (Vec::new(), Vec::new());
    for entry in &entries {
        let words = entry
            .head
            .split([' ', ','])
            .map(|w| w.trim_end_matches('*'));
        heads.extend(words.map(str::to_owned));
        let quoted = entry
            .body
            .lines
            .iter()
            .filter_map(|l| l.strip_prefix(".Ql "));
        told.extend(quoted.map(|q| q.trim_end_matches([' ', ',', '.', ';', '*']).to_owned()));
    }
    let mut all = Vec::new();
    names(&status, &mut all);
    assert!(all.len() > 60);
    for name in status.as_object().unwrap().keys() {
        assert!(heads.contains(name), "{name} has no entry");
    }
    for name in all {
        assert!(heads.contains(&name) || told.contains(&name), "{name}");
    }
}

#[test]
fn the_bounds_of_fire_are_told() {
    let said = Page::read("posternctl.8").section("UNDER FIRE").plain();
    for bound in [
        format!("{PACKETS} packets a second passed"),
        format!("{LOST} a second of one kind"),
    ] {
        assert!(said.contains(&bound), "{bound}: {said}");
    }
}
