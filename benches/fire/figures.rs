//! What has been measured, for the goals.

use std::time::Duration;

/// All of it.
#[derive(Default)]
pub struct Figures {
    pub opened: Vec<Opened>,
    pub costs: Vec<Cost>,
    pub successes: Vec<Success>,
    pub memory: Option<Memory>,
    /// The name of the best way to drive nftables: what its goals are about.
    pub best: String,
}

/// From the last knock to opened.
pub struct Opened {
    pub who: String,
    /// Whether it is ours, and in nftables.
    pub ours_in_nft: bool,
    pub doors: usize,
    pub knocks: usize,
    /// Of those that opened at all.
    pub times: Vec<Duration>,
}

impl Opened {
    /// The time within which so many in a hundred had opened.
    pub fn percentile(&self, percent: usize) -> Option<Duration> {
        let mut times = self.times.clone();
        times.sort_unstable();
        let at = (times.len() * percent).div_ceil(100).max(1) - 1;
        times.get(at).copied()
    }
}

/// Processor time a packet, in nanoseconds.
pub struct Cost {
    pub what: String,
    pub rate: u32,
    /// Ours.
    pub each: f64,
    /// tcpdump's, in the same place.
    pub floor: Option<f64>,
}

/// Who gets in under a flood.
pub struct Success {
    pub who: String,
    pub attack: &'static str,
    /// The rate that was wanted; none: as fast as the sender can.
    pub rate: Option<u32>,
    pub real: f64,
    pub knocks: usize,
    /// Those that opened; of tcpdump, that were heard whole.
    pub opened: usize,
    /// From the last step to opened.
    pub median: Option<Duration>,
    /// Packets that the kernel dropped for want of room, in percent of those sent.
    pub dropped: Option<f64>,
    pub ours: bool,
    /// Those of the knocks that reached tcpdump whole, at the same rate.
    pub floor: bool,
}

impl Success {
    /// In percent.
    pub fn percent(&self) -> f64 {
        100.0 * self.opened as f64 / self.knocks.max(1) as f64
    }
}

/// Memory, and what is done while nothing happens.
#[derive(Clone, Copy, Default)]
pub struct Memory {
    pub idle_kib: u64,
    /// The same, each page by as many as have it.
    pub idle_shared_kib: u64,
    pub flooded_kib: Option<u64>,
    pub idle: Duration,
    /// Tenths of a second in which listener and monitor woke up.
    pub moments: [u64; 2],
    pub lines_a_second: Option<f64>,
}
