//! Grants -> openings, at doors of up to [`AT_A_DOOR`] leases each.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use postern::lease::{Leases, Terms};
use postern::time::Time;

use super::{Arrive, Case, several, source};

/// As many as a door has unless it is told another number.
const AT_A_DOOR: u64 = 1_000;
const OPEN_FOR: Duration = Duration::from_secs(3600);

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    type Make = fn(u64) -> Arrive;
    for leases in [1, 1_000, 100_000] {
        let kinds: [(&str, Make); 4] = [
            ("a grant extends", |leases| Box::new(extend(leases))),
            ("a grant opens, another ends", |leases| {
                Box::new(end(leases))
            }),
            ("a grant opens, another gives way", |leases| {
                Box::new(give_way(leases))
            }),
            ("nothing is due", |leases| Box::new(nothing_due(leases))),
        ];
        for (name, make) in kinds {
            let name = format!("{name}, {}", several(leases, "lease"));
            cases.push(Case::new(name, move || make(leases)));
        }
    }
    cases
}

fn extend(leases: u64) -> impl FnMut() {
    let mut scene = Scene::new(leases, u64::MAX);
    move || {
        let again = scene.count % leases;
        scene.grant(again);
    }
}

fn end(leases: u64) -> impl FnMut() {
    let mut scene = Scene::new(leases, u64::MAX);
    move || {
        scene.all.due(black_box(scene.now), |_, change| {
            black_box(change);
        });
        scene.grant(scene.count);
    }
}

fn give_way(leases: u64) -> impl FnMut() {
    let mut scene = Scene::new(leases, AT_A_DOOR.min(leases));
    // Its end is far away.
    scene.pause = 1;
    move || scene.grant(scene.count)
}

fn nothing_due(leases: u64) -> impl FnMut() {
    let mut scene = Scene::new(leases, u64::MAX);
    move || {
        scene.all.due(black_box(Time(0)), |_, change| {
            black_box(change);
        });
        black_box(scene.all.next_end());
    }
}

struct Scene {
    all: Leases,
    doors: u64,
    now: Time,
    /// From one grant to the next: the first of so many leases ends when the next one is made.
    pause: u64,
    count: u64,
}

impl Scene {
    fn new(leases: u64, most: u64) -> Scene {
        let doors = leases.div_ceil(AT_A_DOOR);
        let terms = Terms {
            open_for: Some(OPEN_FOR),
            max_leases: usize::try_from(most).unwrap_or(usize::MAX),
            idle: None,
            prefix6: 128,
        };
        let mut scene = Scene {
            all: Leases::new(vec![terms; doors as usize]),
            doors,
            now: Time(1),
            pause: OPEN_FOR.as_micros() as u64 / leases,
            count: 0,
        };
        for n in 0..leases {
            scene.grant(n);
        }
        assert_eq!(scene.all.iter().count() as u64, leases);
        scene
    }

    /// The Nth address knocks at its door.
    fn grant(&mut self, n: u64) {
        let address = IpAddr::V4(Ipv4Addr::from(source(n)));
        let door = (n % self.doors) as u16;
        self.all
            .grant(black_box(door), black_box(address), self.now, |change| {
                black_box(change);
            });
        self.count += 1;
        self.now = Time(self.now.0 + self.pause);
    }
}
