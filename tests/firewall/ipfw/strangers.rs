//! What others have in our set and tables, and what we have in theirs.

use super::*;

fn ssh() -> Door {
    numbered("ssh", &[tcp(22)], 101, Some(102))
}

#[test]
fn rules_of_others_in_our_set_are_told_of_and_left_alone() {
    let mut rules = Rules::with(&[ssh()]);
    let ours = rules.double.rules();
    rules.double.ipfw("add 100 set 31 count ip from any to any");
    rules
        .double
        .ipfw("add 101 set 31 count tcp from any to any // not postern:");
    // Another set is none of our business.
    rules.double.ipfw("add 101 allow tcp from any to me 22");
    let told = [
        "rule 00100 of set 31 (count ip from any to any) is not ours: left alone",
        "rule 00101 of set 31 (count tcp from any to any // not postern:) is not ours: left alone",
    ];
    for _ in 0..2 {
        let upkeep = rules.firewall.uphold(&[]).unwrap();
        assert_eq!(upkeep.strangers, told);
        assert_eq!(upkeep.mended, [""; 0]);
    }
    rules.crash();
    assert_eq!(
        rules.firewall.establish(&[ssh()], &[]).unwrap().strangers,
        told
    );
    rules.double.ipfw("set 31 delete 100");
    let calls = rules.double.calls();
    assert!(!calls.contains("delete"), "{calls}");
    assert!(rules.double.rules().lines().count() == ours.lines().count() + 1);
    assert_eq!(rules.double.ipfw("list 101").lines().count(), 3);
}

/// ipfw deletes by number: not with somebody else's rule there.
#[test]
fn a_rule_of_anothers_at_our_number() {
    let mut rules = Rules::with(&[ssh()]);
    let stranger = "count tcp from any to any 22";
    rules.double.ipfw("delete 101");
    rules.double.ipfw(&format!("add 101 set 31 {stranger}"));
    // What only needs to be added is.
    let mended = rules.firewall.uphold(&[]).unwrap().mended;
    assert_eq!(mended, ["rule 00101 \"postern:ssh\" was gone: made anew"]);
    assert_eq!(rules.double.ipfw("list 101").lines().count(), 2);
    // What would have to be deleted is not, but the rest is mended all the same.
    let changed = "add 101 set 31 allow ip from any to any // postern:ssh";
    rules.double.ipfw(changed);
    rules.double.ipfw("delete 102");
    for _ in 0..2 {
        let failure = rules.firewall.uphold(&[]).unwrap_err().to_string();
        assert!(failure.contains("rule 00101 of set 31"), "{failure}");
        assert!(
            failure.contains(stranger) && failure.contains("another number"),
            "{failure}"
        );
        assert_eq!(rules.double.ipfw("list 101").lines().count(), 3);
        assert_eq!(rules.double.ipfw("list 102").lines().count(), 2);
    }
    // Nothing at all is begun that cannot be ended.
    rules.crash();
    rules.double.ipfw("delete 102");
    let failure = rules.firewall.establish(&[ssh()], &[]).unwrap_err();
    assert!(matches!(failure, Failure::Unexpected(_)), "{failure}");
    assert!(!rules.double.rules().contains("00102"));
    rules.double.ipfw("delete 101");
    rules.firewall.establish(&[ssh()], &[]).unwrap();
    rules.double.ipfw(&format!("add 102 set 31 {stranger}"));
    let failure = rules.firewall.unguard().unwrap_err().to_string();
    assert!(failure.contains("rule 00102 of set 31"), "{failure}");
    let failure = rules.firewall.remove().unwrap_err().to_string();
    assert!(failure.contains("rule 00102 of set 31"), "{failure}");
    assert!(!rules.double.rules().contains("00101"));
}

#[test]
fn a_rule_of_anothers_within_a_range() {
    let mut rules = Rules::new(By::Rules);
    let mut door = ssh();
    opens_of(&mut door).pass = Pass::Rules(90..=92);
    rules.double.ipfw("add 90 set 31 count ip from any to any");
    rules.firewall.establish(&[door], &[]).unwrap();
    rules.obey(&[open(0, "192.0.2.7", 600)]);
    assert!(
        rules
            .double
            .rules()
            .contains("\n00091 allow tcp from 192.0.2.7 to me 22")
    );
    rules.obey(&[extend(0, "192.0.2.7", 900)]);
    rules.obey(&[close(0, "192.0.2.7")]);
    assert!(
        rules
            .double
            .rules()
            .starts_with("00090 count ip from any to any\n00102")
    );
}

#[test]
fn a_range_has_an_end() {
    let mut rules = Rules::new(By::Rules);
    let mut door = ssh();
    opens_of(&mut door).pass = Pass::Rules(90..=91);
    let doors = [door];
    rules.firewall.establish(&doors, &[]).unwrap();
    rules.obey(&[open(0, "192.0.2.7", 600), open(0, "192.0.2.8", 600)]);
    let failure = rules.fails(open(0, "192.0.2.9", 600)).to_string();
    assert!(
        failure.contains("no number of rules = \"90-91\" is free"),
        "{failure}"
    );
    // One goes as another comes, and a full range can be extended.
    rules.obey(&[open(0, "192.0.2.9", 600), close(0, "192.0.2.7")]);
    rules.obey(&[extend(0, "192.0.2.9", 900)]);
    let who = [opening(0, "192.0.2.8"), opening(0, "192.0.2.9")];
    assert_eq!(rules.firewall.openings(), Ok(who.to_vec()));
    assert_eq!(rules.let_in(), who.into());
    // As the journal has it, more than there is room for.
    let openings = ["192.0.2.8", "192.0.2.9", "192.0.2.10"].map(|who| left(0, who, 600));
    let failure = rules.firewall.uphold(&openings).unwrap_err().to_string();
    assert!(failure.contains("no number of rules"), "{failure}");
    // That is no reason not to start.
    rules.crash();
    rules.firewall.establish(&doors, &openings).unwrap();
    assert_eq!(rules.firewall.openings(), Ok(who.to_vec()));
}

#[test]
fn entries_of_others_in_our_tables() {
    let mut rules = Rules::with(&[ssh()]);
    rules
        .double
        .ipfw("table postern_ssh add 198.51.100.0/24 2000000000");
    rules.double.ipfw("table postern_ssh add 203.0.113.1");
    let told = "table postern_ssh: 2 entries are not ours: left alone: 198.51.100.0/24, \
                203.0.113.1";
    let upkeep = rules.firewall.uphold(&[]).unwrap();
    assert_eq!(
        (upkeep.mended, upkeep.strangers),
        (Vec::new(), vec![told.to_owned()])
    );
    // An opening that one of them makes already comes and goes without touching it.
    rules.obey(&[open(0, "203.0.113.1", 600), open(0, "203.0.113.2", 600)]);
    assert!(
        rules
            .double
            .table("ssh")
            .contains(&"203.0.113.1/32 0".to_owned())
    );
    rules.uphold(&["203.0.113.1", "203.0.113.2"]).unwrap();
    rules.obey(&[close(0, "203.0.113.1")]);
    assert!(
        rules
            .double
            .table("ssh")
            .contains(&"203.0.113.1/32 0".to_owned())
    );
    assert_eq!(
        rules.firewall.openings(),
        Ok(vec![opening(0, "203.0.113.2")])
    );
    // Nor does the end of the door.
    let upkeep = rules.firewall.establish(&[], &[]).unwrap();
    assert_eq!(upkeep.strangers.len(), 1, "{:?}", upkeep.strangers);
    assert_eq!(
        rules.double.table("ssh"),
        ["198.51.100.0/24 2000000000", "203.0.113.1/32 0"]
    );
}

#[test]
fn a_rule_of_anothers_names_our_table() {
    let mut rules = Rules::with(&[ssh()]);
    rules
        .double
        .ipfw("add 500 allow tcp from table(postern_ssh) to me 80");
    rules.obey(&[open(0, "192.0.2.7", 600)]);
    let upkeep = rules.firewall.establish(&[], &[]).unwrap();
    assert_eq!(upkeep.strangers.len(), 1, "{:?}", upkeep.strangers);
    assert_eq!(rules.double.table("ssh"), [""; 0]);
    assert_eq!(rules.double.rules(), "");
}

#[test]
fn a_table_of_another_type() {
    let mut rules = Rules::new(By::Table);
    rules.double.ipfw("table postern_running create type addr");
    let failure = rules
        .firewall
        .establish(&[ssh()], &[])
        .unwrap_err()
        .to_string();
    assert!(
        failure.contains("table postern_running is of type addr, not flow"),
        "{failure}"
    );
    assert!(
        failure.contains("ipfw set 31 table postern_running destroy"),
        "{failure}"
    );
    assert_eq!(rules.double.rules(), "");
    rules.double.ipfw("set 31 table postern_running destroy");
    rules.firewall.establish(&[ssh()], &[]).unwrap();
}

fn named() -> Vec<Door> {
    let mut doors = vec![
        numbered("ssh", &[tcp(22)], 101, None),
        numbered("web", &[tcp(80)], 1, None),
    ];
    opens_of(&mut doors[0]).pass = Pass::Table("knock".to_owned());
    doors
}

/// Only what we have orders for is touched in the administrator's table.
#[test]
fn an_administrators_table() {
    let mut rules = Rules::new(By::Table);
    rules.double.ipfw("table knock create type addr");
    for entry in ["192.0.2.1", "192.0.2.2 2000000000", "198.51.100.0/24 5"] {
        rules.double.ipfw(&format!("table knock add {entry}"));
    }
    let knock = |rules: &Rules| rules.double.ipfw("table knock list");
    let theirs = knock(&rules);
    rules.firewall.establish(&named(), &[]).unwrap();
    assert_eq!(rules.firewall.openings(), Ok(Vec::new()));
    rules.obey(&[open(0, "192.0.2.7", 600), open(0, "192.0.2.1", 600)]);
    assert_eq!(knock(&rules).lines().count(), 4);
    assert_eq!(rules.firewall.openings(), Ok(vec![opening(0, "192.0.2.7")]));
    // As after a restart with a journal.
    rules.crash();
    let openings = ["192.0.2.7"];
    let still = [still(0, openings[0], rules.since)];
    rules.firewall.establish(&named(), &still).unwrap();
    assert_eq!(rules.uphold(&openings), Ok(Upkeep::default()));
    rules.double.ipfw("table knock delete 192.0.2.7");
    assert_eq!(
        rules.uphold(&openings).unwrap().mended,
        ["door ssh: openings were missing, put back: 192.0.2.7"]
    );
    rules.obey(&[close(0, "192.0.2.7"), close(0, "192.0.2.1")]);
    assert_eq!(knock(&rules), theirs);
    // What the monitor no longer has goes as well.
    rules.obey(&[open(0, "192.0.2.7", 600)]);
    assert_eq!(rules.firewall.uphold(&[]), Ok(Upkeep::default()));
    assert_eq!(knock(&rules), theirs);
    rules.obey(&[open(0, "192.0.2.7", 600)]);
    rules.firewall.remove().unwrap();
    assert_eq!(knock(&rules), theirs);
}

/// The entry is there as long as one of the doors wants it.
#[test]
fn an_administrators_table_of_two_doors() {
    let mut rules = Rules::new(By::Table);
    rules.double.ipfw("table knock create type addr");
    let mut doors = named();
    opens_of(&mut doors[1]).pass = Pass::Table("knock".to_owned());
    rules.firewall.establish(&doors, &[]).unwrap();
    let end = |rules: &Rules| -> u64 {
        let list = rules.double.ipfw("table knock list");
        let (_, end) = list.trim().split_once(' ').unwrap();
        end.parse().unwrap()
    };
    rules.obey(&[open(1, "192.0.2.7", 9000)]);
    let long = end(&rules);
    rules.obey(&[open(0, "192.0.2.7", 600)]);
    assert!(end(&rules) > long - 1000);
    let since = rules.since;
    let openings = || {
        let long = Duration::from_secs(9000).saturating_sub(since.elapsed());
        [
            still(0, "192.0.2.7", since),
            (opening(1, "192.0.2.7"), Some(long)),
        ]
    };
    rules.firewall.uphold(&openings()).unwrap();
    assert_eq!(rules.firewall.uphold(&openings()), Ok(Upkeep::default()));
    rules.obey(&[close(1, "192.0.2.7")]);
    assert!(end(&rules) < long - 1000);
    assert_eq!(rules.firewall.openings(), Ok(vec![opening(0, "192.0.2.7")]));
    rules.obey(&[close(0, "192.0.2.7")]);
    assert_eq!(rules.double.ipfw("table knock list"), "");
}

#[test]
fn an_administrators_table_that_is_missing() {
    let mut rules = Rules::new(By::Table);
    let missing = |failure: &Failure| {
        let words = failure.to_string();
        assert!(
            words.contains("ipfw has no table knock: make it"),
            "{words}"
        );
    };
    missing(&rules.firewall.establish(&named(), &[]).unwrap_err());
    assert_eq!(rules.double.tables(), [""; 0]);
    rules.double.ipfw("table knock create type addr");
    rules.firewall.establish(&named(), &[]).unwrap();
    rules.double.ipfw("table knock destroy");
    // It is not made by the way, and other doors are none the worse.
    let done = carry_out(
        &mut rules.firewall,
        &[open(0, "192.0.2.7", 9), open(1, "192.0.2.7", 9)],
    );
    missing(done[0].result.as_ref().unwrap_err());
    assert_eq!(done[1].result, Ok(()));
    assert_eq!(rules.double.table("web").len(), 1);
    missing(&rules.firewall.uphold(&[]).unwrap_err());
    assert!(!rules.double.tables().concat().contains("knock"));
}
