use postern::packet::{Arrival, Link, What, parse};
use postern::time::Time;

/// A frame, taken for one of each link type. However much of its end was not captured, what is
/// read from it is the same or nothing, and nothing once more is missing; of a payload the end may
/// lack.
pub fn packet(frame: &[u8]) {
    let time = Time(1_700_000_000_123_456);
    for link in Link::ALL {
        let whole = parse(time, link, frame);
        if let Some(arrival) = whole {
            assert_eq!(arrival.time, time);
            if let What::Tcp { port, .. } | What::Udp { port, .. } = arrival.what {
                assert_ne!(port, 0);
            }
            assert_eq!(arrival.source.is_ipv4(), arrival.destination.is_ipv4());
        }
        let mut expected = whole;
        for length in (0..frame.len()).rev() {
            let cut = parse(time, link, &frame[..length]);
            let same = match (&cut, &expected) {
                (Some(cut), Some(expected)) => begins(cut, expected),
                (cut, expected) => cut == expected,
            };
            if !same {
                assert_eq!(cut, None, "{link:?} cut at {length} of {}", frame.len());
                expected = None;
            }
        }
        // Whatever stands behind a packet is no part of it.
        if let Some(whole) = whole {
            let padded = [frame, &[0xff; 8]].concat();
            let padded = parse(time, link, &padded).expect("it was one before");
            assert!(begins(&whole, &padded));
        }
    }
}

/// Whether two arrivals are the same but for the end of what the second carries.
fn begins(first: &Arrival<'_>, second: &Arrival<'_>) -> bool {
    let what = match (first.what, second.what) {
        (What::Udp { payload, port }, What::Udp { payload: all, .. }) => {
            let payload = &all[..payload.len().min(all.len())];
            What::Udp { port, payload }
        }
        (What::Echo { payload }, What::Echo { payload: all }) => What::Echo {
            payload: &all[..payload.len().min(all.len())],
        },
        (_, what) => what,
    };
    let head = Arrival { what, ..*second };
    *first == head && port_of(first) == port_of(second)
}

fn port_of(arrival: &Arrival<'_>) -> Option<u16> {
    match arrival.what {
        What::Tcp { port, .. } | What::Udp { port, .. } => Some(port),
        What::Echo { .. } => None,
    }
}
