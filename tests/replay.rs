//! `posternctl replay` on captures: the event lines, to the letter.
//!
//! A case is three files of tests/replay: NAME.toml; NAME.txt, the packets, one a line
//! (`SECONDS SOURCE > DESTINATION PORT/tcp FLAGS` or `... PORT/udp`), of which the test makes a
//! capture; NAME.out, what is printed. Real captures are those of tests/captures.

#![cfg(feature = "daemon")]

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
#[cfg(target_os = "linux")]
use std::{
    io::Write,
    thread,
    time::{Duration, Instant},
};

/// Of the Unix time in a case's packets.
const START: u64 = 1_795_292_100;

fn tests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests")
}

/// One packet as DLT_RAW has it: an IPv4 or IPv6 header, a TCP or UDP header. Nothing looks at
/// checksums.
fn packet(source: IpAddr, destination: IpAddr, port: &str, flags: Option<u8>) -> Vec<u8> {
    let (number, protocol) = port.split_once('/').unwrap();
    let number: u16 = number.parse().unwrap();
    let mut transport = 40000u16.to_be_bytes().to_vec();
    transport.extend(number.to_be_bytes());
    let protocol = match protocol {
        "tcp" => {
            transport.extend([0; 8]);
            transport.extend([0x50, flags.unwrap(), 0xff, 0xff, 0, 0, 0, 0]);
            6
        }
        "udp" => {
            transport.extend([0, 9, 0, 0, 0]);
            17
        }
        other => panic!("{other}"),
    };
    let length = transport.len() as u16;
    let mut packet = Vec::new();
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            packet.extend([0x45, 0]);
            packet.extend((length + 20).to_be_bytes());
            packet.extend([0, 0, 0x40, 0, 64, protocol, 0, 0]);
            packet.extend(source.octets());
            packet.extend(destination.octets());
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            packet.extend([0x60, 0, 0, 0]);
            packet.extend(length.to_be_bytes());
            packet.extend([protocol, 64]);
            packet.extend(source.octets());
            packet.extend(destination.octets());
        }
        _ => panic!("two families"),
    }
    packet.extend(transport);
    packet
}

/// The header of a capture file of version 2.4 with time stamps in microseconds, link type
/// LINKTYPE_RAW (draft-ietf-opsawg-pcap).
fn header() -> Vec<u8> {
    let mut file = 0xa1b2_c3d4u32.to_le_bytes().to_vec();
    file.extend([2, 0, 4, 0]);
    file.extend([0; 8]);
    file.extend(262_144u32.to_le_bytes());
    file.extend(101u32.to_le_bytes());
    file
}

fn record(file: &mut Vec<u8>, micros: u64, packet: &[u8]) {
    let seconds = START + micros / 1_000_000;
    file.extend((seconds as u32).to_le_bytes());
    file.extend(((micros % 1_000_000) as u32).to_le_bytes());
    file.extend((packet.len() as u32).to_le_bytes());
    file.extend((packet.len() as u32).to_le_bytes());
    file.extend(packet);
}

/// A capture of the packets in a text.
fn capture(text: &str) -> Vec<u8> {
    let mut file = header();
    for line in text
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
    {
        let mut fields = line.split_whitespace();
        let mut next = || fields.next().unwrap();
        let micros = (next().parse::<f64>().unwrap() * 1e6).round() as u64;
        let source = next().parse().unwrap();
        assert_eq!(next(), ">");
        let (destination, port) = (next().parse().unwrap(), next());
        let flags = fields
            .next()
            .map(|f| u8::from_str_radix(&f[2..], 16).unwrap());
        record(&mut file, micros, &packet(source, destination, port, flags));
    }
    file
}

fn replay(configuration: &Path, capture: &Path, more: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_posternctl"))
        .args(["replay", "-c"])
        .args([configuration, capture])
        .args(more)
        .output()
        .unwrap()
}

/// Runs a case and compares; with UPDATE_GOLDEN set NAME.out is written instead.
#[track_caller]
fn case(name: &str, more: &[&str]) {
    case_with(name, &tests().join(format!("replay/{name}.toml")), more);
}

#[track_caller]
fn case_with(name: &str, configuration: &Path, more: &[&str]) {
    let top = tempfile::tempdir().unwrap();
    let text = fs::read_to_string(tests().join(format!("replay/{name}.txt"))).unwrap();
    let file = top.path().join("capture.pcap");
    fs::write(&file, capture(&text)).unwrap();
    let output = replay(configuration, &file, more);
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert_eq!(output.status.code(), Some(0));
    let told = String::from_utf8(output.stdout).unwrap();
    let expected = tests().join(format!("replay/{name}.out"));
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&expected, &told).unwrap();
    }
    assert_eq!(told, fs::read_to_string(&expected).unwrap());
}

/// Steps, grants, extensions, ends; a wrong step, a trap, a step repeated, a time that is up;
/// two sources at once, both families; what is due is told before the packet that comes later.
#[test]
fn doors_open_and_close() {
    case("doors", &[]);
}

/// A door without a lease, one with a stop command, one that knows only one lease.
#[test]
fn leases() {
    case("leases", &[]);
}

/// Doors that share a beginning, doors that share everything.
#[test]
fn several_doors_at_once() {
    case("shared", &[]);
}

/// The article's two files, read as knockd reads them: its doors open and close and open again.
#[test]
fn knockds_doors() {
    let opened = |name: &str, configuration: &str| {
        let top = tempfile::tempdir().unwrap();
        let text = fs::read_to_string(tests().join(format!("replay/{name}.txt"))).unwrap();
        let file = top.path().join("capture.pcap");
        fs::write(&file, capture(&text)).unwrap();
        let output = replay(&tests().join("knockd").join(configuration), &file, &[]);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let told = String::from_utf8(output.stdout).unwrap();
        let events = told.lines().map(|line| {
            let event: serde_json::Value = serde_json::from_str(line).unwrap();
            let of = |key: &str| event[key].as_str().unwrap_or_default().to_owned();
            let second = of("time")[17..19].to_owned();
            format!("{second} {} {}", of("event"), of("door"))
        });
        let words = ["open", "extend", "close"];
        let opened = events.filter(|e| words.iter().any(|word| e.contains(&format!(" {word} "))));
        opened.collect::<Vec<_>>()
    };
    assert_eq!(
        opened("article", "article-freebsd.conf"),
        [
            "00 open openSSH",
            "01 open closeSSH",
            "02 open openSSH",
            "03 open openSSH",
            "00 open closeSSH",
            "00 open openSSH",
        ]
    );
    assert_eq!(
        opened("article-linux", "article-linux.conf"),
        [
            "00 open SSH",
            "03 extend SSH",
            "13 close SSH",
            "30 open SSH",
            "40 close SSH"
        ]
    );
}

/// `--json` changes nothing; `--to` says what is ours; `target` says more.
#[test]
fn packets_to_others() {
    case(
        "to",
        &["--to", "192.0.2.1", "--json", "--to", "2001:db8::1"],
    );
}

/// A line opens once. Whoever is on the way at another door comes through while the next line
/// takes over, and the file is not touched.
#[test]
fn one_time_lists() {
    let top = tempfile::tempdir().unwrap();
    let list = top.path().join("list");
    let lines = "# mine\n7301,7402\n\n7503,7604\n";
    fs::write(&list, lines).unwrap();
    let text = fs::read_to_string(tests().join("replay/one-time.toml")).unwrap();
    let configuration = top.path().join("postern.toml");
    fs::write(&configuration, text.replace("LIST", list.to_str().unwrap())).unwrap();
    case_with("one-time", &configuration, &[]);
    assert_eq!(fs::read_to_string(&list).unwrap(), lines);
    assert_eq!(fs::read_dir(top.path()).unwrap().count(), 2);
}

#[test]
fn a_list_that_cannot_be_read() {
    let top = tempfile::tempdir().unwrap();
    let text = fs::read_to_string(tests().join("replay/one-time.toml")).unwrap();
    let configuration = top.path().join("postern.toml");
    fs::write(&configuration, text.replace("LIST", "/no/such/list")).unwrap();
    let packets = fs::read_to_string(tests().join("replay/one-time.txt")).unwrap();
    let file = top.path().join("capture.pcap");
    fs::write(&file, capture(&packets)).unwrap();
    let output = replay(&configuration, &file, &[]);
    let expected =
        "posternctl: /no/such/list: No such file or directory; the knock opens nothing\n";
    assert_eq!(String::from_utf8_lossy(&output.stderr), expected);
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(told.contains("\"door\":\"web\"") && !told.contains("\"door\":\"ssh\""));
    assert_eq!(output.status.code(), Some(0));
}

/// Three knocks of Debian's knock by each family, as four kinds of capture show them.
#[test]
fn real_captures() {
    for name in ["ethernet", "ethernet-short", "cooked", "cooked2"] {
        let configuration = tests().join("replay/real.toml");
        let file = tests().join(format!("captures/{name}.pcap"));
        let output = replay(
            &configuration,
            &file,
            &["--to", "192.0.2.1", "--to", "2001:db8::1"],
        );
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{name}");
        let told = String::from_utf8(output.stdout).unwrap();
        let of = |line: &str| {
            let event: serde_json::Value = serde_json::from_str(line).unwrap();
            let of = |key: &str| event[key].as_str().unwrap_or_default().to_owned();
            format!("{} {}", of("event"), of("address"))
        };
        let told: Vec<String> = told.lines().map(of).collect();
        let (v4, v6) = ("192.0.2.7", "2001:db8::7");
        let mut expected = Vec::new();
        for address in [v4, v6] {
            for event in ["stage", "stage", "open"] {
                expected.push(format!("{event} {address}"));
            }
        }
        expected.extend([v4, v6].map(|address| format!("close {address}")));
        assert_eq!(told, expected, "{name}");
    }
}

#[test]
fn the_same_capture_gives_the_same_events_in_pieces_of_any_length() {
    let configuration = tests().join("replay/doors.toml");
    let text = fs::read_to_string(tests().join("replay/doors.txt")).unwrap();
    let whole = capture(&text);
    let expected = fs::read(tests().join("replay/doors.out")).unwrap();
    let top = tempfile::tempdir().unwrap();
    let file = top.path().join("capture.pcap");
    for length in (0..whole.len()).step_by(7) {
        fs::write(&file, &whole[..length]).unwrap();
        let output = replay(&configuration, &file, &[]);
        match output.status.code() {
            // It ends behind a packet: all of that is told, and then what was left to come.
            Some(0) => assert!(output.stderr.is_empty()),
            // It ends within one: what came before is told.
            status => {
                assert_eq!(status, Some(66), "{length}: {output:?}");
                let said = String::from_utf8_lossy(&output.stderr);
                assert!(
                    said.starts_with("posternctl: ") && said.lines().count() == 1,
                    "{said}"
                );
                assert!(expected.starts_with(&output.stdout), "{length}");
            }
        }
    }
}

#[test]
fn what_is_no_capture() {
    let configuration = tests().join("replay/doors.toml");
    let output = replay(&configuration, &configuration, &[]);
    assert_eq!(output.status.code(), Some(66));
    assert!(output.stdout.is_empty());
    let output = replay(&configuration, Path::new("/no/such/file"), &[]);
    assert_eq!(output.status.code(), Some(66));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.starts_with("posternctl: /no/such/file: "), "{said}");
    let output = replay(Path::new("/no/such/file"), &configuration, &[]);
    assert_eq!(output.status.code(), Some(66));
}

/// A capture of so many knocks at the door of doors.toml, each from another address.
fn many(knocks: u32) -> Vec<u8> {
    let mut file = header();
    for n in 0..knocks {
        let source = IpAddr::from(0x0a00_0000u32.wrapping_add(n).to_be_bytes());
        let ours = "192.0.2.1".parse().unwrap();
        for (step, port) in ["7143/tcp", "2912/udp", "29001/tcp"]
            .into_iter()
            .enumerate()
        {
            let micros = u64::from(n) * 1000 + step as u64;
            record(&mut file, micros, &packet(source, ours, port, Some(0x02)));
        }
    }
    file
}

#[test]
fn nobody_has_to_read_to_the_end() {
    let top = tempfile::tempdir().unwrap();
    let file = top.path().join("capture.pcap");
    fs::write(&file, many(5000)).unwrap();
    let mut replay = Command::new(env!("CARGO_BIN_EXE_posternctl"))
        .args(["replay", "-c"])
        .args([&tests().join("replay/doors.toml"), &file])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut stdout = BufReader::new(replay.stdout.take().unwrap());
    stdout.read_line(&mut line).unwrap();
    assert!(line.contains("\"event\":\"stage\""), "{line}");
    drop(stdout);
    let mut said = String::new();
    replay
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut said)
        .unwrap();
    assert_eq!(said, "");
    assert_eq!(replay.wait().unwrap().code(), Some(0));
}

#[test]
fn a_summary_for_whoever_wants_one() {
    let top = tempfile::tempdir().unwrap();
    let file = top.path().join("capture.pcap");
    fs::write(&file, many(10)).unwrap();
    let output = replay(&tests().join("replay/doors.toml"), &file, &["-v"]);
    assert_eq!(
        String::from_utf8_lossy(&output.stderr),
        "30 packets, 30 of them TCP, UDP or echo requests; 10 grants, 0 refused; 10 times opened, 0 extended\n"
    );
}

/// What `make demo` shows where nobody is root.
#[test]
fn the_demonstrations_scene() {
    let output = replay(&tests().join("demo.toml"), &tests().join("demo.pcap"), &[]);
    assert_eq!(output.status.code(), Some(0));
    let expected = fs::read_to_string(tests().join("demo.expected")).unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), expected);
}

/// Root reads the configuration; nobody looks into the packets.
#[cfg(target_os = "linux")]
#[test]
fn root_is_given_up_before_the_first_packet() {
    const FILE_HEADER: usize = 24;
    if !nix::unistd::geteuid().is_root() {
        return; // there is nothing to give up
    }
    let (configuration, file) = (tests().join("demo.toml"), tests().join("demo.pcap"));
    let capture = fs::read(&file).unwrap();
    let mut replay = Command::new(env!("CARGO_BIN_EXE_posternctl"))
        .args(["replay", "-c"])
        .arg(&configuration)
        .arg("-")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = replay.stdin.take().unwrap();
    input.write_all(&capture[..FILE_HEADER]).unwrap();
    let status = format!("/proc/{}/status", replay.id());
    let until = Instant::now() + Duration::from_secs(20);
    let nobody = "65534\t65534\t65534\t65534";
    loop {
        let status = fs::read_to_string(&status).unwrap();
        let is = |field: &str| status.contains(&format!("{field}:\t{nobody}\n"));
        if is("Uid") && is("Gid") && status.contains("CapEff:\t0000000000000000\n") {
            break;
        }
        assert!(Instant::now() < until, "{status}");
        thread::sleep(Duration::from_millis(10));
    }
    input.write_all(&capture[FILE_HEADER..]).unwrap();
    drop(input);
    let piped = replay.wait_with_output().unwrap();
    assert_eq!(piped.status.code(), Some(0));
    let whole = self::replay(&configuration, &file, &[]);
    assert!(!whole.stdout.is_empty() && piped.stdout == whole.stdout);
}
