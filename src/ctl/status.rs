//! `posternctl status`: how posternd fares.

use std::io::Write;
use std::path::Path;

use super::{Problem, ask, count, json_line};
use crate::daemon::control::{Request, Response, StatusView};
use crate::exit;

pub fn run(socket: &Path, json: bool, out: &mut impl Write) -> Result<u8, Problem> {
    let Response::Status(status) = ask::ask(socket, &Request::Status, exit::UNAVAILABLE)? else {
        return Err(ask::foreign(socket));
    };
    if json {
        json_line(&status, out)?;
    } else {
        lines(&status, out)?;
    }
    Ok(exit::OK)
}

fn lines(status: &StatusView, out: &mut impl Write) -> std::io::Result<()> {
    let StatusView {
        version,
        monitor,
        listener,
        user,
        confined_by,
        since,
        config,
        generation,
        interfaces,
        firewall,
        guards,
        doors,
        packets,
        dropped,
        attempts,
        spa,
        refused,
        withheld,
        restarts,
    } = status;
    writeln!(out, "version: {version}")?;
    writeln!(out, "running since: {since}")?;
    writeln!(out, "monitor: process {monitor}")?;
    match listener {
        Some(pid) => writeln!(out, "listener: process {pid}, user {user}")?,
        None => writeln!(out, "listener: none runs")?,
    }
    if !confined_by.is_empty() {
        writeln!(out, "listener confined by: {}", confined_by.join(", "))?;
    }
    writeln!(out, "listener started again: {}", count(*restarts, "time"))?;
    writeln!(out, "configuration: {config}, generation {generation}")?;
    writeln!(out, "firewall: {firewall}")?;
    for interface in interfaces {
        let how = if interface.listening {
            "listening"
        } else {
            "waited for"
        };
        writeln!(out, "interface {}: {how}", interface.name)?;
    }
    for guard in guards {
        writeln!(out, "{guard}")?;
    }
    for door in doors {
        let leases = count(door.leases as u64, "lease");
        let grants = count(door.granted, "grant");
        writeln!(out, "door {}: {leases}, {grants}", door.name)?;
    }
    writeln!(out, "packets: {packets}, dropped by the kernel: {dropped}")?;
    writeln!(
        out,
        "attempts: {} held, {} evicted, {} failed, {} of them by traps, {} timed out",
        attempts.held,
        attempts.evicted,
        attempts.failed + attempts.trapped,
        attempts.trapped,
        attempts.timed_out
    )?;
    writeln!(out, "sequences completed: {}", attempts.granted)?;
    if let Some(spa) = spa {
        writeln!(
            out,
            "single packets: {} of no key, {} beyond what is tried, {} of another form, {} late or \
             early, {} for other addresses, {} for other ports, {} malformed",
            spa.unauthenticated,
            spa.over_budget,
            spa.shapeless,
            spa.stale,
            spa.address,
            spa.ports,
            spa.malformed
        )?;
    }
    writeln!(out, "grants refused: {refused}")?;
    writeln!(out, "log lines withheld: {withheld}")
}
