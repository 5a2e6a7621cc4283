//! Memory, wake-ups and log lines.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::unistd::Pid;

use crate::cost::{proportional, resident, wakeups};
use crate::daemons::{self, DEFAULT};
use crate::figures::Memory;
use crate::flood::Attack;
use crate::harness::Daemon;
use crate::marks::Marks;
use crate::report::Table;
use crate::sender::{Plan, Sender};
use crate::wire::Wire;
use crate::{Bench, table};

/// How often it is looked whether a process has woken up. Looking does not wake it.
const LOOK: Duration = Duration::from_millis(100);

/// A daemon to which nothing happens, while everything else is measured.
pub struct Idle<'w> {
    _daemon: Daemon<'w>,
    pids: [Pid; 2],
    since: Instant,
    stop: Arc<AtomicBool>,
    watching: JoinHandle<Woken>,
}

/// How often listener and monitor have woken up.
#[derive(Clone, Copy, Default)]
struct Woken {
    /// Times that they went to sleep again.
    times: [u64; 2],
    /// Looks since the one before which they had done so.
    moments: [u64; 2],
}

impl<'w> Idle<'w> {
    /// Starts it, and begins to count when it has come to rest.
    pub fn start(wire: &'w Wire, marks: &Marks) -> Idle<'w> {
        let daemon = daemons::postern(wire, marks, DEFAULT, Attack::First.setup());
        let pids = [daemon.listener(), daemon.monitor()];
        // What was asked of it so far is done.
        thread::sleep(Duration::from_secs(1));
        let stop = Arc::new(AtomicBool::new(false));
        let told = stop.clone();
        Idle {
            _daemon: daemon,
            pids,
            since: Instant::now(),
            stop,
            watching: thread::spawn(move || watch(pids, &told)),
        }
    }

    fn end(self) -> (Duration, Woken) {
        let lasted = self.since.elapsed();
        self.stop.store(true, Ordering::Relaxed);
        (lasted, self.watching.join().expect("it is watched"))
    }
}

fn watch(pids: [Pid; 2], stop: &AtomicBool) -> Woken {
    let mut woken = Woken::default();
    let mut before = pids.map(|pid| wakeups(&[pid]));
    while !stop.load(Ordering::Relaxed) {
        thread::sleep(LOOK);
        let now = pids.map(|pid| wakeups(&[pid]));
        for n in 0..2 {
            woken.times[n] += now[n] - before[n];
            woken.moments[n] += u64::from(now[n] > before[n]);
        }
        before = now;
    }
    woken
}

/// Measures, and puts the table into the report. Idle time is made up to a minute in full runs.
pub fn run(bench: &mut Bench, idle: Option<Idle>) {
    let mut memory = Memory::default();
    let mut rows: Vec<[String; 3]> = Vec::new();
    let mut row = |what: &str, [listener, monitor]: [String; 2]| {
        rows.push([what.to_owned(), listener, monitor]);
    };
    if let Some(idle) = idle {
        let least = Duration::from_secs(if bench.quick { 20 } else { 60 });
        thread::sleep(least.saturating_sub(idle.since.elapsed()));
        let kib = idle.pids.map(|pid| resident(&[pid]));
        let own = idle.pids.map(proportional);
        let (lasted, woken) = idle.end();
        let seconds = lasted.as_secs();
        let each = |numbers: [u64; 2]| numbers.map(|n| n.to_string());
        row("resident, idle", kib.map(mib));
        row("of it its own, shared pages by halves", own.map(mib));
        row(
            &format!("moments awake in {seconds} s, idle"),
            each(woken.moments),
        );
        row(
            &format!("times it went to sleep in {seconds} s, idle"),
            each(woken.times),
        );
        memory.idle_kib = kib.iter().sum();
        memory.idle_shared_kib = own.iter().sum();
        memory.idle = lasted;
        memory.moments = woken.moments;
        bench.say(&format!(
            "idle: {kib:?} KiB, {:?} moments awake in {seconds} s",
            woken.moments
        ));
    }
    if let Some(flooded) = bench.measure("memory: a million sources", flooded) {
        let Flooded { kib, lines, rate } = flooded;
        bench.say(&format!(
            "{kib:?} KiB, {lines:.1} lines a second at {rate}/s"
        ));
        row("resident, 1,000,000 sources", kib.map(mib));
        row(
            &format!("log lines a second at {rate}/s"),
            [String::new(), format!("{lines:.1}")],
        );
        memory.flooded_kib = Some(kib.iter().sum());
        memory.lines_a_second = Some(lines);
    }
    if !rows.is_empty() {
        bench.figures.memory = Some(memory);
        bench.report.tables.push(Table {
            title: "Memory, wake-ups, log".into(),
            how: "Resident sets of both processes (VmRSS; Pss beside it). While nothing happens: \
                  tenths of a second in which they woke up, and their voluntary context \
                  switches, of which one wake-up can be several. And the lines that the log has grown by under a flood \
                  of connection requests to the first port from 1,000,000 sources in turn. What \
                  the listener maps of the kernel's buffer is in its resident set."
                .into(),
            head: ["what", "listener", "monitor"].map(String::from).to_vec(),
            rows: rows.into_iter().map(Vec::from).collect(),
        });
    }
}

/// What a flood from a million sources leaves.
struct Flooded {
    kib: [u64; 2],
    /// Of the log, a second.
    lines: f64,
    rate: String,
}

fn flooded(_: &Bench) -> Flooded {
    const SOURCES: u64 = 1_000_000;
    const RATE: u32 = 200_000;
    let wire = Wire::new();
    let marks = Marks::new(wire.server());
    let daemon = daemons::postern(&wire, &marks, DEFAULT, Attack::First.setup());
    let lines = || daemon.log().lines().count();
    let before = lines();
    let sent = Sender::new(wire.client()).run(&Plan {
        flood: Some(Attack::First.forger(&wire, SOURCES)),
        rate: Some(RATE),
        knocks: Vec::new(),
        lasts: Duration::from_millis(SOURCES * 1000 / u64::from(RATE) + 1000),
    });
    let grown = lines() - before;
    Flooded {
        kib: [daemon.listener(), daemon.monitor()].map(|pid| resident(&[pid])),
        lines: grown as f64 / sent.took.as_secs_f64(),
        rate: table::thousands(sent.rate()),
    }
}

fn mib(kib: u64) -> String {
    format!("{:.1} MiB", kib as f64 / 1024.0)
}
