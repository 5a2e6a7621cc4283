use postern::packet::{Link, What, parse};
use postern::time::Time;

/// A frame, taken for one of each link type. However much of its end was not captured, what is
/// read from it is the same or nothing, and nothing once more is missing.
pub fn packet(frame: &[u8]) {
    let time = Time(1_700_000_000_123_456);
    for link in Link::ALL {
        let whole = parse(time, link, frame);
        if let Some(arrival) = whole {
            assert_eq!(arrival.time, time);
            let (What::Tcp { port, .. } | What::Udp { port }) = arrival.what;
            assert_ne!(port, 0);
            assert_eq!(arrival.source.is_ipv4(), arrival.destination.is_ipv4());
        }
        let mut expected = whole;
        for length in (0..frame.len()).rev() {
            let cut = parse(time, link, &frame[..length]);
            if cut != expected {
                assert_eq!(cut, None, "{link:?} cut at {length} of {}", frame.len());
                expected = None;
            }
        }
        // Whatever stands behind a packet is no part of it.
        if whole.is_some() {
            let padded = [frame, &[0xff; 8]].concat();
            assert_eq!(parse(time, link, &padded), whole);
        }
    }
}
