//! The behaviour that all back ends share: each function below is a test of every one of them.

use std::collections::BTreeSet;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use postern::config::Door;
use postern::firewall::{Done, Firewall, Opening, Order};

use crate::doors::{close, extend, left, open, opening};

/// How long is waited for what must happen.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A back end under test, and a look at it from outside.
pub trait Subject {
    fn firewall(&mut self) -> &mut dyn Firewall;
    /// Two doors of this kind that open the same port, `ssh` and `sftp`.
    fn doors(&self) -> Vec<Door>;
    /// The back end is gone as by a crash; another one takes its place, and nothing else has
    /// happened.
    fn crash(&mut self);
    /// Who is let in, as whoever stands outside sees it: not through the back end.
    fn let_in(&mut self) -> BTreeSet<Opening>;
}

/// Gives orders and waits until it is told what became of each.
pub fn carry_out(firewall: &mut dyn Firewall, orders: &[Order]) -> Vec<Done> {
    firewall.apply(orders);
    wait_for(firewall, orders.len())
}

/// Waits until it is told what became of so many orders.
pub fn wait_for(firewall: &mut dyn Firewall, orders: usize) -> Vec<Done> {
    let started = Instant::now();
    let mut done = firewall.done();
    while done.len() < orders {
        assert!(
            started.elapsed() < PATIENCE,
            "{} of {orders} done",
            done.len()
        );
        let fd = firewall
            .wake_fd()
            .expect("all is done at once or it can be waited for");
        assert!(readable(fd, PATIENCE), "{} of {orders} done", done.len());
        done.extend(firewall.done());
    }
    assert_eq!(done.len(), orders);
    done
}

pub fn readable(fd: BorrowedFd, limit: Duration) -> bool {
    let limit = PollTimeout::try_from(limit).unwrap();
    poll(&mut [PollFd::new(fd, PollFlags::POLLIN)], limit).unwrap() == 1
}

fn all_well(done: Vec<Done>) {
    for Done { order, result } in done {
        assert_eq!(result, Ok(()), "{order:?}");
    }
}

fn stands(subject: &mut dyn Subject, expected: &[Opening]) {
    let expected: BTreeSet<Opening> = expected.iter().copied().collect();
    let said: BTreeSet<Opening> = subject.firewall().openings().unwrap().into_iter().collect();
    assert_eq!(said, expected, "as the back end says");
    assert_eq!(subject.let_in(), expected, "as seen from outside");
}

fn established(subject: &mut dyn Subject) {
    let doors = subject.doors();
    let upkeep = subject.firewall().establish(&doors, &[]).unwrap();
    assert_eq!(upkeep, Default::default());
    stands(subject, &[]);
}

/// What is left of an opening made for 600 seconds then.
pub fn still(door: u16, address: &str, since: Instant) -> (Opening, Option<Duration>) {
    let (opening, _) = left(door, address, 0);
    (
        opening,
        Some(Duration::from_secs(600).saturating_sub(since.elapsed())),
    )
}

pub fn opens_extends_and_closes(subject: &mut dyn Subject) {
    established(subject);
    let (a, b) = (opening(0, "192.0.2.7"), opening(0, "2001:db8::7"));

    all_well(carry_out(subject.firewall(), &[open(0, "192.0.2.7", 600)]));
    stands(subject, &[a]);
    all_well(carry_out(
        subject.firewall(),
        &[open(0, "2001:db8::7", 600)],
    ));
    stands(subject, &[a, b]);
    all_well(carry_out(
        subject.firewall(),
        &[extend(0, "192.0.2.7", 900)],
    ));
    stands(subject, &[a, b]);
    // Whether it stood before or not.
    all_well(carry_out(
        subject.firewall(),
        &[open(0, "2001:db8::7", 900)],
    ));
    stands(subject, &[a, b]);
    all_well(carry_out(subject.firewall(), &[close(0, "192.0.2.7")]));
    stands(subject, &[b]);
    all_well(carry_out(subject.firewall(), &[close(0, "192.0.2.7")]));
    stands(subject, &[b]);
    all_well(carry_out(subject.firewall(), &[close(0, "2001:db8::7")]));
    stands(subject, &[]);
    all_well(carry_out(subject.firewall(), &[open(0, "192.0.2.7", 600)]));
    stands(subject, &[a]);
}

pub fn link_local_addresses_too(subject: &mut dyn Subject) {
    established(subject);
    for address in [
        "fe80::1",
        "169.254.0.1",
        "2001:db8:0:1:2:3:0:4",
        "1:2:3:4:5:6:7:8",
    ] {
        all_well(carry_out(subject.firewall(), &[open(0, address, 600)]));
        stands(subject, &[opening(0, address)]);
        all_well(carry_out(subject.firewall(), &[close(0, address)]));
        stands(subject, &[]);
    }
}

pub fn two_doors_on_one_port(subject: &mut dyn Subject) {
    established(subject);
    let orders = [
        open(0, "192.0.2.7", 600),
        open(1, "192.0.2.7", 600),
        open(1, "192.0.2.8", 600),
    ];
    all_well(carry_out(subject.firewall(), &orders));
    stands(
        subject,
        &[
            opening(0, "192.0.2.7"),
            opening(1, "192.0.2.7"),
            opening(1, "192.0.2.8"),
        ],
    );
    all_well(carry_out(subject.firewall(), &[close(0, "192.0.2.7")]));
    stands(subject, &[opening(1, "192.0.2.7"), opening(1, "192.0.2.8")]);
}

pub fn several_orders_for_one_opening_in_their_order(subject: &mut dyn Subject) {
    established(subject);
    let orders = [
        open(0, "192.0.2.7", 600),
        close(0, "192.0.2.7"),
        open(0, "192.0.2.8", 600),
        close(0, "192.0.2.8"),
        open(0, "192.0.2.8", 600),
    ];
    all_well(carry_out(subject.firewall(), &orders));
    stands(subject, &[opening(0, "192.0.2.8")]);
}

pub fn a_thousand_at_once(subject: &mut dyn Subject) {
    established(subject);
    let address = |n: u32| match n % 2 {
        0 => std::net::Ipv4Addr::from(0x0a00_0000 + n).to_string(),
        _ => std::net::Ipv6Addr::from(0x2001_0db8 << 96 | u128::from(n)).to_string(),
    };
    let orders: Vec<Order> = (1..=1000)
        .map(|n| open((n % 2) as u16, &address(n), 600))
        .collect();
    all_well(carry_out(subject.firewall(), &orders));
    let all: Vec<Opening> = orders.iter().map(|order| order.opening).collect();
    stands(subject, &all);
    let orders: Vec<Order> = (1..=1000)
        .map(|n| match n % 3 {
            0 => extend((n % 2) as u16, &address(n), 900),
            _ => close((n % 2) as u16, &address(n)),
        })
        .collect();
    all_well(carry_out(subject.firewall(), &orders));
    let left: Vec<Opening> = all.into_iter().skip(2).step_by(3).collect();
    stands(subject, &left);
}

/// After a crash the journal says what should stand; what stands is made so.
pub fn reconciles_after_a_crash(subject: &mut dyn Subject) {
    established(subject);
    let since = Instant::now();
    let orders = [open(0, "192.0.2.7", 600), open(1, "2001:db8::7", 600)];
    all_well(carry_out(subject.firewall(), &orders));

    subject.crash();
    let doors = subject.doors();
    let journal = [still(0, "192.0.2.7", since), still(1, "2001:db8::7", since)];
    let upkeep = subject.firewall().establish(&doors, &journal).unwrap();
    assert_eq!(upkeep, Default::default(), "nothing was amiss");
    stands(
        subject,
        &[opening(0, "192.0.2.7"), opening(1, "2001:db8::7")],
    );
    all_well(carry_out(subject.firewall(), &[close(0, "192.0.2.7")]));
    stands(subject, &[opening(1, "2001:db8::7")]);
}

pub fn upholding_what_stands_says_nothing(subject: &mut dyn Subject) {
    established(subject);
    let since = Instant::now();
    all_well(carry_out(subject.firewall(), &[open(0, "192.0.2.7", 600)]));
    let openings = [still(0, "192.0.2.7", since)];
    assert_eq!(
        subject.firewall().uphold(&openings).unwrap(),
        Default::default()
    );
    stands(subject, &[opening(0, "192.0.2.7")]);
}

pub fn an_order_for_no_door_fails_alone(subject: &mut dyn Subject) {
    established(subject);
    let done = carry_out(
        subject.firewall(),
        &[open(9, "192.0.2.7", 600), open(0, "192.0.2.7", 600)],
    );
    for Done { order, result } in done {
        assert_eq!(result.is_ok(), order.opening.door == 0, "{order:?}");
    }
    stands(subject, &[opening(0, "192.0.2.7")]);
}

/// The tests above for one back end.
macro_rules! suite {
    ($make:expr) => {
        $crate::suite::suite!(
            $make,
            opens_extends_and_closes
            link_local_addresses_too
            two_doors_on_one_port
            several_orders_for_one_opening_in_their_order
            a_thousand_at_once
            reconciles_after_a_crash
            upholding_what_stands_says_nothing
            an_order_for_no_door_fails_alone
        );
    };
    ($make:expr, $($test:ident)*) => {
        $(
            #[test]
            fn $test() {
                $crate::suite::$test(&mut $make);
            }
        )*
    };
}
pub(crate) use suite;
