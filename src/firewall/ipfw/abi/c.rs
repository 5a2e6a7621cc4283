//! The structures of sys/netinet/ip_fw.h. They are laid out for their offsets; none is ever made.

#![forbid(unsafe_code)]
#![allow(dead_code, missing_docs)] // their fields are the kernel's

use std::mem::{offset_of, size_of};

/// `ip_fw3_opheader`.
#[repr(C)]
pub struct OpHeader {
    pub opcode: u16,
    pub version: u16,
    pub reserved: [u16; 2],
}

/// `ipfw_obj_tlv`: kind and length of what begins with it.
#[repr(C)]
pub struct Tlv {
    pub kind: u16,
    pub flags: u16,
    pub length: u32,
}

/// `ipfw_obj_ntlv`.
#[repr(C)]
pub struct Name {
    pub head: Tlv,
    pub idx: u16,
    pub set: u8,
    pub kind: u8,
    pub spare: u32,
    pub name: [u8; 64],
}

/// The same in 15.
#[repr(C)]
pub struct WideName {
    pub head: Tlv,
    pub idx: u32,
    pub set: u8,
    pub kind: u8,
    pub spare: u16,
    pub name: [u8; 64],
}

/// `ipfw_obj_header`.
#[repr(C)]
pub struct Header {
    pub op: OpHeader,
    pub spare: u32,
    pub idx: u16,
    pub objtype: u8,
    pub objsubtype: u8,
    pub name: Name,
}

/// The same in 15.
#[repr(C)]
pub struct WideHeader {
    pub op: OpHeader,
    pub idx: u32,
    pub spare: u16,
    pub objtype: u8,
    pub objsubtype: u8,
    pub name: WideName,
}

/// `ipfw_obj_ctlv`.
#[repr(C)]
pub struct List {
    pub head: Tlv,
    pub count: u32,
    pub size: u16,
    pub version: u8,
    pub flags: u8,
}

/// `ipfw_table_value`.
#[repr(C)]
pub struct Value {
    pub tag: u32,
    pub pipe: u32,
    pub divert: u16,
    pub skipto: u16,
    pub netgraph: u32,
    pub fib: u32,
    pub nat: u32,
    pub nh4: u32,
    pub dscp: u8,
    pub spare0: u8,
    pub spare1: u16,
    pub nh6: [u8; 16],
    pub limit: u32,
    pub zoneid: u32,
    pub reserved: u64,
}

/// `ipfw_obj_tentry`.
#[repr(C)]
pub struct Entry {
    pub head: Tlv,
    pub subtype: u8,
    pub masklen: u8,
    pub result: u8,
    pub spare0: u8,
    pub idx: u16,
    pub spare1: u16,
    pub key: [u8; 40],
    pub value: Value,
}

/// The same in 15.
#[repr(C)]
pub struct WideEntry {
    pub head: Tlv,
    pub subtype: u8,
    pub masklen: u8,
    pub result: u8,
    pub spare0: u8,
    pub idx: u32,
    pub key: [u8; 40],
    pub value: Value,
}

/// `struct tflow_entry`.
#[repr(C)]
pub struct Flow {
    pub af: u8,
    pub proto: u8,
    pub spare: u16,
    pub sport: u16,
    pub dport: u16,
    /// Source and destination; 4 bytes each in IPv4.
    pub ends: [u8; 32],
}

/// `ipfw_xtable_info`.
#[repr(C)]
pub struct TableInfo {
    pub kind: u8,
    pub tflags: u8,
    pub mflags: u16,
    pub flags: u16,
    pub spare: [u16; 3],
    pub vmask: u32,
    pub set: u32,
    pub kidx: u32,
    pub refcnt: u32,
    pub count: u32,
    pub size: u32,
    pub limit: u32,
    pub tablename: [u8; 64],
    pub algoname: [u8; 64],
    pub ta_info: [u32; 8],
}

/// `ipfw_cfg_lheader`.
#[repr(C)]
pub struct ConfigHeader {
    pub op: OpHeader,
    pub set_mask: u32,
    pub spare: u32,
    pub flags: u32,
    pub size: u32,
    pub start_rule: u32,
    pub end_rule: u32,
}

/// `ipfw_obj_tlv` and `struct ip_fw_rule`, up to its instructions.
#[repr(C)]
pub struct Rule {
    pub head: Tlv,
    pub act_ofs: u16,
    pub cmd_len: u16,
    pub spare: u16,
    pub set: u8,
    pub flags: u8,
    pub rulenum: u32,
    pub id: u32,
}

const _: () = {
    assert!(size_of::<OpHeader>() == 8);
    assert!(size_of::<Header>() == 96);
    assert!(size_of::<Name>() == 80);
    assert!(size_of::<Tlv>() == 8);
    assert!(size_of::<List>() == 16);
    assert!(size_of::<Entry>() == 120);
    assert!(size_of::<TableInfo>() == 200);
    assert!(offset_of!(Header, idx) == 12);
    assert!(offset_of!(Header, objtype) == 14);
    assert!(offset_of!(Header, objsubtype) == 15);
    assert!(offset_of!(Header, name) == 16);
    assert!(offset_of!(Name, idx) == 8);
    assert!(offset_of!(Name, set) == 10);
    assert!(offset_of!(Name, kind) == 11);
    assert!(offset_of!(Name, name) == 16);
    assert!(offset_of!(List, count) == 8);
    assert!(offset_of!(List, size) == 12);
    assert!(offset_of!(List, version) == 14);
    assert!(offset_of!(List, flags) == 15);
    assert!(offset_of!(Entry, subtype) == 8);
    assert!(offset_of!(Entry, masklen) == 9);
    assert!(offset_of!(Entry, result) == 10);
    assert!(offset_of!(Entry, idx) == 12);
    assert!(offset_of!(Entry, key) == 16);
    assert!(offset_of!(Entry, value) == 56);
    assert!(size_of::<Flow>() == 40);
    assert!(offset_of!(Flow, ends) == 8);
    assert!(size_of::<Value>() == 64);
    assert!(offset_of!(TableInfo, vmask) == 12);
    assert!(size_of::<ConfigHeader>() == 32);
    assert!(size_of::<Rule>() == 24);

    assert!(size_of::<WideHeader>() == size_of::<Header>());
    assert!(size_of::<WideName>() == size_of::<Name>());
    assert!(size_of::<WideEntry>() == size_of::<Entry>());
    assert!(offset_of!(WideHeader, idx) == 8);
    assert!(offset_of!(WideHeader, objtype) == 14);
    assert!(offset_of!(WideHeader, name) == 16);
    assert!(offset_of!(WideName, idx) == 8);
    assert!(offset_of!(WideName, set) == 12);
    assert!(offset_of!(WideName, kind) == 13);
    assert!(offset_of!(WideName, name) == 16);
    assert!(offset_of!(WideEntry, idx) == 12);
    assert!(offset_of!(WideEntry, key) == 16);
    assert!(offset_of!(WideEntry, value) == 56);
};
