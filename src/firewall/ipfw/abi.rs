//! What the kernel reads and writes at ipfw's socket option `IP_FW3`.
//!
//! From FreeBSD's sys/netinet/ip_fw.h and sys/netpfil/ipfw/ip_fw_table.c, filled in as ipfw(8)
//! does (sbin/ipfw/tables.c). Sizes and offsets were printed by a C program on 12.1; 13 and 14
//! have the same. In 15 the indexes of named objects grew from 16 to 32 bits, within the same
//! sizes. All numbers are in the machine's order, addresses and ports in the network's.

#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::mem::{offset_of, size_of};
use std::net::IpAddr;

use crate::config::Network;

use super::super::sessions::Session;
use super::batch::{Holds, SET, Table};

mod c;

/// Adds entries, or sets the values of those that are there (`IP_FW_TABLE_XADD`).
const ADD: u16 = 86;
/// Deletes entries (`IP_FW_TABLE_XDEL`).
const DELETE: u16 = 87;
/// Describes a table (`IP_FW_TABLE_XINFO`).
const INFO: u16 = 93;
/// Lists rules (`IP_FW_XGET`).
const RULES: u16 = 97;

/// `opheader.version` of [`ADD`] and [`DELETE`], in every format.
const ENTRIES: u16 = 1;
/// The number by which entries refer to their table's name.
const INDEX: u8 = 1;

/// `IPFW_TLV_TBL_NAME`.
const NAME: u16 = 1;
/// `IPFW_TLV_TBLNAME_LIST`.
const NAMES: u16 = 2;
/// `IPFW_TLV_RULE_LIST`.
const LIST_OF_RULES: u16 = 3;
/// `IPFW_TLV_RULE_ENT`.
const RULE: u16 = 7;
/// `IPFW_TF_UPDATE`: what is there already gets the new value.
const UPDATE: u16 = 1;
/// `IPFW_CTF_ATOMIC`: all entries of a call or none.
const ATOMIC: u8 = 1;
/// `IPFW_CFG_GET_STATIC`: rules, without their counters.
const STATIC: u32 = 1;
/// `IPFW_TABLE_ADDR` and `IPFW_TABLE_FLOW`.
const ADDRESSES: u8 = 1;
const FLOWS: u8 = 4;
/// `IPFW_TFFLAG_*`: source, destination, their ports, and the protocol.
const ALL_OF_A_FLOW: u8 = 0x1f;
/// `IPFW_VTYPE_LEGACY`: one number, which stands for a value of every kind.
const ONE_NUMBER: u32 = u32::MAX;
/// FreeBSD's `AF_INET` and `AF_INET6`.
const INET: u8 = 2;
const INET6: u8 = 28;
const TCP: u8 = 6;

#[cfg(target_os = "freebsd")]
const _: () = {
    assert!(INET as i32 == nix::libc::AF_INET);
    assert!(INET6 as i32 == nix::libc::AF_INET6);
};

const HEADER: usize = size_of::<c::Header>();
const LIST: usize = size_of::<c::List>();
const ENTRY: usize = size_of::<c::Entry>();

/// How structures are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Indexes of 16 bits: FreeBSD 12 to 14.
    Narrow,
    /// Indexes of 32 bits: FreeBSD 15.
    Wide,
}

impl Format {
    /// `opheader.version` of what had only one version before 15 (`IP_FW3_OPVER`).
    fn version(self) -> u16 {
        match self {
            Format::Narrow => 0,
            Format::Wide => 1,
        }
    }
}

/// What an entry is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key<'a> {
    /// An address or a network.
    Network(Network),
    /// A session.
    Flow(&'a Session),
}

/// What becomes of entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// They are made, or get this value.
    Add(u32),
    /// They are taken out.
    Delete,
}

/// What became of an entry (`IPFW_TR_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Became {
    /// It was made.
    Added,
    /// It has another value.
    Updated,
    /// It was taken out.
    Deleted,
    /// It was not there.
    NotFound,
    /// None of it.
    Failed(u8),
}

/// What a table holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Info {
    kind: u8,
    flags: u8,
    values: u32,
}

impl Info {
    /// Whether that is what we put into tables, with one number to an entry.
    pub fn fits(&self, holds: Holds) -> bool {
        let kind = match holds {
            Holds::Addresses => self.kind == ADDRESSES,
            Holds::Flows => self.kind == FLOWS && self.flags == ALL_OF_A_FLOW,
        };
        kind && self.values == ONE_NUMBER
    }
}

fn put(buffer: &mut [u8], at: usize, bytes: &[u8]) {
    buffer[at..at + bytes.len()].copy_from_slice(bytes);
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn opcode(buffer: &mut [u8], opcode: u16, version: u16) {
    put(
        buffer,
        offset_of!(c::OpHeader, opcode),
        &opcode.to_ne_bytes(),
    );
    put(
        buffer,
        offset_of!(c::OpHeader, version),
        &version.to_ne_bytes(),
    );
}

/// An index in its place of either format.
fn index(format: Format, buffer: &mut [u8], narrow: usize, wide: usize) {
    match format {
        Format::Narrow => put(buffer, narrow, &u16::from(INDEX).to_ne_bytes()),
        Format::Wide => put(buffer, wide, &u32::from(INDEX).to_ne_bytes()),
    }
}

/// `ipfw_obj_header`, with room behind it.
fn header(format: Format, table: &Table, kind: u8, room: usize) -> Vec<u8> {
    let mut buffer = vec![0; HEADER + room];
    index(
        format,
        &mut buffer,
        offset_of!(c::Header, idx),
        offset_of!(c::WideHeader, idx),
    );
    let name = &mut buffer[offset_of!(c::Header, name)..HEADER];
    put(name, offset_of!(c::Tlv, kind), &NAME.to_ne_bytes());
    put(
        name,
        offset_of!(c::Tlv, length),
        &(size_of::<c::Name>() as u32).to_ne_bytes(),
    );
    index(
        format,
        name,
        offset_of!(c::Name, idx),
        offset_of!(c::WideName, idx),
    );
    let (set_at, kind_at) = match format {
        Format::Narrow => (offset_of!(c::Name, set), offset_of!(c::Name, kind)),
        Format::Wide => (offset_of!(c::WideName, set), offset_of!(c::WideName, kind)),
    };
    name[set_at] = match table {
        Table::Ours(_) => SET,
        Table::Theirs(_) => 0,
    };
    name[kind_at] = kind;
    // At most 63 bytes: a name is checked when it is made.
    put(
        name,
        offset_of!(c::Name, name),
        table.name().as_str().as_bytes(),
    );
    buffer
}

/// Asks what a table holds; [`read_info`] reads the answer, which has the same length. ESRCH:
/// there is no such table.
pub fn info(format: Format, table: &Table) -> Vec<u8> {
    let mut buffer = header(format, table, 0, size_of::<c::TableInfo>());
    opcode(&mut buffer, INFO, format.version());
    buffer
}

/// See [`info`].
pub fn read_info(answer: &[u8]) -> Option<Info> {
    let info = answer.get(HEADER..HEADER + size_of::<c::TableInfo>())?;
    Some(Info {
        kind: info[offset_of!(c::TableInfo, kind)],
        flags: info[offset_of!(c::TableInfo, tflags)],
        values: u32_at(info, offset_of!(c::TableInfo, vmask))?,
    })
}

/// Adds entries to a table or deletes them; [`became`] reads the answer, which has the same
/// length.
pub fn change(format: Format, table: &Table, verb: Verb, keys: &[Key]) -> Vec<u8> {
    let kind = match keys.first() {
        Some(Key::Flow(_)) => FLOWS,
        _ => ADDRESSES,
    };
    let mut buffer = header(format, table, kind, LIST + keys.len() * ENTRY);
    let code = match verb {
        Verb::Add(_) => ADD,
        Verb::Delete => DELETE,
    };
    opcode(&mut buffer, code, ENTRIES);
    let list = &mut buffer[HEADER..];
    let (length, count) = (list.len() as u32, keys.len() as u32);
    put(list, offset_of!(c::Tlv, length), &length.to_ne_bytes());
    put(list, offset_of!(c::List, count), &count.to_ne_bytes());
    if let Verb::Add(_) = verb {
        list[offset_of!(c::List, flags)] = ATOMIC;
    }
    for (key, entry) in keys.iter().zip(list[LIST..].chunks_exact_mut(ENTRY)) {
        put(
            entry,
            offset_of!(c::Tlv, length),
            &(ENTRY as u32).to_ne_bytes(),
        );
        index(
            format,
            entry,
            offset_of!(c::Entry, idx),
            offset_of!(c::WideEntry, idx),
        );
        let (family, length) = match key {
            Key::Network(network) => {
                let (family, address) = of(network.address());
                put(entry, offset_of!(c::Entry, key), &address);
                (family, network.prefix())
            }
            Key::Flow(session) => {
                let flow = &mut entry[offset_of!(c::Entry, key)..offset_of!(c::Entry, value)];
                (write_flow(flow, session), 0)
            }
        };
        entry[offset_of!(c::Entry, subtype)] = family;
        entry[offset_of!(c::Entry, masklen)] = length;
        if let Verb::Add(value) = verb {
            put(entry, offset_of!(c::Tlv, flags), &UPDATE.to_ne_bytes());
            let at = &mut entry[offset_of!(c::Entry, value)..];
            write_value(format, at, value);
        }
    }
    buffer
}

/// An address's family, and its bytes.
fn of(address: IpAddr) -> (u8, Vec<u8>) {
    match address {
        IpAddr::V4(address) => (INET, address.octets().to_vec()),
        IpAddr::V6(address) => (INET6, address.octets().to_vec()),
    }
}

/// A session of ours as its packets come in: the other end is the source.
fn write_flow(flow: &mut [u8], Session { local, remote }: &Session) -> u8 {
    let (family, source) = of(remote.ip());
    let (_, destination) = of(local.ip());
    flow[offset_of!(c::Flow, af)] = family;
    flow[offset_of!(c::Flow, proto)] = TCP;
    put(
        flow,
        offset_of!(c::Flow, sport),
        &remote.port().to_be_bytes(),
    );
    put(
        flow,
        offset_of!(c::Flow, dport),
        &local.port().to_be_bytes(),
    );
    put(flow, offset_of!(c::Flow, ends), &source);
    put(flow, offset_of!(c::Flow, ends) + source.len(), &destination);
    family
}

/// One number as a value of every kind (`set_legacy_value` of ipfw(8)). Of the wide format only
/// the place of the first is known, which is the one that is listed.
fn write_value(format: Format, at: &mut [u8], value: u32) {
    let (bytes, [.., a, b]) = (value.to_ne_bytes(), value.to_be_bytes());
    put(at, offset_of!(c::Value, tag), &bytes);
    if format == Format::Wide {
        return;
    }
    for place in [
        offset_of!(c::Value, pipe),
        offset_of!(c::Value, netgraph),
        offset_of!(c::Value, fib),
        offset_of!(c::Value, nat),
        offset_of!(c::Value, nh4),
        offset_of!(c::Value, limit),
    ] {
        put(at, place, &bytes);
    }
    let half = u16::from_be_bytes([a, b]).to_ne_bytes();
    put(at, offset_of!(c::Value, divert), &half);
    put(at, offset_of!(c::Value, skipto), &half);
    at[offset_of!(c::Value, dscp)] = b;
}

/// What became of the entries of a [`change`].
pub fn became(answer: &[u8]) -> impl Iterator<Item = Became> {
    let entries = answer.get(HEADER + LIST..).unwrap_or_default();
    let result = |entry: &[u8]| match entry[offset_of!(c::Entry, result)] {
        1 => Became::Added,
        2 => Became::Updated,
        3 => Became::Deleted,
        5 => Became::NotFound,
        other => Became::Failed(other),
    };
    entries.chunks_exact(ENTRY).map(result)
}

/// Asks for the rules from the first of these numbers to the last, with room for an answer of so
/// many bytes. ENOMEM: that is too little, see [`needed`].
pub fn rules(format: Format, numbers: &BTreeSet<u16>, room: usize) -> Vec<u8> {
    let mut buffer = vec![0; size_of::<c::ConfigHeader>().max(room)];
    opcode(&mut buffer, RULES, format.version());
    let first = u32::from(numbers.first().copied().unwrap_or_default());
    let last = u32::from(numbers.last().copied().unwrap_or_default());
    put(
        &mut buffer,
        offset_of!(c::ConfigHeader, flags),
        &STATIC.to_ne_bytes(),
    );
    put(
        &mut buffer,
        offset_of!(c::ConfigHeader, start_rule),
        &first.to_ne_bytes(),
    );
    put(
        &mut buffer,
        offset_of!(c::ConfigHeader, end_rule),
        &last.to_ne_bytes(),
    );
    buffer
}

/// How many bytes the answer to [`rules`] has or would have.
pub fn needed(answer: &[u8]) -> Option<usize> {
    let size = u32_at(answer, offset_of!(c::ConfigHeader, size))?;
    usize::try_from(size).ok()
}

/// Of the answer to [`rules`], the rules of our set that have one of these numbers, as the kernel
/// has them: with their instructions, and a number of their own that no other rule gets.
pub fn lasting(answer: &[u8], numbers: &BTreeSet<u16>) -> Option<Vec<u8>> {
    let mut rest = answer.get(size_of::<c::ConfigHeader>()..)?;
    let mut found = Vec::new();
    while !rest.is_empty() {
        let (list, more) = tlv(rest)?;
        rest = more;
        match u16_at(list, offset_of!(c::Tlv, kind))? {
            NAMES => continue,
            LIST_OF_RULES => {}
            _ => return None,
        }
        let mut rules = list.get(LIST..)?;
        while !rules.is_empty() {
            let (rule, more) = tlv(rules)?;
            rules = more;
            if u16_at(rule, offset_of!(c::Tlv, kind))? != RULE {
                return None;
            }
            let set = *rule.get(offset_of!(c::Rule, set))?;
            let number = u32_at(rule, offset_of!(c::Rule, rulenum))?;
            let ours = u16::try_from(number).is_ok_and(|number| numbers.contains(&number));
            if set == SET && ours {
                found.extend_from_slice(rule);
            }
        }
    }
    Some(found)
}

/// The first of what begins with kind and length, and what is behind it.
fn tlv(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let length = usize::try_from(u32_at(bytes, offset_of!(c::Tlv, length))?).ok()?;
    if length < size_of::<c::Tlv>() {
        return None;
    }
    bytes.split_at_checked(length)
}

#[cfg(test)]
mod tests;
