//! postern.toml from its text to messages: golden files in tests/config.
//!
//! Each `*.toml` there has a `*.out`: the mistakes, or where there are none the warnings.
//! `POSTERN_BLESS=1 cargo test --test config` writes them anew.

use std::fmt::Write as _;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use postern::config::{
    Action, Commands, Config, Confine, Door, Drive, FirewallKind, Guard, Knock, LogTo, Mistake,
    Network, Opens, Pass, Port, Sequence, Steps, TcpFlags, To, bounds, check, toml,
};
use proptest::prelude::*;

#[path = "common/golden.rs"]
mod golden;

use golden::name;

/// What the golden files take for the ports of this machine's services.
const LIVE: &str = "7777/tcp";

fn files(directory: &str) -> Vec<PathBuf> {
    golden::files(&golden::directory("config").join(directory), "toml")
}

/// All that people would be told about a file.
fn told(path: &Path) -> String {
    let text = fs::read_to_string(path).expect("readable");
    let mut told = String::new();
    match toml::read(name(path), &text) {
        Err(mistakes) => {
            for mistake in mistakes {
                writeln!(told, "{mistake}").expect("a string takes it");
            }
        }
        Ok(parsed) => {
            for warning in check::check(name(path), &parsed, &[LIVE.parse().expect("a port")]) {
                writeln!(told, "{warning}").expect("a string takes it");
            }
        }
    }
    told
}

#[test]
fn all_that_is_told() {
    golden::hold(&files(""), told);
}

#[test]
fn good_files_have_no_mistakes() {
    for path in files("good") {
        let text = fs::read_to_string(&path).expect("readable");
        if let Err(mistakes) = toml::parse(name(&path), &text) {
            let all: Vec<String> = mistakes.iter().map(Mistake::to_string).collect();
            panic!("{}", all.join("\n"));
        }
    }
}

/// Every message that the reader or the check can make stands in a golden file: each line of
/// tests/config/messages is a part of one.
#[test]
fn every_message_is_golden() {
    let all: String = files("").iter().map(|path| told(path)).collect();
    golden::every_message(&golden::directory("config"), &all);
}

fn read_good(name: &str) -> Config {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/config/good")
        .join(name);
    toml::parse(name, &fs::read_to_string(path).expect("readable")).expect("good")
}

fn ports(all: &[&str]) -> Vec<Port> {
    all.iter()
        .map(|port| port.parse().expect("a port"))
        .collect()
}

#[test]
fn the_example_means_what_it_says() {
    let config = read_good("example.toml");
    let wanted = Config {
        interfaces: vec!["xl0".into()],
        log: LogTo::Syslog,
        firewall: FirewallKind::Nft,
        user: None,
        pidfile: None,
        control: "/var/run/postern.sock".into(),
        state: bounds::STATE.into(),
        always: Vec::new(),
        drive: Drive::InProcess,
        confine: Confine::Required,
        trial: Some(Duration::from_secs(600)),
        doors: vec![
            Door {
                name: "ssh".into(),
                action: Action::Open(Opens {
                    ports: ports(&["22/tcp"]),
                    open_for: Duration::from_secs(30),
                    pass: Pass::Ours { rule: None },
                    guard: Some(Guard {
                        number: None,
                        ports: ports(&["22/tcp"]),
                    }),
                    to: To::Me,
                    connections: None,
                    kill_states: false,
                }),
                knocks: vec![Knock::Sequence(Sequence {
                    steps: Steps::Fixed(ports(&["7143", "2912/udp", "39001", "16044"])),
                    timeout: Duration::from_secs(5),
                    flags: TcpFlags {
                        mask: 0x02,
                        value: 0x02,
                    },
                    target: None,
                })],
                max_leases: 1024,
                on: Vec::new(),
                idle: None,
                prefix6: 128,
            },
            Door {
                name: "wake".into(),
                action: Action::Command(Commands {
                    start: "/usr/local/bin/wake %IP%".into(),
                    start_6: None,
                    stop: Some("/usr/local/bin/sleep %IP%".into()),
                    stop_6: None,
                    cmd_timeout: Duration::from_secs(10),
                    run_limit: Duration::from_secs(60),
                }),
                knocks: vec![Knock::Sequence(Sequence {
                    steps: Steps::OneTime("/usr/local/etc/postern/wake.list".into()),
                    timeout: Duration::from_secs(10),
                    flags: TcpFlags::REQUEST,
                    target: None,
                })],
                max_leases: 1024,
                on: Vec::new(),
                idle: None,
                prefix6: 128,
            },
        ],
        keys: Vec::new(),
        knockd: None,
    };
    assert_eq!(config, wanted);
}

#[test]
fn every_key_is_read() {
    let config = read_good("everything.toml");
    assert_eq!(config.interfaces, ["em0", "em1.20"]);
    assert_eq!(config.log, LogTo::File("/var/log/postern.log".into()));
    assert_eq!(config.firewall, FirewallKind::Memory);
    assert_eq!(config.user.as_deref(), Some("_knocker"));
    assert_eq!(config.confine, Confine::Try);
    assert_eq!(config.pidfile, Some("/var/run/posternd.pid".into()));
    assert_eq!(config.control, Path::new("/tmp/postern/control"));
    assert_eq!(config.state, Path::new("/tmp/postern/state"));
    let names: Vec<&str> = config.doors.iter().map(|door| door.name.as_str()).collect();
    assert_eq!(names, ["web", "a-door_2", "inline"]);

    assert_eq!(config.doors[0].max_leases, 5);
    let Action::Open(opens) = &config.doors[0].action else {
        panic!("web opens ports");
    };
    assert_eq!(opens.ports, ports(&["443/tcp", "443/udp", "80/tcp"]));
    assert_eq!(opens.open_for, Duration::from_secs(5400));
    assert_eq!(opens.guard, None);
    let first = config.doors[0].knocks[0].sequence().unwrap();
    assert_eq!(
        first.steps,
        Steps::Fixed(ports(&["7143", "2912/udp", "2913/udp", "16044", "99"]))
    );
    assert_eq!(first.timeout, Duration::from_millis(2500));
    let flags = TcpFlags {
        mask: 0x3f,
        value: 0x2a,
    };
    assert_eq!(first.flags, flags);
    assert_eq!(first.target, Some("192.0.2.1".parse::<IpAddr>().unwrap()));
    let second = config.doors[0].knocks[1].sequence().unwrap();
    assert_eq!(second.flags, TcpFlags { mask: 0, value: 0 });
    assert_eq!(
        second.target,
        Some("2001:db8::1".parse::<IpAddr>().unwrap())
    );
    assert_eq!(second.timeout, bounds::SEQ_TIMEOUT);

    let Action::Command(commands) = &config.doors[1].action else {
        panic!("a-door_2 runs commands");
    };
    assert_eq!(
        *commands,
        Commands {
            start: "start %IP%".into(),
            start_6: Some(String::new()),
            stop: Some("stop %IP%".into()),
            stop_6: Some(String::new()),
            cmd_timeout: Duration::from_secs(90),
            run_limit: Duration::from_secs(1),
        }
    );
    assert_eq!(config.doors[1].max_leases, 65536);
    let [web, own] = [0, 1].map(|door| (config.doors[door].idle, config.doors[door].prefix6));
    assert_eq!(web, (Some(Duration::from_secs(300)), 64));
    assert_eq!(own, (None, 128));
}

#[test]
fn not_more_mistakes_than_can_be_read() {
    let text = "x = 1\n".repeat(1000);
    let mistakes = toml::parse("f", &text).unwrap_err();
    assert_eq!(mistakes.len(), toml::MOST_MISTAKES + 1);
    let last = mistakes.last().expect("there is one").to_string();
    assert_eq!(
        last,
        "f:51:1: more mistakes from here on; mend those above first"
    );
}

#[test]
fn bytes_that_are_no_text() {
    let mistake = postern::config::mistake::utf8("f", b"a = 1\nb = \"\xc3\xa9\xff\"").unwrap_err();
    let shown = mistake.to_string();
    assert_eq!(
        shown,
        "f:2:7: the byte 0xff is not UTF-8; write the file in UTF-8"
    );
}

fn small_texts() -> &'static [String] {
    static TEXTS: OnceLock<Vec<String>> = OnceLock::new();
    TEXTS.get_or_init(|| {
        let golden = files("").into_iter().chain(files("good"));
        golden
            .map(|path| fs::read_to_string(path).expect("readable"))
            .filter(|text| text.len() < 10_000)
            .collect()
    })
}

/// What must hold for any text: no panic, never a refusal without a reason, every message on one
/// line and in its place.
fn hold(text: &str) -> Result<(), TestCaseError> {
    match toml::read("f", text) {
        Ok(parsed) => {
            prop_assert!(!parsed.config.doors.is_empty());
            for warning in check::check("f", &parsed, &[]) {
                let shown = warning.to_string();
                prop_assert_eq!(shown.lines().count(), 1, "{}", shown);
            }
        }
        Err(mistakes) => {
            prop_assert!(!mistakes.is_empty());
            prop_assert!(mistakes.is_sorted_by_key(|mistake| mistake.place));
            let lines = text.split('\n').count();
            for mistake in mistakes {
                let shown = mistake.to_string();
                prop_assert!(!shown.contains(char::is_control), "{:?}", shown);
                prop_assert!((1..=lines).contains(&mistake.place.line), "{}", shown);
                let line = text
                    .split('\n')
                    .nth(mistake.place.line - 1)
                    .unwrap_or_default();
                let columns = line.chars().count() + 1;
                prop_assert!((1..=columns).contains(&mistake.place.column), "{}", shown);
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text(text: String) {
        hold(&text)?;
    }

    #[test]
    fn any_toml_like_text(
        words in proptest::collection::vec(
            prop_oneof![
                "(\\[door\\.[a-z\"é]{1,3}\\]|\\[\\[door\\.[a-z]{1,2}\\.knock\\]\\]|\\[+|\\]+|\\{|\\}|=|,|\n|\"|'|#| |\\.)",
                "(interface|log|firewall|door|opens|open_for|guard|knock|sequence|tcpflags|target)( =|)",
                "(true|yes|0x1F|-1|22|\"22/tcp\"|'30s'|nft|\"nft\"|1e9|1979-05-27|\\[\"1\", 2\\]|\"\\\\u0000\")",
                any::<char>().prop_map(String::from),
            ],
            0..40,
        ),
    ) {
        hold(&words.concat())?;
        hold(&words.join(" "))?;
    }

    #[test]
    fn any_file_slightly_wrong(
        file: prop::sample::Index,
        at: prop::sample::Index,
        length in 0..12usize,
        insert in "(.|\n|\"|=|\\[|\\]|22|[a-z]{0,3}){0,2}",
    ) {
        let texts = small_texts();
        let chars: Vec<char> = texts[file.index(texts.len())].chars().collect();
        let from = at.index(chars.len() + 1);
        let to = (from + length).min(chars.len());
        let mut text: String = chars[..from].iter().collect();
        text.push_str(&insert);
        text.extend(&chars[to..]);
        hold(&text)?;
    }
}

#[test]
fn doors_of_the_packet_filters_are_read() {
    let config = read_good("ipfw.toml");
    assert_eq!(config.trial, None);
    let always: Vec<String> = config.always.iter().map(ToString::to_string).collect();
    assert_eq!(always, ["192.0.2.0/24", "2001:db8::7"]);
    let opens = |config: &Config, door: usize| match &config.doors[door].action {
        Action::Open(opens) => opens.clone(),
        Action::Command(_) => panic!("door {door} opens"),
    };
    let ssh = opens(&config, 0);
    assert_eq!(ssh.pass, Pass::Ours { rule: Some(101) });
    assert_eq!(ssh.guard.unwrap().number, Some(102));
    assert_eq!((ssh.to, ssh.connections), (To::Me, Some(2)));
    assert_eq!(config.doors[0].on, ["xl0"]);
    let behind = opens(&config, 1);
    assert_eq!(behind.to, To::Network("2001:db8:1::/64".parse().unwrap()));
    assert_eq!(behind.guard.unwrap().ports, ports(&["80", "443"]));
    assert_eq!(opens(&config, 2).pass, Pass::Rules(200..=249));
    assert_eq!(
        config.doors[2].max_leases, 50,
        "as many as there are numbers"
    );
    let own = opens(&config, 3);
    assert_eq!(
        (own.pass, own.ports),
        (Pass::Table("friends".into()), vec![])
    );

    let config = read_good("pf.toml");
    assert_eq!(config.trial, Some(Duration::from_secs(300)));
    let ssh = opens(&config, 0);
    assert_eq!((ssh.to, ssh.kill_states), (To::Any, true));
    assert_eq!(opens(&config, 1).ports, ports(&["25"]));
    let guarded: Vec<Port> = postern::config::guarded(&config.doors)
        .into_iter()
        .collect();
    assert_eq!(guarded, ports(&["22"]));
}

#[test]
fn networks() {
    let net = |text: &str| text.parse::<Network>();
    for text in [
        "192.0.2.7",
        "192.0.2.0/24",
        "10.0.0.0/8",
        "0.0.0.0/0",
        "2001:db8::/32",
        "::/0",
    ] {
        assert_eq!(net(text).unwrap().to_string(), text);
    }
    assert_eq!(net("192.0.2.7/32").unwrap().to_string(), "192.0.2.7");
    for text in [
        "",
        "/",
        "192.0.2.1/24",
        "192.0.2.0/33",
        "192.0.2.0/+24",
        "192.0.2.0/",
        "2001:db8::/129",
        "::ffff:192.0.2.7",
        "host",
        "192.0.2.0/24/24",
        " 192.0.2.7",
    ] {
        assert_eq!(net(text), Err(()), "{text:?}");
    }
    let (four, six) = (net("192.0.2.0/24").unwrap(), net("2001:db8::/32").unwrap());
    assert!(four.contains("192.0.2.255".parse().unwrap()));
    assert!(!four.contains("192.0.3.0".parse().unwrap()));
    assert!(!four.contains("2001:db8::1".parse().unwrap()));
    assert!(six.contains("2001:db8:ffff::1".parse().unwrap()));
    assert!(!six.contains("2001:db9::1".parse().unwrap()));
}

#[test]
fn interfaces_of_the_command_line_must_do_for_the_doors() {
    let mut config = read_good("ipfw.toml");
    assert_eq!(config.unheard(), None);
    config.interfaces = vec!["xl0".into()];
    assert_eq!(config.unheard(), Some(("behind", "xl1")));
    config.interfaces = vec!["any".into()];
    assert_eq!(config.unheard(), None);
}
