//! What the systemd unit takes away is not needed.

use std::fs;

use crate::harness::{Daemon, Net, Ran, Service, program, until};
use crate::{STEPS, ssh};

/// A line of the unit.
fn line(key: &str) -> String {
    let unit = concat!(env!("CARGO_MANIFEST_DIR"), "/etc/postern.service.in");
    let text = fs::read_to_string(unit).unwrap();
    let mut lines = text.lines().filter_map(|line| line.strip_prefix(key));
    lines.next().unwrap().trim_start_matches('=').to_owned()
}

#[test]
fn its_capabilities_suffice() {
    let net = Net::new(2);
    let _service = Service::start(&net.server, &[22]);
    let server = net.server.v4;
    let [friend, stranger] = &net.clients[..] else {
        panic!()
    };
    let mut before = friend.session(server, 22).unwrap();
    let daemon = Daemon::prepare(&net.server, &[ssh("1s")]);
    let kept: String = line("CapabilityBoundingSet")
        .split(' ')
        .map(|name| format!(",+{}", name.trim_start_matches("CAP_").to_lowercase()))
        .collect();
    let under = |program: &str| {
        let mut command = net.server.command("setpriv");
        command
            .args(["--no-new-privs", "--inh-caps=-all"])
            .arg(format!("--bounding-set=-all{kept}"))
            .arg(program)
            .arg("-c")
            .arg(daemon.path("postern.toml"));
        command
    };
    let guard = Ran::of(under(program("posternctl")).arg("guard"));
    assert_eq!(guard.code(), 0, "{guard:?}");
    assert!(stranger.connect(server, 22).is_silence());
    before.echo();
    let mut child = under(program("posternd")).spawn().unwrap();
    until("posternd listens", || daemon.listens());
    friend.knock(server, &STEPS);
    daemon.wait_log(&format!("ssh: open for {}", friend.v4));
    let mut through = friend.session(server, 22).unwrap();
    daemon.wait_log(&format!("ssh: closed for {}", friend.v4));
    until("it is shut again", || {
        friend.connect(server, 22).is_silence()
    });
    through.echo();
    before.echo();
    // Its listener belongs to somebody else, and ends with it.
    let reloaded = Ran::of(under(program("posternctl")).arg("reload"));
    assert_eq!(reloaded.code(), 0, "{reloaded:?}");
    until("the next one listens", || daemon.listens());
    let listener = daemon.listener();
    let pid = nix::unistd::Pid::from_raw(child.id() as i32);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    assert!(child.wait().unwrap().success());
    until("the listener leaves", || {
        !crate::harness::is_posternd(listener.as_raw().into())
    });
}
