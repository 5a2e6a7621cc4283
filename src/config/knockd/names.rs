//! Names of doors: knockd's may be anything, and the same one may stand there twice; ours
//! become part of other names.

use std::collections::BTreeSet;

use super::super::{bounds, toml};

/// For each name one that a door can have, none twice: itself where that can be, else one that
/// looks like it.
pub(super) fn ours(theirs: &[&str]) -> Vec<String> {
    let mut taken: BTreeSet<String> = BTreeSet::new();
    let keep: Vec<bool> = theirs
        .iter()
        .map(|name| toml::door_name(name).is_ok() && taken.insert((*name).to_owned()))
        .collect();
    let free = |name: &str, taken: &mut BTreeSet<String>| {
        let fits = |name: &String| toml::door_name(name).is_ok() && !taken.contains(name);
        let mut tries = std::iter::once(name.to_owned()).chain((2u32..).map(|n| {
            let end = format!("-{n}");
            let most = (*bounds::DOOR_NAME.end()).saturating_sub(end.len());
            format!("{}{end}", &name[..name.len().min(most)])
        }));
        let found = tries.find(fits).unwrap_or_default();
        taken.insert(found.clone());
        found
    };
    theirs
        .iter()
        .zip(keep)
        .map(|(name, keep)| match keep {
            true => (*name).to_owned(),
            false => free(&alike(name), &mut taken),
        })
        .collect()
}

/// Only characters that the name of a door can have, in the right places.
fn alike(name: &str) -> String {
    let plain = |c: char| match c.is_ascii_alphanumeric() || c == '_' {
        true => c,
        false => '-',
    };
    let mut alike: String = name.chars().map(plain).collect();
    alike = alike.trim_matches('-').to_owned();
    if !alike.starts_with(|c: char| c.is_ascii_alphabetic()) {
        alike = format!("door-{alike}");
    }
    alike.truncate(*bounds::DOOR_NAME.end());
    alike.trim_end_matches('-').to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn alike_and_unique() {
        let theirs = [
            "ssh",
            "ssh",
            "ssh-2",
            " my ssh ",
            "22",
            "always",
            "",
            "é",
            "a-name-of-more-than-24-letters",
            "a-name-of-more-than-24-let",
        ];
        let wanted = [
            "ssh",
            "ssh-3",
            "ssh-2",
            "my-ssh",
            "door-22",
            "always-2",
            "door",
            "door-2",
            "a-name-of-more-than-24-l",
            "a-name-of-more-than-24-2",
        ];
        assert_eq!(ours(&theirs), wanted);
    }

    proptest! {
        #[test]
        fn any_names(theirs in proptest::collection::vec("(ssh|always|.{0,30})", 0..40)) {
            let theirs: Vec<&str> = theirs.iter().map(String::as_str).collect();
            let ours = ours(&theirs);
            let unique: BTreeSet<&String> = ours.iter().collect();
            prop_assert_eq!(unique.len(), theirs.len());
            for (ours, theirs) in ours.iter().zip(&theirs) {
                prop_assert!(toml::door_name(ours).is_ok(), "{:?} for {:?}", ours, theirs);
            }
        }
    }
}
