//! `posternctl list`: who is let in.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use super::{Problem, ask, json_line};
use crate::config::units;
use crate::daemon::control::{LeaseView, Request, Response};
use crate::exit;

pub fn run(socket: &Path, json: bool, out: &mut impl Write) -> Result<u8, Problem> {
    let Response::Leases(leases) = ask::ask(socket, &Request::List, exit::UNAVAILABLE)? else {
        return Err(ask::foreign(socket));
    };
    if json {
        json_line(&leases, out)?;
    } else if leases.is_empty() {
        writeln!(out, "no leases")?;
    } else {
        table(&leases, out)?;
    }
    Ok(exit::OK)
}

/// Keys are a column where any lease goes by one.
fn table(leases: &[LeaseView], out: &mut impl Write) -> std::io::Result<()> {
    let head = ["DOOR", "ADDRESS", "SINCE", "UNTIL", "REMAINING", "STATE"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(leases.iter().map(|lease| {
        vec![
            lease.door.clone(),
            lease.address.to_string(),
            lease.since.clone(),
            lease.until.clone(),
            units::show_duration(Duration::from_secs(lease.remaining)),
            state(lease),
        ]
    }));
    if leases.iter().any(|lease| lease.key.is_some()) {
        let keys = leases.iter().map(|lease| lease.key.as_deref());
        let keys = std::iter::once(Some("KEY")).chain(keys);
        for (row, key) in rows.iter_mut().zip(keys) {
            row.insert(2, key.unwrap_or("-").to_owned());
        }
    }
    let width = |column: usize| rows.iter().map(|r| r[column].len()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..rows[0].len()).map(width).collect();
    for row in &rows {
        let Some((state, rest)) = row.split_last() else {
            continue;
        };
        for (at, (text, &width)) in rest.iter().zip(&widths).enumerate() {
            match at + 1 == rest.len() {
                true => write!(out, "{text:>width$}  ")?,
                false => write!(out, "{text:width$}  ")?,
            }
        }
        writeln!(out, "{state}")?;
    }
    Ok(())
}

fn state(lease: &LeaseView) -> String {
    match (&lease.failure, lease.in_force) {
        (None, true) => "in force".to_owned(),
        (None, false) => "not in force".to_owned(),
        (Some(why), true) => format!("in force, but: {}", one_line(why)),
        (Some(why), false) => format!("not in force: {}", one_line(why)),
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
