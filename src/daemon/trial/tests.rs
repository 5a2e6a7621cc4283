use std::fs;
use std::time::Duration;

use super::*;
use crate::config::toml;

const MINUTE: u64 = 60_000_000;

fn config(top: &str, doors: &str) -> Config {
    let text = format!("interface = \"xl0\"\nfirewall = \"nft\"\n{top}\n{doors}");
    toml::parse("test", &text).unwrap_or_else(|wrong| panic!("{wrong:?}"))
}

fn door(name: &str, lines: &str) -> String {
    format!(
        "[door.{name}]\nopen_for = \"30s\"\nguard = true\n{lines}\n[[door.{name}.knock]]\n\
         sequence = [\"7143\", \"2912/udp\", \"39001\", \"16044\"]\n"
    )
}

fn ssh() -> Config {
    config("", &door("ssh", "opens = [\"22/tcp\"]"))
}

fn both() -> Config {
    let web = door("web", "opens = [\"443/tcp\"]");
    config("", &(door("ssh", "opens = [\"22/tcp\"]") + &web))
}

const SSH: &str = "nft 22/tcp to me on xl0";
const WEB: &str = "nft 443/tcp to me on xl0";

fn begun(config: &Config, now: u64) -> Trials {
    let mut trials = Trials::default();
    trials.take_up(config, Time(now), Cause::Start);
    trials
}

fn state(trials: &Trials, key: &str) -> Option<State> {
    trials.guards.get(&Key(key.to_owned())).copied()
}

fn words(keys: &[Key]) -> Vec<String> {
    keys.iter().map(Key::to_string).collect()
}

fn guarded(doors: &[Door]) -> Vec<u16> {
    let ports = crate::config::guarded(doors);
    ports.into_iter().map(|port| port.number).collect()
}

fn session(remote: &str, port: u16) -> Session {
    Session {
        local: format!("192.0.2.1:{port}").parse().unwrap(),
        remote: remote.parse().unwrap(),
    }
}

fn leases(config: &Config, door: u16, address: &str) -> Leases {
    let mut leases = Leases::new(crate::daemon::doors::terms(config));
    leases.grant(door, address.parse().unwrap(), Time(0), |_| {});
    leases
}

#[test]
fn what_makes_a_guard_another_one() {
    let key = |config: &Config| Vec::from_iter(guards(config).into_keys());
    let doors = door("a", "opens = [\"22/tcp\", \"53/udp\"]")
        + &door("b", "opens = [\"22/tcp\"]")
        + &door("c", "opens = [\"22/tcp\"]")
        + &door("d", "opens = [\"22/tcp\"]");
    let mut several = config("", &doors);
    several.doors[2].on = vec!["xl2".to_owned(), "xl1".to_owned()];
    several.doors[3].on = vec!["xl1".to_owned(), "any".to_owned()];
    assert_eq!(
        words(&key(&several)),
        [
            "nft 22/tcp to me on any",
            "nft 22/tcp to me on xl0",
            "nft 22/tcp to me on xl1 xl2",
            "nft 53/udp to me on xl0",
        ]
    );
    let mut numbered = ssh();
    numbered.firewall = FirewallKind::Ipfw;
    if let Action::Open(opens) = &mut numbered.doors[0].action {
        opens.to = To::Network("192.0.2.0/24".parse().unwrap());
        opens.guard.as_mut().unwrap().number = Some(102);
    }
    let before = key(&numbered);
    assert_eq!(words(&before), ["ipfw 22/tcp to 192.0.2.0/24 on xl0"]);
    if let Action::Open(opens) = &mut numbered.doors[0].action {
        opens.guard.as_mut().unwrap().number = Some(103);
    }
    assert_eq!(key(&numbered), before, "the number makes no difference");
    numbered.firewall = FirewallKind::None;
    assert_eq!(key(&numbered), []);
}

#[test]
fn a_new_guard_is_withdrawn_at_the_end_of_its_trial() {
    let config = both();
    let mut trials = begun(&config, 0);
    assert_eq!(trials.next_end(), Some(Time(10 * MINUTE)));
    assert_eq!(guarded(&trials.doors(&config)), [22, 443]);
    assert_eq!(trials.end(Time(10 * MINUTE - 1)), []);
    assert_eq!(words(&trials.end(Time(10 * MINUTE))), [SSH, WEB]);
    assert_eq!(guarded(&trials.doors(&config)), [0; 0]);
    assert_eq!(trials.next_end(), None);
    // The passes stay.
    let doors = trials.doors(&config);
    assert!(doors.iter().all(|d| !opens(d).unwrap().ports.is_empty()));
    // Nor does it come back by itself.
    trials.take_up(&config, Time(0), Cause::Start);
    assert_eq!(state(&trials, SSH), Some(State::Withdrawn));
    trials.take_up(&config, Time(MINUTE), Cause::Reload);
    let until = 11 * MINUTE;
    assert_eq!(state(&trials, SSH), Some(State::Trial { until }));
}

#[test]
fn only_what_is_new_is_on_trial() {
    let mut trials = begun(&ssh(), 0);
    assert_eq!(words(&trials.confirm()), [SSH]);
    assert_eq!(trials.confirm(), []);
    trials.take_up(&both(), Time(MINUTE), Cause::Reload);
    assert_eq!(state(&trials, SSH), Some(State::Confirmed));
    assert_eq!(words(&trials.end(Time(11 * MINUTE))), [WEB]);
    assert_eq!(guarded(&trials.doors(&both())), [22]);
    // What was confirmed is remembered while its door is away, the rest is not.
    let elsewhere = config("", &door("dns", "opens = [\"53/udp\"]"));
    trials.take_up(&elsewhere, Time(0), Cause::Start);
    assert_eq!(state(&trials, SSH), Some(State::Confirmed));
    assert_eq!(state(&trials, WEB), None);
    assert!(!trials.know_all(&both()) && trials.know_all(&ssh()));
}

#[test]
fn no_restart_and_no_reload_makes_a_trial_longer() {
    let mut trials = begun(&ssh(), 0);
    for (now, cause) in [(MINUTE, Cause::Start), (2 * MINUTE, Cause::Reload)] {
        trials.take_up(&ssh(), Time(now), cause);
        assert_eq!(trials.next_end(), Some(Time(10 * MINUTE)));
    }
    let shorter = config("trial = \"1m\"", &door("ssh", "opens = [\"22/tcp\"]"));
    trials.take_up(&shorter, Time(3 * MINUTE), Cause::Reload);
    assert_eq!(trials.next_end(), Some(Time(4 * MINUTE)));
}

#[test]
fn without_trials_what_is_new_counts_as_confirmed() {
    let mut off = both();
    off.trial = None;
    let mut trials = begun(&ssh(), 0);
    trials.take_up(&off, Time(0), Cause::Start);
    for key in [SSH, WEB] {
        assert_eq!(state(&trials, key), Some(State::Confirmed));
    }
    trials.withdraw(None);
    trials.take_up(&off, Time(0), Cause::Start);
    assert_eq!(state(&trials, SSH), Some(State::Withdrawn));
    trials.take_up(&off, Time(0), Cause::Reload);
    assert_eq!(state(&trials, SSH), Some(State::Confirmed));
}

#[test]
fn withdrawing_takes_all() {
    let mut trials = begun(&ssh(), 0);
    trials.confirm();
    assert_eq!(words(&trials.withdraw(Some(&both()))), [SSH, WEB]);
    assert_eq!(trials.withdraw(Some(&both())), []);
    assert_eq!(guarded(&trials.doors(&both())), [0; 0]);
    assert_eq!(words(&trials.confirm()), [SSH, WEB]);
}

#[test]
fn a_session_through_a_lease_confirms_its_guard_and_no_other() {
    let config = both();
    let mut trials = begun(&config, 0);
    let old = session("192.0.2.7:40000", 22);
    trials.know(vec![old]);
    let leases = leases(&config, 0, "192.0.2.7");
    let new = session("192.0.2.7:40001", 22);
    for nothing in [
        vec![],
        vec![old],
        // Without a lease, at a door that does not open the port, at another port.
        vec![session("192.0.2.8:40001", 22)],
        vec![session("192.0.2.7:40001", 443)],
        vec![session("192.0.2.7:40001", 80)],
    ] {
        let mut with_old = nothing.clone();
        with_old.push(old);
        assert_eq!(trials.see(&config, &with_old, &leases), [], "{nothing:?}");
    }
    let proven = trials.see(&config, &[old, new], &leases);
    assert_eq!(proven, [(Key(SSH.to_owned()), new.remote.ip())]);
    assert_eq!(trials.see(&config, &[old, new], &leases), []);
    assert_eq!(words(&trials.end(Time(10 * MINUTE))), [WEB]);
    assert_eq!(state(&trials, SSH), Some(State::Confirmed));
}

#[test]
fn whoever_always_passes_proves_nothing() {
    let always = config(
        "always = [\"192.0.2.0/28\"]",
        &door("ssh", "opens = [\"22/tcp\"]"),
    );
    let mut trials = begun(&always, 0);
    let leases = leases(&always, 0, "192.0.2.7");
    let sessions = [session("192.0.2.7:40001", 22)];
    assert_eq!(trials.see(&always, &sessions, &leases), []);
    assert_eq!(trials.see(&ssh(), &sessions, &leases).len(), 1);
}

#[test]
fn the_ports_to_be_looked_at() {
    let config = config(
        "",
        &door("a", "opens = [\"22/tcp\", \"80/tcp\", \"53/udp\"]"),
    );
    let mut trials = begun(&config, 0);
    assert_eq!(trials.ports(&config), [22, 80]);
    trials.confirm();
    assert_eq!(trials.ports(&config), [0; 0]);
}

#[test]
fn what_was_written_is_read_again() {
    let top = tempfile::tempdir().unwrap();
    let path = top.path().join("trial");
    let none = Trials::read(&path, "a");
    assert_eq!((none.trials, none.damaged), (Trials::default(), None));
    let mut trials = begun(&ssh(), 0);
    trials.confirm();
    trials.take_up(&both(), Time(MINUTE), Cause::Reload);
    trials.write(&path, "a").unwrap();
    let mode = std::os::unix::fs::MetadataExt::mode(&fs::metadata(&path).unwrap());
    assert_eq!(mode & 0o7777, 0o600);
    assert_eq!(Trials::read(&path, "a").trials, trials);

    // After a reboot the trial runs its full length again.
    let mut rebooted = Trials::read(&path, "b").trials;
    rebooted.take_up(&both(), Time(5), Cause::Start);
    let until = 10 * MINUTE + 5;
    assert_eq!(state(&rebooted, WEB), Some(State::Trial { until }));
    assert_eq!(state(&rebooted, SSH), Some(State::Confirmed));
}

#[test]
fn no_prefix_and_no_flipped_bit_confirms_a_guard() {
    let top = tempfile::tempdir().unwrap();
    let path = top.path().join("trial");
    let trials = begun(&both(), 0);
    trials.write(&path, "a").unwrap();
    let text = fs::read(&path).unwrap();
    let copy = path.with_extension("copy");
    assert_eq!(fs::read(&copy).unwrap(), text);
    fs::remove_file(&copy).unwrap();
    let read = |text: &[u8]| {
        fs::write(&path, text).unwrap();
        let found = Trials::read(&path, "a");
        for key in [SSH, WEB] {
            assert_ne!(state(&found.trials, key), Some(State::Confirmed));
        }
        found
    };
    for cut in 0..text.len() - 1 {
        assert!(read(&text[..cut]).damaged.is_some(), "cut at {cut}");
    }
    for at in 0..text.len() {
        for bit in 0..8 {
            let mut text = text.clone();
            text[at] ^= 1 << bit;
            let found = read(&text);
            let said = found.damaged.is_some();
            assert!(said || found.trials == trials, "byte {at}, bit {bit}");
        }
    }
}

#[test]
fn no_prefix_and_no_flipped_bit_makes_a_guard_be_forgotten() {
    let top = tempfile::tempdir().unwrap();
    let path = top.path().join("trial");
    let mut trials = begun(&both(), 0);
    trials.confirm();
    trials.write(&path, "a").unwrap();
    let text = fs::read(&path).unwrap();
    for at in 0..text.len() {
        let mut flipped = text.clone();
        flipped[at] ^= 1 << (at % 8);
        for text in [&text[..at], &flipped] {
            fs::write(&path, text).unwrap();
            assert_eq!(Trials::read(&path, "a").trials, trials, "at {at}");
        }
    }
    // A directory in its place is no reason either.
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    let found = Trials::read(&path, "a");
    assert_eq!(found.trials, trials);
    assert!(found.damaged.unwrap().contains("its copy is believed"));
}

#[test]
fn a_trials_length_is_as_configured() {
    let mut config = ssh();
    config.trial = Some(Duration::from_secs(5));
    assert_eq!(begun(&config, 7).next_end(), Some(Time(5_000_007)));
}
