//! What a journal comes to when it is taken up again, by the monitor or by `posternctl reap`.

use std::time::Duration;

use crate::config::Door;
use crate::firewall::{Opening, Order, What};
use crate::journal::{Entry, Recovered};
use crate::knock::can_knock;
use crate::lease::{Lease, Leases};
use crate::time::Time;

/// How long a stop command may run whose door is configured no more.
pub const RUN_LIMIT: Duration = Duration::from_secs(60);

/// What is left to do of what a journal says.
#[derive(Debug, Default)]
pub struct TakenUp {
    /// Openings of leases that go on but are not known to have been made, and the closing of
    /// what is over.
    pub orders: Vec<Order>,
    /// What belongs to doors that are configured no more, or have no stop command now.
    pub orphans: Vec<Entry>,
}

/// Puts the leases that go on at `now` back into `leases`, and says what else there is to do.
pub fn take_up(recovered: Recovered, doors: &[Door], leases: &mut Leases, now: Time) -> TakenUp {
    let mut taken = TakenUp::default();
    for entry in recovered.entries {
        // A stop command can only be owed by a door as it was.
        let fits =
            |door: &&Door| door.name == entry.door && (entry.stop.is_none() || door.owes_stop());
        let mut places = (0..=u16::MAX).zip(doors);
        let Some((door, _)) = places.find(|(_, door)| fits(door)) else {
            taken.orphans.push(entry);
            continue;
        };
        let address = entry.address;
        let opening = Opening { door, address };
        let lease = lease(&entry, door);
        if recovered.rebooted || !can_knock(address.address()) || !leases.restore(lease, now) {
            let what = What::Close;
            taken.orders.push(Order { opening, what });
        } else if !entry.done {
            let remaining = Some(lease.until.since(now));
            let what = What::Open { remaining };
            taken.orders.push(Order { opening, what });
        }
    }
    taken
}

/// The lease that an entry of the journal tells of, at the door's place.
pub fn lease(entry: &Entry, door: u16) -> Lease {
    Lease {
        door,
        address: entry.address,
        since: Time(entry.since),
        until: Time(entry.until),
    }
}

/// What should be in force at `now`, and how much longer.
pub fn openings(leases: &Leases, now: Time) -> Vec<(Opening, Option<Duration>)> {
    let each = leases.iter().map(|lease| {
        let opening = Opening {
            door: lease.door,
            address: lease.address,
        };
        (opening, Some(lease.until.since(now)))
    });
    each.collect()
}
