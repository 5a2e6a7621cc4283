//! The log: syslog, a file or standard error; bounded whatever strangers do. What a file does not
//! take, because the disk is full or read-only, goes to syslog.

use std::fmt::Display;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::time::Duration;

use nix::syslog::{Priority, Severity, syslog};

use super::allowance::Allowance;
use super::files::is_storage;
use super::voice::Voice;
use crate::config::LogTo;
use crate::time::Time;

/// How grave a line is: the levels of syslog(3) that are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// The daemon cannot do its work.
    Error,
    /// Something wants the administrator's eye.
    Warning,
    /// Doors opened and closed, starts, reloads.
    Notice,
    /// Steps of attempts.
    Info,
}

impl Level {
    fn severity(self) -> Severity {
        match self {
            Level::Error => Severity::LOG_ERR,
            Level::Warning => Severity::LOG_WARNING,
            Level::Notice => Severity::LOG_NOTICE,
            Level::Info => Severity::LOG_INFO,
        }
    }
}

/// Lines that strangers can cause, about attempts, doors and refusals each by themselves: so many
/// a second at most, and this many saved up.
const PER_SECOND: f64 = 8.0;
const SAVED_UP: f64 = 64.0;
/// Of one source, in [`SOURCE_SPAN`]: a knock of 32 steps, and some more.
const PER_SOURCE: u32 = 40;
const SOURCE_SPAN: Duration = Duration::from_secs(10);
/// Sources watched at once; they share places by the end of their address.
const SOURCES: usize = 256;
/// Lines that listeners cause, of each kind: one that somebody else has taken over may say and
/// do anything.
const LISTENERS_PER_SECOND: f64 = 0.1;
const LISTENERS_SAVED_UP: f64 = 32.0;
/// How often withheld lines are told of.
const TOLD_EVERY: Duration = Duration::from_secs(10);

enum Sink {
    Syslog,
    Stderr,
    File {
        file: File,
        /// Its last line was cut short.
        torn: bool,
        /// Lines that it did not take, since it last took one.
        lost: u64,
    },
}

/// Where log lines go.
pub struct Log {
    sinks: Vec<Sink>,
    voice: Voice,
    /// Whether lines go to standard output, too.
    aloud: bool,
    /// It goes to syslog for want of a file.
    elsewhere: bool,
    attempts: Caused,
    doors: Caused,
    refusals: Caused,
    troubles: Allowance,
    lives: Allowance,
    withheld: u64,
    withheld_at: Option<Time>,
    told: u64,
    told_at: Time,
}

/// What lines a stranger may cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum About {
    /// Attempts that have opened nothing: anybody can cause these.
    Attempts,
    /// Doors that open and close, or do not.
    Doors,
    /// Knocks that were right and are refused.
    Refusals,
}

/// What lines a listener may cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Of {
    /// What it cannot do, in its own words.
    Troubles,
    /// That it listens, that it no longer does, that it is gone.
    Lives,
}

/// How many lines may still be written.
struct Caused {
    all: Allowance,
    sources: Box<[(Option<IpAddr>, Time, u32)]>,
}

impl Caused {
    fn new() -> Caused {
        Caused {
            all: Allowance::new(PER_SECOND, SAVED_UP, Time(0)),
            sources: vec![(None, Time(0), 0); SOURCES].into(),
        }
    }

    fn take(&mut self, source: IpAddr, now: Time) -> bool {
        let octet = match source {
            IpAddr::V4(a) => a.octets()[3],
            IpAddr::V6(a) => a.octets()[15],
        };
        let place = &mut self.sources[usize::from(octet) % SOURCES];
        if place.0 != Some(source) || now.since(place.1) >= SOURCE_SPAN {
            *place = (Some(source), now, 0);
        }
        let allowed = place.2 < PER_SOURCE && self.all.take(now);
        if allowed {
            place.2 += 1;
        }
        allowed
    }
}

impl Log {
    /// Opens the log, to speak with this voice. Where a disk that is full or read-only keeps a
    /// file from being made it is syslog, until [`Log::reopen`].
    ///
    /// # Errors
    /// A file that cannot be opened otherwise.
    pub fn open(to: &[LogTo], voice: Voice) -> io::Result<Log> {
        let (sinks, why) = match sinks(to, voice) {
            Err(e) if is_storage(&e) => (sinks(&[LogTo::Syslog], voice)?, Some(e)),
            opened => (opened?, None),
        };
        let mut log = Log {
            sinks,
            voice,
            aloud: false,
            elsewhere: why.is_some(),
            attempts: Caused::new(),
            doors: Caused::new(),
            refusals: Caused::new(),
            troubles: Allowance::new(LISTENERS_PER_SECOND, LISTENERS_SAVED_UP, Time(0)),
            lives: Allowance::new(LISTENERS_PER_SECOND, LISTENERS_SAVED_UP, Time(0)),
            withheld: 0,
            withheld_at: None,
            told: 0,
            told_at: Time(0),
        };
        if let Some(e) = why {
            log.line(Level::Error, &format!("log: {e}: it goes to syslog"));
        }
        Ok(log)
    }

    /// Whether it goes to syslog for want of a file.
    pub fn is_elsewhere(&self) -> bool {
        self.elsewhere
    }

    /// Lines go to standard output from now on, too, without a stamp.
    pub fn speak_aloud(&mut self) {
        self.aloud = true;
    }

    /// Goes on elsewhere, or in a new file of the same name (after newsyslog(8) has moved the
    /// old one away).
    ///
    /// # Errors
    /// A file that cannot be opened; the log then goes on where it was.
    pub fn reopen(&mut self, to: &[LogTo]) -> io::Result<()> {
        self.sinks = sinks(to, self.voice)?;
        self.elsewhere = false;
        Ok(())
    }

    /// A line of the daemon's own.
    pub fn line(&mut self, level: Level, text: &str) {
        let text: String = text
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect();
        if self.aloud {
            // Nobody can be told that nothing can be printed.
            let _ = writeln!(io::stdout(), "{text}");
        }
        for sink in &mut self.sinks {
            match sink {
                Sink::Syslog => to_syslog(level, self.voice, &text),
                // Nobody can be told that it cannot be written.
                Sink::Stderr => _ = write!(io::stderr(), "{}", self.voice.stamped(&text)),
                Sink::File { file, torn, lost } => {
                    let mut lines = String::new();
                    if *torn {
                        lines.push('\n');
                    }
                    if *lost > 0 {
                        let n = *lost;
                        lines += &self.voice.stamped(&format!(
                            "log: {n} lines before this one could not be written, and went to \
                             syslog"
                        ));
                    }
                    lines += &self.voice.stamped(&text);
                    match whole(file, lines.as_bytes()) {
                        Ok(()) => (*torn, *lost) = (false, 0),
                        Err(begun) => {
                            *torn |= begun;
                            *lost += 1;
                            to_syslog(level, self.voice, &text);
                        }
                    }
                }
            }
        }
    }

    /// A line that a stranger's packet caused: written while there are not too many of them,
    /// counted otherwise, and then not put into words.
    pub fn caused(
        &mut self,
        about: About,
        level: Level,
        source: IpAddr,
        now: Time,
        text: impl Display,
    ) {
        let allowance = match about {
            About::Attempts => &mut self.attempts,
            About::Doors => &mut self.doors,
            About::Refusals => &mut self.refusals,
        };
        if allowance.take(source, now) {
            self.line(level, &text.to_string());
        } else {
            self.withhold(now);
        }
    }

    /// A line that a listener caused, likewise; whether it was written.
    pub fn of_listener(&mut self, of: Of, level: Level, now: Time, text: &str) -> bool {
        let allowed = match of {
            Of::Troubles => self.troubles.take(now),
            Of::Lives => self.lives.take(now),
        };
        if allowed {
            self.line(level, text);
        } else {
            self.withhold(now);
        }
        allowed
    }

    fn withhold(&mut self, now: Time) {
        self.withheld += 1;
        self.withheld_at = Some(now);
    }

    /// Says, now and then, how many lines were withheld since it was last said.
    pub fn tell_withheld(&mut self, now: Time) {
        if self.withheld > self.told && now.since(self.told_at) >= TOLD_EVERY {
            let n = self.withheld - self.told;
            self.line(
                Level::Warning,
                &format!("{n} log lines withheld: too many at once"),
            );
            self.told = self.withheld;
            self.told_at = now;
        }
    }

    /// Lines withheld since the start.
    pub fn withheld(&self) -> u64 {
        self.withheld
    }

    /// When the last of them was.
    pub fn withheld_at(&self) -> Option<Time> {
        self.withheld_at
    }
}

fn sinks(to: &[LogTo], voice: Voice) -> io::Result<Vec<Sink>> {
    to.iter().map(|to| sink(to, voice)).collect()
}

fn sink(to: &LogTo, voice: Voice) -> io::Result<Sink> {
    Ok(match to {
        LogTo::Syslog => {
            voice.open_syslog()?;
            Sink::Syslog
        }
        LogTo::Stderr => Sink::Stderr,
        LogTo::File(path) => {
            let file = OpenOptions::new()
                .append(true)
                .create(true)
                .mode(0o600)
                .open(path)?;
            Sink::File {
                file,
                torn: false,
                lost: 0,
            }
        }
    })
}

fn to_syslog(level: Level, voice: Voice, text: &str) {
    let priority = Priority::new(level.severity(), voice.facility());
    // A text with a NUL byte cannot be: control characters are gone.
    let _ = syslog(priority, text);
}

/// Writes all of it; an error tells whether some of it was written.
fn whole(file: &mut File, mut bytes: &[u8]) -> Result<(), bool> {
    let mut begun = false;
    while !bytes.is_empty() {
        match file.write(bytes) {
            Ok(0) => return Err(begun),
            Ok(n) => (begun, bytes) = (true, &bytes[n..]),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return Err(begun),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::net::Ipv4Addr;

    fn lines(path: &std::path::Path) -> usize {
        fs::read_to_string(path).unwrap().lines().count()
    }

    #[test]
    fn a_flood_is_counted_not_recited() {
        let top = tempfile::tempdir().unwrap();
        let path = top.path().join("log");
        let mut log = Log::open(&[LogTo::File(path.clone())], Voice::Ours).unwrap();
        for n in 0..100_000u32 {
            let time = Time(u64::from(n) * 100);
            log.caused(
                About::Attempts,
                Level::Info,
                Ipv4Addr::from(n).into(),
                time,
                "x",
            );
        }
        let written = lines(&path);
        assert!(written <= 64 + 80 + 1, "{written} lines in ten seconds");
        assert_eq!(log.withheld() as usize, 100_000 - written);
        assert_eq!(log.withheld_at(), Some(Time(99_999 * 100)));
        log.tell_withheld(Time(20_000_000));
        log.tell_withheld(Time(40_000_000));
        assert_eq!(lines(&path), written + 1, "told once");
    }

    #[test]
    fn one_source_does_not_silence_the_others() {
        let top = tempfile::tempdir().unwrap();
        let path = top.path().join("log");
        let mut log = Log::open(&[LogTo::File(path.clone())], Voice::Ours).unwrap();
        let (loud, quiet) = (Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 2));
        for _ in 0..1000 {
            log.caused(About::Attempts, Level::Info, loud.into(), Time(0), "loud");
        }
        log.caused(About::Attempts, Level::Info, quiet.into(), Time(0), "quiet");
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text.matches("loud").count(), PER_SOURCE as usize);
        assert_eq!(text.matches("quiet").count(), 1);
    }

    #[test]
    fn refusals_and_listeners_do_not_silence_what_opens() {
        let top = tempfile::tempdir().unwrap();
        let path = top.path().join("log");
        let mut log = Log::open(&[LogTo::File(path.clone())], Voice::Ours).unwrap();
        let mut said = 0;
        for n in 0..100_000u32 {
            let (source, now) = (Ipv4Addr::from(n).into(), Time(u64::from(n) * 100));
            log.caused(About::Refusals, Level::Warning, source, now, "no");
            said += u32::from(log.of_listener(Of::Troubles, Level::Warning, now, "trouble"));
        }
        let ten = Time(10_000_000);
        log.of_listener(Of::Lives, Level::Warning, ten, "gone");
        let source = Ipv4Addr::new(192, 0, 2, 1).into();
        log.caused(About::Doors, Level::Notice, source, ten, "open");
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text.matches("open").count(), 1);
        assert_eq!(text.matches("gone").count(), 1);
        assert_eq!(text.matches("trouble").count(), 32);
        assert_eq!(said, 32);
    }

    #[test]
    fn a_line_stays_one_line() {
        let top = tempfile::tempdir().unwrap();
        let path = top.path().join("log");
        let mut log = Log::open(&[LogTo::File(path.clone())], Voice::Ours).unwrap();
        log.line(Level::Error, "one\ntwo\u{1b}[2J");
        assert_eq!(lines(&path), 1);
        fs::rename(&path, top.path().join("log.0")).unwrap();
        log.reopen(&[LogTo::File(path.clone())]).unwrap();
        log.line(Level::Error, "three");
        assert_eq!(lines(&path), 1);
    }
}
