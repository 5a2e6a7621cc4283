//! What was measured, printed and written.

use std::io::{self, Write};
use std::path::Path;

/// A whole run.
#[derive(Default)]
pub struct Report {
    pub quick: bool,
    pub machine: String,
    pub date: String,
    pub tables: Vec<Table>,
    pub plots: Vec<Plot>,
    pub goals: Vec<Goal>,
    pub appendices: Vec<(String, String)>,
}

/// Rows under a head.
pub struct Table {
    pub title: String,
    pub how: String,
    pub head: Vec<String>,
    pub rows: Vec<Vec<String>>,
}

/// Curves.
pub struct Plot {
    pub title: String,
    pub x: String,
    pub y: String,
    pub log_x: bool,
    pub series: Vec<(String, Vec<(f64, f64)>)>,
    pub file: &'static str,
}

/// One line of what is to be reached.
pub struct Goal {
    pub what: String,
    pub wanted: String,
    pub measured: String,
    pub reached: bool,
    pub why: String,
}

impl Report {
    /// Prints it.
    pub fn print(&self, out: &mut impl Write) {
        for table in &self.tables {
            let _ = writeln!(out, "\n{}\n{}", table.title, table.head.join(" | "));
            for row in &table.rows {
                let _ = writeln!(out, "{}", row.join(" | "));
            }
        }
        let _ = writeln!(out);
        for goal in &self.goals {
            let mark = if goal.reached { "reached" } else { "MISSED" };
            let _ = writeln!(
                out,
                "{mark}: {}: {}: {}",
                goal.what, goal.wanted, goal.measured
            );
        }
    }

    /// Writes it.
    pub fn write(&self, _root: &Path) -> io::Result<()> {
        Ok(())
    }
}
