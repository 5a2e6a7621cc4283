//! What monitor and listener say to each other over their socket pair.
//!
//! Down: frames of a kind byte, a length (u32, big endian) and that many bytes of JSON. Up:
//! events of [`EVENT`] bytes each. The first event is [`Event::Hello`] with [`VERSION`]; the
//! monitor refuses another one, since the listener may be a program of another version only if
//! something is badly wrong.

use std::net::{IpAddr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use super::sandbox::Layers;
use crate::config::{Confine, Port};
use crate::knock::spa::{self, Authorized, KeyWatch, Refused};
use crate::knock::{Counters, PingWatch, Watch};

/// Goes up with every change of anything in this file or in what it carries.
pub const VERSION: u32 = 4;

/// The size of an event in bytes.
pub const EVENT: usize = 64;

/// The longest frame downwards; no configuration comes near.
pub const LONGEST: usize = 64 << 20;

/// Monitor to listener.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Down {
    /// The first: everything it needs to begin.
    Setup(Box<Setup>),
    /// Our addresses have changed.
    Addresses(Vec<IpAddr>),
    /// Finish the attempts that are under way, begin no more, say [`Event::Drained`].
    Drain,
}

/// What a listener works with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setup {
    /// Which configuration this is; goes back with every event that names a door.
    pub generation: u32,
    /// To be opened, in this order.
    pub interfaces: Vec<String>,
    /// What to watch for.
    pub watches: Vec<Watch>,
    /// Pings to listen to.
    pub pings: Vec<PingWatch>,
    /// Keys whose packets to listen to.
    pub keys: Vec<KeyWatch>,
    /// Ports that are no traps: doors open them.
    pub avoid: Vec<Port>,
    /// Our addresses.
    pub addresses: Vec<IpAddr>,
    /// The most attempts held at once.
    pub attempts: usize,
    /// Whether stages, failures and timeouts are wanted, for the log.
    pub tell_all: bool,
    /// What to do where it cannot be confined.
    pub confine: Confine,
    /// The user and group to become.
    pub uid: u32,
    /// See `uid`.
    pub gid: u32,
    /// The directory that becomes its root.
    pub root: String,
}

/// An event that names a door and an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Knocked {
    /// The configuration that `door` and `knock` refer to.
    pub generation: u32,
    /// The door, by its place.
    pub door: u16,
    /// The knock, by its place at the door.
    pub knock: u16,
    /// The line of a one-time list, 0 where there is none.
    pub line: u32,
    /// Steps taken rightly.
    pub stage: u8,
    /// Whose.
    pub address: IpAddr,
}

/// A packet that a key has authorized.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// The configuration that the key's and the doors' places refer to.
    pub generation: u32,
    /// What it is good for.
    pub is: Authorized,
}

/// A packet of a key that is good for nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unusable {
    /// The configuration that the key's place refers to.
    pub generation: u32,
    /// The key.
    pub key: u16,
    /// Where it came from.
    pub source: IpAddr,
    /// Why.
    pub why: Refused,
}

/// What the kernel and the table of attempts counted since the listener started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// Packets that passed the kernel filter and were read.
    pub packets: u64,
    /// Packets that passed it and were dropped by the kernel before they could be read.
    pub dropped: u64,
    /// The attempts.
    pub attempts: Counters,
}

/// Listener to monitor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The first: the version of the wire it speaks.
    Hello(u32),
    /// Before [`Event::Ready`]: what it has entered, for good.
    Confined(Layers),
    /// It listens, confined. Bit N set: interface N of the set-up is captured.
    Ready(u64),
    /// Before [`Event::Ready`] only: why an interface (255: anything else) cannot be captured,
    /// cut to fit.
    Trouble {
        /// The interface by its place.
        interface: u8,
        /// NUL-padded text.
        text: [u8; EVENT - 2],
    },
    /// The interface went away.
    Lost(u8),
    /// A step was right.
    Stage(Knocked),
    /// A knock was right.
    Grant(Knocked),
    /// An attempt's time was up.
    Timeout(Knocked),
    /// A wrong step or a trap ended an attempt.
    Fail(Knocked),
    /// A packet of a key's was right.
    Authorized(Sealed),
    /// A packet of a key's was not, though its key is right: for the log.
    Refused(Unusable),
    /// Figures.
    Counted(Counted),
    /// Figures of single packets.
    CountedSpa(spa::Counters),
    /// After [`Down::Drain`]: no attempt is under way any more.
    Drained,
}

/// The most interfaces that [`Event::Ready`] can speak of.
pub const INTERFACES: usize = 64;

impl Event {
    /// As it goes over the wire.
    pub fn encode(&self) -> [u8; EVENT] {
        let mut b = [0; EVENT];
        match self {
            Event::Hello(version) => {
                b[0] = 1;
                b[4..8].copy_from_slice(&version.to_be_bytes());
            }
            Event::Confined(layers) => {
                b[0] = 11;
                b[4..8].copy_from_slice(&layers.0.to_be_bytes());
            }
            Event::Ready(interfaces) => {
                b[0] = 2;
                b[8..16].copy_from_slice(&interfaces.to_be_bytes());
            }
            Event::Trouble { interface, text } => {
                b[0] = 3;
                b[1] = *interface;
                b[2..].copy_from_slice(text);
            }
            Event::Lost(interface) => {
                b[0] = 4;
                b[1] = *interface;
            }
            Event::Stage(k) => knocked(&mut b, 5, k),
            Event::Grant(k) => knocked(&mut b, 6, k),
            Event::Timeout(k) => knocked(&mut b, 7, k),
            Event::Fail(k) => knocked(&mut b, 8, k),
            Event::Counted(c) => {
                b[0] = 9;
                let a = &c.attempts;
                let all = [
                    c.packets,
                    c.dropped,
                    a.held,
                    a.evicted,
                    a.trapped,
                    a.failed,
                    a.timed_out,
                ];
                for (n, value) in all.iter().enumerate() {
                    b[8 + 8 * n..16 + 8 * n].copy_from_slice(&value.to_be_bytes());
                }
            }
            Event::Drained => b[0] = 10,
            Event::Authorized(Sealed { generation, is }) => {
                b[0] = 12;
                b[2..4].copy_from_slice(&is.key.to_be_bytes());
                b[4..8].copy_from_slice(&generation.to_be_bytes());
                b[8..12].copy_from_slice(&is.doors.to_be_bytes());
                b[12..16].copy_from_slice(&is.lasts.to_be_bytes());
                put_address(&mut b, is.address);
                b[32..48].copy_from_slice(&is.proof);
                b[48..56].copy_from_slice(&is.at.to_be_bytes());
            }
            Event::Refused(unusable) => {
                b[0] = 13;
                b[2..4].copy_from_slice(&unusable.key.to_be_bytes());
                b[4..8].copy_from_slice(&unusable.generation.to_be_bytes());
                put_address(&mut b, unusable.source);
                b[32] = match unusable.why {
                    Refused::Malformed => 0,
                    Refused::Stale => 1,
                    Refused::Address => 2,
                    Refused::Ports => 3,
                };
            }
            Event::CountedSpa(c) => {
                b[0] = 14;
                let refused = [c.malformed, c.stale, c.address, c.ports];
                let all = [c.shapeless, c.over_budget, c.unauthenticated];
                for (n, value) in all.into_iter().chain(refused).enumerate() {
                    b[8 + 8 * n..16 + 8 * n].copy_from_slice(&value.to_be_bytes());
                }
            }
        }
        b
    }

    /// `None`: nothing that [`Event::encode`] makes.
    pub fn decode(b: &[u8; EVENT]) -> Option<Event> {
        let u32_at = |at: usize| u32::from_be_bytes([b[at], b[at + 1], b[at + 2], b[at + 3]]);
        let u64_at = |at: usize| u64::from(u32_at(at)) << 32 | u64::from(u32_at(at + 4));
        let event = match b[0] {
            1 => Event::Hello(u32_at(4)),
            2 => Event::Ready(u64_at(8)),
            3 => {
                let mut text = [0; EVENT - 2];
                text.copy_from_slice(&b[2..]);
                Event::Trouble {
                    interface: b[1],
                    text,
                }
            }
            4 => Event::Lost(b[1]),
            5 => Event::Stage(door_event(b)?),
            6 => Event::Grant(door_event(b)?),
            7 => Event::Timeout(door_event(b)?),
            8 => Event::Fail(door_event(b)?),
            9 => Event::Counted(Counted {
                packets: u64_at(8),
                dropped: u64_at(16),
                attempts: Counters {
                    held: u64_at(24),
                    evicted: u64_at(32),
                    trapped: u64_at(40),
                    failed: u64_at(48),
                    timed_out: u64_at(56),
                    ..Counters::default()
                },
            }),
            10 => Event::Drained,
            11 => Event::Confined(Layers(u32_at(4))),
            12 => Event::Authorized(Sealed {
                generation: u32_at(4),
                is: Authorized {
                    key: u16::from_be_bytes([b[2], b[3]]),
                    doors: u32_at(8),
                    lasts: u32_at(12),
                    address: address(b)?,
                    proof: b[32..48].try_into().ok()?,
                    at: u64_at(48),
                },
            }),
            13 => Event::Refused(Unusable {
                generation: u32_at(4),
                key: u16::from_be_bytes([b[2], b[3]]),
                source: address(b)?,
                why: match b[32] {
                    0 => Refused::Malformed,
                    1 => Refused::Stale,
                    2 => Refused::Address,
                    3 => Refused::Ports,
                    _ => return None,
                },
            }),
            14 => Event::CountedSpa(spa::Counters {
                shapeless: u64_at(8),
                over_budget: u64_at(16),
                unauthenticated: u64_at(24),
                malformed: u64_at(32),
                stale: u64_at(40),
                address: u64_at(48),
                ports: u64_at(56),
                ..spa::Counters::default()
            }),
            _ => return None,
        };
        // Every byte counts: what does not come out the same was never sent by us.
        (event.encode() == *b).then_some(event)
    }

    /// A [`Event::Trouble`] that says `text`, or as much of it as fits.
    pub fn trouble(interface: u8, text: &str) -> Event {
        let mut cut = [0; EVENT - 2];
        for (to, from) in cut.iter_mut().zip(text.bytes()) {
            *to = from;
        }
        Event::Trouble {
            interface,
            text: cut,
        }
    }
}

/// The text of an [`Event::Trouble`]: printable ASCII, whatever was sent.
pub fn trouble_text(text: &[u8; EVENT - 2]) -> String {
    let printable = |&b: &u8| {
        if b.is_ascii_graphic() || b == b' ' {
            char::from(b)
        } else {
            '?'
        }
    };
    text.iter()
        .take_while(|&&b| b != 0)
        .map(printable)
        .collect()
}

fn knocked(b: &mut [u8; EVENT], kind: u8, k: &Knocked) {
    b[0] = kind;
    b[2] = k.stage;
    b[4..8].copy_from_slice(&k.generation.to_be_bytes());
    b[8..10].copy_from_slice(&k.door.to_be_bytes());
    b[10..12].copy_from_slice(&k.knock.to_be_bytes());
    b[12..16].copy_from_slice(&k.line.to_be_bytes());
    put_address(b, k.address);
}

/// An address in the place that all events have it in.
fn put_address(b: &mut [u8; EVENT], address: IpAddr) {
    match address {
        IpAddr::V4(a) => {
            b[1] = 4;
            b[16..20].copy_from_slice(&a.octets());
        }
        IpAddr::V6(a) => {
            b[1] = 6;
            b[16..32].copy_from_slice(&a.octets());
        }
    }
}

fn address(b: &[u8; EVENT]) -> Option<IpAddr> {
    match b[1] {
        4 => Some(IpAddr::from([b[16], b[17], b[18], b[19]])),
        6 => {
            let octets: [u8; 16] = b[16..32].try_into().ok()?;
            Some(IpAddr::V6(Ipv6Addr::from(octets)))
        }
        _ => None,
    }
}

fn door_event(b: &[u8; EVENT]) -> Option<Knocked> {
    Some(Knocked {
        generation: u32::from_be_bytes([b[4], b[5], b[6], b[7]]),
        door: u16::from_be_bytes([b[8], b[9]]),
        knock: u16::from_be_bytes([b[10], b[11]]),
        line: u32::from_be_bytes([b[12], b[13], b[14], b[15]]),
        stage: b[2],
        address: address(b)?,
    })
}

impl Down {
    /// As it goes over the wire.
    ///
    /// # Panics
    /// Never: what it carries can all be written as JSON.
    pub fn encode(&self) -> Vec<u8> {
        let json = serde_json::to_vec(self).expect("plain data");
        let mut frame = Vec::with_capacity(json.len() + 4);
        frame.extend_from_slice(&(json.len() as u32).to_be_bytes());
        frame.extend_from_slice(&json);
        frame
    }

    /// Takes one frame off the front of `buffer` if a whole one is there. The memory that it
    /// stood in is freed: it may have held secrets.
    ///
    /// # Errors
    /// In words: too long, or not what [`Down::encode`] makes.
    pub fn decode(buffer: &mut Vec<u8>) -> Result<Option<Down>, String> {
        let Some(head) = buffer.first_chunk::<4>() else {
            return Ok(None);
        };
        let length = u32::from_be_bytes(*head) as usize;
        if length > LONGEST {
            return Err(format!("a frame of {length} bytes"));
        }
        let Some(json) = buffer.get(4..4 + length) else {
            return Ok(None);
        };
        let down = serde_json::from_slice(json).map_err(|e| e.to_string())?;
        *buffer = buffer.split_off(4 + length);
        Ok(Some(down))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn knocks() -> impl Strategy<Value = Knocked> {
        (any::<(u32, u16, u16, u32, u8)>(), any::<IpAddr>()).prop_map(
            |((generation, door, knock, line, stage), address)| Knocked {
                generation,
                door,
                knock,
                line,
                stage,
                address,
            },
        )
    }

    proptest! {
        #[test]
        fn events_survive_the_wire(k in knocks(), n in any::<[u64; 7]>(), i in any::<u8>()) {
            let counted = Counted {
                packets: n[0],
                dropped: n[1],
                attempts: Counters {
                    held: n[2], evicted: n[3], trapped: n[4], failed: n[5], timed_out: n[6],
                    ..Counters::default()
                },
            };
            for event in [
                Event::Hello(k.generation), Event::Confined(Layers(k.line)), Event::Ready(n[0]), Event::trouble(i, "no"),
                Event::Lost(i), Event::Stage(k), Event::Grant(k), Event::Timeout(k),
                Event::Fail(k), Event::Counted(counted), Event::Drained,
            ] {
                prop_assert_eq!(Event::decode(&event.encode()), Some(event));
            }
        }

        #[test]
        fn any_bytes_are_an_event_or_none(b in prop::collection::vec(any::<u8>(), EVENT)) {
            let b: [u8; EVENT] = b.try_into().unwrap();
            if let Some(event) = Event::decode(&b) {
                prop_assert_eq!(event.encode(), b);
            }
        }

        #[test]
        fn any_bytes_down_are_refused_or_wait(mut b in prop::collection::vec(any::<u8>(), 0..99)) {
            let _ = Down::decode(&mut b);
        }
    }

    #[test]
    fn frames_come_whole_or_not_at_all() {
        let down = Down::Addresses(vec!["192.0.2.1".parse().unwrap()]);
        let bytes = [down.encode(), Down::Drain.encode()].concat();
        let mut buffer = Vec::new();
        let mut got = Vec::new();
        for byte in bytes {
            buffer.push(byte);
            got.extend(Down::decode(&mut buffer).unwrap());
        }
        assert_eq!(got, [down, Down::Drain]);
        assert!(Down::decode(&mut vec![0xff; 8]).is_err());
    }
}
