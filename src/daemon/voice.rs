//! How the log speaks: in our own words, or in knockd's where the daemon goes by its name and
//! other programs match its lines.
//!
//! knockd's lines are those of knockd 0.8, to the letter; for what it has no words, ours stand.
//! The newlines that end some of its lines, and make empty lines in its log file, are left out.

use std::net::IpAddr;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use nix::syslog::{Facility, LogFlags, openlog};

use super::log::Level;
use crate::firewall::{Failure, What};

/// Who speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Voice {
    /// posternd.
    #[default]
    Ours,
    /// knockd.
    Knockd,
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// How grave it is.
    pub level: Level,
    /// Without a stamp.
    pub text: String,
}

fn line(level: Level, text: String) -> Line {
    Line { level, text }
}

/// All of knockd's lines are of one level.
fn knockd(text: String) -> Line {
    line(Level::Notice, text)
}

/// What became of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A step was right.
    Right,
    /// A step was wrong.
    Wrong,
    /// The time was up.
    Late,
}

impl Voice {
    /// The program's name in its messages and in syslog.
    pub fn name(self) -> &'static str {
        match self {
            Voice::Ours => "posternd",
            Voice::Knockd => "knockd",
        }
    }

    /// Begins to write to syslog(3).
    pub(super) fn open_syslog(self) -> nix::Result<()> {
        let (name, flags, facility) = match self {
            Voice::Ours => (
                c"posternd",
                LogFlags::LOG_PID | LogFlags::LOG_NDELAY,
                Facility::LOG_AUTH,
            ),
            Voice::Knockd => (c"knockd", LogFlags::LOG_NDELAY, Facility::LOG_USER),
        };
        #[cfg(target_os = "linux")]
        return openlog(Some(name), flags, facility);
        // FreeBSD's openlog(3) keeps the pointer it is given; without one it takes the
        // program's name.
        #[cfg(not(target_os = "linux"))]
        {
            let _ = name;
            openlog(None::<&str>, flags, facility)
        }
    }

    /// The facility of syslog(3) that lines go to.
    pub(super) fn facility(self) -> Facility {
        match self {
            Voice::Ours => Facility::LOG_AUTH,
            Voice::Knockd => Facility::LOG_USER,
        }
    }

    /// A line as it stands in a file, its end included.
    pub(super) fn stamped(self, text: &str) -> String {
        let now = Timestamp::now();
        match self {
            Voice::Ours => format!("{now:.3} posternd: {text}\n"),
            Voice::Knockd => {
                let now = now.to_zoned(TimeZone::system());
                format!("[{}] {text}\n", now.strftime("%Y-%m-%d %H:%M"))
            }
        }
    }

    /// The daemon has come so far that it will listen.
    pub fn started(self, ours: String) -> Option<Line> {
        match self {
            Voice::Ours => Some(line(Level::Notice, ours)),
            Voice::Knockd => None,
        }
    }

    /// It listens here now; `first`: it has not said so before.
    pub fn listening(self, first: bool, on: &[&str], user: &str) -> Line {
        let (nothing, on) = (on.is_empty(), on.join(" "));
        match self {
            Voice::Knockd if first && !nothing => knockd(format!("starting up, listening on {on}")),
            _ if nothing => line(Level::Notice, format!("listening on nothing as {user}")),
            _ => line(Level::Notice, format!("listening on {on} as {user}")),
        }
    }

    /// What the listener in charge is confined by.
    pub fn confined(self, layers: &[&str]) -> Option<Line> {
        let text = format!("the listener is confined: {}", layers.join(", "));
        (self == Voice::Ours).then(|| line(Level::Notice, text))
    }

    /// It is about to read its configuration again.
    pub fn rereading(self, file: &str) -> Option<Line> {
        match self {
            Voice::Ours => None,
            Voice::Knockd => Some(knockd(format!("re-reading config file: {file}"))),
        }
    }

    /// It stops.
    pub fn stopping(self) -> Line {
        match self {
            Voice::Ours => line(
                Level::Notice,
                "stopping: guards and openings stand; what is due ends at the next start, or by reap".into(),
            ),
            Voice::Knockd => knockd("shutting down".into()),
        }
    }

    /// An attempt that has not opened its door.
    pub fn step(self, step: Step, door: &str, address: IpAddr, stage: u8) -> Option<Line> {
        let text = match (self, step) {
            (Voice::Ours, Step::Right) => format!("{door}: {address}: stage {stage}"),
            (Voice::Ours, Step::Wrong) => format!("{door}: {address}: failed after stage {stage}"),
            (Voice::Ours, Step::Late) => format!("{door}: {address}: timeout after stage {stage}"),
            (Voice::Knockd, Step::Right) => format!("{address}: {door}: Stage {stage}"),
            (Voice::Knockd, Step::Wrong) => return None,
            (Voice::Knockd, Step::Late) => {
                format!("{address}: {door}: sequence timeout (stage {stage})")
            }
        };
        let level = match self {
            Voice::Ours => Level::Info,
            Voice::Knockd => Level::Notice,
        };
        Some(line(level, text))
    }

    /// A right knock, before anything is done about it.
    pub fn granted(self, door: &str, address: IpAddr, stage: u8) -> Vec<Line> {
        match self {
            Voice::Ours => Vec::new(),
            Voice::Knockd => vec![
                knockd(format!("{address}: {door}: Stage {stage}")),
                knockd(format!("{address}: {door}: OPEN SESAME")),
            ],
        }
    }

    /// A command line that is about to be run for a door, at a lease's beginning or end.
    pub fn running(self, what: What, door: &str, address: IpAddr, command: &str) -> Vec<Line> {
        if self == Voice::Ours {
            return Vec::new();
        }
        let mut lines = Vec::new();
        if what == What::Close {
            lines.push(knockd(format!("{address}: {door}: command timeout")));
        }
        lines.push(knockd(format!("{door}: running command: {command}")));
        lines
    }

    /// What has become of a command; `None`: as of anything that opens and closes.
    pub fn ran(
        self,
        door: &str,
        address: IpAddr,
        result: &Result<(), Failure>,
    ) -> Option<Vec<Line>> {
        if self == Voice::Ours {
            return None;
        }
        match result {
            Ok(()) => Some(Vec::new()),
            Err(Failure::Refused { status, output, .. }) => {
                let status = number(status)?;
                let text = format!("{door}: command returned non-zero status code ({status})");
                let mut lines = vec![knockd(text)];
                if !output.is_empty() {
                    let text = format!("{door}: the command for {address} said: {output}");
                    lines.push(line(Level::Error, text));
                }
                Some(lines)
            }
            Err(_) => None,
        }
    }
}

/// The number in `exit status 3`; of a signal, as shells count them.
fn number(status: &str) -> Option<u32> {
    let parse = |text: &str| text.parse::<u32>().ok();
    let exited = status.strip_prefix("exit status ").and_then(parse);
    let killed = || Some(128 + status.strip_prefix("killed by signal ").and_then(parse)?);
    exited.or_else(killed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    #[test]
    fn statuses_are_read_from_words() {
        assert_eq!(number("exit status 3"), Some(3));
        assert_eq!(number("killed by signal 9"), Some(137));
        assert_eq!(number("gone"), None);
    }

    #[test]
    fn the_stamp_is_knockds() {
        let text = Voice::Knockd.stamped("x");
        let shape: String = text
            .chars()
            .map(|c| if c.is_ascii_digit() { '9' } else { c })
            .collect();
        assert_eq!(shape, "[9999-99-99 99:99] x\n");
    }

    #[test]
    fn failures_are_told_as_knockd_tells_them_and_what_the_command_said_besides() {
        let ip = IpAddr::from(Ipv4Addr::new(192, 0, 2, 7));
        let refused = Err(Failure::Refused {
            command: "false".into(),
            status: "exit status 3".into(),
            output: "no".into(),
        });
        let lines = Voice::Knockd.ran("ssh", ip, &refused).unwrap();
        let texts: Vec<&str> = lines.iter().map(|l| l.text.as_str()).collect();
        assert_eq!(
            texts,
            [
                "ssh: command returned non-zero status code (3)",
                "ssh: the command for 192.0.2.7 said: no"
            ]
        );
        assert_eq!(Voice::Ours.ran("ssh", ip, &refused), None);
    }
}
