//! `posternctl status`: how posternd fares.

use std::io::{self, Write};
use std::path::Path;

use super::{Problem, ask, count, json_line};
use crate::config::Drive;
use crate::config::units::show_number;
use crate::daemon::control::{Refusals, Request, Response, StatusView};
use crate::daemon::fire::{Stretch, Tally, under_fire};
use crate::exit;
use crate::firewall::Driven;
use crate::knock::spa;

pub fn run(socket: &Path, json: bool, out: &mut impl Write) -> Result<u8, Problem> {
    let Response::Status(status) = ask::ask(socket, &Request::Status, exit::UNAVAILABLE)? else {
        return Err(ask::foreign(socket));
    };
    if json {
        json_line(&status, out)?;
    } else {
        fire(&status, out)?;
        itself(&status, out)?;
        doors(&status, out)?;
        writeln!(out)?;
        figures(&status, out)?;
        details(&status, out)?;
    }
    Ok(exit::OK)
}

/// Before all else: whether there is fire now, or when there was.
fn fire(status: &StatusView, out: &mut impl Write) -> io::Result<()> {
    let Some(fire) = &status.fire else {
        return Ok(());
    };
    if fire.until.is_some() {
        return writeln!(out, "quiet: {fire}");
    }
    let what = under_fire(&status.ten_seconds, status.attempts.held);
    writeln!(out, "under fire since {}: {what}", fire.since)
}

/// The daemon, and what it works with.
fn itself(status: &StatusView, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "version: {}", status.version)?;
    writeln!(out, "running since: {}", status.since)?;
    writeln!(out, "monitor: process {}", status.monitor)?;
    match status.listener {
        Some(pid) => writeln!(out, "listener: process {pid}, user {}", status.user)?,
        None => writeln!(out, "listener: none runs")?,
    }
    if !status.confined_by.is_empty() {
        writeln!(
            out,
            "listener confined by: {}",
            status.confined_by.join(", ")
        )?;
    }
    write!(
        out,
        "listener started again: {}",
        count(status.restarts, "time")
    )?;
    if let Some(last) = &status.last_restart {
        write!(out, ", last at {}: {}", last.at, last.why)?;
    }
    writeln!(out)?;
    writeln!(
        out,
        "configuration: {}, generation {}",
        status.config, status.generation
    )?;
    let driven = status.driven.as_ref().map_or_else(String::new, driven);
    writeln!(out, "firewall: {}{driven}", status.firewall)?;
    for interface in &status.interfaces {
        let how = if interface.listening {
            "listening"
        } else {
            "waited for"
        };
        writeln!(out, "interface {}: {how}", interface.name)?;
    }
    Ok(())
}

fn driven(driven: &Driven) -> String {
    let how = match driven.by {
        Drive::InProcess => ", driven in-process",
        Drive::Command => ", driven by its command",
    };
    let why = driven.why.iter().map(|why| format!(": {why}"));
    why.fold(how.to_owned(), |how, why| how + &why)
}

/// Guards, openings, doors, keys.
fn doors(status: &StatusView, out: &mut impl Write) -> io::Result<()> {
    for guard in &status.guards {
        writeln!(out, "{guard}")?;
    }
    let openings = status.openings;
    write!(out, "openings: {} in force", openings.in_force)?;
    match openings.failed {
        0 => writeln!(out)?,
        n => writeln!(out, ", {n} NOT in force: posternctl list says why")?,
    }
    for door in &status.doors {
        let leases = count(door.leases as u64, "lease");
        let grants = count(door.granted, "grant");
        write!(out, "door {}: {leases}, {grants}", door.name)?;
        for (figure, what) in [
            (door.refused, "refused"),
            (door.gave_way, "gave way"),
            (door.failed as u64, "not in force"),
        ] {
            if figure > 0 {
                write!(out, ", {} {what}", show_number(figure))?;
            }
        }
        writeln!(out)?;
    }
    for key in &status.keys {
        let grants = count(key.granted, "grant");
        let refused = show_number(key.refused);
        match key.refused {
            0 => writeln!(out, "key {}: {grants}", key.name)?,
            _ => writeln!(out, "key {}: {grants}, {refused} refused", key.name)?,
        }
    }
    Ok(())
}

/// What is counted: now, lately, in all.
fn figures(status: &StatusView, out: &mut impl Write) -> io::Result<()> {
    let attempts = status.attempts;
    let spa = status.spa.unwrap_or_default();
    let all = Tally {
        passed: status.packets,
        dropped: status.dropped,
        evicted: attempts.evicted,
        trapped: attempts.trapped,
        failed: attempts.failed,
        timed_out: attempts.timed_out,
        keyless: spa.shapeless.saturating_add(spa.unauthenticated),
        untried: spa.over_budget,
        granted: status.granted,
        refused: status.refused,
        withheld: status.withheld,
    };
    type Figure = fn(&Tally) -> u64;
    let rows: [(&str, Figure); 11] = [
        ("packets that passed the filter", |t| t.passed),
        ("  dropped by the kernel", |t| t.dropped),
        ("attempts evicted", |t| t.evicted),
        ("attempts ended by a trap", |t| t.trapped),
        ("  by a wrong step", |t| t.failed),
        ("  by their time", |t| t.timed_out),
        ("single packets of no key", |t| t.keyless),
        ("  not tried", |t| t.untried),
        ("knocks granted", |t| t.granted),
        ("knocks refused", |t| t.refused),
        ("log lines withheld", |t| t.withheld),
    ];
    let head = ["", "A SECOND", "LAST MINUTE", "IN ALL"].map(str::to_owned);
    let mut table = vec![head];
    for (name, figure) in rows {
        let of_keys = matches!(name, "single packets of no key" | "  not tried");
        if of_keys && status.spa.is_none() {
            continue;
        }
        table.push([
            name.to_owned(),
            a_second(&status.ten_seconds, figure(&status.ten_seconds.tally)),
            show_number(figure(&status.minute.tally)),
            show_number(figure(&all)),
        ]);
    }
    let width = |column: usize| table.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let widths: [usize; 4] = std::array::from_fn(width);
    for [name, now, minute, all] in &table {
        writeln!(
            out,
            "{name:0$}  {now:>1$}  {minute:>2$}  {all:>3$}",
            widths[0], widths[1], widths[2], widths[3]
        )?;
    }
    Ok(())
}

/// To the tenth where there are few.
fn a_second(stretch: &Stretch, figure: u64) -> String {
    let tenths = figure.saturating_mul(10) / stretch.seconds.max(1);
    match tenths {
        0 if figure > 0 => "0.1".to_owned(),
        1..100 if !tenths.is_multiple_of(10) => format!("{}.{}", tenths / 10, tenths % 10),
        _ => show_number(stretch.a_second(figure)),
    }
}

/// What stands behind some of the figures.
fn details(status: &StatusView, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "attempts held: {}", show_number(status.attempts.held))?;
    if let Some(spa) = status.spa {
        let spa::Counters {
            unauthenticated,
            over_budget,
            shapeless,
            stale,
            address,
            ports,
            malformed,
            ..
        } = spa;
        let all = [
            (unauthenticated, "of no key"),
            (over_budget, "beyond what is tried"),
            (shapeless, "of another form"),
            (stale, "late or early"),
            (address, "for other addresses"),
            (ports, "for other ports"),
            (malformed, "malformed"),
        ];
        writeln!(out, "single packets: {}", list(&all))?;
    }
    if status.refused > 0 {
        let Refusals {
            allowance,
            spent,
            late,
            address,
            unwritten,
        } = status.refused_for;
        let mut all = vec![
            (allowance, "beyond an allowance"),
            (spent, "used before"),
            (late, "late or early"),
            (address, "of addresses that cannot be let in"),
            (unwritten, "that could not be written down"),
        ];
        all.retain(|(figure, _)| *figure > 0);
        writeln!(out, "knocks refused: {}", list(&all))?;
    }
    if let Some(at) = &status.withheld_at {
        writeln!(out, "log lines withheld: last at {at}")?;
    }
    Ok(())
}

fn list(all: &[(u64, &str)]) -> String {
    let each = all
        .iter()
        .map(|(n, what)| format!("{} {what}", show_number(*n)));
    each.collect::<Vec<_>>().join(", ")
}
