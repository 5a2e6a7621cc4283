//! Rules, tables and entries changed under us.

use super::*;

const PASS: &str = "00101 allow tcp from table(postern_ssh) to me 22 in recv xl0 setup \
                    keep-state :postern_ssh // postern:ssh\n";
const RUNNING: &str = "00102 allow tcp from any to me 22 in recv xl0 established flow \
                       table(postern_running) // postern: running\n";
const GUARD: &str = "00102 deny tcp from any to me 22 in recv xl0 // postern: guard\n";

fn ssh() -> Door {
    numbered("ssh", &[tcp(22)], 101, Some(102))
}

fn all() -> String {
    [PASS, RUNNING, GUARD].concat()
}

/// Changes something, and holds against this what is mended; all stands again then.
#[track_caller]
fn mends(rules: &mut Rules, who: &[&str], lines: &[&str], what: &[&str]) {
    let before = (rules.double.rules(), rules.let_in());
    for line in lines {
        rules.double.ipfw(line);
    }
    let upkeep = rules.uphold(who).unwrap();
    assert_eq!(upkeep.mended, what, "{lines:?}");
    assert_eq!(upkeep.strangers, [""; 0]);
    let after = (rules.double.rules(), rules.let_in());
    assert_eq!(after, before, "{lines:?}");
    assert_eq!(rules.uphold(who), Ok(Upkeep::default()));
}

#[test]
fn whatever_is_gone_is_made_anew() {
    let mut rules = Rules::with(&[ssh()]);
    assert_eq!(rules.double.rules(), all());
    rules.obey(&[open(0, "192.0.2.7", 600)]);
    let openings = ["192.0.2.7"];
    rules.uphold(&openings).unwrap();
    let pass = "rule 00101 \"postern:ssh\" was gone: made anew";
    let running = "rule 00102 \"postern: running\" was gone: made anew";
    let guard = "rule 00102 \"postern: guard\" was gone: made anew";
    mends(&mut rules, &openings, &["delete 101"], &[pass]);
    mends(&mut rules, &openings, &["delete 102"], &[running, guard]);
    mends(
        &mut rules,
        &openings,
        &["delete set 31"],
        &[pass, running, guard],
    );
    mends(&mut rules, &openings, &["-f flush"], &[]);
    mends(
        &mut rules,
        &openings,
        &[
            "delete set 31",
            "table postern_ssh destroy",
            "table postern_running destroy",
        ],
        &[
            "table postern_ssh was gone: made anew",
            "table postern_running was gone: made anew",
            pass,
            running,
            guard,
            "door ssh: openings were missing, put back: 192.0.2.7",
        ],
    );
}

#[test]
fn what_is_changed_is_made_as_it_was() {
    let mut rules = Rules::with(&[ssh()]);
    let changed = |number: &str, comment: &str| {
        [format!(
            "rule {number} \"{comment}\" was changed: made anew"
        )]
    };
    let other = "add 101 set 31 allow tcp from any to me 22 // postern:ssh";
    let said = changed("00101", "postern:ssh");
    mends(&mut rules, &[], &["delete 101", other], &[&said[0]]);
    // Behind the guard that admits nobody.
    let running = RUNNING.replacen("00102 ", "add 102 set 31 ", 1);
    let guard = GUARD.replacen("00102 ", "add 102 set 31 ", 1);
    let lines = ["delete 102", guard.trim(), running.trim()];
    let order = "rules 00102 stood in another order or twice: made anew";
    mends(&mut rules, &[], &lines, &[order]);
    mends(&mut rules, &[], &[guard.trim()], &[order]);
    let lines = ["delete 102", guard.trim()];
    let gone = "rule 00102 \"postern: running\" was gone: made anew";
    mends(&mut rules, &[], &lines, &[gone]);
    // With our marks, but not ours.
    let more = "add 300 set 31 allow tcp from any to me 22 // postern:back";
    let said = "rule 00300 \"postern:back\" was added: taken away";
    mends(&mut rules, &[], &[more], &[said]);
}

/// A state lives as long as its rule.
#[test]
fn rules_that_are_right_are_not_touched() {
    let mut doors = vec![ssh(), numbered("web", &[tcp(80)], 101, Some(102))];
    let mut rules = Rules::with(&doors);
    rules.double.calls();
    rules.double.ipfw("delete 102");
    rules.firewall.uphold(&[]).unwrap();
    let calls = rules.double.calls();
    assert!(
        !calls.contains("delete") && !calls.contains("add 00101"),
        "{calls}"
    );
    // One of two at a number: the other stays.
    rules.double.ipfw("delete 101");
    rules
        .double
        .ipfw(&PASS.trim().replacen("00101 ", "add 101 set 31 ", 1));
    rules.firewall.uphold(&[]).unwrap();
    let calls = rules.double.calls();
    assert!(!calls.contains("delete"), "{calls}");
    assert_eq!(calls.matches("add 00101").count(), 1, "{calls}");
    // A guard that goes takes nothing with it.
    opens_of(&mut doors[1]).guard = None;
    rules.firewall.establish(&doors, &[]).unwrap();
    let calls = rules.double.calls();
    assert!(!calls.contains("delete 00101"), "{calls}");
}

#[test]
fn entries_are_what_the_leases_are() {
    let mut rules = Rules::with(&[ssh()]);
    rules.obey(&[open(0, "192.0.2.7", 600), open(0, "2001:db8::7", 600)]);
    let openings = ["192.0.2.7", "2001:db8::7"];
    rules.uphold(&openings).unwrap();
    mends(
        &mut rules,
        &openings,
        &["table postern_ssh delete 192.0.2.7"],
        &["door ssh: openings were missing, put back: 192.0.2.7"],
    );
    mends(
        &mut rules,
        &openings,
        &["table postern_ssh flush"],
        &["door ssh: openings were missing, put back: 192.0.2.7, 2001:db8::7"],
    );
    mends(
        &mut rules,
        &openings,
        &["table postern_ssh add 203.0.113.1 4000000000"],
        &["door ssh: openings stood without a lease, taken away: 203.0.113.1"],
    );
    // One that is over goes without a word.
    rules
        .double
        .ipfw("table postern_ssh add 203.0.113.1 1700000000");
    assert_eq!(rules.uphold(&openings), Ok(Upkeep::default()));
    assert_eq!(rules.double.table("ssh").len(), 2);
    // As after a step of the clock.
    let said = "door ssh: openings ended at another time than their leases, set right: 192.0.2.7";
    rules
        .double
        .ipfw("-q table postern_ssh add 192.0.2.7 1700000000");
    let upkeep = rules.uphold(&openings).unwrap();
    assert_eq!(upkeep.mended, [said]);
    assert_eq!(rules.uphold(&openings), Ok(Upkeep::default()));
}

#[test]
fn rules_of_addresses_are_what_the_leases_are() {
    let mut rules = Rules::new(By::Rules);
    let mut door = ssh();
    opens_of(&mut door).pass = Pass::Rules(90..=93);
    rules.firewall.establish(&[door], &[]).unwrap();
    rules.obey(&[open(0, "192.0.2.7", 600), open(0, "192.0.2.8", 600)]);
    let openings = ["192.0.2.7", "192.0.2.8"];
    rules.uphold(&openings).unwrap();
    let stands = rules.double.rules();
    let until = |line: &str, until: &str| {
        let (rule, _) = line.split_once(" until ").unwrap();
        rule.replacen("000", "add ", 1)
            .replacen(" allow", " set 31 allow", 1)
            + " until "
            + until
    };
    let first = stands.lines().next().unwrap();
    for (lines, what) in [
        (
            vec!["delete 90".to_owned()],
            "door ssh: openings were missing, put back: 192.0.2.7",
        ),
        (
            vec![
                until(first, "2090-01-01T00:00:00Z")
                    .replace("90 set", "93 set")
                    .replace("2.7", "2.9"),
            ],
            "door ssh: openings stood without a lease, taken away: 192.0.2.9",
        ),
        (
            vec!["delete 90".to_owned(), until(first, "2090-01-01T00:00:00Z")],
            "door ssh: openings ended at another time than their leases, set right: 192.0.2.7",
        ),
        (
            vec![format!(
                "{}",
                until(first, first.split_once(" until ").unwrap().1).replace("90 set", "93 set")
            )],
            "door ssh: openings stood twice, once taken away: 192.0.2.7",
        ),
    ] {
        for line in &lines {
            rules.double.ipfw(line);
        }
        let mended = rules.uphold(&openings).unwrap().mended;
        assert!(mended.contains(&what.to_owned()), "{lines:?}: {mended:?}");
        assert_eq!(rules.let_in().len(), 2, "{lines:?}");
        assert_eq!(rules.uphold(&openings), Ok(Upkeep::default()));
    }
}

/// Flushed while an order is on its way: the order is carried out, and all stands again.
#[test]
fn an_order_finds_everything_gone() {
    let mut rules = Rules::with(&[ssh()]);
    rules.obey(&[open(0, "192.0.2.7", 600)]);
    rules.double.ipfw("delete set 31");
    rules.double.ipfw("table postern_ssh destroy");
    rules.double.ipfw("table postern_running destroy");
    rules.obey(&[open(0, "192.0.2.8", 600)]);
    assert_eq!(rules.double.rules(), all());
    assert_eq!(rules.double.table("ssh").len(), 2);
    let openings = ["192.0.2.7", "192.0.2.8"];
    let mended = rules.uphold(&openings).unwrap().mended;
    let guard = "rule 00102 \"postern: guard\" was gone: made anew";
    assert!(mended.contains(&guard.to_owned()), "{mended:?}");
    assert_eq!(rules.uphold(&openings), Ok(Upkeep::default()));
}

#[test]
fn a_guard_changes_and_a_door_goes() {
    let mut doors = vec![ssh(), numbered("web", &[tcp(80)], 201, Some(202))];
    let mut rules = Rules::with(&doors);
    rules.obey(&[open(0, "192.0.2.7", 600), open(1, "192.0.2.7", 600)]);
    let openings = [left(0, "192.0.2.7", 600)];
    if let Some(guard) = &mut opens_of(&mut doors[0]).guard {
        guard.number = Some(150);
    }
    rules.firewall.establish(&doors[..1], &openings).unwrap();
    let moved = [
        PASS,
        &RUNNING.replace("00102", "00150"),
        &GUARD.replace("00102", "00150"),
    ];
    assert_eq!(rules.double.rules(), moved.concat());
    assert_eq!(
        rules.double.tables(),
        [
            "--- table(postern_running), set(0) ---",
            "--- table(postern_ssh), set(0) ---"
        ]
    );
    assert_eq!(rules.double.table("ssh").len(), 1);
    // Withdrawn.
    opens_of(&mut doors[0]).guard = None;
    rules.firewall.establish(&doors[..1], &openings).unwrap();
    assert_eq!(rules.double.rules(), PASS);
    assert_eq!(
        rules.double.tables(),
        ["--- table(postern_ssh), set(0) ---"]
    );
    rules.firewall.establish(&[], &[]).unwrap();
    assert_eq!(rules.double.rules(), "");
    assert_eq!(rules.double.tables(), [""; 0]);
}

#[test]
fn unguarded_by_our_marks_alone() {
    let mut web = numbered("web", &[tcp(80)], 102, Some(202));
    web.on = vec!["xl1".to_owned()];
    let mut rules = Rules::with(&[ssh(), web]);
    let mut nobody = fresh(&rules.double);
    let line = |text: &str| format!("rule {}", text.trim());
    let taken = nobody.unguard().unwrap();
    assert_eq!(taken.len(), 4);
    assert_eq!(taken[..2], [line(RUNNING), line(GUARD)]);
    let left = rules.double.rules();
    assert!(left.starts_with(PASS) && left.contains("\n00102 allow tcp from table(postern_web)"));
    assert_eq!(left.lines().count(), 2, "{left}");
    assert_eq!(nobody.unguard(), Ok(Vec::new()));
    let mended = rules.firewall.uphold(&[]).unwrap().mended;
    assert_eq!(mended.len(), 4, "{mended:?}");
    assert!(rules.double.rules().contains(GUARD));
}

#[test]
fn who_needs_no_knock() {
    let double = Double::new();
    let always = ["192.0.2.0/24", "2001:db8::1"].map(|text| text.parse().unwrap());
    let make = |always| Ipfw::with_path(&["xl0".to_owned()], always, double.path()).unwrap();
    let mut firewall = make(&always);
    firewall.establish(&[ssh()], &[]).unwrap();
    assert_eq!(
        double.table("always"),
        ["192.0.2.0/24 0", "2001:db8::1/128 0"]
    );
    double.ipfw("table postern_always delete 192.0.2.0/24");
    double.ipfw("table postern_always add 198.51.100.1");
    assert_eq!(
        firewall.uphold(&[]).unwrap().mended,
        [
            "always: addresses were missing, put back: 192.0.2.0/24",
            "always: addresses stood that the configuration does not name, taken away: \
             198.51.100.1",
        ]
    );
    assert_eq!(double.table("always").len(), 2);
    let mut firewall = make(&always[1..]);
    assert_eq!(firewall.establish(&[ssh()], &[]), Ok(Upkeep::default()));
    assert_eq!(double.table("always"), ["2001:db8::1/128 0"]);
    let mut firewall = make(&[]);
    assert_eq!(firewall.establish(&[ssh()], &[]), Ok(Upkeep::default()));
    assert_eq!(double.rules(), all());
    assert!(!double.tables().concat().contains("always"));
}

/// net.inet.ip.fw.tables_sets=1: a rule of set 31 finds its table only there.
#[test]
fn tables_are_of_the_set_of_their_rules() {
    let mut rules = Rules::new(By::Table);
    rules.double.mark("tables_sets");
    rules.double.ipfw("table postern_ssh create type addr");
    rules.double.ipfw("table postern_ssh add 203.0.113.1");
    rules.firewall.establish(&[ssh()], &[]).unwrap();
    rules.obey(&[open(0, "192.0.2.7", 600)]);
    assert_eq!(
        rules.double.tables(),
        [
            "--- table(postern_running), set(31) ---",
            "--- table(postern_ssh), set(31) ---",
            "--- table(postern_ssh), set(0) ---",
        ]
    );
    assert_eq!(rules.firewall.openings(), Ok(vec![opening(0, "192.0.2.7")]));
    rules.uphold(&["192.0.2.7"]).unwrap();
    assert_eq!(rules.uphold(&["192.0.2.7"]), Ok(Upkeep::default()));
    rules.firewall.remove().unwrap();
    assert_eq!(
        rules.double.tables(),
        ["--- table(postern_ssh), set(0) ---"]
    );
}
