use std::net::IpAddr;

use super::*;

fn entry(door: &str, last: u8, until: u64) -> Entry {
    Entry {
        door: door.into(),
        address: IpAddr::from([192, 0, 2, last]).into(),
        since: 1,
        until,
        key: None,
        done: false,
        stop: None,
    }
}

fn of(entry: &Entry) -> (String, Network) {
    (entry.door.clone(), entry.address)
}

fn opened(path: &Path, boot: &str) -> (Journal, Recovered) {
    Journal::open(path, boot, Time(10))
}

fn example(path: &Path) -> Vec<Entry> {
    let (mut journal, recovered) = opened(path, "a");
    assert_eq!(recovered, Recovered::default());
    let (a, b, c) = (
        entry("ssh", 1, 50),
        entry("ssh", 2, 60),
        entry("wake", 1, 70),
    );
    journal
        .write(&[
            Record::Open(a.clone()),
            Record::Open(b.clone()),
            Record::Open(c.clone()),
        ])
        .unwrap();
    let (door, address) = of(&a);
    journal
        .write(&[
            Record::Done {
                door: door.clone(),
                address,
            },
            Record::Extend {
                door,
                address,
                until: 90,
                key: None,
            },
        ])
        .unwrap();
    let (door, address) = of(&b);
    journal.note(&[Record::Closed { door, address }]).unwrap();
    vec![
        Entry {
            until: 90,
            done: true,
            ..a
        },
        c,
    ]
}

#[test]
fn what_was_written_is_read_again() {
    let top = tempfile::tempdir().unwrap();
    let path = top.path().join("journal");
    let expected = example(&path);
    for _ in 0..2 {
        let (_, recovered) = opened(&path, "a");
        assert_eq!(recovered.entries, expected);
        assert_eq!((recovered.rebooted, recovered.damaged), (false, 0));
    }
}

#[test]
fn another_boot_is_noticed() {
    let top = tempfile::tempdir().unwrap();
    let path = top.path().join("journal");
    let expected = example(&path);
    let (_, recovered) = opened(&path, "b");
    assert_eq!((recovered.rebooted, recovered.entries), (true, expected));
    // Killed before they were closed: they owe what they owe, and are over.
    let (_, recovered) = opened(&path, "b");
    assert!(!recovered.rebooted && !recovered.entries.is_empty());
    assert!(recovered.entries.iter().all(|e| e.until <= e.since));
    let (_, recovered) = Journal::open(&path, "b", Time(0));
    assert!(recovered.rebooted, "entries from the future");
}

/// What [`read`] makes of these bytes, and the same by way of a file.
fn recovered(text: &[u8], path: &Path) -> Recovered {
    let (_, recovered) = read(text, "a");
    std::fs::write(path, text).unwrap();
    let (journal, again) = opened(path, "a");
    assert_eq!(recovered, again);
    let mut taken_up = again.entries.clone();
    if again.rebooted {
        taken_up.iter_mut().for_each(|e| e.until = e.since);
    }
    assert_eq!(Vec::from_iter(journal.live.into_values()), taken_up);
    // What was taken up is what the next one reads.
    let (_, once_more) = opened(path, "a");
    assert_eq!(once_more.entries, taken_up);
    assert!(!once_more.cut && once_more.damaged == 0 && !once_more.rebooted);
    recovered
}

/// By records: what is in force after each, by a model of its own.
fn in_force(lines: &[Record]) -> Vec<(String, Network, u64)> {
    let mut all: Vec<(String, Network, u64)> = Vec::new();
    for line in lines {
        match line.clone() {
            Record::Boot(_) | Record::Done { .. } => {}
            Record::Open(e) => {
                all.retain(|l| (&l.0, l.1) != (&e.door, e.address));
                all.push((e.door, e.address, e.until));
            }
            Record::Extend {
                door,
                address,
                until,
                ..
            } => {
                for lease in all.iter_mut().filter(|l| (&l.0, l.1) == (&door, address)) {
                    lease.2 = until;
                }
            }
            Record::Closed { door, address } => all.retain(|l| (&l.0, l.1) != (&door, address)),
        }
    }
    all
}

#[test]
fn every_prefix_is_an_earlier_moment() {
    let top = tempfile::tempdir().unwrap();
    let path = top.path().join("journal");
    example(&path);
    let text = std::fs::read(&path).unwrap();
    let lines: Vec<Record> = text
        .split_inclusive(|&b| b == b'\n')
        .map(|line| Record::decode(line).unwrap())
        .collect();
    for cut in 0..=text.len() {
        let recovered = recovered(&text[..cut], &path);
        let whole = text[..cut].iter().filter(|&&b| b == b'\n').count();
        let mut expected = in_force(&lines[..whole]);
        expected.sort();
        let found = recovered.entries.iter();
        let found: Vec<_> = found
            .map(|e| (e.door.clone(), e.address, e.until))
            .collect();
        assert_eq!(found, expected, "cut at {cut}");
        let clean = cut == 0 || text[cut - 1] == b'\n';
        assert_eq!(recovered.cut, !clean, "said: cut at {cut}");
        assert_eq!(recovered.damaged, 0, "cut at {cut}");
    }
}

#[test]
fn no_changed_byte_leaves_a_lease_in_force_that_may_be_over() {
    let top = tempfile::tempdir().unwrap();
    let path = top.path().join("journal");
    let expected = example(&path);
    let text = std::fs::read(&path).unwrap();
    let starts: Vec<usize> = std::iter::once(0)
        .chain((1..text.len()).filter(|&at| text[at - 1] == b'\n'))
        .collect();
    let line_of = |at: usize| starts.iter().filter(|&&start| start <= at).count() - 1;
    for at in 0..text.len() {
        for bit in 0..8 {
            let mut text = text.clone();
            text[at] ^= 1 << bit;
            let recovered = match bit == at % 8 {
                true => recovered(&text, &path),
                false => read(&text[..], "a").1,
            };
            let told = recovered.damaged > 0 || recovered.cut;
            assert!(told, "byte {at}, bit {bit}");
            let lives = |e: &&Entry| !recovered.rebooted && e.until > e.since;
            let alive: Vec<&Entry> = recovered.entries.iter().filter(lives).collect();
            let at_most = match line_of(at) {
                // The last line is cut short: whoever it closed was over before it.
                _ if at == text.len() - 1 => continue,
                // The boot.
                0 => &[],
                // The first lease: nothing is left of it.
                1 => &expected[1..],
                // Its end is told again behind these.
                2..=4 => &expected[..],
                _ => &[],
            };
            for e in alive {
                let known = |k: &Entry| (&k.door, k.address) == (&e.door, e.address);
                assert!(at_most.iter().any(known), "{e:?}: byte {at}, bit {bit}");
            }
        }
    }
}

#[test]
fn what_is_no_journal_vouches_for_nothing() {
    let top = tempfile::tempdir().unwrap();
    let at = |name: &str| top.path().join(name);
    let kept = |name: &str| example(&at(name));
    let empty = |recovered: &Recovered| recovered.entries.is_empty();

    kept("target");
    std::os::unix::fs::symlink(at("target"), at("link")).unwrap();
    let before = std::fs::read(at("target")).unwrap();
    let (mut journal, recovered) = opened(&at("link"), "a");
    assert!(recovered.unread.is_some() && empty(&recovered));
    journal.write(&[Record::Open(entry("ssh", 3, 9))]).unwrap();
    assert_eq!(std::fs::read(at("target")).unwrap(), before, "not ours");
    assert!(!at("link").is_symlink());

    let made = nix::unistd::mkfifo(&at("pipe"), nix::sys::stat::Mode::S_IRWXU);
    made.unwrap();
    let (_, recovered) = opened(&at("pipe"), "a");
    assert!(recovered.unread.is_some() && empty(&recovered));

    std::fs::create_dir(at("directory")).unwrap();
    let (mut journal, recovered) = opened(&at("directory"), "a");
    assert!(recovered.unread.is_some() && empty(&recovered));
    assert!(journal.write(&[Record::Open(entry("ssh", 3, 9))]).is_err());
    std::fs::remove_dir(at("directory")).unwrap();
    journal.write(&[Record::Open(entry("ssh", 3, 9))]).unwrap();
    assert_eq!(opened(&at("directory"), "a").1.entries.len(), 1);

    let garbage: Vec<u8> = (0..3_000_000u64).map(|n| ((n * n) >> 7) as u8).collect();
    std::fs::write(at("garbage"), &garbage).unwrap();
    let (_, recovered) = opened(&at("garbage"), "a");
    assert!(recovered.damaged > 0 && recovered.rebooted && empty(&recovered));
    assert_eq!(
        std::fs::read(at("garbage.damaged")).unwrap(),
        garbage,
        "kept"
    );

    let huge = File::create(at("huge")).unwrap();
    huge.set_len(HUGE + 1).unwrap();
    let (_, recovered) = opened(&at("huge"), "a");
    assert!(recovered.unread.is_some() && empty(&recovered));
}

#[test]
fn it_does_not_grow_without_end() {
    let top = tempfile::tempdir().unwrap();
    let path = top.path().join("journal");
    let (mut journal, _) = opened(&path, "a");
    for n in 0..20_000 {
        let e = entry("ssh", (n % 8) as u8, n);
        let (door, address) = of(&e);
        journal.write(&[Record::Open(e)]).unwrap();
        journal.note(&[Record::Closed { door, address }]).unwrap();
    }
    let last = entry("ssh", 9, 1);
    journal.write(&[Record::Open(last.clone())]).unwrap();
    assert!(std::fs::metadata(&path).unwrap().len() <= 2 * LONG);
    assert_eq!(opened(&path, "a").1.entries, [last]);
}

#[test]
fn what_could_not_be_written_is_as_soon_as_it_can_be() {
    let top = tempfile::tempdir().unwrap();
    let path = top.path().join("journal");
    let mut expected = example(&path);
    let (mut journal, _) = opened(&path, "a");
    // As on a disk that takes no more: neither the file nor another in its place.
    let full = || OpenOptions::new().write(true).open("/dev/full").ok();
    let in_the_way = path.with_extension("new");
    let Some(device) = full() else {
        return; // Linux alone has it
    };
    std::fs::create_dir_all(in_the_way.join("x")).unwrap();
    journal.file = Some(device);
    assert!(journal.write(&[Record::Open(entry("ssh", 7, 99))]).is_err());
    assert_eq!(journal.entry("ssh", entry("ssh", 7, 99).address), None);
    let over = expected.pop().unwrap();
    let (door, address) = of(&over);
    assert!(journal.note(&[Record::Closed { door, address }]).is_err());
    assert!(journal.catch_up().is_err());
    let before = read(&std::fs::read(&path).unwrap()[..], "a").1;
    assert_eq!(before.entries.len(), 2, "it says what it said");
    assert!(!before.cut);

    std::fs::remove_dir_all(&in_the_way).unwrap();
    journal.catch_up().unwrap();
    assert_eq!(
        read(&std::fs::read(&path).unwrap()[..], "a").1.entries,
        expected
    );
    journal.write(&[Record::Open(entry("ssh", 7, 99))]).unwrap();
    expected.push(entry("ssh", 7, 99));
    assert_eq!(opened(&path, "a").1.entries, expected);
}

#[test]
fn one_that_cannot_be_shortened_goes_on() {
    let top = tempfile::tempdir().unwrap();
    let path = top.path().join("journal");
    let (mut journal, _) = opened(&path, "a");
    std::fs::create_dir_all(path.with_extension("new").join("x")).unwrap();
    for n in 0..5_000 {
        let e = entry("ssh", (n % 8) as u8, n);
        journal.write(&[Record::Open(e)]).unwrap();
    }
    assert!(journal.length > LONG);
    assert_eq!(
        read(&std::fs::read(&path).unwrap()[..], "a")
            .1
            .entries
            .len(),
        8
    );
}
