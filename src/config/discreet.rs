//! Mistakes and warnings as they go to logs and `--json`, where more people read them than may
//! read the file: no step of a knock is quoted.

use super::mistake::{Mistake, Warning};
use super::{knockd, toml};

/// What is said in place of words that may quote a step.
const WRONG: &str = "it is wrong";
const UNWISE: &str = "it is unwise";
const RIGHT: &str = "posternctl check says what and how to mend it";

impl Mistake {
    /// The same without anything that may be a secret. Where it stands stays.
    pub fn discreet(self) -> Mistake {
        let whole = may_tell(&self.key, &self.what) && may_tell(&self.key, &self.right);
        Mistake {
            key: told_key(&self.key).to_owned(),
            what: if whole { self.what } else { WRONG.into() },
            right: if whole { self.right } else { RIGHT.into() },
            ..self
        }
    }
}

impl Warning {
    /// The same without anything that may be a secret. Where it stands stays.
    pub fn discreet(self) -> Warning {
        let whole = may_tell(&self.key, &self.what) && may_tell(&self.key, &self.better);
        Warning {
            key: told_key(&self.key).to_owned(),
            what: if whole { self.what } else { UNWISE.into() },
            better: if whole { self.better } else { RIGHT.into() },
            ..self
        }
    }
}

/// A key and what is said of it, without anything that may be a secret.
pub fn told<'t>(key: &'t str, message: &'t str) -> (&'t str, &'t str) {
    let message = if may_tell(key, message) {
        message
    } else {
        RIGHT
    };
    (told_key(key), message)
}

fn told_key(key: &str) -> &str {
    let rest = behind_door(key);
    match known(rest) || !may_quote(rest) {
        true => key,
        false => "",
    }
}

/// Nothing of a sequence, not even what is peculiar about it. Else what concerns a value that is
/// no step; what does not is told if nothing in it can be out of the file.
fn may_tell(key: &str, text: &str) -> bool {
    let rest = behind_door(key);
    !is_secret(rest) && (known(rest) || !may_quote(text))
}

/// Whether a text can hold a step: numbers, or whatever stands in quotes.
fn may_quote(text: &str) -> bool {
    text.contains(|c: char| c.is_ascii_digit() || "\"'`".contains(c))
}

/// What a key says behind the name of a door, `door.ssh.open_for`, `[ssh] Sequence`, or of a key;
/// these names are in every log.
fn behind_door(key: &str) -> &str {
    if let Some((_, rest)) = key.strip_prefix('[').and_then(|key| key.split_once(']')) {
        return rest.trim_start();
    }
    let inner = key
        .strip_prefix("door.")
        .or_else(|| key.strip_prefix("key."));
    let Some(inner) = inner else {
        return key;
    };
    let (door, rest) = inner.split_once('.').unwrap_or((inner, ""));
    match toml::door_name(door) {
        Ok(()) => rest.strip_prefix("knock.").unwrap_or(rest),
        Err(_) => key,
    }
}

fn is_secret(rest: &str) -> bool {
    let secrets = ["sequence", "ping", "cipher_key", "hmac_key"];
    secrets
        .iter()
        .any(|secret| rest.eq_ignore_ascii_case(secret))
}

/// Whether it is a key with a value that is no step.
fn known(rest: &str) -> bool {
    !is_secret(rest) && (toml::keys::has_value(rest) || knockd::knows(rest))
}

#[cfg(test)]
mod tests {
    use super::super::{check, read};
    use super::*;

    /// What goes to the log of a wrong file.
    fn logged(file: &str, text: &str) -> Vec<String> {
        let mistakes = read(file, text.as_bytes()).unwrap_err();
        let discreet = mistakes.into_iter().map(Mistake::discreet);
        discreet.map(|mistake| mistake.to_string()).collect()
    }

    const HEAD: &str = "interface = \"xl0\"\n[door.web8080]\nstart_command = \"true\"\n";

    #[test]
    fn what_is_no_secret_is_told_whole() {
        let text = "trial = \"10\"\n[door.a]\nopens = [\"22/icmp\"]\ngard = true\n\
                    start_command_7 = \"x\"\n";
        for said in [
            "a.toml:1:9: trial: \"10\" has no unit; write \"10s\"",
            "a.toml:3:10: door.a.opens: \"22/icmp\": \"icmp\" is no protocol; \
             write \"22/tcp\" or \"22/udp\"",
            "a.toml:4:1: door.a.gard: unknown key; the nearest known one is guard",
        ] {
            assert!(logged("a.toml", text).contains(&said.to_owned()), "{said}");
        }
        let text = "[options]\nPidFile = x\n[a 1]\nSequence = 1,2\nSeq_Timeout = soon\n";
        assert!(
            logged("a.conf", text).contains(
                &"a.conf:5:15: [a 1] Seq_Timeout: \"soon\" is no number: knockd reads it as 0; \
              write whole seconds, such as 10"
                    .to_owned()
            )
        );
    }

    #[test]
    fn a_step_is_never_told() {
        for line in [
            "sequence = [\"47101\", \"47102/icmp\"]",
            "sequence = [\"47101\", \"70000\"]",
            "sequence = [47101, 70000]",
            "sequence = [\"47101\", \"47102\", \"47103\"]",
            "sequence = [\"7000\", \"8000\", \"9000\"]",
            "sequence = [\"ssh\"]",
            "sequence = [ssh, ssl]",
            "sequence = ssh",
            "sequence = [47101, 47102/udp]",
            "sequence = 47101",
            "sequence = \"47101,47102\"",
            "sequence = 47101, 47102",
            "sequence = 47101 47102",
            "sequence = [\"47101\" \"47102\"]",
            "sequence = [\"47101\", \"47102",
            "sequence = [\"47101\", \"47102\"",
            "sequence = 47101:tcp",
            "sequence = \"\"\"47101",
            "sequence\n47101, 47102",
            "sequence =\n[\"47101\"]\n[\"47102\"]",
            "sequence =\n[[\"47101\", \"47102\"]]",
            "sequence =\n[47101]\nx",
            "sequence = [ [47101], 47102 ]",
            "47101 = 47102",
            "\"47101\" = 1\n\"47101\" = 2",
            "47101/udp",
            "seqence = [\"47101\", \"47102/icmp\"]",
            "steps = [\"47101\", \"47102/icmp\"]",
            "x = { sequence = [47101, \"47102/icmp\"] }",
            "seq_timeout = 5s, sequence = [47101]",
            "sequence.47101 = 47102",
        ] {
            let text = format!("{HEAD}[[door.web8080.knock]]\n{line}\n");
            let all = logged("a.toml", &text);
            assert!(!all.is_empty());
            for said in all {
                let clean = !said.contains("4710") && !said.contains("7000");
                assert!(clean && !said.contains("ssh"), "{line}\n{said}");
            }
        }
        for line in [
            "Sequence = 47101,47102:icmp",
            "Sequence = 47101,70000",
            "Sequence = 47101,ssh",
            "Sequence 47101,47102",
            "Sequence ssh,https",
            "ssh,https",
            "47101,47102",
            "47101 = 47102",
            "Seqence = 47101,47102",
            "[47101,47102",
            "Sequence = 47101,,47102",
        ] {
            for text in [format!("[a]\n{line}\n"), format!("{line}\n")] {
                for said in logged("a.conf", &text) {
                    let clean = !said.contains("4710") && !said.contains("70000");
                    assert!(clean && !said.contains("ssh"), "{line}\n{said}");
                }
            }
        }
    }

    #[test]
    fn nor_what_is_unwise_in_a_sequence() {
        for steps in [
            "\"47101\"",
            "\"47101\", \"47110\", \"47120\"",
            "\"47101\", \"47110\", \"47120\", \"47130\"",
        ] {
            let text = format!("{HEAD}[[door.web8080.knock]]\nsequence = [{steps}]\n");
            let parsed = read("a.toml", text.as_bytes()).unwrap();
            let unwise = check::check("a.toml", &parsed, &[]);
            assert!(!unwise.is_empty());
            for warning in unwise {
                let said = warning.discreet().to_string();
                let wanted = "warning: door.web8080.knock.sequence: it is unwise; \
                              posternctl check says what and how to mend it";
                assert!(said.ends_with(wanted), "{said}");
            }
        }
    }
}
