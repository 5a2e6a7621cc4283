//! From the last knock to opened.

use std::net::Ipv4Addr;
use std::thread;
use std::time::Duration;

use crate::daemons::{DEFAULT, Opens, PING, Setup, sequence};
use crate::figures::Opened;
use crate::harness::Rng;
use crate::harness::raw::echo;
use crate::marks::Marks;
use crate::report::Table;
use crate::sender::Sender;
use crate::who::Who;
use crate::wire::{Wire, knocker};
use crate::{Bench, table};

/// How long a knock may take to open.
const LIMIT: Duration = Duration::from_secs(2);
/// Between two steps of a knock.
const STEP: Duration = Duration::from_millis(1);

/// What is sent.
#[derive(Clone, Copy, PartialEq, Eq)]
enum How {
    Sequence,
    Ping,
    Spa,
}

impl How {
    fn name(self) -> &'static str {
        match self {
            How::Sequence => "sequence",
            How::Ping => "ping",
            How::Spa => "single packet",
        }
    }
}

/// Measures, and puts the table into the report.
pub fn run(bench: &mut Bench) {
    let mut rows: Vec<(Who, How, Setup)> = Vec::new();
    let mark = Setup::new(Opens::Mark);
    let nft = Setup::new(Opens::Nft);
    rows.push((Who::Postern(DEFAULT), How::Sequence, mark));
    for variant in bench.drives.clone() {
        rows.push((Who::Postern(variant), How::Sequence, nft));
    }
    let best = Who::Postern(*bench.drives.last().expect("a way to drive nftables"));
    rows.push((best, How::Ping, nft.ping()));
    rows.push((best, How::Spa, nft.keys(1)));
    for doors in [100, 1000] {
        let all = if bench.quick { 1 } else { bench.drives.len() };
        for variant in bench.drives.iter().rev().take(all).rev() {
            rows.push((Who::Postern(*variant), How::Sequence, nft.doors(doors)));
        }
    }
    rows.push((Who::Knockd, How::Sequence, mark));
    rows.push((Who::Knockd, How::Sequence, nft));
    if !bench.quick {
        rows.push((Who::Knockd, How::Sequence, mark.doors(100)));
    }
    rows.push((Who::Fwknopd, How::Spa, mark.keys(1)));
    rows.push((Who::Fwknopd, How::Spa, Setup::new(Opens::Iptables).keys(1)));
    for (who, how, setup) in rows {
        let label = format!(
            "opened: {}, {}, {}, {} doors",
            who.name(),
            how.name(),
            way(setup),
            setup.doors
        );
        let opened = bench.measure(&label, |bench| knocks(bench, who, how, setup));
        if let Some(opened) = opened {
            bench.say(&format!(
                "{} of {}, median {}, 99th percentile {}",
                opened.times.len(),
                opened.knocks,
                table::time(opened.percentile(50)),
                table::time(opened.percentile(99)),
            ));
            bench.figures.opened.push(opened);
        }
    }
    let all = &bench.figures.opened;
    if !all.is_empty() {
        let table = shown(all);
        bench.report.tables.push(table);
    }
}

fn way(setup: Setup) -> &'static str {
    match setup.opens {
        Opens::Mark => "a command",
        Opens::Nft => "nftables",
        Opens::Iptables => "iptables",
        Opens::Nowhere => "nothing",
    }
}

/// Knocks one after another, each from another address.
fn knocks(bench: &Bench, who: Who, how: How, setup: Setup) -> Opened {
    let wire = Wire::new();
    let marks = Marks::new(wire.server());
    let _running = who.start(&wire, &marks, setup);
    // fwknopd looks ten times a second, knockd a hundred: no knock shall follow that rhythm.
    let (knocks, pause) = match (who, bench.quick) {
        (Who::Postern(_), true) => (100, 10),
        (Who::Postern(_), false) => (400, 20),
        (_, true) => (20, 100),
        (_, false) => (100, 100),
    };
    let sender = Sender::new(wire.client());
    let mut rng = Rng::new(8);
    let times = (0..knocks).filter_map(|n| {
        let from = knocker(n);
        let mut frames = frames(&wire, how, from);
        let last = frames.pop().expect("a knock has a last step");
        for frame in frames {
            sender.send(&frame);
            thread::sleep(STEP);
        }
        let sent = sender.send(&last);
        let opened = marks.wait(from, LIMIT);
        thread::sleep(Duration::from_micros(rng.within(1000..=1000 * pause)));
        opened.map(|opened| opened.saturating_duration_since(sent))
    });
    Opened {
        who: format!("{}; {} by {}", who.name(), way(setup), how.name()),
        ours_in_nft: who.is_ours() && setup.opens == Opens::Nft,
        doors: setup.doors,
        knocks,
        times: times.collect(),
    }
}

/// The frames of one knock at the first door.
fn frames(wire: &Wire, how: How, from: Ipv4Addr) -> Vec<Vec<u8>> {
    match how {
        How::Sequence => sequence(0).map(|port| wire.syn(from, port)).to_vec(),
        How::Ping => {
            // Where Linux's ping(8) has it: behind 16 bytes of its time stamp.
            let payload = [&[0; 16][..], &PING.to_be_bytes(), &PING.to_be_bytes()].concat();
            let to = wire.server().v4.into();
            vec![wire.frame(&echo(from.into(), to, &payload))]
        }
        How::Spa => vec![wire.single_packet(from)],
    }
}

fn shown(all: &[Opened]) -> Table {
    let rows = all.iter().map(|opened| {
        vec![
            opened.who.clone(),
            opened.doors.to_string(),
            format!("{} of {}", opened.times.len(), opened.knocks),
            table::time(opened.percentile(50)),
            table::time(opened.percentile(99)),
        ]
    });
    Table {
        title: "Last knock to opened".into(),
        how: "Knocks one after another on a machine that does nothing else, each from another \
              address: 4 connection requests 1 ms apart, or a single packet. From just before \
              the last packet is handed to the kernel until the packet filter announces the new \
              element or rule (nftables' netlink notifications, also for iptables, which is \
              iptables-nft here), or until the command has written a line into a pipe. All times \
              by one process and one clock. The command is the same shell script for everybody. \
              knockd opens in nftables by the command `nft add element`. With 1000 doors it \
              is not ready within 20 s, which libpcap takes to compile its filter."
            .into(),
        head: ["who, how", "doors", "opened", "median", "99th percentile"]
            .map(String::from)
            .to_vec(),
        rows: rows.collect(),
    }
}
