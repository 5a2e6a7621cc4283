//! The generation of the kernel's ruleset: a number that every committed transaction moves by
//! one. As long as it is where we left it, everything of ours stands as we left it, and looking
//! costs no process.

/// The number now; `None` where the kernel will not say.
#[cfg(target_os = "linux")]
pub fn current() -> Option<u32> {
    linux::ask().ok().flatten()
}

/// nftables is Linux's.
#[cfg(not(target_os = "linux"))]
pub fn current() -> Option<u32> {
    None
}

/// The number that follows: the kernel leaves 0 out.
pub fn next(generation: u32) -> u32 {
    generation.checked_add(1).unwrap_or(1)
}

#[cfg(target_os = "linux")]
mod linux {
    use std::os::fd::AsRawFd;

    use nix::sys::socket::sockopt::ReceiveTimeout;
    use nix::sys::socket::{
        AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto,
        setsockopt, socket,
    };
    use nix::sys::time::TimeVal;

    /// linux/netfilter/nfnetlink.h, linux/netfilter/nf_tables.h.
    const NFNL_SUBSYS_NFTABLES: u16 = 10;
    const NFT_MSG_NEWGEN: u16 = 15;
    const NFT_MSG_GETGEN: u16 = 16;
    const NFTA_GEN_ID: u16 = 1;
    /// linux/netlink.h.
    const NLM_F_REQUEST: u16 = 1;
    /// struct nlmsghdr (length, type, flags, sequence, port), then struct nfgenmsg.
    const HEADERS: usize = 16 + 4;

    pub fn ask() -> nix::Result<Option<u32>> {
        let socket = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::NetlinkNetFilter,
        )?;
        setsockopt(&socket, ReceiveTimeout, &TimeVal::new(1, 0))?;
        let mut ask = [0; HEADERS];
        ask[..4].copy_from_slice(&(HEADERS as u32).to_ne_bytes());
        ask[4..6].copy_from_slice(&(NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETGEN).to_ne_bytes());
        ask[6..8].copy_from_slice(&NLM_F_REQUEST.to_ne_bytes());
        let fd = socket.as_raw_fd();
        sendto(fd, &ask, &NetlinkAddr::new(0, 0), MsgFlags::empty())?;
        let mut answer = [0; 1024];
        let length = recv(fd, &mut answer, MsgFlags::empty())?;
        Ok(number(&answer[..length.min(answer.len())]))
    }

    fn number(answer: &[u8]) -> Option<u32> {
        let kind = u16::from_ne_bytes(answer.get(4..6)?.try_into().ok()?);
        if kind != NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_NEWGEN {
            return None;
        }
        // Attributes: length, type, value, padded to four bytes.
        let mut rest = answer.get(HEADERS..)?;
        loop {
            let length = usize::from(u16::from_ne_bytes(rest.get(..2)?.try_into().ok()?));
            let kind = u16::from_ne_bytes(rest.get(2..4)?.try_into().ok()?);
            if kind == NFTA_GEN_ID {
                return Some(u32::from_be_bytes(rest.get(4..8)?.try_into().ok()?));
            }
            rest = rest.get(length.max(4).next_multiple_of(4)..)?;
        }
    }
}
