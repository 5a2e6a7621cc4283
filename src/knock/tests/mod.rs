use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use super::*;
use crate::config::Protocol;

mod floods;
mod model;
mod properties;
mod spa;
mod sweeps;

pub(super) const OURS: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
pub(super) const SYN: u8 = 0x02;

pub(super) const fn tcp(number: u16) -> Port {
    Port {
        protocol: Protocol::Tcp,
        number,
    }
}

pub(super) const fn udp(number: u16) -> Port {
    Port {
        protocol: Protocol::Udp,
        number,
    }
}

pub(super) fn watch(door: u16, steps: &[Port]) -> Watch {
    Watch {
        door,
        knock: 0,
        line: 0,
        steps: steps.to_vec(),
        timeout: Duration::from_secs(5),
        flags: TcpFlags::REQUEST,
        target: None,
        on: super::EVERYWHERE,
    }
}

pub(super) fn source(n: u32) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + n))
}

pub(super) fn hit(at: u64, source: IpAddr, port: Port) -> Arrival<'static> {
    let number = port.number;
    Arrival {
        time: Time(at),
        source,
        destination: OURS,
        what: match port.protocol {
            Protocol::Tcp => What::Tcp {
                port: number,
                flags: SYN,
            },
            Protocol::Udp => What::Udp {
                port: number,
                payload: &[],
            },
        },
    }
}

pub(super) fn outcomes(knocks: &mut Knocks, arrival: &Arrival) -> Vec<Outcome> {
    let mut all = Vec::new();
    knocks.arrive(arrival, |a| a == OURS, |o| all.push(o));
    all
}

/// A small generator of numbers that look random (SplitMix64), for tests that need very many.
pub(super) struct Numbers(pub u64);

impl Numbers {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    pub(super) fn shuffle<T>(&mut self, all: &mut [T]) {
        for n in (1..all.len()).rev() {
            all.swap(n, self.below(n + 1));
        }
    }
}

/// The traps of each family, as ports.
pub(super) fn traps(knocks: &Knocks) -> Vec<Vec<Port>> {
    (0..knocks.sequences.families.len())
        .map(|family| {
            let traps = traps::of(&knocks.sequences, family);
            traps.into_iter().map(sequence::port).collect()
        })
        .collect()
}

#[test]
fn packing_is_reversible() {
    for address in ["192.0.2.1", "2001:db8::1:2:3", "fe80::1", "255.1.2.3"] {
        let address: IpAddr = address.parse().unwrap();
        assert_eq!(unpack(&pack(address)), address);
    }
}

#[test]
fn debug_tells_no_secret() {
    let knocks = Knocks::new(vec![watch(0, &[tcp(40123), tcp(2345)])], &[], [77, 78], 8);
    let text = format!("{knocks:?}");
    assert!(!text.contains("40123") && !text.contains("77"), "{text}");
}
