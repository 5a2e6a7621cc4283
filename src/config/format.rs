//! Which of the two formats a file is in.

use super::mistake::{self, Mistake, Parsed};
use super::{knockd, toml};

/// What a configuration is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// postern.toml
    Postern,
    /// knockd.conf
    Knockd,
}

impl Format {
    /// By the end of the file's name: `.toml` is ours, `.conf` is knockd's. A file of any other
    /// name is knockd's if a line of it gives `Sequence` or `One_Time_Sequences` a value that
    /// begins neither with `[` nor with a quote: that is in every right knockd.conf, and in a
    /// right postern.toml only within a text of several lines, so a right one is ours all the
    /// same.
    pub fn of(file: &str, bytes: &[u8]) -> Format {
        if file.ends_with(".toml") {
            return Format::Postern;
        }
        let text = String::from_utf8_lossy(bytes);
        let looks = || text.split('\n').any(is_knockds) && toml::parse(file, &text).is_err();
        match file.ends_with(".conf") || looks() {
            true => Format::Knockd,
            false => Format::Postern,
        }
    }
}

fn is_knockds(line: &str) -> bool {
    let Some((key, value)) = line.split_once('=') else {
        return false;
    };
    let (key, value) = (key.trim(), value.trim());
    let steps = ["sequence", "one_time_sequences"];
    steps.iter().any(|name| key.eq_ignore_ascii_case(name)) && !value.starts_with(['[', '"', '\''])
}

/// Reads a configuration in either format; `file` is its name.
///
/// # Errors
/// Every mistake, in the order of the text.
pub fn read(file: &str, bytes: &[u8]) -> Result<Parsed, Vec<Mistake>> {
    match Format::of(file, bytes) {
        Format::Postern => match mistake::utf8(file, bytes) {
            Ok(text) => toml::read(file, text),
            Err(mistake) => Err(vec![mistake]),
        },
        // Comments may be in any encoding; what is no UTF-8 elsewhere is refused there.
        Format::Knockd => knockd::read(file, &String::from_utf8_lossy(bytes)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_name_or_by_look() {
        let of = |file, text: &str| Format::of(file, text.as_bytes());
        let (ours, theirs) = (
            "[[door.a.knock]]\n sequence = [\"7000\"]\n",
            "# é\n[a]\n\tSEQUENCE\t= 7000,8000\n",
        );
        for text in [ours, theirs, ""] {
            assert_eq!(of("postern.toml", text), Format::Postern);
            assert_eq!(of("/etc/knockd.conf", text), Format::Knockd);
        }
        for name in ["knockd.conf.sample", "knockd.conf~", "x", ".TOML"] {
            assert_eq!(of(name, theirs), Format::Knockd, "{name}");
            assert_eq!(of(name, ours), Format::Postern, "{name}");
        }
        let lists = |value: &str| of("x", &format!("one_time_sequences = {value}"));
        assert_eq!(lists("/etc/list"), Format::Knockd);
        assert_eq!(lists("\"/etc/list\""), Format::Postern);
        assert_eq!(lists("'/etc/list'"), Format::Postern);
        assert_eq!(of("x", "# sequence = 7000"), Format::Postern);
        let several = "[door.a]\nstart_command = \"\"\"\nsequence = 7\n\"\"\"\n[[door.a.knock]]\nsequence = [7]";
        assert_eq!(of("x", several), Format::Postern);
    }
}
