//! One-time lists.

use crate::harness::{Daemon, Door, Net, until};
use crate::{OTHER, STEPS};

const LIST: &str = "# used from the top\n7143,2912:udp,39001,16044\n\n8351,1207:udp,52110,30477\n";

fn door(daemon: &Daemon) -> Door {
    let list = daemon.path("list");
    Door::opens("ssh", "22/tcp", "1h")
        .knock(&format!("one_time_sequences = \"{}\"", list.display()))
}

#[test]
fn each_line_opens_once() {
    let net = Net::new(3);
    let mut daemon = Daemon::prepare(&net.server, &[]);
    daemon.write("list", LIST);
    daemon.configure(&[door(&daemon)]);
    daemon.run();
    let server = net.server.v4;
    let [a, b, c] = &net.clients[..] else {
        panic!()
    };

    // The second line is not in force yet.
    a.knock(server, &OTHER);
    a.knock(server, &STEPS);
    daemon.wait_lease("ssh", a.v4);
    assert_eq!(daemon.leases().len(), 1);
    let once = LIST.replace("\n7143", "\n#143");
    assert_eq!(daemon.read("list"), once, "written before the door opens");

    // A replay opens nothing, the next line does.
    b.knock(server, &STEPS);
    until("the next line opens", || {
        c.knock(server, &OTHER);
        daemon.lease("ssh", c.v4).is_some()
    });
    assert_eq!(daemon.read("list"), once.replace("\n8351", "\n#351"));

    // Used up: nothing opens, nothing falls over.
    b.knock(server, &STEPS);
    b.knock(server, &OTHER);
    until("it still answers", || daemon.listens());
    assert_eq!(daemon.leases().len(), 2);
    assert!(daemon.lease("ssh", b.v4).is_none());
    daemon.wait_log("no sequence is left");
}

/// knockd's fault 3: there the next line's IPv6 knocks go unseen.
#[test]
fn the_next_line_opens_at_once_over_ipv6() {
    let net = Net::new(2);
    let mut daemon = Daemon::prepare(&net.server, &[]);
    daemon.write("list", LIST);
    daemon.configure(&[door(&daemon)]);
    daemon.run();
    let [a, b] = &net.clients[..] else { panic!() };
    a.knock(net.server.v6, &STEPS);
    daemon.wait_lease("ssh", a.v6);
    // Once: the line was watched for before the one in force was spent.
    b.knock(net.server.v6, &OTHER);
    daemon.wait_lease("ssh", b.v6);
}

#[test]
fn what_is_used_stays_used_through_restarts() {
    let net = Net::new(2);
    let mut daemon = Daemon::prepare(&net.server, &[]);
    daemon.write("list", LIST);
    daemon.configure(&[door(&daemon)]);
    daemon.run();
    let [a, b] = &net.clients[..] else { panic!() };
    a.knock(net.server.v4, &STEPS);
    daemon.wait_lease("ssh", a.v4);
    daemon.kill();
    daemon.run();
    b.knock(net.server.v4, &STEPS);
    a.knock(net.server.v4, &OTHER);
    until("the second line is used", || {
        daemon.read("list").contains("#351")
    });
    assert!(daemon.lease("ssh", b.v4).is_none());
}

/// knockd's fault 3: there it aborts, or exits at once when started.
#[test]
fn a_list_that_is_used_up_leaves_the_daemon_and_other_doors_alone() {
    let net = Net::new(1);
    let mut daemon = Daemon::prepare(&net.server, &[]);
    daemon.write("list", "#143,2912:udp,39001,16044\n");
    daemon.configure(&[
        door(&daemon),
        Door::opens("web", "443/tcp", "1h").to(&OTHER),
    ]);
    daemon.run();
    daemon.wait_log("no sequence is left");
    net.client().knock(net.server.v4, &STEPS);
    net.client().knock(net.server.v4, &OTHER);
    daemon.wait_lease("web", net.client().v4);
    assert_eq!(daemon.leases().len(), 1);
}

#[test]
fn a_list_that_cannot_be_written_opens_nothing() {
    let net = Net::new(2);
    let mut daemon = Daemon::prepare(&net.server, &[]);
    let list = daemon.write("list", LIST);
    daemon.configure(&[
        door(&daemon),
        Door::opens("web", "443/tcp", "1h").to(&OTHER),
    ]);
    daemon.run();
    // Believed no more, since others could write it: it cannot be told what is used.
    crate::harness::chmod(&list, 0o666);
    let [a, b] = &net.clients[..] else { panic!() };
    a.knock(net.server.v4, &STEPS);
    b.knock(net.server.v4, &OTHER);
    daemon.wait_lease("web", b.v4);
    daemon.wait_log(&format!("ssh: knock of {} refused", a.v4));
    assert_eq!(daemon.leases().len(), 1);
    crate::harness::chmod(&list, 0o600);
    a.knock(net.server.v4, &STEPS);
    daemon.wait_lease("ssh", a.v4);
}

#[test]
fn a_knock_begun_while_another_list_moves_on_is_not_lost() {
    let net = Net::new(2);
    let mut daemon = Daemon::prepare(&net.server, &[]);
    daemon.write("list", "7143,2912:udp,39001,16044\n1,2,3,4\n");
    let other = daemon.write("other", "8351,1207:udp,52110,30477\n");
    let web = Door::opens("web", "443/tcp", "1h").knock(&format!("one_time_sequences = {other:?}"));
    daemon.configure(&[door(&daemon), web]);
    daemon.run();
    let [a, b] = &net.clients[..] else { panic!() };
    a.knock(net.server.v4, &OTHER[..2]);
    let before = daemon.listener();
    b.knock(net.server.v4, &STEPS);
    until("another listener takes over", || {
        daemon.listener() != before
    });
    a.knock(net.server.v4, &OTHER[2..]);
    daemon.wait_lease("web", a.v4);
    assert!(daemon.read("other").starts_with('#'));
}
