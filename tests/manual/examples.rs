//! What the pages and the README show is sound: command lines parse, configurations are right.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use clap::error::ErrorKind;
use postern::{client, ctl, daemon};

use crate::mdoc::{Block, PAGES, Page, text};

/// A command line of ours that stands in a text, and where.
struct Line {
    at: String,
    words: Vec<String>,
}

/// The command lines in a line of a shell: `a | b && c >d`.
fn lines_in(at: &str, line: &str) -> Vec<Line> {
    let mut lines = Vec::new();
    for part in line.split(['|', ';', '&', '>', '<', '(', '\'', '"']) {
        let words: Vec<String> = part.split_whitespace().map(str::to_owned).collect();
        let words: Vec<String> = words
            .into_iter()
            .skip_while(|word| ["do", "#", "$", "*/5", "*", "root"].contains(&word.as_str()))
            .take_while(|word| word != "#")
            .collect();
        let ours = ["postern", "posternctl", "posternd"];
        let first = words.first().map(|word| word.rsplit('/').next().unwrap());
        if first.is_some_and(|first| ours.contains(&first)) {
            let at = format!("{at}: {line}");
            lines.push(Line { at, words });
        }
    }
    lines
}

/// In blocks, and where a page names a command line in its text.
fn of_pages() -> Vec<Line> {
    let mut lines = Vec::new();
    for name in PAGES {
        let page = Page::read(name);
        for block in page.blocks() {
            let commands = block.lines.iter().filter(|line| is_command(line));
            lines.extend(commands.flat_map(|line| lines_in(name, line)));
        }
        for line in &page.lines {
            let quoted = line
                .strip_prefix(".Ql ")
                .or_else(|| line.strip_prefix(".Cm "))
                .or_else(|| line.strip_prefix(".Pq Ql "));
            let quoted = quoted.map(|q| q.trim_end_matches([' ', '.', ',', ';', ')', '\\', '&']));
            // `.Ql posternd:` is no command.
            let quoted = quoted.filter(|quoted| !quoted.ends_with(':'));
            lines.extend(quoted.into_iter().flat_map(|line| lines_in(name, line)));
        }
    }
    lines
}

/// In indented blocks and in the text. Where a block has prompts, what has none was printed.
fn of_the_readme() -> Vec<Line> {
    let readme = text("README.md");
    let mut lines = Vec::new();
    for part in readme.split("\n\n") {
        let block = part.lines().all(|line| line.starts_with("    "));
        let prompts = part.lines().any(|line| line.starts_with("    # "));
        for line in part.lines().map(str::trim_start) {
            let quoted = line.split('`').skip(1).step_by(2);
            lines.extend(quoted.flat_map(|line| lines_in("README.md", line)));
            if block && (!prompts || is_command(line)) {
                lines.extend(lines_in("README.md", line));
            }
        }
    }
    lines
}

/// `# ls`, `$ ls`, or a line of crontab(5); not a comment of what a command printed.
fn is_command(line: &str) -> bool {
    let prompted = line.strip_prefix("# ").or_else(|| line.strip_prefix("$ "));
    let word = prompted.and_then(|line| line.split(' ').next());
    let no_sentence = |word: &str| {
        word.starts_with(|c: char| c.is_ascii_lowercase()) && !line.ends_with([':', '.'])
    };
    word.is_some_and(no_sentence) || line.starts_with("*/")
}

#[test]
fn every_command_line_parses() {
    let lines: Vec<Line> = of_pages().into_iter().chain(of_the_readme()).collect();
    assert!(lines.len() > 80, "{}", lines.len());
    for Line { at, words } in lines {
        let command = match words[0].rsplit('/').next().unwrap() {
            "postern" => client::command_line(),
            "posternctl" => ctl::command_line(),
            _ => daemon::arguments::command_line(),
        };
        let parsed = command.try_get_matches_from(&words);
        let said = parsed.err().map(|e| (e.kind(), e.to_string()));
        match said {
            None
            | Some((
                // Named, not given whole.
                ErrorKind::MissingRequiredArgument
                | ErrorKind::MissingSubcommand
                | ErrorKind::DisplayHelp
                | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand,
                _,
            )) => {}
            // What is to be filled in.
            Some((ErrorKind::ValueValidation, _))
                if at.contains("ADDRESS") || at.contains("%port") => {}
            Some((_, said)) => panic!("{at}: {said}"),
        }
    }
}

/// Blocks that run programs of ours, and are not run by tests/e2e/manual.rs.
const NOT_RUN: [(&str, &str); 8] = [
    // Below.
    ("postern-knockd.7", "EXAMPLES"),
    // What a daemon leaves behind on a kernel that is not here: tests/freebsd.
    ("postern-ipfw.7", "EXAMPLES"),
    ("postern-pf.7", "EXAMPLES"),
    // tests/e2e/render.rs.
    ("posternctl.8", "THE KERNEL ALONE"),
    ("posternctl.8", "THE KERNEL ALONE"),
    // A flood: tests/e2e/flood.rs makes one.
    ("posternctl.8", "UNDER FIRE"),
    // at(1) and crontab(5): whoever has them, runs them.
    ("posternctl.8", "EXAMPLES"),
    ("posternd.8", "Before it happens"),
];

#[test]
fn every_example_is_run_or_it_is_known_why_not() {
    let mut spared = Vec::new();
    for name in PAGES {
        for block in Page::read(name).blocks() {
            let mut commands = block.lines.iter().filter(|line| is_command(line));
            let ours = commands.any(|line| !lines_in(name, line).is_empty());
            let marked = block.mark.as_ref().is_some_and(|m| m.starts_with("Run: "));
            if ours && !marked {
                spared.push((name, block.section.clone()));
            }
        }
    }
    spared.sort_unstable();
    let mut known = NOT_RUN.map(|(name, section)| (name, section.to_owned()));
    known.sort_unstable();
    assert_eq!(spared, known);
}

#[test]
fn convert_prints_what_the_manual_shows() {
    const FILE: &str = "/usr/local/etc/knockd.conf";
    let blocks = Page::read("postern-knockd.7").section("EXAMPLES").blocks();
    let block = blocks[0].lines.join("\n");
    let block = block.strip_prefix(&format!("# cat {FILE}\n")).unwrap();
    let (conf, toml) = block
        .split_once(&format!("# posternctl convert {FILE}\n"))
        .unwrap();
    let top = tempfile::tempdir().unwrap();
    let file = top.path().join("knockd.conf");
    fs::write(&file, conf).unwrap();
    let ran = Command::new(env!("CARGO_BIN_EXE_posternctl"))
        .arg("convert")
        .arg(&file)
        .output()
        .unwrap();
    let printed = String::from_utf8([ran.stderr, ran.stdout].concat()).unwrap();
    let printed = printed.replace(file.to_str().unwrap(), FILE);
    assert_eq!(printed.trim_end(), toml);
}

fn is_configuration(block: &Block) -> bool {
    let first = block.lines.first().map_or("", String::as_str);
    first.starts_with("interface = ") || first.starts_with("[door.")
}

#[test]
fn every_configuration_is_sound() {
    let top = tempfile::tempdir().unwrap();
    let file = top.path().join("postern.toml");
    let mut seen = 0;
    for name in PAGES {
        for block in Page::read(name)
            .blocks()
            .iter()
            .filter(|b| is_configuration(b))
        {
            seen += 1;
            let mut toml = block.lines.join("\n");
            // A door alone, as postern-ipfw(7) shows it.
            if !toml.contains("interface = ") {
                let firewall = name
                    .strip_prefix("postern-")
                    .and_then(|n| n.split_once('.'));
                let (firewall, _) = firewall.unwrap_or_else(|| panic!("{name}: {toml}"));
                toml = format!("interface = \"xl0\"\nfirewall = \"{firewall}\"\n{toml}");
            }
            if !toml.contains(".knock]]") {
                toml += "\n[[door.ssh.knock]]\nsequence = [...]\n";
            }
            for steps in STEPS {
                toml = toml.replacen("[...]", steps, 1);
            }
            toml = with_secrets(toml);
            fs::write(&file, &toml).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
            let ran = Command::new(env!("CARGO_BIN_EXE_posternctl"))
                .args(["check", file.to_str().unwrap()])
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&ran.stdout);
            assert!(ran.status.success(), "{name}: {toml}\n{said}");
            let warned = said.lines().filter(|line| line.contains("warning: "));
            let warned: Vec<&str> = warned
                .filter(|line| !EXPECTED.iter().any(|words| line.contains(words)))
                .collect();
            assert!(warned.is_empty(), "{name}: {toml}\n{warned:#?}");
        }
    }
    assert!(seen > 10, "{seen}");
}

/// About the steps that we put in, about whom the file belongs to, and what an example is about.
const EXPECTED: [&str; 3] = [
    "sequence",
    "posternd will refuse",
    "\"memory\" touches nothing",
];

#[test]
fn every_profile_is_sound() {
    let readme = text("README.md");
    let of_the_readme = readme.split("```toml\n").skip(1);
    let of_the_readme = of_the_readme.map(|rest| rest.split("```").next().unwrap().to_owned());
    let of_pages = PAGES.iter().flat_map(|name| Page::read(name).blocks());
    let of_pages = of_pages.map(|block| block.lines.join("\n"));
    let profiles = of_the_readme.chain(of_pages);
    let profiles: Vec<String> = profiles.filter(|p| p.starts_with("[host.")).collect();
    assert!(profiles.len() > 1);
    let top = tempfile::tempdir().unwrap();
    let file = top.path().join("config.toml");
    for profile in profiles {
        let filled = with_secrets(profile.replace("[ ... ]", STEPS[0]));
        fs::write(&file, filled).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        let host = client::profile::find(&file, "home").expect(&profile);
        assert_eq!(host.address, "server.example.net");
    }
}

/// The same with secrets where the text has dots.
fn with_secrets(mut toml: String) -> String {
    for secret in SECRETS {
        toml = toml.replacen("key = \"...\"", &format!("key = \"{secret}\""), 1);
    }
    toml.replace("ping = \"...\"", &format!("ping = \"{PING}\""))
}

const PING: &str = "8d1f6a3be97c50424c86a3d95b0e7f12";

/// For keys of single packets, in order.
const SECRETS: [&str; 4] = [
    "MDEyMzQ1Njc4OWFiY2RlZg==",
    "ZmVkY2JhOTg3NjU0MzIxMA==",
    "QUJDREVGR0hJSktMTU5PUA==",
    "UE9OTUxLSklIR0ZFRENCQQ==",
];

const STEPS: [&str; 2] = [
    r#"["7143", "2912/udp", "29001", "16044"]"#,
    r#"["8351", "1207/udp", "22110", "30477"]"#,
];
