//! What `posternctl render` writes, held as text; tests/e2e/render.rs loads it.

#![cfg(all(feature = "daemon", unix))]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/render")
}

fn render(file: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_posternctl"));
    let command = command.arg("-c").arg(file).arg("render").args(args);
    command.output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    str::from_utf8(bytes).unwrap()
}

/// Renders the golden doors, or those of a text.
fn rendered(config: Option<&str>, args: &[&str]) -> (i32, String, String) {
    let own = tempfile::NamedTempFile::new().unwrap();
    let golden = directory().join("doors.toml");
    let file = match config {
        Some(config) => {
            fs::write(own.path(), config).unwrap();
            own.path()
        }
        None => &golden,
    };
    let output = render(file, args);
    let status = output.status.code().unwrap();
    (
        status,
        text(&output.stdout).to_owned(),
        text(&output.stderr).to_owned(),
    )
}

/// Compares with a file of tests/render; with UPDATE_GOLDEN set it is written instead.
#[track_caller]
fn golden(name: &str, args: &[&str], left_out: &str) {
    let (status, stdout, stderr) = rendered(None, args);
    assert_eq!((status, stderr.as_str()), (0, left_out));
    let file = directory().join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&file, &stdout).unwrap();
    }
    assert_eq!(stdout, fs::read_to_string(&file).unwrap(), "{name}");
}

#[test]
fn nft() {
    golden("doors.nft", &["nft"], "");
    golden("fallback.nft", &["nft", "--fallback"], "");
}

#[test]
fn iptables() {
    golden("doors.sh", &["iptables"], "");
    let classic = ["iptables", "--classic", "--door", "ssh"];
    golden("classic.sh", &classic, "");
}

#[test]
fn pf() {
    let left_out = "\
posternctl: door ssh, knock 1: left out: pf looks at no packet's contents, so it cannot tell the \
ping's secret
posternctl: door ssh, knock 2: left out: pf remembers no order of ports and lets no wrong one end \
an attempt, so it cannot do a sequence of several
posternctl: door web, knock 1: left out: pf looks at no packet's contents, so it cannot tell the \
ping's secret
";
    golden("doors.pf", &["pf"], left_out);
    golden("fallback.pf", &["pf", "--fallback"], left_out);
}

/// Every rule is of a form that the daemon loads as well, or of the one that knocks.
#[test]
fn pf_knows_these_words() {
    let (_, rules, _) = rendered(None, &["pf"]);
    let rules = rules
        .lines()
        .filter(|l| !l.starts_with('#') && !l.is_empty());
    for rule in rules {
        let forms = [
            "table <",
            "pass in quick on xl0 proto ",
            "block drop in quick on xl0 proto ",
        ];
        assert!(forms.iter().any(|form| rule.starts_with(form)), "{rule}");
        if rule.contains("synproxy") {
            let counts = "flags S/SA synproxy state (source-track rule, max-src-conn-rate 1/10, \
                          overload <door_web>) label ";
            assert!(rule.contains(counts), "{rule}");
        }
    }
}

const SECRET: &str = "517837704c6d3376527a3961546b3277";

#[test]
fn what_no_kernel_can_do() {
    let key = "cipher_key = \"QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVoxMjM0NTY=\"\n\
               hmac_key = \"YWJjZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXo2NTQzMjE=\"\n";
    let config = format!(
        "interface = \"xl0\"\nfirewall = \"memory\"\n\
         [door.run]\nstart_command = \"/bin/true\"\n[[door.run.knock]]\nping = \"{SECRET}\"\n\
         [door.keys]\nopens = [\"22/tcp\"]\nopen_for = \"30s\"\n\
         [door.once]\nopens = [\"23/tcp\"]\nopen_for = \"30s\"\n\
         [[door.once.knock]]\none_time_sequences = \"/nowhere/list\"\n\
         [key.alice]\n{key}doors = [\"keys\"]\n"
    );
    let left_out = "\
posternctl: door run: left out: it runs commands, and the kernel runs none
posternctl: door keys: left out: what its keys open; no packet filter can verify the packet of a \
key: that takes posternd
posternctl: door keys: left out: keys alone open it
posternctl: door once, knock 1: left out: one_time_sequences: the kernel cannot strike a line off \
a list
";
    for filter in ["nft", "iptables", "pf"] {
        let (status, stdout, stderr) = rendered(Some(&config), &[filter]);
        let end =
            format!("posternctl: {filter} can do none of these knocks; nothing was written\n");
        assert_eq!((status, stdout.as_str()), (1, ""));
        assert_eq!(stderr, format!("{left_out}{end}"));
    }
}

#[test]
fn command_lines_that_mean_nothing() {
    for (args, status, words) in [
        (
            &["nft", "--door", "nobody"][..],
            64,
            "there is no door nobody",
        ),
        (
            &["nft", "--classic"],
            64,
            "--classic: those rules are for iptables",
        ),
        (
            &["iptables", "--fallback"],
            64,
            "write render nft --fallback",
        ),
        (
            &["iptables", "--classic"],
            1,
            "--classic is for a door with one ping; name it with --door",
        ),
    ] {
        let (ended, stdout, stderr) = rendered(None, args);
        assert_eq!((ended, stdout.as_str()), (status, ""), "{args:?}");
        assert!(stderr.contains(words), "{args:?}: {stderr}");
    }
}

#[test]
fn as_json() {
    let (status, stdout, _) = rendered(None, &["--json", "pf"]);
    assert_eq!(status, 0);
    let facts: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert!(facts["rules"].as_str().unwrap().contains("synproxy"));
    assert_eq!(facts["left_out"][0]["door"], "ssh");
    assert_eq!(facts["left_out"][0]["knock"], 1);
    assert_eq!(facts["left_out"].as_array().unwrap().len(), 3);
}

/// Steps and secrets end up where only the rules are.
#[test]
fn diagnostics_hold_no_secret() {
    for args in [&["pf"][..], &["iptables", "--classic"]] {
        let (_, _, stderr) = rendered(None, args);
        for secret in [SECRET, "Qx7p", "2912", "39001"] {
            assert!(!stderr.contains(secret), "{stderr}");
        }
    }
}
