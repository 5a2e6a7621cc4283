//! Running sessions: admitted by their four numbers while they last.

use super::*;
use crate::net::{CLIENT_4, CLIENT_6, Net, Session, listen};

fn rules_of(anchor: &Anchor) -> Vec<String> {
    let text = anchor.double.rules();
    let running = text
        .lines()
        .filter(|line| line.ends_with("label \"postern: running\""));
    running.map(str::to_owned).collect()
}

fn rule(session: &Session) -> String {
    let (from, to) = (
        session.client.local_addr().unwrap(),
        session.client.peer_addr().unwrap(),
    );
    let family = if from.is_ipv4() { "inet" } else { "inet6" };
    format!(
        "pass in quick on srv0 {family} proto tcp from {} port = {} to {} port = ssh flags any \
         keep state (sloppy) label \"postern: running\"",
        from.ip(),
        from.port(),
        to.ip(),
    )
}

fn sorted(mut rules: Vec<String>) -> Vec<String> {
    rules.sort();
    rules
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let started = std::time::Instant::now();
    while !holds() {
        assert!(started.elapsed() < crate::suite::PATIENCE, "{what}");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

/// pf's states of these sessions, so that it knows them.
fn known(anchor: &Anchor, sessions: &[&Session]) {
    let states: String = sessions
        .iter()
        .enumerate()
        .map(|(place, session)| {
            let from = session.client.local_addr().unwrap();
            let to = session.client.peer_addr().unwrap();
            let state = super::states::state(
                &from.ip().to_string(),
                from.port(),
                to.port(),
                "rule 1",
                place as u64 + 1,
            );
            state.replace("10.77.0.1:", &format!("{}:", to.ip()))
        })
        .collect();
    std::fs::write(anchor.double.file("states"), states).unwrap();
}

#[test]
fn sessions_found_at_a_guards_arrival_are_admitted_until_they_end() {
    let net = Net::new();
    let mut anchor = Anchor::here();
    let (ssh, other) = (listen(22), listen(23));
    let four = Session::new(&net, &ssh, CLIENT_4);
    let six = Session::new(&net, &ssh, CLIENT_6);
    let _elsewhere = Session::new(&net, &other, CLIENT_4);
    anchor.firewall.establish(&doors(), &[]).unwrap();
    let both = sorted(vec![rule(&four), rule(&six)]);
    assert_eq!(sorted(rules_of(&anchor)), both);
    // Behind all passes, before all guards.
    let text = anchor.double.rules();
    let label = |line: &str| line.rsplit_once("postern:").unwrap().1.to_owned();
    let labels: Vec<String> = text.lines().map(label).collect();
    assert_eq!(
        labels,
        ["ssh\"", "sftp\"", " running\"", " running\"", " guard\""]
    );
    assert_eq!(anchor.uphold(&[]), [NONE, NONE]);

    // A restart neither forgets nor loads anything; a reload keeps them.
    anchor.crash();
    let _ = anchor.double.calls();
    anchor.firewall.establish(&doors(), &[]).unwrap();
    assert!(!anchor.double.calls().contains("pfctl -a postern -f -"));
    let mut more = doors();
    more.insert(0, opens("web", &[tcp(80)], true));
    anchor.firewall.establish(&more, &[]).unwrap();
    assert_eq!(sorted(rules_of(&anchor)), both);

    // One that begins behind the guard has a state of its own.
    let under_lease = Session::new(&net, &ssh, CLIENT_4);
    known(&anchor, &[&under_lease]);
    anchor.obey(&[open(1, CLIENT_4, 600), close(1, CLIENT_4)]);
    anchor.uphold(&[]);
    anchor.firewall.establish(&doors(), &[]).unwrap();
    more.push(opens("mail", &[tcp(25)], true));
    anchor.firewall.establish(&more, &[]).unwrap();
    assert_eq!(sorted(rules_of(&anchor)), both);

    drop(four);
    until("its rule goes", || {
        assert_eq!(anchor.uphold(&[]), [NONE, NONE]);
        rules_of(&anchor) == [rule(&six)]
    });
    drop(six);
    until("its rule goes", || {
        anchor.uphold(&[]);
        rules_of(&anchor).is_empty()
    });
}

/// With the rules the states of what they let in may have gone, too.
#[test]
fn sessions_are_admitted_when_a_guard_is_put_back() {
    let net = Net::new();
    let mut anchor = Anchor::here();
    let ssh = listen(22);
    anchor.firewall.establish(&doors(), &[]).unwrap();
    let session = Session::new(&net, &ssh, CLIENT_4);
    known(&anchor, &[&session]);
    anchor.double.pfctl("-a postern -F all", "");
    let [mended, _] = anchor.uphold(&[]);
    assert_eq!(mended, ["anchor postern was gone: made anew"]);
    assert_eq!(rules_of(&anchor), [rule(&session)]);
    // Not when a pass was gone and the guards stood.
    let mut anchor = Anchor::here();
    anchor.double.pfctl("-s rules", "");
    drop(session);
    let started = std::time::Instant::now();
    while !postern::firewall::sessions::established(&[22])
        .unwrap()
        .is_empty()
    {
        assert!(started.elapsed() < crate::suite::PATIENCE);
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    anchor.firewall.establish(&doors(), &[]).unwrap();
    let session = Session::new(&net, &ssh, CLIENT_4);
    known(&anchor, &[&session]);
    anchor.uphold(&[]);
    let rules = anchor.double.rules();
    let (_, fewer) = rules.split_once('\n').unwrap();
    anchor.double.pfctl("-a postern -f -", fewer);
    assert_eq!(anchor.uphold(&[])[0].len(), 1);
    assert_eq!(anchor.double.rules(), rules);
}

/// `service pf restart` leaves our anchor as it is and forgets all states; so does
/// `pfctl -F states`.
#[test]
fn sessions_are_admitted_when_pf_has_forgotten_them() {
    for restart in [true, false] {
        let net = Net::new();
        let mut anchor = Anchor::here();
        let ssh = listen(22);
        anchor.double.pfctl("-s info", "");
        // It has been up for a while.
        anchor
            .double
            .edit(|state| state["since"] = (state["since"].as_u64().unwrap() - 1000).into());
        anchor.firewall.establish(&doors(), &[]).unwrap();
        let four = Session::new(&net, &ssh, CLIENT_4);
        let six = Session::new(&net, &ssh, CLIENT_6);
        known(&anchor, &[&four, &six]);
        assert_eq!(anchor.uphold(&[]), [NONE, NONE]);
        assert_eq!(anchor.uphold(&[]), [NONE, NONE]);
        assert_eq!(rules_of(&anchor), NONE);
        match restart {
            true => {
                let conf = anchor.double.pfctl("-s rules", "");
                anchor.double.pfctl("-d", "");
                anchor.double.pfctl("-F all", "");
                anchor.double.pfctl("-f -", &conf);
                anchor.double.pfctl("-e", "");
            }
            false => drop(anchor.double.pfctl("-F states", "")),
        }
        // The other has spoken since, and met a rule that let it.
        known(&anchor, &[&six]);
        let [mended, strangers] = anchor.uphold(&[]);
        let who = four.client.local_addr().unwrap();
        assert_eq!(
            mended,
            [format!(
                "running sessions had lost their states, admitted: {who}"
            )]
        );
        assert_eq!(strangers, NONE);
        assert_eq!(rules_of(&anchor), [rule(&four)]);
        assert_eq!(anchor.uphold(&[]), [NONE, NONE]);
        assert_eq!(rules_of(&anchor), [rule(&four)]);
    }
}

/// pf was restarted while no daemon ran.
#[test]
fn a_new_process_looks_for_sessions_without_a_state() {
    let net = Net::new();
    let mut anchor = Anchor::here();
    let ssh = listen(22);
    anchor.firewall.establish(&doors(), &[]).unwrap();
    let lost = Session::new(&net, &ssh, CLIENT_4);
    let kept = Session::new(&net, &ssh, CLIENT_4);
    known(&anchor, &[&kept]);
    anchor.crash();
    anchor.firewall.establish(&doors(), &[]).unwrap();
    assert_eq!(rules_of(&anchor), [rule(&lost)]);
}

/// One that is established while the guard is on its way.
#[test]
fn latecomers_are_admitted() {
    let net = Net::new();
    let mut anchor = Anchor::here();
    let ssh = listen(22);
    let early = Session::new(&net, &ssh, CLIENT_4);
    let hold = anchor.double.file("hold");
    std::fs::write(&hold, "-a postern -f -").unwrap();
    let (firewall, double) = (&mut anchor.firewall, &anchor.double);
    let late = std::thread::scope(|scope| {
        let establish = scope.spawn(move || firewall.establish(&doors(), &[]));
        until("the anchor is loaded", || {
            let log = std::fs::read_to_string(double.file("log")).unwrap_or_default();
            log.contains("pfctl -a postern -f -")
        });
        let late = Session::new(&net, &ssh, CLIENT_6);
        std::fs::remove_file(&hold).unwrap();
        establish.join().unwrap().unwrap();
        late
    });
    assert_eq!(
        sorted(rules_of(&anchor)),
        sorted(vec![rule(&early), rule(&late)])
    );
    assert_eq!(anchor.uphold(&[]), [NONE, NONE]);
    assert_eq!(rules_of(&anchor).len(), 2);
}

/// The socket of a session whose states were ended with its lease does not know it yet.
#[test]
fn what_ended_with_its_lease_is_not_admitted_again() {
    let net = Net::new();
    let mut anchor = Anchor::here();
    let ssh = listen(22);
    let door = changed(opens("ssh", &[tcp(22)], true), |opens| {
        opens.kill_states = true;
    });
    let doors = [door];
    anchor.firewall.establish(&doors, &[]).unwrap();
    anchor.obey(&[open(0, CLIENT_4, 600)]);
    let session = Session::new(&net, &ssh, CLIENT_4);
    known(&anchor, &[&session]);
    anchor.uphold(&[left(0, CLIENT_4, 600)]);
    // pf forgets it: the lease is in force, so it is admitted.
    let forget = |anchor: &mut Anchor| {
        anchor.double.pfctl("-F states", "");
    };
    forget(&mut anchor);
    anchor.uphold(&[left(0, CLIENT_4, 600)]);
    assert_eq!(rules_of(&anchor), [rule(&session)]);
    anchor.crash();
    anchor.double.pfctl("-a postern -F all", "");
    anchor.firewall.establish(&doors, &[]).unwrap();
    assert_eq!(rules_of(&anchor), [rule(&session)], "older than the guard");
    drop(session);
    until("its rule goes", || {
        anchor.uphold(&[]);
        rules_of(&anchor).is_empty()
    });
    anchor.obey(&[open(0, CLIENT_4, 600)]);
    let session = Session::new(&net, &ssh, CLIENT_4);
    known(&anchor, &[&session]);
    anchor.obey(&[close(0, CLIENT_4)]);
    forget(&mut anchor);
    anchor.uphold(&[]);
    assert_eq!(rules_of(&anchor), [""; 0]);
    anchor.double.pfctl("-a postern -F all", "");
    anchor.uphold(&[]);
    assert_eq!(rules_of(&anchor), [""; 0]);
    drop(session);
}
