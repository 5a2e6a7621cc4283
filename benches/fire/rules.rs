//! What the rules in nftables cost the kernel: how fast the sender can be.

use std::time::Duration;

use crate::daemons::{self, DEFAULT, Opens, Setup};
use crate::flood::Attack;
use crate::marks::Marks;
use crate::report::Table;
use crate::sender::{Plan, Sender, Sent};
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
        if let Some(sent) = bench.measure(&label, |bench| fastest(bench, setup)) {
            let each = table::micros(sent.ran.as_nanos() as f64 / sent.flood as f64);
            let rate = table::thousands(sent.rate());
            bench.say(&format!("{rate}/s, {each} each"));
            rows.push(vec![what.into(), rate, each]);
        }
    }
    if !rows.is_empty() {
        bench.report.tables.push(Table {
            title: "What rules cost the kernel".into(),
            how: "Connection requests from forged sources to the first port of a sequence, as \
                  fast as the sender can, while nobody listens. The kernel takes each of them \
                  through the rules on the sender's processor before the next is sent: the time \
                  for one is what the sender's thread was on it, by the packets. The rules \
                  of everybody here track no connections; postern's do, so that each packet is \
                  looked up, and forgotten when the rules drop it."
                .into(),
            head: ["rules in nftables", "packets a second", "time for one"]
                .map(String::from)
                .to_vec(),
            rows,
        });
    }
}

fn fastest(bench: &Bench, setup: Option<Setup>) -> Sent {
    let wire = Wire::new();
    let marks = Marks::new(wire.server());
    if let Some(setup) = setup {
        // Its table stands when it is dead.
        daemons::postern(&wire, &marks, DEFAULT, setup).kill();
    }
    Sender::new(wire.client()).run(&Plan {
        flood: Some(Attack::First.forger(&wire, 100_000)),
        rate: None,
        knocks: Vec::new(),
        lasts: Duration::from_millis(if bench.quick { 700 } else { 3000 }),
    })
}
