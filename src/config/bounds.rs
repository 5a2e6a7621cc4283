//! What holds where a configuration says nothing, and how far each value may go.

use std::ops::RangeInclusive;
use std::time::Duration;

/// `control`, where it is not given: the socket that posternctl speaks to.
pub const CONTROL: &str = "/var/run/postern.sock";

/// `state`, where it is not given: the directory of the journal (hier(7), FHS 3.0 5.8).
pub const STATE: &str = if cfg!(target_os = "freebsd") {
    "/var/db/postern"
} else {
    "/var/lib/postern"
};

/// `max_leases`, where it is not given.
pub const MAX_LEASES: usize = 1024;

/// `cmd_timeout`, where it is not given: knockd's.
pub const CMD_TIMEOUT: Duration = Duration::from_secs(10);

/// `run_limit`, where it is not given.
pub const RUN_LIMIT: Duration = Duration::from_secs(60);

/// `seq_timeout` in postern.toml, where it is not given: enough for five steps by hand with
/// `nc -w 1`; knockd's is 25 s.
pub const SEQ_TIMEOUT: Duration = Duration::from_secs(10);

/// How many steps a sequence may have: knockd's bound.
pub const STEPS: RangeInclusive<usize> = 1..=32;

/// Doors in a configuration.
pub const DOORS: RangeInclusive<usize> = 1..=1024;

/// Knocks of a door.
pub const KNOCKS: RangeInclusive<usize> = 1..=256;

/// Different triples of flag condition, timeout and interfaces among sequences that share first
/// step and target: so many attempts one packet may begin.
pub const ALIKE: usize = 4;

/// Ports that one door opens.
pub const OPENS: RangeInclusive<usize> = 1..=64;

/// Rule numbers of ours: 65535 is ipfw's default rule (ipfw(8)).
pub const RULE: RangeInclusive<usize> = 1..=65534;

/// `trial`, where it is not given.
pub const TRIAL: Duration = Duration::from_secs(600);

/// `trial`: minutes are for people, seconds for machines that knock by themselves.
pub const TRIALS: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(86400);

/// Networks of `always`.
pub const ALWAYS: RangeInclusive<usize> = 0..=256;

/// `connections`.
pub const CONNECTIONS: RangeInclusive<usize> = 1..=65535;

/// Characters of `table`: pf's tables have at most 31 (PF_TABLE_NAME_SIZE), ipfw's 63.
pub const TABLE: RangeInclusive<usize> = 1..=31;

/// Keys in a configuration.
pub const KEYS: usize = 1024;

/// Keys that are heard at one carrier: each packet there is tried with every one of them.
pub const KEYS_HEARD: usize = 16;

/// Doors of a key: a bit for each goes over the wire.
pub const KEY_DOORS: RangeInclusive<usize> = 1..=32;

/// Networks of a key's `from`.
pub const FROM: RangeInclusive<usize> = 1..=64;

/// Carriers of a key.
pub const CARRIERS: RangeInclusive<usize> = 1..=16;

/// Characters of a key's `owner`.
pub const OWNER: RangeInclusive<usize> = 1..=64;

/// `allowance`, where it is not given.
pub const ALLOWANCE: usize = 60;

/// `allowance`: grants an hour.
pub const ALLOWANCES: RangeInclusive<usize> = 1..=100_000;

/// `carriers`, where it is not given: the port of fwknop's clients.
pub const SPA_PORT: u16 = 62201;

/// The last byte of an echo request's payload that a ping's secret may begin at. The seed's
/// iptables rule allows 68 at most; `ping` sends 56 bytes unless told otherwise.
pub const PING_OFFSETS: RangeInclusive<u8> = 0..=127;

/// Interfaces.
pub const INTERFACES: RangeInclusive<usize> = 1..=64;

/// `max_leases`.
pub const LEASES: RangeInclusive<usize> = 1..=65536;

/// `open_for` and `cmd_timeout`.
pub const OPEN_FOR: RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(7 * 24 * 3600);

/// `idle`: the packet filter is asked for traffic up to 2 s before a lease's end.
pub const IDLE: RangeInclusive<Duration> = Duration::from_secs(5)..=*OPEN_FOR.end();

/// `prefix6`: a site has a /48 at the most (RFC 6177).
pub const PREFIX6: RangeInclusive<usize> = 48..=128;

/// `run_limit`.
pub const RUN_LIMITS: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(3600);

/// `seq_timeout`.
pub const SEQ_TIMEOUTS: RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(600);

/// Characters of a door's name.
pub const DOOR_NAME: RangeInclusive<usize> = 1..=24;

/// Bytes of an interface's name: IFNAMSIZ is 16 with the final NUL on FreeBSD and Linux.
pub const INTERFACE_NAME: RangeInclusive<usize> = 1..=15;

/// Bytes of `control`: sun_path holds 104 with the final NUL on FreeBSD (unix(4)), 108 on Linux.
pub const CONTROL_PATH: RangeInclusive<usize> = 2..=103;

/// Bytes of any other path: PATH_MAX is 1024 with the final NUL on FreeBSD.
pub const PATH: RangeInclusive<usize> = 2..=1023;

/// Bytes of a command line: the most that Linux takes as one argument of /bin/sh
/// (MAX_ARG_STRLEN, 128 KiB) with room for `%IP%` to grow.
pub const COMMAND: RangeInclusive<usize> = 1..=65536;
