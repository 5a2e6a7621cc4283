//! The properties of fuzz/src without libFuzzer: over every input in fuzz/corpus, which holds
//! what has ever shown something, and over the samples that fuzzing begins with.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

#[path = "../fuzz/src/lib.rs"]
mod properties;

/// Panics at an input where something does not hold.
type Property = fn(&[u8]);

const TARGETS: [(&str, Property); 15] = [
    ("packet", properties::packet),
    ("knocks", properties::knocks),
    ("spa", properties::spa),
    ("spa_text", properties::spa_text),
    ("knockd_conf", properties::knockd_conf),
    ("postern_toml", properties::postern_toml),
    ("one_time", properties::one_time),
    ("profile", properties::profile),
    ("wire_up", properties::wire_up),
    ("wire_down", properties::wire_down),
    ("control", properties::control),
    ("journal", properties::journal),
    ("trial", properties::trial),
    ("spent", properties::spent),
    ("listings", properties::listings),
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn text(path: &str) -> String {
    fs::read_to_string(root().join(path)).expect(path)
}

/// The lines of fuzz/targets: names, and the directories of samples.
fn listed() -> Vec<(String, Vec<String>)> {
    let text = text("fuzz/targets");
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let lines = lines.map(|line| line.split_whitespace().map(str::to_owned));
    lines
        .filter_map(|mut words| Some((words.next()?, words.skip(2).collect())))
        .collect()
}

fn files(directory: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).expect("readable") {
        let path = entry.expect("readable").path();
        match path.is_dir() {
            true => files(&path, into),
            false => into.push(path),
        }
    }
}

#[test]
fn what_has_been_met_holds() {
    let samples: BTreeMap<String, Vec<String>> = listed().into_iter().collect();
    for (name, property) in TARGETS {
        let mut inputs = Vec::new();
        let corpus = format!("fuzz/corpus/{name}");
        for directory in samples[name].iter().chain([&corpus]) {
            let before = inputs.len();
            files(&root().join(directory), &mut inputs);
            assert!(inputs.len() > before, "{directory} is empty");
        }
        for path in inputs {
            let input = fs::read(&path).expect("readable");
            let held = catch_unwind(|| property(&input));
            assert!(held.is_ok(), "{name} fails at {}", path.display());
        }
    }
}

/// What is listed, built and run here are the same targets.
#[test]
fn every_target_is_everywhere() {
    let ours: BTreeSet<&str> = TARGETS.iter().map(|(name, _)| *name).collect();
    let listed = listed();
    let listed: BTreeSet<&str> = listed.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(listed, ours);
    let manifest = text("fuzz/Cargo.toml");
    let built = manifest.lines().filter_map(|line| {
        let path = line.strip_prefix("path = \"fuzz_targets/")?;
        path.strip_suffix(".rs\"")
    });
    assert_eq!(BTreeSet::from_iter(built), ours);
    for name in ours {
        let target = text(&format!("fuzz/fuzz_targets/{name}.rs"));
        assert!(
            target.contains(&format!("postern_fuzz::{name}(data)")),
            "{name}"
        );
    }
}

/// What is fuzzed is what is shipped: the same versions of whatever both use.
#[test]
fn both_lock_files_agree() {
    let versions = |path: &str| -> BTreeSet<(String, String)> {
        let text = text(path);
        let packages = text.split("[[package]]").skip(1);
        let value = |package: &str, key: &str| {
            let line = package.lines().find(|line| line.starts_with(key));
            line.expect(key).to_owned()
        };
        packages
            .map(|package| (value(package, "name = "), value(package, "version = ")))
            .collect()
    };
    let (main, fuzz) = (versions("Cargo.lock"), versions("fuzz/Cargo.lock"));
    let names: BTreeSet<&String> = main.iter().map(|(name, _)| name).collect();
    let others: Vec<_> = fuzz.difference(&main).collect();
    let others: Vec<_> = others
        .iter()
        .filter(|(name, _)| names.contains(name))
        .collect();
    assert!(
        others.is_empty(),
        "fuzz/Cargo.lock has other versions: {others:?}"
    );
}
