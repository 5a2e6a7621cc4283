//! knockd.conf by its lines, as knockd takes them.

/// A line that says something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Line<'t> {
    /// `[name]`: the name is all that stands between the brackets.
    Section(&'t str),
    /// A word without `=`.
    Bare(&'t str),
    /// `key = value`, both trimmed.
    Given(Given<'t>),
}

/// A key and its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Given<'t> {
    /// As it is written; knockd does not mind capitals.
    pub key: &'t str,
    /// Where the key begins: bytes from the beginning of the text.
    pub at: usize,
    pub value: &'t str,
    /// Where the value begins.
    pub value_at: usize,
}

/// What C's isspace(3) takes for a blank in the C locale.
pub(super) fn blank(c: char) -> bool {
    matches!(c, ' ' | '\t'..='\r')
}

/// `text` without blanks at both ends, and how many bytes there were before it.
fn trimmed(text: &str) -> (&str, usize) {
    let from = text.trim_start_matches(blank);
    (from.trim_end_matches(blank), text.len() - from.len())
}

/// Everything that is neither blank nor a comment, and where it begins. A comment is a line
/// whose first character is `#`.
pub(super) fn lines(text: &str) -> impl Iterator<Item = (usize, Line<'_>)> {
    let mut start = 0;
    text.split('\n').filter_map(move |whole| {
        let (line, before) = trimmed(whole);
        let at = start + before;
        start += whole.len() + 1;
        (!line.is_empty() && !line.starts_with('#')).then(|| (at, read(line, at)))
    })
}

fn read(line: &str, at: usize) -> Line<'_> {
    // `[` alone is no section, `[]` is one without a name.
    let section = line
        .strip_prefix('[')
        .and_then(|inner| inner.strip_suffix(']'));
    if let Some(name) = section {
        return Line::Section(name);
    }
    let Some((key, value)) = line.split_once('=') else {
        return Line::Bare(line);
    };
    let value_at = at + key.len() + 1;
    let (value, before) = trimmed(value);
    Line::Given(Given {
        key: trimmed(key).0,
        at,
        value,
        value_at: value_at + before,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_knockd_takes_them() {
        let text = "# a\n\n \t[ a b ] \r\nUseSyslog\n  Sequence\t=  1,2 = 3 # 4 \n[x] # y\n[]\n[\n =\n  # b";
        let given = |key, at, value, value_at| {
            Line::Given(Given {
                key,
                at,
                value,
                value_at,
            })
        };
        let found: Vec<_> = lines(text).collect();
        let wanted = [
            (7, Line::Section(" a b ")),
            (17, Line::Bare("UseSyslog")),
            (29, given("Sequence", 29, "1,2 = 3 # 4", 41)),
            (54, Line::Bare("[x] # y")),
            (62, Line::Section("")),
            (65, Line::Bare("[")),
            (68, given("", 68, "", 69)),
        ];
        assert_eq!(found, wanted);
        for (at, _) in found {
            assert!(!text[at..].starts_with(blank));
        }
    }
}
