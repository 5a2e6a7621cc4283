//! Files and traffic made from a seed, within what both must agree on:
//!
//! - Doors share no port, but for two that begin with the same steps, or two of which one has
//!   the other's steps backwards; those are only knocked at rightly. (Who hits a port of one door while he is knocking at another fails
//!   with knockd; with posternd doors do not know of each other.)
//! - No step that was taken already comes again (knockd fails the attempt), and no attempt is
//!   left to itself while others are under way (knockd drops all when the first of them ends).
//! - Ports that are no door's are below 1024, where posternd has no traps.
//! - Each knock at a door with a stop command comes from an address of its own.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::pair::{DIR, Hit, datagram, syn};
use crate::harness::Rng;
use crate::harness::raw::{ACK, FIN, SYN};

/// A port that everybody's next knock waits for: hit after each, it tells that the one before
/// has been heard.
pub const MARK: u16 = 1001;
/// Who hits it.
pub const MARKER: Ipv4Addr = Ipv4Addr::new(10, 66, 0, 250);
/// An address that doors may be asked for and that is not the server's.
const TARGET: Ipv4Addr = Ipv4Addr::new(10, 66, 0, 99);
/// Longer than `Seq_Timeout` of a door that is knocked at too slowly, counted as knockd counts.
const PAUSE: std::time::Duration = std::time::Duration::from_millis(1200);

/// Conditions on flags, with flags that meet them and flags that do not.
const FLAGS: [(&str, &[u8], &[u8]); 7] = [
    ("", &[SYN, ACK, FIN, SYN | ACK, 0], &[]),
    ("syn", &[SYN, SYN | ACK, SYN | FIN], &[ACK, FIN, 0]),
    ("syn,!ack", &[SYN, SYN | FIN], &[SYN | ACK, ACK, 0]),
    ("fin", &[FIN, FIN | ACK], &[SYN, ACK]),
    ("fin,!ack,!syn", &[FIN, FIN | 0x20], &[FIN | ACK, FIN | SYN]),
    ("!rst,psh", &[0x08, 0x18], &[0x0c, ACK]),
    ("SYN,ACK,URG", &[SYN | ACK | 0x20], &[SYN | ACK, SYN]),
];

/// A door as far as it is knocked at.
struct Door {
    name: String,
    steps: Vec<(u16, bool)>,
    flags: usize,
    target: bool,
    stop: bool,
    /// `Command_6`: absent, empty, another.
    six: u64,
    /// `Seq_Timeout` is short.
    hasty: bool,
    /// It shares steps with another: its first ones, or all of them, backwards. Which of the two
    /// it is.
    family: Option<usize>,
    backwards: bool,
}

/// What is sent, and what is to come of it.
pub struct Script {
    pub packets: Vec<Packet>,
    /// Lines of the file `ran`.
    pub opens: Vec<String>,
    /// Lines that follow when stop commands are due.
    pub closes: Vec<String>,
}

/// One packet, or a pause before the next.
pub enum Packet {
    Hit(IpAddr, IpAddr, Hit),
    Pause(std::time::Duration),
}

/// A file and what happens to it.
pub struct File {
    pub text: String,
    pub scripts: Vec<Script>,
}

/// Makes them for a server with these addresses.
pub fn file(rng: &mut Rng, to: Ipv4Addr, to_6: Ipv6Addr) -> File {
    let doors = doors(rng);
    let text = doors.iter().map(|door| door.text(rng)).collect::<String>()
        + &format!("[mark]\nSequence = {MARK}:udp\nCommand = echo mark >> {DIR}/ran\n");
    let mut sources = Sources(0);
    let mut knocks = Knocks {
        doors: &doors,
        to,
        to_6,
    };
    let scripts = (0..12).map(|_| knocks.script(rng, &mut sources)).collect();
    File { text, scripts }
}

fn doors(rng: &mut Rng) -> Vec<Door> {
    // Far enough apart that none is another's neighbour, in no order.
    let mut ports: Vec<u16> = (0..200).map(|n| 1100 + 300 * n).collect();
    for n in (1..ports.len()).rev() {
        ports.swap(n, rng.within(0..=n as u64) as usize);
    }
    let mut step = |rng: &mut Rng| {
        (
            ports.pop().unwrap() + rng.within(0..=99) as u16,
            rng.chance(30),
        )
    };
    let mut doors: Vec<Door> = Vec::new();
    for n in 0..rng.within(1..=5) {
        let length = if rng.chance(10) {
            32
        } else {
            rng.within(1..=6)
        };
        let mut steps: Vec<(u16, bool)> = (0..length).map(|_| step(rng)).collect();
        if rng.chance(15) && steps.len() > 2 {
            // The same port twice running.
            steps[2] = steps[1];
        }
        doors.push(Door {
            name: format!("door{n}"),
            steps,
            flags: rng.within(0..=FLAGS.len() as u64 - 1) as usize,
            target: rng.chance(15),
            stop: rng.chance(30),
            six: rng.within(0..=5),
            hasty: rng.chance(15),
            family: None,
            backwards: false,
        });
    }
    if rng.chance(40) {
        let family = (0..6).map(|_| step(rng)).collect::<Vec<_>>();
        // The longer one first: with knockd the shorter one's opening drops those behind it.
        for (at, length) in [(0, 6), (1, rng.within(2..=5) as usize)] {
            doors.push(Door {
                name: format!("family{at}"),
                steps: family[..length].to_vec(),
                flags: 1,
                target: false,
                stop: false,
                six: 5,
                hasty: false,
                family: Some(at),
                backwards: false,
            });
        }
    } else if rng.chance(50) {
        // One opens, one closes.
        let steps = (0..3).map(|_| step(rng)).collect::<Vec<_>>();
        for at in 0..2 {
            let mut steps = steps.clone();
            if at == 1 {
                steps.reverse();
            }
            doors.push(Door {
                name: ["open", "close"][at].to_owned(),
                steps,
                flags: 1,
                target: false,
                stop: false,
                six: 5,
                hasty: false,
                family: Some(at),
                backwards: true,
            });
        }
    }
    doors
}

impl Door {
    fn text(&self, rng: &mut Rng) -> String {
        let name = &self.name;
        let steps = self
            .steps
            .iter()
            .map(|(port, udp)| match (udp, rng.chance(50)) {
                (true, _) => format!("{port}:udp"),
                (false, true) => format!("{port}:TCP"),
                (false, false) => port.to_string(),
            });
        let steps: Vec<String> = steps.collect();
        let timeout = if self.hasty { 1 } else { 20 };
        let mut text = format!(
            "[{name}]\nSequence = {}\n{} = {timeout}\n{} = echo {name} %IP% >> {DIR}/ran\n",
            steps.join(rng.pick::<&str>(&[",", ", ", " , "])),
            rng.pick(&["Seq_Timeout", "TIMEOUT"]),
            rng.pick(&["command", "Start_Command"]),
        );
        if !FLAGS[self.flags].0.is_empty() {
            text += &format!("TCPFlags = {}\n", FLAGS[self.flags].0);
        }
        if self.target {
            text += &format!("Target = {TARGET}\n");
        }
        match self.six {
            0 => text += "Command_6 =\n",
            1 => text += &format!("Start_Command_6 = echo six-{name} %IP% >> {DIR}/ran\n"),
            _ => {}
        }
        if self.stop {
            text += &format!("Cmd_Timeout = 1\nStop_Command = echo end-{name} %IP% >> {DIR}/ran\n");
        }
        text
    }

    fn opens(&self, from: IpAddr) -> Option<String> {
        match (from.is_ipv6(), self.six) {
            (true, 0) => None,
            (true, 1) => Some(format!("six-{} {from}", self.name)),
            _ => Some(format!("{} {from}", self.name)),
        }
    }

    fn hit(&self, step: usize, rng: &mut Rng) -> Hit {
        let (port, udp) = self.steps[step];
        match udp {
            true => datagram(port),
            false => Hit {
                flags: *rng.pick(FLAGS[self.flags].1),
                ..syn(port)
            },
        }
    }
}

/// Addresses, each given once.
struct Sources(u16);

impl Sources {
    fn next(&mut self, rng: &mut Rng, v6: bool) -> IpAddr {
        self.0 += 1;
        match v6 {
            true => {
                let group = |rng: &mut Rng| if rng.chance(50) { 0 } else { rng.next() as u16 };
                let [a, b, c] = [group(rng), group(rng), group(rng)];
                Ipv6Addr::new(0xfd66, a, 0, b, c, 0, 0xffff, self.0).into()
            }
            false => Ipv4Addr::new(10, 66, 1 + rng.within(0..=200) as u8, self.0 as u8).into(),
        }
    }
}

struct Knocks<'d> {
    doors: &'d [Door],
    to: Ipv4Addr,
    to_6: Ipv6Addr,
}

impl Knocks<'_> {
    fn script(&mut self, rng: &mut Rng, sources: &mut Sources) -> Script {
        let mut script = Script {
            packets: Vec::new(),
            opens: Vec::new(),
            closes: Vec::new(),
        };
        let mut door = rng.pick(self.doors);
        if door.family.is_some() && !door.backwards {
            // The longer one opens both; the shorter one would leave an attempt at the longer.
            door = self.doors.iter().find(|d| d.family == Some(0)).unwrap();
        }
        let v6 = !door.target && rng.chance(30);
        let from = sources.next(rng, v6);
        let steps = door.steps.len();
        match rng.within(0..=9) {
            _ if door.hasty && steps > 1 => self.late(rng, &mut script, door, from),
            _ if door.hasty => self.right(rng, &mut script, door, from),
            0..=1 if steps > 2 && door.family.is_none() => {
                self.wrong(rng, &mut script, door, from);
            }
            2..=3 if steps > 1 && door.family.is_none() => {
                // Another's knock between two steps of this one.
                let others = self.doors.iter();
                let others: Vec<&Door> = others
                    .filter(|other| {
                        other.name != door.name && !other.hasty && other.family.is_none()
                    })
                    .collect();
                let at = rng.within(1..=steps as u64 - 1) as usize;
                self.steps(rng, &mut script, door, from, 0..at);
                if !others.is_empty() {
                    let other = *rng.pick(&others);
                    let from = sources.next(rng, false);
                    self.right(rng, &mut script, other, from);
                }
                self.steps(rng, &mut script, door, from, at..steps);
                self.opened(&mut script, door, from);
            }
            4..=7 if door.backwards => {
                let other = |d: &&Door| d.backwards && d.name != door.name;
                self.right(rng, &mut script, door, from);
                let door = self.doors.iter().find(other).unwrap();
                self.right(rng, &mut script, door, from);
            }
            4 if !door.stop && door.family.is_none() => {
                for _ in 0..2 {
                    self.right(rng, &mut script, door, from);
                }
            }
            _ => self.right(rng, &mut script, door, from),
        }
        script
    }

    fn right(&self, rng: &mut Rng, script: &mut Script, door: &Door, from: IpAddr) {
        self.steps(rng, script, door, from, 0..door.steps.len());
        self.opened(script, door, from);
    }

    /// What a right knock opens.
    fn opened(&self, script: &mut Script, door: &Door, from: IpAddr) {
        let also = self.doors.iter().filter(|other| {
            other.family.is_some()
                && !other.backwards
                && door.family.is_some()
                && other.name != door.name
                && other.steps.len() < door.steps.len()
        });
        for door in also.chain([door]) {
            let opens = door.opens(from);
            if door.stop && opens.is_some() {
                script.closes.push(format!("end-{} {from}", door.name));
            }
            script.opens.extend(opens);
        }
    }

    /// Some steps, with packets between them that mean nothing.
    fn steps(
        &self,
        rng: &mut Rng,
        script: &mut Script,
        door: &Door,
        from: IpAddr,
        steps: std::ops::Range<usize>,
    ) {
        for step in steps {
            if rng.chance(15) {
                self.noise(rng, script, door, from, step);
            }
            let hit = door.hit(step, rng);
            script
                .packets
                .push(Packet::Hit(from, self.at(door, from), hit));
        }
    }

    fn at(&self, door: &Door, from: IpAddr) -> IpAddr {
        match (from, door.target) {
            (IpAddr::V6(_), _) => self.to_6.into(),
            (_, true) => TARGET.into(),
            (_, false) => self.to.into(),
        }
    }

    fn noise(&self, rng: &mut Rng, script: &mut Script, door: &Door, from: IpAddr, step: usize) {
        let at = self.at(door, from);
        let (port, udp) = door.steps[step];
        let wrong = FLAGS[door.flags].2;
        let packet = match rng.within(0..=2) {
            0 if !udp && !wrong.is_empty() => {
                let flags = *rng.pick(wrong);
                Packet::Hit(from, at, Hit { flags, ..syn(port) })
            }
            1 if from.is_ipv4() => {
                let elsewhere = Ipv4Addr::new(10, 66, 0, 98);
                Packet::Hit(from, elsewhere.into(), door.hit(step, rng))
            }
            _ => {
                let port = rng.within(1..=1000) as u16;
                let hit = if rng.chance(50) {
                    syn(port)
                } else {
                    datagram(port)
                };
                Packet::Hit(from, at, hit)
            }
        };
        script.packets.push(packet);
    }

    /// A later step instead of the next; the rest of the knock does not help.
    fn wrong(&self, rng: &mut Rng, script: &mut Script, door: &Door, from: IpAddr) {
        let last = door.steps.len() - 1;
        let at = rng.within(1..=last as u64 - 1) as usize;
        let Some(other) = (at + 1..=last).find(|&n| door.steps[n] != door.steps[at]) else {
            return self.right(rng, script, door, from);
        };
        self.steps(rng, script, door, from, 0..at);
        let hit = door.hit(other, rng);
        script
            .packets
            .push(Packet::Hit(from, self.at(door, from), hit));
        self.steps(rng, script, door, from, at..last + 1);
    }

    /// Right, but for a pause.
    fn late(&self, rng: &mut Rng, script: &mut Script, door: &Door, from: IpAddr) {
        let at = rng.within(1..=door.steps.len() as u64 - 1) as usize;
        self.steps(rng, script, door, from, 0..at);
        script.packets.push(Packet::Pause(PAUSE));
        self.steps(rng, script, door, from, at..door.steps.len());
    }
}
