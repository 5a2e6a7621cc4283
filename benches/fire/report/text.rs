//! Plain text for a terminal.

use std::fmt::Write as _;

use super::{Report, Table};

/// Columns of a terminal.
const WIDTH: usize = 100;
/// Between two columns of a table.
const GAP: usize = 2;

pub fn report(report: &Report) -> String {
    let mut out = String::new();
    let quick = if report.quick { ", a quick run" } else { "" };
    paragraph(
        &mut out,
        &format!("{}, {}{quick}", report.machine, report.date),
    );
    if !report.goals.is_empty() {
        out.push('\n');
        goals(&mut out, report);
    }
    for table in &report.tables {
        out.push('\n');
        heading(&mut out, &table.title);
        paragraph(&mut out, &table.how);
        out.push('\n');
        let right: Vec<bool> = (0..table.head.len())
            .map(|column| table.is_of_numbers(column))
            .collect();
        lines(&mut out, table, &widths(table), &right);
    }
    out
}

fn goals(out: &mut String, report: &Report) {
    let row = |goal: &super::Goal| {
        let reached = if goal.reached { "yes" } else { "NO" };
        let cells = [&goal.what, &goal.wanted, &goal.measured];
        let cells = cells.into_iter().cloned();
        cells.chain([reached.to_owned()]).collect()
    };
    heading(out, "To reach");
    let table = Table {
        title: String::new(),
        how: String::new(),
        head: super::markdown::GOALS.map(str::to_owned).to_vec(),
        rows: report.goals.iter().map(row).collect(),
    };
    let widths = widths(&table);
    lines(out, &table, &widths, &[false; 4]);
    for goal in report.goals.iter().filter(|goal| !goal.why.is_empty()) {
        out.push('\n');
        paragraph(out, &format!("{}: {}", goal.what, goal.why));
    }
}

fn heading(out: &mut String, title: &str) {
    let rule = "-".repeat(title.chars().count().min(WIDTH));
    let _ = writeln!(out, "{title}\n{rule}");
}

fn paragraph(out: &mut String, text: &str) {
    for line in broken(text, WIDTH) {
        let _ = writeln!(out, "{line}");
    }
}

/// Words in lines of so many characters; a longer word has its line for itself.
pub fn broken(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if length(line) + 1 + length(word) <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

fn length(text: &str) -> usize {
    text.chars().count()
}

/// A table; `right` are the columns that are aligned so.
fn lines(out: &mut String, table: &Table, widths: &[usize], right: &[bool]) {
    row(out, &table.head, widths, right);
    let rules: Vec<String> = widths.iter().map(|width| "-".repeat(*width)).collect();
    row(out, &rules, widths, right);
    for cells in &table.rows {
        row(out, cells, widths, right);
    }
}

/// Each column's width: that of its longest cell; where that is too much for a line, the widest
/// columns give way, but no word is broken.
fn widths(table: &Table) -> Vec<usize> {
    let longest = |column: usize, of: fn(&str) -> usize| {
        let rows = table.rows.iter().chain([&table.head]);
        let cells = rows.map(|row| of(Table::cell(row, column)));
        cells.max().unwrap_or(0)
    };
    let word = |text: &str| text.split_whitespace().map(length).max().unwrap_or(0);
    let columns = 0..table.head.len();
    let least: Vec<usize> = columns.clone().map(|n| longest(n, word)).collect();
    let mut widths: Vec<usize> = columns.map(|n| longest(n, length)).collect();
    let gaps = GAP * widths.len().saturating_sub(1);
    while widths.iter().sum::<usize>() + gaps > WIDTH {
        let may = widths
            .iter_mut()
            .zip(&least)
            .filter(|(w, least)| **w > **least);
        match may.max() {
            Some((widest, _)) => *widest -= 1,
            None => break,
        }
    }
    widths
}

fn row(out: &mut String, cells: &[String], widths: &[usize], right: &[bool]) {
    let cells: Vec<Vec<String>> = (0..widths.len())
        .map(|column| broken(Table::cell(cells, column), widths[column]))
        .collect();
    let height = cells.iter().map(Vec::len).max().unwrap_or(0);
    for line in 0..height {
        let mut text = String::new();
        for ((cell, &width), &right) in cells.iter().zip(widths).zip(right) {
            let part = cell.get(line).map_or("", String::as_str);
            let _ = match right {
                true => write!(text, "{part:>width$}"),
                false => write!(text, "{part:<width$}"),
            };
            text.push_str(&" ".repeat(GAP));
        }
        let _ = writeln!(out, "{}", text.trim_end());
    }
}
