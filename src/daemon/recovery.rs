//! What a journal comes to when it is taken up again, by the monitor or by `posternctl reap`.

use std::time::Duration;

use crate::config::{Config, Door, Key};
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
pub fn take_up(recovered: Recovered, config: &Config, leases: &mut Leases, now: Time) -> TakenUp {
    let mut taken = TakenUp::default();
    for entry in recovered.entries {
        // A stop command can only be owed by a door as it was.
        let fits =
            |door: &&Door| door.name == entry.door && (entry.stop.is_none() || door.owes_stop());
        let mut places = (0..=u16::MAX).zip(&config.doors);
        let Some((door, _)) = places.find(|(_, door)| fits(door)) else {
            taken.orphans.push(entry);
            continue;
        };
        let address = entry.address;
        let opening = Opening { door, address };
        let lease = lease(&entry, door, config);
        let lease = lease.filter(|_| !recovered.rebooted && can_knock(address.address()));
        match lease.filter(|&lease| leases.restore(lease, now)) {
            None => {
                let what = What::Close;
                taken.orders.push(Order { opening, what });
            }
            Some(lease) if !entry.done => {
                let remaining = Some(lease.until.since(now));
                let what = What::Open { remaining };
                taken.orders.push(Order { opening, what });
            }
            Some(_) => {}
        }
    }
    taken
}

/// The lease that an entry of the journal tells of, at the door's place; `None`: it goes by a key
/// that there is no more, or that does not open the door any more.
pub fn lease(entry: &Entry, door: u16, config: &Config) -> Option<Lease> {
    let key = match &entry.key {
        None => None,
        Some(name) => {
            let mut keys = (0u16..).zip(&config.keys);
            let opens = |key: &Key| key.name == *name && key.doors.contains(&door);
            Some(keys.find(|(_, key)| opens(key))?.0)
        }
    };
    Some(Lease {
        door,
        address: entry.address,
        since: Time(entry.since),
        until: Time(entry.until),
        key,
    })
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
