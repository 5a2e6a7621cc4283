use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use super::super::elements::{Edit, Verb, entry};
use super::super::script::Name;
use super::*;

/// A double of the kernel: what it was sent, and what it will say.
#[derive(Clone, Default)]
struct Double(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    opened: usize,
    sent: Vec<Vec<u8>>,
    says: VecDeque<nix::Result<Vec<u8>>>,
}

impl Double {
    fn netlink(&self) -> Netlink {
        let double = self.clone();
        Netlink::by(Box::new(move || {
            double.0.lock().unwrap().opened += 1;
            Ok(Box::new(double.clone()))
        }))
    }

    fn says(&self, what: impl IntoIterator<Item = nix::Result<Vec<u8>>>) {
        self.0.lock().unwrap().says.extend(what);
    }

    fn opened(&self) -> usize {
        self.0.lock().unwrap().opened
    }

    fn sent(&self) -> usize {
        std::mem::take(&mut self.0.lock().unwrap().sent).len()
    }
}

impl Wire for Double {
    fn send(&mut self, messages: &[u8]) -> nix::Result<()> {
        self.0.lock().unwrap().sent.push(messages.to_vec());
        Ok(())
    }

    fn receive(&mut self, into: &mut [u8]) -> nix::Result<usize> {
        let said = self.0.lock().unwrap().says.pop_front();
        let said = said.unwrap_or(Err(Errno::EAGAIN))?;
        into[..said.len()].copy_from_slice(&said);
        Ok(said.len())
    }
}

fn message(kind: u16, number: u32, body: &[u8]) -> Vec<u8> {
    let mut message = (16 + body.len() as u32).to_ne_bytes().to_vec();
    message.extend(kind.to_ne_bytes());
    message.extend([0; 2]);
    message.extend(number.to_ne_bytes());
    message.extend([0; 4]);
    message.extend(body);
    message
}

/// An acknowledgement, or an error.
fn result(number: u32, error: i32) -> nix::Result<Vec<u8>> {
    Ok(message(2, number, &(-error).to_ne_bytes()))
}

fn generation(number: u32, generation: u32) -> nix::Result<Vec<u8>> {
    let mut body = vec![0, 0, 0, 0, 8, 0, 1, 0];
    body[4..6].copy_from_slice(&8u16.to_ne_bytes());
    body[6..8].copy_from_slice(&1u16.to_ne_bytes());
    body.extend(generation.to_be_bytes());
    Ok(message(10 << 8 | 15, number, &body))
}

/// One edit: messages 1, 2 and 3 of a transaction, and 4 asks for the generation.
fn edits() -> [Edit; 1] {
    [Edit {
        verb: Verb::Add,
        set: Name::fixed("ssh_4"),
        elements: vec![entry([192, 0, 2, 7].into(), Duration::from_secs(30))],
    }]
}

/// What becomes of a transaction to which the kernel says this.
fn outcome(
    says: impl IntoIterator<Item = nix::Result<Vec<u8>>>,
) -> (Result<Option<u32>, Refusal>, usize) {
    let double = Double::default();
    let mut netlink = double.netlink();
    double.says(says);
    let outcome = netlink.carry_out(&edits(), Some(7));
    // The next question tells whether the socket is kept.
    let _ = netlink.generation();
    (outcome, double.opened())
}

#[test]
fn a_transaction_takes_two_messages_each_way() {
    let double = Double::default();
    let mut netlink = double.netlink();
    double.says([result(2, 0), generation(4, 8)]);
    assert_eq!(netlink.carry_out(&edits(), Some(7)), Ok(Some(8)));
    assert_eq!((double.sent(), double.opened()), (2, 1));
    double.says([generation(5, 8)]);
    assert_eq!(netlink.generation(), Some(8));
    // Nothing to be done: all that is asked is whether all is as it was.
    double.says([generation(6, 8), generation(7, 9), generation(8, 9)]);
    assert_eq!(netlink.carry_out(&[], Some(8)), Ok(Some(8)));
    assert_eq!(
        netlink.carry_out(&[], Some(8)),
        Err(Refusal::Changed(MOVED))
    );
    assert_eq!(netlink.carry_out(&[], None), Ok(Some(9)));
    assert_eq!((double.sent(), double.opened()), (4, 1), "it was kept");
}

#[test]
fn what_the_kernel_refuses() {
    let unable = |why: &str| Err(Refusal::Unable(why.to_owned()));
    for (number, expected, opened) in [
        // ENOENT, EEXIST, EBUSY.
        (2, Err(Refusal::Changed(Errno::ENOENT)), 1),
        (17, Err(Refusal::Changed(Errno::EEXIST)), 1),
        (16, Err(Refusal::Changed(Errno::EBUSY)), 1),
        // ERESTART, in most of Linux.
        #[cfg(target_os = "linux")]
        (MOVED as i32, Err(Refusal::Changed(MOVED)), 1),
        (1, unable("EPERM: Operation not permitted"), 2),
        (22, unable("EINVAL: Invalid argument"), 2),
    ] {
        // About the transaction, or about an edit, with or without a word of the last.
        for says in [
            vec![result(1, number), generation(4, 7)],
            vec![result(2, number), generation(4, 7)],
            vec![result(1, number), result(2, 0), generation(4, 7)],
            vec![result(2, 0), result(1, number), generation(4, 7)],
        ] {
            assert_eq!(outcome(says), (expected.clone(), opened), "{number}");
        }
    }
    // Not even the generation is told.
    let says = [result(1, 1), result(4, 1)];
    let expected = unable("EPERM: Operation not permitted");
    assert_eq!(outcome(says), (expected, 2));
}

#[test]
fn what_is_not_said_was_not_done() {
    let unable = |why: &str| Err(Refusal::Unable(why.to_owned()));
    // An answer to something else.
    for says in [
        vec![generation(4, 8)],
        vec![result(3, 0), generation(4, 8)],
        vec![result(0, 2), generation(4, 8)],
        vec![generation(2, 8), generation(4, 8)],
    ] {
        let expected = unable("no word of what became of it");
        assert_eq!(outcome(says), (expected, 1));
    }
    // Done, and nobody knows where the ruleset is now.
    assert_eq!(outcome([result(2, 0), result(4, 22)]), (Ok(None), 1));
    // Old answers, somebody else's and signals are passed over.
    let says = [
        Err(Errno::EINTR),
        result(0, 22),
        generation(0, 5),
        Ok(Vec::new()),
        Ok(vec![0xff; 40]),
        result(2, 0),
        generation(4, 8),
    ];
    assert_eq!(outcome(says), (Ok(Some(8)), 1));
    // As when its buffer ran over.
    let expected = unable("netlink socket: ENOBUFS: No buffer space available");
    assert_eq!(outcome([Err(Errno::ENOBUFS)]), (expected, 2));
}

#[test]
fn a_kernel_that_does_not_answer_is_left_alone_for_a_while() {
    let double = Double::default();
    let mut netlink = double.netlink();
    let silent = netlink.carry_out(&edits(), None).unwrap_err();
    assert_eq!(silent.to_string(), "the kernel did not answer within 1s");
    assert_eq!(double.sent(), 2);
    double.says([result(2, 0), generation(4, 8)]);
    let paused = netlink.carry_out(&edits(), None).unwrap_err();
    assert_eq!(paused.to_string(), "the kernel did not answer of late");
    assert_eq!(netlink.generation(), None);
    assert_eq!((double.sent(), double.opened()), (0, 1));
    // Then it is tried again.
    netlink.pause = Some(Instant::now());
    double.0.lock().unwrap().says.clear();
    let next = netlink.number;
    double.says([result(next + 2, 0), generation(next + 4, 8)]);
    assert_eq!(netlink.carry_out(&edits(), None), Ok(Some(8)));
    assert_eq!((double.sent(), double.opened()), (2, 2));
}

#[test]
fn a_socket_that_cannot_be_had_is_tried_for_again() {
    let mut have = false;
    let double = Double::default();
    let mut inner = double.netlink();
    let mut netlink = Netlink::by(Box::new(move || match std::mem::replace(&mut have, true) {
        true => (inner.open)(),
        false => Err(Errno::EAFNOSUPPORT),
    }));
    assert_eq!(
        netlink.carry_out(&edits(), None),
        Err(Refusal::Unable(
            "netlink socket: EAFNOSUPPORT: Address family not supported by protocol".to_owned()
        ))
    );
    let next = netlink.number;
    double.says([generation(next + 1, 3)]);
    assert_eq!(netlink.generation(), Some(3));
}
