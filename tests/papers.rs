//! What is shipped for people to read is true: sample and README parse as they say.

use std::fs;
use std::path::Path;

use postern::config::toml::parse;

fn text(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}

fn refusals(text: &str) -> Vec<String> {
    match parse("it", text) {
        Ok(_) => Vec::new(),
        Err(mistakes) => mistakes.iter().map(ToString::to_string).collect(),
    }
}

const SEQUENCE: &str = r#"sequence = ["7143", "2912/udp", "29001", "16044"]"#;

/// Nobody's.
const CIPHER_KEY: &str = r#"cipher_key = "AAECAwQFBgcICQoLDA0ODw==""#;
const PING: &str = r#"ping = "000102030405060708090a0b0c0d0eff""#;
const HMAC_KEY: &str = r#"hmac_key = "EBESExQVFhcYGRobHB0eHw==""#;

#[test]
fn the_sample_as_it_stands_is_refused_for_what_it_says_is_missing() {
    let refusals = refusals(&text("etc/postern.toml.sample"));
    assert!(!refusals.is_empty());
    assert!(
        refusals
            .iter()
            .all(|r| ["sequence", "firewall"].iter().any(|key| r.contains(key))),
        "{refusals:#?}"
    );
}

#[test]
fn the_sample_with_every_option_is_sound() {
    // Some options stand in each other's place, or are one packet filter's.
    let ipfw = sample_without(&["rules", "kill_states"]);
    assert_eq!(refusals(&ipfw), Vec::<String>::new(), "{ipfw}");
    let ipfw = sample_without(&["rule", "kill_states", "max_leases"])
        .replace("guard = 102", "guard = 200");
    assert_eq!(refusals(&ipfw), Vec::<String>::new(), "{ipfw}");
    let pf = sample_without(&["rule", "rules"])
        .replace("\"ipfw\"", "\"pf\"")
        .replace("guard = 102", "guard = true");
    assert_eq!(refusals(&pf), Vec::<String>::new(), "{pf}");
}

/// The sample with all other options in force.
fn sample_without(left_out: &[&str]) -> String {
    let mut all = String::new();
    for line in text("etc/postern.toml.sample").lines() {
        let option = line
            .strip_prefix('#')
            .filter(|o| o.starts_with(|c: char| c == '[' || c.is_ascii_lowercase()));
        match option {
            // In place of a sequence.
            Some(o) if o.starts_with("one_time_sequences") => {}
            Some("ping = \"\"") => all.push_str(PING),
            Some("cipher_key = \"\"") => all.push_str(CIPHER_KEY),
            Some("hmac_key = \"\"") => all.push_str(HMAC_KEY),
            Some(o) if left_out.contains(&o.split(' ').next().unwrap_or_default()) => {}
            Some("sequence = []") => all.push_str(SEQUENCE),
            Some(option) => all.push_str(option),
            None => all.push_str(line),
        }
        all.push('\n');
    }
    all
}

#[test]
fn the_first_door_of_the_readme_is_sound() {
    let readme = text("README.md");
    let (_, rest) = readme.split_once("```toml\n").unwrap();
    let (block, _) = rest.split_once("```").unwrap();
    let filled = block.replace("sequence = [ ... ]", SEQUENCE);
    assert_ne!(filled, block);
    let lines: String = filled.lines().map(|l| format!("{}\n", l.trim())).collect();
    assert_eq!(refusals(&lines), Vec::<String>::new());
}
