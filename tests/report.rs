//! What `make bench` makes of what it found. `UPDATE_GOLDEN=1` writes tests/report anew.

use std::fs;
use std::path::{Path, PathBuf};

#[path = "../benches/fire/report.rs"]
mod report;

use report::{Goal, MARKERS, Plot, Report, Table, appendix};

fn strings(all: &[&str]) -> Vec<String> {
    all.iter().map(|one| (*one).to_owned()).collect()
}

/// As a full run would find it, with all that could be taken for something else.
fn found() -> Report {
    let rates = |figures: &[f64]| -> Vec<(f64, f64)> {
        let at = [
            5_000.0,
            20_000.0,
            50_000.0,
            100_000.0,
            200_000.0,
            1_130_000.0,
        ];
        at.into_iter().zip(figures.iter().copied()).collect()
    };
    let success = Plot {
        title: "Legitimate knocks that get in, by the rate of a flood from 100,000 forged \
                sources & \"others\" <on the first port>"
            .to_owned(),
        x: "packets of the flood a second".to_owned(),
        y: "knocks that get in, %".to_owned(),
        log_x: true,
        series: vec![
            (
                "posternd, first port".to_owned(),
                rates(&[100.0, 100.0, 100.0, 100.0, 100.0, 98.5]),
            ),
            (
                "posternd, all ports".to_owned(),
                rates(&[100.0, 100.0, 100.0, 100.0, 99.5, 96.0]),
            ),
            (
                "posternd, SPA port".to_owned(),
                rates(&[100.0, 100.0, 100.0, 100.0, 90.0, 71.0]),
            ),
            (
                "knockd, first port".to_owned(),
                rates(&[100.0, 4.0, 0.0, 0.0, f64::NAN, 0.0]),
            ),
            (
                "fwknopd, SPA port".to_owned(),
                rates(&[0.0, 0.0, 0.0, 0.0, 0.0, 0.0]),
            ),
        ],
        file: "success.svg",
    };
    let doors = Plot {
        title: "CPU a packet".to_owned(),
        x: "doors".to_owned(),
        y: "µs".to_owned(),
        log_x: true,
        series: vec![(
            "posternd".to_owned(),
            vec![(0.0, 0.081), (1.0, 0.105), (1000.0, 0.11)],
        )],
        file: "doors.svg",
    };
    let even = Plot {
        title: "Memory".to_owned(),
        x: "seconds".to_owned(),
        y: "MiB more than before".to_owned(),
        log_x: false,
        series: vec![
            (
                "posternd <rss>".to_owned(),
                vec![(0.0, -3.0), (30.0, 38.0), (60.0, 38.5)],
            ),
            ("knockd".to_owned(), Vec::new()),
        ],
        file: "memory.svg",
    };
    Report {
        quick: false,
        machine: "Xeon, 2 cores, 4 GiB, Linux 6.1".to_owned(),
        date: "2026-11-22".to_owned(),
        tables: vec![Table {
            title: "CPU a packet, by sources".to_owned(),
            how: "User and system time from `/proc/PID/stat` before and after 1,000,000 packets \
                  of one rate, less that of an *idle* second; kernel's `rx_handler` time is not \
                  in it. The capture was made once, for all of them, of sources chosen at random."
                .to_owned(),
            head: strings(&["sources", "posternd, µs", "knockd, µs", "remark"]),
            rows: vec![
                strings(&["1", "0.10", "0.4", ""]),
                strings(&[
                    "1,000,000",
                    "0.12",
                    "~50",
                    "knockd walks a list | of all of them, \
                    one after the other, for each packet that comes in, and gives up <1 %",
                ]),
                strings(&["2,000,000", "0.13"]),
            ],
        }],
        plots: vec![doors, success, even],
        goals: vec![
            Goal {
                what: "median from the last knock to opened, `nft` in-process".to_owned(),
                wanted: "< 1 ms".to_owned(),
                measured: "0.31 ms".to_owned(),
                reached: true,
                why: String::new(),
            },
            Goal {
                what: "CPU a flood packet".to_owned(),
                wanted: "at most 1.5 times tcpdump's".to_owned(),
                measured: "1.9 times".to_owned(),
                reached: false,
                why: "the hash of the source, which must be keyed, is 30 ns of 150".to_owned(),
            },
            Goal {
                what: "log lines a second".to_owned(),
                wanted: "< 10".to_owned(),
                measured: "0".to_owned(),
                reached: true,
                why: "floods are counted".to_owned(),
            },
        ],
        appendices: vec![
            ("Rooms".to_owned(), "packet  1 ns\n├─ ```\n".to_owned()),
            ("Instructions".to_owned(), "a | b\n".to_owned()),
        ],
    }
}

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/report")
        .join(name)
}

fn hold(name: &str, told: &str) {
    let path = golden(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(path, told).unwrap();
        return;
    }
    let wanted = fs::read_to_string(&path).unwrap();
    assert!(told == wanted, "{name} differs; now it is\n{told}");
}

#[test]
fn what_is_printed() {
    let mut out = Vec::new();
    found().print(&mut out).unwrap();
    let out = String::from_utf8(out).unwrap();
    for line in out.lines() {
        assert!(line.chars().count() <= 100, "{line}");
    }
    hold("printed.txt", &out);
}

const README: &str = "# It\r\n\nbefore\n<!-- bench: begin -->\nold\n<!-- bench: end -->\nbehind\n";

#[test]
fn what_is_written() {
    let root = tempfile::tempdir().unwrap();
    let readme = root.path().join("README.md");
    fs::write(&readme, README).unwrap();
    // What is written twice is the same.
    for _ in 0..2 {
        found().write(root.path()).unwrap();
        let benches = root.path().join("benches");
        let mut names: Vec<String> = fs::read_dir(&benches)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(
            names,
            ["RESULTS.md", "doors.svg", "memory.svg", "success.svg"]
        );
        for name in names {
            hold(&name, &fs::read_to_string(benches.join(&name)).unwrap());
        }
        hold("README.md", &fs::read_to_string(&readme).unwrap());
    }
}

#[test]
fn a_quick_run_writes_nothing() {
    let root = tempfile::tempdir().unwrap();
    let mut quick = found();
    quick.quick = true;
    quick.write(root.path()).unwrap();
    assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
    let mut out = Vec::new();
    quick.print(&mut out).unwrap();
    let out = String::from_utf8(out).unwrap();
    assert!(out.starts_with("Xeon, 2 cores, 4 GiB, Linux 6.1, 2026-11-22, a quick run\n"));
}

/// A README whose markers are not as they should be is not touched; all else is written.
#[test]
fn a_readme_without_its_place_stays() {
    let [begin, end] = MARKERS;
    for text in [
        "nothing\n".to_owned(),
        format!("{begin}\n"),
        format!("{end}\n{begin}\n"),
        format!("{begin}\n{begin}\n{end}\n"),
        format!("in words: {begin}\n{end}\n"),
    ] {
        let root = tempfile::tempdir().unwrap();
        let readme = root.path().join("README.md");
        fs::write(&readme, &text).unwrap();
        found().write(root.path()).unwrap();
        assert_eq!(fs::read_to_string(readme).unwrap(), text);
        assert!(root.path().join("benches/RESULTS.md").exists());
    }
}

/// Elements close in order, and nothing in them is taken for one.
#[test]
fn plots_are_sound() {
    for name in ["doors.svg", "memory.svg", "success.svg"] {
        let text = fs::read_to_string(golden(name)).unwrap();
        let mut open = Vec::new();
        let mut rest = text.as_str();
        while let Some(at) = rest.find('<') {
            let (between, tag) = rest.split_at(at);
            assert!(
                !between.contains('>') || open.last() == Some(&"style"),
                "{between}"
            );
            for entity in between.split('&').skip(1) {
                let (entity, _) = entity.split_once(';').unwrap();
                assert!(
                    ["amp", "lt", "gt", "quot"].contains(&entity),
                    "{name}: {entity}"
                );
            }
            let (tag, behind) = tag[1..].split_once('>').unwrap();
            match tag.strip_prefix('/') {
                Some(closed) => assert_eq!(open.pop(), Some(closed), "{name}"),
                None if tag.ends_with('/') => {}
                None => open.push(tag.split(' ').next().unwrap()),
            }
            assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
            rest = behind;
        }
        assert!(
            open.is_empty() && !text.contains("NaN") && !text.contains("inf"),
            "{name}"
        );
    }
}

#[test]
fn appendices() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("a=b");
    fs::write(&file, "text\n").unwrap();
    let argument = format!("Rooms, alone={}", file.display());
    let wanted = ("Rooms, alone".to_owned(), "text\n".to_owned());
    assert_eq!(appendix(&argument).unwrap(), wanted);
    for (argument, why) in [
        ("it", "--appendix it: wanted is TITLE=FILE"),
        ("it=/nonexistent/x", "--appendix: /nonexistent/x: "),
    ] {
        let error = appendix(argument).unwrap_err().to_string();
        assert!(error.starts_with(why), "{error}");
    }
}
