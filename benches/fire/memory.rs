//! Memory, wake-ups and log lines.

use std::thread;
use std::time::{Duration, Instant};

use crate::cost::{resident, wakeups};
use crate::daemons::{self, DEFAULT};
use crate::figures::Memory;
use crate::flood::Attack;
use crate::harness::Daemon;
use crate::marks::Marks;
use crate::report::Table;
use crate::sender::{Plan, Sender};
use crate::wire::Wire;
use crate::{Bench, table};

/// A daemon to which nothing happens, while everything else is measured.
pub struct Idle<'w> {
    daemon: Daemon<'w>,
    since: Instant,
    wakeups: [u64; 2],
}

impl<'w> Idle<'w> {
    /// Starts it, and begins to count when it has come to rest.
    pub fn start(wire: &'w Wire, marks: &Marks) -> Idle<'w> {
        let daemon = daemons::postern(wire, marks, DEFAULT, Attack::First.setup());
        let mut idle = Idle {
            daemon,
            since: Instant::now(),
            wakeups: [0; 2],
        };
        thread::sleep(Duration::from_secs(1));
        (idle.since, idle.wakeups) = (Instant::now(), idle.count());
        idle
    }

    fn count(&self) -> [u64; 2] {
        // The listener is asked for by posternctl, which wakes the monitor: before it counts.
        let listener = self.daemon.listener();
        thread::sleep(Duration::from_millis(200));
        [wakeups(&[listener]), wakeups(&[self.daemon.monitor()])]
    }
}

/// Measures, and puts the table into the report. Idle time is made up to a minute in full runs.
pub fn run(bench: &mut Bench, idle: Option<Idle>) {
    let mut memory = Memory::default();
    let mut rows: Vec<[String; 3]> = Vec::new();
    let mut row = |what: &str, listener: String, monitor: String| {
        rows.push([what.to_owned(), listener, monitor]);
    };
    if let Some(idle) = idle {
        let least = Duration::from_secs(if bench.quick { 20 } else { 60 });
        thread::sleep(least.saturating_sub(idle.since.elapsed()));
        let lasted = idle.since.elapsed();
        let kib = [idle.daemon.listener(), idle.daemon.monitor()].map(|pid| resident(&[pid]));
        let now = idle.count();
        // Asked for the listener's number, the monitor woke for that: once for the question,
        // once for who asked to go.
        let woken = [now[0] - idle.wakeups[0], now[1] - idle.wakeups[1]];
        let a_minute = |n: u64| format!("{:.1}", n as f64 * 60.0 / lasted.as_secs_f64());
        row("resident, idle", mib(kib[0]), mib(kib[1]));
        let what = format!("wake-ups a minute, idle for {} s", lasted.as_secs());
        row(&what, a_minute(woken[0]), a_minute(woken[1]));
        memory.idle_kib = kib.iter().sum();
        memory.idle = lasted;
        memory.wakeups = woken.iter().sum();
        bench.say(&format!(
            "idle: {kib:?} KiB, {woken:?} wake-ups in {lasted:.0?}"
        ));
    }
    if bench.wants("memory: a million sources") {
        flooded(bench, &mut memory, &mut row);
    }
    if !rows.is_empty() {
        bench.figures.memory = Some(memory);
        bench.report.tables.push(Table {
            title: "Memory, wake-ups, log".into(),
            how: "Resident sets of both processes (VmRSS), their voluntary context switches \
                  while nothing happens, and the lines that the log has grown by under a flood \
                  of connection requests to the first port from 1,000,000 sources in turn. What \
                  the listener maps of the kernel's buffer is in its resident set."
                .into(),
            head: ["what", "listener", "monitor"].map(String::from).to_vec(),
            rows: rows.into_iter().map(Vec::from).collect(),
        });
    }
}

fn flooded(bench: &Bench, memory: &mut Memory, row: &mut impl FnMut(&str, String, String)) {
    const SOURCES: u64 = 1_000_000;
    let wire = Wire::new();
    let marks = Marks::new(wire.server());
    let daemon = daemons::postern(&wire, &marks, DEFAULT, Attack::First.setup());
    let lines = || daemon.log().lines().count();
    let before = lines();
    let rate = 200_000;
    let sent = Sender::new(wire.client()).run(&Plan {
        flood: Some(Attack::First.forger(&wire, SOURCES)),
        rate: Some(rate),
        knocks: Vec::new(),
        lasts: Duration::from_millis(SOURCES * 1000 / u64::from(rate) + 1000),
    });
    let grown = lines() - before;
    let kib = [daemon.listener(), daemon.monitor()].map(|pid| resident(&[pid]));
    let a_second = grown as f64 / sent.took.as_secs_f64();
    bench.say(&format!("{kib:?} KiB, {grown} lines in {:.1?}", sent.took));
    row("resident, 1,000,000 sources", mib(kib[0]), mib(kib[1]));
    let rate = table::thousands(sent.rate());
    row(
        &format!("log lines a second at {rate}/s"),
        String::new(),
        format!("{a_second:.1}"),
    );
    memory.flooded_kib = Some(kib.iter().sum());
    memory.lines_a_second = Some(a_second);
}

fn mib(kib: u64) -> String {
    format!("{:.1} MiB", kib as f64 / 1024.0)
}
