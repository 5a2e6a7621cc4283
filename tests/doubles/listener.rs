//! posternd with a listener that somebody else has taken over.
//!
//! The monitor is the real one. What the listener does stands in the file `listener` beside this
//! executable, read anew by each listener, a line an act, one after another:
//!
//! ```text
//! honest                        the real listener, as a child; what follows comes in between
//! hello [VERSION]               its first word
//! ready BITS, lost N, drained   the other events; ready says first that it is confined
//! unconfined BITS               ready without that
//! trouble TIMES                 so many, no two alike
//! counted N                     every figure N
//! grant DOOR KNOCK LINE ADDRESS
//! timeout DOOR KNOCK LINE ADDRESS
//! elder DOOR KNOCK LINE ADDRESS of the generation before
//! many DOOR TIMES [ADDRESS]     grants, for that address or for as many others
//! authorized KEY DOORS ADDRESS AGE PROOF
//!                               a packet of a key for the doors of these bits, AGE seconds old
//! elder authorized ...          of the generation before
//! proofs KEY DOORS TIMES        so many packets, each for another address by another proof
//! unusable KEY                  a packet of a key that is of no use
//! half                          half of a grant
//! garbage BYTES
//! fork TIMES                    children that stay
//! pause MILLISECONDS
//! become USER                   loses its privileges to that number, for good
//! leave                         ends at once
//! ```
//!
//! Behind its last line it stays, reads nothing, says nothing and heeds no signal that it can
//! ignore.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, UNIX_EPOCH};
use std::{env, fs, thread};

use nix::sys::signal::{SigSet, Signal};
use nix::unistd::{Uid, setuid};
use postern::daemon::sandbox::Layers;
use postern::daemon::wire::{Counted, Down, EVENT, Event, Knocked, Sealed, Unusable, VERSION};
use postern::daemon::{listener, monitor, spawn};
use postern::knock::Counters;
use postern::knock::spa::{Authorized, Refused};

/// The argument of a child that is the real listener.
const HONEST: &str = "--honest";

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().collect();
    match arguments.get(1).map(String::as_str) {
        Some(spawn::LISTENER) => {
            // Killed or cut off: nobody is left to be told.
            let _ = live();
            ExitCode::FAILURE
        }
        Some(HONEST) => listener::run(),
        _ => monitor::run(options(&arguments)),
    }
}

fn options(arguments: &[String]) -> monitor::Options {
    let place = arguments.iter().position(|a| a == "-c");
    let config = place.and_then(|place| arguments.get(place + 1));
    monitor::Options {
        config: PathBuf::from(config.expect("-c FILE")),
        verbose: arguments.iter().any(|a| a == "--verbose"),
        ..monitor::Options::default()
    }
}

/// What this listener was given and what it says it with.
struct Taken {
    socket: Arc<Mutex<UnixStream>>,
    generation: u32,
}

fn live() -> io::Result<()> {
    for signal in SigSet::all().iter() {
        if signal != Signal::SIGCHLD {
            let ignore = nix::sys::signal::SigHandler::SigIgn;
            // SAFETY: no handler is installed; what cannot be ignored is refused.
            let _ = unsafe { nix::sys::signal::signal(signal, ignore) };
        }
    }
    let executable = fs::read_link("/proc/self/exe")?;
    let acts = fs::read_to_string(executable.with_file_name("listener"))?;
    let mut socket = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    let mut read = Vec::new();
    let setup = loop {
        if let Some(Down::Setup(setup)) = Down::decode(&mut read).map_err(io::Error::other)? {
            break setup;
        }
        let mut part = [0; 4096];
        let n = socket.read(&mut part)?;
        read.extend_from_slice(&part[..n]);
    };
    let taken = Taken {
        socket: Arc::new(Mutex::new(socket)),
        generation: setup.generation,
    };
    for act in acts.lines() {
        let words: Vec<&str> = act.split_whitespace().collect();
        match words[..] {
            ["honest"] => taken.honest(&Down::Setup(setup.clone()), &read)?,
            ["leave"] => return Ok(()),
            ["become", user] => setuid(Uid::from_raw(number(user) as u32))?,
            _ => taken.act(&words)?,
        }
    }
    loop {
        thread::park();
    }
}

impl Taken {
    fn say(&self, bytes: &[u8]) -> io::Result<()> {
        self.socket.lock().unwrap().write_all(bytes)
    }

    /// A real listener behind us hears what we hear and says what it says through us.
    fn honest(&self, setup: &Down, read: &[u8]) -> io::Result<()> {
        let (mut ours, theirs) = UnixStream::pair()?;
        Command::new("/proc/self/exe")
            .arg(HONEST)
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .spawn()?;
        ours.write_all(&setup.encode())?;
        ours.write_all(read)?;
        let (mut down, mut to) = (self.socket.lock().unwrap().try_clone()?, ours.try_clone()?);
        thread::spawn(move || io::copy(&mut down, &mut to));
        // Ready before anything else is said.
        let mut event = [0; EVENT];
        while !matches!(Event::decode(&event), Some(Event::Ready(_))) {
            ours.read_exact(&mut event)?;
            self.say(&event)?;
        }
        let up = self.socket.clone();
        thread::spawn(move || {
            while ours.read_exact(&mut event).is_ok() {
                let _ = up.lock().unwrap().write_all(&event);
            }
        });
        Ok(())
    }

    fn knocked(&self, door: &str, knock: &str, line: &str, address: IpAddr) -> Knocked {
        Knocked {
            generation: self.generation,
            door: number(door) as u16,
            knock: number(knock) as u16,
            line: number(line) as u32,
            stage: 3,
            address,
        }
    }

    fn sealed(&self, (key, doors, age): (&str, &str, &str), n: u64, address: IpAddr) -> Sealed {
        let age: i64 = age.parse().unwrap();
        let now = UNIX_EPOCH.elapsed().unwrap().as_secs();
        Sealed {
            generation: self.generation,
            is: Authorized {
                key: number(key) as u16,
                doors: number(doors) as u32,
                address,
                proof: u128::from(n).to_be_bytes(),
                at: now.saturating_add_signed(-age),
                lasts: 0,
            },
        }
    }

    fn act(&self, words: &[&str]) -> io::Result<()> {
        let event = match *words {
            ["hello"] => Event::Hello(VERSION),
            ["hello", version] => Event::Hello(number(version) as u32),
            ["ready", bits] => {
                self.say(&Event::Confined(Layers::ALL).encode())?;
                Event::Ready(number(bits))
            }
            ["unconfined", bits] => Event::Ready(number(bits)),
            ["lost", interface] => Event::Lost(number(interface) as u8),
            ["drained"] => Event::Drained,
            ["counted", n] => Event::Counted(counted(number(n))),
            ["grant", door, knock, line, address] => {
                Event::Grant(self.knocked(door, knock, line, address.parse().unwrap()))
            }
            ["timeout", door, knock, line, address] => {
                Event::Timeout(self.knocked(door, knock, line, address.parse().unwrap()))
            }
            ["elder", door, knock, line, address] => Event::Grant(Knocked {
                generation: self.generation - 1,
                ..self.knocked(door, knock, line, address.parse().unwrap())
            }),
            ["authorized", key, doors, address, age, proof] => Event::Authorized(self.sealed(
                (key, doors, age),
                number(proof),
                address.parse().unwrap(),
            )),
            ["elder", "authorized", key, doors, address, age, proof] => Event::Authorized(Sealed {
                generation: self.generation - 1,
                ..self.sealed((key, doors, age), number(proof), address.parse().unwrap())
            }),
            ["proofs", key, doors, times] => {
                return self.each(number(times), |n| {
                    Event::Authorized(self.sealed((key, doors, "0"), n, stranger(n)))
                });
            }
            ["unusable", key] => Event::Refused(Unusable {
                generation: self.generation,
                key: number(key) as u16,
                source: stranger(0),
                why: Refused::Stale,
            }),
            ["trouble", times] => {
                return self.each(number(times), |n| Event::trouble(255, &format!("no {n}")));
            }
            ["many", door, times] => {
                return self.each(number(times), |n| {
                    Event::Grant(self.knocked(door, "0", "0", stranger(n)))
                });
            }
            ["many", door, times, address] => {
                let one = Event::Grant(self.knocked(door, "0", "0", address.parse().unwrap()));
                return self.each(number(times), |_| one);
            }
            ["half"] => {
                let whole = Event::Grant(self.knocked("0", "0", "0", stranger(0))).encode();
                return self.say(&whole[..EVENT / 2]);
            }
            ["garbage", bytes] => {
                let noise = |n: u64| (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8;
                return self.say(&(0..number(bytes)).map(noise).collect::<Vec<_>>());
            }
            ["pause", millis] => {
                thread::sleep(Duration::from_millis(number(millis)));
                return Ok(());
            }
            ["fork", times] => {
                for _ in 0..number(times) {
                    Command::new("sleep").arg("1000").spawn()?;
                }
                return Ok(());
            }
            _ => panic!("{words:?}"),
        };
        self.say(&event.encode())
    }

    /// What `event` makes of each number, as fast as it is taken.
    fn each(&self, times: u64, event: impl Fn(u64) -> Event) -> io::Result<()> {
        let all: Vec<u64> = (0..times).collect();
        for part in all.chunks(64) {
            let bytes: Vec<[u8; EVENT]> = part.iter().map(|&n| event(n).encode()).collect();
            self.say(bytes.as_flattened())?;
        }
        Ok(())
    }
}

fn number(text: &str) -> u64 {
    text.parse().unwrap()
}

/// An address outside of every network of the tests, another one for each number.
fn stranger(n: u64) -> IpAddr {
    Ipv4Addr::from(0x0b00_0000 | (n as u32 & 0x00ff_ffff)).into()
}

fn counted(n: u64) -> Counted {
    Counted {
        packets: n,
        dropped: n,
        attempts: Counters {
            held: n,
            evicted: n,
            trapped: n,
            failed: n,
            timed_out: n,
            ..Counters::default()
        },
    }
}
