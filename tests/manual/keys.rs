//! postern.toml(5) tells of every key with its default and its bounds, and what it tells is what
//! the reader does.

use std::ops::RangeInclusive;

use postern::client::{knock, profile, spa};
use postern::config::secret;
use postern::config::units::show_duration;
use postern::config::{Config, toml};

use crate::mdoc::{Entry, Page};

/// What holds where a key is not given.
enum Without {
    /// The configuration is refused, and the manual says that the key is required.
    Refused,
    /// It is as if this had been given; the manual shows it, and says that it is the default.
    As(&'static str),
    /// Something that the key itself cannot say.
    Otherwise,
}
use Without::{As, Otherwise, Refused};

/// A key, as it is held against the manual and against the reader.
struct Row {
    key: &'static str,
    without: Without,
    /// In the manual, word by word.
    says: &'static [&'static str],
    /// Values at the bounds.
    good: &'static [&'static str],
    /// Values just beyond them.
    bad: &'static [&'static str],
    /// A configuration but for the key, which stands in place of `@`.
    around: &'static str,
}

const TOP: &str = "interface = \"xl0\"\nfirewall = \"memory\"\n@\n[door.d]\nopens = [\"22\"]\n\
    open_for = \"30s\"\n[[door.d.knock]]\nsequence = [\"7143\", \"2912\"]\n";
const IPFW: &str = "interface = \"xl0\"\nfirewall = \"ipfw\"\n[door.d]\nopens = [\"22\"]\n\
    open_for = \"30s\"\nrule = 101\n@\n[[door.d.knock]]\nsequence = [\"7143\", \"2912\"]\n";
const PF: &str = "interface = [\"em0\", \"em1\"]\nfirewall = \"pf\"\n[door.d]\nopens = [\"22\"]\n\
    open_for = \"30s\"\n@\n[[door.d.knock]]\nsequence = [\"7143\", \"2912\"]\n";
const COMMAND: &str = "interface = \"xl0\"\n[door.d]\nstart_command = \"/bin/a %IP%\"\n\
    stop_command = \"/bin/b %IP%\"\n@\n[[door.d.knock]]\nsequence = [\"7143\", \"2912\"]\n";
const KNOCK: &str = "interface = \"xl0\"\n[door.d]\nstart_command = \"/bin/a %IP%\"\n\
    [[door.d.knock]]\nsequence = [\"7143\", \"2912\"]\n@\n";

const BARE: &str = "@\ninterface = \"xl0\"\n[door.d]\nstart_command = \"/bin/a\"\n\
    [[door.d.knock]]\nsequence = [\"7143\"]\n";
const NUMBERED: &str = "interface = \"xl0\"\nfirewall = \"ipfw\"\n[door.d]\nopens = [22]\n\
    open_for = \"30s\"\n@\n[[door.d.knock]]\nsequence = [\"7143\", \"2912\"]\n";
const STEPLESS: &str = "interface = \"xl0\"\n[door.d]\nstart_command = \"/bin/a\"\n\
    [[door.d.knock]]\n@\n";

const PING: &str = "interface = \"xl0\"\n[door.d]\nstart_command = \"/bin/a\"\n\
    [[door.d.knock]]\nping = \"8d1f6a3be97c50424c86a3d95b0e7f12\"\n@\n";

/// A door that opens port 22, and a key that lacks what follows.
macro_rules! key {
    ($($line:literal),* $(,)?) => {
        concat!(
            "interface = \"xl0\"\nfirewall = \"memory\"\n[door.d]\nopens = [\"22\"]\n",
            "open_for = \"30s\"\n[key.k]\n@\n",
            $($line, "\n"),*
        )
    };
}
const KEY: &str = key!(
    "cipher_key = \"MDEyMzQ1Njc4OWFiY2RlZg==\"",
    "hmac_key = \"ZmVkY2JhOTg3NjU0MzIxMA==\"",
    "doors = [\"d\"]",
);

const STATE: &str = if cfg!(target_os = "freebsd") {
    "\"/var/db/postern\""
} else {
    "\"/var/lib/postern\""
};

const fn row(
    key: &'static str,
    without: Without,
    around: &'static str,
    says: &'static [&'static str],
    good: &'static [&'static str],
    bad: &'static [&'static str],
) -> Row {
    Row {
        key,
        without,
        says,
        good,
        bad,
        around,
    }
}

/// In the order of the manual.
const ROWS: &[Row] = &[
    row(
        "interface",
        Otherwise,
        "@\n[door.d]\nstart_command = \"/bin/a\"\n[[door.d.knock]]\nsequence = [\"7143\"]\n",
        &["a list of 1 to 64", "Required, unless posternd(8) -i"],
        &[r#""xl0""#, r#"["xl0", "xl1"]"#],
        &["[]", r#""""#],
    ),
    row(
        "log",
        As(r#""syslog""#),
        TOP,
        &[r#""stderr""#, "or a file"],
        &[r#""stderr""#, r#""/var/log/postern.log""#],
        &[r#""postern.log""#, r#""""#],
    ),
    row(
        "firewall",
        As(r#""none""#),
        BARE,
        &["Required where a door has opens or table"],
        &[
            r#""ipfw""#,
            r#""pf""#,
            r#""nft""#,
            r#""memory""#,
            r#""none""#,
        ],
        &[r#""iptables""#],
    ),
    row(
        "drive",
        As(r#""in-process""#),
        TOP,
        &[r#""command""#],
        &[r#""in-process""#, r#""command""#],
        &[r#""kernel""#],
    ),
    row(
        "user",
        Otherwise,
        TOP,
        &[r#""_postern" by default, or "nobody""#, "cannot be root"],
        &[r#""_postern""#],
        &[r#""root""#],
    ),
    row(
        "confine",
        As(r#""required""#),
        TOP,
        &[r#""try""#],
        &[r#""required""#, r#""try""#],
        &[r#""no""#],
    ),
    row(
        "pidfile",
        Otherwise,
        TOP,
        &["none by default"],
        &[r#""/var/run/posternd.pid""#],
        &[r#""posternd.pid""#],
    ),
    row(
        "control",
        As(r#""/var/run/postern.sock""#),
        TOP,
        &["at most 103 bytes"],
        &[],
        &[r#""s""#],
    ),
    row(
        "state",
        As(STATE),
        TOP,
        &["/var/db/postern on FreeBSD and /var/lib/postern on Linux by default"],
        &[r#""/var/postern""#],
        &[r#""postern""#],
    ),
    row(
        "always",
        As("[]"),
        TOP,
        &["at most 256", "none by default"],
        &[r#"["192.0.2.7", "2001:db8::/32"]"#],
        &[r#""192.0.2.7/33""#],
    ),
    row(
        "trial",
        As(r#""10m""#),
        TOP,
        &["1 second to 1 day", r#""off""#],
        &[r#""1s""#, r#""1d""#, r#""off""#],
        &[r#""999ms""#, r#""1d1ms""#, r#""on""#],
    ),
    row(
        "opens",
        Refused,
        "interface = \"xl0\"\nfirewall = \"memory\"\n[door.d]\nopen_for = \"30s\"\n@\n\
            [[door.d.knock]]\nsequence = [\"7143\"]\n",
        &["1 to 64", "A door has this, table or start_command"],
        &["[22]", r#"["22/tcp", "53/udp"]"#],
        &["[]", "[0]", r#"["ssh"]"#],
    ),
    row(
        "open_for",
        Refused,
        "interface = \"xl0\"\nfirewall = \"memory\"\n[door.d]\nopens = [22]\n@\n\
            [[door.d.knock]]\nsequence = [\"7143\"]\n",
        &["1 second to 7 days", "Required with opens and table"],
        &[r#""1s""#, r#""7d""#],
        &[r#""999ms""#, r#""7d1ms""#, "30"],
    ),
    row(
        "idle",
        Otherwise,
        IPFW,
        &[
            "5 seconds to 7 days",
            "None by default",
            "May be shorter or longer than open_for",
        ],
        &[r#""5s""#, r#""7d""#],
        &[r#""4999ms""#, r#""7d1ms""#, "60"],
    ),
    row(
        "prefix6",
        As("128"),
        IPFW,
        &["48 to 128", "128 by default"],
        &["48", "64", "128"],
        &["47", "129", r#""64""#],
    ),
    row(
        "rule",
        Refused,
        NUMBERED,
        &[
            "1 to 65534",
            "Required there, unless there is rules or table",
        ],
        &["1", "65534"],
        &["0", "65535"],
    ),
    row(
        "rules",
        Refused,
        NUMBERED,
        &["a range of numbers"],
        &[r#""101-199""#],
        &[r#""199-101""#, r#""101-65535""#, "101"],
    ),
    row(
        "table",
        Refused,
        "interface = \"xl0\"\nfirewall = \"pf\"\n[door.d]\nopen_for = \"30s\"\n@\n\
            [[door.d.knock]]\nsequence = [\"7143\"]\n",
        &["In ipfw and pf", "at most 31 characters"],
        &[r#""friends""#, r#""a123456789012345678901234567890""#],
        &[r#""a1234567890123456789012345678901""#, r#""""#],
    ),
    row(
        "guard",
        As("false"),
        IPFW,
        &[
            "the number of the deny rule",
            "above those of all pass rules",
        ],
        &["102", "65534"],
        &["true", "101", "65535"],
    ),
    row(
        "to",
        As(r#""me""#),
        IPFW,
        &["In ipfw and pf", r#""any""#],
        &[r#""any""#, r#""198.51.100.5""#, r#""198.51.100.0/24""#],
        &[r#""xl0""#],
    ),
    row(
        "on",
        Otherwise,
        PF,
        &["by default all of them"],
        &[r#""em0""#, r#"["em1", "em0"]"#],
        &[r#""em2""#, "[]"],
    ),
    row(
        "connections",
        Otherwise,
        IPFW,
        &["1 to 65535", "any number by default"],
        &["1", "65535"],
        &["0", "65536"],
    ),
    row(
        "kill_states",
        As("false"),
        PF,
        &["In pf"],
        &["true"],
        &["1"],
    ),
    row(
        "start_command",
        Refused,
        "interface = \"xl0\"\n[door.d]\n@\n[[door.d.knock]]\nsequence = [\"7143\"]\n",
        &["at most 65536 bytes"],
        &[r#""/bin/a %IP%""#],
        &[r#""""#],
    ),
    row(
        "stop_command",
        Otherwise,
        "interface = \"xl0\"\n[door.d]\nstart_command = \"/bin/a\"\n@\n\
            [[door.d.knock]]\nsequence = [\"7143\"]\n",
        &["None by default"],
        &[r#""/bin/b %IP%""#],
        &[r#""""#],
    ),
    row(
        "start_command_6",
        Otherwise,
        COMMAND,
        &["by default the plain ones", "An empty string runs nothing"],
        &[r#""/bin/a""#, r#""""#],
        &["6"],
    ),
    row(
        "stop_command_6",
        Otherwise,
        COMMAND,
        &["by default the plain ones", "An empty string runs nothing"],
        &[r#""/bin/a""#, r#""""#],
        &["6"],
    ),
    row(
        "cmd_timeout",
        As(r#""10s""#),
        COMMAND,
        &["1 second to 7 days"],
        &[r#""1s""#, r#""7d""#],
        &[r#""999ms""#, r#""7d1ms""#],
    ),
    row(
        "run_limit",
        As(r#""60s""#),
        COMMAND,
        &["1 second to 1 hour"],
        &[r#""1s""#, r#""1h""#],
        &[r#""999ms""#, r#""1h1ms""#],
    ),
    row(
        "max_leases",
        As("1024"),
        IPFW,
        &["1 to 65536", "or as many as rules has numbers"],
        &["1", "65536"],
        &["0", "65537"],
    ),
    row(
        "sequence",
        Refused,
        STEPLESS,
        &[
            "1 to 32 ports",
            "A knock has this, one_time_sequences or ping",
        ],
        &[r#"["7143"]"#, r#"["7143/tcp", "2912:udp", 39001]"#],
        &["[]", r#"["7143", "7144", "7145"]"#],
    ),
    row(
        "one_time_sequences",
        Refused,
        STEPLESS,
        &["a file of sequences"],
        &[r#""/usr/local/etc/postern.once""#],
        &[r#""postern.once""#],
    ),
    row(
        "seq_timeout",
        As(r#""10s""#),
        KNOCK,
        &["1 second to 10 minutes"],
        &[r#""1s""#, r#""10m""#],
        &[r#""999ms""#, r#""10m1ms""#],
    ),
    row(
        "tcpflags",
        As(r#"["syn", "!ack", "!rst", "!fin"]"#),
        KNOCK,
        &[
            "fin, syn, rst, psh, ack, urg",
            "A connection request by default",
        ],
        &["[]", r#"["fin", "psh", "urg"]"#],
        &[r#"["ece"]"#],
    ),
    row(
        "target",
        Otherwise,
        KNOCK,
        &["any address of this machine by default"],
        &[r#""192.0.2.1""#, r#""2001:db8::1""#],
        &[r#""xl0""#],
    ),
    row(
        "ping",
        Refused,
        STEPLESS,
        &["16 bytes in 32 hexadecimal digits"],
        &[r#""8d1f6a3be97c50424c86a3d95b0e7f12""#],
        &[
            r#""8d1f6a3be97c50424c86a3d95b0e7f""#,
            r#""00000000000000000000000000000000""#,
        ],
    ),
    row(
        "offsets",
        Otherwise,
        PING,
        &[r#"within "0-127""#, "By default", "the secret rotated"],
        &[r#""0-96""#, r#""0-127""#, r#""28""#],
        &[r#""0-128""#, r#""96-0""#, r#""""#, "8"],
    ),
    row(
        "owner",
        Otherwise,
        KEY,
        &["at most 64 characters", "none by default"],
        &[r#""Alice Example""#],
        &[r#""""#, r#""a\nb""#],
    ),
    row(
        "cipher_key",
        Refused,
        key!("hmac_key = \"ZmVkY2JhOTg3NjU0MzIxMA==\"", "doors = [\"d\"]",),
        &["16 to 32 bytes", "KEY_BASE64", "Required"],
        &[
            r#""MDEyMzQ1Njc4OWFiY2RlZg==""#,
            r#""AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=""#,
        ],
        &[
            r#""AAECAwQFBgcICQoLDA0O""#,
            r#""MDEyMzQ1Njc4OWFiY2RlZg""#,
            r#""AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8g""#,
        ],
    ),
    row(
        "hmac_key",
        Refused,
        key!(
            "cipher_key = \"MDEyMzQ1Njc4OWFiY2RlZg==\"",
            "doors = [\"d\"]",
        ),
        &[
            "16 to 128 bytes",
            "HMAC_KEY_BASE64",
            "Required",
            "another than cipher_key",
        ],
        &[r#""ZmVkY2JhOTg3NjU0MzIxMA==""#, LONGEST],
        &[
            r#""AAECAwQFBgcICQoLDA0O""#,
            r#""MDEyMzQ1Njc4OWFiY2RlZg==""#,
            TOO_LONG,
        ],
    ),
    row(
        "hmac",
        As(r#""sha256""#),
        KEY,
        &["HMAC_DIGEST_TYPE"],
        &[r#""sha256""#, r#""sha512""#],
        &[r#""md5""#, r#""none""#],
    ),
    row(
        "doors",
        Refused,
        key!(
            "cipher_key = \"MDEyMzQ1Njc4OWFiY2RlZg==\"",
            "hmac_key = \"ZmVkY2JhOTg3NjU0MzIxMA==\"",
        ),
        &["1 to 32 names", "Required"],
        &[r#"["d"]"#],
        &["[]", r#"["e"]"#, r#"["d", "d"]"#],
    ),
    row(
        "ports",
        Otherwise,
        KEY,
        &["a list of 1 to 64", "by default those that its doors open"],
        &[r#"["22/tcp"]"#, r#"["22/tcp", "53/udp"]"#],
        &["[]", r#"["53/udp"]"#],
    ),
    row(
        "from",
        Otherwise,
        KEY,
        &["1 to 64 addresses and networks", "any by default"],
        &[r#"["192.0.2.0/24", "2001:db8::1"]"#],
        &["[]", r#"["192.0.2.0/33"]"#],
    ),
    row(
        "observed",
        As("false"),
        KEY,
        &["whatever address it comes from"],
        &["true"],
        &["1"],
    ),
    row(
        "allowance",
        As("60"),
        KEY,
        &["within an hour", "1 to 100000"],
        &["1", "100000"],
        &["0", "100001"],
    ),
    row(
        "carriers",
        As(r#"["62201/udp"]"#),
        KEY,
        &["a list of 1 to 16", "At most 16 keys"],
        &[r#"["icmp"]"#, r#"["53/udp", "icmp"]"#],
        &["[]", r#"["62201/tcp"]"#, r#"["icmp", "icmp"]"#],
    ),
];

/// 128 bytes, and one more.
const LONGEST: &str = "\"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gISIjJCUmJygpKissLS4v\
    MDEyMzQ1Njc4OTo7PD0+P0BBQkNERUZHSElKS0xNTk9QUVJTVFVWV1hZWltcXV5f\
    YGFiY2RlZmdoaWprbG1ub3BxcnN0dXZ3eHl6e3x9fn8=\"";
const TOO_LONG: &str = "\"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gISIjJCUmJygpKissLS4v\
    MDEyMzQ1Njc4OTo7PD0+P0BBQkNERUZHSElKS0xNTk9QUVJTVFVWV1hZWltcXV5f\
    YGFiY2RlZmdoaWprbG1ub3BxcnN0dXZ3eHl6e3x9fn+A\"";

impl Row {
    /// What the reader makes of the configuration with this line in it.
    fn read(&self, line: &str) -> Result<Config, String> {
        let text = self.around.replace('@', line);
        toml::parse("it", &text).map_err(|mistakes| {
            let mistakes: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
            mistakes.join("\n")
        })
    }

    fn with(&self, value: &str) -> Result<Config, String> {
        self.read(&format!("{} = {value}", self.key))
    }
}

/// Keys that are tables of their own.
const TABLES: [&str; 3] = ["door", "knock", "key"];

/// The keys of one entry: `Ic start_command_6 , stop_command_6`.
fn keys_of(entry: &Entry) -> Vec<&str> {
    match entry.head.strip_prefix("Ic ") {
        Some(keys) => keys.split(" , ").collect(),
        None => Vec::new(),
    }
}

#[test]
fn the_manual_has_the_keys_that_the_reader_knows_in_their_order() {
    let page = Page::read("postern.toml.5");
    let sections = ["At the top", "Doors", "Knocks", "Keys"];
    assert_eq!(toml::keys().len(), sections.len());
    for (known, section) in toml::keys().into_iter().zip(sections) {
        let entries = page.section(section).entries();
        let told: Vec<&str> = entries.iter().flat_map(keys_of).collect();
        // Tables stand under their headings.
        let known: Vec<&str> = known
            .iter()
            .copied()
            .filter(|key| !TABLES.contains(key))
            .collect();
        assert_eq!(told, known, "{section}");
    }
    let known = toml::keys().concat();
    let known = known.into_iter().filter(|k| !TABLES.contains(k));
    let held: Vec<&str> = ROWS.iter().map(|row| row.key).collect();
    assert_eq!(held, known.collect::<Vec<_>>(), "each has a row here");
}

#[test]
fn defaults_and_bounds_are_the_readers() {
    let page = Page::read("postern.toml.5");
    let entries: Vec<Entry> = ["At the top", "Doors", "Knocks", "Keys"]
        .iter()
        .flat_map(|section| page.section(section).entries())
        .collect();
    for row in ROWS {
        let key = row.key;
        let entry = entries.iter().find(|entry| keys_of(entry).contains(&key));
        let told = entry.expect("the other test").body.plain();
        for words in row.says {
            assert!(told.contains(words), "{key}: {words}: {told}");
        }
        for value in row.good {
            assert!(
                row.with(value).is_ok(),
                "{key} = {value}: {:?}",
                row.with(value)
            );
        }
        for value in row.bad {
            assert!(row.with(value).is_err(), "{key} = {value} is read");
        }
        match row.without {
            Refused => assert!(row.read("").is_err(), "{key} is not required"),
            Otherwise => assert!(row.read("").is_ok(), "{key}: {:?}", row.read("")),
            As(value) => {
                assert_eq!(row.read(""), row.with(value), "{key} = {value}");
                assert!(told.contains("default"), "{key}: {told}");
                // Words of a list stand in it one by one; an empty one and `false` are told.
                for word in value.split(|c| "[]\", ".contains(c)) {
                    let said = told.contains(word) || value == "[]";
                    assert!(said, "{key}: {word}: {told}");
                }
            }
        }
    }
}

/// So many of something, and one more.
#[test]
fn how_many_and_how_long() {
    let numbers = |most: usize| (1..=most).map(|n| format!("{n}"));
    let list = |items: &mut dyn Iterator<Item = String>| {
        let items: Vec<String> = items.map(|item| format!("{item:?}")).collect();
        format!("[{}]", items.join(", "))
    };
    let path = |bytes: usize| format!("\"/{}\"", "a".repeat(bytes - 1));
    type Make<'m> = &'m dyn Fn(usize) -> String;
    let interfaces = |n| list(&mut numbers(n).map(|n| format!("em{n}")));
    let addresses = |n| list(&mut numbers(n).map(|n| format!("2001:db8::{n}")));
    let ports = |n| list(&mut numbers(n));
    let steps = |n| list(&mut (0..n).map(|n| format!("{}", 7000 + 7 * ((5 * n) % 33))));
    let carriers = |n| list(&mut (1..=n).map(|n| format!("{n}/udp")));
    let bounds: [(&str, usize, Make<'_>); 8] = [
        ("interface", 64, &interfaces),
        ("control", 103, &path),
        ("always", 256, &addresses),
        ("opens", 64, &ports),
        ("start_command", 65536, &path),
        ("sequence", 32, &steps),
        ("from", 64, &addresses),
        ("carriers", 16, &carriers),
    ];
    for (key, most, make) in bounds {
        let row = ROWS.iter().find(|row| row.key == key).unwrap();
        let told = row.says.iter().any(|says| says.contains(&most.to_string()));
        assert!(told, "{key}: {most} is not looked for in the manual");
        let (at, beyond) = (row.with(&make(most)), row.with(&make(most + 1)));
        assert!(at.is_ok(), "{key}: {at:?}");
        assert!(beyond.is_err(), "{key}: {} are read", most + 1);
    }
}

#[test]
fn the_keys_of_profiles() {
    let page = Page::read("postern.1").section("Profiles");
    let entries = page.entries();
    let told: Vec<&str> = entries.iter().flat_map(keys_of).collect();
    let keys = profile::HOST_KEYS.into_iter().chain(profile::WAY_KEYS);
    assert_eq!(told, keys.collect::<Vec<_>>());
    let body = |key: &str| {
        let entry = entries.iter().find(|entry| keys_of(entry).contains(&key));
        entry.unwrap().body.plain()
    };
    let delay = body("delay");
    let default = format!("\"{}\" by default", show_duration(knock::DELAY));
    assert!(delay.contains(&default), "{delay}");
    assert_eq!(show_duration(*knock::DELAYS.start()), "0s");
    assert_eq!(show_duration(*knock::DELAYS.end()), "1m");
    assert!(delay.contains("0 seconds to 1 minute"), "{delay}");
    for (key, says) in [
        ("port", format!("\"{}\" by default", profile::PORT)),
        (
            "way",
            format!("{} to {}", profile::WAYS.start(), profile::WAYS.end()),
        ),
        ("cipher_key", bytes(&secret::CIPHER_KEY)),
        ("hmac_key", bytes(&secret::KEY)),
        (
            "hmac",
            format!("\"{}\", which is the default", secret::Mac::default()),
        ),
        ("carrier", format!("\"{}\" by default", spa::CARRIER)),
        (
            "opens",
            format!("{} to {}", spa::OPENS.start(), spa::OPENS.end()),
        ),
    ] {
        assert!(body(key).contains(&says), "{key}: {says}: {}", body(key));
    }
}

fn bytes(bounds: &RangeInclusive<usize>) -> String {
    format!("{} to {} bytes", bounds.start(), bounds.end())
}
