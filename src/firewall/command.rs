//! Doors that run the administrator's commands.
//!
//! `%IP%` stands for the address, wherever it occurs in the line, as in knockd.conf(5). A line
//! of plain words that begins with an absolute path is run as it is; any other is given to
//! `/bin/sh -c`. The address is one that was formatted here: digits, `a` to `f`, `.` and `:`,
//! none of which means anything to a shell.
//!
//! Commands run in threads of their own, so that a slow one keeps nobody waiting: at most 16 at
//! once, of which each door has its share. Those of one door and address run one after another
//! in the order they were asked for. They outlive this object, and this program.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::{self, Read, Write};
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::config::{Action, Commands, Door};

use super::run::{self, Keep, Program};
use super::{Done, Failure, Firewall, Opening, Order, Upkeep, What};

/// How many commands run at once.
const AT_ONCE: usize = 16;
/// How many start commands may wait at a door that has no leases to bound them.
const WAITING: usize = 64;
/// What stands for the address.
const ADDRESS: &str = "%IP%";

/// The command doors.
#[derive(Debug)]
pub struct CommandDoors {
    /// By their places; `None`: the door opens in the packet filter.
    doors: Vec<Option<CommandDoor>>,
    shared: Arc<Shared>,
    woken: UnixStream,
    /// What was known as soon as it was asked.
    told: Vec<Done>,
}

#[derive(Debug)]
struct CommandDoor {
    name: Arc<str>,
    commands: Commands,
    /// How many start commands may wait.
    waiting: usize,
}

impl CommandDoor {
    /// The line to run; `None`: there is nothing to run.
    fn line(&self, what: What, address: IpAddr) -> Option<String> {
        match what {
            What::Open { .. } => start_line(&self.commands, address),
            What::Extend { .. } => None,
            What::Close => stop_line(&self.commands, address),
        }
    }
}

/// What a grant at a door with these commands runs, `%IP%` replaced; `None`: nothing.
pub fn start_line(commands: &Commands, address: IpAddr) -> Option<String> {
    line(Some(&commands.start), commands.start_6.as_ref(), address)
}

/// What the end of a lease at a door with these commands runs, `%IP%` replaced; `None`: nothing,
/// as where nothing was started. A door without a stop command has none for IPv6 either.
pub fn stop_line(commands: &Commands, address: IpAddr) -> Option<String> {
    start_line(commands, address)?;
    line(commands.stop.as_ref(), commands.stop_6.as_ref(), address)
}

fn line(line: Option<&String>, line_6: Option<&String>, address: IpAddr) -> Option<String> {
    let line = line?;
    let line = line_6.filter(|_| address.is_ipv6()).unwrap_or(line);
    (!line.trim().is_empty()).then(|| line.replace(ADDRESS, &address.to_string()))
}

/// An address at a door, the door by its name: places change at a reload.
type Who = (Arc<str>, IpAddr);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    wake: UnixStream,
}

#[derive(Debug, Default)]
struct State {
    /// By door.
    queues: BTreeMap<Arc<str>, Queue>,
    /// The door that was served last: the others go first.
    last: Option<Arc<str>>,
    /// How many workers there are.
    workers: usize,
    /// Whether one of them has yet to look for work.
    hiring: bool,
    /// How many of them one door may have.
    share: usize,
    /// Started and not stopped.
    started: BTreeSet<Who>,
    /// Whose start command was refused: they are owed no stop command.
    refused: BTreeSet<Who>,
    finished: Vec<(Who, What, Result<(), Failure>)>,
    /// Stop commands of [`CommandDoors::run_owed`] that have been run.
    owed: Vec<(Who, Result<(), Failure>)>,
}

#[derive(Debug, Default)]
struct Queue {
    /// What waits, by address, in order. An address whose command runs has an entry, too.
    waiting: BTreeMap<IpAddr, VecDeque<Job>>,
    /// The addresses whose first job may run now.
    ready: VecDeque<IpAddr>,
    running: usize,
    /// How many start commands wait.
    starts: usize,
}

#[derive(Debug)]
struct Job {
    what: What,
    line: Option<String>,
    limit: Duration,
    /// Of [`CommandDoors::run_owed`].
    owed: bool,
}

impl State {
    /// Puts a job behind those of the same address.
    fn push(&mut self, (door, address): Who, job: Job) {
        let queue = self.queues.entry(door).or_default();
        queue.starts += usize::from(matches!(job.what, What::Open { .. }));
        let idle = !queue.waiting.contains_key(&address);
        queue.waiting.entry(address).or_default().push_back(job);
        if idle {
            queue.ready.push_back(address);
        }
    }

    /// The door whose turn it is, if any has something to run and may.
    fn turn(&self) -> Option<Arc<str>> {
        let may = |queue: &Queue| !queue.ready.is_empty() && queue.running < self.share.max(1);
        let mut able = self
            .queues
            .iter()
            .filter(|(_, queue)| may(queue))
            .map(|(name, _)| name);
        let first = able.clone().next();
        able.find(|&name| Some(name) > self.last.as_ref())
            .or(first)
            .cloned()
    }

    /// Takes the next job.
    fn next(&mut self) -> Option<(Who, Job)> {
        let door = self.turn()?;
        let queue = self.queues.get_mut(&door)?;
        let address = queue.ready.pop_front()?;
        let job = queue.waiting.get_mut(&address)?.pop_front()?;
        queue.running += 1;
        queue.starts -= usize::from(matches!(job.what, What::Open { .. }));
        self.last = Some(door.clone());
        Some(((door, address), job))
    }

    /// Notes what became of it, and lets the next of the same address come forward.
    fn finish(&mut self, who: Who, job: &Job, result: Result<(), Failure>) {
        let what = job.what;
        if let Some(queue) = self.queues.get_mut(&who.0) {
            queue.running -= 1;
            if queue.waiting.get(&who.1).is_some_and(VecDeque::is_empty) {
                queue.waiting.remove(&who.1);
            } else {
                queue.ready.push_back(who.1);
            }
            if queue.waiting.is_empty() {
                self.queues.remove(&who.0);
            }
        }
        match what {
            What::Open { remaining: Some(_) } if result.is_ok() => {
                self.started.insert(who.clone());
            }
            What::Close => {
                self.started.remove(&who);
            }
            _ => {}
        }
        match job.owed {
            true => self.owed.push((who, result)),
            false => self.finished.push((who, what, result)),
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self) {
        // Full: it will wake as it is. Closed: nobody is left to be woken.
        let _ = (&self.wake).write(&[0]);
    }

    /// Sees to it that a worker comes if something may run. One at a time: as soon as it has
    /// found work it sees whether another is needed.
    fn hire(self: &Arc<Shared>) {
        let mut state = self.state();
        if state.hiring || state.workers >= AT_ONCE || state.turn().is_none() {
            return;
        }
        let shared = Arc::clone(self);
        let hired = std::thread::Builder::new()
            .name("command".to_owned())
            .spawn(move || shared.work());
        match hired {
            Ok(_) => {
                state.hiring = true;
                state.workers += 1;
            }
            // Those there are will come to it.
            Err(_) if state.workers > 0 => {}
            Err(error) => {
                while let Some((who, job)) = state.next() {
                    let failure = run::not_run(job.line.clone().unwrap_or_default(), &error);
                    state.finish(who, &job, Err(failure));
                }
                self.wake();
            }
        }
    }

    /// A worker's life.
    fn work(self: &Arc<Shared>) {
        let mut state = self.state();
        state.hiring = false;
        while let Some((who, job)) = state.next() {
            drop(state);
            self.hire();
            let result = job
                .line
                .as_deref()
                .map_or(Ok(()), |line| run_line(line, job.limit));
            state = self.state();
            state.finish(who, &job, result);
            self.wake();
        }
        state.workers -= 1;
    }
}

impl CommandDoors {
    /// No doors yet. Fails if the system has no descriptors left.
    pub fn new() -> Result<CommandDoors, Failure> {
        let pair = UnixStream::pair().and_then(|(woken, wake)| {
            woken.set_nonblocking(true)?;
            wake.set_nonblocking(true)?;
            Ok((woken, wake))
        });
        let (woken, wake) =
            pair.map_err(|error| Failure::Unexpected(format!("socketpair: {error}")))?;
        Ok(CommandDoors {
            doors: Vec::new(),
            shared: Arc::new(Shared {
                state: Mutex::default(),
                wake,
            }),
            woken,
            told: Vec::new(),
        })
    }

    /// Takes an order in; what is known of it at once.
    fn take(&self, state: &mut State, order: Order) -> Option<Result<(), Failure>> {
        let Order { opening, what } = order;
        let Some(Some(door)) = self.doors.get(usize::from(opening.door)) else {
            return Some(Err(super::no_door(opening.door)));
        };
        let who: Who = (door.name.clone(), opening.address.address());
        match what {
            What::Extend { .. } => return Some(Ok(())),
            What::Open { .. } => {
                let waiting = state.queues.get(&door.name).map_or(0, |queue| queue.starts);
                if waiting >= door.waiting {
                    // Nobody would take it out again where no stop command comes.
                    if door.commands.stop.is_some() {
                        state.refused.insert(who);
                    }
                    return Some(Err(Failure::Unexpected(format!(
                        "door {}: {waiting} start commands are waiting already: not run",
                        door.name
                    ))));
                }
                state.refused.remove(&who);
            }
            What::Close if door.commands.stop.is_none() => return Some(Ok(())),
            What::Close if state.refused.remove(&who) => return Some(Ok(())),
            What::Close => {}
        }
        let job = Job {
            what,
            line: door.line(what, opening.address.address()),
            limit: door.commands.run_limit,
            owed: false,
        };
        state.push(who, job);
        None
    }

    /// Runs a stop command that a door owes which is configured no more, behind whatever still
    /// runs for it. What became of it is told by [`CommandDoors::owed`].
    pub fn run_owed(&self, door: &str, address: IpAddr, line: String, limit: Duration) {
        let job = Job {
            what: What::Close,
            line: Some(line),
            limit,
            owed: true,
        };
        self.shared.state().push((door.into(), address), job);
        self.shared.hire();
    }

    /// The stop commands of [`CommandDoors::run_owed`] that have been run since the last call:
    /// the door by its name, the address, what became of it.
    pub fn owed(&self) -> Vec<(String, IpAddr, Result<(), Failure>)> {
        let owed = std::mem::take(&mut self.shared.state().owed);
        let told = |((door, address), result): (Who, _)| (door.to_string(), address, result);
        owed.into_iter().map(told).collect()
    }

    /// Whether commands run or wait to be run.
    pub fn busy(&self) -> bool {
        let state = self.shared.state();
        state
            .queues
            .values()
            .any(|queue| queue.running > 0 || !queue.waiting.is_empty())
    }

    fn replace(&mut self, openings: &[(Opening, Option<Duration>)]) {
        let who = |opening: Opening| {
            let door = self.doors.get(usize::from(opening.door))?.as_ref()?;
            Some((door.name.clone(), opening.address.address()))
        };
        let started = openings
            .iter()
            .filter_map(|&(opening, _)| who(opening))
            .collect();
        self.shared.state().started = started;
    }

    /// The place of a door by its name.
    fn place(&self, name: &str) -> Option<u16> {
        let named = |door: &Option<CommandDoor>| door.as_ref().is_some_and(|d| *d.name == *name);
        u16::try_from(self.doors.iter().position(named)?).ok()
    }
}

impl Firewall for CommandDoors {
    fn name(&self) -> &'static str {
        "command"
    }

    /// Runs nothing: `openings` are leases whose start command has been run.
    fn establish(
        &mut self,
        doors: &[Door],
        openings: &[(Opening, Option<Duration>)],
    ) -> Result<Upkeep, Failure> {
        self.doors = doors
            .iter()
            .map(|door| match &door.action {
                Action::Open(_) => None,
                Action::Command(commands) => Some(CommandDoor {
                    name: door.name.as_str().into(),
                    waiting: match commands.stop {
                        Some(_) => door.max_leases.max(1),
                        None => WAITING,
                    },
                    commands: commands.clone(),
                }),
            })
            .collect();
        self.replace(openings);
        let doors = self.doors.iter().flatten().count();
        let mut state = self.shared.state();
        state.share = AT_ONCE / doors.clamp(1, AT_ONCE);
        state.refused.retain(|(name, _)| self.place(name).is_some());
        drop(state);
        // A larger share may let more run.
        self.shared.hire();
        Ok(Upkeep::default())
    }

    fn uphold(&mut self, openings: &[(Opening, Option<Duration>)]) -> Result<Upkeep, Failure> {
        let _ = openings;
        Ok(Upkeep::default())
    }

    fn apply(&mut self, orders: &[Order]) {
        let mut state = self.shared.state();
        for &order in orders {
            if let Some(result) = self.take(&mut state, order) {
                self.told.push(Done { order, result });
            }
        }
        drop(state);
        self.shared.hire();
    }

    fn done(&mut self) -> Vec<Done> {
        let mut woken = &self.woken;
        while matches!(woken.read(&mut [0; 256]), Ok(1..)) {}
        let finished = std::mem::take(&mut self.shared.state().finished);
        let mut done = std::mem::take(&mut self.told);
        done.extend(
            finished
                .into_iter()
                .filter_map(|((name, address), what, result)| {
                    let door = self.place(&name)?;
                    let address = address.into();
                    let opening = Opening { door, address };
                    Some(Done {
                        order: Order { opening, what },
                        result,
                    })
                }),
        );
        done
    }

    fn wake_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.woken.as_fd())
    }

    /// Those started and not stopped, as far as this process knows.
    fn openings(&mut self) -> Result<Vec<Opening>, Failure> {
        let state = self.shared.state();
        let opening = |(name, address): &Who| {
            let door = self.place(name)?;
            Some(Opening {
                door,
                address: (*address).into(),
            })
        };
        let mut openings: Vec<Opening> = state.started.iter().filter_map(opening).collect();
        openings.sort_unstable();
        Ok(openings)
    }

    /// Forgets what was started. Commands that run or wait go on.
    fn remove(&mut self) -> Result<(), Failure> {
        self.shared.state().started.clear();
        Ok(())
    }
}

/// What to do with a line.
#[derive(Debug, PartialEq, Eq)]
enum Line<'a> {
    /// Run this program with these arguments.
    Words(&'a str, Vec<&'a str>),
    /// Give it to the shell.
    Shell,
}

/// A line needs no shell if it consists of words separated by blanks, the first of them an
/// absolute path, and no character in it means anything to a shell: letters, digits and
/// `_ - . / : @ % + = ,`.
fn read_line(line: &str) -> Line<'_> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b" \t_-./:@%+=,".contains(&b);
    let mut words = line.split([' ', '\t']).filter(|word| !word.is_empty());
    match words.next() {
        Some(path) if path.starts_with('/') && line.bytes().all(plain) => {
            Line::Words(path, words.collect())
        }
        _ => Line::Shell,
    }
}

fn run_line(line: &str, limit: Duration) -> Result<(), Failure> {
    let run = |path, args: &[&str]| {
        run::run(&Program {
            path: Path::new(path),
            args,
            env: &[("PATH", run::PATH)],
            stdin: &[],
            stdout: Keep::Last(run::KEPT),
            stderr: None,
            limit,
        })
    };
    let by_shell = || run("/bin/sh", &["-c", line]);
    let ended = match read_line(line) {
        Line::Shell => by_shell(),
        Line::Words(path, args) => match run(path, &args) {
            // A script that does not name its interpreter is the shell's.
            Err(error) if error.raw_os_error() == Some(nix::libc::ENOEXEC) => by_shell(),
            ended => ended,
        },
    };
    let ended = ended.map_err(|error: io::Error| run::not_run(line.to_owned(), &error))?;
    match ended.status {
        None => Err(Failure::TooSlow {
            command: line.to_owned(),
            limit,
        }),
        Some(status) if !status.success() => Err(Failure::Refused {
            command: line.to_owned(),
            status: run::in_words(status),
            output: run::on_one_line(&ended.stdout),
        }),
        Some(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests;
