//! /dev/pf.

use std::fmt::Debug;

use nix::errno::Errno;

use super::super::drive::Refusal;
use super::abi::Request;

/// pf in the kernel, or a double of it.
pub trait Device: Debug + Send {
    /// Whether it can be spoken to.
    fn ready(&mut self) -> Result<(), Refusal>;

    /// Makes a call; the answer stands in place of the request.
    fn call(&mut self, request: &mut Request) -> Result<(), Errno>;
}

/// That of this machine.
pub fn device() -> Box<dyn Device> {
    Box::new(system::System::default())
}

#[cfg(target_os = "freebsd")]
mod system {
    use std::os::fd::{AsRawFd, OwnedFd};

    use nix::errno::Errno;
    use nix::fcntl::{OFlag, open};
    use nix::libc::{self, c_int, c_ulong};
    use nix::sys::stat::Mode;

    use super::super::super::drive::Refusal;
    use super::super::abi::{BUFFER, Request};
    use super::Device;

    const PATH: &str = "/dev/pf";

    /// Opened when it is first needed and kept, until a call on it fails.
    #[derive(Debug, Default)]
    pub struct System(Option<OwnedFd>);

    impl System {
        fn open(&mut self) -> Result<c_int, Errno> {
            let device = match self.0.take() {
                Some(device) => device,
                None => open(PATH, OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty())?,
            };
            Ok(self.0.insert(device).as_raw_fd())
        }
    }

    impl Device for System {
        fn ready(&mut self) -> Result<(), Refusal> {
            let refused = |errno: Errno| Refusal::Refused(format!("{PATH}: {}", errno.desc()));
            self.open().map(drop).map_err(refused)
        }

        fn call(&mut self, request: &mut Request) -> Result<(), Errno> {
            let device = self.open()?;
            let items = request.items.as_mut_ptr().expose_provenance().to_ne_bytes();
            let place = BUFFER..BUFFER + items.len();
            request.head[place.clone()].copy_from_slice(&items);
            let number = c_ulong::from(request.call.number());
            // SAFETY: the number says how long the head is, which `Request` makes so long, and
            // ioctl(2) reads and writes no more of it; pf reads and writes as many items of the
            // size as the head says, which is what `Request` made room for. Both are ours alone
            // and outlive the call.
            let done = unsafe { libc::ioctl(device, number, request.head.as_mut_ptr()) };
            request.head[place].fill(0);
            let done = Errno::result(done).map(drop);
            if done.is_err() {
                self.0 = None;
            }
            done
        }
    }
}

#[cfg(not(target_os = "freebsd"))]
mod system {
    use nix::errno::Errno;

    use super::super::super::drive::Refusal;
    use super::super::abi::{BUFFER, Request};
    use super::Device;

    #[derive(Debug, Default)]
    pub struct System {}

    impl Device for System {
        fn ready(&mut self) -> Result<(), Refusal> {
            let why = "only FreeBSD's kernel takes pf's calls";
            Err(Refusal::Unknown(why.to_owned()))
        }

        fn call(&mut self, request: &mut Request) -> Result<(), Errno> {
            // Of what is made for FreeBSD's sake all is used here too.
            let _ = (request.call.number(), BUFFER);
            Err(Errno::ENOENT)
        }
    }
}
