//! What posternctl convert makes, as its reader would finish it.

use postern::config::convert::Converted;
use postern::config::{Port, Protocol};

/// A step that takes a sequence out of the textbook.
pub const MORE: Port = Port {
    protocol: Protocol::Udp,
    number: 61_001,
};

/// What is made, with sequences in the place of the textbook's: those and a step more.
pub fn finished(made: &Converted) -> String {
    let more = format!(", \"{MORE}\"]\n");
    let (mut text, mut stands) = (String::new(), false);
    for line in made.text.split_inclusive('\n') {
        // A door that is left out is a comment as a whole.
        stands = line.starts_with('[') || (stands && !line.starts_with("#["));
        match line.strip_prefix("#sequence = ") {
            Some(steps) if stands => {
                text.push_str("sequence = ");
                text.push_str(&steps.replace("]\n", &more));
            }
            _ => text.push_str(line),
        }
    }
    text
}
