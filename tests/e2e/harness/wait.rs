//! Waiting for a condition.

use std::thread;
use std::time::{Duration, Instant};

/// How long anything may take that nothing else has a time for.
pub const LIMIT: Duration = Duration::from_secs(20);

const POLL: Duration = Duration::from_millis(20);

/// What `look` finds, as soon as it finds it. `POSTERN_TEST_SLOW`, a number, multiplies `limit`
/// on machines that are slow.
pub fn eventually<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let slow = std::env::var("POSTERN_TEST_SLOW")
        .ok()
        .and_then(|s| s.parse().ok());
    let limit = limit.mul_f64(slow.unwrap_or(1.0));
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < limit, "not within {limit:?}: {what}");
        thread::sleep(POLL);
    }
}

/// The same for a plain condition, within [`LIMIT`].
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    eventually(what, LIMIT, || holds().then_some(()));
}
