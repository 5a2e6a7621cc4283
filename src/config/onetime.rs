//! One-time lists: a sequence a line, each used once, as knockd(1) has them. A line is written
//! as knockd.conf writes a sequence (`7143,2912:udp,39001`); blank lines, and lines whose first
//! character is `#`, are passed over. The first line left is in force; when it is used its first
//! character becomes `#`, in order that knockd and Postern read each other's lists.

use super::Port;
use super::mistake::{Mistake, Place, Wrong};
use super::units;

/// Line numbers from 1 and the lines' text.
fn lines(text: &str) -> impl Iterator<Item = (u32, &str)> {
    (1..).zip(text.lines())
}

/// The sequence on a line; `None` for one that is blank, a comment or used.
fn steps(line: &str) -> Option<Result<Vec<Port>, Wrong>> {
    let written = line.trim();
    (!written.is_empty() && !written.starts_with('#')).then(|| units::sequence(written))
}

/// Lines that are in force now or later.
fn left(text: &str) -> impl Iterator<Item = (u32, Vec<Port>)> {
    lines(text).filter_map(|(number, line)| Some((number, steps(line)?.ok()?)))
}

/// The line in force, by its number from 1, and its steps. `None`: all are used.
pub fn current(text: &str) -> Option<(u32, Vec<Port>)> {
    left(text).next()
}

/// How many lines are left, the one in force with them.
pub fn count(text: &str) -> usize {
    left(text).count()
}

/// The text with `line` used. `None` unless `line` is the one in force ([`current`]): then
/// somebody has used it already or changed the file, and the grant must not be acted on.
pub fn spend(text: &str, line: u32) -> Option<String> {
    if current(text)?.0 != line {
        return None;
    }
    let before: usize = text
        .split_inclusive('\n')
        .take(usize::try_from(line).ok()? - 1)
        .map(str::len)
        .sum();
    let mut rest = text[before..].chars();
    rest.next()?;
    Some(format!("{}#{}", &text[..before], rest.as_str()))
}

/// The lines that are no sequence. They are passed over; `file` is the list's name for messages.
pub fn mistakes(file: &str, text: &str) -> Vec<Mistake> {
    let wrong = |(number, line): (u32, &str)| {
        let wrong = steps(line)?.err()?;
        let blanks = line.len() - line.trim_start().len();
        Some(Mistake {
            file: file.to_owned(),
            place: Place {
                line: usize::try_from(number).ok()?,
                column: line[..blanks].chars().count() + 1,
            },
            key: String::new(),
            what: wrong.what,
            right: format!(
                "{}; a line is a sequence such as 7143,2912:udp,39001",
                wrong.right
            ),
        })
    };
    lines(text).filter_map(wrong).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIST: &str = "# my list\n\n#111,222\n 7000,8000:udp,9000\r\n1,2,x\n4,5\n";

    #[test]
    fn the_first_line_left_is_in_force() {
        let shown = |text| {
            current(text).map(|(line, steps)| {
                let steps: Vec<String> = steps.iter().map(Port::to_string).collect();
                (line, steps.join(" "))
            })
        };
        assert_eq!(shown(LIST), Some((4, "7000/tcp 8000/udp 9000/tcp".into())));
        assert_eq!(count(LIST), 2);

        let second = spend(LIST, 4).unwrap();
        assert_eq!(
            second,
            "# my list\n\n#111,222\n#7000,8000:udp,9000\r\n1,2,x\n4,5\n"
        );
        assert_eq!(shown(&second), Some((6, "4/tcp 5/tcp".into())));
        assert_eq!(spend(&second, 4), None);

        let last = spend(&second, 6).unwrap();
        assert!(last.ends_with("\n#,5\n"));
        assert_eq!((shown(&last), count(&last)), (None, 0));
        assert_eq!(spend(&last, 6), None);
    }

    #[test]
    fn only_the_line_in_force_is_spent() {
        for line in [0, 1, 2, 3, 5, 6, 7, u32::MAX] {
            assert_eq!(spend(LIST, line), None, "line {line}");
        }
        assert_eq!(spend("", 1), None);
    }

    #[test]
    fn lines_that_are_no_sequence() {
        let found = mistakes("list", "1,2\n\u{a0} 1,ssh\n#,\n,\n");
        let shown: Vec<String> = found.iter().map(Mistake::to_string).collect();
        let right = "a line is a sequence such as 7143,2912:udp,39001";
        assert_eq!(
            shown,
            [
                format!(
                    "list:2:3: \"ssh\" is no port; names of services are not known here, \
                     write \"22\"; {right}"
                ),
                format!(
                    "list:4:1: \"\" is no port; write a number from 1 to 65535, such as \
                     \"22\" or \"53/udp\"; {right}"
                ),
            ]
        );
    }

    proptest! {
        #[test]
        fn spending_goes_through_the_list_once(
            lines in proptest::collection::vec("( ?[0-9]{1,5}(:udp)?,[0-9]{0,3}|#.*|.{0,9})\r?", 0..9),
            newline: bool,
        ) {
            let mut text = lines.join("\n");
            if newline {
                text.push('\n');
            }
            let mut met = 0;
            let left = count(&text);
            while let Some((line, _)) = current(&text) {
                let spent = spend(&text, line).unwrap();
                let changed: Vec<_> = text.chars().zip(spent.chars()).filter(|(a, b)| a != b).collect();
                prop_assert_eq!(changed.len(), 1);
                prop_assert_eq!(spent.lines().count(), text.lines().count());
                prop_assert_eq!(count(&spent), count(&text) - 1);
                text = spent;
                met += 1;
            }
            prop_assert_eq!(met, left);
            let _ = mistakes("f", &text);
        }
    }
}
