//! What is measured of the rooms that decide: cases by name, each one arrival (or one grant) at a
//! time, again and again. `rooms.rs` takes their time, `counted.rs` is there to have their
//! instructions counted.

use std::fmt;

use postern::config::units::show_number;

pub mod knock;
pub mod lease;
pub mod packet;
pub mod spa;

/// One arrival.
pub type Arrive = Box<dyn FnMut()>;

/// What is measured by a name.
pub struct Case {
    /// Unique in its room.
    pub name: String,
    make: Box<dyn Fn() -> Arrive + Send + Sync>,
}

impl Case {
    fn new<A: FnMut() + 'static>(
        name: impl Into<String>,
        make: impl Fn() -> A + Send + Sync + 'static,
    ) -> Case {
        Case {
            name: name.into(),
            make: Box::new(move || Box::new(make())),
        }
    }

    /// Sets it up. The state that it is in then lasts, however many arrivals there are.
    pub fn make(&self) -> Arrive {
        (self.make)()
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// What it takes to call a case, which is in all the others, too.
pub fn nothing() -> Vec<Case> {
    vec![Case::new("an empty arrival", || || ())]
}

/// The Nth of so many addresses of IPv4 that anybody can knock from, in no order; after 16
/// million they come again.
fn source(n: u64) -> u32 {
    10 << 24 | (n.wrapping_mul(0x9e_3779) & 0xff_ffff) as u32
}

/// `1 door`, `1,000 doors`.
fn several(n: u64, what: &str) -> String {
    let plural = if n == 1 { "" } else { "s" };
    format!("{} {what}{plural}", show_number(n))
}
