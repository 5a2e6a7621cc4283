//! Grants by keys, whose packets the listener has opened.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use super::Monitor;
use super::counts::Because;
use super::grants::NO_JOURNAL;
use crate::config::Door;
use crate::daemon::clock;
use crate::daemon::doors::WINDOW;
use crate::daemon::log::{About, Level};
use crate::daemon::spent::{Spent, Unspent, When};
use crate::daemon::state;
use crate::daemon::wire::Sealed;
use crate::firewall::Opening;
use crate::knock::can_knock;
use crate::knock::spa::Refused;
use crate::lease::{By, Change};
use crate::time::Time;

/// Opens the store of spent proofs, and says what is wrong with it.
pub(super) fn open_spent(directory: &Path, keys: &[String]) -> (Spent, Vec<String>) {
    let when = When {
        now: epoch(clock::now()),
        boot: epoch(Time(0)),
        window: u64::from(WINDOW),
    };
    let mut troubles = Vec::new();
    let keys = keys.iter().map(String::as_str);
    let spent = Spent::open(&directory.join(state::SPENT), keys, when, &mut troubles);
    (spent, troubles)
}

/// Seconds since the Unix epoch.
fn epoch(time: Time) -> u64 {
    u64::try_from(clock::wall(time).as_second()).unwrap_or(0)
}

impl Monitor {
    /// A packet that the listener says a key of this name has authorized for these doors:
    /// refused, or what it changes.
    pub(super) fn authorized(
        &mut self,
        sealed: &Sealed,
        key: &str,
        doors: &[String],
        now: Time,
        changes: &mut Vec<Change>,
    ) {
        let is = sealed.is;
        let Some(place) = self.doors.key_place(key) else {
            return;
        };
        // Another interface, or another listener, has heard the same packet.
        if self.proofs.is_told(&is.proof, now) {
            return;
        }
        if let Err((because, why)) = self.spend_proof(sealed, place, key, now) {
            self.counts.refuse_key(key, because);
            return self.say_refused_key(key, is.address, now, &why);
        }
        self.proofs.tell(is.proof, now);
        self.counts.grant_key(key);
        let lasts = (is.lasts > 0).then(|| Duration::from_secs(is.lasts.into()));
        let by = By {
            key: Some(place),
            lasts,
        };
        for name in doors {
            let Some(door) = self.doors.place(name) else {
                continue;
            };
            // What it opened when the packet was heard may have been taken from it since.
            let opens = self
                .doors
                .key(place)
                .is_some_and(|k| k.doors.contains(&door));
            if !opens {
                continue;
            }
            if !self.doors.allow(door, now) {
                self.counts.refuse(name, Because::Allowance);
                self.say_refused(name, is.address, now, "not allowed now");
                continue;
            }
            self.counts.grant(name);
            if self.doors.get(door).and_then(Door::lease).is_none() {
                let text = format!("{name}: granted to {} by key {key}", is.address);
                self.log
                    .caused(About::Doors, Level::Notice, is.address, now, &text);
            }
            self.leases
                .grant_by(by, door, is.address, now, |change| changes.push(change));
        }
    }

    /// Spends what proves a packet, or says why it lets nobody in. The listener is not believed:
    /// what it must have looked at is looked at again, as far as it can be without the packet.
    fn spend_proof(
        &mut self,
        sealed: &Sealed,
        place: u16,
        key: &str,
        now: Time,
    ) -> Result<(), (Because, String)> {
        let is = sealed.is;
        let said = |why: Unspent| {
            let because = match why {
                Unspent::Replayed | Unspent::TooOld => Because::Spent,
                Unspent::NotWritten(_) => Because::Unwritten,
            };
            (because, why.to_string())
        };
        let from = self.doors.key(place).map_or(&[][..], |key| &key.from);
        let may = from.is_empty() || from.iter().any(|network| network.contains(is.address));
        let late = epoch(now).abs_diff(is.at) > u64::from(WINDOW);
        if !may || !can_knock(is.address) || late {
            let because = if late {
                Because::Late
            } else {
                Because::Address
            };
            return Err((because, "not allowed now".into()));
        }
        // Before it is spent in vain.
        if self.journal.catch_up().is_err() {
            return Err((Because::Unwritten, NO_JOURNAL.into()));
        }
        // Before an allowance is used in vain, by whoever sends again what he has caught.
        self.spent.judge(key, &is.proof, is.at).map_err(said)?;
        if !self.doors.allow_key(place, now) {
            return Err((Because::Allowance, "its allowance is used up".into()));
        }
        self.spent.spend(key, is.proof, is.at).map_err(said)
    }

    /// Says of a key's packet why it lets nobody in.
    pub(super) fn say_unusable(&mut self, key: &str, source: IpAddr, why: Refused, now: Time) {
        let why = match why {
            Refused::Malformed => "it is no request that is granted here",
            Refused::Stale => {
                "its time is more than two minutes from ours: a clock is wrong, or it is an old one"
            }
            Refused::Address => "the key is not for the address that it names",
            Refused::Ports => "the key is not for the ports that it names",
        };
        self.say_refused_key(key, source, now, why);
    }

    fn say_refused_key(&mut self, key: &str, address: IpAddr, now: Time, why: &str) {
        let text = format_args!("key {key}: packet of {address} refused: {why}");
        self.log
            .caused(About::Refusals, Level::Warning, address, now, text);
    }

    /// By which key an opening is made or kept, in words for a line of the log.
    pub(super) fn by_key(&self, opening: Opening) -> String {
        let lease = self.leases.get(opening.door, opening.address);
        let key = lease.and_then(|lease| self.doors.key(lease.key?));
        key.map_or_else(String::new, |key| format!(" by key {}", key.name))
    }
}
