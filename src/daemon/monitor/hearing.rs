//! Listeners and interfaces: who listens where, and what is heard.

use std::net::IpAddr;
use std::time::Duration;

use super::Monitor;
use crate::daemon::log::{Level, Of};
use crate::daemon::supervise::{Listeners, News};
use crate::daemon::wire::{Down, Event, Setup};
use crate::daemon::{addresses, sandbox, state};
use crate::knock::Watch;
use crate::time::Time;

/// Attempts held at once: 32 MiB of address space, resident only as far as it is used.
const ATTEMPTS: usize = 1 << 20;
/// How often an interface that is missing is looked for, beside word from the kernel.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The longest pause between two attempts to open an interface that is there.
const LONGEST_LOOK: Duration = Duration::from_secs(30);
/// The shortest between two, however often interfaces come and go.
const SOONEST: Duration = Duration::from_millis(250);
/// However often interfaces and addresses change, they are looked at no more often.
const PACE: Duration = Duration::from_millis(50);

impl Monitor {
    pub(super) fn start_listener(&mut self, now: Time) {
        self.renew = false;
        let setup = Setup {
            generation: self.generation,
            interfaces: self.doors.config.interfaces.clone(),
            watches: self.watches(),
            pings: self.doors.pings(),
            keys: self.doors.keys(),
            avoid: self.doors.opened_ports(),
            addresses: self.addresses(),
            attempts: ATTEMPTS,
            tell_all: self.options.verbose,
            confine: self.doors.config.confine,
            uid: self.user.uid,
            gid: self.user.gid,
            root: sandbox::root(&self.doors.config.state.join(state::EMPTY))
                .display()
                .to_string(),
        };
        let mut news = Vec::new();
        self.listeners
            .start(setup, self.doors.names(), now, &mut news);
        self.hear(news, now);
    }

    /// What to watch for, IPv6 left out where it is not wanted.
    fn watches(&self) -> Vec<Watch> {
        let mut watches = self.doors.watches();
        if self.options.only_v4 {
            watches.retain(|w| w.target.is_none_or(|t| t.is_ipv4()));
        }
        watches
    }

    /// The addresses that knocks may go to.
    fn addresses(&self) -> Vec<IpAddr> {
        let all = self.interfaces.addresses.iter().copied();
        all.filter(|a| a.is_ipv4() || !self.options.only_v4)
            .collect()
    }

    /// What is in force for the listener has changed: another generation.
    pub(super) fn renew(&mut self) {
        self.generation = self.generation.wrapping_add(1);
        self.renew = true;
    }

    pub(super) fn listen(&mut self, now: Time) {
        let mut news = Vec::new();
        let drain = self.doors.longest_attempt() + Duration::from_secs(1);
        let several = |l: &Listeners| l.draining() || l.changing();
        // One that has left by now may still have spoken.
        self.several = several(&self.listeners);
        self.listeners.read(now, drain, &mut news);
        self.several |= several(&self.listeners);
        self.hear(news, now);
        self.recent.forget(now);
        // Nobody is left, or about to give way, who was started before the last reload.
        if !self.renew && self.listeners.next_deadline().is_none() {
            self.former.clear();
        }
    }

    pub(super) fn hear(&mut self, news: Vec<News>, now: Time) {
        let mut changes = Vec::new();
        for news in news {
            match news {
                News::Knocked(Event::Grant(k), door) => self.grant(&k, &door, now, &mut changes),
                News::Knocked(event, door) => self.tell(event, &door),
                News::Authorized { sealed, key, doors } => {
                    self.authorized(&sealed, &key, &doors, now, &mut changes);
                }
                News::Refused(key, source, why) => self.say_unusable(&key, source, why, now),
                News::InCharge(generation) => self.in_charge(generation, now),
                News::Trouble(text) => self.say_of_listener(Of::Troubles, "trouble", &text, now),
                News::Unconfined(text) => {
                    let text = format!("the listener is not confined: {text}");
                    self.say_of_listener(Of::Troubles, "confinement", &text, now);
                }
                // One that leaves may lose what the one in charge has.
                News::Lost(interface) if self.listeners.missing().contains(&interface) => {
                    self.say_gone(&interface, now);
                    self.look = Some((now.max(self.sought + SOONEST), LOOK_EVERY));
                }
                News::Lost(_) => {}
                News::Died(generation, why) => {
                    let text = format!("the listener is gone ({why}); starting it again");
                    self.say_of_listener(Of::Lives, "listener", &text, now);
                    self.answer_reloads(generation, Some(&why));
                }
            }
        }
        self.carry_out(&changes, now);
    }

    /// Says a thing of this kind unless it was the last that was said of it, or too much has been
    /// said because of listeners.
    fn say_of_listener(&mut self, of: Of, kind: &str, text: &str, now: Time) {
        if self.said.get(kind).is_none_or(|said| said != text) {
            let level = if matches!(kind, "listening" | "layers") {
                Level::Notice
            } else {
                Level::Warning
            };
            if self.log.of_listener(of, level, now, text) {
                self.said.insert(kind.into(), text.into());
            }
        }
    }

    pub(super) fn in_charge(&mut self, generation: u32, now: Time) {
        let missing = self.listeners.missing();
        let all = &self.doors.config.interfaces;
        let heard: Vec<&str> = all
            .iter()
            .filter(|i| !missing.contains(i))
            .map(String::as_str)
            .collect();
        let first = !self.heard_once;
        self.heard_once |= !heard.is_empty();
        let line = self.options.voice.listening(first, &heard, &self.user.name);
        self.say_of_listener(Of::Lives, "listening", &line.text, now);
        let layers = self.listeners.layers().names();
        if let Some(line) = self.options.voice.confined(&layers) {
            self.say_of_listener(Of::Lives, "layers", &line.text, now);
        }
        self.said.remove("listener");
        if missing.is_empty() {
            self.said.remove("trouble");
            self.look = None;
        } else {
            let pause = self.look.map_or(LOOK_EVERY, |(_, pause)| pause);
            let look = self.look.filter(|(at, _)| now < *at);
            self.look = Some(look.unwrap_or((now + pause, pause)));
        }
        self.answer_reloads(generation, None);
    }

    /// When [`Monitor::follow_interfaces`] has something to do, whatever word comes.
    pub(super) fn next_look(&self) -> Option<Time> {
        let blind = self.watcher.fd().is_none();
        let reopen = blind.then_some(self.followed + LOOK_EVERY);
        let look = self.look.map(|(at, _)| at);
        [self.word_at, look, reopen].into_iter().flatten().min()
    }

    pub(super) fn follow_interfaces(&mut self, now: Time) {
        if self.word_at.is_none() && self.watcher.has_word() {
            self.word_at = Some(now.max(self.followed + PACE));
        }
        if self.next_look().is_none_or(|at| now < at) {
            return;
        }
        let looking = self.look.is_some_and(|(at, _)| at <= now);
        (self.word_at, self.followed) = (None, now);
        self.watcher.clear();
        let (at, pause) = self.look.unwrap_or((now, LOOK_EVERY));
        let Ok(interfaces) = addresses::read() else {
            self.look = Some((now + LOOK_EVERY, pause));
            return;
        };
        let before = std::mem::replace(&mut self.interfaces, interfaces);
        let interfaces = &self.interfaces;
        let missing = self.listeners.missing();
        let come = missing.iter().any(|i| interfaces.has_come_up(i, &before));
        let there = missing.iter().any(|i| interfaces.up.contains(i));
        let all = self.doors.config.interfaces.iter();
        let renamed = all.filter(|i| !missing.contains(i) && interfaces.was_renamed(i, &before));
        let renamed: Vec<String> = renamed.cloned().collect();
        if before.addresses != self.interfaces.addresses {
            self.listeners.tell(&Down::Addresses(self.addresses()));
        }
        for interface in &renamed {
            self.say_gone(interface, now);
        }
        if missing.is_empty() {
            self.look = None;
        } else if !there {
            self.look = Some((now + LOOK_EVERY, LOOK_EVERY));
        } else if come || looking {
            // One that is there but could not be opened is tried again, with pauses that grow.
            let pause = if come { LOOK_EVERY } else { pause };
            let soonest = self.sought + SOONEST;
            if now < soonest {
                self.look = Some((soonest, pause));
            } else if self.listeners.changing() && !come {
                self.look = Some((now + LOOK_EVERY, pause));
            } else {
                let next = (pause * 2).min(LONGEST_LOOK);
                self.look = Some((now + pause, next));
                self.sought = now;
                self.renew();
            }
        } else {
            self.look = Some((at, pause));
        }
        if !renamed.is_empty() {
            self.renew();
        }
    }

    fn say_gone(&mut self, interface: &str, now: Time) {
        let text = format!("{interface}: went away; waiting for it");
        self.log.of_listener(Of::Lives, Level::Warning, now, &text);
    }
}
