//! ipfw(8) itself.

use std::collections::BTreeSet;

use super::super::{Failure, filter, run};
use super::batch::{Batch, Table};
use super::layout::Rule;
use super::listing::{self, Found, Rules};

/// A batch that comes through its standard input.
const BATCH: &str = "/dev/stdin";
/// How much of the line at fault a failure shows.
const SHOWN: usize = 120;
/// ESRCH, in the words of the C locale.
const NO_TABLE: &str = "failed to request table info: No such process";
/// ENOPROTOOPT: nobody in the kernel takes ipfw's options.
const NOT_LOADED: &str = "Protocol not available";

/// ipfw.
#[derive(Debug)]
pub struct Tool(filter::Tool);

/// What a batch printed, up to its end or its failure.
struct Ran {
    stdout: String,
    failed: Option<Failed>,
}

struct Failed {
    /// The line of the batch at fault, counted from 1.
    line: Option<usize>,
    failure: Failure,
}

impl Tool {
    /// ipfw, looked for in these directories.
    pub fn new(path: &str) -> Tool {
        Tool(filter::Tool::new("ipfw", path))
    }

    fn run(&mut self, args: &[&str], batch: &Batch) -> Result<Ran, Failure> {
        let ran = self.0.run(args, batch.as_str().as_bytes())?;
        let stdout = String::from_utf8_lossy(&ran.stdout).into_owned();
        let failed = (!ran.status.success()).then(|| {
            let said = run::on_one_line(&ran.stderr);
            let line = line_at_fault(&said);
            let failure = match said.contains(NOT_LOADED) {
                true => not_loaded(),
                false => Failure::Refused {
                    command: ran.command,
                    status: run::in_words(ran.status),
                    output: with_line(said, line, batch),
                },
            };
            Failed { line, failure }
        });
        Ok(Ran { stdout, failed })
    }

    /// Carries out changes; what lists among them printed.
    pub fn execute(&mut self, batch: &Batch) -> Result<String, Failure> {
        let ran = self.run(&["-q", BATCH], batch)?;
        match ran.failed {
            Some(failed) => Err(failed.failure),
            None => Ok(ran.stdout),
        }
    }

    /// How rules are listed, in their order: nothing is touched, and nothing asked of the kernel.
    pub fn canonical(&mut self, rules: &[Rule]) -> Result<Vec<String>, Failure> {
        let mut batch = Batch::default();
        for rule in rules {
            batch.add(rule);
        }
        let ran = self.run(&["-n", BATCH], &batch)?;
        if let Some(failed) = ran.failed {
            return Err(failed.failure);
        }
        let texts = ran.stdout.lines().map(|line| Some(line.split_once(' ')?.1));
        let texts: Option<Vec<String>> = texts
            .map(|text| text.map(|text| text.trim().to_owned()))
            .collect();
        texts
            .filter(|texts| texts.len() == rules.len())
            .ok_or_else(|| Failure::Unexpected("ipfw -n: what it printed is not understood".into()))
    }

    /// The rules of our set.
    pub fn rules(&mut self) -> Result<Rules, Failure> {
        let mut batch = Batch::default();
        batch.list_rules();
        let text = self.execute(&batch)?;
        listing::rules(text.lines()).ok_or_else(not_understood)
    }

    /// The rules of our set, and those of these tables that are there.
    pub fn read(&mut self, tables: &BTreeSet<Table>) -> Result<Found, Failure> {
        let mut asked: Vec<&Table> = tables.iter().collect();
        loop {
            let mut batch = Batch::default();
            batch.list_rules();
            batch.all_tables();
            for table in &asked {
                batch.info(table);
                batch.list(table);
            }
            let ran = self.run(&[BATCH], &batch)?;
            let Some(Failed { line, failure }) = ran.failed else {
                return Found::parse(&ran.stdout, &asked).ok_or_else(not_understood);
            };
            // Two lines stand before those about tables.
            let fault = match (&failure, line.and_then(|line| line.checked_sub(3))) {
                (Failure::Refused { output, .. }, Some(line)) if output.contains(NO_TABLE) => {
                    line / 2
                }
                _ => return Err(failure),
            };
            if fault >= asked.len() {
                return Err(failure);
            }
            // Others that are missing as well need not be found one by one.
            let names = Found::names(&ran.stdout);
            let mut place = 0;
            asked.retain(|table| {
                place += 1;
                place - 1 != fault && names.contains(table.name())
            });
        }
    }
}

/// Of `Line 3: what is wrong`: 3.
fn line_at_fault(said: &str) -> Option<usize> {
    let (_, rest) = said.split_once("Line ")?;
    rest.split_once(':')?.0.parse().ok()
}

/// What was said and, behind it, the line that it was said of.
fn with_line(said: String, line: Option<usize>, batch: &Batch) -> String {
    let text = line.and_then(|line| batch.as_str().lines().nth(line.checked_sub(1)?));
    match text.map(|text| (text, text.char_indices().nth(SHOWN))) {
        Some((text, Some((end, _)))) => format!("{said} ({}...)", &text[..end]),
        Some((text, None)) => format!("{said} ({text})"),
        None => said,
    }
}

fn not_understood() -> Failure {
    Failure::Unexpected("ipfw: listing of rules and tables not understood".to_owned())
}

fn not_loaded() -> Failure {
    Failure::Unexpected(
        "ipfw is not loaded. Write firewall_enable=\"YES\" and a firewall_type or firewall_script \
         to /etc/rc.conf and run `service ipfw start`; posternd does not load it, since loaded \
         alone it denies everything"
            .to_owned(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_at_fault() {
        let mut batch = Batch::default();
        batch.list_rules();
        batch.all_tables();
        let said = "Line 2: getsockopt(IP_FW_XADD): Invalid argument";
        assert_eq!(line_at_fault(said), Some(2));
        assert_eq!(
            with_line(said.to_owned(), Some(2), &batch),
            format!("{said} (table all info)")
        );
        for odd in ["", "Line", "Line x: y", "ipfw: bad command"] {
            assert_eq!(line_at_fault(odd), None, "{odd}");
        }
        assert_eq!(with_line("odd".to_owned(), Some(9), &batch), "odd");
        assert_eq!(with_line("odd".to_owned(), Some(0), &batch), "odd");
    }
}
