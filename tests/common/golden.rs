//! Files that stand for what is told about others: each `*.EXTENSION` of a directory has a
//! `*.out`. `POSTERN_BLESS=1` writes them anew.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// A directory below tests.
pub fn directory(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests")
        .join(name)
}

/// Its files with this extension, in order.
pub fn files(directory: &Path, extension: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).expect("the directory is there");
    let paths = entries.map(|entry| entry.expect("readable").path());
    let mut files: Vec<PathBuf> = paths
        .filter(|path| path.extension().is_some_and(|e| e == extension))
        .collect();
    files.sort();
    assert!(!files.is_empty());
    files
}

/// A file's name.
pub fn name(path: &Path) -> &str {
    path.file_name()
        .and_then(|name| name.to_str())
        .expect("plain names")
}

/// Each file is told of as its `*.out` says.
pub fn hold(files: &[PathBuf], told: impl Fn(&Path) -> String) {
    let bless = std::env::var_os("POSTERN_BLESS").is_some();
    let mut differ = String::new();
    for path in files {
        let told = told(path);
        let out = path.with_extension("out");
        if bless {
            fs::write(&out, &told).expect("writable");
            continue;
        }
        let wanted = fs::read_to_string(&out).unwrap_or_default();
        if told != wanted {
            let name = name(path);
            write!(
                differ,
                "--- {name}: wanted\n{wanted}--- {name}: told\n{told}"
            )
            .expect("a string takes it");
        }
        assert!(!told.is_empty(), "{} is a good file", path.display());
    }
    assert!(differ.is_empty(), "\n{differ}");
}

/// Each line of the directory's file `messages` is a part of what is told about its files.
pub fn every_message(directory: &Path, told: &str) {
    let list = fs::read_to_string(directory.join("messages")).expect("readable");
    let absent: Vec<&str> = list.lines().filter(|part| !told.contains(part)).collect();
    assert!(absent.is_empty(), "in no golden file: {absent:#?}");
}
