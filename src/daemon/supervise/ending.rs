//! Listeners that were told to end and have yet to be gone. Nobody waits for them: one may be
//! stuck in the kernel, and where root may not send signals to other users (no CAP_KILL) one
//! that somebody else has taken over need not leave at all.

use std::process::Child;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;

use crate::time::Time;

/// So many at once; while there are, no listener is started.
const MOST: usize = 8;
/// Between two looks whether they are gone: this at first, and growing.
const SHORTEST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// How long they are waited for when the daemon stops.
const STOP_IN: Duration = Duration::from_secs(1);

/// How long one is waited for whose socket is closed: there are pauses between listeners, so one
/// that closes it and lives on gains nothing.
const ENDS_IN: Duration = Duration::from_millis(20);

/// Processes to be reaped.
#[derive(Default)]
pub struct Ending {
    children: Vec<Child>,
    /// When to look next, and the pause after that.
    look: Option<(Time, Duration)>,
}

impl Ending {
    /// Kills a listener and whatever it has started.
    pub fn end(&mut self, mut child: Child, now: Time) {
        kill(&mut child);
        self.children.push(child);
        self.look = Some((now + SHORTEST_PAUSE, SHORTEST_PAUSE));
    }

    /// Reaps those that are gone.
    pub fn reap(&mut self, now: Time) {
        self.children.retain_mut(|child| {
            // An error: it is no child of ours any more.
            let stays = matches!(child.try_wait(), Ok(None));
            if stays {
                kill(child);
            }
            stays
        });
        self.look = match self.look {
            _ if self.children.is_empty() => None,
            Some((at, pause)) if at <= now => {
                let pause = (pause * 4).min(LONGEST_PAUSE);
                Some((now + pause, pause))
            }
            later => later,
        };
    }

    /// When [`Ending::reap`] may have something to do.
    pub fn next(&self) -> Option<Time> {
        self.look.map(|(at, _)| at)
    }

    /// How many are not gone, if they are too many.
    pub fn too_many(&self) -> Option<usize> {
        let all = self.children.len();
        (all >= MOST).then_some(all)
    }

    /// Waits for them a moment, for the last time.
    pub fn wait(&mut self) {
        let began = Instant::now();
        loop {
            self.reap(Time(0));
            if self.children.is_empty() || began.elapsed() >= STOP_IN {
                return;
            }
            std::thread::sleep(SHORTEST_PAUSE);
        }
    }
}

/// The child must not have been reaped: until then the number is its own and its group's.
fn kill(child: &mut Child) {
    let _ = killpg(number(child), Signal::SIGKILL);
    let _ = child.kill();
}

fn number(child: &Child) -> Pid {
    Pid::from_raw(child.id() as i32)
}

/// How a child has ended whose socket is closed, in words, if it has or is about to: the system
/// closes its files before it tells of its end.
pub fn ended_by_now(child: &Child) -> Option<String> {
    let began = Instant::now();
    loop {
        let how = ended(child);
        if how.is_some() || began.elapsed() >= ENDS_IN {
            return how;
        }
        std::thread::sleep(SHORTEST_PAUSE);
    }
}

/// How a child has ended, in words, if it has; it stays to be reaped.
fn ended(child: &Child) -> Option<String> {
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT | WaitPidFlag::WNOHANG;
    match waitid(Id::Pid(number(child)), flags) {
        Ok(WaitStatus::Exited(_, code)) => Some(format!("exit status {code}")),
        Ok(WaitStatus::Signaled(_, signal, _)) => Some(format!("killed by {signal}")),
        _ => None,
    }
}
