//! The two clocks: one that lease ends and timeouts are counted by, one that people read.

use std::time::Duration;

use jiff::Timestamp;
use nix::time::{ClockId, clock_gettime};

use crate::time::Time;

/// Counts on through suspension and is not set by anybody: CLOCK_BOOTTIME on Linux
/// (clock_gettime(2)); FreeBSD's CLOCK_MONOTONIC does the same.
#[cfg(target_os = "linux")]
const STEADY: ClockId = ClockId::CLOCK_BOOTTIME;
/// Counts on and is not set by anybody (clock_gettime(2)).
#[cfg(not(target_os = "linux"))]
const STEADY: ClockId = ClockId::CLOCK_MONOTONIC;

/// Now, since the system's boot.
pub fn now() -> Time {
    // The call fails only for clocks that do not exist (clock_gettime(2)).
    clock_gettime(STEADY).map_or(Time(0), |t| Time(Duration::from(t).as_micros() as u64))
}

/// The wall clock's time at `time`, as the wall clock goes at this moment.
pub fn wall(time: Time) -> Timestamp {
    let (now, wall) = (now(), Timestamp::now());
    let moved = if time >= now {
        wall.checked_add(time.since(now))
    } else {
        wall.checked_sub(now.since(time))
    };
    moved.unwrap_or(Timestamp::MAX)
}

/// RFC 3339, UTC, whole seconds: for people.
pub fn seconds(time: Timestamp) -> String {
    format!("{time:.0}")
}
