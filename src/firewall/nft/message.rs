//! Edits -> messages of nfnetlink, and its answers. Nothing here asks the kernel.
//!
//! Formats and numbers: linux/netlink.h, linux/netfilter/nfnetlink.h and
//! linux/netfilter/nf_tables.h of Linux 6.1; comments of elements as libnftnl/udata.h has them.
//! What is as long as the machine's words is in its byte order, and so are lengths and types of
//! attributes; numbers in attributes are in network order.

use std::net::{IpAddr, SocketAddr};

use super::super::sessions::Session;
use super::elements::{Edit, Element, Verb};
use super::table::Key;
use super::{MARK, TABLE};

const NLMSG_ERROR: u16 = 2;
const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_ACK: u16 = 0x4;
const NLM_F_CREATE: u16 = 0x400;
const NLA_F_NESTED: u16 = 1 << 15;

const NFNL_MSG_BATCH_BEGIN: u16 = 0x10;
const NFNL_MSG_BATCH_END: u16 = 0x11;
const NFNL_BATCH_GENID: u16 = 1;
const NFNL_SUBSYS_NFTABLES: u16 = 10;

const NFT_MSG_NEWSETELEM: u16 = NFNL_SUBSYS_NFTABLES << 8 | 12;
const NFT_MSG_DELSETELEM: u16 = NFNL_SUBSYS_NFTABLES << 8 | 14;
const NFT_MSG_NEWGEN: u16 = NFNL_SUBSYS_NFTABLES << 8 | 15;
const NFT_MSG_GETGEN: u16 = NFNL_SUBSYS_NFTABLES << 8 | 16;
const NFTA_SET_ELEM_LIST_TABLE: u16 = 1;
const NFTA_SET_ELEM_LIST_SET: u16 = 2;
const NFTA_SET_ELEM_LIST_ELEMENTS: u16 = 3;
const NFTA_SET_ELEM_KEY: u16 = 1;
const NFTA_SET_ELEM_TIMEOUT: u16 = 4;
const NFTA_SET_ELEM_USERDATA: u16 = 6;
const NFTA_DATA_VALUE: u16 = 1;
const NFTA_GEN_ID: u16 = 1;
/// linux/netfilter.h, where family `inet` is one.
const NFPROTO_INET: u8 = 1;
const NFPROTO_UNSPEC: u8 = 0;
/// libnftnl/udata.h: enum nftnl_udata_set_elem_types.
const NFTNL_UDATA_SET_ELEM_COMMENT: u8 = 0;

/// struct nlmsghdr: length, type, flags, sequence number, port.
const HEADER: usize = 16;
/// The same and struct nfgenmsg: family, version, resource.
const HEADERS: usize = HEADER + 4;

/// The most elements in one message. All of them are one attribute, whose length has 16 bits;
/// an element of ours needs less than 80 bytes.
const ELEMENTS: usize = 256;

/// A transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Its messages.
    pub bytes: Vec<u8>,
    /// The number of the first.
    pub first: u32,
    /// The number of the one that is acknowledged.
    pub acknowledged: u32,
    /// The number of the last.
    pub last: u32,
}

/// What the kernel says to one of our messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The message's number.
    pub to: u32,
    /// What.
    pub says: Says,
}

/// See [`Answer`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Says {
    /// It was done.
    Done,
    /// It was not, by this number of errno(3).
    Error(i32),
    /// The ruleset's generation.
    Generation(u32),
    /// Something that we never ask for.
    Else,
}

/// The transaction that carries out edits, its messages numbered from `first` on. `generation`:
/// the kernel refuses it with ERESTART if the ruleset's is another (Linux before 4.12 may
/// not look). `None`: an edit is of elements that have more than one key, those of networks.
pub fn batch(edits: &[Edit], first: u32, generation: Option<u32>) -> Option<Batch> {
    let mut messages = Messages::default();
    let mut number = first;
    let resource = NFNL_SUBSYS_NFTABLES;
    let begin = Head {
        kind: NFNL_MSG_BATCH_BEGIN,
        flags: NLM_F_REQUEST,
        number,
        family: NFPROTO_UNSPEC,
        resource,
    };
    messages.message(begin, |inside| {
        if let Some(generation) = generation {
            inside.attribute(NFNL_BATCH_GENID, &generation.to_be_bytes());
        }
    });
    let count = |edit: &Edit| edit.elements.len().div_ceil(ELEMENTS);
    let mut left: usize = edits.iter().map(count).sum();
    for edit in edits {
        for elements in edit.elements.chunks(ELEMENTS) {
            number = number.wrapping_add(1);
            left -= 1;
            let (kind, create) = match edit.verb {
                Verb::Add => (NFT_MSG_NEWSETELEM, NLM_F_CREATE),
                Verb::Delete => (NFT_MSG_DELSETELEM, 0),
            };
            // Once all has been looked at, errors are told of every message, and that there were
            // none of this one alone.
            let acknowledge = if left == 0 { NLM_F_ACK } else { 0 };
            let head = Head {
                kind,
                flags: NLM_F_REQUEST | create | acknowledge,
                number,
                family: NFPROTO_INET,
                resource: 0,
            };
            messages.message(head, |inside| {
                inside.text(NFTA_SET_ELEM_LIST_TABLE, TABLE);
                inside.text(NFTA_SET_ELEM_LIST_SET, edit.set.as_str());
                inside.nested(NFTA_SET_ELEM_LIST_ELEMENTS, |inside| {
                    // Counted, as libnftnl does.
                    (1..)
                        .zip(elements)
                        .try_for_each(|(place, element)| inside.element(place, element))
                })
            })?;
        }
    }
    let acknowledged = number;
    let last = number.wrapping_add(1);
    let end = Head {
        kind: NFNL_MSG_BATCH_END,
        flags: NLM_F_REQUEST,
        number: last,
        family: NFPROTO_UNSPEC,
        resource,
    };
    messages.message(end, |_| ());
    Some(Batch {
        bytes: messages.0,
        first,
        acknowledged,
        last,
    })
}

/// The question for the ruleset's generation.
pub fn generation(number: u32) -> Vec<u8> {
    let mut messages = Messages::default();
    let head = Head {
        kind: NFT_MSG_GETGEN,
        flags: NLM_F_REQUEST,
        number,
        family: NFPROTO_UNSPEC,
        resource: 0,
    };
    messages.message(head, |_| ());
    messages.0
}

/// The answers in what was received, which may have been cut off.
pub fn answers(mut received: &[u8]) -> Vec<Answer> {
    let mut answers = Vec::new();
    while let Some((length, answer)) = answer(received) {
        answers.push(answer);
        received = match received.get(length.next_multiple_of(4)..) {
            Some(rest) => rest,
            None => break,
        };
    }
    answers
}

/// The first, and its length.
fn answer(received: &[u8]) -> Option<(usize, Answer)> {
    let length = u32::from_ne_bytes(bytes(received, 0)?);
    let length = usize::try_from(length).ok().filter(|&l| l >= HEADER)?;
    let kind = u16::from_ne_bytes(bytes(received, 4)?);
    let to = u32::from_ne_bytes(bytes(received, 8)?);
    let body = &received[..length.min(received.len())];
    let says = match kind {
        // struct nlmsgerr: 0 or a negative number, then what it is about.
        NLMSG_ERROR => match i32::from_ne_bytes(bytes(body, HEADER)?) {
            0 => Says::Done,
            number => Says::Error(number.checked_neg()?),
        },
        NFT_MSG_NEWGEN => generation_of(body.get(HEADERS..)?).map_or(Says::Else, Says::Generation),
        _ => Says::Else,
    };
    Some((length, Answer { to, says }))
}

fn generation_of(mut attributes: &[u8]) -> Option<u32> {
    loop {
        let length = usize::from(u16::from_ne_bytes(bytes(attributes, 0)?));
        if u16::from_ne_bytes(bytes(attributes, 2)?) == NFTA_GEN_ID {
            return Some(u32::from_be_bytes(bytes(attributes, 4)?));
        }
        attributes = attributes.get(length.max(4).next_multiple_of(4)..)?;
    }
}

fn bytes<const N: usize>(from: &[u8], at: usize) -> Option<[u8; N]> {
    from.get(at..)?.first_chunk().copied()
}

/// What stands before a message's attributes.
struct Head {
    kind: u16,
    flags: u16,
    number: u32,
    family: u8,
    resource: u16,
}

/// Messages under construction.
#[derive(Default)]
struct Messages(Vec<u8>);

impl Messages {
    fn put(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    fn pad(&mut self) {
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }

    /// A message; all that goes in is padded, and so is it.
    fn message<T>(&mut self, head: Head, fill: impl FnOnce(&mut Messages) -> T) -> T {
        let start = self.0.len();
        self.put(&[0; 4]);
        self.put(&head.kind.to_ne_bytes());
        self.put(&head.flags.to_ne_bytes());
        self.put(&head.number.to_ne_bytes());
        // The port is filled in by the kernel.
        self.put(&[0; 4]);
        self.put(&[head.family, 0]);
        self.put(&head.resource.to_be_bytes());
        let filled = fill(self);
        let length = u32::try_from(self.0.len() - start).unwrap_or(u32::MAX);
        self.0[start..start + 4].copy_from_slice(&length.to_ne_bytes());
        filled
    }

    /// An attribute of whatever `fill` puts in.
    fn around<T>(&mut self, kind: u16, fill: impl FnOnce(&mut Messages) -> T) -> T {
        let start = self.0.len();
        self.put(&[0; 2]);
        self.put(&kind.to_ne_bytes());
        let filled = fill(self);
        let length = u16::try_from(self.0.len() - start).unwrap_or(u16::MAX);
        self.0[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        self.pad();
        filled
    }

    fn nested<T>(&mut self, kind: u16, fill: impl FnOnce(&mut Messages) -> T) -> T {
        self.around(NLA_F_NESTED | kind, fill)
    }

    fn attribute(&mut self, kind: u16, value: &[u8]) {
        self.around(kind, |inside| inside.put(value));
    }

    fn text(&mut self, kind: u16, text: &str) {
        self.around(kind, |inside| {
            inside.put(text.as_bytes());
            inside.put(&[0]);
        });
    }

    /// An element, in the order in which libnftnl writes it; `None` if it has no single key.
    fn element(&mut self, place: u16, element: &Element) -> Option<()> {
        self.nested(place, |inside| {
            if let Some(timeout) = element.timeout {
                inside.attribute(NFTA_SET_ELEM_TIMEOUT, &timeout.count().to_be_bytes());
            }
            inside.nested(NFTA_SET_ELEM_KEY, |inside| {
                inside.around(NFTA_DATA_VALUE, |inside| inside.key(element.key))
            })?;
            if element.marked {
                // Type, length, value: the comment with its end.
                inside.around(NFTA_SET_ELEM_USERDATA, |inside| {
                    inside.put(&[NFTNL_UDATA_SET_ELEM_COMMENT, MARK.len() as u8 + 1]);
                    inside.put(MARK.as_bytes());
                    inside.put(&[0]);
                });
            }
            Some(())
        })
    }

    fn key(&mut self, key: Key) -> Option<()> {
        match key {
            Key::Address(address) => self.address(address),
            Key::Session(Session { local, remote }) => {
                // As the sets join them, each padded.
                self.end(remote);
                self.end(local);
            }
            Key::Network(_) => return None,
        }
        Some(())
    }

    fn address(&mut self, address: IpAddr) {
        match address {
            IpAddr::V4(address) => self.put(&address.octets()),
            IpAddr::V6(address) => self.put(&address.octets()),
        }
    }

    fn end(&mut self, end: SocketAddr) {
        self.address(end.ip());
        self.put(&end.port().to_be_bytes());
        self.put(&[0; 2]);
    }
}

#[cfg(test)]
mod tests;
