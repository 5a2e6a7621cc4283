//! The means to knock that postern(1) names: its lines, run.

use crate::harness::{Net, Ran, Sshd};
use crate::manual::{Stage, block};

/// The lines of this mark open a door whose configuration has these lines in the place of its
/// sequence.
fn opens(mark: &str, sequence: &str) {
    let net = Net::new(1);
    let mut stage = Stage::new(&net);
    // A second a step, and this machine may be slow.
    let sequence = format!("{sequence}\nseq_timeout = \"60s\"");
    stage.configure("posternd.8", "earnest", &[("[...]", &sequence)]);
    stage.daemon.run();
    assert!(net.client().connect(net.server.v4, 22).is_silence());
    stage.run("postern.1", mark);
    stage.daemon.wait_lease("ssh", net.client().v4);
    assert!(net.client().reaches(net.server.v4, 22));
}

const MIXED: &str = r#"["7143", "2912/udp", "39001", "16044"]"#;
const TCP: &str = r#"["7143", "39001", "16044"]"#;

#[test]
fn nc() {
    opens("nc", MIXED);
}

#[test]
fn curl() {
    opens("curl", MIXED);
}

#[test]
fn telnet() {
    opens("telnet", TCP);
}

#[test]
fn nmap() {
    opens("nmap", TCP);
}

#[test]
fn plink() {
    opens("plink", TCP);
}

/// The ways of the manual's profile, in a daemon's configuration.
fn ways() -> (String, String) {
    let profile = block("postern.1", "Profile: ways", 0);
    let keys: Vec<&str> = profile.iter().map(String::as_str).collect();
    let line = |key: &str| {
        let line = keys.iter().find(|line| line.starts_with(key)).unwrap();
        (*line).to_owned()
    };
    let key = format!(
        "[key.alice]\n{}\n{}\ndoors = [\"ssh\"]\nobserved = true\n",
        line("cipher_key"),
        line("hmac_key")
    );
    (line("ping"), key)
}

/// The daemon's configuration with a ping and a key in the place of its sequence.
fn without_sequence(stage: &Stage) {
    stage.configure("posternd.8", "earnest", &[("[...]", TCP)]);
    let text = stage.daemon.read("postern.toml");
    let (before, _) = text.split_once("sequence = ").unwrap();
    let (ping, key) = ways();
    stage
        .daemon
        .write("postern.toml", &format!("{before}{ping}\n{key}"));
}

#[test]
fn packets_and_pings() {
    let net = Net::new(1);
    let mut stage = Stage::new(&net);
    without_sequence(&stage);
    stage.daemon.run();
    let profile = block("postern.1", "Profile: ways", 0).join("\n");
    stage.daemon.write(".config/postern/config.toml", &profile);
    stage.run("postern.1", "ways");
    stage.daemon.wait_lease("ssh", net.client().v4);
    let log = stage.daemon.read("log");
    assert!(log.contains("alice"), "{log}");
}

#[test]
fn ping() {
    let net = Net::new(1);
    let mut stage = Stage::new(&net);
    without_sequence(&stage);
    stage.daemon.run();
    stage.run("postern.1", "ping");
    stage.daemon.wait_lease("ssh", net.client().v4);
}

/// PuTTY's own ssh, to a real sshd.
#[test]
fn putty() {
    let net = Net::new(1);
    let mut stage = Stage::without_service(&net);
    let sshd = Sshd::start(&net.server);
    without_sequence(&stage);
    stage.daemon.run();
    let profile = block("postern.1", "Profile: ways", 0).join("\n");
    stage.daemon.write(".config/postern/config.toml", &profile);

    let home = stage.daemon.path("").display().to_string();
    let ppk = stage.daemon.path("key.ppk").display().to_string();
    let key = sshd.key().display().to_string();
    let made = ["-q", &key, "-O", "private", "-o", &ppk];
    let ran = Ran::of(std::process::Command::new("puttygen").args(made));
    assert_eq!(ran.code(), 0, "{ran:?}");
    let mut print = std::process::Command::new("ssh-keygen");
    let ran = Ran::of(print.args(["-l", "-f"]).arg(sshd.host_key()));
    let fingerprint = ran.stdout.split(' ').nth(1).unwrap().to_owned();

    let line = block("postern.1", "Run: putty", 0).concat();
    let line = line.strip_prefix("$ plink ").unwrap();
    // What a saved session would have: who, by which key, to which host key.
    let own = format!("plink -i {ppk} -l root -hostkey {fingerprint}");
    let line = stage.translated(&format!("{own} {line}"));
    let mut command = net.client().command("env");
    let hosts = stage.daemon.path("hosts").display().to_string();
    let bin = stage.daemon.path("bin").display().to_string();
    command.args(["-u", "XDG_CONFIG_HOME", &format!("HOME={home}")]);
    command.arg(format!("PATH={bin}:/usr/bin:/bin:/usr/sbin:/sbin"));
    let line = format!("mount --bind {hosts} /etc/hosts; {line}");
    let ran = Ran::of(command.args(["sh", "-c", &line]));
    assert_eq!(ran.code(), 0, "{ran:?}");
    stage.daemon.wait_lease("ssh", net.client().v4);
    assert!(sshd.log().contains("Accepted publickey"));
}
