//! What pages, sample and README refer to is there.

use crate::mdoc::{PAGES, Page, text};

fn files() -> Vec<String> {
    let pages = PAGES.iter().map(|page| format!("man/{page}"));
    let others = [
        "README.md",
        "etc/postern.toml.sample",
        "src/config/convert.rs",
    ];
    pages.chain(others.map(str::to_owned)).collect()
}

/// `THE TRIAL in posternd(8)`, however it is written and broken.
fn sections_named(text: &str) -> Vec<(String, String)> {
    let flat: Vec<&str> = text
        .split_whitespace()
        .filter(|word| !["#", "//", ".Xr"].contains(word))
        .collect();
    let mut found = Vec::new();
    for (at, _) in flat.iter().enumerate().filter(|(_, word)| **word == "in") {
        let capital = |word: &&&str| word.len() > 1 && word.chars().all(|c| c.is_ascii_uppercase());
        let title: Vec<&str> = flat[..at]
            .iter()
            .rev()
            .take_while(capital)
            .copied()
            .collect();
        let title: Vec<&str> = title.into_iter().rev().collect();
        let page = flat.get(at + 1).filter(|page| page.starts_with("postern"));
        let (false, Some(page)) = (title.is_empty(), page) else {
            continue;
        };
        let page = match page.split_once('(') {
            Some((name, section)) => format!("{name}.{}", &section[..1]),
            None => format!("{page}.{}", flat[at + 2]),
        };
        found.push((title.join(" "), page));
    }
    found
}

#[test]
fn sections_of_other_pages() {
    let mut seen = 0;
    for file in files() {
        for (title, page) in sections_named(&text(&file)) {
            let there = Page::read(&page).headings().contains(&title);
            assert!(there, "{file}: {page} has no {title}");
            seen += 1;
        }
    }
    assert!(seen > 5, "{seen}");
}

#[test]
fn sections_of_the_same_page() {
    for name in PAGES {
        let page = Page::read(name);
        let headings = page.headings();
        for line in &page.lines {
            let Some((_, title)) = line.split_once("Sx ") else {
                continue;
            };
            let title = title.trim_end_matches([' ', '.', ',', ';']);
            assert!(headings.iter().any(|h| h == title), "{name}: {title}");
        }
    }
}

#[test]
fn pages_of_ours() {
    for name in PAGES {
        for line in &Page::read(name).lines {
            let Some(reference) = line.strip_prefix(".Xr postern") else {
                continue;
            };
            let mut words = reference.split_whitespace();
            let (page, section) = match reference.starts_with(' ') {
                true => ("", words.next().unwrap()),
                false => (words.next().unwrap(), words.next().unwrap()),
            };
            let page = format!("postern{page}.{section}");
            assert!(PAGES.contains(&page.as_str()), "{name}: {page}");
        }
    }
}

/// Every page refers to the others that matter, in order: section, then name.
#[test]
fn see_also_is_in_order() {
    for name in PAGES {
        let see = Page::read(name).section("SEE ALSO").lines;
        let listed = see.iter().map(|line| {
            let mut words = line.strip_prefix(".Xr ").unwrap().split(' ');
            let (name, section) = (words.next().unwrap(), words.next().unwrap());
            (section.to_owned(), name.to_owned())
        });
        let listed: Vec<_> = listed.collect();
        assert!(listed.is_sorted(), "{name}: {listed:?}");
    }
}

#[test]
fn every_file_of_ours_is_there() {
    for file in ["README.md"] {
        let text = text(file);
        for word in text.split(|c: char| c.is_whitespace() || "`()".contains(c)) {
            let word = word.trim_end_matches(['.', ',', ';', ':', '/']);
            let ours = ["tests/", "src/", "man/", "etc/", "port/", ".ci/", "rc.d/"];
            if ours.iter().any(|dir| word.starts_with(dir)) && !word.contains('*') {
                let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(word);
                assert!(path.exists(), "{file}: there is no {word}");
            }
        }
    }
}
