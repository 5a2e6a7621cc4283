//! The table of attempts: fixed in size, keyed with a secret, in order of expiry.

use siphasher::sip::SipHasher13;

/// Places in a bucket. All attempts of one source are in one bucket.
pub(super) const WAYS: usize = 8;

/// One attempt: the source's address, where the attempt stands (0: the place is free), when it
/// began (milliseconds, wrapping) and its neighbours in the order of expiry (number of the
/// place + 1; 0: none).
///
/// An array and no struct, since a vector of zeroed arrays comes zeroed from the system: a
/// table costs no memory until it is used.
pub(super) type Entry = [u32; 8];

const NODE: usize = 4;
const BEGAN: usize = 5;
const BEFORE: usize = 6;
const AFTER: usize = 7;

/// The longest timeout the table can keep apart from the wrapping of its clock: 24 days.
pub(super) const LONGEST_MS: u32 = i32::MAX as u32;

/// A source's address as the table holds it: IPv4 as IPv4-mapped IPv6, which is no address
/// that anybody can knock from.
pub(super) type Source = [u32; 4];

#[derive(Debug)]
pub(super) struct Table {
    entries: Vec<Entry>,
    buckets: u64,
    ways: usize,
    hasher: SipHasher13,
    queues: Vec<Queue>,
    earliest: Earliest,
    held: u64,
}

/// Attempts of one timeout, in the order they began, which is the order they end.
#[derive(Debug)]
struct Queue {
    timeout: u64,
    first: u32,
    last: u32,
    /// When the first began, in milliseconds that do not wrap.
    first_began: u64,
}

/// Where a new attempt may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Room {
    Free(usize),
    /// In place of this one.
    Instead(usize),
    Full,
}

impl Table {
    /// `timeouts` in milliseconds, one queue each; of attempts due at the same moment those of
    /// the queue named first go first.
    pub(super) fn new(secret: [u64; 2], capacity: usize, timeouts: &[u32]) -> Table {
        let capacity = capacity.min(u32::MAX as usize - WAYS);
        let (buckets, ways) = if capacity < WAYS {
            (1, capacity)
        } else {
            (capacity / WAYS, WAYS)
        };
        let queues: Vec<Queue> = timeouts
            .iter()
            .map(|&timeout| Queue {
                timeout: u64::from(timeout.min(LONGEST_MS)),
                first: 0,
                last: 0,
                first_began: 0,
            })
            .collect();
        Table {
            entries: vec![[0; 8]; buckets * ways],
            buckets: buckets as u64,
            ways,
            hasher: SipHasher13::new_with_keys(secret[0], secret[1]),
            earliest: Earliest::new(queues.len()),
            queues,
            held: 0,
        }
    }

    /// The number of attempts.
    pub(super) fn held(&self) -> u64 {
        self.held
    }

    /// The places that a source's attempts can be in.
    pub(super) fn bucket(&self, source: &Source) -> std::ops::Range<usize> {
        let mut bytes = [0; 16];
        for (to, word) in bytes.chunks_exact_mut(4).zip(source) {
            to.copy_from_slice(&word.to_le_bytes());
        }
        let hash = self.hasher.hash(&bytes);
        let bucket = ((u128::from(hash) * u128::from(self.buckets)) >> 64) as usize;
        bucket * self.ways..(bucket + 1) * self.ways
    }

    /// Whether the place holds an attempt of this source.
    pub(super) fn is_of(&self, place: usize, source: &Source) -> bool {
        let entry = &self.entries[place];
        entry[..4] == source[..] && entry[NODE] != 0
    }

    /// Where the attempt stands.
    pub(super) fn node(&self, place: usize) -> u32 {
        self.entries[place][NODE]
    }

    /// Whose the attempt is.
    pub(super) fn source(&self, place: usize) -> Source {
        let e = &self.entries[place];
        [e[0], e[1], e[2], e[3]]
    }

    /// Moves an attempt on.
    pub(super) fn advance(&mut self, place: usize, node: u32) {
        self.entries[place][NODE] = node;
    }

    /// Where a new attempt of `source` can go. One that must give way is of those that stand at
    /// the first step (nodes up to `roots`) and not in `spared` (a bit for each place of the
    /// bucket) the one that began first; one of the source's own if it has `limit` already.
    pub(super) fn room(
        &self,
        bucket: std::ops::Range<usize>,
        source: &Source,
        roots: u32,
        limit: usize,
        spared: u8,
        now: u64,
    ) -> Room {
        let mut free = None;
        let mut own = 0;
        // Age and place.
        let mut oldest: Option<(u32, usize)> = None;
        let mut oldest_own: Option<(u32, usize)> = None;
        for (way, place) in bucket.enumerate() {
            let entry = &self.entries[place];
            if entry[NODE] == 0 {
                free = free.or(Some(place));
                continue;
            }
            let is_own = entry[..4] == source[..];
            own += usize::from(is_own);
            if entry[NODE] > roots || spared & (1 << way) != 0 {
                continue;
            }
            let age = (now as u32).wrapping_sub(entry[BEGAN]);
            if oldest.is_none_or(|(most, _)| age > most) {
                oldest = Some((age, place));
            }
            if is_own && oldest_own.is_none_or(|(most, _)| age > most) {
                oldest_own = Some((age, place));
            }
        }
        let victim = match (own >= limit, free) {
            (true, _) => oldest_own,
            (false, Some(place)) => return Room::Free(place),
            (false, None) => oldest,
        };
        victim.map_or(Room::Full, |(_, place)| Room::Instead(place))
    }

    /// Puts an attempt into a free place. `now` never goes back from one call to the next.
    pub(super) fn insert(
        &mut self,
        place: usize,
        source: &Source,
        node: u32,
        queue: usize,
        now: u64,
    ) {
        debug_assert!(self.entries[place][NODE] == 0 && node != 0);
        let link = place as u32 + 1;
        let q = &mut self.queues[queue];
        let [a, b, c, d] = *source;
        self.entries[place] = [a, b, c, d, node, now as u32, q.last, 0];
        if q.last == 0 {
            q.first = link;
            q.first_began = now;
            self.earliest.set(queue, now + q.timeout + 1);
        } else {
            self.entries[q.last as usize - 1][AFTER] = link;
        }
        q.last = link;
        self.held += 1;
    }

    /// Takes an attempt out. `queue` must be the one it was put in with.
    pub(super) fn remove(&mut self, place: usize, queue: usize) {
        let entry = std::mem::take(&mut self.entries[place]);
        debug_assert!(entry[NODE] != 0);
        let (before, after) = (entry[BEFORE], entry[AFTER]);
        let q = &mut self.queues[queue];
        if after == 0 {
            q.last = before;
        } else {
            self.entries[after as usize - 1][BEFORE] = before;
        }
        if before == 0 {
            q.first = after;
            if after == 0 {
                self.earliest.set(queue, u64::MAX);
            } else {
                // Both were in the queue at once, so less than a timeout lies between them.
                let later = self.entries[after as usize - 1][BEGAN].wrapping_sub(entry[BEGAN]);
                q.first_began += u64::from(later);
                self.earliest.set(queue, q.first_began + q.timeout + 1);
            }
        } else {
            self.entries[before as usize - 1][AFTER] = after;
        }
        self.held -= 1;
    }

    /// The first millisecond at which some attempt's time is up; `u64::MAX`: there is none.
    pub(super) fn deadline(&self) -> u64 {
        self.earliest.value()
    }

    /// The place and queue of the attempt whose time is up first.
    pub(super) fn first(&self) -> Option<(usize, usize)> {
        let queue = self.earliest.index();
        let first = self.queues.get(queue)?.first;
        Some((first.checked_sub(1)? as usize, queue))
    }
}

/// The smallest of several values, each of which can change: a tournament, so that a change
/// costs the logarithm of their number, which is that of the different timeouts.
#[derive(Debug)]
struct Earliest {
    /// 1 is the root, the children of i are 2i and 2i + 1, the second half are the values.
    tree: Vec<u64>,
}

impl Earliest {
    fn new(values: usize) -> Earliest {
        Earliest {
            tree: vec![u64::MAX; 2 * values.max(1).next_power_of_two()],
        }
    }

    fn value(&self) -> u64 {
        self.tree[1]
    }

    /// Of equal values the first.
    fn index(&self) -> usize {
        let leaves = self.tree.len() / 2;
        let mut at = 1;
        while at < leaves {
            at = 2 * at + usize::from(self.tree[2 * at] > self.tree[2 * at + 1]);
        }
        at - leaves
    }

    fn set(&mut self, index: usize, value: u64) {
        let mut at = self.tree.len() / 2 + index;
        self.tree[at] = value;
        while at > 1 {
            at /= 2;
            self.tree[at] = self.tree[2 * at].min(self.tree[2 * at + 1]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attempt_takes_32_bytes() {
        assert_eq!(size_of::<Entry>(), 32);
    }

    #[test]
    fn a_table_never_exceeds_its_capacity() {
        for capacity in [0, 1, 7, 8, 9, 1000, 1 << 16] {
            let table = Table::new([1, 2], capacity, &[1000]);
            assert!(table.entries.len() <= capacity);
            assert!(table.entries.len() + WAYS > capacity);
        }
    }

    #[test]
    fn every_bucket_is_used_and_none_overlap() {
        let table = Table::new([3, 4], 64, &[1000]);
        let mut seen = vec![false; 8];
        for n in 0..1000 {
            let bucket = table.bucket(&[n, 0, 0, 0]);
            assert_eq!(bucket.len(), WAYS);
            assert_eq!(bucket.start % WAYS, 0);
            seen[bucket.start / WAYS] = true;
        }
        assert!(seen.iter().all(|&used| used));
    }

    #[test]
    fn earliest_is_the_smallest_and_of_equals_the_first() {
        for n in 1..10 {
            let mut earliest = Earliest::new(n);
            assert_eq!(earliest.value(), u64::MAX);
            let mut values = vec![u64::MAX; n];
            for turn in 0u64..200 {
                let at = (turn * 7 % n as u64) as usize;
                values[at] = turn * turn * 31 % 17;
                earliest.set(at, values[at]);
                let least = *values.iter().min().unwrap();
                assert_eq!(earliest.value(), least);
                assert_eq!(
                    earliest.index(),
                    values.iter().position(|&v| v == least).unwrap()
                );
            }
        }
    }

    #[test]
    fn a_queue_keeps_its_order_over_the_wrapping_of_the_clock() {
        let mut table = Table::new([0, 0], 64, &[1000]);
        let start = u64::from(u32::MAX) - 300;
        for n in 0..6u32 {
            let source = [n, 0, 0, 0];
            let bucket = table.bucket(&source);
            let now = start + u64::from(n) * 100;
            let Room::Free(place) = table.room(bucket, &source, 1, 4, 0, now) else {
                panic!("no room");
            };
            table.insert(place, &source, 1, 0, now);
        }
        for n in 0..6u32 {
            assert_eq!(table.deadline(), start + u64::from(n) * 100 + 1001);
            let (place, queue) = table.first().unwrap();
            assert_eq!(table.source(place), [n, 0, 0, 0]);
            table.remove(place, queue);
        }
        assert_eq!(table.deadline(), u64::MAX);
        assert_eq!(table.first(), None);
        assert_eq!(table.held(), 0);
    }
}
