//! What the kernel reads and writes when /dev/pf is asked about tables.
//!
//! From FreeBSD's sys/net/pfvar.h; sizes and offsets were printed by a C program on 12.1, and are
//! the same in 13 to 15. All numbers are in the machine's order, addresses in the network's.

#![forbid(unsafe_code)]

use std::mem::{offset_of, size_of};
use std::net::IpAddr;

use crate::config::Network;

use super::ANCHOR;

/// `PFR_TFLAG_ACTIVE` and `PFR_TFLAG_REFERENCED`: it is there, and rules name it.
const STANDS: u32 = 0x04 | 0x10;
/// FreeBSD's `AF_INET` and `AF_INET6`.
const INET: u8 = 2;
const INET6: u8 = 28;

#[cfg(target_os = "freebsd")]
const _: () = {
    assert!(INET as i32 == nix::libc::AF_INET);
    assert!(INET6 as i32 == nix::libc::AF_INET6);
};

// Laid out for their offsets; none is ever made.
#[allow(dead_code)]
mod c {
    /// `struct pfr_table`.
    #[repr(C)]
    pub struct Table {
        pub anchor: [u8; 1024],
        pub name: [u8; 32],
        pub flags: u32,
        pub fback: u8,
    }

    /// `struct pfr_addr`.
    #[repr(C)]
    pub struct Address {
        pub address: [u32; 4],
        pub af: u8,
        pub net: u8,
        pub not: u8,
        pub fback: u8,
    }

    /// `struct pfioc_table`.
    #[repr(C)]
    pub struct Request {
        pub table: Table,
        pub buffer: *mut u8,
        pub esize: i32,
        pub size: i32,
        pub size2: i32,
        pub nadd: i32,
        pub ndel: i32,
        pub nchange: i32,
        pub flags: i32,
        pub ticket: u32,
    }
}

const _: () = {
    assert!(size_of::<c::Table>() == 1064);
    assert!(offset_of!(c::Table, name) == 1024);
    assert!(offset_of!(c::Table, flags) == 1056);
    assert!(size_of::<c::Address>() == 20);
    assert!(offset_of!(c::Address, af) == 16);
    assert!(offset_of!(c::Address, net) == 17);
    assert!(offset_of!(c::Address, not) == 18);
    assert!(offset_of!(c::Address, fback) == 19);
    assert!(offset_of!(c::Request, buffer) == 1064);
};

#[cfg(target_pointer_width = "64")]
const _: () = {
    assert!(size_of::<c::Request>() == 1104);
    assert!(offset_of!(c::Request, esize) == 1072);
    assert!(offset_of!(c::Request, size) == 1076);
    assert!(offset_of!(c::Request, size2) == 1080);
    assert!(offset_of!(c::Request, nadd) == 1084);
    assert!(offset_of!(c::Request, ndel) == 1088);
    assert!(offset_of!(c::Request, flags) == 1096);
    assert!(offset_of!(c::Request, ticket) == 1100);
    assert!(Call::Add.number() == 0xc450_4443);
    assert!(Call::Delete.number() == 0xc450_4444);
};

/// Where the address of what a request is about stands in it.
pub const BUFFER: usize = offset_of!(c::Request, buffer);

const TABLE: usize = size_of::<c::Table>();
const ADDRESS: usize = size_of::<c::Address>();

/// A call about tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// Which there are in an anchor (`DIOCRGETTABLES`).
    Tables,
    /// Addresses enter one (`DIOCRADDADDRS`); those in it already stay.
    Add,
    /// They leave it (`DIOCRDELADDRS`); those not in it are not missed.
    Delete,
}

impl Call {
    /// Its number: `_IOWR('D', n, struct pfioc_table)` of sys/sys/ioccom.h.
    pub const fn number(self) -> u32 {
        let number = match self {
            Call::Tables => 63,
            Call::Add => 67,
            Call::Delete => 68,
        };
        0xc000_0000 | (size_of::<c::Request>() as u32) << 16 | (b'D' as u32) << 8 | number
    }
}

/// A call as the kernel takes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Which.
    pub call: Call,
    /// `struct pfioc_table`, but for the address of the items.
    pub head: Vec<u8>,
    /// What is entered or taken out, or room for tables.
    pub items: Vec<u8>,
}

fn put(buffer: &mut [u8], at: usize, bytes: &[u8]) {
    buffer[at..at + bytes.len()].copy_from_slice(bytes);
}

impl Request {
    fn new(call: Call, ours: bool, item: usize, count: usize) -> Request {
        let mut head = vec![0; size_of::<c::Request>()];
        if ours {
            put(&mut head, offset_of!(c::Table, anchor), ANCHOR.as_bytes());
        }
        let number = |number: usize| i32::try_from(number).unwrap_or(i32::MAX).to_ne_bytes();
        put(&mut head, offset_of!(c::Request, esize), &number(item));
        put(&mut head, offset_of!(c::Request, size), &number(count));
        let items = vec![0; item * count];
        Request { call, head, items }
    }

    /// Which tables our anchor has, with room for so many. ENOENT: there is no such anchor.
    pub fn tables(room: usize) -> Request {
        Request::new(Call::Tables, true, TABLE, room)
    }

    /// Networks enter a table or leave it, all or none of them; `ours`: in our anchor, else in
    /// the main ruleset. ESRCH: there is no such table. A name longer than pf's tables have ends
    /// where theirs must.
    pub fn change(call: Call, table: &str, ours: bool, networks: &[Network]) -> Request {
        let mut request = Request::new(call, ours, ADDRESS, networks.len());
        let name = table.as_bytes();
        put(
            &mut request.head,
            offset_of!(c::Table, name),
            &name[..name.len().min(31)],
        );
        let items = request.items.chunks_exact_mut(ADDRESS);
        for (network, item) in networks.iter().zip(items) {
            item[offset_of!(c::Address, af)] = match network.address() {
                IpAddr::V4(address) => {
                    put(item, 0, &address.octets());
                    INET
                }
                IpAddr::V6(address) => {
                    put(item, 0, &address.octets());
                    INET6
                }
            };
            item[offset_of!(c::Address, net)] = network.prefix();
        }
        request
    }

    /// How many tables there are, of an answer.
    pub fn count(&self) -> usize {
        let at = offset_of!(c::Request, size);
        let count = self
            .head
            .get(at..at + 4)
            .and_then(|bytes| bytes.try_into().ok());
        let count = count.map_or(0, i32::from_ne_bytes);
        usize::try_from(count).unwrap_or_default()
    }

    /// The names of the tables in an answer that are there and that rules name.
    pub fn standing(&self) -> impl Iterator<Item = &[u8]> {
        let tables = self.items.chunks_exact(TABLE).take(self.count());
        tables.filter_map(|table| {
            let flags = offset_of!(c::Table, flags);
            let flags = u32::from_ne_bytes(table.get(flags..flags + 4)?.try_into().ok()?);
            let name = table.get(offset_of!(c::Table, name)..offset_of!(c::Table, flags))?;
            let end = name.iter().position(|byte| *byte == 0)?;
            (flags & STANDS == STANDS).then(|| &name[..end])
        })
    }
}

#[cfg(test)]
mod tests;
