//! `posternctl unguard`: no guard stands any more, whether posternd runs or not.

use std::fs;
use std::io::Write;
use std::path::Path;

use super::offline::{self, State};
use super::{Problem, ask, json_line};
use crate::config::{Config, toml};
use crate::daemon::control::{Request, Response};
use crate::exit;
use crate::firewall::ipfw::Ipfw;
use crate::firewall::nft::Nft;
use crate::firewall::pf::Pf;
use crate::firewall::{Backends, Failure, Firewall, run as programs};

pub fn run(config: &Path, socket: &Path, json: bool, out: &mut impl Write) -> Result<u8, Problem> {
    let answer = ask::ask_if_it_runs(socket, &Request::Unguard, exit::UNAVAILABLE);
    let (taken, problem) = match answer {
        Ok(None) => without_posternd(config)?,
        Ok(Some(Response::Unguarded(guards))) => {
            let guards = guards.iter().map(|guard| format!("guard {guard}"));
            (guards.collect(), None)
        }
        Ok(Some(_)) => return Err(ask::foreign(socket)),
        // One that hangs must not keep them up.
        Err(unable) if unable.status == exit::UNAVAILABLE => {
            let (taken, more) = without_posternd(config)?;
            let said = more.map(|more| more.said).into_iter();
            let said: Vec<String> = std::iter::once(unable.said).chain(said).collect();
            let problem = Problem::new(exit::UNAVAILABLE, said.join("\n"));
            (taken, Some(problem))
        }
        Err(problem) => return Err(problem),
    };
    if json {
        json_line(&serde_json::json!({ "taken": taken }), out)?;
    } else {
        for what in &taken {
            writeln!(out, "{what}: taken away")?;
        }
        match &problem {
            None if taken.is_empty() => writeln!(out, "no guard stood")?,
            None => writeln!(
                out,
                "no guard stands now; posternctl confirm puts them back for good"
            )?,
            Some(_) => {}
        }
    }
    problem.map_or(Ok(exit::OK), Err)
}

/// What was taken away, and what went wrong. Whatever goes wrong, the guards go first.
fn without_posternd(file: &Path) -> Result<(Vec<String>, Option<Problem>), Problem> {
    offline::root()?;
    let config = fs::read_to_string(file)
        .ok()
        .and_then(|text| toml::parse(&file.display().to_string(), &text).ok());
    let mut problems = Vec::new();
    let mut taken = Vec::new();
    for unguarded in unguard(config.as_ref()) {
        match unguarded {
            Ok(guards) => taken.extend(guards),
            Err(failure) => problems.push(format!("guards may stand: {failure}")),
        }
    }
    if let Err(problem) = mark(file, config.as_ref()) {
        problems.push(format!(
            "guards may come back when posternd runs: {}",
            problem.said
        ));
    }
    let problem =
        (!problems.is_empty()).then(|| Problem::new(exit::UNAVAILABLE, problems.join("\n")));
    Ok((taken, problem))
}

/// In the packet filter of the configuration; without one in every one that there is.
fn unguard(config: Option<&Config>) -> Vec<Result<Vec<String>, Failure>> {
    fn of(filter: Result<impl Firewall, Failure>) -> Result<Vec<String>, Failure> {
        filter?.unguard()
    }
    if let Some(config) = config {
        return vec![of(Backends::from_config(config, &config.interfaces))];
    }
    type Unguard = fn() -> Result<Vec<String>, Failure>;
    let all: [(&str, Unguard); 3] = [
        ("ipfw", || of(Ipfw::new(&[], &[]))),
        ("pfctl", || of(Pf::new(&[], &[]))),
        ("nft", || of(Nft::new(&[], &[]))),
    ];
    let there = all
        .iter()
        .filter(|(command, _)| programs::find(command, programs::PATH).is_some());
    there.map(|(_, unguard)| unguard()).collect()
}

/// Has posternd, when it runs next, leave them away.
fn mark(file: &Path, config: Option<&Config>) -> Result<(), Problem> {
    let Some(state) = State::take(&offline::directory(file))? else {
        return Ok(());
    };
    let mut trials = state.trials();
    // Without -i of posternd it is not known where they stand.
    let wanted = config.filter(|config| !config.interfaces.is_empty());
    if !trials.withdraw(wanted).is_empty() {
        state.write(&trials)?;
    }
    Ok(())
}
