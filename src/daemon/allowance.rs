//! So many at once, so many a second.

use crate::time::Time;

/// What may still be done of something.
#[derive(Clone, Copy, Debug)]
pub struct Allowance {
    left: f64,
    at: Time,
    per_second: f64,
    most: f64,
}

impl Allowance {
    /// `most` saved up at `now`, `per_second` earned from then on.
    pub fn new(per_second: f64, most: f64, now: Time) -> Allowance {
        Allowance {
            left: most,
            at: now,
            per_second,
            most,
        }
    }

    /// Whether there may be one more at `now`; a clock that steps back earns nothing.
    pub fn take(&mut self, now: Time) -> bool {
        let earned = now.since(self.at).as_secs_f64() * self.per_second;
        self.left = (self.left + earned).min(self.most);
        self.at = now.max(self.at);
        let allowed = self.left >= 1.0;
        if allowed {
            self.left -= 1.0;
        }
        allowed
    }
}
