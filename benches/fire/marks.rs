//! When a knock's address was let in, seen from outside of whoever let it in: the packet filter
//! tells of the new element or rule, or a command has left its mark. Both by our clock.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::sockopt::RcvBufForce;
use nix::sys::socket::{
    AddressFamily, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, setsockopt, socket,
};
use nix::sys::stat::Mode;
use tempfile::TempDir;

use crate::harness::{Host, chmod};
use crate::wire::KNOCKERS;

/// NFNLGRP_NFTABLES as a bit (linux/netfilter/nfnetlink.h).
const NFTABLES: u32 = 1 << (7 - 1);
/// NFNL_SUBSYS_NFTABLES, and of its messages those of new rules and new elements
/// (linux/netfilter/nf_tables.h).
const SUBSYSTEM: u16 = 10;
const NEW_RULE: u16 = 6;
const NEW_ELEMENTS: u16 = 12;

/// The addresses let in so far, each with its first time.
#[derive(Default)]
struct Opened {
    all: Mutex<HashMap<Ipv4Addr, Instant>>,
    more: Condvar,
}

impl Opened {
    fn add(&self, address: Ipv4Addr, time: Instant) {
        self.all.lock().unwrap().entry(address).or_insert(time);
        self.more.notify_all();
    }
}

/// Watches one host until it is dropped.
pub struct Marks {
    opened: Arc<Opened>,
    stop: Arc<AtomicBool>,
    watchers: Vec<JoinHandle<()>>,
    directory: TempDir,
}

impl Marks {
    /// Begins to watch.
    pub fn new(host: &Host) -> Marks {
        let directory = tempfile::tempdir().unwrap();
        chmod(directory.path(), 0o755);
        let opened = Arc::new(Opened::default());
        let stop = Arc::new(AtomicBool::new(false));
        let mut marks = Marks {
            opened,
            stop,
            watchers: Vec::new(),
            directory,
        };
        let fifo = marks.directory.path().join("fifo");
        nix::unistd::mkfifo(&fifo, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
        marks.watch_fifo(&fifo);
        marks.script("mark", &format!("echo \"$1\" >{}", fifo.display()));
        marks.script(
            "open",
            "exec /usr/sbin/nft add element inet base who \"{ $1 }\"",
        );
        marks.watch_filter(host);
        marks
    }

    /// A command that leaves a mark for the address it is given.
    pub fn mark(&self) -> PathBuf {
        self.directory.path().join("mark")
    }

    /// A command that opens by nft for the address it is given.
    pub fn open(&self) -> PathBuf {
        self.directory.path().join("open")
    }

    fn script(&self, name: &str, line: &str) {
        let path = self.directory.path().join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{line}\n")).unwrap();
        chmod(&path, 0o755);
    }

    /// When this address was let in, if that is within the limit from now.
    pub fn wait(&self, address: Ipv4Addr, limit: Duration) -> Option<Instant> {
        let all = self.opened.all.lock().unwrap();
        let absent = |all: &mut HashMap<_, _>| !all.contains_key(&address);
        let (all, _) = self
            .opened
            .more
            .wait_timeout_while(all, limit, absent)
            .unwrap();
        all.get(&address).copied()
    }

    fn watch_fifo(&mut self, fifo: &Path) {
        // With a writer of our own it never ends.
        let file = File::options()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(fifo)
            .unwrap();
        let mut line = Vec::new();
        self.watch(file.into(), move |bytes, time, opened| {
            for byte in bytes {
                if *byte != b'\n' {
                    line.push(*byte);
                    continue;
                }
                let text = String::from_utf8_lossy(&line).into_owned();
                if let Ok(address) = text.trim().parse() {
                    opened.add(address, time);
                }
                line.clear();
            }
        });
    }

    fn watch_filter(&mut self, host: &Host) {
        let events = host.inside(|| {
            let netlink = AddressFamily::Netlink;
            let filter = SockProtocol::NetlinkNetFilter;
            let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
            let events = socket(netlink, SockType::Raw, flags, filter).unwrap();
            setsockopt(&events, RcvBufForce, &(16 << 20)).unwrap();
            bind(events.as_raw_fd(), &NetlinkAddr::new(0, NFTABLES)).unwrap();
            events
        });
        self.watch(events, |bytes, time, opened| {
            addresses(bytes, |address| opened.add(address, time));
        });
    }

    /// Hands on what can be read, each time with the time.
    fn watch(
        &mut self,
        from: OwnedFd,
        mut hear: impl FnMut(&[u8], Instant, &Opened) + Send + 'static,
    ) {
        let (opened, stop) = (self.opened.clone(), self.stop.clone());
        self.watchers.push(thread::spawn(move || {
            let mut bytes = vec![0; 1 << 16];
            let mut from = File::from(from);
            while !stop.load(Ordering::Relaxed) {
                let mut ready = [PollFd::new(from.as_fd(), PollFlags::POLLIN)];
                let _ = poll(&mut ready, PollTimeout::from(50u8));
                while let Ok(n @ 1..) = from.read(&mut bytes) {
                    hear(&bytes[..n], Instant::now(), &opened);
                }
            }
        }));
    }
}

impl Drop for Marks {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for watcher in self.watchers.drain(..) {
            let _ = watcher.join();
        }
    }
}

/// The addresses of those who knock in messages about new rules and elements. Every attribute of
/// netlink's begins at a multiple of four, and so does an address in one.
fn addresses(mut bytes: &[u8], mut each: impl FnMut(Ipv4Addr)) {
    // struct nlmsghdr: length, type; 16 bytes in all.
    while let Some((header, _)) = bytes.split_first_chunk::<16>() {
        let [l0, l1, l2, l3, k0, k1, ..] = *header;
        let length = u32::from_ne_bytes([l0, l1, l2, l3]) as usize;
        let kind = u16::from_ne_bytes([k0, k1]);
        let message = &bytes[..length.clamp(16, bytes.len())];
        if [NEW_RULE, NEW_ELEMENTS].contains(&(kind ^ SUBSYSTEM << 8)) {
            let words = message[16..].as_chunks::<4>().0;
            for word in words.iter().filter(|w| w[..2] == KNOCKERS) {
                each(Ipv4Addr::from(*word));
            }
        }
        bytes = &bytes[message.len().next_multiple_of(4).min(bytes.len())..];
    }
}
