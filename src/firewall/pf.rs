//! pf.

use std::time::Duration;

use crate::config::{Door, Network};

use super::{Done, Failure, Firewall, Opening, Order, Upkeep, run};

/// pf.
#[derive(Debug)]
pub struct Pf {
    path: String,
    interfaces: Vec<String>,
    always: Vec<Network>,
}

impl Pf {
    /// pf on these interfaces; `any` or none: all but the loopback. Its command is looked for in
    /// [`run::PATH`].
    pub fn new(interfaces: &[String], always: &[Network]) -> Result<Pf, Failure> {
        Pf::with_path(interfaces, always, run::PATH)
    }

    /// The same with the command looked for elsewhere.
    pub fn with_path(interfaces: &[String], always: &[Network], path: &str) -> Result<Pf, Failure> {
        Ok(Pf {
            path: path.to_owned(),
            interfaces: interfaces.to_vec(),
            always: always.to_vec(),
        })
    }
}

impl Firewall for Pf {
    fn name(&self) -> &'static str {
        "pf"
    }

    fn establish(
        &mut self,
        _doors: &[Door],
        _openings: &[(Opening, Option<Duration>)],
    ) -> Result<Upkeep, Failure> {
        todo!()
    }

    fn uphold(&mut self, _openings: &[(Opening, Option<Duration>)]) -> Result<Upkeep, Failure> {
        todo!()
    }

    fn apply(&mut self, _orders: &[Order]) {
        todo!()
    }

    fn done(&mut self) -> Vec<Done> {
        todo!()
    }

    fn openings(&mut self) -> Result<Vec<Opening>, Failure> {
        todo!()
    }

    fn remove(&mut self) -> Result<(), Failure> {
        todo!()
    }
}
