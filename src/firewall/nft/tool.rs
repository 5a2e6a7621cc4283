//! nft(8) itself.

use super::super::{Failure, filter, run};
use super::TABLE;
use super::script::Script;
use super::table::Table;

/// nft.
#[derive(Debug)]
pub struct Tool(filter::Tool);

impl Tool {
    /// nft, looked for in these directories.
    pub fn new(path: &str) -> Tool {
        Tool(filter::Tool::new("nft", path))
    }

    fn run(&mut self, args: &[&str], stdin: &[u8]) -> Result<Vec<u8>, Failure> {
        Ok(self.0.run(args, stdin)?.accepted(errors)?.stdout)
    }

    /// One transaction.
    pub fn execute(&mut self, script: &Script) -> Result<(), Failure> {
        self.run(&["-f", "-"], script.as_str().as_bytes()).map(drop)
    }

    /// The table as it stands; `None`: there is none.
    pub fn read(&mut self) -> Result<Option<Table>, Failure> {
        match self.run(&["-j", "-a", "list", "table", "inet", TABLE], b"") {
            Ok(text) => Table::parse(&text).map(Some).ok_or_else(|| {
                Failure::Unexpected(format!("nft: listing of table inet {TABLE} not understood"))
            }),
            // ENOENT, in the words of the C locale.
            Err(Failure::Refused { output, .. })
                if output.contains("No such file or directory") =>
            {
                Ok(None)
            }
            Err(failure) => Err(failure),
        }
    }
}

/// Of what nft printed, the errors, each with the beginning of the line at fault.
pub fn errors(output: &[u8]) -> String {
    let text = String::from_utf8_lossy(output);
    let lines: Vec<&str> = text.lines().collect();
    let errors: Vec<String> = lines
        .iter()
        .enumerate()
        .filter_map(|(place, line)| {
            let (_, error) = line.split_once("Error: ")?;
            let fault = lines.get(place + 1).map_or("", |line| line.trim());
            Some(match fault.char_indices().nth(80) {
                Some((end, _)) => format!("{error}: {}...", &fault[..end]),
                None if fault.is_empty() => error.to_owned(),
                None => format!("{error}: {fault}"),
            })
        })
        .take(3)
        .collect();
    match errors.as_slice() {
        [] => run::on_one_line(output),
        some => run::on_one_line(some.join("; ").as_bytes()),
    }
}
