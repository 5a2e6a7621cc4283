//! One case at a time, to have its instructions counted by callgrind: `benches/instructions.sh`
//! runs it.
//!
//!     counted                 the names of all cases, as ROOM: NAME
//!     counted CASE ARRIVALS   sets the case up; then so many arrivals in `measured`

use std::env;
use std::process::ExitCode;

mod cases;

use cases::Arrive;

/// Arrivals before those that are counted: what is made at the first one is there then.
const BEFORE: u64 = 1_000;

fn main() -> ExitCode {
    // Cargo says --bench to every bench target.
    let arguments: Vec<String> = env::args().skip(1).filter(|a| a != "--bench").collect();
    let (wanted, arrivals) = match &arguments[..] {
        [] => (None, 0),
        [case, arrivals] => match arrivals.parse() {
            Ok(arrivals) => (Some(case), arrivals),
            Err(_) => return usage(),
        },
        _ => return usage(),
    };
    let rooms = [
        ("nothing", cases::nothing()),
        ("packet", cases::packet::cases()),
        ("knock", cases::knock::cases()),
        ("spa", cases::spa::cases()),
        ("lease", cases::lease::cases()),
    ];
    for (room, cases) in rooms {
        for case in cases {
            let name = format!("{room}: {case}");
            match wanted {
                None => println!("{name}"),
                Some(wanted) if *wanted == name => {
                    let mut arrive = case.make();
                    for _ in 0..BEFORE {
                        arrive();
                    }
                    measured(&mut arrive, arrivals);
                    return ExitCode::SUCCESS;
                }
                Some(_) => {}
            }
        }
    }
    match wanted {
        None => ExitCode::SUCCESS,
        Some(wanted) => {
            eprintln!("counted: {wanted}: no such case");
            ExitCode::FAILURE
        }
    }
}

/// Callgrind counts from here on, and no longer when this returns.
#[inline(never)]
fn measured(arrive: &mut Arrive, arrivals: u64) {
    for _ in 0..arrivals {
        arrive();
    }
}

fn usage() -> ExitCode {
    eprintln!("usage: counted [CASE ARRIVALS]");
    ExitCode::FAILURE
}
