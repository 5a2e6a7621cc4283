//! nftables driven in-process, and by its command.

use std::fs;

use crate::harness::{Daemon, Net, Service, chmod, until};
use crate::{STEPS, ssh};

/// A daemon that finds a script in nft's place, which writes down how it is called and, once
/// there is a file `gone`, does nothing else. `drive`: as in the configuration.
fn watched<'h>(net: &'h Net, drive: Option<&str>) -> Daemon<'h> {
    let mut daemon = Daemon::prepare(&net.server, &[]);
    if let Some(drive) = drive {
        daemon.set("drive", &format!("{drive:?}"));
    }
    daemon.configure(&[ssh("3s")]);
    let nft = net.server.run("which nft");
    let (nft, real) = (nft.trim(), daemon.path("nft"));
    fs::copy(nft, &real).unwrap();
    let script = format!(
        "#!/bin/sh\n\
         echo \"$*\" >>{0}/calls\n\
         if [ -e {0}/gone ]; then exit 127; fi\n\
         exec {1} \"$@\"\n",
        daemon.path("").display(),
        real.display()
    );
    let script = daemon.write("script", &script);
    chmod(&script, 0o700);
    daemon.bind(&script, nft);
    daemon.run();
    daemon
}

/// Knocks, gets in, and waits for the end.
fn in_and_out(net: &Net, daemon: &Daemon) {
    let (client, server) = (net.client(), net.server.v4);
    assert!(client.connect(server, 22).is_silence());
    client.knock(server, &STEPS);
    until("the door opens", || client.connect(server, 22).is_open());
    until("the door closes", || {
        daemon.leases().is_empty() && client.connect(server, 22).is_silence()
    });
    assert_eq!(daemon.granted("ssh"), 1);
}

/// How nft has been called to change anything.
fn changes(daemon: &Daemon) -> usize {
    let calls = daemon.read("calls");
    calls.lines().filter(|call| *call == "-f -").count()
}

#[test]
fn a_grant_starts_no_process() {
    let net = Net::new(1);
    let _sshd = Service::start(&net.server, &[22]);
    let daemon = watched(&net, None);
    daemon.write("gone", "");
    fs::remove_file(daemon.path("calls")).unwrap();
    in_and_out(&net, &daemon);
    assert_eq!(changes(&daemon), 0, "{}", daemon.read("calls"));
}

#[test]
fn driven_by_its_command() {
    let net = Net::new(1);
    let _sshd = Service::start(&net.server, &[22]);
    let daemon = watched(&net, Some("command"));
    let before = changes(&daemon);
    in_and_out(&net, &daemon);
    assert!(changes(&daemon) >= before + 2, "{}", daemon.read("calls"));
}
