//! The time of an arrival in each of the rooms that decide: `cargo bench --bench rooms`.
//!
//! Times differ from run to run; `benches/instructions.sh` counts what does not.

use divan::Bencher;

mod cases;

use cases::Case;

fn main() {
    divan::main();
}

#[divan::bench(args = cases::nothing(), sample_size = 1_000, max_time = 1)]
fn nothing(bencher: Bencher, case: &Case) {
    take(bencher, case);
}

#[divan::bench(args = cases::packet::cases(), sample_size = 1_000, max_time = 1)]
fn packet(bencher: Bencher, case: &Case) {
    take(bencher, case);
}

#[divan::bench(args = cases::knock::cases(), sample_size = 1_000, max_time = 1)]
fn knock(bencher: Bencher, case: &Case) {
    take(bencher, case);
}

#[divan::bench(args = cases::spa::cases(), sample_size = 1_000, max_time = 1)]
fn spa(bencher: Bencher, case: &Case) {
    take(bencher, case);
}

#[divan::bench(args = cases::lease::cases(), sample_size = 1_000, max_time = 1)]
fn lease(bencher: Bencher, case: &Case) {
    take(bencher, case);
}

fn take(bencher: Bencher, case: &Case) {
    bencher.bench_local(case.make());
}
