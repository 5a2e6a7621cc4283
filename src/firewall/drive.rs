//! Whether addresses are let in by a call of the kernel's own or by the packet filter's command.

use crate::config::Drive;

use super::Driven;

/// Why the kernel did not do as it was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// What stands there is not what it should be: the command looks, and mends it.
    Amiss,
    /// It takes no such calls, or not this one, in its words. Another time it may.
    Refused(String),
    /// What it would take is not known here.
    Unknown(String),
}

/// By which way the last orders went, and by which the next shall go.
#[derive(Debug)]
pub struct Way {
    by: Drive,
    unknown: bool,
    /// Whether the kernel took the last call of any kind; else why not.
    ready: Result<(), String>,
    /// The same of the last orders.
    last: Option<Result<(), String>>,
}

impl Way {
    /// By the command, until something else is said.
    pub fn new() -> Way {
        Way {
            by: Drive::Command,
            unknown: false,
            ready: Ok(()),
            last: None,
        }
    }

    /// How the configuration would have it.
    pub fn shall_be(&mut self, by: Drive) {
        *self = Way { by, ..Way::new() };
    }

    /// Whether the kernel is to be tried.
    pub fn in_process(&self) -> bool {
        self.by == Drive::InProcess && !self.unknown
    }

    /// Takes down what became of a question.
    pub fn asked<T>(&mut self, result: &Result<T, Refusal>) {
        if let Some(result) = self.words(result) {
            self.ready = result;
        }
    }

    /// Takes down what became of orders.
    pub fn carried_out<T>(&mut self, result: &Result<T, Refusal>) {
        self.last = self.words(result).or(self.last.take());
    }

    fn words<T>(&mut self, result: &Result<T, Refusal>) -> Option<Result<(), String>> {
        match result {
            Ok(_) => Some(Ok(())),
            Err(Refusal::Amiss) => None,
            Err(Refusal::Refused(why)) => Some(Err(why.clone())),
            Err(Refusal::Unknown(why)) => {
                self.unknown = true;
                Some(Err(why.clone()))
            }
        }
    }

    /// For [`super::Firewall::driven`].
    pub fn driven(&self) -> Driven {
        let why = match (self.by, &self.last) {
            (Drive::Command, _) => {
                return Driven {
                    by: self.by,
                    why: None,
                };
            }
            (Drive::InProcess, Some(last)) if !self.unknown => last.as_ref().err(),
            (Drive::InProcess, _) => self.ready.as_ref().err(),
        };
        Driven {
            by: match why {
                Some(_) => Drive::Command,
                None => Drive::InProcess,
            },
            why: why.cloned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(why: &str) -> Result<(), Refusal> {
        Err(Refusal::Refused(why.to_owned()))
    }

    fn shown(way: &Way) -> (Drive, Option<String>) {
        let Driven { by, why } = way.driven();
        (by, why)
    }

    #[test]
    fn it_tells_of_the_last_orders_or_else_of_the_last_question() {
        let mut way = Way::new();
        assert!(!way.in_process());
        assert_eq!(shown(&way), (Drive::Command, None));
        way.shall_be(Drive::InProcess);
        assert_eq!(shown(&way), (Drive::InProcess, None));
        way.asked(&refused("not loaded"));
        assert_eq!(shown(&way), (Drive::Command, Some("not loaded".to_owned())));
        assert!(way.in_process(), "it is tried again");
        way.asked::<()>(&Ok(()));
        assert_eq!(shown(&way), (Drive::InProcess, None));
        way.carried_out(&refused("another kind"));
        way.asked::<()>(&Ok(()));
        let why = Some("another kind".to_owned());
        assert_eq!(shown(&way), (Drive::Command, why.clone()));
        way.carried_out::<()>(&Err(Refusal::Amiss));
        assert_eq!(shown(&way), (Drive::Command, why));
        way.carried_out::<()>(&Ok(()));
        assert_eq!(shown(&way), (Drive::InProcess, None));
    }

    #[test]
    fn what_is_not_known_is_not_tried_again() {
        let mut way = Way::new();
        way.shall_be(Drive::InProcess);
        way.carried_out::<()>(&Ok(()));
        way.asked::<()>(&Err(Refusal::Unknown("new".to_owned())));
        assert!(!way.in_process());
        assert_eq!(shown(&way), (Drive::Command, Some("new".to_owned())));
        way.shall_be(Drive::InProcess);
        assert!(way.in_process(), "until the configuration is read again");
    }
}
