//! `posternctl confirm`: guards on trial stand for good, and those withdrawn again.

use std::io::Write;
use std::path::Path;

use super::offline::{self, State};
use super::{Problem, ask, json_line};
use crate::daemon::control::{Request, Response};
use crate::exit;

pub fn run(config: &Path, socket: &Path, json: bool, out: &mut impl Write) -> Result<u8, Problem> {
    let answer = ask::ask_if_it_runs(socket, &Request::Confirm, exit::UNAVAILABLE)?;
    let offline = answer.is_none();
    let confirmed = match answer {
        None => in_the_file(config)?,
        Some(Response::Confirmed(confirmed)) => confirmed,
        Some(_) => return Err(ask::foreign(socket)),
    };
    if json {
        json_line(&serde_json::json!({ "confirmed": confirmed }), out)?;
        return Ok(exit::OK);
    }
    for guard in &confirmed {
        writeln!(out, "guard {guard}: confirmed")?;
    }
    if confirmed.is_empty() {
        writeln!(out, "no guard was on trial or withdrawn")?;
    } else if offline {
        writeln!(
            out,
            "posternd does not run: they stand when it runs next, if they do not stand already"
        )?;
    }
    Ok(exit::OK)
}

fn in_the_file(config: &Path) -> Result<Vec<String>, Problem> {
    offline::root()?;
    let Some(state) = State::take(&offline::directory(config))? else {
        return Ok(Vec::new());
    };
    let mut trials = state.trials();
    let confirmed = trials.confirm();
    if !confirmed.is_empty() {
        state.write(&trials)?;
    }
    Ok(confirmed.iter().map(ToString::to_string).collect())
}
