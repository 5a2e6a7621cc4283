//! Under fire: knocks and floods in real packets, in network namespaces of its own, at ours, at
//! Debian's knockd and fwknopd, and at tcpdump as the floor. `make bench`, `make bench-quick`;
//! `cargo bench --features e2e --bench fire -- [--quick] [--appendix TITLE=FILE] [WORD ...]`
//! measures only that whose name has all these words, and then writes nothing.
#![cfg(target_os = "linux")]

#[path = "../../tests/e2e/harness/mod.rs"]
#[allow(dead_code, unused_imports)]
mod harness;

mod cost;
mod costs;
mod daemons;
mod figures;
mod filter;
mod flood;
mod forge;
mod goals;
mod marks;
mod memory;
mod opened;
mod report;
mod rules;
mod sender;
mod successes;
mod table;
mod who;
mod wire;

use std::fs;
use std::io::Read;
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use signal_hook::consts::{SIGINT, SIGTERM};

use daemons::Variant;
use figures::Figures;
use marks::Marks;
use report::{Report, Table};
use wire::Wire;

/// A run.
pub struct Bench {
    quick: bool,
    words: Vec<String>,
    start: Instant,
    /// The ways to drive nftables that this posternd knows, the best last.
    drives: Vec<Variant>,
    figures: Figures,
    report: Report,
    /// What could not be measured.
    failed: Vec<String>,
}

impl Bench {
    /// Measures what is called so, if that is wanted. A failure ends no run: what was measured
    /// before and after it stands.
    fn measure<T>(&mut self, label: &str, measure: impl FnOnce(&Bench) -> T) -> Option<T> {
        if !self.wants(label) {
            return None;
        }
        let measured = catch_unwind(AssertUnwindSafe(|| measure(self))).ok();
        if measured.is_none() {
            self.failed.push(label.to_owned());
        }
        measured
    }

    /// Whether what is called so is to be measured; says so if it is.
    fn wants(&self, label: &str) -> bool {
        let wanted = self.words.iter().all(|word| label.contains(word.as_str()));
        if wanted {
            println!("[{:4.0} s] {label}", self.start.elapsed().as_secs_f64());
        }
        wanted
    }

    /// Says what came of it.
    fn say(&self, text: &str) {
        println!("         {text}");
    }
}

fn main() -> ExitCode {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("bench: network namespaces need root");
        return ExitCode::FAILURE;
    }
    let mut words: Vec<String> = std::env::args().skip(1).collect();
    // cargo's own.
    words.retain(|word| word != "--bench");
    let quick = words.iter().any(|word| word == "--quick");
    words.retain(|word| word != "--quick");
    let mut appendices = Vec::new();
    while let Some(at) = words.iter().position(|word| word == "--appendix") {
        words.remove(at);
        let argument = (at < words.len()).then(|| words.remove(at));
        match report::appendix(&argument.unwrap_or_default()) {
            Ok(appendix) => appendices.push(appendix),
            Err(error) => {
                eprintln!("bench: {error}");
                return ExitCode::FAILURE;
            }
        }
    }
    let mut bench = Bench {
        quick,
        start: Instant::now(),
        drives: Vec::new(),
        figures: Figures::default(),
        report: Report {
            quick,
            machine: machine(),
            date: jiff::Timestamp::now().strftime("%Y-%m-%d").to_string(),
            tables: Vec::new(),
            plots: Vec::new(),
            goals: Vec::new(),
            appendices,
        },
        words,
        failed: Vec::new(),
    };
    println!("{}", bench.report.machine);
    clean_up_when_interrupted();
    {
        let wire = Wire::new();
        bench.drives = Variant::drives(&wire);
        bench.figures.best = bench.drives.last().map_or("", |d| d.name).to_owned();
        let marks = Marks::new(wire.server());
        opened::run(&mut bench);
        costs::run(&mut bench);
        let idle = bench.measure("memory: idle", |_| memory::Idle::start(&wire, &marks));
        rules::run(&mut bench);
        successes::run(&mut bench);
        memory::run(&mut bench, idle);
    }
    bench.report.tables.push(sizes());
    bench.report.goals = goals::judge(&bench.figures);
    let _ = bench.report.print(&mut std::io::stdout().lock());
    println!("took {:.0} s", bench.start.elapsed().as_secs_f64());
    for label in &bench.failed {
        println!("not measured, it failed: {label}");
    }
    let whole = bench.failed.is_empty();
    if !whole {
        let failed = ("Not measured".to_owned(), bench.failed.join("\n") + "\n");
        bench.report.appendices.push(failed);
    }
    if bench.words.is_empty()
        && let Err(error) = bench.report.write(Path::new(env!("CARGO_MANIFEST_DIR")))
    {
        eprintln!("bench: {error}");
        return ExitCode::FAILURE;
    }
    match whole {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

/// Has SIGINT and SIGTERM end this process without leaving namespaces and daemons behind.
fn clean_up_when_interrupted() {
    let (mut read, write) = UnixStream::pair().expect("a pair of sockets");
    for signal in [SIGINT, SIGTERM] {
        let write = write.try_clone().expect("one more descriptor");
        signal_hook::low_level::pipe::register(signal, write).expect("a handler");
    }
    std::thread::spawn(move || {
        let _ = read.read(&mut [0]);
        harness::Net::remove_all();
        std::process::exit(130);
    });
}

/// Processor, kernel, and who has which of its cores.
fn machine() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = text
        .lines()
        .find_map(|l| l.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("unknown processor", |(_, model)| model);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let kernel = kernel.split('-').next().unwrap_or_default();
    let cores = sender::processors();
    let who = match cores {
        1 => "sender and daemons share it",
        _ => "the sender has the last for itself, the daemons the first",
    };
    format!("{model}, {cores} cores ({who}), Linux {}", kernel.trim())
}

/// How large the programs are.
fn sizes() -> Table {
    let rows = ["posternd", "posternctl", "postern"].map(|name| {
        let length = fs::metadata(harness::program(name)).map_or(0, |m| m.len());
        vec![
            name.to_owned(),
            format!("{:.2} MiB", length as f64 / f64::from(1 << 20)),
        ]
    });
    Table {
        title: "Programs".into(),
        how: "Sizes of the files as `make` builds them.".into(),
        head: ["program", "size"].map(String::from).to_vec(),
        rows: rows.to_vec(),
    }
}
