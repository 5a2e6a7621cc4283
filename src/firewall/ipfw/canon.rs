//! How this machine's ipfw(8) lists the rules that we make: each version has its own way.

use std::collections::BTreeMap;

use crate::config::Network;

use super::layout::{Form, Rule, example, moment};
use super::listing::{Line, comment};

/// A rule that should stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due {
    /// The rule.
    pub rule: Rule,
    /// What it is an example of; `None`: of itself.
    lease: Option<Lease>,
}

/// A rule that lets one address in.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Lease {
    example: String,
    address: Network,
    until: u32,
}

impl Due {
    /// A rule that stands as long as the doors.
    pub fn lasting(rule: &Rule) -> Due {
        Due {
            rule: rule.clone(),
            lease: None,
        }
    }

    /// The rule of this form for an address.
    pub fn lease(number: u16, form: &Form, address: Network, until: u32) -> Due {
        Due {
            rule: Rule {
                number,
                text: form.text(address, until),
            },
            lease: Some(Lease {
                example: form.text(example(address), 0),
                address,
                until,
            }),
        }
    }

    /// Whether it lets one address in.
    pub fn is_lease(&self) -> bool {
        self.lease.is_some()
    }

    /// Its comment.
    pub fn comment(&self) -> &str {
        comment(&self.rule.text)
    }
}

/// From texts as we write them (addresses and times as in examples) to texts as they are listed.
#[derive(Clone, Debug, Default)]
pub struct Canon(BTreeMap<String, String>);

impl Canon {
    /// Those of these texts of which it is not known how they are listed.
    pub fn unknown(&self, texts: Vec<String>) -> Vec<String> {
        let unknown = |text: &String| !self.0.contains_key(text);
        texts.into_iter().filter(unknown).collect()
    }

    /// Learns how a text is listed.
    pub fn insert(&mut self, text: String, listed: String) {
        self.0.insert(text, listed);
    }

    /// How a rule is listed.
    pub fn listed(&self, due: &Due) -> String {
        let known = |text: &str| self.0.get(text).map_or(text, String::as_str).to_owned();
        match &due.lease {
            None => known(&due.rule.text),
            Some(lease) => known(&lease.example)
                .replacen(
                    &example(lease.address).to_string(),
                    &lease.address.to_string(),
                    1,
                )
                .replacen(&moment(0), &moment(lease.until), 1),
        }
    }

    /// Learns from what stands where these rules were made just now, all at one number. Whether
    /// they are there.
    pub fn learn(&mut self, made: &[Due], found: &[Line]) -> bool {
        let ours: Vec<&Line> = found.iter().filter(|line| line.is_ours()).collect();
        let same = |(due, line): (&Due, &&Line)| due.comment() == line.comment();
        if ours.len() != made.len() || !made.iter().zip(&ours).all(same) {
            return false;
        }
        for (due, line) in made.iter().zip(ours) {
            if self.listed(due) == line.text {
                continue;
            }
            let (text, listed) = match &due.lease {
                None => (&due.rule.text, line.text.clone()),
                Some(lease) => (
                    &lease.example,
                    line.text
                        .replacen(
                            &lease.address.to_string(),
                            &example(lease.address).to_string(),
                            1,
                        )
                        .replacen(&moment(lease.until), &moment(0), 1),
                ),
            };
            self.insert(text.clone(), listed);
        }
        true
    }
}
