//! Legitimate knocks that get in while a flood goes on.

use std::time::{Duration, Instant};

use crate::daemons::{DEFAULT, STEPS, sequence};
use crate::figures::Success;
use crate::flood::Attack;
use crate::marks::Marks;
use crate::report::{Plot, Table};
use crate::sender::{Plan, Sender};
use crate::who::{Running, Who};
use crate::wire::{Wire, knocker};
use crate::{Bench, table};

/// How long a knock lasts from its first step to its last.
const KNOCK: Duration = Duration::from_millis(300);
/// How long after its last step it may open. The flood goes on until then.
const LIMIT: Duration = Duration::from_secs(1);
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
                if left_out {
                    continue;
                }
                let measured = bench.measure(&label, |bench| knocks(bench, who, attack, rate));
                let Some(success) = measured else {
                    continue;
                };
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
        let (table, plots) = (shown(all), plots(all));
        bench.report.tables.push(table);
        bench.report.plots.extend(plots);
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
    let steps = if attack == Attack::Spa { 1 } else { STEPS };
    let mut frames: Vec<(Duration, usize, Vec<u8>)> = Vec::new();
    for n in 0..knocks {
        let begin = first + APART * n as u32;
        let from = knocker(n);
        if attack == Attack::Spa {
            frames.push((begin, n, wire.single_packet(from)));
            continue;
        }
        for (at, port) in (0..).zip(sequence(0)) {
            let at = begin + KNOCK * at / (STEPS as u32 - 1);
            frames.push((at, n, wire.syn(from, port)));
        }
    }
    frames.sort_by_key(|(at, n, _)| (*at, *n));
    let end = frames.last().expect("somebody knocks").0;
    let whose: Vec<usize> = frames.iter().map(|(_, n, _)| *n).collect();
    let sent = sender.run(&Plan {
        flood: Some(attack.forger(&wire, SOURCES)),
        rate,
        knocks: frames
            .into_iter()
            .map(|(at, _, frame)| (at, frame))
            .collect(),
        lasts: end + LIMIT,
    });
    // The last step of each.
    let mut ends = vec![sent.start; knocks];
    for (n, at) in whose.into_iter().zip(&sent.knocks) {
        ends[n] = *at;
    }
    let until = sent.start + end + LIMIT;
    let times = (0..knocks).filter_map(|n| {
        let patience = until.saturating_duration_since(Instant::now());
        let opened = marks.wait(knocker(n), patience)?;
        Some(opened.saturating_duration_since(ends[n])).filter(|time| *time <= LIMIT)
    });
    let (mut times, dropped, whole) = match &running {
        Running::Floor(_) => {
            let dumped = running.stop();
            let whole = |n: &usize| {
                let heard = dumped.heard.get(&knocker(*n));
                heard.is_some_and(|heard| heard.len() >= steps)
            };
            let whole = (0..knocks).filter(whole).count();
            (Vec::new(), Some(dumped.dropped), whole)
        }
        _ => {
            let times: Vec<Duration> = times.collect();
            let whole = times.len();
            let dropped = running.dropped();
            running.stop();
            (times, dropped, whole)
        }
    };
    times.sort_unstable();
    Success {
        who: who.name().into(),
        attack: attack.name(),
        rate,
        real: sent.rate(),
        knocks,
        opened: whole,
        median: times.get(times.len() / 2).copied(),
        dropped: dropped.map(|d| 100.0 * d as f64 / sent.flood.max(1) as f64),
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
        let share = |s: Option<&Success>| s.map_or("-".into(), |s| format!("{:.0} %", s.percent()));
        let dropped = |s: Option<&Success>| {
            let dropped = s.and_then(|s| s.dropped);
            dropped.map_or("-".into(), |d| format!("{d:.1} %"))
        };
        let ours = here().find(|s| s.ours);
        let floor = here().find(|s| s.floor);
        let theirs = here().find(|s| !s.ours && !s.floor);
        let real =
            [ours, floor, theirs].map(|s| s.map_or("-".into(), |s| table::thousands(s.real)));
        rows.push(vec![
            attack.into(),
            table::rate(rate),
            share(ours),
            table::time(ours.and_then(|s| s.median)),
            dropped(ours),
            share(floor),
            dropped(floor),
            theirs.map_or("-".into(), |s| s.who.clone()),
            share(theirs),
            real.join(" / "),
        ]);
    }
    Table {
        title: "Legitimate knocks that get in under a flood".into(),
        how: format!(
            "Knocks of 4 connection requests over 300 ms, or of one single packet, each from an \
             address of its own, a new one every {} ms, while packets from {} forged sources come \
             in. One thread on a processor of its own sends both, so that the knocks are on time; \
             the rates that it reached really (against postern, tcpdump, the other) stand last. \
             A knock counts if the packet filter announces its element within 1 s of its last \
             step; the median is of the time between. Of tcpdump, which writes what it hears \
             into a file in memory by the same kernel filter, with the same rules in nftables: \
             the knocks all of whose packets it has caught. Dropped: packets that the kernel had \
             no room for in the buffer, of those sent.",
            APART.as_millis(),
            table::thousands(SOURCES as f64)
        ),
        head: [
            "attack on",
            "rate",
            "postern",
            "median",
            "dropped",
            "tcpdump",
            "dropped",
            "other",
            "gets in",
            "really sent a second",
        ]
        .map(String::from)
        .to_vec(),
        rows,
    }
}

/// One for each kind of attack.
fn plots(all: &[Success]) -> Vec<Plot> {
    let files = [
        (Attack::First, "success.svg"),
        (Attack::All, "success-all-ports.svg"),
        (Attack::Spa, "success-spa.svg"),
    ];
    let plots = files.map(|(attack, file)| {
        let mut series: Vec<(String, Vec<(f64, f64)>)> = Vec::new();
        for success in all.iter().filter(|s| s.attack == attack.name()) {
            let point = (success.real, success.percent());
            match series.iter_mut().find(|(name, _)| *name == success.who) {
                Some((_, points)) => points.push(point),
                None => series.push((success.who.clone(), vec![point])),
            }
        }
        for (_, points) in &mut series {
            points.sort_by(|a, b| a.0.total_cmp(&b.0));
        }
        Plot {
            title: format!("Knocks that get in under a flood on the {}", attack.noun()),
            x: "forged packets a second".into(),
            y: "legitimate knocks that get in, %".into(),
            log_x: true,
            series,
            file,
        }
    });
    let shown = plots.into_iter().filter(|plot| !plot.series.is_empty());
    shown.collect()
}
