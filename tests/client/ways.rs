//! Profiles with several ways, and what else a way can be than a sequence.

use super::{ended, postern, profile, run, udp};

use std::io::Write;
use std::process::{Command, Stdio};

const SECRET: &str = "6b3f0c5e9a8d47218f6e5d4c3b2a1908";
const CIPHER_KEY: &str = "tXtpsH9GYg26FryP5Gkt/Ts3+EoL6WkxV5Xq1jo8bGk=";
const HMAC_KEY: &str = "65j/BXqUALddLOvAy773VajC/0vzZpVapcr8yWCk3T/7Yba0RyVATkr2N9Q3JKX2vflI8gPzWXgs\
                        swDybPB5ug==";

#[test]
fn each_command_takes_its_own_way() {
    let (socket, port) = udp();
    let (sealed, carrier) = udp();
    let top = tempfile::tempdir().unwrap();
    let text = format!(
        "[host.home]\naddress = \"127.0.0.1\"\n\
         [[host.home.way]]\nspa = true\ncipher_key = \"{CIPHER_KEY}\"\nhmac_key = \"{HMAC_KEY}\"\n\
         hmac = \"sha512\"\ncarrier = \"{carrier}/udp\"\nopens = [\"22/tcp\"]\n\
         from = \"observed\"\nlasts = \"30s\"\n\
         [[host.home.way]]\nsequence = [\"{port}/udp\"]\ndelay = \"1ms\"\n"
    );
    let file = profile(top.path(), &text, 0o600);
    ended(&postern(&["knock", "-c", &file, "home"]), 0, "", "");
    let mut bytes = [1; 2000];
    assert_eq!(socket.recv(&mut bytes).unwrap(), 1);

    let expected = format!("asked 127.0.0.1 by {carrier}/udp for whoever it comes from\n");
    ended(
        &postern(&["spa", "-v", "-c", &file, "home"]),
        0,
        &expected,
        "",
    );
    assert!(sealed.recv(&mut bytes).unwrap() > 140);
    let args = [
        "spa",
        "-vc",
        &file,
        "home",
        "--from",
        "192.0.2.7",
        "53/udp",
        "--lasts",
        "5s",
    ];
    let expected = format!("asked 127.0.0.1 by {carrier}/udp for 192.0.2.7\n");
    ended(&postern(&args), 0, &expected, "");
    assert!(sealed.recv(&mut bytes).unwrap() > 140);

    let expected = "postern: host.home: has no ping, only spa and sequence\n";
    ended(&postern(&["ping", "-c", &file, "home"]), 78, "", expected);
    for args in [
        &["spa", "home", "--from", "everywhere"][..],
        &["spa", "home", "--lasts", "500ms"],
        &["spa", "home", "icmp"],
    ] {
        assert_eq!(postern(args).status.code(), Some(64), "{args:?}");
    }
}

/// What the daemon reads is what was meant.
#[test]
fn a_packet_says_what_it_was_told() {
    use postern::spa::{Mac, Opener, Secret, Whom, cipher_key_from_base64, key_from_base64, shape};
    let (socket, carrier) = udp();
    let top = tempfile::tempdir().unwrap();
    let secret = Secret {
        cipher: cipher_key_from_base64(CIPHER_KEY).unwrap(),
        hmac: key_from_base64(HMAC_KEY).unwrap(),
        mac: Mac::Sha256,
    };
    let opener = Opener::new(&secret);
    let mut packets = Vec::new();
    let mut sent = |more: &str, args: &[&str]| {
        let text = format!(
            "[host.home]\naddress = \"127.0.0.1\"\nport = 2222\nspa = true\n\
             cipher_key = \"{CIPHER_KEY}\"\nhmac_key = \"{HMAC_KEY}\"\n\
             carrier = \"{carrier}/udp\"\n{more}"
        );
        let file = profile(top.path(), &text, 0o600);
        let args = [&["spa", "-c", &file, "home"], args].concat();
        ended(&postern(&args), 0, "", "");
        let mut bytes = [0; 2000];
        let length = socket.recv(&mut bytes).unwrap();
        packets.push(bytes[..length].to_vec());
        let shaped = shape(&bytes[..length]).expect("a packet's shape");
        let proof = opener.verify(&shaped).expect("the key's HMAC");
        opener.open(&shaped, &proof).expect("a request")
    };
    let asked = sent("", &[]);
    assert_eq!(asked.whom, Whom::Address("127.0.0.1".parse().unwrap()));
    assert_eq!(asked.ports, ["2222".parse().unwrap()]);
    assert_eq!(asked.lasts, None);
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    assert!(asked.time.abs_diff(now) < 100, "{} {now}", asked.time);

    let more = "opens = [\"22\", \"53/udp\"]\nfrom = \"2001:db8::7\"\nlasts = \"1m30s\"\n";
    let asked = sent(more, &[]);
    assert_eq!(asked.whom, Whom::Address("2001:db8::7".parse().unwrap()));
    assert_eq!(
        asked.ports,
        ["22".parse().unwrap(), "53/udp".parse().unwrap()]
    );
    assert_eq!(asked.lasts, Some(90));

    // The command line wins.
    let asked = sent(more, &["443", "--from", "observed", "--lasts", "5s"]);
    assert_eq!(asked.whom, Whom::Observed);
    assert_eq!(asked.ports, ["443".parse().unwrap()]);
    assert_eq!(asked.lasts, Some(5));

    // No two are alike.
    packets.sort();
    packets.dedup();
    assert_eq!(packets.len(), 3);
}

#[test]
fn mistakes_of_ways_are_told_without_secrets() {
    let top = tempfile::tempdir().unwrap();
    let text = format!(
        "\
[host.both]
sequence = [1]
ping = \"{SECRET}\"

[host.beside]
delay = \"1s\"
[[host.beside.way]]
ping = \"{SECRET}\"

[host.ways]
port = \"53/udp\"
[[host.ways.way]]
ping = \"6b3f0c\"
[[host.ways.way]]
ping = 6
[[host.ways.way]]
ping = \"{SECRET}\"
delay = \"1s\"
[[host.ways.way]]
address = \"192.0.2.1\"
ping = \"{SECRET}\"
sequense = [1]
[[host.ways.way]]
delay = \"1s\"

[host.keys]
spa = true
cipher_key = \"c2VjcmV0\"
hmac = \"md5\"
carrier = \"22/tcp\"
opens = []
from = \"everywhere\"
lasts = \"1500ms\"

[host.none]
way = []

[host.odd]
spa = false
"
    );
    let file = profile(top.path(), &text, 0o600);
    let expected = "\
postern: FILE:3:8: host.both.ping: stands beside sequence; write a [[host.both.way]] for each
postern: FILE:6:9: host.beside.delay: stands beside [[host.beside.way]]; write it in one of these
postern: FILE:11:8: host.ways.port: \"53/udp\" is no port to connect to; write one of TCP, such as 22
postern: FILE:13:8: host.ways.way.ping: it has 6 hexadecimal digits; write 32 hexadecimal digits as posternctl keygen --ping prints them
postern: FILE:15:8: host.ways.way.ping: an integer is no secret; write the line that posternctl keygen --ping prints
postern: FILE:18:9: host.ways.way.delay: means nothing here; it belongs to sequence
postern: FILE:20:1: host.ways.way.address: the key does not belong here; write it in [host.ways]
postern: FILE:22:1: host.ways.way.sequense: unknown key; the nearest known one is sequence
postern: FILE:23:1: host.ways.way: has no way to knock; write sequence = [...] with the ports to hit, ping = \"...\" or spa = true
postern: FILE:26:1: host.keys: has no hmac_key; write hmac_key = \"...\", as fwknop --key-gen prints it
postern: FILE:28:14: host.keys.cipher_key: it has 6 bytes, not 16 to 32; write a key as fwknop --key-gen prints it
postern: FILE:29:8: host.keys.hmac: \"md5\" is no kind of HMAC; write \"sha256\" or \"sha512\"
postern: FILE:30:11: host.keys.carrier: \"22/tcp\" carries no packets; write \"icmp\", or a port of UDP, such as \"62201/udp\"
postern: FILE:31:9: host.keys.opens: has 0 ports; write 1 to 21
postern: FILE:32:8: host.keys.from: \"everywhere\" is no address; write one such as \"192.0.2.7\", or \"observed\"
postern: FILE:33:9: host.keys.lasts: \"1500ms\" is no number of whole seconds; write one such as \"30s\"
postern: FILE:36:7: host.none.way: has 0 ways; write 1 to 16
postern: FILE:39:7: host.odd.spa: means nothing but true; write true, or leave it out
";
    let knocked = postern(&["knock", "-c", &file, "home"]);
    ended(&knocked, 78, "", &expected.replace("FILE", &file));
}

#[test]
#[cfg(unix)]
fn a_secret_comes_from_a_file_that_nobody_else_can_read() {
    let top = tempfile::tempdir().unwrap();
    let ping = |file: &str| postern(&["ping", "--secret", file, "no-such-host.invalid"]);
    let file = profile(top.path(), &format!(" {SECRET}\n"), 0o600);
    assert_eq!(ping(&file).status.code(), Some(68));
    let file = profile(top.path(), SECRET, 0o644);
    let expected = format!(
        "postern: {file} holds secrets and is open to others (mode 0644): chmod 600 {file}\n"
    );
    ended(&ping(&file), 78, "", &expected);
    let file = profile(top.path(), &SECRET[1..], 0o600);
    let expected = format!(
        "postern: {file}: it has 31 hexadecimal digits; write 32 hexadecimal digits as \
         posternctl keygen --ping prints them\n"
    );
    ended(&ping(&file), 78, "", &expected);
    ended(
        &ping("/no/such/file"),
        66,
        "",
        "postern: /no/such/file: there is no such file\n",
    );
}

#[test]
fn a_secret_comes_from_standard_input() {
    let ping = |text: &str| {
        let (reader, mut writer) = std::io::pipe().unwrap();
        writer.write_all(text.as_bytes()).unwrap();
        drop(writer);
        let mut command = Command::new(env!("CARGO_BIN_EXE_postern"));
        command.args(["ping", "--secret", "-", "no-such-host.invalid"]);
        run(command.stdin(Stdio::from(reader)))
    };
    assert_eq!(ping(SECRET).status.code(), Some(68));
    let expected = "postern: standard input: it holds what is no hexadecimal digit; write 32 \
                    hexadecimal digits as posternctl keygen --ping prints them\n";
    ended(&ping("secret"), 78, "", expected);
}
