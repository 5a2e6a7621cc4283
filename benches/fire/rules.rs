//! What the rules in nftables cost the kernel: how fast the sender can be.

use std::time::Duration;

use crate::daemons::{self, DEFAULT, Opens, Setup};
use crate::flood::Attack;
use crate::marks::Marks;
use crate::report::Table;
use crate::sender::{Plan, Sender};
use crate::wire::Wire;
use crate::{Bench, table};

/// Measures, and puts the table into the report.
pub fn run(bench: &mut Bench) {
    let mut rows = Vec::new();
    let nft = Setup::new(Opens::Nft);
    for (what, setup) in [
        ("those of everybody here", None),
        ("postern's, 1 door", Some(nft)),
        ("postern's, 10 doors", Some(nft.doors(10))),
        ("postern's, 100 doors", Some(nft.doors(100))),
        ("postern's, 1000 doors", Some(nft.doors(1000))),
    ] {
        let label = format!("rules: {what}");
        if let Some(rate) = bench.measure(&label, |bench| fastest(bench, setup)) {
            bench.say(&format!("{}/s", table::thousands(rate)));
            rows.push(vec![
                what.into(),
                table::thousands(rate),
                table::micros(1e9 / rate),
            ]);
        }
    }
    if !rows.is_empty() {
        bench.report.tables.push(Table {
            title: "What rules cost the kernel".into(),
            how: "Connection requests from forged sources to the first port of a sequence, as \
                  fast as the sender can, while nobody listens. The kernel takes each of them \
                  through the rules on the sender's processor before the next is sent. The rules \
                  of everybody here track no connections; postern's do."
                .into(),
            head: ["rules in nftables", "packets a second", "time for one"]
                .map(String::from)
                .to_vec(),
            rows,
        });
    }
}

fn fastest(bench: &Bench, setup: Option<Setup>) -> f64 {
    let wire = Wire::new();
    let marks = Marks::new(wire.server());
    if let Some(setup) = setup {
        // Its table stands when it is dead.
        daemons::postern(&wire, &marks, DEFAULT, setup).kill();
    }
    let sent = Sender::new(wire.client()).run(&Plan {
        flood: Some(Attack::First.forger(&wire, 100_000)),
        rate: None,
        knocks: Vec::new(),
        lasts: Duration::from_millis(if bench.quick { 700 } else { 3000 }),
    });
    sent.rate()
}
