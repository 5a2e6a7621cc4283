//! A configuration as the monitor works with it: the doors by place and name, the one-time
//! lists with the line in force, what each door still allows.

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::allowance::Allowance;
use super::files::{self, Believed, Distrust};
use super::supervise::Names;
use crate::config::{Config, Door, Key, Knock, Port, Steps, onetime};
use crate::knock::spa::{KeyDoor, KeyWatch};
use crate::knock::{EVERYWHERE, PingWatch, Watch};
use crate::lease::Terms;
use crate::time::Time;

/// Grants that a door takes at once, and how many it earns anew in a second. A flood of grants,
/// forged by a listener that somebody else has taken over, stays within it, leaves the monitor
/// time for everything else and shuts no other door.
const GRANTS: f64 = 1000.0;
const GRANTS_PER_SECOND: f64 = 100.0;

/// What the listener is to watch for. `in_force` gives the lines of a one-time list that are to
/// be watched for, by door and knock, and their steps.
pub fn watches(
    config: &Config,
    in_force: impl Fn(u16, u16) -> Vec<(u32, Vec<Port>)>,
) -> Vec<Watch> {
    let mut watches = Vec::new();
    for (d, door) in (0u16..).zip(&config.doors) {
        for (k, knock) in (0u16..).zip(&door.knocks) {
            let Some(sequence) = knock.sequence() else {
                continue;
            };
            let lines = match &sequence.steps {
                Steps::Fixed(steps) => vec![(0, steps.clone())],
                Steps::OneTime(_) => in_force(d, k),
            };
            watches.extend(lines.into_iter().map(|(line, steps)| Watch {
                door: d,
                knock: k,
                line,
                steps,
                timeout: sequence.timeout,
                flags: sequence.flags,
                target: sequence.target,
                on: on(config, door),
            }));
        }
    }
    watches
}

/// The pings that the listener is to listen to.
pub fn pings(config: &Config) -> Vec<PingWatch> {
    let mut pings = Vec::new();
    for (d, door) in (0u16..).zip(&config.doors) {
        for (k, knock) in (0u16..).zip(&door.knocks) {
            if let Knock::Ping(ping) = knock {
                pings.push(PingWatch {
                    door: d,
                    knock: k,
                    secret: ping.secret,
                    offsets: ping.offsets.clone().map(RangeInclusive::into_inner),
                    target: ping.target,
                    on: on(config, door),
                });
            }
        }
    }
    pings
}

/// How far the clock of whoever makes a packet and ours may be apart, in seconds: fwknopd's
/// MAX_SPA_PACKET_AGE.
pub const WINDOW: u32 = 120;

/// The keys whose packets the listener is to listen to.
pub fn keys(config: &Config) -> Vec<KeyWatch> {
    let watch = |(place, key): (u16, &Key)| {
        let doors = key.doors.iter().filter_map(|&door| {
            let about = config.doors.get(usize::from(door))?;
            Some(KeyDoor {
                door,
                ports: about.ports().to_vec(),
                on: on(config, about),
            })
        });
        let doors: Vec<KeyDoor> = doors.collect();
        let opened = || doors.iter().flat_map(|door| &door.ports).copied();
        KeyWatch {
            key: place,
            secret: key.secret.clone(),
            carriers: key.carriers.clone(),
            observed: key.observed,
            from: key.from.clone(),
            ports: key.ports.clone().unwrap_or_else(|| opened().collect()),
            doors,
            window: WINDOW,
        }
    };
    (0u16..).zip(&config.keys).map(watch).collect()
}

/// The bits of the interfaces that knocks at this door come in by.
fn on(config: &Config, door: &Door) -> u64 {
    let all = &config.interfaces;
    if door.on.is_empty() || all.iter().any(|name| name == "any") {
        return EVERYWHERE;
    }
    let here = |&(_, name): &(usize, &String)| door.on.contains(name);
    let bits = all.iter().enumerate().take(64).filter(here);
    bits.fold(0, |on, (n, _)| on | 1 << n)
}

/// The ports that doors open, and those that keys are heard at: none of them is a trap.
pub fn opened_ports(config: &Config) -> Vec<Port> {
    let opened = config.doors.iter().flat_map(|door| door.ports().iter());
    let carriers = config.keys.iter().flat_map(|key| &key.carriers);
    let heard = carriers.filter_map(|carrier| carrier.port());
    opened.copied().chain(heard).collect()
}

/// What the doors allow their leases.
pub fn terms(config: &Config) -> Vec<Terms> {
    let terms = config.doors.iter().map(|d| Terms {
        open_for: d.lease(),
        max_leases: d.max_leases,
        idle: d.idle,
        prefix6: d.prefix6,
    });
    terms.collect()
}

/// A one-time list.
#[derive(Clone)]
struct List {
    path: PathBuf,
    /// The line in force and the one behind it, with their steps: the listener watches for both,
    /// so that no time is lost when the one is spent. None: used up, or the file cannot be used.
    lines: Lines,
}

/// The one-time lists of a configuration as they stood when another took its place, by door and
/// knock: for what is knocked at listeners that have not left.
pub struct FormerLists(HashMap<(String, u16), List>);

/// A configuration in force.
pub struct Doors {
    /// As it was read.
    pub config: Config,
    lists: HashMap<(u16, u16), List>,
    allowances: Vec<Allowance>,
    /// Of the keys.
    key_allowances: Vec<Allowance>,
}

/// Why a one-time line did not let anybody in.
#[derive(Debug, PartialEq, Eq)]
pub enum NotSpent {
    /// It is not the line in force (any more).
    NotInForce,
    /// The list could not be written.
    NotWritten(String),
}

impl Doors {
    /// Takes a configuration and reads its one-time lists; what is wrong with these, in words.
    pub fn new(config: Config, now: Time) -> (Doors, Vec<String>) {
        let mut lists = HashMap::new();
        let mut wrong = Vec::new();
        for (d, door) in config.doors.iter().enumerate() {
            for (k, knock) in door.knocks.iter().enumerate() {
                let Some(Steps::OneTime(path)) = knock.sequence().map(|s| &s.steps) else {
                    continue;
                };
                let lines = match read_list(path, &config) {
                    Ok(Read { exposed, lines, .. }) => {
                        wrong.extend(exposed.map(|e| format!("{}: {e}", door.name)));
                        if lines.is_empty() {
                            wrong.push(used_up(&door.name, path));
                        }
                        lines
                    }
                    Err(e) => {
                        wrong.push(format!("{}: {e}: this knock opens nothing", door.name));
                        Vec::new()
                    }
                };
                lists.insert(
                    (d as u16, k as u16),
                    List {
                        path: path.clone(),
                        lines,
                    },
                );
            }
        }
        let allowances = vec![Allowance::new(GRANTS_PER_SECOND, GRANTS, now); config.doors.len()];
        let hourly = |key: &Key| {
            let grants = key.allowance as f64;
            Allowance::new(grants / 3600.0, grants, now)
        };
        let key_allowances = config.keys.iter().map(hourly).collect();
        (
            Doors {
                config,
                lists,
                allowances,
                key_allowances,
            },
            wrong,
        )
    }

    /// One door.
    pub fn get(&self, door: u16) -> Option<&Door> {
        self.config.doors.get(usize::from(door))
    }

    /// One key.
    pub fn key(&self, key: u16) -> Option<&Key> {
        self.config.keys.get(usize::from(key))
    }

    /// A door's name as a knockd.conf has it, which may be anything; its own otherwise.
    pub fn written(&self, door: u16) -> &str {
        let place = usize::from(door);
        let knockds = self.config.knockd.as_ref();
        let written = knockds.and_then(|k| k.names.get(place));
        let own = || self.config.doors.get(place).map(|d| &d.name);
        written.or_else(own).map_or("", String::as_str)
    }

    /// A door's place.
    pub fn place(&self, name: &str) -> Option<u16> {
        let place = self.config.doors.iter().position(|d| d.name == name)?;
        u16::try_from(place).ok()
    }

    /// How many there are, in words.
    pub fn counted(&self) -> String {
        match self.config.doors.len() {
            1 => "1 door".into(),
            n => format!("{n} doors"),
        }
    }

    /// The names by place.
    pub fn names(&self) -> Names {
        Names {
            doors: self.config.doors.iter().map(|d| d.name.clone()).collect(),
            keys: self.config.keys.iter().map(|k| k.name.clone()).collect(),
        }
    }

    /// A key's place.
    pub fn key_place(&self, name: &str) -> Option<u16> {
        let place = self.config.keys.iter().position(|k| k.name == name)?;
        u16::try_from(place).ok()
    }

    /// What the listener is to watch for.
    pub fn watches(&self) -> Vec<Watch> {
        let lines = |door, knock| self.lists.get(&(door, knock)).map(|l| l.lines.clone());
        watches(&self.config, |door, knock| {
            lines(door, knock).unwrap_or_default()
        })
    }

    /// The pings that the listener is to listen to.
    pub fn pings(&self) -> Vec<PingWatch> {
        pings(&self.config)
    }

    /// The keys whose packets the listener is to listen to.
    pub fn keys(&self) -> Vec<KeyWatch> {
        keys(&self.config)
    }

    /// The ports that doors open, and those that keys are heard at: none of them is a trap.
    pub fn opened_ports(&self) -> Vec<Port> {
        opened_ports(&self.config)
    }

    /// The longest that an attempt can take.
    pub fn longest_attempt(&self) -> Duration {
        let knocks = self.config.doors.iter().flat_map(|d| &d.knocks);
        knocks
            .filter_map(Knock::sequence)
            .map(|sequence| sequence.timeout)
            .max()
            .unwrap_or_default()
    }

    /// What the doors allow their leases.
    pub fn terms(&self) -> Vec<Terms> {
        terms(&self.config)
    }

    /// Whether the door takes one more grant now.
    pub fn allow(&mut self, door: u16, now: Time) -> bool {
        let allowance = self.allowances.get_mut(usize::from(door));
        allowance.is_some_and(|allowance| allowance.take(now))
    }

    /// Whether the key may have one more grant now.
    pub fn allow_key(&mut self, key: u16, now: Time) -> bool {
        let allowance = self.key_allowances.get_mut(usize::from(key));
        allowance.is_some_and(|allowance| allowance.take(now))
    }

    /// Whether this knock's steps come from a one-time list.
    pub fn is_one_time(&self, door: u16, knock: u16) -> bool {
        self.lists.contains_key(&(door, knock))
    }

    /// The one-time lists as they stand.
    pub fn lists(&self) -> FormerLists {
        let lists = self.lists.iter().filter_map(|((door, knock), list)| {
            let name = self.get(*door)?.name.clone();
            Some(((name, *knock), list.clone()))
        });
        FormerLists(lists.collect())
    }

    /// Where the list of a knock at this door stands now, if this line was in force and is the
    /// same still.
    pub fn still(&self, former: &FormerLists, door: u16, knock: u16, line: u32) -> Option<u16> {
        let name = self.get(door)?.name.clone();
        let before = former.0.get(&(name, knock))?;
        let in_force = before.lines.iter().find(|(n, _)| *n == line)?;
        let same = |list: &List| list.path == before.path && list.lines.first() == Some(in_force);
        let mut here = self.lists.iter().filter(|((d, _), _)| *d == door);
        here.find(|(_, list)| same(list))
            .map(|((_, knock), _)| *knock)
    }

    /// Marks the line as used, in the file first. What then stands in force must go to the
    /// listener: [`Doors::watches`]. Gives what the administrator is to be told, if anything.
    ///
    /// # Errors
    /// The grant must not be given then.
    pub fn spend(&mut self, door: u16, knock: u16, line: u32) -> Result<Option<String>, NotSpent> {
        let list = self
            .lists
            .get_mut(&(door, knock))
            .ok_or(NotSpent::NotInForce)?;
        if list
            .lines
            .first()
            .is_none_or(|(current, _)| *current != line)
        {
            return Err(NotSpent::NotInForce);
        }
        let read = read_list(&list.path, &self.config).map_err(NotSpent::NotWritten)?;
        let Read { text, lines, .. } = read;
        if lines.first() != list.lines.first() {
            // The administrator has changed the file under us: what was knocked may not stand
            // there any more.
            list.lines = lines;
            return Err(NotSpent::NotInForce);
        }
        let spent = onetime::spend(&text, line).ok_or(NotSpent::NotInForce)?;
        files::replace(&list.path, spent.as_bytes())
            .map_err(|e| NotSpent::NotWritten(format!("{}: {e}", list.path.display())))?;
        list.lines = first_two(&spent);
        let name = &self.config.doors[usize::from(door)].name;
        Ok(list.lines.is_empty().then(|| used_up(name, &list.path)))
    }
}

type Lines = Vec<(u32, Vec<Port>)>;

fn used_up(door: &str, path: &Path) -> String {
    let path = path.display();
    format!("{door}: {path}: no sequence is left: this knock opens nothing")
}

/// A one-time list as it stands in its file.
struct Read {
    text: String,
    lines: Lines,
    /// It can be read by others, and is taken all the same.
    exposed: Option<String>,
}

/// The lists of a knockd.conf may be readable by all, as it may be itself.
fn read_list(path: &Path, config: &Config) -> Result<Read, String> {
    let told = |e: Distrust| e.to_string();
    let file = Believed::open(path).map_err(told)?;
    let exposed = file.private().map_err(told).err();
    if config.knockd.is_none()
        && let Some(why) = exposed
    {
        return Err(why);
    }
    let text = String::from_utf8(file.read().map_err(told)?)
        .map_err(|_| format!("{}: it is not UTF-8", path.display()))?;
    let lines = first_two(&text);
    Ok(Read {
        text,
        lines,
        exposed,
    })
}

fn first_two(text: &str) -> Lines {
    let Some(first) = onetime::current(text) else {
        return Vec::new();
    };
    let behind = onetime::spend(text, first.0).and_then(|spent| onetime::current(&spent));
    [Some(first), behind].into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::toml;
    use std::fs;

    fn doors(list: &Path) -> (Doors, Vec<String>) {
        let text = format!(
            "interface = \"xl0\"\nfirewall = \"memory\"\n[door.ssh]\nopens = [\"22/tcp\"]\n\
             open_for = \"30s\"\n[[door.ssh.knock]]\none_time_sequences = \"{}\"\n",
            list.display()
        );
        Doors::new(toml::parse("test", &text).unwrap(), Time(0))
    }

    fn list(text: &str) -> (tempfile::TempDir, PathBuf) {
        let top = tempfile::tempdir().unwrap();
        let path = fs::canonicalize(top.path()).unwrap().join("list");
        fs::write(&path, text).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        fs::set_permissions(&path, mode).unwrap();
        (top, path)
    }

    fn numbers(watches: &[Watch]) -> Vec<(u32, Vec<u16>)> {
        watches
            .iter()
            .map(|w| (w.line, w.steps.iter().map(|p| p.number).collect()))
            .collect()
    }

    #[test]
    fn each_line_is_spent_once_and_in_the_file_first() {
        if !nix::unistd::geteuid().is_root() {
            return; // lists must belong to root
        }
        let (_top, path) = list("# spare\n1,2,3\n4,5,6\n");
        let (mut doors, wrong) = doors(&path);
        assert_eq!(wrong, [""; 0]);
        assert_eq!(
            numbers(&doors.watches()),
            [(2, vec![1, 2, 3]), (3, vec![4, 5, 6])]
        );
        assert_eq!(doors.spend(0, 0, 3), Err(NotSpent::NotInForce));
        assert_eq!(doors.spend(0, 0, 2), Ok(None));
        assert_eq!(
            fs::read_to_string(&path).unwrap(),
            "# spare\n#,2,3\n4,5,6\n"
        );
        assert_eq!(doors.spend(0, 0, 2), Err(NotSpent::NotInForce));
        assert_eq!(numbers(&doors.watches()), [(3, vec![4, 5, 6])]);
        let said = doors.spend(0, 0, 3).unwrap().unwrap();
        assert!(said.contains("no sequence is left"), "{said}");
        assert_eq!(doors.watches(), []);
    }

    #[test]
    fn a_list_changed_under_us_or_not_written_opens_nothing() {
        if !nix::unistd::geteuid().is_root() {
            return; // lists must belong to root
        }
        let (top, path) = list("1,2,3\n4,5,6\n");
        let (mut doors, _) = doors(&path);
        fs::write(&path, "7,8,9\n4,5,6\n").unwrap();
        assert_eq!(doors.spend(0, 0, 1), Err(NotSpent::NotInForce));
        assert_eq!(numbers(&doors.watches())[0], (1, vec![7, 8, 9]));
        drop(top);
        assert!(matches!(doors.spend(0, 0, 1), Err(NotSpent::NotWritten(_))));
    }

    #[test]
    fn a_list_that_is_missing_or_used_up_is_said_and_opens_nothing() {
        let (none, wrong) = doors(Path::new("/nonexistent/list"));
        assert!(
            wrong[0].contains("/nonexistent/list") && none.watches().is_empty(),
            "{wrong:?}"
        );
        if nix::unistd::geteuid().is_root() {
            let (_top, path) = list("#1,2,3\n");
            let (none, wrong) = doors(&path);
            assert!(wrong[0].contains("no sequence is left"), "{wrong:?}");
            assert!(none.watches().is_empty());
        }
    }

    #[test]
    fn a_flood_of_grants_stays_within_the_allowance() {
        let (mut doors, _) = doors(Path::new("/nonexistent/list"));
        let granted = |doors: &mut Doors, at| (0..1_000_000).filter(|_| doors.allow(0, at)).count();
        assert_eq!(granted(&mut doors, Time(0)), GRANTS as usize);
        let second = Time(1_000_000);
        assert_eq!(granted(&mut doors, second), GRANTS_PER_SECOND as usize);
        let late = Time(90_000_000);
        assert_eq!(granted(&mut doors, late), GRANTS as usize);
        assert!(!doors.allow(1, late), "no such door");
    }
}
