//! fwknop's programs: what its client makes here and now is opened, what we seal its server
//! accepts. Nothing is sent: the client writes into a file, the server reads a capture file, and
//! neither touches a packet filter.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use base64ct::{Base64, Encoding};
use postern::spa::{
    Mac, Opener, PORT, Request, Secret, Whom, cipher_key_from_base64, key_from_base64, seal, shape,
};

use super::vectors::request;

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("random bytes");
    bytes
}

fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs()
}

/// New keys, as `fwknop --key-gen` makes them.
fn new_keys(directory: &Path) -> (String, String) {
    let file = directory.join("keys");
    let output = Command::new("fwknop")
        .args(["--no-rc-file", "--no-home-dir", "-E", "/dev/null"])
        .args(["--key-gen", "--use-hmac", "--key-gen-file"])
        .arg(&file)
        .output()
        .expect("fwknop runs");
    assert!(output.status.success(), "{output:?}");
    let text = fs::read_to_string(&file).unwrap();
    let key = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_else(|| panic!("no {name} in {text}"))
            .to_owned()
    };
    (key("KEY_BASE64: "), key("HMAC_KEY_BASE64: "))
}

#[test]
fn what_fwknop_makes_is_opened() {
    let directory = tempfile::tempdir().unwrap();
    for mac in [Mac::Sha256, Mac::Sha512] {
        let (cipher, hmac) = new_keys(directory.path());
        for (args, message, lasts) in [
            (
                &["-A", "tcp/22", "-a", "192.0.2.7"][..],
                "192.0.2.7,tcp/22",
                "0",
            ),
            (
                &["-A", "tcp/22,udp/53", "-s", "-f", "30"],
                "0.0.0.0,tcp/22,udp/53",
                "30",
            ),
        ] {
            let file = directory.path().join("packet");
            let before = now();
            let output = Command::new("fwknop")
                .args(["--no-rc-file", "--no-home-dir", "-E", "/dev/null"])
                .args(["--test", "-D", "127.0.0.1", "-U", "alice", "--use-hmac"])
                .args(["--key-base64-rijndael", &cipher, "--key-base64-hmac", &hmac])
                .args(["--hmac-digest-type", &mac.to_string(), "-B"])
                .arg(&file)
                .args(args)
                .output()
                .expect("fwknop runs");
            assert!(output.status.success(), "{output:?}");
            let text = fs::read_to_string(&file).unwrap();
            fs::remove_file(&file).unwrap();
            let opener = Opener::new(&Secret {
                cipher: cipher_key_from_base64(&cipher).unwrap(),
                hmac: key_from_base64(&hmac).unwrap(),
                mac,
            });
            // In the file, not on the wire, it is a line.
            let shaped = shape(text.strip_suffix('\n').unwrap().as_bytes()).unwrap();
            let proof = opener.verify(&shaped).expect("its HMAC holds");
            let read = opener.open(&shaped, &proof).expect("it is a request");
            assert!((before..=now()).contains(&read.time));
            let said = request("alice", &read.time.to_string(), message, lasts);
            assert_eq!(read, said);
        }
    }
}

/// What fwknopd says to a datagram from 192.0.2.7, without doing anything about it.
fn fwknopd_says(secret: &Secret, payload: &[u8]) -> String {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let write = |name: &str, bytes: &[u8]| {
        fs::write(path(name), bytes).unwrap();
        fs::set_permissions(path(name), fs::Permissions::from_mode(0o600)).unwrap();
    };
    let run = path("run");
    fs::create_dir(&run).unwrap();
    let run = run.display();
    write(
        "fwknopd.conf",
        format!(
            "PCAP_INTF lo;\nENABLE_PCAP_PROMISC N;\nFWKNOP_RUN_DIR {run};\n\
             FWKNOP_PID_FILE {run}/pid;\nDIGEST_FILE {run}/digest.cache;\n"
        )
        .as_bytes(),
    );
    write(
        "access.conf",
        format!(
            "SOURCE ANY\nKEY_BASE64 {}\nHMAC_KEY_BASE64 {}\nHMAC_DIGEST_TYPE {}\n",
            Base64::encode_string(&secret.cipher),
            Base64::encode_string(&secret.hmac),
            secret.mac
        )
        .as_bytes(),
    );
    write("packet.pcap", &capture(payload));
    let output = Command::new("timeout")
        .args([
            "20",
            "fwknopd",
            "--foreground",
            "--test",
            "--verbose",
            "--packet-limit",
            "1",
        ])
        .arg("--config-file")
        .arg(path("fwknopd.conf"))
        .arg("--access-file")
        .arg(path("access.conf"))
        .arg("--run-dir")
        .arg(path("run"))
        .arg("--pcap-file")
        .arg(path("packet.pcap"))
        .output()
        .expect("fwknopd runs");
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

/// A capture file with one datagram from 192.0.2.7 to 127.0.0.1, on an Ethernet.
fn capture(payload: &[u8]) -> Vec<u8> {
    let two = |number: usize| u16::try_from(number).unwrap().to_be_bytes();
    let mut ip = vec![
        0x45, 0, 0, 0, 0, 1, 0, 0, 64, 17, 0, 0, 192, 0, 2, 7, 127, 0, 0, 1,
    ];
    ip[2..4].copy_from_slice(&two(28 + payload.len()));
    let words = ip
        .chunks(2)
        .map(|word| u32::from(word[0]) << 8 | u32::from(word[1]));
    let sum: u32 = words.sum();
    ip[10..12].copy_from_slice(&two((!((sum & 0xffff) + (sum >> 16)) & 0xffff) as usize));
    let udp = [
        two(40_000),
        two(usize::from(PORT)),
        two(8 + payload.len()),
        [0, 0],
    ]
    .concat();
    let frame = [&[0; 12][..], &[8, 0], &ip, &udp, payload].concat();
    let length = u32::try_from(frame.len()).unwrap();
    let header = [
        0xa1b2_c3d4,
        0x0004_0002,
        0,
        0,
        65_535,
        1,
        1,
        0,
        length,
        length,
    ];
    let header = header.map(u32::to_le_bytes).concat();
    [header, frame].concat()
}

#[test]
fn what_we_seal_fwknopd_accepts() {
    for mac in [Mac::Sha256, Mac::Sha512] {
        let secret = Secret {
            cipher: random::<32>().to_vec(),
            hmac: random::<64>().to_vec(),
            mac,
        };
        let ask = |whom, ports: &[&str], lasts| Request {
            whom,
            ports: ports.iter().map(|port| port.parse().unwrap()).collect(),
            time: now(),
            lasts,
            user: "alice".to_owned(),
        };
        let address = Whom::Address("192.0.2.7".parse().unwrap());
        for (request, shown) in [
            (
                ask(address, &["22/tcp"], None),
                ["1 (Access msg)", "192.0.2.7,tcp/22", "0"],
            ),
            (
                ask(Whom::Observed, &["22/tcp", "53/udp"], Some(30)),
                [
                    "3 (Client timeout access msg)",
                    "0.0.0.0,tcp/22,udp/53",
                    "30",
                ],
            ),
        ] {
            let payload = seal(&secret, &request, &random());
            let said = fwknopd_says(&secret, &payload);
            let [kind, message, lasts] = shown;
            for line in [
                "SPA Decode (res=0):".to_owned(),
                "Username: alice".to_owned(),
                format!("Timestamp: {}", request.time),
                "FKO Version: 3.0.0".to_owned(),
                format!("Message Type: {kind}"),
                format!("Message String: {message}"),
                format!("Client Timeout: {lasts}"),
                "--test mode enabled, skipping firewall manipulation.".to_owned(),
            ] {
                let there = said.lines().any(|said| said.ends_with(&line));
                assert!(there, "no {line:?} in:\n{said}");
            }

            let mut wrong = payload;
            let last = wrong.len() - 1;
            wrong[last - 30] ^= 1;
            let said = fwknopd_says(&secret, &wrong);
            assert!(!said.contains("res=0"), "{said}");
        }
    }
}
