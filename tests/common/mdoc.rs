//! Manual pages, as far as tests ask about them: sections, entries of lists, literal blocks, and
//! what a line says in plain text (mdoc(7)).

#![allow(dead_code)] // no test asks for all of it

use std::fs;
use std::path::Path;

/// Every page.
pub const PAGES: [&str; 8] = [
    "postern.1",
    "postern.toml.5",
    "postern-ipfw.7",
    "postern-knockd.7",
    "postern-nft.7",
    "postern-pf.7",
    "posternctl.8",
    "posternd.8",
];

/// A file of the source tree.
pub fn text(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{name}: {e}"))
}

/// A manual page, or lines of one.
#[derive(Clone)]
pub struct Page {
    /// `posternd.8`
    pub name: String,
    pub lines: Vec<String>,
}

/// An entry of a list: what stands behind `.It`, and what follows, lists in it included.
pub struct Entry {
    pub head: String,
    pub body: Page,
}

/// What stands between `.Bd -literal` and `.Ed`.
pub struct Block {
    /// The heading that it stands under.
    pub section: String,
    /// What a comment right before it says, such as `Run: first`.
    pub mark: Option<String>,
    pub lines: Vec<String>,
}

impl Page {
    pub fn read(name: &str) -> Page {
        let text = text(&format!("man/{name}"));
        Page {
            name: name.to_owned(),
            lines: text.lines().map(str::to_owned).collect(),
        }
    }

    fn part(&self, lines: &[String]) -> Page {
        Page {
            name: self.name.clone(),
            lines: lines.to_vec(),
        }
    }

    /// The program's or file's name.
    fn nm(&self) -> &str {
        self.name.rsplit_once('.').map_or("", |(name, _)| name)
    }

    /// The titles of sections and subsections.
    pub fn headings(&self) -> Vec<String> {
        self.lines.iter().filter_map(|l| heading(l)).collect()
    }

    /// What stands under a heading, to the next one of its kind or a higher one.
    #[track_caller]
    pub fn section(&self, title: &str) -> Page {
        let begin = self
            .lines
            .iter()
            .position(|line| heading(line).as_deref() == Some(title));
        let begin = begin.unwrap_or_else(|| panic!("{}: there is no {title}", self.name));
        let whole = self.lines[begin].starts_with(".Sh");
        let ends = |line: &String| line.starts_with(".Sh") || !whole && line.starts_with(".Ss");
        let rest = &self.lines[begin + 1..];
        let end = rest.iter().position(ends).unwrap_or(rest.len());
        self.part(&rest[..end])
    }

    /// The entries of all lists, but for lists in entries.
    pub fn entries(&self) -> Vec<Entry> {
        let mut entries: Vec<(String, Vec<String>)> = Vec::new();
        let mut depth = 0;
        for line in &self.lines {
            match (line.as_str(), depth) {
                (".El", 1) => {}
                (_, 1) if line.starts_with(".It") => {
                    entries.push((line[3..].trim().to_owned(), Vec::new()));
                }
                (_, 1..) => {
                    if let Some((_, body)) = entries.last_mut() {
                        body.push(line.clone());
                    }
                }
                _ => {}
            }
            if line.starts_with(".Bl") {
                depth += 1;
            } else if line == ".El" {
                depth -= 1;
            }
        }
        let entry = |(head, body): (String, Vec<String>)| Entry {
            head,
            body: self.part(&body),
        };
        entries.into_iter().map(entry).collect()
    }

    /// The literal blocks.
    pub fn blocks(&self) -> Vec<Block> {
        let mut blocks = Vec::new();
        let mut section = String::new();
        let mut mark = None;
        let mut open: Option<Block> = None;
        for line in &self.lines {
            if line == ".Ed" {
                blocks.extend(open.take());
            } else if let Some(block) = &mut open {
                block.lines.push(unescaped(line));
            } else if line.starts_with(".Bd -literal") {
                open = Some(Block {
                    section: section.clone(),
                    mark: mark.take(),
                    lines: Vec::new(),
                });
            }
            mark = line.strip_prefix(".\\\" ").map(str::to_owned);
            if let Some(title) = heading(line) {
                section = title;
            }
        }
        blocks
    }

    /// What is to be read, in one line; literal blocks are left out.
    pub fn plain(&self) -> String {
        let mut said = String::new();
        let mut literal = false;
        for line in &self.lines {
            literal = (literal || line.starts_with(".Bd -literal")) && line != ".Ed";
            if literal || line.starts_with(".\\\"") {
                continue;
            }
            let plain = match line.strip_prefix('.') {
                Some(macros) => plain(macros, self.nm()),
                None => unescaped(line),
            };
            if !said.is_empty() && !plain.is_empty() {
                said.push(' ');
            }
            said.push_str(&plain);
        }
        said
    }
}

fn heading(line: &str) -> Option<String> {
    let title = line
        .strip_prefix(".Sh ")
        .or_else(|| line.strip_prefix(".Ss "))?;
    Some(unescaped(title))
}

/// The escapes of mandoc_char(7) that occur.
fn unescaped(text: &str) -> String {
    text.replace("\\&", "")
        .replace("\\(dq", "\"")
        .replace("\\-", "-")
        .replace("\\e", "\\")
}

/// An option, an argument, a command, or anything else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Word {
    /// `-c`, `--config`
    Option(String),
    /// `file`
    Argument(String),
    /// `check`
    Command(String),
    Other(String),
}

const MACROS: [&str; 33] = [
    "An", "Ar", "Bl", "Cm", "Dq", "Dv", "El", "Em", "Ev", "Fl", "Fx", "Ic", "It", "Li", "Nm", "No",
    "Ns", "Oc", "Oo", "Op", "Pa", "Pc", "Po", "Pp", "Pq", "Sy", "Ql", "Qq", "Sh", "Ss", "Sx", "Va",
    "Xr",
];

/// A line of macros (without its dot) as words: `Fl 46v` is three options.
pub fn words(line: &str) -> Vec<Word> {
    let mut found = Vec::new();
    let mut in_force = "";
    for word in line.split_whitespace() {
        if MACROS.contains(&word) {
            in_force = word;
            continue;
        }
        match (in_force, word) {
            (_, "," | "." | ";" | ":" | "|" | "...") => {}
            ("Fl", long) if long.starts_with('-') => found.push(Word::Option(format!("-{long}"))),
            ("Fl", short) => found.extend(short.chars().map(|c| Word::Option(format!("-{c}")))),
            ("Ar", word) => found.push(Word::Argument(word.to_owned())),
            ("Cm", word) => found.push(Word::Command(word.to_owned())),
            (_, word) => found.push(Word::Other(word.to_owned())),
        }
    }
    found
}

/// A line of macros (without its dot) as it reads.
fn plain(line: &str, nm: &str) -> String {
    let mut said = String::new();
    let mut closing = Vec::new();
    let mut in_force = "";
    let mut glue = true;
    let mut words = line.split_whitespace().map(unescaped).peekable();
    // Arguments of lists and displays are no text.
    if words.peek().is_some_and(|w| w == "Bl" || w == "Bd") {
        return said;
    }
    let push = |said: &mut String, word: &str, glue: &mut bool| {
        if !*glue {
            said.push(' ');
        }
        said.push_str(word);
        *glue = false;
    };
    while let Some(word) = words.next() {
        if !MACROS.contains(&word.as_str()) {
            match word.as_str() {
                "." | "," | ";" | ":" | ")" => {
                    said.extend(closing.drain(..).rev());
                    said.push_str(&word);
                    glue = false;
                }
                _ if in_force == "Fl" => push(&mut said, &format!("-{word}"), &mut glue),
                _ => push(&mut said, &word, &mut glue),
            }
            continue;
        }
        in_force = MACROS.iter().find(|m| **m == word).unwrap();
        match in_force {
            "Nm" if words.peek().is_none_or(|next| {
                !next.starts_with(char::is_alphanumeric) || MACROS.contains(&next.as_str())
            }) =>
            {
                push(&mut said, nm, &mut glue);
            }
            "Fx" => push(&mut said, "FreeBSD", &mut glue),
            "Ns" => glue = true,
            "Xr" => {
                let (name, section) = (words.next().unwrap(), words.next().unwrap());
                push(&mut said, &format!("{name}({section})"), &mut glue);
            }
            "Dq" | "Qq" | "Pq" | "Op" | "Oo" | "Ql" => {
                let (open, close) = match in_force {
                    "Pq" => ("(", ')'),
                    "Op" | "Oo" => ("[", ']'),
                    "Ql" => ("'", '\''),
                    _ => ("\"", '"'),
                };
                push(&mut said, open, &mut glue);
                glue = true;
                if in_force != "Oo" {
                    closing.push(close);
                }
            }
            "Oc" => said.push(']'),
            _ => {}
        }
    }
    said.extend(closing.drain(..).rev());
    said
}
