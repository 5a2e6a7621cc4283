//! nftables by netlink(7): elements of sets, and the ruleset's generation. Two messages there and
//! two back, no process.
//!
//! The generation is a number that every committed transaction moves by one. As long as it is
//! where we left it, everything of ours stands as we left it, and looking costs no process.

use std::fmt;
use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::elements::Edit;
use super::message::{self, Says};

/// How long the kernel may take to answer. It has answered when a message has been sent: it is
/// never waited for.
const LIMIT: Duration = Duration::from_secs(1);
/// For how long the kernel is not asked after it has not answered.
const PAUSE: Duration = Duration::from_secs(60);
/// More than an answer that is no error needs; of others the beginning does.
const ANSWER: usize = 4096;

/// The generation that follows: the kernel leaves 0 out.
pub fn next(generation: u32) -> u32 {
    generation.checked_add(1).unwrap_or(1)
}

/// Why a transaction was not carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The ruleset is not as it was thought to be: somebody has been at it.
    Changed(Errno),
    /// The kernel does not take it in this way, in its words. It may have been carried out if it
    /// did not answer.
    Unable(String),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Refusal::Changed(error) => write!(f, "{error}"),
            Refusal::Unable(why) => f.write_str(why),
        }
    }
}

/// What carries messages to the kernel and back, each call at most for [`LIMIT`].
pub trait Wire: Send {
    /// Sends messages; together they reach the kernel as one.
    fn send(&mut self, messages: &[u8]) -> nix::Result<()>;
    /// Receives some of the kernel's messages and says how many bytes; the end of what does not
    /// fit is lost. 0: they were somebody else's.
    fn receive(&mut self, into: &mut [u8]) -> nix::Result<usize>;
}

/// How a wire is come by.
pub type Open = Box<dyn FnMut() -> nix::Result<Box<dyn Wire>> + Send>;

/// A socket to nftables, opened when it is needed, and anew after it has failed.
pub struct Netlink {
    open: Open,
    wire: Option<Box<dyn Wire>>,
    /// The number of the last message.
    number: u32,
    /// Until when the kernel is not asked.
    pause: Option<Instant>,
}

impl Netlink {
    /// To the kernel.
    pub fn new() -> Netlink {
        Netlink::by(Box::new(socket::open))
    }

    /// By another way.
    pub fn by(open: Open) -> Netlink {
        Netlink {
            open,
            wire: None,
            number: 0,
            pause: None,
        }
    }

    /// The ruleset's generation; `None` where the kernel will not say.
    pub fn generation(&mut self) -> Option<u32> {
        let number = self.numbers(1);
        self.talk(&[&message::generation(number)], number, |_, _| {})
            .ok()?
    }

    /// Carries out edits, all of them or none. `generation`: only if the ruleset's is still
    /// this one. The generation from then on; `None` where the kernel will not say.
    pub fn carry_out(
        &mut self,
        edits: &[Edit],
        generation: Option<u32>,
    ) -> Result<Option<u32>, Refusal> {
        if edits.is_empty() {
            let now = self.generation();
            return match generation {
                Some(_) if now != generation => Err(Refusal::Changed(MOVED)),
                _ => Ok(now),
            };
        }
        let batch = message::batch(edits, self.number.wrapping_add(1), generation);
        let batch = batch.ok_or_else(|| {
            Refusal::Unable("networks are told to nft alone, as ranges".to_owned())
        })?;
        self.number = batch.last;
        let question = self.numbers(1);
        let (mut done, mut error) = (false, None);
        let of_batch =
            |to: u32| to.wrapping_sub(batch.first) <= batch.last.wrapping_sub(batch.first);
        let messages: [&[u8]; 2] = [&batch.bytes, &message::generation(question)];
        let generation = self.talk(&messages, question, |to, says| match says {
            Says::Error(number) if of_batch(to) => error = error.or(Some(Errno::from_raw(number))),
            Says::Done => done |= to == batch.acknowledged,
            _ => {}
        });
        match (error, generation) {
            (Some(error), _) if changed(error) => Err(Refusal::Changed(error)),
            (Some(error), _) => {
                // What a socket may do also depends on who opened it.
                self.wire = None;
                Err(Refusal::Unable(error.to_string()))
            }
            (None, Err(why)) => Err(Refusal::Unable(why)),
            (None, Ok(generation)) if done => Ok(generation),
            (None, Ok(_)) => Err(Refusal::Unable("no word of what became of it".to_owned())),
        }
    }

    /// So many numbers for messages; the first of them.
    fn numbers(&mut self, count: u32) -> u32 {
        let first = self.number.wrapping_add(1);
        self.number = self.number.wrapping_add(count);
        first
    }

    /// Sends messages, the last of which asks for the generation, and hears what the kernel says
    /// until it says that: it answers in their order.
    fn talk(
        &mut self,
        messages: &[&[u8]],
        question: u32,
        hear: impl FnMut(u32, Says),
    ) -> Result<Option<u32>, String> {
        let now = Instant::now();
        if self.pause.is_some_and(|until| now < until) {
            return Err("the kernel did not answer of late".to_owned());
        }
        self.pause = None;
        let wire = match self.wire.take() {
            Some(wire) => Ok(wire),
            None => (self.open)(),
        };
        let mut wire = wire.map_err(|error| format!("netlink socket: {error}"))?;
        let said = converse(&mut *wire, messages, question, hear, now + LIMIT);
        match said {
            Ok(generation) => {
                self.wire = Some(wire);
                Ok(generation)
            }
            Err(Errno::EAGAIN) => {
                self.pause = Some(Instant::now() + PAUSE);
                Err(format!("the kernel did not answer within {LIMIT:?}"))
            }
            Err(error) => Err(format!("netlink socket: {error}")),
        }
    }
}

impl fmt::Debug for Netlink {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.debug_struct("Netlink")
            .field("open", &self.wire.is_some())
            .field("number", &self.number)
            .finish()
    }
}

/// `EAGAIN`: no answer to the question before `until`.
fn converse(
    wire: &mut dyn Wire,
    messages: &[&[u8]],
    question: u32,
    mut hear: impl FnMut(u32, Says),
    until: Instant,
) -> nix::Result<Option<u32>> {
    for message in messages {
        wire.send(message)?;
    }
    let mut buffer = [0; ANSWER];
    loop {
        let length = match wire.receive(&mut buffer) {
            Err(Errno::EINTR) => 0,
            other => other?,
        };
        for answer in message::answers(buffer.get(..length).unwrap_or(&buffer)) {
            match answer.says {
                Says::Generation(generation) if answer.to == question => {
                    return Ok(Some(generation));
                }
                Says::Error(_) if answer.to == question => return Ok(None),
                says => hear(answer.to, says),
            }
        }
        if Instant::now() >= until {
            return Err(Errno::EAGAIN);
        }
    }
}

/// Whether this is about what stands: the table or a set is gone (ENOENT), an element is another
/// than was thought (EEXIST, EBUSY), or the generation is (ERESTART).
fn changed(error: Errno) -> bool {
    matches!(error, Errno::ENOENT | Errno::EEXIST | Errno::EBUSY) || error == MOVED
}

#[cfg(target_os = "linux")]
const MOVED: Errno = Errno::ERESTART;
#[cfg(not(target_os = "linux"))]
const MOVED: Errno = Errno::ENOENT;

#[cfg(target_os = "linux")]
mod socket {
    use std::os::fd::{AsRawFd, OwnedFd};

    use nix::errno::Errno;
    use nix::sys::socket::sockopt::{ReceiveTimeout, SendTimeout, SndBuf, SndBufForce};
    use nix::sys::socket::{
        AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, getsockopt,
        recvfrom, sendto, setsockopt, socket,
    };
    use nix::sys::time::{TimeVal, TimeValLike};

    use super::{LIMIT, Wire};

    /// To the network namespace that the calling thread is in.
    struct Socket {
        socket: OwnedFd,
        /// The longest that it takes at once.
        room: usize,
    }

    /// What the kernel keeps of the buffer for itself (netlink_sendmsg: 32), and more.
    const SPARE: usize = 1024;

    pub fn open() -> nix::Result<Box<dyn Wire>> {
        let socket = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::NetlinkNetFilter,
        )?;
        let limit = TimeVal::milliseconds(LIMIT.as_millis().try_into().unwrap_or(1000));
        setsockopt(&socket, ReceiveTimeout, &limit)?;
        setsockopt(&socket, SendTimeout, &limit)?;
        let room = getsockopt(&socket, SndBuf)?.saturating_sub(SPARE);
        Ok(Box::new(Socket { socket, room }))
    }

    impl Wire for Socket {
        fn send(&mut self, messages: &[u8]) -> nix::Result<()> {
            if messages.len() > self.room {
                setsockopt(&self.socket, SndBufForce, &(messages.len() + SPARE))?;
                self.room = messages.len();
            }
            let (fd, kernel) = (self.socket.as_raw_fd(), NetlinkAddr::new(0, 0));
            loop {
                match sendto(fd, messages, &kernel, MsgFlags::empty()) {
                    Err(Errno::EINTR) => {}
                    sent => return sent.map(drop),
                }
            }
        }

        fn receive(&mut self, into: &mut [u8]) -> nix::Result<usize> {
            let (length, from) = recvfrom::<NetlinkAddr>(self.socket.as_raw_fd(), into)?;
            Ok(match from {
                Some(from) if from.pid() == 0 => length,
                _ => 0,
            })
        }
    }
}

/// nftables is Linux's.
#[cfg(not(target_os = "linux"))]
mod socket {
    pub fn open() -> nix::Result<Box<dyn super::Wire>> {
        Err(nix::errno::Errno::EOPNOTSUPP)
    }
}

#[cfg(test)]
mod tests;
