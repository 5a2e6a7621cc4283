//! The time of an arrival in each of the rooms that decide: `cargo bench --bench rooms`.
//!
//! Times differ from run to run; `benches/instructions.sh` counts what does not.

use divan::Bencher;

mod cases;

use cases::Case;

fn main() {
    divan::main();
}

#[divan::bench(args = cases::nothing())]
fn nothing(bencher: Bencher, case: &Case) {
    take(bencher, case);
}

#[divan::bench(args = cases::packet::cases())]
fn packet(bencher: Bencher, case: &Case) {
    take(bencher, case);
}

#[divan::bench(args = cases::knock::cases())]
fn knock(bencher: Bencher, case: &Case) {
    take(bencher, case);
}

#[divan::bench(args = cases::spa::cases())]
fn spa(bencher: Bencher, case: &Case) {
    take(bencher, case);
}

#[divan::bench(args = cases::lease::cases())]
fn lease(bencher: Bencher, case: &Case) {
    take(bencher, case);
}

fn take(bencher: Bencher, case: &Case) {
    bencher.bench_local(case.make());
}
