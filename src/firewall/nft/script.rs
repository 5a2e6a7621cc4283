//! Text for nft(8) that cannot hold what a stranger wrote.

use std::fmt::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

/// What may stand in a [`Script`]: a word of this program's, a number, an address or a length
/// of time formatted here, a name that was checked, or a script.
pub trait Part: sealed::Sealed + fmt::Display {}

mod sealed {
    pub trait Sealed {}
}

macro_rules! parts {
    ($($kind:ty)*) => { $(impl sealed::Sealed for $kind {} impl Part for $kind {})* };
}
parts!(&'static str u16 u64 Ipv4Addr Ipv6Addr IpAddr Name Interface Millis Script);

/// The name of a set: a door's name and more of that kind.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(String);

impl Name {
    /// Letters, digits, `-` and `_`, at most 32, beginning with a letter.
    pub fn new(text: &str) -> Option<Name> {
        let fits = text.len() <= 32
            && text.starts_with(|c: char| c.is_ascii_alphabetic())
            && text
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        fits.then(|| Name(text.to_owned()))
    }

    /// A name of this program's own.
    pub fn fixed(text: &'static str) -> Name {
        Name(text.to_owned())
    }

    /// The name with more behind it.
    pub fn with(&self, more: &'static str) -> Name {
        Name(format!("{}{more}", self.0))
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name of a network interface.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Interface(String);

impl Interface {
    /// 1 to 15 letters, digits and `. _ - : @ +`: without what nft would read as a pattern
    /// (`*`) or as the end of the word.
    pub fn new(text: &str) -> Option<Interface> {
        let fits = (1..=15).contains(&text.len())
            && text
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"._-:@+".contains(&b));
        fits.then(|| Interface(text.to_owned()))
    }
}

impl fmt::Display for Interface {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "\"{}\"", self.0)
    }
}

/// How long an element stands. The kernel counts in ticks of up to 10 ms, rounds down, and
/// takes 0 for "without end": so never less than 50 ms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Millis(u64);

impl Millis {
    /// As a number.
    pub fn count(self) -> u64 {
        self.0
    }
}

impl From<Duration> for Millis {
    fn from(time: Duration) -> Millis {
        Millis(
            u64::try_from(time.as_millis())
                .unwrap_or(u64::MAX)
                .clamp(50, MOST),
        )
    }
}

/// A hundred years: more than that does not fit the kernel's ticks everywhere.
const MOST: u64 = 100 * 365 * 24 * 3600 * 1000;

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let (seconds, millis) = (self.0 / 1000, self.0 % 1000);
        match (seconds, millis) {
            (_, 0) => write!(f, "{seconds}s"),
            (0, _) => write!(f, "{millis}ms"),
            _ => write!(f, "{seconds}s{millis}ms"),
        }
    }
}

/// Lines for `nft -f -`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Script(String);

impl Script {
    /// A script of these parts.
    pub fn of(parts: &[&dyn Part]) -> Script {
        let mut script = Script::default();
        script.put(parts);
        script
    }

    /// Adds parts.
    pub fn put(&mut self, parts: &[&dyn Part]) {
        for part in parts {
            // Writing to a String does not fail.
            let _ = write!(self.0, "{part}");
        }
    }

    /// Adds a line.
    pub fn line(&mut self, parts: &[&dyn Part]) {
        self.put(parts);
        self.0.push('\n');
    }

    /// The parts one after another, `, ` between them.
    pub fn list<P: Part>(items: impl IntoIterator<Item = P>) -> Script {
        let mut script = Script::default();
        for item in items {
            if !script.is_empty() {
                script.put(&[&", "]);
            }
            script.put(&[&item]);
        }
        script
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_interfaces_hold_nothing_that_ends_a_word() {
        for good in ["ssh", "a", "Door-1_b"] {
            assert!(Name::new(good).is_some(), "{good}");
        }
        for bad in [
            "",
            "1a",
            "-a",
            "_a",
            "a b",
            "a;",
            "a\n",
            "a.b",
            "é",
            "a\"",
            &"a".repeat(33),
        ] {
            assert!(Name::new(bad).is_none(), "{bad}");
        }
        for good in [
            "xl0", "eth0.7", "br-lan", "wg0", "tap_1", "eth0:1", "veth@if3",
        ] {
            assert!(Interface::new(good).is_some(), "{good}");
        }
        for bad in [
            "",
            "eth*",
            "a\"",
            "a b",
            "a\\",
            "a/b",
            "a{",
            "0123456789abcdef",
        ] {
            assert!(Interface::new(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn times_as_nft_writes_them() {
        let text = |ms| Millis::from(Duration::from_millis(ms)).to_string();
        assert_eq!(text(0), "50ms");
        assert_eq!(text(999), "999ms");
        assert_eq!(text(30_000), "30s");
        assert_eq!(text(29_500), "29s500ms");
        assert_eq!(text(1_001), "1s1ms");
        assert_eq!(Millis::from(Duration::MAX).to_string(), "3153600000s");
    }
}
