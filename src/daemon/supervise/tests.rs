//! A double stands in for the listener: a child that does nothing, and a socket that the test
//! writes to.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::Command;

use super::super::wire::{EVENT, Event, Knocked, VERSION};
use super::*;

const NOW: Time = Time(1_000_000);

fn double(generation: u32) -> (Listener, UnixStream) {
    let (socket, theirs) = UnixStream::pair().unwrap();
    socket.set_nonblocking(true).unwrap();
    let listener = Listener {
        child: Command::new("sleep").arg("60").spawn().unwrap(),
        socket,
        generation,
        doors: vec!["ssh".into()],
        interfaces: vec!["xl0".into(), "xl1".into()],
        from: Vec::new(),
        to: Vec::new(),
        started: NOW,
        hello: false,
        confine: Confine::Required,
        layers: Layers::default(),
        ready: false,
        leave_by: None,
        listening: 0,
        counted: Counted::default(),
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
        listeners.counted(),
        Counted {
            packets: 10,
            dropped: 2,
            ..Counted::default()
        }
    );
}
