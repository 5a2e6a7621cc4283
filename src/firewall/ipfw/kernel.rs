//! The socket option `IP_FW3`, through which ipfw in the kernel is spoken to.

use std::fmt::Debug;

use nix::errno::Errno;

use super::super::drive::Refusal;

/// ipfw in the kernel, or a double of it.
pub trait Kernel: Debug + Send {
    /// Whether it can be spoken to at all on this system.
    fn ready(&mut self) -> Result<(), Refusal>;

    /// Gives it a request, in whose place the answer then is, also after an error; how many
    /// bytes it answered.
    fn ask(&mut self, request: &mut [u8]) -> Result<usize, Errno>;

    /// `kern.osreldate`.
    fn release(&self) -> Option<u32>;
}

/// That of this machine.
pub fn kernel() -> Box<dyn Kernel> {
    Box::new(system::System::default())
}

#[cfg(target_os = "freebsd")]
mod system {
    use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
    use std::ptr;

    use nix::errno::Errno;
    use nix::libc::{self, c_int, socklen_t};

    use super::super::super::drive::Refusal;
    use super::Kernel;

    /// sys/netinet/in.h.
    const IP_FW3: c_int = 48;

    /// A raw socket, opened when it is first needed and kept.
    #[derive(Debug, Default)]
    pub struct System(Option<OwnedFd>);

    impl System {
        fn socket(&mut self) -> Result<c_int, Errno> {
            if let Some(socket) = &self.0 {
                return Ok(socket.as_raw_fd());
            }
            let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
            // SAFETY: takes and returns numbers alone.
            let fd = unsafe { libc::socket(libc::AF_INET, kind, libc::IPPROTO_RAW) };
            let fd = Errno::result(fd)?;
            // SAFETY: the descriptor is new, open, and nobody else's.
            let socket = unsafe { OwnedFd::from_raw_fd(fd) };
            Ok(self.0.insert(socket).as_raw_fd())
        }
    }

    impl Kernel for System {
        fn ready(&mut self) -> Result<(), Refusal> {
            let refused = |errno: Errno| Refusal::Refused(format!("raw socket: {}", errno.desc()));
            self.socket().map(drop).map_err(refused)
        }

        fn ask(&mut self, request: &mut [u8]) -> Result<usize, Errno> {
            let socket = self.socket()?;
            let mut length = socklen_t::try_from(request.len()).map_err(|_| Errno::EFBIG)?;
            // SAFETY: getsockopt(2) reads and writes at most `length` bytes of the request, which
            // are ours alone and outlive the call; ipfw reads requests through it as well.
            let done = unsafe {
                libc::getsockopt(
                    socket,
                    libc::IPPROTO_IP,
                    IP_FW3,
                    request.as_mut_ptr().cast(),
                    &raw mut length,
                )
            };
            Errno::result(done)?;
            usize::try_from(length).map_err(|_| Errno::EOVERFLOW)
        }

        fn release(&self) -> Option<u32> {
            let mut release: c_int = 0;
            let mut length = size_of::<c_int>();
            // SAFETY: the name ends with its NUL; sysctlbyname(3) writes at most `length` bytes to
            // an int that outlives the call, and the length itself.
            let done = unsafe {
                libc::sysctlbyname(
                    c"kern.osreldate".as_ptr(),
                    (&raw mut release).cast(),
                    &raw mut length,
                    ptr::null_mut(),
                    0,
                )
            };
            Errno::result(done).ok()?;
            u32::try_from(release).ok()
        }
    }
}

#[cfg(not(target_os = "freebsd"))]
mod system {
    use nix::errno::Errno;

    use super::super::super::drive::Refusal;
    use super::Kernel;

    #[derive(Debug, Default)]
    pub struct System {}

    impl Kernel for System {
        fn ready(&mut self) -> Result<(), Refusal> {
            let why = "only FreeBSD's kernel takes ipfw's calls";
            Err(Refusal::Unknown(why.to_owned()))
        }

        fn ask(&mut self, _: &mut [u8]) -> Result<usize, Errno> {
            Err(Errno::ENOPROTOOPT)
        }

        fn release(&self) -> Option<u32> {
            None
        }
    }
}
