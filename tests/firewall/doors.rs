//! Doors to test with.

use std::time::Duration;

use postern::config::{
    Action, Commands, Door, Guard, Knock, Opens, Pass, Port, Protocol, Sequence, Steps, TcpFlags,
    To,
};
use postern::firewall::{Opening, Order, What};

pub fn tcp(number: u16) -> Port {
    Port {
        protocol: Protocol::Tcp,
        number,
    }
}

pub fn udp(number: u16) -> Port {
    Port {
        protocol: Protocol::Udp,
        number,
    }
}

fn door(name: &str, action: Action) -> Door {
    Door {
        name: name.to_owned(),
        action,
        knocks: vec![Knock::Sequence(Sequence {
            steps: Steps::Fixed(vec![tcp(7143), udp(2912), tcp(39001), tcp(16044)]),
            timeout: Duration::from_secs(5),
            flags: TcpFlags::REQUEST,
            target: None,
        })],
        max_leases: 1024,
        on: Vec::new(),
        idle: None,
        prefix6: 128,
    }
}

/// A door that opens ports.
pub fn opens(name: &str, ports: &[Port], guard: bool) -> Door {
    door(
        name,
        Action::Open(Opens {
            ports: ports.to_vec(),
            open_for: Duration::from_secs(30),
            pass: Pass::Ours { rule: None },
            guard: guard.then(|| Guard {
                number: None,
                ports: ports.to_vec(),
            }),
            to: To::Me,
            connections: None,
            kill_states: false,
        }),
    )
}

/// The same door with so many connections at once for each address.
#[cfg_attr(not(all(feature = "e2e", target_os = "linux")), allow(dead_code))]
pub fn limited(mut door: Door, connections: u16) -> Door {
    if let Action::Open(opens) = &mut door.action {
        opens.connections = Some(connections);
    }
    door
}

/// The same door with leases that traffic keeps for so many seconds.
#[cfg_attr(not(all(feature = "e2e", target_os = "linux")), allow(dead_code))]
pub fn idle(mut door: Door, seconds: u64) -> Door {
    door.idle = Some(Duration::from_secs(seconds));
    door
}

/// The same door letting in IPv6 networks of so many bits.
#[cfg_attr(not(all(feature = "e2e", target_os = "linux")), allow(dead_code))]
pub fn prefix6(mut door: Door, prefix6: u8) -> Door {
    door.prefix6 = prefix6;
    door
}

/// The same door on these interfaces.
#[cfg_attr(not(all(feature = "e2e", target_os = "linux")), allow(dead_code))]
pub fn on(mut door: Door, interfaces: &[&str]) -> Door {
    door.on = interfaces.iter().map(|&name| name.to_owned()).collect();
    door
}

/// A door that runs commands.
pub fn runs(name: &str, start: &str, stop: Option<&str>) -> Door {
    door(
        name,
        Action::Command(Commands {
            start: start.to_owned(),
            start_6: None,
            stop: stop.map(str::to_owned),
            stop_6: None,
            cmd_timeout: Duration::from_secs(10),
            run_limit: Duration::from_secs(60),
        }),
    )
}

pub fn opening(door: u16, address: &str) -> Opening {
    Opening {
        door,
        address: address.parse().unwrap(),
    }
}

pub fn open(door: u16, address: &str, seconds: u64) -> Order {
    Order {
        opening: opening(door, address),
        what: What::Open {
            remaining: Some(Duration::from_secs(seconds)),
        },
    }
}

pub fn extend(door: u16, address: &str, seconds: u64) -> Order {
    Order {
        opening: opening(door, address),
        what: What::Extend {
            remaining: Duration::from_secs(seconds),
        },
    }
}

pub fn close(door: u16, address: &str) -> Order {
    Order {
        opening: opening(door, address),
        what: What::Close,
    }
}

/// An opening with what is left of it, as the monitor hands them over.
pub fn left(door: u16, address: &str, seconds: u64) -> (Opening, Option<Duration>) {
    (opening(door, address), Some(Duration::from_secs(seconds)))
}

/// What a door of a builder above opens, to be changed.
#[cfg_attr(not(all(feature = "e2e", target_os = "linux")), allow(dead_code))]
pub fn opens_of(door: &mut Door) -> &mut Opens {
    match &mut door.action {
        Action::Open(opens) => opens,
        Action::Command(_) => panic!("{} runs commands", door.name),
    }
}

/// A door that opens ports by a pass rule of this number; behind it a guard, if it has one.
#[cfg_attr(not(all(feature = "e2e", target_os = "linux")), allow(dead_code))]
pub fn numbered(name: &str, ports: &[Port], rule: u16, guard: Option<u16>) -> Door {
    let mut door = opens(name, ports, guard.is_some());
    let opens = opens_of(&mut door);
    opens.pass = Pass::Ours { rule: Some(rule) };
    if let Some(standing) = &mut opens.guard {
        standing.number = guard;
    }
    door
}
