//! `posternctl convert`: the postern.toml that does what a knockd.conf does.

use std::io::{self, Write};
use std::path::Path;

use serde::Serialize;

use super::{Problem, beware_of_readers, check, json_line};
use crate::config::{Format, Mistake, convert};
use crate::exit;

/// The file, for `--json`.
#[derive(Serialize)]
struct Made<'c> {
    toml: &'c str,
}

pub fn run(file: &Path, json: bool, out: &mut impl Write) -> Result<u8, Problem> {
    let name = file.display().to_string();
    let (format, parsed) = check::parse(file)?;
    if format == Format::Postern {
        let said = format!("{name}: it is a postern.toml already (or no Sequence stands in it)");
        return Err(Problem::new(exit::USAGE, said));
    }
    let parsed = parsed.map_err(|mistakes| {
        let lines: Vec<String> = mistakes.iter().map(Mistake::to_string).collect();
        Problem::new(exit::CONFIG, lines.join("\n"))
    })?;
    for warning in &parsed.warnings {
        let _ = writeln!(io::stderr(), "posternctl: {warning}");
    }
    let made = convert::convert(&name, &parsed);
    beware_of_readers();
    match json {
        true => json_line(&Made { toml: &made.text }, out)?,
        false => write!(out, "{}", made.text)?,
    }
    if made.unfinished > 0 {
        let said = "write a sequence where a comment asks for one";
        let _ = writeln!(io::stderr(), "posternctl: {name}: {said}");
    }
    if made.doors > 0 {
        return Ok(exit::OK);
    }
    out.flush()?;
    let said = format!("{name}: no door is left: the comments say why");
    Err(Problem::new(exit::CONFIG, said))
}
