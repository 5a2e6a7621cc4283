//! A double stands in for the listener: a child that does nothing, and a socket that the test
//! writes to.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::Command;

use super::super::wire::{Counted, EVENT, Event, Knocked, VERSION};
use super::*;
use crate::knock::Counters;

const NOW: Time = Time(1_000_000);

fn double(generation: u32) -> (Listener, UnixStream) {
    let (socket, theirs) = UnixStream::pair().unwrap();
    socket.set_nonblocking(true).unwrap();
    let listener = Listener {
        child: Command::new("sleep").arg("60").spawn().unwrap(),
        socket,
        generation,
        names: Names {
            doors: vec!["ssh".into()],
            keys: vec!["alice".into()],
        },
        keys: vec![vec![0]],
        knocks: HashSet::from([(0, 0, 0)]),
        interfaces: vec!["xl0".into(), "xl1".into()],
        tell_all: false,
        from: Vec::new(),
        to: Vec::new(),
        addresses: None,
        started: NOW,
        hello: false,
        confine: Confine::Required,
        layers: Layers::default(),
        ready: false,
        troubles: 0,
        leave_by: None,
        listening: 0,
        figures: Figures::default(),
    };
    (listener, theirs)
}

fn none() -> Listeners {
    Listeners::new(Executable::open().unwrap())
}

fn ready(to: &mut UnixStream, interfaces: u64) {
    to.write_all(&Event::Hello(VERSION).encode()).unwrap();
    to.write_all(&Event::Confined(Layers::ALL).encode())
        .unwrap();
    to.write_all(&Event::Ready(interfaces).encode()).unwrap();
}

fn knocked(generation: u32, door: u16) -> Knocked {
    let address = "192.0.2.7".parse().unwrap();
    Knocked {
        generation,
        door,
        knock: 0,
        line: 0,
        stage: 3,
        address,
    }
}

/// What is heard at `now` with a drain of two seconds.
fn hear(listeners: &mut Listeners, now: Time) -> Vec<News> {
    let mut news = Vec::new();
    listeners.read(now, Duration::from_secs(2), &mut news);
    news
}

/// The same, waiting for something to be heard: other tests' children hold copies of our
/// sockets for a moment, between fork and exec.
fn hear_something(listeners: &mut Listeners, now: Time) -> Vec<News> {
    for _ in 0..10_000 {
        let news = hear(listeners, now);
        if !news.is_empty() {
            return news;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    panic!("nothing was heard");
}

/// What becomes of a listener in charge that says this.
fn says(bytes: &[u8]) -> Vec<News> {
    let mut listeners = none();
    let (listener, mut to) = double(7);
    listeners.next = Some(listener);
    ready(&mut to, 1);
    assert_eq!(hear(&mut listeners, NOW), [News::InCharge(7)]);
    to.write_all(bytes).unwrap();
    let news = hear(&mut listeners, NOW);
    listeners.stop();
    news
}

fn died(why: &str) -> Vec<News> {
    vec![News::Died(7, why.into())]
}

#[test]
fn grants_come_with_their_door_by_name() {
    let grant = Event::Grant(knocked(7, 0));
    assert_eq!(says(&grant.encode()), [News::Knocked(grant, "ssh".into())]);
}

#[test]
fn half_an_event_waits_for_the_other_half() {
    assert_eq!(says(&Event::Grant(knocked(7, 0)).encode()[..EVENT - 1]), []);
}

#[test]
fn what_it_must_not_say_ends_it() {
    assert_eq!(says(&[0xff; EVENT]), died("it said something malformed"));
    let named = died("it named a door that it was not given");
    assert_eq!(says(&Event::Grant(knocked(7, 1)).encode()), named);
    assert_eq!(says(&Event::Grant(knocked(6, 0)).encode()), named);
    for (door, knock, line) in [(0, 1, 0), (0, 0, 1), (0, u16::MAX, u32::MAX)] {
        let k = Knocked {
            knock,
            line,
            ..knocked(7, door)
        };
        assert_eq!(
            says(&Event::Grant(k).encode()),
            died("it named a knock that it was not given")
        );
    }
    for event in [Event::Stage, Event::Timeout, Event::Fail] {
        assert_eq!(
            says(&event(knocked(7, 0)).encode()),
            died("it told what it was not asked for")
        );
    }
    assert_eq!(
        says(&Event::Hello(VERSION).encode()),
        died("it said its version before")
    );
    assert_eq!(says(&Event::Ready(1).encode()), died("it was ready before"));
    assert_eq!(says(&Event::Drained.encode()), died("it drained unasked"));
    assert_eq!(
        says(&Event::Lost(1).encode()),
        died("it lost what it did not have")
    );
    assert_eq!(
        says(&Event::Lost(200).encode()),
        died("it lost what it did not have")
    );
}

#[test]
fn another_version_is_refused_and_so_is_none() {
    let other = format!("it speaks version {} of the wire", VERSION + 1);
    for (first, why) in [
        (Event::Hello(VERSION + 1), other.as_str()),
        (Event::Ready(1), "it did not say which version it speaks"),
    ] {
        let mut listeners = none();
        let (listener, mut to) = double(7);
        listeners.next = Some(listener);
        to.write_all(&first.encode()).unwrap();
        assert_eq!(hear(&mut listeners, NOW), died(why));
    }
}

#[test]
fn it_listens_where_it_was_told_and_has_no_more_troubles_than_there_can_be() {
    let hears_of = |layers: Layers, bytes: &[u8]| {
        let mut listeners = none();
        let (listener, mut to) = double(7);
        listeners.next = Some(listener);
        to.write_all(&Event::Hello(VERSION).encode()).unwrap();
        to.write_all(&Event::Confined(layers).encode()).unwrap();
        to.write_all(bytes).unwrap();
        let news = hear(&mut listeners, NOW);
        listeners.stop();
        news
    };
    let hears = |bytes: &[u8]| hears_of(Layers::ALL, bytes);
    assert_eq!(hears(&Event::Ready(0b11).encode()), [News::InCharge(7)]);
    let some = Layers(Layers::ALL.0 & !Layers::USER.0);
    let news = hears_of(some, &Event::Ready(0b11).encode());
    assert_eq!(news, died("it is not confined"));
    for more in [0b100, u64::MAX] {
        let news = hears(&Event::Ready(more).encode());
        assert_eq!(news, died("it listens where it was not told to"));
    }
    let many: Vec<u8> = (0..1000)
        .flat_map(|n| Event::trouble(255, &n.to_string()).encode())
        .collect();
    let news = hears(&many);
    assert_eq!(news.len(), INTERFACES + 2);
    assert_eq!(
        news[INTERFACES + 1..],
        died("it has more troubles than there can be")
    );
}

/// Only the last word of our addresses waits for it.
#[test]
fn one_that_does_not_read_costs_nothing() {
    let mut listeners = none();
    let (listener, mut to) = double(7);
    listeners.next = Some(listener);
    ready(&mut to, 1);
    hear(&mut listeners, NOW);
    let addresses = |n: u32| Down::Addresses(vec![std::net::Ipv4Addr::from(n).into(); 100]);
    for n in 0..10_000 {
        listeners.tell(&addresses(n));
    }
    let waiting = listeners.in_charge.as_ref().unwrap();
    let bytes = waiting.to.len() + waiting.addresses.as_ref().map_or(0, Vec::len);
    assert!(bytes > 0, "the socket has not taken all");
    assert!(
        bytes <= 2 * addresses(u32::MAX).encode().len(),
        "{bytes} bytes"
    );

    // It gets the last when it reads again.
    let mut read = Vec::new();
    let mut last = None;
    to.set_nonblocking(true).unwrap();
    while last != Some(addresses(9_999)) {
        let mut part = [0; 65_536];
        if let Ok(n) = to.read(&mut part) {
            read.extend_from_slice(&part[..n]);
        }
        hear(&mut listeners, NOW);
        while let Some(down) = Down::decode(&mut read).unwrap() {
            last = Some(down);
        }
    }
    assert!(!listeners.sockets().any(|(_, writes)| writes));
    listeners.stop();
}

#[test]
fn those_that_leave_do_not_become_many() {
    let mut listeners = none();
    let mut ends = Vec::new();
    for generation in 0..100 {
        let (listener, mut to) = double(generation);
        listeners.next = Some(listener);
        ready(&mut to, 1);
        hear(&mut listeners, NOW);
        ends.push(to);
    }
    let leaving = listeners.leaving.iter().map(|l| l.generation);
    assert_eq!(leaving.collect::<Vec<_>>(), Vec::from_iter(91..99));
    listeners.stop();
    assert_eq!(listeners.ending.too_many(), None, "they are gone");
}

#[test]
fn one_that_never_gets_ready_is_given_up() {
    let mut listeners = none();
    let (listener, _to) = double(7);
    listeners.next = Some(listener);
    assert_eq!(
        hear(&mut listeners, NOW + READY_IN - Duration::from_micros(1)),
        []
    );
    assert_eq!(listeners.next_deadline(), Some(NOW + READY_IN));
    assert_eq!(
        hear(&mut listeners, NOW + READY_IN),
        died("not ready in time")
    );
}

#[test]
fn the_one_before_drains_while_the_next_is_in_charge() {
    let mut listeners = none();
    let (old, mut to_old) = double(7);
    listeners.next = Some(old);
    ready(&mut to_old, 0b11);
    hear(&mut listeners, NOW);
    let (new, mut to_new) = double(8);
    listeners.next = Some(new);
    ready(&mut to_new, 0b01);
    assert_eq!(hear(&mut listeners, NOW), [News::InCharge(8)]);
    assert_eq!(listeners.missing(), ["xl1"]);
    assert!(listeners.draining());

    let mut told = [0; 64];
    let n = to_old.read(&mut told).unwrap();
    assert_eq!(told[..n], Down::Drain.encode());
    let late = Event::Grant(knocked(7, 0));
    to_old.write_all(&late.encode()).unwrap();
    assert_eq!(
        hear(&mut listeners, NOW),
        [News::Knocked(late, "ssh".into())]
    );
    to_old.write_all(&Event::Drained.encode()).unwrap();
    assert_eq!(hear(&mut listeners, NOW), []);
    assert!(!listeners.draining());
    listeners.stop();
}

#[test]
fn one_that_does_not_drain_is_ended() {
    let mut listeners = none();
    for generation in [7, 8] {
        let (listener, mut to) = double(generation);
        listeners.next = Some(listener);
        ready(&mut to, 1);
        hear(&mut listeners, NOW);
        // The double's end stays open: it neither leaves nor speaks.
        std::mem::forget(to);
    }
    assert!(listeners.draining());
    assert_eq!(hear(&mut listeners, NOW + Duration::from_secs(2)), []);
    assert!(!listeners.draining());
    listeners.stop();
}

#[test]
fn pauses_grow_to_two_seconds_and_are_gone_after_a_good_minute() {
    let mut listeners = none();
    let mut now = NOW;
    let mut pauses = Vec::new();
    let mut lives_for = |listeners: &mut Listeners, life: Duration| {
        let (mut listener, mut to) = double(7);
        listener.started = now;
        listeners.next = Some(listener);
        ready(&mut to, 1);
        hear(listeners, now);
        drop(to);
        now = now + life;
        let news = hear_something(listeners, now);
        assert!(matches!(news[..], [News::Died(7, _)]), "{news:?}");
        let again = listeners.again.unwrap();
        let pause = again.since(now);
        assert!(!listeners.wanted(again - Duration::from_micros(1)) || pause.is_zero());
        assert!(listeners.wanted(again));
        now = again;
        pause.as_millis()
    };
    for _ in 0..8 {
        pauses.push(lives_for(&mut listeners, Duration::from_millis(1)));
    }
    assert_eq!(pauses, [0, 100, 200, 400, 800, 1600, 2000, 2000]);
    assert_eq!(lives_for(&mut listeners, GOOD_LIFE), 0);
    assert_eq!(listeners.restarts, 9);
}

#[test]
fn figures_outlive_their_listener() {
    let mut listeners = none();
    let counted = Counted {
        packets: 5,
        dropped: 1,
        ..Counted::default()
    };
    for _ in 0..2 {
        let (listener, mut to) = double(7);
        listeners.next = Some(listener);
        ready(&mut to, 1);
        to.write_all(&Event::Counted(counted).encode()).unwrap();
        assert_eq!(hear(&mut listeners, NOW), [News::InCharge(7)]);
        drop(to);
        hear_something(&mut listeners, NOW);
    }
    assert_eq!(
        listeners.figures().counted,
        Counted {
            packets: 10,
            dropped: 2,
            ..Counted::default()
        }
    );
}

#[test]
fn absurd_figures_add_up_to_the_most_there_can_be() {
    let all = u64::MAX - 1;
    let counted = Counted {
        packets: all,
        dropped: all,
        attempts: Counters {
            held: all,
            evicted: all,
            trapped: all,
            failed: all,
            timed_out: all,
            ..Counters::default()
        },
    };
    let mut listeners = none();
    for generation in 0..3 {
        let (listener, mut to) = double(generation);
        listeners.next = Some(listener);
        ready(&mut to, 1);
        to.write_all(&Event::Counted(counted).encode()).unwrap();
        assert_eq!(hear(&mut listeners, NOW), [News::InCharge(generation)]);
        if generation == 0 {
            drop(to);
            hear_something(&mut listeners, NOW);
        } else {
            std::mem::forget(to);
        }
    }
    let sum = listeners.figures().counted;
    assert_eq!((sum.packets, sum.dropped), (u64::MAX, u64::MAX));
    let (a, most) = (sum.attempts, [u64::MAX; 5]);
    assert_eq!([a.held, a.evicted, a.trapped, a.failed, a.timed_out], most);
    listeners.stop();
}
