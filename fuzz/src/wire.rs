use std::fmt::Debug;

use postern::daemon::control::{GuardView, Request, Response};
use postern::daemon::wire::{Down, EVENT, Event, LONGEST, trouble_text};

use super::{Bytes, is_a_line};

/// What a listener says: an event is read only from the very bytes that it is written as.
pub fn wire_up(data: &[u8]) {
    for bytes in data.as_chunks::<EVENT>().0 {
        let Some(event) = Event::decode(bytes) else {
            continue;
        };
        assert_eq!(event.encode(), *bytes);
        if let Event::Trouble { text, .. } = event {
            assert!(is_a_line(&trouble_text(&text)));
        }
    }
    let text = String::from_utf8_lossy(data);
    let event = Event::trouble(data.first().copied().unwrap_or_default(), &text);
    assert_eq!(Event::decode(&event.encode()), Some(event));
}

/// What a monitor says: frames come whole, however the bytes arrive. The input is taken for
/// what is in the socket, and for the body of one frame.
pub fn wire_down(data: &[u8]) {
    let mut all = data.to_vec();
    let whole = frames(&mut all);
    let mut buffer = Vec::new();
    let mut parts = Vec::new();
    let mut wrong = false;
    let mut bytes = Bytes(data);
    while !bytes.is_empty() && !wrong {
        // Long inputs in larger parts.
        let (part, rest) = bytes.0.split_at(bytes.0.len().min(1 + data.len() / 64));
        bytes = Bytes(rest);
        buffer.extend_from_slice(part);
        let (some, refused) = frames(&mut buffer);
        parts.extend(some);
        wrong = refused;
    }
    assert_eq!((parts, wrong), whole);

    let Ok(length) = u32::try_from(data.len()) else {
        return;
    };
    let mut framed = [&length.to_be_bytes(), data].concat();
    frames(&mut framed);
}

/// The frames in a buffer, and whether something else stands behind them. What is left of the
/// buffer is the beginning of one, or what is refused.
fn frames(buffer: &mut Vec<u8>) -> (Vec<Down>, bool) {
    let mut frames = Vec::new();
    loop {
        let before = buffer.clone();
        match Down::decode(buffer) {
            Ok(Some(down)) => {
                let length = u32::from_be_bytes([before[0], before[1], before[2], before[3]]);
                assert!(length as usize <= LONGEST);
                assert_eq!(buffer[..], before[4 + length as usize..]);
                let again = Down::decode(&mut down.encode());
                assert_eq!(again, Ok(Some(down.clone())));
                frames.push(down);
            }
            Ok(None) => {
                assert_eq!(*buffer, before);
                return (frames, false);
            }
            Err(_) => return (frames, true),
        }
    }
}

/// What posternctl asks and what it is answered: whatever is read is written as it was read.
pub fn control(data: &[u8]) {
    same::<Request>(data);
    if let Some(Response::Status(status)) = same::<Response>(data) {
        status
            .guards
            .iter()
            .map(GuardView::to_string)
            .for_each(drop);
    }
}

fn same<T>(data: &[u8]) -> Option<T>
where
    T: serde::Serialize + serde::de::DeserializeOwned + PartialEq + Debug,
{
    let read: T = serde_json::from_slice(data).ok()?;
    let written = serde_json::to_vec(&read).expect("it can be written");
    let again: T = serde_json::from_slice(&written).expect("it can be read again");
    assert_eq!(again, read);
    Some(read)
}
