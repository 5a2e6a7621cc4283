//! What a bench run found: printed for a terminal, and written for the repository as
//! `benches/RESULTS.md`, its plots and a part of the README.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

#[path = "report/markdown.rs"]
mod markdown;
#[path = "report/svg.rs"]
mod svg;
#[path = "report/text.rs"]
mod text;

/// What stands before and behind the part of the README that a run writes, each alone on a line.
pub const MARKERS: [&str; 2] = ["<!-- bench: begin -->", "<!-- bench: end -->"];

/// All that a run found.
///
/// In its texts, a part between two backquotes is code; all else is plain text.
pub struct Report {
    /// Of a quick run nothing is written.
    pub quick: bool,
    /// The processor, its cores, memory, kernel.
    pub machine: String,
    /// When it was taken.
    pub date: String,
    pub tables: Vec<Table>,
    /// The README shows the one whose file is named `success`, or else the first.
    pub plots: Vec<Plot>,
    pub goals: Vec<Goal>,
    /// Titles and texts that are shown as they are, by [`Report::write`] alone.
    pub appendices: Vec<(String, String)>,
}

/// Figures. Columns of numbers are aligned to the right.
pub struct Table {
    pub title: String,
    /// How they were taken: one paragraph.
    pub how: String,
    pub head: Vec<String>,
    /// Where a row is shorter than the head, its last cells are empty.
    pub rows: Vec<Vec<String>>,
}

/// Lines over one axis.
pub struct Plot {
    pub title: String,
    /// What the axes show, with the unit.
    pub x: String,
    pub y: String,
    /// Powers of ten at equal distances. A point at 0 then stands to the left of all others.
    pub log_x: bool,
    /// Names and points. Where a coordinate is no finite number the line is interrupted.
    pub series: Vec<(String, Vec<(f64, f64)>)>,
    /// Its name in `benches`, with `.svg`.
    pub file: &'static str,
}

/// A line of what is to be reached.
pub struct Goal {
    pub what: String,
    pub wanted: String,
    pub measured: String,
    pub reached: bool,
    /// Where it was not reached, why and what the limit is; else empty, or a remark.
    pub why: String,
}

impl Report {
    /// Goals and tables for a terminal of 100 columns.
    pub fn print(&self, out: &mut impl Write) -> io::Result<()> {
        out.write_all(text::report(self).as_bytes())
    }

    /// Writes `benches/RESULTS.md`, a file for each plot, and what stands between [`MARKERS`] in
    /// `README.md`, below `root`. A README without them is left alone, which is said on standard
    /// error. Of a quick run nothing is written at all.
    pub fn write(&self, root: &Path) -> io::Result<()> {
        if self.quick {
            return Ok(());
        }
        let benches = root.join("benches");
        fs::create_dir_all(&benches)?;
        for plot in &self.plots {
            fs::write(benches.join(plot.file), svg::plot(plot))?;
        }
        fs::write(benches.join("RESULTS.md"), markdown::results(self))?;
        let readme = root.join("README.md");
        match between(&fs::read_to_string(&readme)?, &markdown::summary(self)) {
            Some(text) => fs::write(readme, text),
            None => {
                let [begin, end] = MARKERS;
                eprintln!("bench: README.md is left as it is: no lines {begin} and {end} in it");
                Ok(())
            }
        }
    }

    fn shown_first(&self) -> Option<&Plot> {
        let success = self.plots.iter().find(|plot| plot.file.contains("success"));
        success.or(self.plots.first())
    }
}

impl Table {
    /// Whether a column holds numbers, by its place.
    fn is_of_numbers(&self, column: usize) -> bool {
        let mut cells = self.rows.iter().filter_map(|row| row.get(column));
        cells.all(|cell| {
            let cell = cell.trim_start_matches(['+', '-', '<', '>', '~', '\u{2212}', ' ']);
            cell.is_empty() || cell.starts_with(|c: char| c.is_ascii_digit())
        })
    }

    fn cell(row: &[String], column: usize) -> &str {
        row.get(column).map_or("", String::as_str)
    }
}

/// The argument of `--appendix TITLE=FILE` -> the title and the file's text.
pub fn appendix(argument: &str) -> io::Result<(String, String)> {
    let (title, file) = argument.split_once('=').ok_or_else(|| {
        let wanted = format!("--appendix {argument}: wanted is TITLE=FILE");
        io::Error::new(io::ErrorKind::InvalidInput, wanted)
    })?;
    let text = fs::read_to_string(file)
        .map_err(|e| io::Error::new(e.kind(), format!("--appendix: {file}: {e}")))?;
    Ok((title.to_owned(), text))
}

/// A text with other lines between the [`MARKERS`]; `None`: it has them not, or not once each in
/// this order.
fn between(text: &str, new: &str) -> Option<String> {
    let whole_line = |marker: &str| {
        let mut at = 0;
        let mut found = text.split_inclusive('\n').filter_map(|line| {
            at += line.len();
            (line.trim_end() == marker).then_some((at - line.len(), at))
        });
        let first = found.next()?;
        found.next().is_none().then_some(first)
    };
    let (_, from) = whole_line(MARKERS[0])?;
    let (to, _) = whole_line(MARKERS[1])?;
    (from <= to).then(|| format!("{}{new}{}", &text[..from], &text[to..]))
}
