//! postern connect: ssh's ProxyCommand. Knocks, connects, and carries the stream.
//!
//! Nothing tells whether a door opened but the door. A guard drops what comes too early, without
//! a word, so connecting is tried again and again: for a short time first, so that a door which
//! opens at once is passed at once, then for longer, so that the answer of a distant host is
//! waited for. One try is given up before the next is made: the host is left with no connection
//! that nobody uses.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::ops::RangeInclusive;
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use socket2::{Domain, Socket, Type};

use super::profile::{self, Host, PORT, Way};
use super::{Common, Problem, address, complain, echo, knock, ping, relay, spa};
use crate::config::{Wrong, units};
use crate::exit::{self, words};

/// All of it, from resolving the name on, unless told otherwise.
const TIMEOUT: &str = "30s";

/// How long all of it may take.
const TIMEOUTS: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(600);

/// The first try after a knock. Each is twice as long as the one before it.
const FIRST_TRY: Duration = Duration::from_millis(20);

/// How long one way at one address is given the first time round; each time round it is twice as
/// long.
const FIRST_ROUND: Duration = Duration::from_secs(2);

/// For how long a refusal after a knock is not believed: packets come through, so the knock is
/// not far.
const REFUSED: Duration = Duration::from_secs(1);

#[derive(Args)]
pub(super) struct ConnectArgs {
    #[command(flatten)]
    common: Common,
    /// A host of the profile file, which is knocked at, or any other, which is not
    #[arg(value_hint = clap::ValueHint::Hostname)]
    host: String,
    /// What to connect to; as the profile says, or 22, unless given
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    port: Option<u16>,
    /// How long to try
    #[arg(short, long, value_name = "DURATION", default_value = TIMEOUT, value_parser = timeout)]
    timeout: Duration,
}

fn timeout(text: &str) -> Result<Duration, Wrong> {
    units::duration_within(text, &TIMEOUTS)
}

/// Connects, and is the stream until it has ended.
pub(super) fn run(args: &ConnectArgs) -> Result<(), Problem> {
    let deadline = Instant::now() + args.timeout;
    let common = &args.common;
    let (name, port, ways) = match whom(args)? {
        Some(host) => (host.address, args.port.unwrap_or(host.port), host.ways),
        None => (args.host.clone(), args.port.unwrap_or(PORT), Vec::new()),
    };
    let found = address::resolve_within(&name, common.family(), args.timeout)?;
    let attempt = Attempt {
        ways: &ways,
        port,
        source: common.source,
        deadline,
        verbose: common.verbose,
    };
    let mut candidates: Vec<Candidate> = found.into_iter().map(Candidate::new).collect();
    let Some(stream) = attempt.enter(&mut candidates) else {
        let lines: Vec<String> = candidates.iter().map(|c| attempt.said(c)).collect();
        return Err(Problem::new(exit::UNAVAILABLE, lines.join("\n")));
    };
    let broken = |e: io::Error| {
        let said = format!("{name} port {port}: {}", words(&e));
        Problem::new(exit::IOERR, said)
    };
    // As ssh sets them for a connection of its own.
    stream.set_tcp_nodelay(true).map_err(broken)?;
    stream.set_keepalive(true).map_err(broken)?;
    relay::carry(TcpStream::from(stream)).map_err(broken)
}

/// The host of the profile file, if it is one.
fn whom(args: &ConnectArgs) -> Result<Option<Host>, Problem> {
    let common = &args.common;
    let plain = |why: &str| {
        if common.verbose {
            complain(&format!("{}: {why}: no knock", args.host));
        }
        Ok(None)
    };
    let Some(file) = common.config.clone().or_else(profile::file) else {
        return plain("no home directory with a profile");
    };
    match profile::find_either(&file, &args.host) {
        Ok(Some(host)) => Ok(Some(host)),
        Ok(None) => plain(&format!("{} has no such host", file.display())),
        Err(e @ profile::Error::Absent { .. }) if common.config.is_none() => plain(&e.to_string()),
        Err(e) => Err(Problem::new(exit::CONFIG, e)),
    }
}

/// An address of the host, and what came of it so far.
struct Candidate {
    address: SocketAddr,
    /// Why connecting failed the last time.
    why: Option<io::Error>,
    /// Ways by which it was knocked at.
    knocked: Vec<&'static str>,
    /// Ways that could not be gone, and why.
    unsent: Vec<(&'static str, String)>,
    /// There is no point in trying it again.
    out: bool,
}

impl Candidate {
    fn new(address: SocketAddr) -> Candidate {
        Candidate {
            address,
            why: None,
            knocked: Vec::new(),
            unsent: Vec::new(),
            out: false,
        }
    }

    fn note_unsent(&mut self, kind: &'static str, why: String) {
        if !self.unsent.iter().any(|known| known.1 == why) {
            self.unsent.push((kind, why));
        }
    }
}

struct Attempt<'a> {
    /// None: the host is connected to, and that is all.
    ways: &'a [Way],
    port: u16,
    source: Option<IpAddr>,
    deadline: Instant,
    verbose: bool,
}

impl Attempt<'_> {
    /// Goes round ways and addresses until one lets in, or the time is over.
    fn enter(&self, candidates: &mut [Candidate]) -> Option<Socket> {
        let mut round = FIRST_ROUND;
        loop {
            let stream = match self.ways {
                [] => self.connect(candidates, round),
                _ => self.knock_and_connect(candidates, round),
            };
            if stream.is_some() || self.over() || candidates.iter().all(|c| c.out) {
                return stream;
            }
            round *= 2;
        }
    }

    fn over(&self) -> bool {
        Instant::now() >= self.deadline
    }

    /// So long from now, but no longer than all of it may take.
    fn until(&self, limit: Duration) -> Instant {
        self.deadline.min(Instant::now() + limit)
    }

    fn connect(&self, candidates: &mut [Candidate], round: Duration) -> Option<Socket> {
        let only = candidates.iter().filter(|c| !c.out).count() == 1;
        for at in candidates.iter_mut().filter(|c| !c.out) {
            let until = if only {
                self.deadline
            } else {
                self.until(round)
            };
            let limit = until.saturating_duration_since(Instant::now());
            match self.try_for(at.address, limit) {
                Ok(stream) => return Some(stream),
                Err(e) => {
                    at.out = e.kind() != io::ErrorKind::TimedOut;
                    at.why = Some(e);
                }
            }
        }
        None
    }

    fn knock_and_connect(&self, candidates: &mut [Candidate], round: Duration) -> Option<Socket> {
        let mut sent = vec![false; candidates.len()];
        for way in self.ways {
            for (at, sent) in candidates.iter_mut().zip(&mut sent) {
                if at.out || self.over() {
                    continue;
                }
                let kind = way.kind();
                let under_way = match self.knock(way, at.address) {
                    Ok(under_way) => under_way,
                    Err(why) => {
                        self.say(&format!("{}: {kind}: {why}", at.address.ip()));
                        at.note_unsent(kind, why);
                        continue;
                    }
                };
                self.say(&format!("{}: knocked by {kind}", at.address.ip()));
                let entered = self.reach(at, self.until(round));
                if entered.is_some() {
                    return entered;
                }
                match under_way
                    .filter(echo::Sent::is_certain)
                    .map(echo::Sent::wait)
                {
                    Some(Err(why)) => at.note_unsent(kind, why.to_string()),
                    _ => {
                        *sent = true;
                        if !at.knocked.contains(&kind) {
                            at.knocked.push(kind);
                        }
                    }
                }
            }
        }
        // It may be open all the same.
        for (at, sent) in candidates.iter_mut().zip(sent) {
            if !sent && !at.out && !self.over() {
                at.out = true;
                let entered = self.reach(at, self.until(round));
                if entered.is_some() {
                    return entered;
                }
            }
        }
        None
    }

    /// Knocks; what is still under way then.
    fn knock(&self, way: &Way, to: SocketAddr) -> Result<Option<echo::Sent>, String> {
        match way {
            Way::Sequence(sequence) => {
                let takes = sequence.takes();
                if Instant::now() + takes > self.deadline {
                    let takes = units::show_duration(takes);
                    return Err(format!("takes {takes}, more than what is left"));
                }
                knock::send(to, &sequence.steps, sequence.delay, self.source, |_| ())
                    .map(|()| None)
                    .map_err(|e| e.without_step())
            }
            Way::Ping(secret) => ping::knock(to, self.source, secret)
                .map(|(sent, _)| Some(sent))
                .map_err(|e| e.to_string()),
            Way::Spa(packet) => match spa::knock(to, self.source, packet, self.port) {
                Ok((sent, whom)) => {
                    if let Some(hint) = spa::hint(whom, to) {
                        self.say(&hint);
                    }
                    Ok(Some(sent))
                }
                Err(e) => Err(e.to_string()),
            },
        }
    }

    /// Tries to connect, again and again, since what comes before the door is open is dropped.
    fn reach(&self, at: &mut Candidate, mut until: Instant) -> Option<Socket> {
        let mut limit = FIRST_TRY;
        let mut refused = false;
        let began = Instant::now();
        for n in 1.. {
            let start = Instant::now();
            let left = until.saturating_duration_since(start);
            if left.is_zero() && n > 1 {
                break;
            }
            match self.try_for(at.address, limit.min(left)) {
                Ok(stream) => {
                    let took = units::show_duration(began.elapsed());
                    let address = at.address.ip();
                    self.say(&format!("{address}: connected by try {n}, after {took}"));
                    return Some(stream);
                }
                Err(e) => {
                    let silent = e.kind() == io::ErrorKind::TimedOut;
                    // What was said outweighs silence.
                    if !silent || !refused {
                        at.why = Some(e);
                    }
                    if !silent && !refused {
                        refused = true;
                        until = until.min(self.until(REFUSED));
                    }
                }
            }
            // An answer that came at once is not asked for again at once.
            let rest = limit.saturating_sub(start.elapsed());
            let left = until.saturating_duration_since(Instant::now());
            thread::sleep(rest.min(left));
            limit *= 2;
        }
        None
    }

    /// Tries to connect once.
    fn try_for(&self, address: SocketAddr, limit: Duration) -> io::Result<Socket> {
        if limit.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let mut to = address;
        to.set_port(self.port);
        let domain = Domain::for_address(to);
        let socket = Socket::new(domain, Type::STREAM, Some(socket2::Protocol::TCP))?;
        address::bind(&socket, to, self.source)?;
        socket.connect_timeout(&to.into(), limit)?;
        Ok(socket)
    }

    /// What came of an address, in one line.
    fn said(&self, at: &Candidate) -> String {
        let mut said = format!("{} port {}: ", echo::bare(at.address), self.port);
        match &at.why {
            None => said += "not tried, for lack of time",
            Some(e) if e.kind() == io::ErrorKind::TimedOut => said += "no answer",
            Some(e) => said += &words(e),
        }
        if !at.knocked.is_empty() {
            said += &format!("; knocked by {}", at.knocked.join(" and "));
        }
        for (kind, why) in &at.unsent {
            said += &format!("; {kind}: {why}");
        }
        said
    }

    fn say(&self, line: &str) {
        if self.verbose {
            complain(line);
        }
    }
}
