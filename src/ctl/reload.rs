//! `posternctl reload`: has posternd read its configuration again.

use std::io::Write;
use std::path::Path;

use super::{Problem, ask, json_line};
use crate::daemon::control::{GuardState, Request, Response};
use crate::exit;

pub fn run(socket: &Path, json: bool, out: &mut impl Write) -> Result<u8, Problem> {
    let answer = ask::ask(socket, &Request::Reload, exit::CONFIG);
    let Response::Reloaded { warnings, guards } = answer? else {
        return Err(ask::foreign(socket));
    };
    if json {
        json_line(
            &serde_json::json!({ "warnings": warnings, "guards": guards }),
            out,
        )?;
        return Ok(exit::OK);
    }
    for warning in warnings {
        // Those that concern a place in the file have the word behind it.
        let word = match warning.contains(": warning: ") {
            true => "",
            false => "warning: ",
        };
        writeln!(out, "{word}{warning}")?;
    }
    writeln!(out, "the new configuration is in force")?;
    for guard in guards {
        if guard.state != GuardState::Confirmed {
            writeln!(out, "{guard}")?;
        }
    }
    Ok(exit::OK)
}
