//! Plain `ssh home`, by `ProxyCommand postern connect %h %p`, to a real sshd behind a door.

use std::fs;
use std::net::IpAddr;

use tempfile::TempDir;

use crate::harness::{Daemon, Door, Host, Net, Ran, Sshd, chmod, program, until};
use crate::manual::block;
use crate::{OTHER, STEPS, ssh};

const PING: &str = "6b3f0c5e9a8d47218f6e5d4c3b2a1908";
const CIPHER_KEY: &str = "tXtpsH9GYg26FryP5Gkt/Ts3+EoL6WkxV5Xq1jo8bGk=";
const HMAC_KEY: &str = "65j/BXqUALddLOvAy773VajC/0vzZpVapcr8yWCk3T/7Yba0RyVATkr2N9Q3JKX2vflI8gPzWXgs\
                        swDybPB5ug==";

/// Somebody's home directory, with an ssh_config and postern in his PATH.
struct User {
    home: TempDir,
}

impl User {
    /// One with this profile for home.
    fn new(profile: &str, sshd: &Sshd) -> User {
        let home = tempfile::tempdir().unwrap();
        let directory = home.path().join(".config/postern");
        fs::create_dir_all(&directory).unwrap();
        let file = directory.join("config.toml");
        fs::write(&file, profile).unwrap();
        chmod(&file, 0o600);
        let bin = home.path().join("bin");
        fs::create_dir(&bin).unwrap();
        std::os::unix::fs::symlink(program("postern"), bin.join("postern")).unwrap();
        let ours = block("postern.1", "Ssh: config", 0).join("\n");
        let config = format!(
            "{ours}\n\
             Host elsewhere\n    HostName 10.66.0.1\n    ProxyCommand postern connect -v %h %p\n\
             Host *\n    User root\n    IdentityFile {}\n    BatchMode yes\n\
             \x20   StrictHostKeyChecking no\n    UserKnownHostsFile /dev/null\n    LogLevel ERROR\n",
            sshd.key().display()
        );
        fs::write(home.path().join("ssh_config"), config).unwrap();
        User { home }
    }

    /// A command line of his.
    fn run(&self, host: &Host, line: &str) -> Ran {
        let mut command = host.command("env");
        let (home, bin) = (self.home.path().display(), self.home.path().join("bin"));
        command.args(["-u", "XDG_CONFIG_HOME", &format!("HOME={home}")]);
        command.arg(format!(
            "PATH={}:/usr/bin:/bin:/usr/sbin:/sbin",
            bin.display()
        ));
        Ran::of(command.args(["sh", "-c", line]))
    }

    /// Plain ssh, but for where its configuration stands.
    #[track_caller]
    fn ssh(&self, host: &Host, to: &str) -> String {
        let line = format!("ssh -F $HOME/ssh_config {to} 'echo hello from $SSH_CONNECTION'");
        let ran = self.run(host, &line);
        assert_eq!(ran.code(), 0, "{ran:?}");
        assert!(ran.stdout.starts_with("hello from "), "{ran:?}");
        ran.stderr
    }
}

fn home(ways: &[&str]) -> String {
    let mut text = "[host.home]\naddress = \"10.66.0.1\"\n".to_owned();
    for way in ways {
        text += &format!("[[host.home.way]]\n{way}\n");
    }
    text
}

fn sequence(steps: &[&str]) -> String {
    format!("sequence = {steps:?}\n")
}

fn ping() -> String {
    format!("ping = \"{PING}\"\n")
}

fn spa(more: &str) -> String {
    format!("spa = true\ncipher_key = \"{CIPHER_KEY}\"\nhmac_key = \"{HMAC_KEY}\"\n{more}\n")
}

/// A key that opens the door: a table behind it.
fn key(more: &str) -> String {
    format!(
        "[key.alice]\ncipher_key = \"{CIPHER_KEY}\"\nhmac_key = \"{HMAC_KEY}\"\n\
         doors = [\"ssh\"]\n{more}\n"
    )
}

#[test]
fn plain_ssh_knocks_and_enters() {
    let net = Net::new(2);
    let sshd = Sshd::start(&net.server);
    let daemon = Daemon::start(&net.server, &[ssh("5s")]);
    let [client, other] = &net.clients[..] else {
        panic!("two clients")
    };
    assert!(client.connect(net.server.v4, 22).is_silence());
    let user = User::new(&home(&[&sequence(&STEPS)]), &sshd);
    assert_eq!(user.ssh(client, "home"), "");
    assert_eq!(daemon.leases().len(), 1);
    assert_eq!(daemon.leases()[0].address, IpAddr::from(client.v4));
    // Open already.
    assert_eq!(user.ssh(client, "home"), "");
    assert!(other.connect(net.server.v4, 22).is_silence());
    // By its address, which is what ssh's %h is here.
    until("the lease is over", || daemon.leases().is_empty());
    let said = user.ssh(client, "elsewhere");
    assert!(
        said.starts_with("postern: 10.66.0.1: knocked by sequence\n"),
        "{said}"
    );

    // sshd has seen logins, and nobody else: what is given up before it is answered does not
    // reach it.
    let log = sshd.log();
    let logins = log.matches("Accepted publickey").count();
    assert_eq!(logins, 3, "{log}");
    for said in [
        "Connection reset",
        "Connection closed by 10.66.0.11",
        "banner",
    ] {
        assert!(!log.contains(said), "{log}");
    }
}

#[test]
fn both_families_are_knocked_at_where_they_are_reached() {
    let net = Net::new(1);
    let sshd = Sshd::start(&net.server);
    let daemon = Daemon::start(&net.server, &[ssh("30s")]);
    let client = net.client();
    let text = home(&[&sequence(&STEPS)]).replace("10.66.0.1", "server.example.net");
    let user = User::new(&text, &sshd);
    // ip gives each command a mount namespace of its own.
    let hosts = user.home.path().join("hosts");
    let with = |addresses: &str, line: &str| {
        fs::write(&hosts, addresses.replace(' ', " server.example.net\n")).unwrap();
        let bind = format!("mount --bind {} /etc/hosts; {line}", hosts.display());
        user.run(client, &bind)
    };
    let line = "ssh -F $HOME/ssh_config home true";
    let ran = with("fd66::1 10.66.0.1 ", line);
    assert_eq!(ran.code(), 0, "{ran:?}");
    daemon.wait_lease("ssh", client.v6);
    assert_eq!(daemon.leases().len(), 1);

    // Nobody is at the first address.
    let ran = with("fd66::99 10.66.0.1 ", line);
    assert_eq!(ran.code(), 0, "{ran:?}");
    daemon.wait_lease("ssh", client.v4);

    // A zone.
    let link = client.run("ip -6 -o addr show dev eth0 scope link");
    assert!(link.contains("fe80::"), "{link}");
    let there = net.server.run("ip -6 -o addr show dev eth0 scope link");
    let there = there
        .split_whitespace()
        .find(|word| word.starts_with("fe80::"))
        .unwrap();
    let there = there.split('/').next().unwrap();
    let text = text.replace("server.example.net", &format!("{there}%eth0"));
    let user = User::new(&text, &sshd);
    let ran = user.run(client, "ssh -F $HOME/ssh_config home true");
    assert_eq!(ran.code(), 0, "{ran:?}");
}

#[test]
fn a_way_that_the_network_does_not_let_through_is_followed_by_the_next() {
    let net = Net::new(1);
    let sshd = Sshd::start(&net.server);
    let door = ssh("30s").to(&OTHER);
    let daemon = Daemon::start(&net.server, &[door]);
    net.lets_through(&[
        "tcp dport { 22, 8351, 52110, 30477 }",
        "tcp sport 22",
        "udp dport 1207",
    ]);
    let user = User::new(&home(&[&sequence(&STEPS), &sequence(&OTHER)]), &sshd);
    assert_eq!(user.ssh(net.client(), "home"), "");
    daemon.wait_lease("ssh", net.client().v4);
}

#[test]
fn when_it_does_not_open_ssh_says_why() {
    let net = Net::new(1);
    let sshd = Sshd::start(&net.server);
    let _daemon = Daemon::start(&net.server, &[ssh("30s")]);
    let user = User::new(&home(&[&sequence(&OTHER)]), &sshd);
    let ran = user.run(net.client(), "postern connect -t 3s home");
    let expected = "postern: 10.66.0.1 port 22: no answer; knocked by sequence\n";
    assert_eq!((ran.code(), ran.stderr.as_str()), (69, expected));
    let ran = user.run(net.client(), "postern connect -t 3s 10.66.0.77");
    let expected = "postern: 10.66.0.77 port 22: ";
    assert!(
        ran.code() == 69 && ran.stderr.starts_with(expected),
        "{ran:?}"
    );
}

#[test]
fn where_only_icmp_and_the_port_itself_pass_a_ping_enters() {
    let net = Net::new(1);
    let sshd = Sshd::start(&net.server);
    let daemon = Daemon::start(&net.server, &[ssh("30s").knock(&ping())]);
    net.lets_through(&["ip protocol icmp", "tcp dport 22", "tcp sport 22"]);
    let user = User::new(&home(&[&sequence(&STEPS), &ping()]), &sshd);
    assert_eq!(user.ssh(net.client(), "home"), "");
    daemon.wait_lease("ssh", net.client().v4);
}

#[test]
fn where_only_icmp_and_the_port_itself_pass_a_packet_enters() {
    let net = Net::new(1);
    let sshd = Sshd::start(&net.server);
    let daemon = Daemon::start(
        &net.server,
        &[ssh("30s").but(&key("carriers = [\"62201/udp\", \"icmp\"]"))],
    );
    net.lets_through(&["ip protocol icmp", "tcp dport 22", "tcp sport 22"]);
    let ways = [sequence(&STEPS), spa(""), spa("carrier = \"icmp\"")];
    let user = User::new(&home(&[&ways[0], &ways[1], &ways[2]]), &sshd);
    assert_eq!(user.ssh(net.client(), "home"), "");
    daemon.wait_lease("ssh", net.client().v4);
}

#[test]
fn where_only_443_passes() {
    let net = Net::new(1);
    let sshd = Sshd::on(&net.server, 443);
    let door = Door::opens("ssh", "443/tcp", "30s");
    let key = key("carriers = [\"443/udp\"]\nobserved = true");
    let daemon = Daemon::start(&net.server, &[door.but(&key)]);
    net.lets_through(&["tcp dport 443", "udp dport 443", "tcp sport 443"]);
    let ways = [
        sequence(&STEPS),
        ping(),
        spa("carrier = \"443/udp\"\nfrom = \"observed\""),
    ];
    let user = User::new(&home(&[&ways[0], &ways[1], &ways[2]]), &sshd);
    let ran = user.run(
        net.client(),
        "ssh -F $HOME/ssh_config -p 443 home echo hello",
    );
    assert_eq!((ran.code(), ran.stdout.as_str()), (0, "hello\n"), "{ran:?}");
    daemon.wait_lease("ssh", net.client().v4);
}

#[test]
fn a_ping_alone() {
    let net = Net::new(2);
    let sshd = Sshd::start(&net.server);
    let _daemon = Daemon::start(&net.server, &[ssh("30s").knock(&ping())]);
    let user = User::new(&home(&[&ping()]), &sshd);
    let [one, two] = &net.clients[..] else {
        panic!("two clients")
    };
    let did = |client: &Host, to: IpAddr, line: &str, said: &str| {
        assert!(client.connect(to, 22).is_silence());
        let ran = user.run(client, line);
        assert_eq!((ran.code(), ran.stdout.as_str()), (0, said), "{ran:?}");
        assert!(client.reaches(to, 22));
    };
    let (v4, v6) = (net.server.v4.into(), net.server.v6.into());
    did(one, v4, "postern ping -v home", "pinged 10.66.0.1\n");
    let from = |to: &str| format!("echo {PING} | postern ping --secret - {to}");
    did(two, v4, &from("10.66.0.1"), "");
    did(two, v6, &from("fd66::1"), "");
}

#[test]
fn a_packet_alone() {
    let net = Net::new(2);
    let sshd = Sshd::start(&net.server);
    let daemon = Daemon::start(&net.server, &[ssh("30s").but(&key(""))]);
    let user = User::new(&home(&[&spa("lasts = \"20s\"")]), &sshd);
    let [one, two] = &net.clients[..] else {
        panic!("two clients")
    };
    let enters = |client: &Host| {
        daemon.wait_lease("ssh", client.v4);
        assert!(client.reaches(net.server.v4, 22));
    };
    assert!(one.connect(net.server.v4, 22).is_silence());
    let ran = user.run(one, "postern spa -v home");
    let said = "asked 10.66.0.1 by 62201/udp for 10.66.0.11\n";
    assert_eq!((ran.code(), ran.stdout.as_str()), (0, said), "{ran:?}");
    enters(one);
    assert!(two.connect(net.server.v4, 22).is_silence());
    let line = format!("postern spa --from {} home", two.v4);
    assert_eq!(user.run(one, &line).code(), 0);
    enters(two);
}

/// Users have no raw sockets.
#[test]
fn a_user_pings_by_his_own_socket_or_by_ping() {
    let net = Net::new(3);
    let _sshd = Sshd::start(&net.server);
    let _daemon = Daemon::start(&net.server, &[ssh("30s").knock(&ping())]);
    let server = net.server.v4;
    // Where nobody can read it.
    let nobody = |client: &Host, path: &str, to: &str| {
        let line = format!(
            "mount -t tmpfs none /run && chmod 755 /run && cp {} /run && echo {PING} | \
             /usr/bin/env PATH={path} /usr/bin/setpriv --reuid=65534 --regid=65534 --clear-groups \
             /run/postern ping -v --secret - {to}",
            program("postern")
        );
        Ran::of(client.command("sh").args(["-c", &line]))
    };
    let [socket, ping, neither] = &net.clients[..] else {
        panic!("three clients")
    };
    let mut range = socket.command("sysctl");
    Ran::of(range.args(["-qw", "net.ipv4.ping_group_range=65534 65534"]));
    let ran = nobody(socket, "/nonexistent", "10.66.0.1");
    assert_eq!(
        (ran.code(), ran.stdout.as_str()),
        (0, "pinged 10.66.0.1\n"),
        "{ran:?}"
    );
    assert!(socket.reaches(server, 22));

    let ran = nobody(ping, "/usr/bin:/bin", "10.66.0.1");
    let said = "pinged 10.66.0.1 by the system's ping, which ps shows with the secret\n";
    assert_eq!((ran.code(), ran.stdout.as_str()), (0, said), "{ran:?}");
    assert!(ping.reaches(server, 22));
    // Nobody answers: it was sent all the same.
    net.server.nft(&[
        "table inet quiet { chain in { type filter hook input priority 0; \
                      icmp type echo-request drop; }; }",
    ]);
    let ran = nobody(ping, "/usr/bin:/bin", "10.66.0.1");
    assert_eq!(ran.code(), 0, "{ran:?}");
    let ran = nobody(ping, "/usr/bin:/bin", "192.0.2.1");
    let said = "postern: 192.0.2.1: ping: connect: Network is unreachable\n";
    assert_eq!((ran.code(), ran.stderr.as_str()), (69, said), "{ran:?}");

    let ran = nobody(neither, "/nonexistent", "10.66.0.1");
    let said = "postern: 10.66.0.1: this user may not send echo requests\n";
    assert_eq!((ran.code(), ran.stderr.as_str()), (77, said), "{ran:?}");
    assert!(neither.connect(server, 22).is_silence());
}

/// What is private opens for nobody behind NAT; here it does, and the hint is there.
#[test]
fn a_private_address_to_a_public_one_is_hinted_at() {
    let net = Net::new(1);
    net.server.address("add", "192.0.2.1/32", "eth0");
    net.client().run("ip route add 192.0.2.1/32 via 10.66.0.1");
    let sshd = Sshd::start(&net.server);
    let text = home(&[&spa("")]).replace("10.66.0.1", "192.0.2.1");
    let user = User::new(&text, &sshd);
    let ran = user.run(net.client(), "postern spa home");
    assert_eq!(ran.code(), 0);
    let begins = "postern: the packet names 10.66.0.11, which is private: ";
    assert!(ran.stderr.starts_with(begins), "{ran:?}");
    let quiet = user.run(net.client(), "postern spa --from observed home");
    assert_eq!((quiet.code(), quiet.stderr.as_str()), (0, ""));
}

#[test]
fn a_closed_door_is_no_busy_loop() {
    let net = Net::new(1);
    let sshd = Sshd::start(&net.server);
    let _daemon = Daemon::start(&net.server, &[ssh("30s")]);
    let user = User::new(&home(&[&sequence(&OTHER)]), &sshd);
    net.server.nft(&[
        "table inet count { counter syn { }; chain in { type filter hook input \
                      priority -400; tcp dport 22 counter name syn; }; }",
    ]);
    let ran = user.run(net.client(), "postern connect -t 6s home");
    assert_eq!(ran.code(), 69);
    let counted = net.server.run("nft list counters");
    let syns = counted
        .split_whitespace()
        .skip_while(|word| *word != "packets")
        .nth(1);
    let syns: usize = syns.unwrap().parse().unwrap();
    // Two rounds of 2 and 4 s: tries of 20 ms, 40 ms and so on, and what the kernel repeats.
    assert!((10..40).contains(&syns), "{syns}");
}
