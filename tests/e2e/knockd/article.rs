//! Mark Sanborn's article of 2008, its Linux file as it stands there: `knockd` is typed, and
//! iptables opens and closes the port.

use std::fs;

use crate::harness::{Host, Net, Ran, Service, program, until};

use super::pair::{Knockd, Who};

/// As the article prints it.
const FILE: &str = "\
[options]
      logfile = /var/log/knockd.log

[SSH]
      sequence    = 7000,8000,9000
      seq_timeout = 5
      command     = /sbin/iptables -A INPUT -s %IP% -p tcp --dport 22 -j ACCEPT
      tcpflags    = syn
      cmd_timeout   = 10
      stop_command  = /sbin/iptables -D INPUT -s %IP% -p tcp --dport 22 -j ACCEPT
";

fn rules(server: &Host) -> String {
    server.run("/sbin/iptables -S INPUT")
}

/// By our own client, under the name that the article's readers type.
fn knock(client: &Host, knockd: &Knockd) {
    let mut knock = client.command(&knockd.path("knock").display().to_string());
    let ran = Ran::of(knock.args(["-v", "10.66.0.1", "7000", "8000", "9000"]));
    assert_eq!(ran.code(), 0, "{ran:?}");
    let hit = |port| format!("hitting tcp 10.66.0.1:{port}\n");
    assert_eq!(ran.stdout, [7000, 8000, 9000].map(hit).concat());
}

#[test]
fn the_linux_file_opens_closes_and_opens_again() {
    let net = Net::new(2);
    let (server, client) = (&net.server, net.client());
    let _service = Service::start(server, &[22]);
    server.run("/sbin/iptables -P INPUT DROP");
    let shut = "-P INPUT DROP\n";
    let open = "-P INPUT DROP\n-A INPUT -s 10.66.0.11/32 -p tcp -m tcp --dport 22 -j ACCEPT\n";

    let mut knockd = Knockd::prepare(server, Who::Ours, "");
    knockd.write("knockd.conf", FILE);
    std::os::unix::fs::symlink(program("postern"), knockd.path("knock")).unwrap();
    knockd.spawn_as_installed();
    let log = format!("/proc/{}/root/var/log/knockd.log", knockd.pid());
    let log = || fs::read_to_string(&log).unwrap_or_default();
    until("it listens", || {
        log().contains("starting up, listening on eth0")
    });

    for time in 1..=2 {
        assert!(client.connect(server.v4, 22).is_silence());
        knock(client, &knockd);
        until("iptables lets the client in", || rules(server) == open);
        assert!(client.reaches(server.v4, 22));
        assert!(net.clients[1].connect(server.v4, 22).is_silence());
        until("iptables lets it in no more", || rules(server) == shut);
        assert_eq!(
            log().matches("10.66.0.11: SSH: command timeout").count(),
            time
        );
    }
    let lines: Vec<String> = log().lines().map(|l| l[19..].to_owned()).collect();
    let of = |verb: &str| {
        format!(
            "SSH: running command: /sbin/iptables -{verb} INPUT -s 10.66.0.11 -p tcp --dport 22 -j ACCEPT"
        )
    };
    let (add, delete) = (of("A"), of("D"));
    let once = [
        "10.66.0.11: SSH: Stage 1",
        "10.66.0.11: SSH: Stage 2",
        "10.66.0.11: SSH: Stage 3",
        "10.66.0.11: SSH: OPEN SESAME",
        &add,
        "10.66.0.11: SSH: command timeout",
        &delete,
    ];
    let of_door = lines.iter().filter(|l| l.contains("SSH: "));
    assert_eq!(of_door.collect::<Vec<_>>(), [once, once].concat());
}
