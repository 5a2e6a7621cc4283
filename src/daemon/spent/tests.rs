use std::collections::BTreeSet;
use std::fs::FileTimes;
use std::time::{Duration, SystemTime};

use proptest::prelude::*;

use super::*;

/// The clock in most tests; messages are from a little before and after.
const WHEN: When = When {
    now: 100_000,
    boot: 50_000,
    window: 120,
};
const NAMES: [&str; 3] = ["alice", "bob", "carol"];

fn proof(n: u64) -> Proof {
    let mut proof = [0x5a; 16];
    proof[..8].copy_from_slice(&n.to_be_bytes());
    proof
}

fn opened(path: &Path, when: When) -> (Spent, Vec<String>) {
    within(Bounds::default(), path, &NAMES, when)
}

fn within(bounds: Bounds, path: &Path, keys: &[&str], when: When) -> (Spent, Vec<String>) {
    let mut troubles = Vec::new();
    let spent = Spent::open_within(bounds, path, keys.iter().copied(), when, &mut troubles);
    (spent, troubles)
}

/// Opened without a word.
fn sound(path: &Path) -> Spent {
    let (spent, troubles) = opened(path, WHEN);
    assert_eq!(troubles, [""; 0]);
    spent
}

/// What a message was granted by.
type Granted = (&'static str, u64, u64);

/// A store of a few proofs, and which they are.
fn example(path: &Path) -> Vec<Granted> {
    let mut spent = sound(path);
    let granted = [
        ("alice", 1, 99_990),
        ("bob", 2, 99_990),
        ("alice", 3, 100_110),
        ("carol", 4, 99_995),
        ("alice", 5, 99_885),
    ];
    for (key, n, at) in granted {
        spent.spend(key, proof(n), at).unwrap();
    }
    granted.to_vec()
}

/// Nothing of this is granted a second time.
fn refuses(spent: &Spent, granted: &[Granted]) -> bool {
    let refused = |&(key, n, at): &Granted| spent.judge(key, &proof(n), at).is_err();
    granted.iter().all(refused)
}

/// Nor under any other name.
fn refuses_all(spent: &Spent, granted: &[Granted]) -> bool {
    let mut names = NAMES.iter().chain(&["alice2"]);
    names.all(|name| {
        let with = |&(_, n, at): &Granted| (*name, n, at);
        refuses(spent, &Vec::from_iter(granted.iter().map(with)))
    })
}

#[test]
fn what_is_spent_stays_spent() {
    let top = tempfile::tempdir().unwrap();
    let path = top.path().join("spent");
    let granted = example(&path);
    for _ in 0..2 {
        let mut spent = sound(&path);
        assert!(refuses_all(&spent, &granted));
        for &(key, n, at) in &granted {
            let again = spent.spend(key, proof(n), at);
            assert!(matches!(again, Err(Unspent::Replayed)), "{again:?}");
            // Whatever time the same message claims.
            let again = spent.spend(key, proof(n), at + 1);
            assert!(matches!(again, Err(Unspent::Replayed)), "{again:?}");
        }
        spent.judge("alice", &proof(6), 99_880).unwrap();
    }
    let mode = fs::metadata(&path).unwrap().mode();
    assert_eq!(mode & 0o7777, 0o600);
}

/// What is read of a text, with the floor of its losses, and the same by way of a file.
fn read(text: &[u8], path: &Path) -> (Spent, Losses, Vec<String>) {
    let (_, losses) = Proofs::read(text, Bounds::default());
    fs::write(path, text).unwrap();
    let (spent, troubles) = opened(path, WHEN);
    assert_eq!(troubles.is_empty(), losses == Losses::default());
    // What was taken up is what the next one reads.
    let again = sound(path);
    assert_eq!(spent.proofs, again.proofs);
    (spent, losses, troubles)
}

#[test]
fn no_prefix_grants_what_is_spent() {
    let top = tempfile::tempdir().unwrap();
    let path = top.path().join("spent");
    let granted = example(&path);
    let text = fs::read(&path).unwrap();
    for cut in 0..text.len() {
        let (spent, losses, troubles) = read(&text[..cut], &path);
        assert!(losses.any(), "cut at {cut}");
        assert!(refuses_all(&spent, &granted), "cut at {cut}");
        assert!(troubles[0].contains(" are refused"), "{troubles:?}");
    }
    // Cut short behind all that was granted: a line on which nothing opened.
    let line = Record::Spent {
        key: "bob".into(),
        proof: proof(9),
        at: 100_001,
    };
    let line = line.encode();
    for cut in 1..line.len() {
        let text = [&text, &line[..cut]].concat();
        let (spent, losses, troubles) = read(&text, &path);
        assert!(losses.cut && !losses.any());
        assert!(refuses_all(&spent, &granted));
        spent.judge("bob", &proof(9), 100_001).unwrap();
        assert!(troubles[0].contains("cut short"), "{troubles:?}");
    }
    // Killed between the line and the count: taken for spent.
    let (spent, losses, _) = read(&[text, line].concat(), &path);
    assert_eq!(losses, Losses::default());
    assert!(spent.judge("bob", &proof(9), 100_001).is_err());
}

#[test]
fn no_flipped_bit_grants_what_is_spent() {
    let top = tempfile::tempdir().unwrap();
    let path = top.path().join("spent");
    let granted = example(&path);
    let text = fs::read(&path).unwrap();
    for at in 0..text.len() {
        for bit in 0..8 {
            let mut text = text.clone();
            text[at] ^= 1 << bit;
            let (_, losses) = Proofs::read(&text[..], Bounds::default());
            assert!(losses.any(), "byte {at}, bit {bit}");
            if bit == at % 8 {
                let (spent, ..) = read(&text, &path);
                assert!(refuses_all(&spent, &granted), "byte {at}, bit {bit}");
            }
        }
    }
}

#[test]
fn no_lost_line_grants_what_is_spent() {
    let top = tempfile::tempdir().unwrap();
    let path = top.path().join("spent");
    let granted = example(&path);
    let text = fs::read(&path).unwrap();
    let lines: Vec<&[u8]> = text.split_inclusive(|&b| b == b'\n').collect();
    for gone in 0..lines.len() {
        let mut rest = lines.clone();
        rest.remove(gone);
        let (spent, losses, _) = read(&rest.concat(), &path);
        assert!(losses.any(), "line {gone}");
        assert!(refuses_all(&spent, &granted), "line {gone}");
    }
}

#[test]
fn who_lost_lines_waits_for_the_window_and_no_longer() {
    let top = tempfile::tempdir().unwrap();
    let path = top.path().join("spent");
    example(&path);
    let text = fs::read(&path).unwrap();
    fs::write(&path, &text[..text.len() - 1]).unwrap();
    let written = |secs| SystemTime::UNIX_EPOCH + Duration::from_secs(secs);
    let set = |secs| {
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        let times = FileTimes::new().set_modified(written(secs));
        file.set_times(times).unwrap();
    };
    set(90_000);
    let (spent, troubles) = opened(&path, WHEN);
    let first = |spent: &Spent, until: u64| {
        let judge = |at| spent.judge("bob", &proof(9), at);
        assert!(matches!(judge(until), Err(Unspent::TooOld)));
        judge(until + 1).unwrap();
    };
    first(&spent, 100_120);
    assert!(troubles[0].contains("1970-01-02T03:48:40Z"), "{troubles:?}");
    let aside = fs::read(path.with_extension("damaged")).unwrap();
    assert_eq!(aside, text[..text.len() - 1], "kept");
    // It is told once.
    first(&sound(&path), 100_120);

    // The clock is behind what it was.
    fs::write(&path, &text[..text.len() - 1]).unwrap();
    set(170_000);
    first(&opened(&path, WHEN).0, 170_120);
}

#[test]
fn where_there_is_none_only_earlier_boots_are_refused() {
    let top = tempfile::tempdir().unwrap();
    let path = top.path().join("spent");
    let spent = sound(&path);
    assert!(spent.judge("bob", &proof(1), 50_120).is_err());
    spent.judge("bob", &proof(1), 50_121).unwrap();

    let path = top.path().join("again");
    let booted = When {
        boot: 99_950,
        ..WHEN
    };
    let (spent, troubles) = opened(&path, booted);
    assert!(spent.judge("bob", &proof(1), 100_070).is_err());
    spent.judge("bob", &proof(1), 100_071).unwrap();
    assert!(troubles[0].contains("just been booted"), "{troubles:?}");
}

#[test]
fn what_is_no_store_is_refused_with_the_window() {
    let top = tempfile::tempdir().unwrap();
    let at = |name: &str| top.path().join(name);
    let until = WHEN.now + WHEN.window;
    let closed = |(spent, troubles): (Spent, Vec<String>)| {
        assert_eq!(troubles.len(), 1);
        assert!(spent.judge("bob", &proof(9), until).is_err());
        spent.judge("bob", &proof(9), until + 1).unwrap();
        spent
    };

    example(&at("target"));
    std::os::unix::fs::symlink(at("target"), at("link")).unwrap();
    let before = fs::read(at("target")).unwrap();
    let mut spent = closed(opened(&at("link"), WHEN));
    spent.spend("bob", proof(9), until + 1).unwrap();
    assert_eq!(fs::read(at("target")).unwrap(), before, "not ours");
    assert!(!at("link").is_symlink());

    nix::unistd::mkfifo(&at("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    closed(opened(&at("pipe"), WHEN));

    fs::create_dir(at("directory")).unwrap();
    let mut spent = closed(opened(&at("directory"), WHEN));
    let not = spent.spend("bob", proof(9), until + 1);
    assert!(matches!(not, Err(Unspent::NotWritten(_))), "{not:?}");
    fs::remove_dir(at("directory")).unwrap();
    spent.spend("bob", proof(9), until + 1).unwrap();
    assert!(
        sound(&at("directory"))
            .judge("bob", &proof(9), until + 1)
            .is_err()
    );

    let huge = File::create(at("huge")).unwrap();
    huge.set_len(HUGE + 1).unwrap();
    closed(opened(&at("huge"), WHEN));

    // Written just now, by a clock that is ahead of ours.
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let garbage: Vec<u8> = (0..300_000u64).map(|n| ((n * n) >> 7) as u8).collect();
    fs::write(at("garbage"), &garbage).unwrap();
    let (spent, troubles) = opened(&at("garbage"), WHEN);
    assert_eq!(troubles.len(), 1);
    assert!(spent.judge("bob", &proof(9), now + WHEN.window).is_err());
    spent
        .judge("bob", &proof(9), now + 2 * WHEN.window)
        .unwrap();
    assert_eq!(fs::read(at("garbage.damaged")).unwrap(), garbage, "kept");
}

#[test]
fn nothing_is_granted_that_cannot_be_written() {
    let top = tempfile::tempdir().unwrap();
    let path = top.path().join("spent");
    let granted = example(&path);
    let mut spent = sound(&path);
    let before = fs::read(&path).unwrap();
    // As on a disk that takes no more: neither the file nor another in its place.
    let Ok(device) = OpenOptions::new().write(true).open("/dev/full") else {
        return; // Linux alone has it
    };
    let in_the_way = path.with_extension("new");
    fs::create_dir_all(in_the_way.join("x")).unwrap();
    let open = spent.open.as_mut().unwrap();
    let ours = std::mem::replace(&mut open.file, device);
    let refused = open.append(&Record::Floor(1)).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::StorageFull);
    for _ in 0..2 {
        let not = spent.spend("bob", proof(9), 100_001);
        assert!(matches!(not, Err(Unspent::NotWritten(_))), "{not:?}");
        assert!(spent.catch_up().is_err());
        spent.judge("bob", &proof(9), 100_001).unwrap();
    }
    drop(ours);
    assert_eq!(fs::read(&path).unwrap(), before, "it says what it said");
    assert!(refuses_all(&spent, &granted));

    fs::remove_dir_all(&in_the_way).unwrap();
    spent.spend("bob", proof(9), 100_001).unwrap();
    let spent = sound(&path);
    assert!(refuses_all(&spent, &granted));
    assert!(refuses_all(&spent, &[("bob", 9, 100_001)]));
}

/// Names the store to the test below where it runs as a process of its own.
const FULL: &str = "POSTERN_TEST_SPENT";

/// A disk that fills up in the middle of a line leaves nothing of it: as far as a process can
/// tell, a limit of its own to the size of files (setrlimit(2)) is one.
#[test]
fn what_was_written_in_part_is_taken_away_again() {
    let many = || (0..).map(|n| ("alice", n, 60_000 + n));
    if let Some(path) = std::env::var_os(FULL) {
        let mut spent = sound(Path::new(&path));
        for (key, n, at) in many() {
            match spent.spend(key, proof(n), at) {
                Ok(()) => {}
                Err(Unspent::NotWritten(e)) if e.kind() == io::ErrorKind::FileTooLarge => return,
                Err(e) => panic!("{e}"),
            }
        }
    }
    let top = tempfile::tempdir().unwrap();
    let path = top.path().join("spent");
    let ran = std::process::Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 5; exec \"$@\"", "sh"])
        .arg(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "daemon::spent::tests::what_was_written_in_part_is_taken_away_again",
        ])
        .env(FULL, &path)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ran.stdout);
    assert!(ran.status.success() && said.contains("1 passed"), "{said}");
    let text = fs::read(&path).unwrap();
    assert!(text.ends_with(b"\n"));
    let spent = sound(&path);
    let granted: Vec<Granted> = many().take(spent.proofs.kept()).collect();
    assert!(granted.len() > 10 && refuses_all(&spent, &granted));
}

#[test]
fn one_that_is_taken_away_or_emptied_is_written_anew() {
    let top = tempfile::tempdir().unwrap();
    let path = top.path().join("spent");
    let mut granted = example(&path);
    let mut spent = sound(&path);
    let away: [&dyn Fn(); 3] = [
        &|| fs::remove_file(&path).unwrap(),
        &|| fs::write(&path, "").unwrap(),
        &|| {
            fs::copy(&path, path.with_extension("old")).unwrap();
            fs::rename(path.with_extension("old"), &path).unwrap();
        },
    ];
    for (n, away) in (10..).zip(away) {
        away();
        spent.spend("bob", proof(n), 100_000).unwrap();
        granted.push(("bob", n, 100_000));
        assert!(refuses_all(&sound(&path), &granted));
    }
}

/// Lines of some 900 bytes: few fill a file.
fn long() -> String {
    "bob".repeat(260)
}

#[test]
fn it_does_not_grow_without_end() {
    let top = tempfile::tempdir().unwrap();
    let path = top.path().join("spent");
    let bounds = Bounds {
        proofs: 50,
        former: 1,
    };
    let long = long();
    let keys = [&*long, "alice"];
    let (mut spent, _) = within(bounds, &path, &keys, WHEN);
    let mut granted = Vec::new();
    for n in 0..1000 {
        granted.push((keys[usize::from(n % 32 == 0)], n, 60_000 + n / 2));
        let (key, n, at) = granted[n as usize];
        spent.spend(key, proof(n), at).unwrap();
    }
    let length = fs::metadata(&path).unwrap().len();
    assert!(length <= LONG + 1024, "{length}");
    let kept = spent.proofs.kept();
    assert!(kept > 50 && kept <= 100, "{kept}");
    let spent = within(bounds, &path, &keys, WHEN).0.proofs;
    let refused = |&(key, n, at): &(&str, u64, u64)| spent.judge(key, &proof(n), at).is_err();
    assert!(granted.iter().all(refused));
    // She had fewer than there is room for: her first is remembered, and there is no floor.
    spent.judge("alice", &proof(9999), 60_000).unwrap();
    let late = spent.judge(&long, &proof(9999), 60_400);
    assert!(matches!(late, Err(Unspent::TooOld)), "{late:?}");
}

#[test]
fn one_that_cannot_be_shortened_goes_on() {
    let top = tempfile::tempdir().unwrap();
    let path = top.path().join("spent");
    let mut spent = sound(&path);
    fs::create_dir_all(path.with_extension("new").join("x")).unwrap();
    spent.open.as_mut().unwrap().rewritten = 0;
    let long = long();
    let mut n = 0;
    while spent.open.as_ref().unwrap().length <= LONG + 4096 {
        spent.spend(&long, proof(n), 60_000 + n).unwrap();
        n += 1;
    }
    let spent = sound(&path);
    assert!((0..n).all(|n| spent.judge(&long, &proof(n), 60_000 + n).is_err()));
}

#[test]
fn a_key_that_went_keeps_its_proofs_while_there_is_room() {
    let top = tempfile::tempdir().unwrap();
    let path = top.path().join("spent");
    let bounds = Bounds {
        proofs: 4,
        former: 2,
    };
    let (mut spent, _) = within(bounds, &path, &["a", "b", "c", "d"], WHEN);
    for (n, key) in (1..).zip(["a", "b", "c", "d"]) {
        spent.spend(key, proof(n), 60_000 + n).unwrap();
    }
    // Room for these two.
    spent.configure(["c", "d"]);
    let (spent, _) = within(bounds, &path, &["c", "d"], WHEN);
    assert_eq!(spent.proofs.kept(), 4);
    for key in ["a", "d", "another"] {
        let known = spent.judge(key, &proof(1), 60_001);
        assert!(matches!(known, Err(Unspent::Replayed)), "under any name");
        spent.judge(key, &proof(9), 60_000).unwrap();
    }
    // And for no third: the one used longest ago goes, and leaves a floor behind.
    let (mut spent, _) = within(bounds, &path, &["d"], WHEN);
    assert_eq!(spent.proofs.kept(), 3);
    for key in ["a", "d", "another"] {
        for n in [1, 9] {
            let old = spent.judge(key, &proof(n), 60_001);
            assert!(matches!(old, Err(Unspent::TooOld)), "{old:?}");
        }
        spent.judge(key, &proof(9), 60_002).unwrap();
    }
    // One that has a floor passes it on, lest it comes back under another name.
    for n in 0..5 {
        spent.spend("d", proof(100 + n), 60_010 + n).unwrap();
    }
    spent.judge("another", &proof(9), 60_004).unwrap();
    spent.configure(["e"]);
    assert!(spent.judge("e", &proof(4), 60_004).is_err());
    spent.judge("e", &proof(9), 60_011).unwrap();
    assert_eq!(within(bounds, &path, &["e"], WHEN).0.proofs, spent.proofs);
}

/// What is asked of a store.
#[derive(Clone, Debug)]
enum Asked {
    Spend(usize, u64, u64),
    Configure(Vec<usize>),
    OpenAgain,
    CutAt(prop::sample::Index),
    Flip(prop::sample::Index),
    InTheWay(bool),
}

fn asked() -> impl Strategy<Value = Asked> {
    prop_oneof![
        12 => (0..5usize, 0..60u64, 0..40u64).prop_map(|(key, n, at)| Asked::Spend(key, n, at)),
        2 => prop::collection::vec(0..5usize, 0..5).prop_map(Asked::Configure),
        2 => Just(Asked::OpenAgain),
        1 => any::<prop::sample::Index>().prop_map(Asked::CutAt),
        1 => any::<prop::sample::Index>().prop_map(Asked::Flip),
        1 => any::<bool>().prop_map(Asked::InTheWay),
    ]
}

/// The slow way: all that was ever granted, in order, and floors found by sorting it.
#[derive(Default)]
struct Model {
    granted: Vec<(&'static str, u64, u64)>,
    floor: u64,
    floors: std::collections::BTreeMap<&'static str, u64>,
}

const PEOPLE: [&str; 5] = ["a", "b", "c", "d", "e"];
const FEW: Bounds = Bounds {
    proofs: 3,
    former: 1,
};

impl Model {
    fn floor_of(&self, key: &str) -> u64 {
        self.floors.get(key).copied().unwrap_or(0).max(self.floor)
    }

    /// Times of what is kept of a key, in order.
    fn kept(&self, key: &str) -> Vec<u64> {
        let of = self.granted.iter().filter(|g| g.0 == key);
        let mut times: Vec<u64> = of
            .map(|g| g.2)
            .filter(|&at| at > self.floor_of(key))
            .collect();
        times.sort_unstable();
        times
    }

    fn may(&self, key: &str, n: u64, at: u64) -> bool {
        let known = |g: &&(&str, u64, u64)| g.1 == n && g.2 > self.floor_of(g.0);
        at > self.floor_of(key) && !self.granted.iter().any(|g| known(&g))
    }

    fn spend(&mut self, key: &'static str, n: u64, at: u64) {
        self.granted.push((key, n, at));
        let times = self.kept(key);
        if times.len() > FEW.proofs {
            self.floors.insert(key, times[0]);
        }
    }

    fn configure(&mut self, keys: &BTreeSet<&str>) {
        let former = PEOPLE.iter().filter(|name| !keys.contains(*name));
        let known = |name: &&&'static str| {
            !self.kept(name).is_empty() || self.floors.get(*name) > Some(&self.floor)
        };
        let former: Vec<&str> = former.filter(known).copied().collect();
        let newest = |name: &str| {
            self.kept(name)
                .last()
                .copied()
                .unwrap_or(self.floor_of(name))
        };
        let mut times: Vec<u64> = former.iter().map(|name| newest(name)).collect();
        times.sort_unstable();
        let over = times.len().saturating_sub(FEW.former);
        let gone = times[..over].iter().copied();
        let floors = former.iter().map(|name| self.floor_of(name));
        self.floor = gone.chain(floors).max().unwrap_or(0).max(self.floor);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]
    #[test]
    fn nothing_is_granted_twice(asked in prop::collection::vec(asked(), 1..60)) {
        let top = tempfile::tempdir().unwrap();
        let path = top.path().join("spent");
        let in_the_way = path.with_extension("new").join("x");
        // As though the file had been written long ago.
        let open = |keys: &BTreeSet<&str>, now: u64| {
            let when = When { now, boot: 0, window: 0 };
            if let Ok(file) = OpenOptions::new().write(true).open(&path) {
                file.set_times(FileTimes::new().set_modified(UNIX_EPOCH)).unwrap();
            }
            let keys: Vec<&str> = keys.iter().copied().collect();
            within(FEW, &path, &keys, when).0
        };
        let mut keys = BTreeSet::from(PEOPLE);
        let mut model = Model::default();
        // Messages are from the 40 seconds after it.
        let mut base = 0;
        let mut spent = open(&keys, base);
        for step in asked {
            match step {
                Asked::Spend(key, n, at) => {
                    let (key, at) = (PEOPLE[key], base + at);
                    if !keys.contains(key) {
                        continue;
                    }
                    let may = model.may(key, n, at);
                    prop_assert_eq!(spent.judge(key, &proof(n), at).is_ok(), may);
                    match spent.spend(key, proof(n), at) {
                        Ok(()) => {
                            prop_assert!(may);
                            // Also by a key that is there no more: it may be this one.
                            let ours = |name: &str| name == key || !keys.contains(name);
                            let mut before = model.granted.iter().filter(|g| ours(g.0));
                            prop_assert!(before.all(|g| (g.1, g.2) != (n, at)), "granted twice");
                            model.spend(key, n, at);
                        }
                        Err(Unspent::NotWritten(_)) => prop_assert!(may && in_the_way.exists()),
                        Err(_) => prop_assert!(!may),
                    }
                }
                Asked::Configure(_) | Asked::CutAt(_) | Asked::Flip(_)
                    if in_the_way.exists() => {}
                Asked::Configure(of) => {
                    keys = of.into_iter().map(|key| PEOPLE[key]).collect();
                    spent.configure(keys.iter().copied());
                    model.configure(&keys);
                }
                Asked::OpenAgain => {
                    let before = spent.proofs.clone();
                    let behind = spent.open.is_none();
                    drop(spent);
                    spent = open(&keys, base);
                    prop_assert!(behind || spent.proofs == before);
                }
                Asked::CutAt(at) => {
                    let text = fs::read(&path).unwrap();
                    fs::write(&path, &text[..at.index(text.len())]).unwrap();
                    base += 40;
                    model.floor = base;
                    spent = open(&keys, base);
                }
                Asked::Flip(at) => {
                    let mut text = fs::read(&path).unwrap();
                    let at = at.index(text.len());
                    text[at] ^= 4;
                    fs::write(&path, &text).unwrap();
                    base += 40;
                    model.floor = base;
                    spent = open(&keys, base);
                }
                Asked::InTheWay(true) => fs::create_dir_all(&in_the_way).unwrap(),
                Asked::InTheWay(false) => _ = fs::remove_dir_all(in_the_way.parent().unwrap()),
            }
        }
    }
}
