//! How many HMACs a second this machine affords.

use std::hint::black_box;
use std::time::{Duration, Instant};

use crate::config::Mac;
use crate::knock::spa::{KeyWatch, MACS};
use crate::spa::{Opener, longest, shape};

/// What a second of a flood may cost: half a processor. The other half is for sequences.
const SHARE: Duration = Duration::from_millis(500);

/// More than a kernel delivers packets.
const MOST: u64 = 1_000_000;

/// The shortest of so many tries counts: whatever else runs makes the others longer.
const TRIES: usize = 16;
/// HMACs a try.
const EACH: u32 = 8;

/// How many HMACs of these keys may be computed a second, were all packets as long as they can be:
/// [`MACS`] at least. It takes a millisecond or two to find out.
pub(super) fn affordable(keys: &[KeyWatch]) -> u64 {
    let kinds = [Mac::Sha256, Mac::Sha512];
    let of = |mac| keys.iter().find(|key| key.secret.mac == mac);
    let dearest = kinds
        .into_iter()
        .filter_map(|mac| Some(cost(of(mac)?)))
        .max();
    within(dearest.unwrap_or_default())
}

/// How many of this cost are within [`SHARE`].
fn within(cost: Duration) -> u64 {
    let many = SHARE.as_nanos() / cost.as_nanos().max(1);
    u64::try_from(many).unwrap_or(MOST).clamp(MACS, MOST)
}

/// What one HMAC costs with this key, and the first look that comes before.
fn cost(key: &KeyWatch) -> Duration {
    let opener = Opener::new(&key.secret);
    let payload = longest(key.secret.mac);
    let once = || {
        let begun = Instant::now();
        for _ in 0..EACH {
            black_box(shape(black_box(&payload)).and_then(|shaped| opener.verify(&shaped)));
        }
        begun.elapsed() / EACH
    };
    (0..TRIES).map(|_| once()).min().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_a_processor_and_no_less_than_before_it_is_known() {
        let ns = Duration::from_nanos;
        assert_eq!(within(ns(0)), MOST);
        assert_eq!(within(ns(100)), MOST);
        assert_eq!(within(ns(2000)), 250_000);
        assert_eq!(within(ns(50_000)), MACS);
        assert_eq!(affordable(&[]), MOST);
    }
}
