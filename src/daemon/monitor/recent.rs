//! Knocks that two listeners saw, while one took over from the other: each grants, once it counts.

use std::collections::HashMap;
use std::time::Duration;

use crate::firewall::Opening;
use crate::time::Time;

/// How far apart two grants of the same knock may come.
const SAME_KNOCK: Duration = Duration::from_secs(2);

/// Grants, by opening and line, that another listener may repeat.
#[derive(Debug, Default)]
pub(super) struct Recent {
    grants: HashMap<(Opening, u32), Grants>,
    /// When those of no use any more were last taken out.
    forgot_at: Time,
}

#[derive(Debug)]
struct Grants {
    /// Which generation's listener told them.
    generation: u32,
    /// How many of them no other has repeated yet.
    unrepeated: u32,
    /// When the last was told.
    at: Time,
}

impl Recent {
    /// Whether another listener has told of this knock before.
    pub(super) fn is_told(
        &mut self,
        opening: Opening,
        line: u32,
        generation: u32,
        now: Time,
    ) -> bool {
        let Some(grants) = self.grants.get_mut(&(opening, line)) else {
            return false;
        };
        let told = grants.generation != generation
            && grants.unrepeated > 0
            && now.since(grants.at) < SAME_KNOCK;
        if told {
            grants.unrepeated -= 1;
        }
        told
    }

    /// Remembers a knock that another listener may tell of, too.
    pub(super) fn tell(&mut self, opening: Opening, line: u32, generation: u32, now: Time) {
        let before = self.grants.get(&(opening, line));
        let before = before.filter(|b| b.generation == generation && now.since(b.at) < SAME_KNOCK);
        let unrepeated = before.map_or(0, |b| b.unrepeated).saturating_add(1);
        let grants = Grants {
            generation,
            unrepeated,
            at: now,
        };
        self.grants.insert((opening, line), grants);
    }

    /// Lets go of what is too long ago to be told again: what is held is bounded by what the
    /// doors allow in that time, however long listeners take over from each other.
    pub(super) fn forget(&mut self, now: Time) {
        if now.since(self.forgot_at) >= SAME_KNOCK {
            self.forgot_at = now;
            self.grants
                .retain(|_, grants| now.since(grants.at) < SAME_KNOCK);
        }
    }

    /// The doors have other places now, or none.
    pub(super) fn moved(&mut self, to: impl Fn(Opening) -> Option<Opening>) {
        let grants = self.grants.drain();
        self.grants = grants
            .filter_map(|((opening, line), grants)| Some(((to(opening)?, line), grants)))
            .collect();
    }
}

/// Proofs that have just been spent: each may come from another interface or listener, too. As
/// many as the keys' allowances let be spent in that time.
#[derive(Debug, Default)]
pub(super) struct Proofs {
    told: HashMap<[u8; 16], Time>,
}

impl Proofs {
    /// Whether the packet of this proof has just been told of.
    pub(super) fn is_told(&mut self, proof: &[u8; 16], now: Time) -> bool {
        self.told.retain(|_, at| now.since(*at) < SAME_KNOCK);
        self.told.contains_key(proof)
    }

    /// Remembers it.
    pub(super) fn tell(&mut self, proof: [u8; 16], now: Time) {
        self.told.insert(proof, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000;

    fn opening(n: u32) -> Opening {
        Opening {
            door: 0,
            address: std::net::IpAddr::from(n.to_be_bytes()).into(),
        }
    }

    /// Whether a grant of this generation counts at this time.
    fn counts(recent: &mut Recent, generation: u32, at: u64) -> bool {
        let told = recent.is_told(opening(1), 0, generation, Time(at));
        if !told {
            recent.tell(opening(1), 0, generation, Time(at));
        }
        !told
    }

    #[test]
    fn each_knock_counts_once_whichever_listener_tells_it_first() {
        let mut recent = Recent::default();
        assert!(counts(&mut recent, 7, 0));
        assert!(!counts(&mut recent, 8, 1));
        // One more, within the time, that the new one alone has seen.
        assert!(counts(&mut recent, 8, SECOND));
        assert!(counts(&mut recent, 8, SECOND + 1));
        // The one before has seen them after all, and then one that the new one has not.
        assert!(!counts(&mut recent, 7, SECOND + 2));
        assert!(!counts(&mut recent, 7, SECOND + 3));
        assert!(counts(&mut recent, 7, SECOND + 4));
    }

    #[test]
    fn lines_addresses_and_later_knocks_are_others() {
        let mut recent = Recent::default();
        recent.tell(opening(1), 4, 7, Time(0));
        assert!(!recent.is_told(opening(1), 5, 8, Time(0)));
        assert!(!recent.is_told(opening(2), 4, 8, Time(0)));
        assert!(!recent.is_told(opening(1), 4, 8, Time(2 * SECOND)));
        assert!(recent.is_told(opening(1), 4, 8, Time(2 * SECOND - 1)));
    }

    #[test]
    fn it_is_bounded_by_time() {
        let mut recent = Recent::default();
        for n in 0..100_000 {
            let now = Time(u64::from(n) * 1000);
            recent.tell(opening(n), 0, 7, now);
            recent.forget(now);
        }
        assert!(recent.grants.len() <= 4001, "{}", recent.grants.len());
    }
}
