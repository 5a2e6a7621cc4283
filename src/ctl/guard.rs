//! `posternctl guard`: the guards stand before posternd does, at boot above all.
//!
//! Nobody can be knocked at meanwhile. So only those guards are raised of which it is known that
//! one gets in through them, and those that stood on trial in this boot already. The others come
//! with posternd, which sees to their trial.

use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use serde::Serialize;

use super::offline::{self, State};
use super::{Problem, json_line};
use crate::config::{Config, FirewallKind};
use crate::daemon::doors::terms;
use crate::daemon::monitor::{self, load};
use crate::daemon::recovery::{self, openings};
use crate::daemon::trial::{Alone, Cause, Key, Trials};
use crate::daemon::{clock, files, state};
use crate::exit;
use crate::firewall::{Backends, Failure, Firewall, Upkeep};
use crate::journal::Journal;
use crate::lease::Leases;
use crate::time::Time;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// This interface, in place of the configuration's, as posternd's -i; may be given several
    /// times
    #[arg(short, long, value_name = "INTERFACE")]
    interface: Vec<String>,
}

/// A guard, for `--json`.
#[derive(Serialize)]
struct View {
    guard: String,
    state: &'static str,
}

pub fn run(file: &Path, args: &Args, json: bool, out: &mut impl Write) -> Result<u8, Problem> {
    offline::root()?;
    let options = monitor::Options {
        config: file.to_owned(),
        interfaces: args.interface.clone(),
        ..monitor::Options::default()
    };
    let (config, _) =
        load(&options).map_err(|lines| Problem::new(exit::CONFIG, lines.join("\n")))?;
    if UnixStream::connect(&config.control).is_ok() {
        return runs(json, out);
    }
    // A daemon that has never been has seen no guard.
    if config.trial.is_some() && !config.state.is_dir() {
        return say(&Trials::default().alone(&config), json, out);
    }
    files::private_directory(&config.state)
        .map_err(|e| Problem::new(exit::CONFIG, e.to_string()))?;
    let Some(state) = State::take_unless_run(&config.state, &config.control)? else {
        return runs(json, out);
    };

    let now = clock::now();
    let mut problems = Vec::new();
    let mut trials = state.trials();
    let before = trials.clone();
    trials.end(now);
    if config.trial.is_none() {
        trials.take_up(&config, now, Cause::Start);
    }
    let path = state.directory.join(state::JOURNAL);
    // The guards stand all the same, and nobody is let in.
    let recovered = Journal::look(&path, &state.boot, now);
    if let Some(why) = &recovered.unread {
        problems.push(format!("{}: {why}", path.display()));
    }
    let mut leases = Leases::new(terms(&config));
    // What is owed of those that are over is for posternd.
    recovery::take_up(recovered, &config, &mut leases, now);

    let raised = raise(&config, &trials, &leases, now);
    let upkeep = raised.map_err(|e| Problem::new(exit::UNAVAILABLE, e.to_string()))?;
    for stranger in upkeep.strangers {
        let _ = writeln!(io::stderr(), "posternctl: {stranger}");
    }
    if trials != before
        && let Err(problem) = state.write(&trials)
    {
        problems.push(problem.said);
    }
    say(&trials.alone(&config), json, out)?;
    match problems.is_empty() {
        true => Ok(exit::OK),
        false => Err(Problem::new(exit::UNAVAILABLE, problems.join("\n"))),
    }
}

/// Has the packet filter stand as posternd would have it.
fn raise(config: &Config, trials: &Trials, leases: &Leases, now: Time) -> Result<Upkeep, Failure> {
    if !matches!(
        config.firewall,
        FirewallKind::Ipfw | FirewallKind::Pf | FirewallKind::Nft
    ) {
        return Ok(Upkeep::default());
    }
    let mut firewall = Backends::from_config(config, &config.interfaces)?;
    firewall.establish(&trials.doors_alone(config), &openings(leases, now))
}

fn runs(json: bool, out: &mut impl Write) -> Result<u8, Problem> {
    match json {
        true => json_line(&serde_json::json!({ "running": true }), out)?,
        false => writeln!(out, "posternd runs, and sees to the guards")?,
    }
    Ok(exit::OK)
}

fn say(guards: &[(Key, Alone)], json: bool, out: &mut impl Write) -> Result<u8, Problem> {
    if json {
        let views = guards.iter().map(|(key, alone)| View {
            guard: key.to_string(),
            state: match alone {
                Alone::Stands => "stands",
                Alone::Withdrawn => "withdrawn",
                Alone::Waits => "waits",
            },
        });
        let views: Vec<View> = views.collect();
        json_line(
            &serde_json::json!({ "running": false, "guards": views }),
            out,
        )?;
        return Ok(exit::OK);
    }
    for (key, alone) in guards {
        let becomes = match alone {
            Alone::Stands => "stands",
            Alone::Withdrawn => "withdrawn; posternctl confirm puts it back for good",
            Alone::Waits => "not confirmed yet: it comes when posternd runs, on trial",
        };
        writeln!(out, "guard {key}: {becomes}")?;
    }
    if guards.is_empty() {
        writeln!(out, "no door has a guard")?;
    }
    Ok(exit::OK)
}
