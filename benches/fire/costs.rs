//! Processor time for each packet of a flood.

use std::thread;
use std::time::{Duration, Instant};

use crate::cost::Cpu;
use crate::daemons::{DEFAULT, Opens, Setup};
use crate::figures::Cost;
use crate::flood::{Attack, warm_up};
use crate::marks::Marks;
use crate::report::Table;
use crate::sender::{Plan, Sender};
use crate::who::Who;
use crate::wire::{Wire, arrived};
use crate::{Bench, table};

/// A flood, and what it meets.
#[derive(Clone, Copy)]
struct Case {
    attack: Attack,
    sources: u64,
    setup: Setup,
    rate: u32,
}

/// What was used.
struct Used {
    each: f64,
    system: Option<u64>,
    real: f64,
}

const TCPDUMP: Who = Who::Tcpdump { keep: false };

/// Measures, and puts the tables into the report.
pub fn run(bench: &mut Bench) {
    let by_sources = case(Attack::First);
    let quick = bench.quick;
    let numbers = |all: &[u64], few: &[u64]| if quick { few.to_vec() } else { all.to_vec() };
    let mut cases = Vec::new();
    for sources in numbers(&[1000, 10_000, 100_000, 1_000_000], &[1000, 1_000_000]) {
        let what = format!("sources: {}", table::thousands(sources as f64));
        cases.push((
            what,
            Case {
                sources,
                ..by_sources
            },
        ));
    }
    for doors in numbers(&[1, 10, 100, 1000], &[1, 1000]) {
        // Not in nftables: there the rules of many doors hold the flood up.
        let setup = Setup::new(Opens::Nowhere).doors(doors as usize);
        cases.push((
            format!("doors: {doors}"),
            Case {
                setup,
                ..by_sources
            },
        ));
    }
    cases.push(("all ports of the sequence".into(), case(Attack::All)));
    for keys in numbers(&[0, 1, 16], &[1]) {
        let spa = case(Attack::Spa);
        let setup = spa.setup.keys(keys as usize);
        cases.push((format!("SPA, keys: {keys}"), Case { setup, ..spa }));
    }
    let rates: &[u32] = if quick { &[100_000] } else { &[100_000, 5000] };
    let mut rows = Vec::new();
    for &rate in rates {
        for (what, case) in &cases {
            let case = Case { rate, ..*case };
            compare(bench, what, case, &mut rows);
        }
    }
    if !rows.is_empty() {
        bench.report.tables.push(shown(rows));
    }
}

fn case(attack: Attack) -> Case {
    Case {
        attack,
        sources: 100_000,
        setup: attack.setup(),
        rate: 0,
    }
}

/// Ours and tcpdump, and theirs where that is the case that they can stand.
fn compare(bench: &mut Bench, what: &str, case: Case, rows: &mut Vec<Vec<String>>) {
    let theirs = match case.attack {
        Attack::Spa if case.setup.keys > 0 => Some(Who::Fwknopd),
        Attack::First if case.setup.opens == Opens::Nft => Some(Who::Knockd),
        _ => None,
    };
    let theirs =
        theirs.filter(|_| !bench.quick || what == "sources: 1,000" || case.setup.keys == 1);
    // They drop most of more than this, and what is dropped costs them nothing.
    let theirs = theirs.filter(|_| bench.quick || case.rate <= 5000);
    let their_case = Case { rate: 5000, ..case };
    let rate = table::rate(Some(case.rate));
    let mut used = |who: Who, case: Case| {
        let label = format!("cost: {what}, {} at {rate}", who.name());
        let used = bench.measure(&label, |bench| measure(bench, who, case))?;
        let (each, real) = (table::micros(used.each), table::thousands(used.real));
        bench.say(&format!("{each} a packet at {real}/s"));
        Some(used)
    };
    let ours = used(Who::Postern(DEFAULT), case);
    let floor = used(TCPDUMP, case);
    let theirs = theirs.and_then(|who| Some((who, used(who, their_case)?)));
    if let Some(ours) = &ours {
        let floor = floor.as_ref().map(|f| f.each);
        bench.figures.costs.push(Cost {
            what: what.to_owned(),
            rate: case.rate,
            each: ours.each,
            floor,
        });
    }
    if ours.is_none() && floor.is_none() && theirs.is_none() {
        return;
    }
    let written = |used: &Option<Used>| used.as_ref().map_or("-".into(), |u| table::micros(u.each));
    let ratio = match (&ours, &floor) {
        (Some(ours), Some(floor)) if floor.each > 0.0 => format!("{:.1}", ours.each / floor.each),
        _ => "-".into(),
    };
    let system = ours.as_ref().and_then(|u| u.system);
    let theirs = theirs.map_or("-".into(), |(who, used)| {
        format!("{} {}", who.name(), table::micros(used.each))
    });
    rows.push(vec![
        what.to_owned(),
        ours.as_ref()
            .or(floor.as_ref())
            .map_or(rate, |u| format!("{}/s", table::thousands(u.real))),
        written(&ours),
        system.map_or("-".into(), |s| format!("{s} %")),
        written(&floor),
        ratio,
        theirs,
    ]);
}

fn measure(bench: &Bench, who: Who, case: Case) -> Used {
    let wire = Wire::new();
    let marks = Marks::new(wire.server());
    let running = who.start(&wire, &marks, case.setup);
    let sender = Sender::new(wire.client());
    let (most, window) = match bench.quick {
        true => (Duration::from_millis(1000), Duration::from_millis(2000)),
        false if case.rate < 100_000 => (Duration::from_secs(4), Duration::from_secs(4)),
        false => (Duration::from_secs(11), Duration::from_secs(5)),
    };
    let before = warm_up(case.sources, case.rate, most);
    let pids = running.pids();
    let plan = Plan {
        flood: Some(case.attack.forger(&wire, case.sources)),
        rate: Some(case.rate),
        knocks: Vec::new(),
        lasts: before + window + Duration::from_millis(200),
    };
    let used = thread::scope(|scope| {
        let sending = scope.spawn(|| sender.run(&plan));
        thread::sleep(before);
        let look = || (arrived(pids[0]), Cpu::of(&pids), Instant::now());
        let (first, cpu, start) = look();
        thread::sleep(window);
        let (last, later, end) = look();
        let cpu = later.since(cpu);
        sending.join().expect("the sender goes on");
        Used {
            each: cpu.each(last - first),
            system: cpu.system_share(),
            real: (last - first) as f64 / (end - start).as_secs_f64(),
        }
    });
    running.stop();
    used
}

fn shown(rows: Vec<Vec<String>>) -> Table {
    Table {
        title: "Processor time for a packet of a flood".into(),
        how: "A flood of forged connection requests to the first port of a sequence (from \
              100,000 sources in turn where nothing else is said), or of forged single packets to \
              port 62201, at a fixed rate for some seconds after each source has come once, or after 4 s \
              at 5,000 a second. \
              Nanoseconds that the kernel says the processes have run \
              (/proc/PID/task/*/schedstat; of ours listener and monitor together) by the frames \
              that the interface took in meanwhile. What the kernel does for a frame before it is \
              in a buffer runs on the sender's processor and is not in it. tcpdump -n -w \
              /dev/null has the very kernel filter that our listener had attached, and the same \
              rules stand in nftables. knockd and fwknopd are measured at 5,000 a second, since \
              they drop most of a faster flood. Ours drives nftables, but in the rows by doors, \
              where `firewall = \"memory\"`, so that the listener alone is compared."
            .into(),
        head: [
            "flood",
            "rate",
            "postern",
            "of it in the kernel",
            "tcpdump",
            "ratio",
            "others, at 5,000/s",
        ]
        .map(String::from)
        .to_vec(),
        rows,
    }
}
