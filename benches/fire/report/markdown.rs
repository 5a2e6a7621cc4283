//! Markdown as GitHub shows it: `benches/RESULTS.md`, and a part of the README.

use std::fmt::Write as _;

use super::{Goal, Plot, Report, Table};

/// The columns of the table of goals.
pub const GOALS: [&str; 4] = ["To reach", "wanted", "measured", "reached"];

/// All of it. Plots stand beside it.
pub fn results(report: &Report) -> String {
    let mut out = String::from("# Under fire\n\n");
    let _ = writeln!(
        out,
        "`make bench` writes this file. Taken on {}, {}.\n",
        plain(&report.machine),
        plain(&report.date)
    );
    if !report.goals.is_empty() {
        out.push_str("## To reach\n\n");
        goals(&mut out, &report.goals);
    }
    for table in &report.tables {
        let _ = writeln!(out, "## {}\n", plain(&table.title));
        if !table.how.trim().is_empty() {
            let _ = writeln!(out, "{}\n", paragraph(&table.how));
        }
        lines(&mut out, table);
    }
    for plot in &report.plots {
        let _ = writeln!(out, "## {}\n", plain(&plot.title));
        image(&mut out, plot, "");
    }
    for (title, text) in &report.appendices {
        let _ = writeln!(out, "## {}\n", plain(title));
        code(&mut out, text);
    }
    out.truncate(out.trim_end().len());
    out.push('\n');
    out
}

/// Goals and the first plot, for the README.
pub fn summary(report: &Report) -> String {
    let mut out = String::from("\n");
    let _ = writeln!(
        out,
        "Taken on {}, {}; how, and all figures: [benches/RESULTS.md](benches/RESULTS.md).\n",
        plain(&report.machine),
        plain(&report.date)
    );
    goals(&mut out, &report.goals);
    if let Some(plot) = report.shown_first() {
        image(&mut out, plot, "benches/");
    }
    out
}

fn goals(out: &mut String, goals: &[Goal]) {
    if goals.is_empty() {
        return;
    }
    let row = |goal: &Goal| {
        let reached = if goal.reached { "yes" } else { "**no**" };
        let cells = [&goal.what, &goal.wanted, &goal.measured];
        let mut cells: Vec<String> = cells.map(|cell| plain(cell)).to_vec();
        cells.push(reached.to_owned());
        cells
    };
    head(out, GOALS.map(|title| (title.to_owned(), false)));
    for goal in goals {
        line(out, row(goal));
    }
    out.push('\n');
    for (title, reached) in [("Not reached:", false), ("Remarks:", true)] {
        let said = |goal: &&Goal| goal.reached == reached && !goal.why.trim().is_empty();
        let mut said = goals.iter().filter(said).peekable();
        if said.peek().is_some() {
            let _ = writeln!(out, "{title}\n");
            for goal in said {
                let _ = writeln!(out, "- {}: {}", plain(&goal.what), plain(&goal.why));
            }
            out.push('\n');
        }
    }
}

fn lines(out: &mut String, table: &Table) {
    let titles = table.head.iter().enumerate();
    let titles = titles.map(|(column, title)| (plain(title), table.is_of_numbers(column)));
    head(out, titles);
    for row in &table.rows {
        let cells = 0..table.head.len();
        line(out, cells.map(|column| plain(Table::cell(row, column))));
    }
    out.push('\n');
}

/// Titles, each with whether its column goes to the right.
fn head(out: &mut String, titles: impl IntoIterator<Item = (String, bool)>) {
    let (titles, right): (Vec<String>, Vec<bool>) = titles.into_iter().unzip();
    line(out, titles);
    let rules = right
        .into_iter()
        .map(|right| if right { "---:" } else { "---" });
    line(out, rules.map(str::to_owned));
}

/// A row of a table.
fn line(out: &mut String, cells: impl IntoIterator<Item = String>) {
    out.push('|');
    for cell in cells {
        let _ = write!(out, " {} |", cell.replace('|', "\\|"));
    }
    out.push('\n');
}

fn image(out: &mut String, plot: &Plot, directory: &str) {
    let title = plain(&plot.title);
    let _ = writeln!(out, "![{title}]({directory}{})\n", plot.file);
}

/// A block of code, between fences longer than any in it.
fn code(out: &mut String, text: &str) {
    let longest = text
        .split(|c| c != '`')
        .map(str::len)
        .max()
        .unwrap_or_default();
    let fence = "`".repeat(longest.max(2) + 1);
    let _ = writeln!(out, "{fence}text\n{}\n{fence}\n", text.trim_end());
}

/// A text that begins a line.
fn paragraph(text: &str) -> String {
    let text = plain(text);
    match text.starts_with(['#', '>', '+', '-', '=']) {
        true => format!("\\{text}"),
        false => text,
    }
}

/// A text on one line, whose characters mean themselves, but for backquotes in pairs.
fn plain(text: &str) -> String {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let paired = text.matches('`').count() % 2 == 0;
    let mut out = String::with_capacity(text.len());
    let mut code = false;
    let mut before = ' ';
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        let within_word =
            before.is_alphanumeric() && rest.peek().is_some_and(|c| c.is_alphanumeric());
        let means_more = match c {
            '`' => !paired,
            _ if code => false,
            '_' => !within_word,
            _ => "\\*<[]~&".contains(c),
        };
        code ^= c == '`' && paired;
        if means_more {
            out.push('\\');
        }
        out.push(c);
        before = c;
    }
    out
}
