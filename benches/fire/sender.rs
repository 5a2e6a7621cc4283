//! Who sends: a flood at a rate, and legitimate knocks in the midst of it, on the dot.

use std::os::fd::{AsRawFd, OwnedFd};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;

use crate::forge::Forger;
use crate::harness::Host;

/// The most frames given to the kernel in one call.
const TOGETHER: usize = 64;
/// So many times a second a flood sends what is due.
const BATCHES: u32 = 5000;
/// What is overdue for longer than this, because the sender did not run, is not made up for:
/// no flood comes in a burst.
const FORGOTTEN: Duration = Duration::from_millis(5);

/// What is to be sent.
pub struct Plan {
    /// The flood, if there is one.
    pub flood: Option<Forger>,
    /// Packets a second; none: as many as the sender can.
    pub rate: Option<u32>,
    /// When which frame of a knock is sent, in order.
    pub knocks: Vec<(Duration, Vec<u8>)>,
    /// How long, from the start.
    pub lasts: Duration,
}

/// What has been sent.
pub struct Sent {
    /// When it began.
    pub start: Instant,
    /// Packets of the flood.
    pub flood: u64,
    /// How long it took.
    pub took: Duration,
    /// How long the sender was on its processor, with all that the kernel did for its packets.
    pub ran: Duration,
    /// When each frame of the knocks was sent.
    pub knocks: Vec<Instant>,
}

impl Sent {
    /// Packets of the flood a second.
    pub fn rate(&self) -> f64 {
        self.flood as f64 / self.took.as_secs_f64()
    }
}

/// A socket for frames on eth0, past the queueing discipline.
pub struct Sender(OwnedFd);

impl Sender {
    /// One in this host.
    pub fn new(host: &Host) -> Sender {
        host.inside(|| {
            let wire = crate::harness::raw::Wire::new("eth0");
            let fd: OwnedFd = wire.into();
            let on: libc::c_int = 1;
            // SAFETY: the option takes an int (packet(7)), which lives as long as the call.
            let done = unsafe {
                libc::setsockopt(
                    fd.as_raw_fd(),
                    libc::SOL_PACKET,
                    libc::PACKET_QDISC_BYPASS,
                    (&raw const on).cast(),
                    size_of_val(&on) as libc::socklen_t,
                )
            };
            Errno::result(done).expect("PACKET_QDISC_BYPASS");
            Sender(fd)
        })
    }

    /// Sends one frame.
    pub fn send(&self, frame: &[u8]) -> Instant {
        let now = Instant::now();
        nix::unistd::write(&self.0, frame).expect("a frame is sent");
        now
    }

    /// Sends all of a plan from a thread of its own on the last processor.
    pub fn run(&self, plan: &Plan) -> Sent {
        thread::scope(|scope| {
            let sending = scope.spawn(|| {
                pin(processors() - 1);
                self.send_all(plan)
            });
            sending.join().expect("the sender goes on")
        })
    }

    fn send_all(&self, plan: &Plan) -> Sent {
        let mut batch = plan.flood.as_ref().map(Batch::new);
        let (mut sent, mut knocks) = (0u64, Vec::new());
        let ran_before = ran();
        let start = Instant::now();
        // What was due at this time has been sent, or is forgotten.
        let (mut base, mut since) = (Duration::ZERO, 0u64);
        let step = plan
            .rate
            .map_or(TOGETHER as u64, |rate| u64::from(rate / BATCHES).max(1))
            .min(TOGETHER as u64);
        loop {
            let now = start.elapsed();
            while let Some((_, frame)) = plan.knocks.get(knocks.len()).filter(|k| k.0 <= now) {
                knocks.push(self.send(frame));
            }
            if now >= plan.lasts && knocks.len() == plan.knocks.len() {
                let took = start.elapsed();
                return Sent {
                    start,
                    flood: sent,
                    took,
                    ran: ran() - ran_before,
                    knocks,
                };
            }
            let next_knock = plan.knocks.get(knocks.len()).map_or(plan.lasts, |k| k.0);
            let (Some(batch), Some(forger)) = (&mut batch, &plan.flood) else {
                doze(next_knock.saturating_sub(start.elapsed()));
                continue;
            };
            let due = match plan.rate {
                None => step,
                Some(rate) => {
                    let rate = f64::from(rate);
                    let late = (now - base).as_secs_f64() - since as f64 / rate;
                    if late > FORGOTTEN.as_secs_f64() {
                        (base, since) = (now, 0);
                    }
                    ((now - base).as_secs_f64() * rate) as u64
                }
                .saturating_sub(since),
            };
            if due < step {
                let rate = f64::from(plan.rate.unwrap_or(1));
                let next = base + Duration::from_secs_f64((since + step) as f64 / rate);
                doze(next.min(next_knock).saturating_sub(start.elapsed()));
                continue;
            }
            let n = due.min(TOGETHER as u64) as usize;
            let done = batch.send(&self.0, forger, sent, n);
            sent += done;
            since += done;
        }
    }
}

/// How long this thread has been on a processor.
fn ran() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}

/// Waits for so long, without sleep where it is short.
fn doze(time: Duration) {
    const LATE: Duration = Duration::from_micros(150);
    match time.checked_sub(LATE) {
        Some(sleep) if !sleep.is_zero() => thread::sleep(sleep),
        _ => std::hint::spin_loop(),
    }
}

/// Frames that are given to the kernel together.
struct Batch {
    frames: Vec<Vec<u8>>,
}

impl Batch {
    fn new(forger: &Forger) -> Batch {
        Batch {
            frames: vec![forger.template(); TOGETHER],
        }
    }

    /// Sends the frames from the nth on; how many the kernel has taken.
    fn send(&mut self, socket: &OwnedFd, forger: &Forger, from: u64, n: usize) -> u64 {
        let frames = &mut self.frames[..n];
        for (at, frame) in (from..).zip(frames.iter_mut()) {
            forger.write(at, frame);
        }
        let mut parts: Vec<libc::iovec> = frames
            .iter_mut()
            .map(|frame| libc::iovec {
                iov_base: frame.as_mut_ptr().cast(),
                iov_len: frame.len(),
            })
            .collect();
        let mut messages: Vec<libc::mmsghdr> = parts
            .iter_mut()
            .map(|part| {
                // SAFETY: all zeros is a valid mmsghdr: null pointers with lengths of 0.
                let mut message: libc::mmsghdr = unsafe { std::mem::zeroed() };
                message.msg_hdr.msg_iov = part;
                message.msg_hdr.msg_iovlen = 1;
                message
            })
            .collect();
        let (fd, all) = (socket.as_raw_fd(), messages.as_mut_ptr());
        // SAFETY: `all` points to n messages, each to one part, each to one frame; these vectors
        // live until the call is over.
        let sent = unsafe { libc::sendmmsg(fd, all, n as libc::c_uint, 0) };
        match Errno::result(sent) {
            Ok(sent) => sent as u64,
            Err(Errno::ENOBUFS | Errno::EAGAIN | Errno::EINTR) => 0,
            Err(errno) => panic!("sendmmsg: {errno}"),
        }
    }
}

/// How many processors there are for us.
pub fn processors() -> usize {
    thread::available_parallelism().map_or(1, |n| n.get())
}

/// Keeps this thread on one processor.
fn pin(processor: usize) {
    let mut set = CpuSet::new();
    set.set(processor).expect("a processor");
    let _ = sched_setaffinity(Pid::from_raw(0), &set);
}
