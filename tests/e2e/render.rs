//! Doors' knocks done by the kernel alone: what `posternctl render` writes, loaded.

use std::net::IpAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::STEPS;
use crate::harness::{Daemon, Door, Host, Net, Ran, Service, raw, until};

/// The bytes of a ping's secret, as text.
const SECRET: &str = "Qx7pLm3vRz9aTk2w";

fn hex(secret: &[u8]) -> String {
    secret.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A door that guards port 22 and opens it to a ping and to [`STEPS`].
fn door(open_for: &str) -> Door {
    Door::opens("ssh", "22/tcp", open_for)
        .knock(&format!("ping = \"{}\"", hex(SECRET.as_bytes())))
        .to(&STEPS)
        .but("seq_timeout = \"2s\"")
}

/// What rules are for.
#[derive(Clone, Copy, Debug)]
enum Filter {
    Nft,
    Iptables,
}

impl Filter {
    /// Writes the rules for a door and loads them.
    fn load(self, host: &Host, door: Door) -> String {
        let files = Daemon::prepare(host, &[door]);
        let (name, program) = match self {
            Filter::Nft => ("nft", &["nft", "-f"][..]),
            Filter::Iptables => ("iptables", &["sh"][..]),
        };
        let written = files.ctl(&["render", name]);
        assert_eq!((written.code(), written.stderr.as_str()), (0, ""));
        let file = files.write("rules", &written.stdout);
        // Twice: the second takes the place of the first.
        for _ in 0..2 {
            let mut command = host.command(program[0]);
            let ran = Ran::of(command.args(&program[1..]).arg(&file));
            assert_eq!((ran.code(), ran.stderr.as_str()), (0, ""), "{self:?}");
        }
        written.stdout
    }
}

/// `ping -c1 -p`, which need not be answered.
fn ping(from: &Host, to: impl Into<IpAddr>, pattern: &[u8]) {
    let mut ping = from.command("ping");
    let to = to.into().to_string();
    Ran::of(ping.args(["-c1", "-W1", "-p", &hex(pattern), &to]));
}

/// An echo request with this payload.
fn echo(from: &Host, to: IpAddr, payload: &[u8]) {
    let source = match to {
        IpAddr::V4(_) => from.v4.into(),
        IpAddr::V6(_) => from.v6.into(),
    };
    let packet = raw::echo(source, to, payload);
    from.inside(|| raw::Sender::new(to.is_ipv6()).send(to, &packet));
}

/// The secret, once, at a place of 64 bytes.
fn at(offset: usize, secret: &[u8]) -> Vec<u8> {
    let mut payload = vec![b'.'; 64];
    payload[offset..offset + 16].copy_from_slice(secret);
    payload
}

/// Both families' addresses of the server.
fn both(net: &Net) -> [IpAddr; 2] {
    [net.server.v4.into(), net.server.v6.into()]
}

fn pings_open(filter: Filter) {
    let net = Net::new(2);
    let [one, other] = &net.clients[..] else {
        panic!("two clients")
    };
    let _service = Service::start(&net.server, &[22]);
    filter.load(&net.server, door("4s"));
    for server in both(&net) {
        assert!(one.connect(server, 22).is_silence());
        ping(one, server, SECRET.as_bytes());
        assert!(one.reaches(server, 22), "{filter:?} {server}");
        assert!(other.connect(server, 22).is_silence());
        until("it closes", || one.connect(server, 22).is_silence());
    }
}

#[test]
fn a_ping_opens_by_nft() {
    pings_open(Filter::Nft);
}

#[test]
fn a_ping_opens_by_iptables() {
    pings_open(Filter::Iptables);
}

/// As the daemon: a knock lets in a network only if its first bits are somebody's.
fn networks(filter: Filter) {
    let net = Net::new(2);
    let [one, neighbour] = &net.clients[..] else {
        panic!("two clients")
    };
    let _service = Service::start(&net.server, &[22]);
    // One that Teredo made, with neighbours who have nothing to do with it.
    let teredo = ["2001:0:cb00:7100::7", "2001:0:cb00:7100::8"];
    let server: IpAddr = "2001:0:cb00:7100::1".parse().unwrap();
    for (host, address) in [(one, teredo[0]), (neighbour, teredo[1])] {
        host.address("add", &format!("{address}/64"), "eth0");
    }
    net.server.address("add", &format!("{server}/64"), "eth0");
    filter.load(&net.server, door("1h").with("prefix6 = 64"));
    ping(one, server, SECRET.as_bytes());
    assert!(neighbour.connect(server, 22).is_silence(), "{filter:?}");
    // fd66::/64 is a site's: its other addresses are let in, too.
    assert!(neighbour.connect(net.server.v6, 22).is_silence());
    ping(one, net.server.v6, SECRET.as_bytes());
    assert!(neighbour.reaches(net.server.v6, 22), "{filter:?}");
    assert!(neighbour.connect(server, 22).is_silence(), "{filter:?}");
}

#[test]
fn a_network_is_let_in_if_it_is_somebodys_by_nft() {
    networks(Filter::Nft);
}

#[test]
fn a_network_is_let_in_if_it_is_somebodys_by_iptables() {
    networks(Filter::Iptables);
}

/// As the daemon: where FreeBSD's, macOS's and Linux's ping put it, and nowhere else.
fn places(filter: Filter) {
    let net = Net::new(1);
    let client = net.client();
    let _service = Service::start(&net.server, &[22]);
    filter.load(&net.server, door("2s"));
    let mut rotated = SECRET.as_bytes().to_vec();
    rotated.rotate_left(4);
    let mut flipped = SECRET.as_bytes().to_vec();
    flipped[15] ^= 1;
    for server in both(&net) {
        for offset in [0, 4, 7, 9, 12, 15, 17, 24, 32, 40, 48] {
            echo(client, server, &at(offset, SECRET.as_bytes()));
        }
        for wrong in [&rotated, &flipped] {
            echo(client, server, &at(8, wrong));
            echo(client, server, &at(16, wrong));
            ping(client, server, wrong);
        }
        // Cut short.
        echo(client, server, &at(16, SECRET.as_bytes())[..31]);
        assert!(client.connect(server, 22).is_silence(), "{filter:?}");
        // FreeBSD's: a time stamp of 8 bytes, then the pattern over and over.
        let mut freebsd = vec![0; 8];
        freebsd.extend(SECRET.bytes().cycle().take(48));
        for right in [freebsd, at(8, SECRET.as_bytes()), at(16, SECRET.as_bytes())] {
            echo(client, server, &right);
            assert!(client.reaches(server, 22), "{filter:?} {server}");
            until("it closes", || client.connect(server, 22).is_silence());
        }
    }
}

#[test]
fn places_of_a_secret_by_nft() {
    places(Filter::Nft);
}

#[test]
fn places_of_a_secret_by_iptables() {
    places(Filter::Iptables);
}

/// With `offsets`, anywhere in between.
fn loose(filter: Filter) {
    let net = Net::new(1);
    let client = net.client();
    let _service = Service::start(&net.server, &[22]);
    let ping = format!("ping = \"{}\"\noffsets = \"4-20\"", hex(SECRET.as_bytes()));
    let door = Door::opens("ssh", "22/tcp", "2s").knock(&ping);
    filter.load(&net.server, door);
    for server in both(&net) {
        for offset in [0, 3, 37] {
            echo(client, server, &at(offset, SECRET.as_bytes()));
        }
        assert!(client.connect(server, 22).is_silence(), "{filter:?}");
        for offset in [4, 11, 20] {
            echo(client, server, &at(offset, SECRET.as_bytes()));
            assert!(client.reaches(server, 22), "{filter:?} {server} {offset}");
            until("it closes", || client.connect(server, 22).is_silence());
        }
    }
}

#[test]
fn a_range_of_places_by_nft() {
    loose(Filter::Nft);
}

#[test]
fn a_range_of_places_by_iptables() {
    loose(Filter::Iptables);
}

/// A TCP port that the rules look at and that is no step.
fn trap(rules: &str) -> String {
    // Those that lead to the attempt.
    let lines = rules
        .lines()
        .filter(|line| line.contains(" jump ssh.2") || line.contains(" -j ssh.2"));
    let lists = lines.filter_map(|line| {
        let nft = line.split_once("tcp dport { ");
        let iptables = line.split_once("-p tcp --tcp-flags FIN,SYN,RST,ACK SYN -m multiport");
        let nft = nft.map(|(_, rest)| rest);
        nft.or(iptables.and_then(|(_, rest)| rest.split_once("--dports ").map(|(_, r)| r)))
    });
    let ports = lists.flat_map(|list| list.split([',', ' ']));
    let mut ports = ports.take_while(|word| !["}", "-m"].contains(word));
    let other = |word: &&str| word.parse::<u16>().is_ok() && !STEPS.contains(word);
    ports.find(other).expect("there is a trap").to_owned()
}

fn sequences(filter: Filter) {
    let net = Net::new(2);
    let [one, other] = &net.clients[..] else {
        panic!("two clients")
    };
    let _service = Service::start(&net.server, &[22]);
    let rules = filter.load(&net.server, door("3s"));
    let trap = trap(&rules);
    let [a, b, c, d] = STEPS;
    for server in both(&net) {
        let wrong: [&[&str]; 5] = [
            &[a, c, b, d],
            &[a, c, b, c, d],
            &[b, c, d],
            &[a, b, &trap, c, d],
            &[a, b, d, c, d],
        ];
        for steps in wrong {
            one.knock(server, steps);
            assert!(one.connect(server, 22).is_silence(), "{filter:?} {steps:?}");
        }
        // What was taken does no harm when it comes again, and nobody else's counts.
        for steps in [&[a, b, c, d][..], &[a, a, b, a, b, c, b, d]] {
            other.knock(server, &[d, c]);
            one.knock(server, steps);
            assert!(one.reaches(server, 22), "{filter:?} {steps:?}");
            assert!(other.connect(server, 22).is_silence());
            until("it closes", || one.connect(server, 22).is_silence());
        }
        // The time counts from the first step, not from the latest.
        let began = Instant::now();
        one.knock(server, &[a, b]);
        while began.elapsed() < Duration::from_millis(1500) {
            std::thread::sleep(Duration::from_millis(50));
        }
        one.knock(server, &[c]);
        while began.elapsed() < Duration::from_millis(2600) {
            std::thread::sleep(Duration::from_millis(50));
        }
        one.knock(server, &[d]);
        assert!(one.connect(server, 22).is_silence(), "{filter:?}");
    }
}

#[test]
fn a_sequence_opens_by_nft() {
    sequences(Filter::Nft);
}

#[test]
fn a_sequence_opens_by_iptables() {
    sequences(Filter::Iptables);
}

/// A door's `idle`: the window stays open behind traffic, and closes when there is none.
fn traffic(filter: Filter) {
    let net = Net::new(1);
    let client = net.client();
    let _service = Service::start(&net.server, &[22]);
    filter.load(&net.server, door("2s").idle("5s"));
    let server = net.server.v4;
    ping(client, server, SECRET.as_bytes());
    let knocked = Instant::now();
    let mut session = client.session(server, 22).expect("it is open");
    while knocked.elapsed() < Duration::from_secs(8) {
        session.echo();
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(client.reaches(server, 22), "{filter:?}");
    drop(session);
    // Looking is traffic, too.
    until("it closes", || {
        std::thread::sleep(Duration::from_millis(5500));
        client.connect(server, 22).is_silence()
    });
}

#[test]
fn traffic_keeps_it_open_by_nft() {
    traffic(Filter::Nft);
}

#[test]
fn traffic_keeps_it_open_by_iptables() {
    traffic(Filter::Iptables);
}

/// A session that runs when the guard arrives goes on once the server has said something.
#[test]
fn sessions_go_on_and_rules_are_taken_away() {
    for filter in [Filter::Nft, Filter::Iptables] {
        let net = Net::new(1);
        let client = net.client();
        let service = Service::start(&net.server, &[22]);
        let mut session = client.session(net.server.v4, 22).expect("nothing guards");
        let files = Daemon::prepare(&net.server, &[door("2s")]);
        let rules = filter.load(&net.server, door("2s"));
        service.say("hello\n");
        session.hear("hello\n");
        session.echo();
        assert!(client.connect(net.server.v4, 22).is_silence());
        let file = files.write("rules", &rules);
        let mut away = match filter {
            Filter::Nft => net.server.command("nft"),
            Filter::Iptables => net.server.command("sh"),
        };
        match filter {
            Filter::Nft => away.args(["delete", "table", "inet", "postern-kernel"]),
            Filter::Iptables => away.arg(file).arg("remove"),
        };
        let ran = Ran::of(&mut away);
        assert_eq!((ran.code(), ran.stderr.as_str()), (0, ""));
        assert!(client.reaches(net.server.v4, 22));
        let left = net.server.run("iptables-save");
        assert!(!left.contains("ssh"), "{left}");
    }
}

/// Loads what `render nft --fallback` writes beside a daemon.
fn fall_back(daemon: &Daemon<'_>, host: &Host) -> Ran {
    let written = daemon.ctl(&["render", "nft", "--fallback"]);
    assert_eq!((written.code(), written.stderr.as_str()), (0, ""));
    let file = daemon.write("fallback.nft", &written.stdout);
    Ran::of(host.command("nft").arg("-f").arg(file))
}

#[test]
fn the_kernel_opens_what_a_dead_daemon_guards() {
    let net = Net::new(2);
    let [one, other] = &net.clients[..] else {
        panic!("two clients")
    };
    let _service = Service::start(&net.server, &[22]);
    let mut daemon = Daemon::prepare(&net.server, &[door("4s")]);
    let early = fall_back(&daemon, &net.server);
    assert_ne!(early.code(), 0, "there are no sets yet: {early:?}");
    daemon.run();
    for _ in 0..2 {
        let ran = fall_back(&daemon, &net.server);
        assert_eq!(ran.code(), 0, "{ran:?}");
    }
    daemon.kill();
    let ways: [&dyn Fn(IpAddr); 2] = [&|server| ping(one, server, SECRET.as_bytes()), &|server| {
        one.knock(server, &STEPS)
    }];
    for server in both(&net) {
        for knock in ways {
            assert!(one.connect(server, 22).is_silence(), "the guard stands");
            knock(server);
            assert!(one.reaches(server, 22));
            assert!(other.connect(server, 22).is_silence());
            until("it closes", || one.connect(server, 22).is_silence());
        }
        one.knock(server, &[STEPS[0], STEPS[2], STEPS[1], STEPS[2], STEPS[3]]);
        assert!(one.connect(server, 22).is_silence());
    }
}

#[test]
fn a_daemon_and_the_kernel_stand_together() {
    let net = Net::new(2);
    let [one, other] = &net.clients[..] else {
        panic!("two clients")
    };
    let server = net.server.v4;
    let _service = Service::start(&net.server, &[22]);
    let mut daemon = Daemon::start(&net.server, &[door("1h")]);
    assert_eq!(fall_back(&daemon, &net.server).code(), 0);

    // Whom the kernel let in while there was no daemon stays in, without a lease.
    daemon.kill();
    ping(one, server, SECRET.as_bytes());
    assert!(one.reaches(server, 22));
    daemon.run();
    assert!(one.reaches(server, 22));
    assert!(daemon.leases().is_empty());

    // Both hear a knock; the lease is the daemon's, and so is its end.
    for (client, knocks) in [(one, "again"), (other, "for the first time")] {
        ping(client, server, SECRET.as_bytes());
        daemon.wait_lease("ssh", client.v4);
        assert!(client.reaches(server, 22));
        let set = || net.server.run("nft list set inet postern ssh_4");
        let ours = |set: &str| {
            let mut entries = set.split([',', '{', '}']);
            let mine = client.v4.to_string();
            entries.any(|e| e.trim().starts_with(&mine) && e.contains("postern:"))
        };
        assert!(ours(&set()), "{knocks}: {}", set());
        let closed = daemon.ctl(&["close", &client.v4.to_string()]);
        assert_eq!(closed.code(), 0, "{closed:?}");
        assert!(client.connect(server, 22).is_silence(), "{knocks}");
    }

    // Nothing of this is told of as somebody else's, and a guard taken away stays away.
    assert!(!daemon.log().contains("not ours"), "{}", daemon.log());
    let ran = daemon.ctl(&["reload"]);
    assert_eq!(ran.code(), 0, "{ran:?}");
    let chain = net.server.run("nft list chain inet postern kernel");
    assert!(chain.contains("jump kernel.ssh.1"), "a reload leaves it");
    daemon.kill();
    let ran = daemon.ctl_there(&["unguard"]);
    assert_eq!(ran.code(), 0, "{ran:?}");
    assert!(other.reaches(server, 22));
}

/// The rules of the article on knocking by ping, word for word.
const PUBLISHED: &str = r#"iptables -N knock
iptables -N knock-ok

iptables -A knock -p icmp --icmp-type echo-request \
         -m string --string "[16-byte-secret]" --algo bm --from 60 --to 61 \
         -m recent --set --name knocked \
         -j LOG --log-prefix "KNOCK-OK: " --log-level 5
iptables -A knock -m recent --name knocked --update --seconds 60 -j knock-ok
"#;

#[test]
fn the_published_rules_word_for_word() {
    let net = Net::new(0);
    let files = Daemon::prepare(&net.server, &[door("30s")]);
    let written = files.ctl(&["render", "iptables", "--classic", "--door", "ssh"]);
    assert_eq!((written.code(), written.stderr.as_str()), (0, ""));
    let lines = written.stdout.lines().filter(|line| !line.starts_with('#'));
    let rules: String = lines.map(|line| format!("{line}\n")).collect();
    assert_eq!(
        rules.trim_start().replace(SECRET, "[16-byte-secret]"),
        PUBLISHED
    );
    let file = files.write("rules", &written.stdout);
    let ran = Ran::of(net.server.command("sh").arg("-e").arg(file));
    assert_eq!((ran.code(), ran.stderr.as_str()), (0, ""));
    let loaded = net.server.run("iptables-save");
    assert!(loaded.contains(SECRET), "{loaded}");

    // A secret that is no text.
    let bytes = [0x4b, 0x7e, 0x1f, 0x0a, 0x9c, 0xd3, 0x52, 0x88];
    let bytes = [bytes, [0x66, 0xfe, 0x41, 0xb0, 0x7a, 0x3d, 0xc9, 0x22]].concat();
    let odd = Door::opens("ssh", "22/tcp", "30s").knock(&format!("ping = \"{}\"", hex(&bytes)));
    files.configure(&[odd]);
    let written = files.ctl(&["render", "iptables", "--classic"]);
    let pattern = format!("-m string --hex-string \"|{}|\"", hex(&bytes));
    assert!(written.stdout.contains(&pattern), "{written:?}");
}

/// The script is sh's, not some shell's.
#[test]
fn the_script_is_sound() {
    let net = Net::new(0);
    let files = Daemon::prepare(&net.server, &[door("30s").idle("1m")]);
    for arguments in [
        &["render", "iptables"][..],
        &["render", "iptables", "--classic"],
    ] {
        let written = files.ctl(arguments);
        let file = files.write("rules.sh", &written.stdout);
        let ran = Ran::of(Command::new("shellcheck").arg(&file));
        assert_eq!((ran.code(), ran.stdout.as_str()), (0, ""));
    }
}
