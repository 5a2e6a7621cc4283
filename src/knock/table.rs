//! The table of attempts: fixed in size, keyed with a secret, in order of expiry.

use siphasher::sip::SipHasher13;

/// Places in a bucket. All attempts of one source are in one bucket.
pub(super) const WAYS: usize = 8;

/// Words of an attempt, of four bytes each: the source's address, where the attempt stands
/// (0: the place is free), when it began (milliseconds, wrapping) and its neighbours in the
/// order of expiry (number of the place + 1; 0: none).
const WORDS: usize = 8;

/// Words of a bucket. They stand by kind, not by attempt, and those that nearly every packet
/// needs, [`LOW`] and [`NODE`], first: they fill one cache line, and all ways are compared at
/// once.
const BUCKET: usize = WAYS * WORDS;

/// Words of a cache line.
const LINE: usize = 16;

/// The last four bytes of the address: all of an IPv4 address.
const LOW: usize = 0;
const NODE: usize = 1;
const BEGAN: usize = 2;
const BEFORE: usize = 3;
const AFTER: usize = 4;
/// The other three words of the address.
const HIGH: [usize; 3] = [5, 6, 7];

/// The longest timeout the table can keep apart from the wrapping of its clock: 24 days.
pub(super) const LONGEST_MS: u32 = i32::MAX as u32;

/// A source's address as the table holds it, first word first: IPv4 as IPv4-mapped IPv6, which
/// is no address that anybody can knock from.
pub(super) type Source = [u32; 4];

pub(super) struct Table {
    /// Plain numbers, since a vector of zeros comes as such from the system: a table costs no
    /// memory until it is used.
    words: Vec<u32>,
    /// Where the first bucket is, so that it begins a cache line.
    base: usize,
    buckets: u64,
    ways: usize,
    hasher: SipHasher13,
    queues: Vec<Queue>,
    earliest: Earliest,
    held: u64,
}

/// Attempts of one timeout, in the order they began, which is the order they end.
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

/// The places of a set of ways in a bucket.
pub(super) fn places(bucket: usize, mut ways: u8) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let way = ways.trailing_zeros() as usize;
        ways &= ways.wrapping_sub(1);
        (way < WAYS).then_some(bucket * WAYS + way)
    })
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
        let words = vec![0; buckets * BUCKET + LINE];
        let past = words.as_ptr().addr() / size_of::<u32>() % LINE;
        Table {
            words,
            base: (LINE - past) % LINE,
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

    /// The bucket that a source's attempts are in.
    pub(super) fn bucket(&self, source: &Source) -> usize {
        let mut bytes = [0; 16];
        for (to, word) in bytes.chunks_exact_mut(4).zip(source) {
            to.copy_from_slice(&word.to_le_bytes());
        }
        let hash = self.hasher.hash(&bytes);
        ((u128::from(hash) * u128::from(self.buckets)) >> 64) as usize
    }

    /// Has the memory of buckets come in from where it is, of all at once. Who goes to them one
    /// after the other waits for each: with a million attempts that is most of a packet's cost.
    pub(super) fn touch(&self, buckets: &[usize]) {
        let mut sum = 0;
        for &bucket in buckets {
            let from = self.at(bucket * WAYS, 0);
            let lines = self.words.get(from..from + BUCKET).unwrap_or_default();
            sum ^= lines.iter().step_by(LINE).fold(0, |sum, word| sum ^ word);
        }
        std::hint::black_box(sum);
    }

    fn at(&self, place: usize, word: usize) -> usize {
        self.base + place / WAYS * BUCKET + word * WAYS + place % WAYS
    }

    fn get(&self, place: usize, word: usize) -> u32 {
        self.words[self.at(place, word)]
    }

    fn set(&mut self, place: usize, word: usize, value: u32) {
        let at = self.at(place, word);
        self.words[at] = value;
    }

    /// One word of all ways.
    fn all(&self, bucket: usize, word: usize) -> &[u32; WAYS] {
        let at = self.at(bucket * WAYS, word);
        self.words[at..].first_chunk().unwrap_or(&[0; WAYS])
    }

    /// The ways that hold attempts of a source, a bit for each.
    pub(super) fn own(&self, bucket: usize, source: &Source) -> u8 {
        let low = self.all(bucket, LOW);
        let node = self.all(bucket, NODE);
        let mut any = false;
        for way in 0..WAYS {
            any |= (low[way] == source[3]) & (node[way] != 0);
        }
        if !any {
            return 0;
        }
        let high = HIGH.map(|word| self.all(bucket, word));
        let mut own = 0;
        for way in 0..WAYS {
            let same = low[way] == source[3]
                && node[way] != 0
                && high
                    .iter()
                    .zip(source)
                    .all(|(word, part)| word[way] == *part);
            own |= u8::from(same) << way;
        }
        own
    }

    /// Where the attempt stands.
    pub(super) fn node(&self, place: usize) -> u32 {
        self.get(place, NODE)
    }

    /// Whose the attempt is.
    pub(super) fn source(&self, place: usize) -> Source {
        let [a, b, c] = HIGH.map(|word| self.get(place, word));
        [a, b, c, self.get(place, LOW)]
    }

    /// Moves an attempt on.
    pub(super) fn advance(&mut self, place: usize, node: u32) {
        self.set(place, NODE, node);
    }

    /// Where a new attempt of a source can go whose own ways are those. `stage` tells how many steps
    /// led to a node.
    ///
    /// One that must give way is, of those that are not `spared` (ways, a bit for each), the one
    /// that has had the most time a step; of equals the first. If the source has `limit` already,
    /// it is one of its own that stand at the first step.
    ///
    /// So whoever forges gains nothing by forging later steps as well: `k` packets of his make one
    /// attempt that stands `k` times as long. A knock with `g` seconds between its steps, at a flood
    /// of `r` packets a second, is lost only if 8 of `r * g` fall into its bucket, whatever they
    /// are. With 131,072 buckets, of knocks of three steps in 300 ms that is one in 19,000 at a
    /// million packets a second, and one in three billion at 200,000 (Poisson's distribution).
    pub(super) fn room(
        &self,
        bucket: usize,
        own: u8,
        stage: impl Fn(u32) -> u8,
        limit: usize,
        spared: u8,
        now: u64,
    ) -> Room {
        let nodes = self.all(bucket, NODE);
        let too_many = own.count_ones() as usize >= limit;
        if !too_many {
            let mut free = 0u8;
            for (way, node) in nodes.iter().enumerate() {
                free |= u8::from(*node == 0) << way;
            }
            let way = free.trailing_zeros() as usize;
            if way < self.ways {
                return Room::Free(bucket * WAYS + way);
            }
        }
        let may = if too_many { own } else { u8::MAX } & !spared;
        let mut worst = None;
        for (way, (&node, began)) in nodes.iter().zip(self.all(bucket, BEGAN)).enumerate() {
            if may >> way & 1 == 0 || node == 0 {
                continue;
            }
            let age = u64::from((now as u32).wrapping_sub(*began));
            let each = match stage(node) {
                0 | 1 => (age + 1) << 16,
                _ if too_many => continue,
                steps => ((age + 1) << 16) / u64::from(steps),
            };
            if worst.is_none_or(|(most, _)| each > most) {
                worst = Some((each, way));
            }
        }
        worst.map_or(Room::Full, |(_, way)| Room::Instead(bucket * WAYS + way))
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
        debug_assert!(self.node(place) == 0 && node != 0);
        let link = place as u32 + 1;
        let q = &mut self.queues[queue];
        let before = std::mem::replace(&mut q.last, link);
        if before == 0 {
            q.first = link;
            q.first_began = now;
            self.earliest.set(queue, now + q.timeout + 1);
        } else {
            self.set(before as usize - 1, AFTER, link);
        }
        for (word, part) in HIGH.into_iter().zip(source) {
            self.set(place, word, *part);
        }
        self.set(place, LOW, source[3]);
        self.set(place, NODE, node);
        self.set(place, BEGAN, now as u32);
        self.set(place, BEFORE, before);
        self.set(place, AFTER, 0);
        self.held += 1;
    }

    /// Takes an attempt out. `queue` must be the one it was put in with.
    pub(super) fn remove(&mut self, place: usize, queue: usize) {
        debug_assert!(self.node(place) != 0);
        let (before, after) = (self.get(place, BEFORE), self.get(place, AFTER));
        self.set(place, NODE, 0);
        if after == 0 {
            self.queues[queue].last = before;
        } else {
            self.set(after as usize - 1, BEFORE, before);
        }
        if before == 0 {
            let mut deadline = u64::MAX;
            let mut first_began = 0;
            if after != 0 {
                // Both were in the queue at once, so less than a timeout lies between them.
                let next = self.get(after as usize - 1, BEGAN);
                let later = next.wrapping_sub(self.get(place, BEGAN));
                first_began = self.queues[queue].first_began + u64::from(later);
                deadline = first_began + self.queues[queue].timeout + 1;
            }
            let q = &mut self.queues[queue];
            (q.first, q.first_began) = (after, first_began);
            self.earliest.set(queue, deadline);
        } else {
            self.set(before as usize - 1, AFTER, after);
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
        let table = Table::new([1, 2], 1 << 16, &[1000]);
        let bytes = table.words.len() * size_of::<u32>();
        assert_eq!(bytes - LINE * size_of::<u32>(), 32 << 16);
    }

    #[test]
    fn buckets_begin_cache_lines() {
        for capacity in [0, 8, 1000, 1 << 16] {
            let table = Table::new([1, 2], capacity, &[1000]);
            let first = &raw const table.words[table.base];
            assert_eq!(first.addr() % 64, 0);
            let last = table.at(table.buckets as usize * WAYS - 1, WORDS - 1);
            assert!(last < table.words.len());
        }
    }

    #[test]
    fn a_table_never_exceeds_its_capacity() {
        for capacity in [0, 1, 7, 8, 9, 1000, 1 << 16] {
            let table = Table::new([1, 2], capacity, &[1000]);
            let places = table.buckets as usize * table.ways;
            assert!(places <= capacity && places + WAYS > capacity);
        }
    }

    #[test]
    fn every_bucket_is_used() {
        let table = Table::new([3, 4], 64, &[1000]);
        let mut seen = [false; 8];
        for n in 0..1000 {
            seen[table.bucket(&[n, 0, 0, 0])] = true;
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
            let Room::Free(place) = table.room(bucket, 0, |_| 1, 4, 0, now) else {
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
