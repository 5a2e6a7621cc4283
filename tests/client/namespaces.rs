//! postern between namespaces: no route, a packet filter in the way, a neighbour not yet known.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use postern::capture;
use postern::packet::{self, What};

use super::run;

/// Two namespaces joined by a veth pair, 192.0.2.1 and 2001:db8::1 to 192.0.2.2 and
/// 2001:db8::2; gone when dropped.
struct Two {
    here: String,
    there: String,
}

fn ip(args: &str) {
    let done = Command::new("ip").args(args.split(' ')).output().unwrap();
    assert!(done.status.success(), "ip {args}: {done:?}");
}

impl Two {
    fn new(name: &str) -> Two {
        let here = format!("ctl-{name}-a-{}", std::process::id());
        let there = format!("ctl-{name}-b-{}", std::process::id());
        let two = Two { here, there };
        let Two { here, there } = &two;
        for (namespace, n) in [(here, 1), (there, 2)] {
            ip(&format!("netns add {namespace}"));
            ip(&format!("-n {namespace} link set lo up"));
            if n == 2 {
                ip(&format!(
                    "-n {here} link add v type veth peer name v netns {there}"
                ));
            }
        }
        for (namespace, n) in [(here, 1), (there, 2)] {
            ip(&format!("-n {namespace} addr add 192.0.2.{n}/24 dev v"));
            ip(&format!(
                "-n {namespace} addr add 2001:db8::{n}/64 dev v nodad"
            ));
            ip(&format!("-n {namespace} link set v up"));
        }
        two
    }

    fn command(namespace: &str, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", namespace, program]);
        command
    }

    fn nft(&self, namespace: &str, command: &str) {
        let done = Two::command(namespace, "nft")
            .arg(command)
            .status()
            .unwrap();
        assert!(done.success());
    }

    fn postern(&self, args: &[&str]) -> Output {
        run(Two::command(&self.here, env!("CARGO_BIN_EXE_postern")).args(args))
    }
}

impl Drop for Two {
    fn drop(&mut self) {
        for namespace in [&self.here, &self.there] {
            let _ = Command::new("ip")
                .args(["netns", "del", namespace])
                .status();
        }
    }
}

#[track_caller]
fn unavailable(knocked: &Output, expected: &str) {
    assert_eq!(String::from_utf8_lossy(&knocked.stderr), expected);
    assert_eq!(knocked.status.code(), Some(69));
}

#[test]
fn no_route() {
    let two = Two::new("route");
    unavailable(
        &two.postern(&["knock", "198.51.100.1", "7143", "2912/udp"]),
        "postern: tcp 198.51.100.1:7143: Network is unreachable; nothing was sent\n",
    );
    unavailable(
        &two.postern(&["knock", "198.51.100.1", "2912/udp", "7143"]),
        "postern: udp 198.51.100.1:2912: Network is unreachable; nothing was sent\n",
    );
}

#[test]
fn a_step_that_our_own_packet_filter_drops() {
    let two = Two::new("drop");
    let rules = "table inet t { chain out { type filter hook output priority 0; \
                 udp dport 2912 drop; }; }";
    two.nft(&two.here, rules);
    unavailable(
        &two.postern(&["knock", "192.0.2.2", "7143", "7144", "2912/udp", "7145"]),
        "postern: udp 192.0.2.2:2912: Operation not permitted; \
         only the first 2 of 4 steps were sent\n",
    );
}

/// tcpdump in the namespace, until so many packets of ours have come.
fn capture(two: &Two, file: &str, packets: usize) -> Child {
    let mut tcpdump = Two::command(&two.there, "timeout")
        .args(["20", "tcpdump"])
        .args([
            "-i",
            "v",
            "-U",
            "--immediate-mode",
            "-w",
            file,
            "-c",
            &packets.to_string(),
        ])
        // What hosts without listeners answer with is not captured.
        .args(["-Q", "in", "udp or tcp[tcpflags] = tcp-syn or ip6 proto 6"])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = String::new();
    let mut stderr = BufReader::new(tcpdump.stderr.as_mut().unwrap());
    while !said.contains("listening on") {
        said.clear();
        assert_ne!(
            stderr.read_line(&mut said).unwrap(),
            0,
            "tcpdump did not start"
        );
    }
    tcpdump
}

/// While the kernel still asks for the neighbour's link address, steps wait; then they go out in
/// order and once, long after their sockets were closed.
#[test]
fn a_neighbour_not_yet_known() {
    const STEPS: [&str; 8] = [
        "7143", "2912/udp", "39001", "16044", "2913/udp", "2914/udp", "7144", "39002",
    ];
    let two = Two::new("arp");
    let top = tempfile::tempdir().unwrap();
    let silence = "table ip6 t { chain in { type filter hook input priority 0; \
                   icmpv6 type nd-neighbor-solicit drop; }; }";
    for address in ["192.0.2.2", "2001:db8::2"] {
        ip(&format!("-n {} neigh flush all", two.here));
        ip(&format!("-n {} link set v arp off", two.there));
        two.nft(&two.there, silence);
        let file = top.path().join(format!("{address}.pcap"));
        let mut tcpdump = capture(&two, file.to_str().unwrap(), STEPS.len());
        let mut args = vec!["knock", address, "-d", "0s"];
        args.extend(STEPS);
        let knocked = two.postern(&args);
        assert_eq!(knocked.status.code(), Some(0), "{knocked:?}");
        assert!(
            tcpdump.try_wait().unwrap().is_none(),
            "nothing kept the steps back"
        );

        ip(&format!("-n {} link set v arp on", two.there));
        two.nft(&two.there, "delete table ip6 t");
        assert!(tcpdump.wait().unwrap().success());
        assert_eq!(hit(&file), STEPS, "{address}");
    }
}

/// Closed ports that say so in between change nothing.
#[test]
fn steps_arrive_in_order() {
    const STEPS: [&str; 5] = ["2912/udp", "7143", "2913/udp", "2914/udp", "7144"];
    let two = Two::new("order");
    let top = tempfile::tempdir().unwrap();
    for address in ["192.0.2.2", "2001:db8::2"] {
        let file = top.path().join(format!("{address}.pcap"));
        let mut tcpdump = capture(&two, file.to_str().unwrap(), STEPS.len());
        let mut args = vec!["knock", address];
        args.extend(STEPS);
        let knocked = two.postern(&args);
        assert_eq!(knocked.status.code(), Some(0), "{knocked:?}");
        assert!(tcpdump.wait().unwrap().success());
        assert_eq!(hit(&file), STEPS, "{address}");
    }
}

/// The steps in a capture.
fn hit(file: &Path) -> Vec<String> {
    let mut file = capture::File::open(file).unwrap();
    let link = file.link();
    let mut arrived = Vec::new();
    while let Some(frame) = file.next_frame().unwrap() {
        arrived.push(
            match packet::parse(frame.time, link, frame.bytes).unwrap().what {
                What::Tcp { port, flags } => {
                    assert_eq!(flags & 0x3f, 0x02, "only SYN");
                    port.to_string()
                }
                What::Udp { port, .. } => format!("{port}/udp"),
                What::Echo { .. } => "echo".to_owned(),
            },
        );
    }
    arrived
}
