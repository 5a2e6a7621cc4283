//! How figures are written.

use std::time::Duration;

use postern::config::units::show_number;

/// A time in milliseconds; a dash where there is none.
pub fn time(time: Option<Duration>) -> String {
    match time {
        Some(time) => format!("{:.2} ms", time.as_secs_f64() * 1e3),
        None => "-".into(),
    }
}

/// Nanoseconds in microseconds.
pub fn micros(nanos: f64) -> String {
    format!("{:.2} us", nanos / 1e3)
}

/// A number with its thousands apart.
pub fn thousands(number: f64) -> String {
    show_number(number.round() as u64)
}

/// A rate that was wanted.
pub fn rate(rate: Option<u32>) -> String {
    match rate {
        Some(rate) => format!("{}/s", thousands(f64::from(rate))),
        None => "all it can".into(),
    }
}
