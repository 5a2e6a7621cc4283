//! What processes have used, as proc(5) tells.

use std::fs;
use std::time::Duration;

use nix::unistd::Pid;

/// Time on a processor, exact, and how it falls into user and system time, by the clock's ticks.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cpu {
    /// All of it.
    pub time: Duration,
    user: u64,
    system: u64,
}

impl Cpu {
    /// Of all threads of these processes so far.
    pub fn of(processes: &[Pid]) -> Cpu {
        let mut cpu = Cpu::default();
        for process in processes {
            let tasks = fs::read_dir(format!("/proc/{process}/task"));
            for task in tasks.into_iter().flatten().flatten() {
                // /proc/PID/schedstat: nanoseconds on a processor, waiting for one, time slices
                // (linux/Documentation/scheduler/sched-stats.rst).
                let text = fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
                let first = text.split(' ').next().and_then(|n| n.parse().ok());
                cpu.time += Duration::from_nanos(first.unwrap_or(0));
            }
            let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
            let behind_name = stat.rsplit(") ").next().unwrap_or_default();
            // utime and stime are fields 14 and 15; the state, field 3, comes first here.
            let mut ticks = behind_name
                .split(' ')
                .skip(11)
                .map(|n| n.parse().unwrap_or(0));
            cpu.user += ticks.next().unwrap_or(0u64);
            cpu.system += ticks.next().unwrap_or(0u64);
        }
        cpu
    }

    /// What has been used since.
    pub fn since(self, before: Cpu) -> Cpu {
        Cpu {
            time: self.time.saturating_sub(before.time),
            user: self.user.saturating_sub(before.user),
            system: self.system.saturating_sub(before.system),
        }
    }

    /// Nanoseconds for each of so many packets.
    pub fn each(&self, packets: u64) -> f64 {
        self.time.as_nanos() as f64 / packets.max(1) as f64
    }

    /// The share of system time, in percent; none where there were too few ticks to tell.
    pub fn system_share(&self) -> Option<u64> {
        let all = self.user + self.system;
        (all >= 10).then(|| self.system * 100 / all)
    }
}

/// A number of /proc/PID/status: VmRSS in KiB, voluntary_ctxt_switches.
pub fn status(process: Pid, figure: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = text
        .lines()
        .find_map(|l| l.strip_prefix(figure)?.strip_prefix(':'));
    let number = line.and_then(|l| l.split_whitespace().next()?.parse().ok());
    number.unwrap_or(0)
}

/// KiB resident.
pub fn resident(processes: &[Pid]) -> u64 {
    processes.iter().map(|p| status(*p, "VmRSS")).sum()
}

/// KiB resident, those that it shares with others by its part (Pss of proc_pid_smaps(5)).
pub fn proportional(process: Pid) -> u64 {
    let text = fs::read_to_string(format!("/proc/{process}/smaps_rollup")).unwrap_or_default();
    let line = text.lines().find_map(|l| l.strip_prefix("Pss:"));
    let number = line.and_then(|l| l.split_whitespace().next()?.parse().ok());
    number.unwrap_or(0)
}

/// How often they have woken up, which is how often they have gone to sleep.
pub fn wakeups(processes: &[Pid]) -> u64 {
    let each = processes.iter();
    each.map(|p| status(*p, "voluntary_ctxt_switches")).sum()
}
