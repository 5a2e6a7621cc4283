//! Our anchor: its rules, its tables but for the doors' entries, and the running sessions that
//! it admits.

use std::collections::BTreeSet;
use std::time::Instant;

use crate::config::{Network, Port, Protocol};

use super::super::filter::some_of;
use super::super::sessions::{self, Session};
use super::super::{Failure, Opening, Upkeep};
use super::layout::{ALWAYS, DOOR, Layout};
use super::listing::{self, Entry, Rules};
use super::states::{self, Watch};
use super::{ANCHOR, Pf, lines};

impl Pf {
    /// Makes of our anchor what it should be.
    pub(super) fn anchor(&mut self, layout: &Layout, upkeep: &mut Upkeep) -> Result<(), Failure> {
        let known = self.standing.is_some();
        let expected = match self.standing.take() {
            Some(standing) => standing,
            None => self.expected(layout)?,
        };
        self.standing = Some(expected.clone());
        let found = self.rules()?;
        let running = match sessions::established(&layout.guarded) {
            Ok(running) => Some(BTreeSet::from_iter(running)),
            // Without the list a guard must not arrive, but may well be put back.
            Err(failure) if !known => return Err(failure),
            Err(_) => None,
        };
        let tables = self.tool.tables()?;
        let looked = self.look_at_pf(upkeep)?;

        let mut told = differences(found.as_ref(), &expected, layout.first());
        let found = found.unwrap_or_default();
        let mut tables_wrong = self.wrong(layout, &tables)?;
        let anew = !told.is_empty() || !tables_wrong.is_empty();
        if known {
            // With the anchor its tables went, too.
            if !found.ours.is_empty() {
                told.append(&mut tables_wrong);
            }
            upkeep.mended.append(&mut told);
        }

        let arriving = layout.arriving(&expected, &found.ours);
        let texts = match &running {
            Some(running) => {
                let admitted = self.admitted(layout, running, &found)?;
                // With guards that were gone the states may have gone, too.
                let at = |session: &&Session| {
                    let ended = known && self.ended_with_its_lease(layout, session);
                    arriving.contains(&session.local.port()) && !ended
                };
                let mut due: BTreeSet<Session> = running.iter().filter(at).copied().collect();
                due.extend(admitted);
                if looked.forgotten && !running.is_subset(&due) {
                    due.extend(self.forgotten(layout, running, &due, known, upkeep)?);
                }
                self.running(layout, &due)?
            }
            // What is not known to have ended stays.
            None => found.running().cloned().collect(),
        };
        if anew || !same(found.running(), &texts) {
            self.load(layout, &texts, &found.strangers)?;
            if let (false, Some(listed)) = (arriving.is_empty(), running) {
                self.admit_latecomers(layout, &listed, texts, &found.strangers)?;
            }
        } else {
            self.seen = Some(found.ours.clone());
        }
        self.watch = Some(looked.watch);

        let left_alone = |what: String| format!("anchor {ANCHOR}: {what} is not ours: left alone");
        let strangers = found.strangers.iter();
        let strangers = strangers.map(|rule| left_alone(format!("{:?}", rule.trim())));
        upkeep.strangers.extend(strangers);
        for name in &tables {
            if layout.tables().any(|ours| ours == name) {
                continue;
            }
            match is_ours(name) {
                true => self.tool.kill_table(name)?,
                false => upkeep.strangers.push(left_alone(format!("table {name:?}"))),
            }
        }
        Ok(())
    }

    /// What is wrong with our tables, but for the doors' entries, in words.
    fn wrong(
        &mut self,
        layout: &Layout,
        tables: &BTreeSet<String>,
    ) -> Result<Vec<String>, Failure> {
        let missing = layout.tables().filter(|&name| !tables.contains(name));
        let mut wrong: Vec<String> = missing
            .map(|name| format!("table {name} was gone: made anew"))
            .collect();
        let idle = layout.gates().map(|(_, gate)| gate).filter(|g| g.idle);
        let idle: Vec<&str> = idle.map(|gate| gate.table.as_str()).collect();
        if idle.iter().any(|&name| tables.contains(name)) {
            let counting = self.tool.counting()?;
            let silent = idle
                .into_iter()
                .filter(|&name| tables.contains(name) && !counting.contains(name));
            wrong.extend(silent.map(|name| format!("table {name} did not count: set right")));
        }
        if tables.contains(ALWAYS) && !layout.always.is_empty() {
            let entry = |&network| Entry {
                not: false,
                network,
            };
            if self.tool.show(ALWAYS)? != Some(layout.always.iter().map(entry).collect()) {
                wrong.push(format!("table {ALWAYS} was changed: set right"));
            }
        }
        Ok(wrong)
    }

    /// Whether only doors that end the states of their leases could have let this session in, and
    /// none of those leases is in force: its socket may not know yet that it is over.
    fn ended_with_its_lease(&self, layout: &Layout, session: &Session) -> bool {
        let port = Port {
            protocol: Protocol::Tcp,
            number: session.local.port(),
        };
        let address = session.remote.ip();
        let mut doors = layout
            .gates()
            .filter(|(_, gate)| gate.ports.contains(&port));
        doors.all(|(door, gate)| {
            let address = Network::of_knocker(address, gate.prefix6);
            gate.kill_states && !self.wanted.contains_key(&Opening { door, address })
        })
    }

    /// The sessions that pf knows nothing of and no rule admits.
    fn forgotten(
        &mut self,
        layout: &Layout,
        running: &BTreeSet<Session>,
        admitted: &BTreeSet<Session>,
        known: bool,
        upkeep: &mut Upkeep,
    ) -> Result<BTreeSet<Session>, Failure> {
        let mut gone = states::unknown(running, &self.tool.states()?);
        gone.retain(|session| {
            !admitted.contains(session) && !self.ended_with_its_lease(layout, session)
        });
        if known && !gone.is_empty() {
            let who: Vec<_> = gone.iter().map(|session| session.remote).collect();
            let who = some_of(&who);
            upkeep.mended.push(format!(
                "running sessions had lost their states, admitted: {who}"
            ));
        }
        Ok(gone)
    }

    /// Our rules, without those of running sessions, as pfctl will show them.
    fn expected(&mut self, layout: &Layout) -> Result<Vec<String>, Failure> {
        let rules = self.tool.canonical(&lines(layout.text(&[])))?;
        match rules.len() == layout.rules() {
            true => Ok(rules),
            false => Err(Failure::Unexpected(format!(
                "pfctl -nv: showed {} rules of {}",
                rules.len(),
                layout.rules()
            ))),
        }
    }

    /// The rules that admit these sessions, as pfctl will show them.
    fn running(
        &mut self,
        layout: &Layout,
        sessions: &BTreeSet<Session>,
    ) -> Result<Vec<String>, Failure> {
        let unknown = sessions
            .iter()
            .filter(|session| !self.shown.contains_key(session));
        let rules: Vec<(Session, String)> = unknown
            .flat_map(|session| {
                layout
                    .running(session)
                    .into_iter()
                    .map(|rule| (*session, rule))
            })
            .collect();
        if !rules.is_empty() {
            let text = lines(rules.iter().map(|(_, rule)| rule.as_str()));
            let shown = self.tool.canonical(&text)?;
            if shown.len() != rules.len() {
                return Err(Failure::Unexpected(format!(
                    "pfctl -nv: showed {} rules of {}",
                    shown.len(),
                    rules.len()
                )));
            }
            for ((session, _), rule) in rules.into_iter().zip(shown) {
                self.shown.entry(session).or_default().push(rule);
            }
        }
        Ok(sessions
            .iter()
            .filter_map(|session| self.shown.get(session))
            .flatten()
            .cloned()
            .collect())
    }

    /// Those of these sessions that rules which stand admit.
    fn admitted(
        &mut self,
        layout: &Layout,
        running: &BTreeSet<Session>,
        found: &Rules,
    ) -> Result<BTreeSet<Session>, Failure> {
        self.shown.retain(|session, _| running.contains(session));
        let standing: BTreeSet<&String> = found.running().collect();
        if standing.is_empty() {
            return Ok(BTreeSet::new());
        }
        self.running(layout, running)?;
        let stands = |session: &&Session| {
            let rules = self.shown.get(session);
            rules.is_some_and(|rules| rules.iter().any(|rule| standing.contains(rule)))
        };
        Ok(running.iter().filter(stands).copied().collect())
    }

    /// Loads the anchor and reads it back: what pfctl then shows is what it will show as long as
    /// all stands right.
    fn load(
        &mut self,
        layout: &Layout,
        running: &[String],
        strangers: &[String],
    ) -> Result<(), Failure> {
        self.seen = None;
        self.replace(layout.text(running), strangers)?;
        let found = self.rules()?.unwrap_or_default();
        let lasting = found.lasting();
        let labels = |rules: &[String]| -> Vec<Option<String>> {
            rules
                .iter()
                .map(|rule| listing::label(rule).map(str::to_owned))
                .collect()
        };
        let expected = self.standing.as_deref().unwrap_or_default();
        if labels(&lasting) != labels(expected) {
            self.standing = None;
            return Err(Failure::Unexpected(format!(
                "pf: the rules of anchor {ANCHOR} do not read back as they were loaded"
            )));
        }
        self.standing = Some(lasting);
        self.seen = Some(found.ours);
        Ok(())
    }

    /// Loads the anchor with these rules of ours, and with those of others behind them, as far
    /// as pf.conf(5) lets them stand there: scrub and translation come before all else.
    pub(super) fn replace<'a>(
        &mut self,
        ours: impl IntoIterator<Item = &'a str>,
        strangers: &'a [String],
    ) -> Result<(), Failure> {
        let translations = self.tool.translations()?;
        let (scrub, others): (Vec<&String>, Vec<&String>) =
            strangers.iter().partition(|rule| listing::is_scrub(rule));
        let mut text = lines(scrub.into_iter().chain(&translations).map(String::as_str));
        text.push_str(&lines(ours));
        text.push_str(&lines(others.into_iter().map(String::as_str)));
        self.tool.load(&text)
    }

    /// Admits the sessions that were established between the reading of the list and the
    /// arrival of the guard.
    fn admit_latecomers(
        &mut self,
        layout: &Layout,
        listed: &BTreeSet<Session>,
        mut running: Vec<String>,
        strangers: &[String],
    ) -> Result<(), Failure> {
        let late = BTreeSet::from_iter(sessions::since(listed, &layout.guarded)?);
        if late.is_empty() {
            return Ok(());
        }
        running.extend(self.running(layout, &late)?);
        self.load(layout, &running, strangers)
    }

    /// The rules that stand in our anchor; the doors' numbers among them are remembered.
    pub(super) fn rules(&mut self) -> Result<Option<Rules>, Failure> {
        let rules = self.tool.rules()?;
        let doors = rules.as_ref().map(|rules| rules.doors.as_slice());
        self.history
            .stands(doors.unwrap_or_default(), Instant::now());
        Ok(rules)
    }

    /// Whether pf filters, whether it reaches our rules, and whether it may have forgotten its
    /// states since the last look.
    fn look_at_pf(&mut self, upkeep: &mut Upkeep) -> Result<Looked, Failure> {
        let status = self.tool.status()?;
        let watch = Watch::new(status, Instant::now());
        let calls = self.tool.calls()?;
        self.history.called(&calls);
        if !status.enabled {
            upkeep
                .strangers
                .push("pf is disabled: nothing is filtered (pfctl -e)".to_owned());
        }
        if calls.is_empty() {
            upkeep.strangers.push(format!(
                "pf.conf has no anchor \"{ANCHOR}\": our rules are not reached"
            ));
        }
        Ok(Looked {
            forgotten: status.enabled && self.watch.is_none_or(|before| before.forgot(&watch)),
            watch,
        })
    }

    /// Takes away the rules and tables that are ours, and nothing else.
    pub(super) fn clear_anchor(&mut self) -> Result<(), Failure> {
        let found = self.rules()?.unwrap_or_default();
        self.standing = None;
        self.seen = None;
        self.watch = None;
        match found.strangers.as_slice() {
            _ if found.ours.is_empty() => {}
            [] => self.tool.flush()?,
            strangers => self.replace([], strangers)?,
        }
        for name in self.tool.tables()?.iter().filter(|name| is_ours(name)) {
            self.tool.kill_table(name)?;
        }
        Ok(())
    }
}

/// What a look at pf as a whole has found.
struct Looked {
    watch: Watch,
    forgotten: bool,
}

/// What of our rules is not as it should be, in words; `first` of them stand before those of
/// running sessions.
fn differences(found: Option<&Rules>, expected: &[String], first: usize) -> Vec<String> {
    let lasting = found.map(Rules::lasting).unwrap_or_default();
    if lasting.is_empty() && !expected.is_empty() {
        return vec![format!("anchor {ANCHOR} was gone: made anew")];
    }
    let gone = expected.iter().filter(|rule| !lasting.contains(rule));
    let added = lasting.iter().filter(|rule| !expected.contains(rule));
    let mut words: Vec<String> = gone
        .map(|rule| format!("rule {rule} was gone: made anew"))
        .chain(added.map(|rule| format!("rule {rule} was added: taken away")))
        .collect();
    let (before, behind) = expected.split_at(first.min(expected.len()));
    let in_order = found.is_some_and(|found| {
        let right = before.iter().chain(found.running()).chain(behind);
        found.ours.iter().eq(right)
    });
    if words.is_empty() && !in_order {
        words.push("rules stood in another order or twice: made anew".to_owned());
    }
    words
}

/// Whether these are the same rules, in whatever order.
fn same<'a>(found: impl Iterator<Item = &'a String>, wanted: &[String]) -> bool {
    let mut found: Vec<&String> = found.collect();
    let mut wanted: Vec<&String> = wanted.iter().collect();
    found.sort();
    wanted.sort();
    found == wanted
}

/// Whether a table in our anchor is one of ours by its name.
fn is_ours(table: &str) -> bool {
    table == ALWAYS || table.starts_with(DOOR)
}
