//! Shells take the completions, and complete by them.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;

const PROGRAMS: [&str; 3] = ["postern", "posternctl", "posternd"];

fn written() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let made = Command::new(env!("CARGO_BIN_EXE_postern-completions"))
        .arg(directory.path().join("completions"))
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    directory
}

#[test]
fn a_file_for_each_program_and_shell() {
    let top = written();
    let names = fs::read_dir(top.path().join("completions")).unwrap();
    let names: BTreeSet<String> = names
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let wanted = PROGRAMS.iter().flat_map(|name| {
        [
            format!("{name}.bash"),
            format!("_{name}"),
            format!("{name}.fish"),
        ]
    });
    assert_eq!(names, wanted.collect());

    let ran = |args: &[&Path]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_postern-completions"));
        command.args(args).output().unwrap().status.code()
    };
    assert_eq!(ran(&[]), Some(64));
    let file = top.path().join("completions/_postern");
    assert_eq!(ran(&[&file]), Some(74));
}

/// Runs a shell, if this machine has it: bash is everywhere but on a bare FreeBSD.
fn shell(name: &str, arguments: &[&str]) -> Option<Output> {
    match Command::new(name).args(arguments).output() {
        Ok(output) => Some(output),
        Err(_) if name != "bash" || cfg!(target_os = "freebsd") => None,
        Err(e) => panic!("{name}: {e}"),
    }
}

#[test]
fn shells_accept_them() {
    let top = written();
    for program in PROGRAMS {
        for (name, file) in [
            ("bash", format!("{program}.bash")),
            ("zsh", format!("_{program}")),
            ("fish", format!("{program}.fish")),
        ] {
            let file = top.path().join("completions").join(file);
            let Some(ran) = shell(name, &["-n", file.to_str().unwrap()]) else {
                continue;
            };
            assert!(
                ran.status.success() && ran.stderr.is_empty(),
                "{name}: {ran:?}"
            );
        }
    }
}

/// What bash offers behind these words, the last of which is not whole yet.
fn bash(top: &TempDir, words: &[&str]) -> Option<Vec<String>> {
    // As bash itself calls it: the command, the word, the one before.
    const SCRIPT: &str = r#"
        directory=$1; shift
        . "$directory/$1.bash"
        COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
        function=$(complete -p "$1"); function=${function#*-F }; function=${function%% *}
        "$function" "$1" "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
        printf '%s\n' "${COMPREPLY[@]}"
    "#;
    let directory = top.path().join("completions");
    let mut arguments = vec!["--norc", "-c", SCRIPT, "bash", directory.to_str().unwrap()];
    arguments.extend(words);
    let ran = shell("bash", &arguments)?;
    assert!(ran.stderr.is_empty(), "{ran:?}");
    let offered = String::from_utf8(ran.stdout).unwrap();
    Some(offered.lines().map(str::to_owned).collect())
}

#[test]
fn bash_completes_commands_and_options() {
    let top = written();
    for (words, wanted) in [
        (
            &["posternctl", "re"][..],
            &["reload", "reap", "render", "replay"][..],
        ),
        (&["posternctl", "un"], &["unguard"]),
        (&["posternctl", "--js"], &["--json"]),
        (
            &["posternctl", "keygen", "--s"],
            &["--socket", "--spa", "--steps", "--sequence"],
        ),
        (&["posternctl", "check", "--l"], &["--live"]),
        (&["posternd", "--i"], &["--interface"]),
        (&["postern", "k"], &["knock"]),
        (&["postern", "knock", "--so"], &["--source"]),
        (&["postern", "p"], &["ping"]),
        (&["postern", "spa", "--l"], &["--lasts"]),
        (&["postern", "connect", "--t"], &["--timeout"]),
    ] {
        let Some(offered) = bash(&top, words) else {
            return;
        };
        let set = |words: Vec<String>| -> BTreeSet<String> { words.into_iter().collect() };
        let wanted = wanted.iter().map(|&word| word.to_owned()).collect();
        assert_eq!(set(offered), set(wanted), "{words:?}");
    }
}

#[test]
fn bash_completes_files() {
    let top = written();
    let file = top.path().join("doors.toml");
    fs::write(&file, "").unwrap();
    let begun = top.path().join("doo").display().to_string();
    for option in ["-c", "--config"] {
        let Some(offered) = bash(&top, &["posternctl", "check", option, &begun]) else {
            return;
        };
        assert_eq!(offered, [file.display().to_string()]);
    }
}
