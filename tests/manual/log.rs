//! posternd(8) tells of log lines that there are.

use std::fs;
use std::path::Path;

use crate::mdoc::Page;

/// The texts of every source file below a directory, string literals that go over several lines
/// in one.
fn sources(directory: &Path) -> String {
    let mut all = String::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all += &sources(&path);
        } else {
            all += &fs::read_to_string(&path).unwrap();
        }
    }
    let lines = all.split("\\\n").map(str::trim_start);
    lines.collect()
}

/// The words of a head that stand in the log as they are: what stands for something else goes.
fn fixed(head: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut placeholder = false;
    for word in head.split_whitespace() {
        match word {
            "Ar" => {
                placeholder = true;
                parts.push(String::new());
            }
            "No" | "Po" | "Pc" => placeholder = false,
            ":" | ";" => parts.last_mut().unwrap().push_str(word),
            _ if placeholder => {}
            word => {
                let part = parts.last_mut().unwrap();
                if !part.is_empty() {
                    part.push(' ');
                }
                part.push_str(word);
            }
        }
    }
    parts.retain(|part| part.len() > 1);
    parts
}

#[test]
fn each_diagnostic_is_one() {
    let sources = sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/daemon"));
    let entries = Page::read("posternd.8").section("DIAGNOSTICS").entries();
    assert!(entries.len() > 20);
    for entry in entries {
        for part in fixed(&entry.head) {
            let part = part.trim_start_matches([':', ';']).trim();
            let looked = part.trim_end_matches(':');
            assert!(sources.contains(looked), "{:?}: {looked:?}", entry.head);
        }
    }
    let why = Page::read("posternd.8").section("DIAGNOSTICS");
    let closed = why.entries();
    let closed = closed.iter().find(|e| e.head.contains("closed")).unwrap();
    let told = closed.body.plain();
    for why in [
        "its time was up",
        "the administrator asked",
        "the door is configured no more",
        "gave way, the door has max_leases",
    ] {
        assert!(told.contains(why), "{why}: {told}");
        assert!(sources.contains(&format!("{why:?}")), "{why}");
    }
}
