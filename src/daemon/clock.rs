//! The two clocks: one that lease ends and timeouts are counted by, one that people read.

use std::io;
#[cfg(target_os = "linux")]
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use jiff::Timestamp;
use nix::poll::PollTimeout;
#[cfg(target_os = "linux")]
use nix::sys::time::TimeSpec;
#[cfg(target_os = "linux")]
use nix::sys::timerfd::{self, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use nix::time::{ClockId, clock_gettime};

use crate::time::Time;

/// Counts on through suspension and is not set by anybody (clock_gettime(2)).
#[cfg(target_os = "linux")]
const STEADY: ClockId = ClockId::CLOCK_BOOTTIME;
/// Is not set by anybody (clock_gettime(2)). No clock of FreeBSD's counts on through suspension
/// yet; this is the one that will (reviews.freebsd.org/D39270).
#[cfg(not(target_os = "linux"))]
const STEADY: ClockId = ClockId::CLOCK_MONOTONIC;

/// Now, since the system's boot.
pub fn now() -> Time {
    // The call fails only for clocks that do not exist (clock_gettime(2)).
    clock_gettime(STEADY).map_or(Time(0), |t| Time(Duration::from(t).as_micros() as u64))
}

/// Has poll(2) return at a time of [`now`]'s clock: its own timeout stands still in suspension,
/// and would let what is over stand for as long again.
#[cfg(target_os = "linux")]
pub struct Alarm(TimerFd);

#[cfg(target_os = "linux")]
impl Alarm {
    /// One that is not set.
    ///
    /// # Errors
    /// The system's.
    pub fn new() -> io::Result<Alarm> {
        let flags = TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK;
        Ok(Alarm(TimerFd::new(
            timerfd::ClockId::CLOCK_BOOTTIME,
            flags,
        )?))
    }

    /// Sets it: [`Alarm::fd`] can be read from then on. The timeout to give to poll(2) with it.
    pub fn set(&self, at: Time) -> PollTimeout {
        // Zero would unset it.
        let then = TimeSpec::from_duration(Duration::from_micros(at.0.max(1)));
        let absolute = TimerSetTimeFlags::TFD_TIMER_ABSTIME;
        match self.0.set(Expiration::OneShot(then), absolute) {
            Ok(()) => PollTimeout::NONE,
            Err(_) => timeout(at),
        }
    }

    /// To be polled for reading.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.0.as_fd())
    }
}

/// Has poll(2) return at a time of [`now`]'s clock.
#[cfg(not(target_os = "linux"))]
pub struct Alarm(());

#[cfg(not(target_os = "linux"))]
impl Alarm {
    /// One that is not set.
    ///
    /// # Errors
    /// None.
    pub fn new() -> io::Result<Alarm> {
        Ok(Alarm(()))
    }

    /// The timeout to give to poll(2).
    pub fn set(&self, at: Time) -> PollTimeout {
        timeout(at)
    }

    /// Nothing to be polled.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

/// From now on; rounded up: woken too early there would be nothing to do yet.
fn timeout(at: Time) -> PollTimeout {
    let left = at.since(now()).as_micros().div_ceil(1000);
    PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
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
