//! What listeners have counted, added up.

use super::super::wire::Counted;
use crate::knock::{Counters, spa};

/// The figures of one listener, or of several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Of the kernel and the attempts.
    pub counted: Counted,
    /// Of single packets.
    pub spa: spa::Counters,
}

impl Figures {
    /// Both together. A listener may say any figures.
    pub(super) fn and(self, other: Figures) -> Figures {
        let (a, b) = (self.counted, other.counted);
        let (of_a, of_b) = (a.attempts, b.attempts);
        let (spa_a, spa_b) = (self.spa, other.spa);
        Figures {
            counted: Counted {
                packets: a.packets.saturating_add(b.packets),
                dropped: a.dropped.saturating_add(b.dropped),
                attempts: Counters {
                    held: of_a.held.saturating_add(of_b.held),
                    evicted: of_a.evicted.saturating_add(of_b.evicted),
                    trapped: of_a.trapped.saturating_add(of_b.trapped),
                    failed: of_a.failed.saturating_add(of_b.failed),
                    timed_out: of_a.timed_out.saturating_add(of_b.timed_out),
                    ..of_a
                },
            },
            spa: spa::Counters {
                shapeless: spa_a.shapeless.saturating_add(spa_b.shapeless),
                over_budget: spa_a.over_budget.saturating_add(spa_b.over_budget),
                unauthenticated: spa_a.unauthenticated.saturating_add(spa_b.unauthenticated),
                malformed: spa_a.malformed.saturating_add(spa_b.malformed),
                stale: spa_a.stale.saturating_add(spa_b.stale),
                address: spa_a.address.saturating_add(spa_b.address),
                ports: spa_a.ports.saturating_add(spa_b.ports),
                ..spa_a
            },
        }
    }

    /// The same of a listener that is gone: it holds nothing.
    pub(super) fn of_the_gone(mut self) -> Figures {
        self.counted.attempts.held = 0;
        self
    }
}
