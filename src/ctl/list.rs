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

fn table(leases: &[LeaseView], out: &mut impl Write) -> std::io::Result<()> {
    let head = [
        "DOOR",
        "ADDRESS",
        "KEY",
        "SINCE",
        "UNTIL",
        "REMAINING",
        "STATE",
    ];
    let head = head.map(str::to_owned);
    let rows: Vec<[String; 7]> = std::iter::once(head)
        .chain(leases.iter().map(|lease| {
            [
                lease.door.clone(),
                lease.address.to_string(),
                lease.key.clone().unwrap_or_else(|| "-".to_owned()),
                lease.since.clone(),
                lease.until.clone(),
                units::show_duration(Duration::from_secs(lease.remaining)),
                state(lease),
            ]
        }))
        .collect();
    let width = |column: usize| rows.iter().map(|r| r[column].len()).max().unwrap_or(0);
    let widths: [usize; 7] = std::array::from_fn(width);
    for [door, address, key, since, until, remaining, state] in &rows {
        let [d, a, k, s, u, r, _] = widths;
        writeln!(
            out,
            "{door:d$}  {address:a$}  {key:k$}  {since:s$}  {until:u$}  {remaining:>r$}  {state}"
        )?;
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
