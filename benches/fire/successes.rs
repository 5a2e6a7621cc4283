//! Legitimate knocks that get in while a flood goes on.

use std::time::{Duration, Instant};

use crate::daemons::{DEFAULT, STEPS, sequence};
use crate::figures::Success;
use crate::flood::{Attack, Who};
use crate::marks::Marks;
use crate::report::{Plot, Table};
use crate::sender::{Plan, Sender};
use crate::wire::{Wire, knocker};
use crate::{Bench, table};

/// How long a knock lasts from its first step to its last.
const KNOCK: Duration = Duration::from_millis(300);
/// How long after its last step it may open.
const LIMIT: Duration = Duration::from_secs(2);
/// How many forged sources.
const SOURCES: u64 = 100_000;
/// Between the beginnings of two knocks, which overlap.
const APART: Duration = Duration::from_millis(40);

/// Measures, and puts table and plots into the report.
pub fn run(bench: &mut Bench) {
    let rates: &[Option<u32>] = match bench.quick {
        true => &[Some(5000), Some(50_000), Some(200_000)],
        false => &[
            Some(5000),
            Some(20_000),
            Some(50_000),
            Some(100_000),
            Some(200_000),
            None,
        ],
    };
    let ours = Who::Postern(DEFAULT);
    let floor = Who::Tcpdump { keep: true };
    for (attack, theirs) in [
        (Attack::First, Who::Knockd),
        (Attack::All, Who::Knockd),
        (Attack::Spa, Who::Fwknopd),
    ] {
        for &rate in rates {
            for who in [ours, floor, theirs] {
                let label = format!(
                    "success: {}, {} at {}",
                    attack.name(),
                    who.name(),
                    table::rate(rate)
                );
                // Where a second time would tell little.
                let left_out = bench.quick
                    && attack != Attack::First
                    && (rate != Some(50_000) || who == Who::Knockd);
                if left_out || !bench.wants(&label) {
                    continue;
                }
                let success = knocks(bench, who, attack, rate);
                bench.say(&format!(
                    "{} of {} at {}/s",
                    success.opened,
                    success.knocks,
                    table::thousands(success.real)
                ));
                bench.figures.successes.push(success);
            }
        }
    }
    let all = &bench.figures.successes;
    if !all.is_empty() {
        let (table, plot) = (shown(all), plot(all));
        bench.report.tables.push(table);
        bench.report.plots.push(plot);
    }
}

fn knocks(bench: &Bench, who: Who, attack: Attack, rate: Option<u32>) -> Success {
    let wire = Wire::new();
    let marks = Marks::new(wire.server());
    let running = who.start(&wire, &marks, attack.setup());
    let sender = Sender::new(wire.client());
    let knocks = if bench.quick { 40 } else { 100 };
    // The flood has settled by then.
    let first = Duration::from_millis(if bench.quick { 700 } else { 2000 });
    let mut frames: Vec<(Duration, Vec<u8>)> = Vec::new();
    for n in 0..knocks {
        let begin = first + APART * n as u32;
        let from = knocker(n);
        if attack == Attack::Spa {
            frames.push((begin, wire.single_packet(from)));
            continue;
        }
        for (at, port) in (0..).zip(sequence(0)) {
            frames.push((
                begin + KNOCK * at / (STEPS as u32 - 1),
                wire.syn(from, port),
            ));
        }
    }
    frames.sort_by_key(|(at, _)| *at);
    let end = frames.last().expect("somebody knocks").0;
    let sent = sender.run(&Plan {
        flood: Some(attack.forger(&wire, SOURCES)),
        rate,
        knocks: frames,
        // The flood goes on while the last knocks are waited for.
        lasts: end + Duration::from_millis(500),
    });
    let steps = if attack == Attack::Spa { 1 } else { STEPS };
    let opened = if let Who::Tcpdump { .. } = who {
        let heard = running.stop().heard;
        let whole = |n: &usize| heard.get(&knocker(*n)).is_some_and(|h| h.len() >= steps);
        (0..knocks).filter(whole).count()
    } else {
        let last = sent.start + end;
        let until = last + LIMIT;
        // The last step of each.
        let ends = |n: usize| {
            let begin = first + APART * n as u32;
            let lasts = if attack == Attack::Spa {
                Duration::ZERO
            } else {
                KNOCK
            };
            sent.start + begin + lasts
        };
        let opened = (0..knocks).filter(|n| {
            let patience = until.saturating_duration_since(Instant::now());
            let opened = marks.wait(knocker(*n), patience);
            opened.is_some_and(|at| at.saturating_duration_since(ends(*n)) <= LIMIT)
        });
        let opened = opened.count();
        running.stop();
        opened
    };
    Success {
        who: who.name().into(),
        attack: attack.name(),
        rate,
        real: sent.rate(),
        knocks,
        opened,
        ours: who.is_ours(),
        floor: matches!(who, Who::Tcpdump { .. }),
    }
}

fn shown(all: &[Success]) -> Table {
    let mut rows: Vec<Vec<String>> = Vec::new();
    let mut keys: Vec<(&str, Option<u32>)> = all.iter().map(|s| (s.attack, s.rate)).collect();
    keys.dedup();
    for (attack, rate) in keys {
        let here = || {
            all.iter()
                .filter(move |s| (s.attack, s.rate) == (attack, rate))
        };
        let of = |found: Option<&Success>| match found {
            Some(s) => format!("{:.0} % at {}/s", s.percent(), table::thousands(s.real)),
            None => "-".into(),
        };
        rows.push(vec![
            attack.into(),
            table::rate(rate),
            of(here().find(|s| s.ours)),
            of(here().find(|s| s.floor)),
            of(here().find(|s| s.who == "knockd")),
            of(here().find(|s| s.who == "fwknopd")),
        ]);
    }
    Table {
        title: "Legitimate knocks that get in under a flood".into(),
        how: format!(
            "Knocks of 4 connection requests over 300 ms, or of one single packet, each from an \
             address of its own, a new one every {} ms, while packets from {} forged sources come \
             in. One thread on a processor of its own sends both, so that the knocks are on time; \
             the rate that it reached really stands beside each figure. A knock counts if the \
             packet filter announces its element within 2 s of its last step. Of tcpdump, which \
             writes what it hears into a file in memory by the same kernel filter, with the same \
             rules in nftables: the knocks all of whose packets it has caught.",
            APART.as_millis(),
            table::thousands(SOURCES as f64)
        ),
        head: [
            "attack on",
            "rate",
            "postern",
            "tcpdump",
            "knockd",
            "fwknopd",
        ]
        .map(String::from)
        .to_vec(),
        rows,
    }
}

fn plot(all: &[Success]) -> Plot {
    let mut series: Vec<(String, Vec<(f64, f64)>)> = Vec::new();
    for success in all {
        let name = format!("{}, {}", success.who, success.attack);
        let point = (success.real, success.percent());
        match series.iter_mut().find(|(n, _)| *n == name) {
            Some((_, points)) => points.push(point),
            None => series.push((name, vec![point])),
        }
    }
    Plot {
        title: "Knocks that get in under a flood".into(),
        x: "forged packets a second".into(),
        y: "legitimate knocks that get in, %".into(),
        log_x: true,
        series,
        file: "success.svg",
    }
}
