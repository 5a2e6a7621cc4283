//! knockd.conf from its text to messages and to a postern.toml: golden files in tests/knockd.
//!
//! Each `*.conf` there has a `*.out`: the mistakes, or where there are none the warnings and
//! after them the postern.toml that posternctl convert makes.
//! `POSTERN_BLESS=1 cargo test --test knockd` writes them anew.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use postern::config::{
    self, Action, Commands, Config, Confine, Door, Drive, FirewallKind, Knock, LogTo, Port,
    Sequence, Steps, TcpFlags, bounds, check, convert, knockd, toml,
};
use proptest::prelude::*;

#[path = "common/finished.rs"]
mod finished;
#[path = "common/golden.rs"]
mod golden;

use finished::{MORE, finished};
use golden::name;

fn directory() -> PathBuf {
    golden::directory("knockd")
}

fn files() -> Vec<PathBuf> {
    golden::files(&directory(), "conf")
}

/// All that people would be told about a file, and given for it.
fn told(path: &Path) -> String {
    let bytes = fs::read(path).expect("readable");
    let mut told = String::new();
    match config::read(name(path), &bytes) {
        Err(mistakes) => {
            for mistake in mistakes {
                writeln!(told, "{mistake}").expect("a string takes it");
            }
        }
        Ok(parsed) => {
            for warning in check::check(name(path), &parsed, &[]) {
                writeln!(told, "{warning}").expect("a string takes it");
            }
            let made = convert::convert(name(path), &parsed);
            writeln!(told, "\n{}", made.text.trim_end()).expect("a string takes it");
        }
    }
    told
}

#[test]
fn all_that_is_told() {
    golden::hold(&files(), told);
}

/// Every message that the reader, or the check for a knockd.conf, can make stands in a golden
/// file: each line of tests/knockd/messages is a part of one.
#[test]
fn every_message_is_golden() {
    // Comments of what is made are broken where lines end.
    let all: String = files().iter().map(|path| told(path)).collect();
    let all = all.replace("\n# ", " ") + &all;
    golden::every_message(&directory(), &all);
}

fn read(name: &str) -> Config {
    let bytes = fs::read(directory().join(name)).expect("readable");
    config::read(name, &bytes).expect("a good file").config
}

fn ports(all: &[&str]) -> Steps {
    let all = all.iter().map(|port| port.parse::<Port>());
    Steps::Fixed(all.map(|port| port.expect("a port")).collect())
}

#[test]
fn the_article_means_what_it_says() {
    let door = |name: &str, steps: &[&str], command: &str| Door {
        name: name.to_owned(),
        action: Action::Command(Commands {
            start: command.to_owned(),
            start_6: None,
            stop: None,
            stop_6: None,
            cmd_timeout: Duration::from_secs(10),
            run_limit: Duration::from_secs(3600),
        }),
        knocks: vec![Knock::Sequence(Sequence {
            steps: ports(steps),
            timeout: Duration::from_secs(5),
            flags: TcpFlags {
                mask: 0x02,
                value: 0x02,
            },
            target: None,
        })],
        max_leases: bounds::MAX_LEASES,
        on: Vec::new(),
        idle: None,
        prefix6: 128,
    };
    let wanted = Config {
        interfaces: vec!["xl0".into()],
        log: LogTo::File("/var/log/knockd.log".into()),
        firewall: FirewallKind::None,
        user: None,
        pidfile: Some("/var/run/knockd.pid".into()),
        control: bounds::CONTROL.into(),
        state: bounds::STATE.into(),
        always: Vec::new(),
        drive: Drive::InProcess,
        confine: Confine::Required,
        trial: None,
        doors: vec![
            door(
                "openSSH",
                &["7000", "8000", "9000"],
                "/sbin/ipfw -q add 00101 pass proto tcp src-ip %IP% dst-port 22",
            ),
            door(
                "closeSSH",
                &["9000", "8000", "7000"],
                "/sbin/ipfw -q delete 00101 pass proto tcp src-ip %IP% dst-port 22",
            ),
        ],
        keys: Vec::new(),
        knockd: Some(knockd::Knockd {
            names: vec!["openSSH".into(), "closeSSH".into()],
            syslog: false,
            log_file: Some("/var/log/knockd.log".into()),
            pidfile: None,
            interface: Some("xl0".into()),
        }),
    };
    assert_eq!(read("article-freebsd.conf"), wanted);

    let linux = read("article-linux.conf");
    assert_eq!(linux.interfaces, ["eth0"]);
    let Action::Command(commands) = &linux.doors[0].action else {
        panic!("it runs commands");
    };
    assert!(
        commands
            .start
            .starts_with("/sbin/iptables -A INPUT -s %IP%")
    );
    let stop = commands.stop.as_deref().unwrap_or_default();
    assert!(stop.starts_with("/sbin/iptables -D INPUT -s %IP%"));
    assert_eq!(linux.doors[0].lease(), Some(Duration::from_secs(10)));
}

#[test]
fn every_directive_is_read() {
    let config = read("every-directive.conf");
    assert_eq!(config.interfaces, ["em0"]);
    assert_eq!(
        config.pidfile.as_deref(),
        Some(Path::new("/var/run/my knockd.pid"))
    );
    assert!(config.knockd.as_ref().is_some_and(|knockd| knockd.syslog));
    let commands = |at: usize| match &config.doors[at].action {
        Action::Command(commands) => commands.clone(),
        Action::Open(_) => panic!("knockd's doors run commands"),
    };
    let sequence = |at: usize| {
        let sequence = config.doors[at].knocks[0].sequence().unwrap();
        sequence.clone()
    };
    assert_eq!(
        sequence(0),
        Sequence {
            steps: ports(&["7143", "2912/udp", "16044", "99/udp"]),
            timeout: Duration::from_secs(15),
            flags: TcpFlags {
                mask: 0x1e,
                value: 0x0a
            },
            target: Some("192.0.2.1".parse().unwrap()),
        }
    );
    let first = commands(0);
    assert_eq!(first.start, "echo start=%IP% && echo %IP%");
    assert_eq!(first.start_6.as_deref(), Some(""));
    assert_eq!(first.stop.as_deref(), Some("echo stop %IP%"));
    assert_eq!(first.stop_6.as_deref(), Some("echo stop6 %IP%"));
    assert_eq!(first.cmd_timeout, Duration::from_secs(20));

    assert_eq!(
        sequence(1).steps,
        Steps::OneTime("/etc/knockd/second".into())
    );
    assert_eq!(sequence(1).timeout, Duration::from_secs(600));
    assert_eq!(sequence(1).flags, TcpFlags { mask: 0, value: 0 });
    assert_eq!(commands(1).start, "/usr/local/bin/wake %IP%");
    assert_eq!(
        commands(1).start_6.as_deref(),
        Some("/usr/local/bin/wake -6 %IP%")
    );

    assert_eq!(sequence(2).timeout, Duration::from_secs(25));
    assert_eq!(commands(2).start, "");
    assert_eq!(commands(2).stop.as_deref(), Some(""));
    assert_eq!(config.doors[2].lease(), Some(Duration::from_secs(10)));
    assert_eq!(config.doors[3].lease(), None);
}

/// README and manual show what posternctl convert makes of the article's file.
#[test]
fn papers_show_what_is_made() {
    let bytes = fs::read(directory().join("article-freebsd.conf")).expect("readable");
    let file = "/usr/local/etc/knockd.conf";
    let parsed = config::read(file, &bytes).expect("a good file");
    let made = convert::convert(file, &parsed).text;

    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let manual = fs::read_to_string(root.join("man/postern-knockd.7")).expect("readable");
    assert!(manual.contains(&made), "{made}");
    let theirs = String::from_utf8_lossy(&bytes);
    assert!(manual.contains(theirs.as_ref()), "{theirs}");

    let readme = fs::read_to_string(root.join("README.md")).expect("readable");
    let section = readme.split("## From knockd").nth(1).expect("a section");
    for line in made
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
    {
        assert!(section.contains(&format!("    {line}\n")), "{line}");
    }
    let one_line = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let warnings = check::check(file, &parsed, &[]);
    let delete = warnings.iter().find(|w| w.what.contains("ipfw delete"));
    let delete = delete.expect("it is warned of").to_string();
    assert!(one_line(section).contains(&one_line(&delete)), "{delete}");
}

#[test]
fn not_more_mistakes_than_can_be_read() {
    let text = "x = 1\n".repeat(1000);
    let mistakes = knockd::read("f", &text).unwrap_err();
    assert_eq!(mistakes.len(), toml::MOST_MISTAKES + 1);
}

fn texts() -> &'static [String] {
    static TEXTS: OnceLock<Vec<String>> = OnceLock::new();
    TEXTS.get_or_init(|| {
        let text = |path| fs::read(path).expect("readable");
        let texts = files().into_iter().map(text);
        texts
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .collect()
    })
}

/// What must hold for any text: no panic, never a refusal without a reason, every message on one
/// line and in its place; and what is made of a good file is a good postern.toml, of which there
/// is nothing to say that the file did not deserve.
fn hold(text: &str) -> Result<(), TestCaseError> {
    let parsed = match knockd::read("f", text) {
        Ok(parsed) => parsed,
        Err(mistakes) => {
            prop_assert!(!mistakes.is_empty());
            prop_assert!(mistakes.is_sorted_by_key(|mistake| mistake.place));
            let lines = text.split('\n').count();
            for mistake in mistakes {
                let shown = mistake.to_string();
                prop_assert!(!shown.contains(char::is_control), "{:?}", shown);
                prop_assert!((1..=lines).contains(&mistake.place.line), "{}", shown);
            }
            return Ok(());
        }
    };
    prop_assert!(!parsed.config.doors.is_empty());
    for warning in check::check("f", &parsed, &[]) {
        let shown = warning.to_string();
        prop_assert!(!shown.contains(char::is_control), "{:?}", shown);
    }
    let made = convert::convert("f", &parsed);
    if made.doors == 0 {
        return Ok(());
    }
    let finished = finished(&made);
    if made.unfinished > 0 {
        let mistakes = toml::read("f", &made.text).unwrap_err();
        let steps = mistakes
            .iter()
            .filter(|mistake| mistake.what == "the knock has no steps");
        prop_assert_eq!(
            (steps.count(), mistakes.len()),
            (made.unfinished, made.unfinished)
        );
    } else {
        prop_assert_eq!(&finished, &made.text);
    }
    let converted = match toml::read("f", &finished) {
        Ok(converted) => converted,
        Err(mistakes) => {
            return Err(TestCaseError::fail(format!("{mistakes:?} in\n{finished}")));
        }
    };
    prop_assert_eq!(converted.config.doors.len(), made.doors);
    let mut others = 0;
    for door in &converted.config.doors {
        let theirs = parsed.config.doors.iter().find(|d| d.name == door.name);
        let theirs = theirs.expect("no door is made up");
        // Where no step is TCP, there are no flags to be said.
        let sequence = theirs.knocks[0].sequence().unwrap();
        let mut made = door.knocks[0].sequence().unwrap().clone();
        if let Steps::Fixed(steps) = &mut made.steps
            && steps.pop_if(|last| *last == MORE).is_some()
        {
            others += 1;
        }
        if sequence.has_tcp() {
            prop_assert_eq!(sequence, &made);
        }
    }
    prop_assert_eq!(others, made.unfinished);
    for warning in check::check("f", &converted, &[]) {
        let deserved = ["sequence", "tcpflags", "target", "command", "command_6"];
        let unguarded = warning.what.starts_with("no guard closes");
        let long = warning.key.ends_with("open_for");
        prop_assert!(
            unguarded || long || deserved.iter().any(|key| warning.key.ends_with(key)),
            "{}",
            warning
        );
    }
    Ok(())
}

const COMMAND: &str = "(|:|/bin/true|echo \"%IP%\" 'a'|%ip%|\
    (ipfw|/sbin/ipfw -q) (add|delete) ([0-9]{1,5} )?(pass tcp from %IP% to (me|any|192\\.0\\.2\\.1) [0-9]{2}|.{0,9})|\
    ipfw table [a-z1]{1,3} (add|delete) %IP%|pfctl -t (knock|pass) -T (add|delete) %IP%|\
    ip6?tables -[AD] INPUT -s %IP% -p tcp --dport (22|80) -j ACCEPT|\
    nft add rule a b ip saddr %IP% udp dport \\{ 53,[0-9]{2} \\} accept)";

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text(text: String) {
        hold(&text)?;
    }

    #[test]
    fn any_knockd_like_text(
        lines in proptest::collection::vec(
            prop_oneof![
                "\\[[a-z ]{0,3}\\]",
                "(\\[(options|Options)\\]|UseSyslog|#.{0,3})",
                "(logfile|pidfile|interface|target|one_time_sequences) ?= ?(/[a-z]{0,3}|em0|.{0,4})",
                "(seq|cmd)_timeout *=-?[0-9]{0,8}[a-z]?",
                "sequence = [0-9]{1,5}(:udp)?,[0-9]{1,5}(,.{0,5})?",
                "tcpflags = !?(syn|ack|x)(,!?fin)?",
                Just(format!("(stop|start)_command(_6)? = {COMMAND}")).prop_flat_map(|r| {
                    proptest::string::string_regex(&r).expect("a regex")
                }),
                ".{0,9}",
            ],
            0..20,
        ),
    ) {
        hold(&lines.join("\n"))?;
    }

    /// Nearly all of these are good.
    #[test]
    fn any_good_file(
        doors in proptest::collection::vec(
            (
                "[a-zA-Z é\"\\\\']{1,30}",
                "(700[0-4],){0,3}700[0-4](:udp)?",
                proptest::collection::vec(
                    (
                        "(command|start_command_6|stop_command|stop_command_6)",
                        proptest::string::string_regex(COMMAND).expect("a regex"),
                    ),
                    0..4,
                ),
                "(|tcpflags=syn|tcpflags=!syn,ack|target=::1|cmd_timeout=[0-9]{1,9}|one)",
            ),
            1..5,
        ),
    ) {
        let mut text = String::new();
        for (at, (name, sequence, commands, more)) in doors.iter().enumerate() {
            writeln!(text, "[{name}]").expect("a string takes it");
            match more.as_str() {
                "one" => writeln!(text, "one_time_sequences = /etc/{at}"),
                more => writeln!(text, "sequence = {sequence}\n{}", if more.is_empty() { "#" } else { more }),
            }
            .expect("a string takes it");
            for (key, command) in commands {
                writeln!(text, "{key} = {command}").expect("a string takes it");
            }
        }
        hold(&text)?;
    }

    #[test]
    fn any_file_slightly_wrong(
        file: prop::sample::Index,
        at: prop::sample::Index,
        length in 0..12usize,
        insert in "(.|\n|=|\\[|\\]|#|22|[a-z]{0,3}){0,2}",
    ) {
        let texts = texts();
        let chars: Vec<char> = texts[file.index(texts.len())].chars().collect();
        let from = at.index(chars.len() + 1);
        let to = (from + length).min(chars.len());
        let mut text: String = chars[..from].iter().collect();
        text.push_str(&insert);
        text.extend(&chars[to..]);
        hold(&text)?;
    }
}
