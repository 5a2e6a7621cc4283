//! The kernel filter: a program for BPF made from the ports that must reach us.
//!
//! The filter lets through every frame in which [`crate::packet::parse`] could find an arrival
//! at one of the ports, and as little else as its length permits. Protocol and port are tested
//! as one number, `protocol << 16 | port`, by a tree of comparisons: libpcap's optimizer then
//! finds the tree the same in every branch (IPv4, IPv6, each depth of VLAN tags) and keeps one.
//!
//! libpcap's `tcp dst port` and `vlan` are not used. The former makes some eight blocks a port,
//! whose compilation takes minutes for thousands of ports; the latter makes every later offset
//! variable on Linux. There the kernel strips the outermost tag before the filter runs, on
//! FreeBSD the filter sees it; tests at fixed offsets of each depth serve both.

use pcap::{Activated, Capture};

use super::{Filter, MAX_INSTRUCTIONS};
use crate::config::{Protocol, TcpFlags};
use crate::packet::{Link, MAX_TAGS};

/// Ranges of ports at the first compilation: about as many as fit for Ethernet (measured: 490
/// instructions, a tenth of a second). The time grows faster than their number.
const MAX_RANGES: usize = 150;

/// Ranges that are tested one after the other at the leaves of the tree.
const LEAF: usize = 4;

/// Extension headers that the parser follows and BPF cannot: hop-by-hop options, routing,
/// fragment, authentication, destination options.
const EXTENSIONS: [u8; 5] = [0, 43, 44, 51, 60];

/// A range of `protocol << 16 | port`, both ends in it.
type Range = (u32, u32);

/// The filter for `capture`, its ports widened to fewer ranges until it compiles, optimized, to
/// at most [`MAX_INSTRUCTIONS`].
pub(super) fn fit<T: Activated + ?Sized>(
    capture: &Capture<T>,
    link: Link,
    filter: &Filter,
) -> Result<String, pcap::Error> {
    let mut ranges = MAX_RANGES;
    loop {
        let expression = expression(link, filter, ranges);
        let instructions = capture.compile(&expression, true)?.get_instructions().len();
        if instructions <= MAX_INSTRUCTIONS {
            return Ok(expression);
        }
        if ranges <= 2 {
            return Err(pcap::Error::PcapError(format!(
                "the filter has {instructions} instructions, more than {MAX_INSTRUCTIONS}"
            )));
        }
        // A few steps at most: each leaves at least an eighth out.
        ranges = (ranges * MAX_INSTRUCTIONS / instructions).min(ranges - ranges / 8 - 1);
    }
}

/// The libpcap expression that lets `filter` through, its ports merged and widened to at most
/// `max_ranges` ranges (but one for each protocol).
pub(super) fn expression(link: Link, filter: &Filter, max_ranges: usize) -> String {
    let ranges = ranges(filter, max_ranges);
    if ranges.is_empty() && !filter.echo {
        return NOTHING.into();
    }
    let ports = Ports {
        ranges,
        echo: filter.echo,
        flags: filter.flags.filter(|flags| flags.mask != 0),
    };
    match link {
        Link::Ethernet => ports.ethernet(12, MAX_TAGS),
        // The kernel runs filters on cooked frames without their link header and libpcap cannot
        // adapt offsets that are computed from its start. These are rare: of Linux's two tags.
        Link::Cooked => format!("{} or {}", ports.any(), is_tag(14)),
        Link::Cooked2 => format!("{} or {}", ports.any(), is_tag(0)),
        Link::Null | Link::Raw => ports.any(),
    }
}

/// No frame is empty. (`1 = 0` is an error of the compiler's: "rejects all packets".)
const NOTHING: &str = "less 0";

/// The tag protocol identifiers that the parser knows, at `offset` of the frame.
fn is_tag(offset: usize) -> String {
    let is = |tag| format!("link[{offset}:2] = {tag:#x}");
    format!("({} or {} or {})", is(0x8100), is(0x88a8), is(0x9100))
}

struct Ports {
    ranges: Vec<Range>,
    echo: bool,
    flags: Option<TcpFlags>,
}

/// Writes the load of so many bytes at an offset from the start of the IP header.
type At<'a> = &'a dyn Fn(&str, usize) -> String;

impl Ports {
    /// Frames whose link header libpcap knows.
    fn any(&self) -> String {
        format!(
            "(ip and {}) or (ip6 and {})",
            self.ipv4(&|offset, size| format!("ip[{offset}:{size}]")),
            self.ipv6(&|offset, size| format!("ip6[{offset}:{size}]")),
        )
    }

    /// An EtherType at `offset` of the frame and what follows, with up to `tags` tags.
    fn ethernet(&self, offset: usize, tags: usize) -> String {
        let ether_type = format!("link[{offset}:2]");
        let at = |within: &str, size: usize| format!("link[{} + {within}:{size}]", offset + 2);
        let mut out = format!(
            "({ether_type} = 0x800 and {}) or ({ether_type} = 0x86dd and {})",
            self.ipv4(&at),
            self.ipv6(&at),
        );
        if tags > 0 {
            let tagged = self.ethernet(offset + 4, tags - 1);
            out.push_str(&format!(" or ({} and ({tagged}))", is_tag(offset)));
        }
        out
    }

    fn ipv4(&self, at: At) -> String {
        let header_len = format!("(({} & 15) << 2)", at("0", 1));
        format!(
            "({} & 0x1fff = 0 and {})",
            at("6", 2),
            self.carried(
                (&at("9", 1), ECHO),
                &at(&header_len, 2),
                &at(&format!("{header_len} + 2"), 2),
                &at(&format!("{header_len} + 13"), 1),
            ),
        )
    }

    fn ipv6(&self, at: At) -> String {
        let next = at("6", 1);
        let extension: Vec<String> = EXTENSIONS
            .iter()
            .map(|number| format!("{next} = {number}"))
            .collect();
        format!(
            "({} or {})",
            extension.join(" or "),
            self.carried((&next, ECHO_6), &at("40", 2), &at("42", 2), &at("53", 1)),
        )
    }

    /// The test of what IP carries: of an echo request by protocol, type and code, of TCP and UDP
    /// by [`Ports::transport`].
    fn carried(
        &self,
        (protocol, (icmp, request)): (&str, (u32, u32)),
        kind_and_code: &str,
        port: &str,
        flags: &str,
    ) -> String {
        let echo = format!("({protocol} = {icmp} and {kind_and_code} = {request})");
        match (self.echo, self.ranges.is_empty()) {
            (true, true) => echo,
            (true, false) => format!("({echo} or {})", self.transport(protocol, port, flags)),
            (false, _) => self.transport(protocol, port, flags),
        }
    }

    /// The test of a header of TCP or UDP whose port and flags are loaded so.
    fn transport(&self, protocol: &str, port: &str, flags: &str) -> String {
        let mut out = String::from("(");
        if let Some(TcpFlags { mask, value }) = self.flags {
            out.push_str(&format!(
                "({protocol} != {TCP} or {flags} & {mask} = {value}) and "
            ));
        }
        tree(
            &format!("(({protocol} << 16) + {port})"),
            &self.ranges,
            &mut out,
        );
        out.push(')');
        out
    }
}

/// Whether `value` lies in one of `ranges`, which are sorted and apart.
fn tree(value: &str, ranges: &[Range], out: &mut String) {
    out.push('(');
    if ranges.len() <= LEAF {
        for (i, &(low, high)) in ranges.iter().enumerate() {
            let or = if i == 0 { "" } else { " or " };
            if low == high {
                out.push_str(&format!("{or}{value} = {low}"));
            } else {
                out.push_str(&format!("{or}({value} >= {low} and {value} <= {high})"));
            }
        }
    } else {
        let (below, above) = ranges.split_at(ranges.len() / 2);
        let middle = above[0].0;
        // Parentheses: `and` binds no tighter than `or` (pcap-filter(7)).
        out.push_str(&format!("({value} < {middle} and "));
        tree(value, below, out);
        out.push_str(&format!(") or ({value} >= {middle} and "));
        tree(value, above, out);
        out.push(')');
    }
    out.push(')');
}

const TCP: u32 = 6;
const UDP: u32 = 17;

/// Protocol numbers of ICMP and ICMPv6, each with an echo request's type and code.
const ECHO: (u32, u32) = (1, 8 << 8);
const ECHO_6: (u32, u32) = (58, 128 << 8);

/// The ports as at most `max` ranges (but one for each protocol): the smallest gaps between
/// them are closed first, of those alike the lowest.
fn ranges(filter: &Filter, max: usize) -> Vec<Range> {
    let mut keys: Vec<u32> = filter
        .ports
        .iter()
        .map(|port| {
            let protocol = match port.protocol {
                Protocol::Tcp => TCP,
                Protocol::Udp => UDP,
            };
            protocol << 16 | u32::from(port.number)
        })
        .collect();
    keys.sort_unstable();
    keys.dedup();

    // Where a range could begin: a gap before it, or the other protocol.
    let mut gaps: Vec<(u32, u32)> = keys
        .windows(2)
        .filter(|pair| pair[1] - pair[0] > 1 && pair[0] >> 16 == pair[1] >> 16)
        .map(|pair| (pair[1] - pair[0], pair[1]))
        .collect();
    let protocols = keys.chunk_by(|a, b| a >> 16 == b >> 16).count();
    let keep = max.saturating_sub(protocols).min(gaps.len());
    // Largest first.
    gaps.sort_unstable_by_key(|&(gap, above)| (std::cmp::Reverse(gap), std::cmp::Reverse(above)));
    let mut starts: Vec<u32> = gaps[..keep].iter().map(|&(_, above)| above).collect();
    starts.sort_unstable();

    keys.chunk_by(|&a, &b| a >> 16 == b >> 16 && starts.binary_search(&b).is_err())
        .filter_map(|chunk| Some((*chunk.first()?, *chunk.last()?)))
        .collect()
}

#[cfg(test)]
mod tests;
