//! Sessions that run are cut by nothing.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use crate::harness::{Daemon, Door, LIMIT, Net, Ran, Service, Session, Sshd, until};
use crate::{STEPS, ssh};

/// A login that says back what it is told.
struct Shell {
    child: Child,
    lines: Receiver<String>,
}

impl Shell {
    fn open(mut ssh: Command) -> Shell {
        let mut child = ssh
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (line, lines) = channel();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        thread::spawn(move || {
            let _ = stdout
                .lines()
                .map_while(Result::ok)
                .try_for_each(|text| line.send(text));
        });
        Shell { child, lines }
    }

    #[track_caller]
    fn echo(&mut self) {
        self.child
            .stdin
            .as_mut()
            .unwrap()
            .write_all(b"still there?\n")
            .unwrap();
        assert_eq!(
            self.lines.recv_timeout(LIMIT).expect("the login lives"),
            "still there?"
        );
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_login_by_ssh_runs_on_through_everything() {
    let net = Net::new(1);
    let sshd = Sshd::start(&net.server);
    let (client, server) = (net.client(), net.server.v4);
    let mut daemon = Daemon::start(&net.server, &[ssh("2s")]);
    client.knock(server, &STEPS);
    daemon.wait_lease("ssh", client.v4);
    let mut shell = Shell::open(sshd.login(client, "10.66.0.1"));
    shell.echo();

    until("its lease ends", || {
        daemon.leases().is_empty() && client.connect(server, 22).is_silence()
    });
    shell.echo();
    daemon.configure(&[ssh("3s")]);
    daemon.reload();
    shell.echo();
    assert!(daemon.stop().success());
    shell.echo();
    daemon.run();
    shell.echo();
    daemon.kill();
    shell.echo();
    daemon.run();
    shell.echo();
    net.server.run("nft flush ruleset");
    until("the guard stands again", || {
        client.connect(server, 22).is_silence()
    });
    shell.echo();

    let refused = Ran::of(&mut sshd.login(client, "10.66.0.1"));
    assert_eq!(refused.code(), 255, "{refused:?}");
    client.knock(server, &STEPS);
    daemon.wait_lease("ssh", client.v4);
    Shell::open(sshd.login(client, "10.66.0.1")).echo();
}

/// Sessions from before the guard: some whose client speaks first, some whose server does, by
/// either family.
struct Before {
    clients: Vec<Session>,
    servers: Vec<Session>,
}

impl Before {
    fn open(net: &Net, service: &Service) -> Before {
        let open = |to: std::net::IpAddr| net.client().session(to, 22).unwrap();
        let both = || vec![open(net.server.v4.into()), open(net.server.v6.into())];
        let before = Before {
            clients: both(),
            servers: both(),
        };
        until("all have arrived", || service.sessions() == 4);
        before
    }

    fn all(&self) -> impl Iterator<Item = &Session> {
        self.clients.iter().chain(&self.servers)
    }

    fn live(&mut self, service: &Service) {
        service.say("hello\n");
        for session in self.servers.iter_mut().chain(&mut self.clients) {
            session.hear("hello\n");
        }
        self.clients.iter_mut().for_each(Session::echo);
    }
}

#[test]
fn sessions_from_before_the_guard_run_on() {
    let net = Net::new(1);
    let service = Service::start(&net.server, &[22]);
    let (client, server) = (net.client(), net.server.v4);
    let mut before = Before::open(&net, &service);
    assert!(
        !net.server.run("nft list ruleset").contains("ct "),
        "nothing tracks connections"
    );

    let mut daemon = Daemon::start(&net.server, &[ssh("2s")]);
    assert!(client.connect(server, 22).is_silence());
    // The client speaks first, and then the server to idle ones.
    before.clients.iter_mut().for_each(Session::echo);
    before.live(&service);

    daemon.reload();
    before.live(&service);
    assert!(daemon.stop().success());
    before.live(&service);
    daemon.run();
    before.live(&service);
    daemon.kill();
    before.live(&service);
    daemon.run();
    before.live(&service);
    client.knock(server, &STEPS);
    daemon.wait_lease("ssh", client.v4);
    until("a lease of the same address ends", || {
        client.connect(server, 22).is_silence()
    });
    before.live(&service);
}

#[test]
fn sessions_that_stay_idle_until_after_restarts_run_on() {
    let net = Net::new(1);
    let service = Service::start(&net.server, &[22]);
    let mut before = Before::open(&net, &service);
    let mut daemon = Daemon::start(&net.server, &[ssh("2s")]);
    daemon.kill();
    daemon.run();
    daemon.reload();
    before.clients.iter_mut().for_each(Session::echo);
    before.live(&service);
}

#[test]
fn a_guard_that_a_reload_brings_cuts_nothing() {
    let net = Net::new(1);
    let service = Service::start(&net.server, &[22, 23]);
    let open = Door::opens("web", "23/tcp", "30s").to(&crate::OTHER);
    let mut before = Before::open(&net, &service);
    let daemon = Daemon::start(&net.server, std::slice::from_ref(&open));
    daemon.configure(&[open, ssh("2s")]);
    daemon.reload();
    assert!(net.client().connect(net.server.v4, 22).is_silence());
    before.clients.iter_mut().for_each(Session::echo);
    before.live(&service);
}

#[test]
fn what_admits_an_old_session_goes_with_it() {
    let net = Net::new(1);
    let service = Service::start(&net.server, &[22]);
    let before = Before::open(&net, &service);
    let ports: Vec<String> = before.all().map(|s| s.local_port().to_string()).collect();
    let _daemon = Daemon::start(&net.server, &[ssh("2s")]);
    let admitted = || {
        let rules = net.server.run("nft list table inet postern");
        ports
            .iter()
            .filter(|p| rules.contains(&format!(". {p} ")))
            .count()
    };
    assert_eq!(admitted(), 4, "by their four numbers");
    drop(before);
    until("none is admitted any more", || admitted() == 0);
}
