//! What others do to our anchor, and what is done about it.

use super::*;
use postern::config::Network;

const ADDRESSES: [&str; 2] = ["192.0.2.7", "2001:db8::7"];

fn openings() -> [(Opening, Option<std::time::Duration>); 2] {
    [left(0, ADDRESSES[0], 600), left(1, ADDRESSES[1], 600)]
}

fn both_in() -> BTreeSet<Opening> {
    BTreeSet::from([opening(0, ADDRESSES[0]), opening(1, ADDRESSES[1])])
}

/// A running anchor with two doors, always and an opening at each.
fn running() -> Anchor {
    let mut anchor = Anchor::new();
    let always: [Network; 1] = ["198.51.100.0/24".parse().unwrap()];
    let interfaces = [INTERFACE.to_owned()];
    anchor.firewall = Pf::with_path(&interfaces, &always, anchor.double.path()).unwrap();
    anchor.firewall.establish(&doors(), &[]).unwrap();
    anchor.obey(&[open(0, ADDRESSES[0], 600), open(1, ADDRESSES[1], 600)]);
    anchor
}

const PASS: &str = "pass in quick on srv0 proto tcp from <door_ssh> to (self) port = ssh flags S/SA \
                    keep state label \"postern:ssh\"";
const GUARD: &str = "block drop in quick on srv0 proto tcp from any to (self) port = ssh label \
                     \"postern: guard\"";

#[test]
fn whatever_is_changed_is_mended_and_said() {
    let back = |place: usize, door: &str| {
        format!(
            "door {door}: openings were missing, put back: {}",
            ADDRESSES[place]
        )
    };
    let both = [back(0, "ssh"), back(1, "sftp")];
    let gone = "anchor postern was gone: made anew".to_owned();
    let check = |damage: &dyn Fn(&Double), expected: &[String]| {
        let mut anchor = running();
        let right = anchor.double.rules();
        damage(&anchor.double);
        let [mended, strangers] = anchor.uphold(&openings());
        assert_eq!(mended, expected);
        assert_eq!(strangers, NONE);
        assert_eq!(anchor.double.rules(), right);
        assert_eq!(anchor.let_in(), both_in());
        assert_eq!(anchor.uphold(&openings()), [NONE, NONE]);
    };
    let loaded = |change: fn(&str) -> String| {
        move |double: &Double| {
            let rules = double.rules();
            let other = change(&rules);
            assert_ne!(rules, other);
            double.pfctl("-a postern -f -", &other);
        }
    };
    let all = |double: &Double| drop(double.pfctl("-a postern -F all", ""));
    check(&all, &[&[gone.clone()][..], &both].concat());
    let rules = |double: &Double| drop(double.pfctl("-a postern -F rules", ""));
    check(&rules, &[gone]);
    check(
        &loaded(|rules| rules.replace(&format!("{GUARD}\n"), "")),
        &[format!("rule {GUARD} was gone: made anew")],
    );
    check(
        &loaded(|rules| rules.replace("block drop", "pass")),
        &[
            format!("rule {GUARD} was gone: made anew"),
            "rule pass in quick on srv0 proto tcp from any to (self) port = ssh flags S/SA keep \
             state label \"postern: guard\" was added: taken away"
                .to_owned(),
        ],
    );
    check(
        &loaded(|rules| format!("{GUARD}\n{}", rules.replace(&format!("{GUARD}\n"), ""))),
        &["rules stood in another order or twice: made anew".to_owned()],
    );
    check(
        &|double| drop(double.pfctl("-a postern -t door_ssh -T kill", "")),
        &[
            "table door_ssh was gone: made anew".to_owned(),
            back(0, "ssh"),
        ],
    );
    check(
        &|double| drop(double.pfctl("-a postern -t always -T add 203.0.113.0/24", "")),
        &["table always was changed: set right".to_owned()],
    );
    check(
        &|double| {
            double.pfctl("-a postern -t door_ssh -T flush", "");
            double.pfctl("-a postern -t door_sftp -T flush", "");
        },
        &both,
    );
    check(
        &|double| {
            drop(double.pfctl(
                "-a postern -t door_ssh -T add 192.0.2.66 203.0.113.0/24",
                "",
            ))
        },
        &[
            "door ssh: openings stood without a lease, taken away: 192.0.2.66, 203.0.113.0/24"
                .to_owned(),
        ],
    );
}

/// Orders come between two upholdings: what was damaged is mended before they are acted on.
#[test]
fn orders_are_acted_on_when_all_stands_as_it_should() {
    let mut anchor = running();
    let right = anchor.double.rules();
    for (damage, mended) in [
        ("-a postern -F all", "anchor postern was gone: made anew"),
        (
            "-a postern -t door_sftp -T kill",
            "table door_sftp was gone: made anew",
        ),
    ] {
        anchor.double.pfctl(damage, "");
        anchor.obey(&[open(0, "192.0.2.8", 600)]);
        assert_eq!(anchor.double.rules(), right, "{damage}");
        let mut all = both_in();
        all.insert(opening(0, "192.0.2.8"));
        assert_eq!(anchor.let_in(), all, "{damage}");
        anchor.obey(&[close(0, "192.0.2.8")]);
        let [told, _] = anchor.uphold(&openings());
        assert_eq!(told.first().map(String::as_str), Some(mended));
        assert_eq!(anchor.uphold(&openings()), [NONE, NONE]);
    }
}

#[test]
fn what_is_not_ours_is_reported_and_kept_behind_ours() {
    let mut anchor = running();
    let right = anchor.double.rules();
    let theirs =
        "pass in quick inet proto tcp from 203.0.113.1 to any port = ssh flags S/SA keep state";
    anchor.double.pfctl(
        "-a postern -f -",
        &format!("scrub in all fragment reassemble\n{theirs}\n{right}"),
    );
    anchor
        .double
        .pfctl("-a postern -t mine -T add 192.0.2.1", "");
    let strangers = [
        "anchor postern: \"scrub in all fragment reassemble\" is not ours: left alone".to_owned(),
        format!("anchor postern: {theirs:?} is not ours: left alone"),
        "anchor postern: table \"mine\" is not ours: left alone".to_owned(),
    ];
    let before = anchor.double.rules();
    assert_eq!(anchor.uphold(&openings()), [&NONE[..], &strangers]);
    assert_eq!(anchor.double.rules(), before, "no reason to load anything");
    // A restart with other doors loads the anchor anew.
    let rdr = "rdr pass on em0 inet proto tcp from any to any port = 2222 -> 192.0.2.1 port 22";
    anchor
        .double
        .edit(|state| state["nat"]["postern"] = vec![rdr].into());
    anchor.crash();
    let upkeep = anchor
        .firewall
        .establish(&doors()[..1], &openings()[..1])
        .unwrap();
    assert_eq!(upkeep.strangers, strangers);
    let text = anchor.double.rules();
    let lines = ["scrub in all fragment reassemble", PASS, GUARD, theirs];
    assert_eq!(text, format!("{}\n", lines.join("\n")));
    assert_eq!(anchor.double.table("postern", "mine").len(), 1);
    assert_eq!(anchor.double.table("postern", "door_sftp").len(), 0);
    anchor.firewall.remove().unwrap();
    assert_eq!(anchor.double.rules(), format!("{}\n{theirs}\n", lines[0]));
    assert_eq!(anchor.double.pfctl("-a postern -s Tables", ""), "mine\n");
    assert_eq!(
        anchor.double.pfctl("-a postern -s nat", ""),
        format!("{rdr}\n")
    );
}

#[test]
fn doors_come_and_go() {
    let mut anchor = running();
    anchor.firewall = fresh(anchor.double.path());
    let mut fewer = doors();
    fewer.remove(1);
    fewer.push(opens("dns", &[udp(53)], true));
    anchor.firewall.establish(&fewer, &openings()[..1]).unwrap();
    assert_eq!(
        anchor.double.pfctl("-a postern -s Tables", ""),
        "door_dns\ndoor_ssh\n"
    );
    assert_eq!(anchor.let_in(), BTreeSet::from([opening(0, ADDRESSES[0])]));
    let dns = "on srv0 proto udp from <door_dns> to (self) port = domain keep state label \"postern:dns\"";
    let text = anchor.double.rules();
    assert!(
        text.contains(dns) && !text.contains("sftp") && !text.contains("always"),
        "{text}"
    );
    // A guard withdrawn: the door stands open, and its pass rule stays.
    let withdrawn = |door: Door| {
        changed(door, |opens| {
            if let Some(guard) = &mut opens.guard {
                guard.ports.clear();
            }
        })
    };
    let open_door = [withdrawn(fewer[0].clone()), fewer[1].clone()];
    anchor
        .firewall
        .establish(&open_door, &openings()[..1])
        .unwrap();
    let text = anchor.double.rules();
    assert!(text.contains(PASS) && !text.contains(GUARD), "{text}");
    anchor.firewall.establish(&[], &[]).unwrap();
    assert_eq!(anchor.double.rules(), "");
    assert_eq!(anchor.double.pfctl("-a postern -s Tables", ""), "");
}

/// By marks alone: nothing was established.
#[test]
fn guards_go_where_no_daemon_runs() {
    let mut anchor = running();
    let right = anchor.double.rules();
    let theirs = "pass out all flags S/SA keep state";
    anchor
        .double
        .pfctl("-a postern -f -", &format!("{right}{theirs}\n"));
    let mut other = fresh(anchor.double.path());
    let gone = other.unguard().unwrap();
    assert_eq!(gone, [format!("anchor postern: {GUARD}")]);
    let left = right.replace(&format!("{GUARD}\n"), "");
    assert_eq!(anchor.double.rules(), format!("{left}{theirs}\n"));
    assert_eq!(anchor.let_in(), both_in());
    assert_eq!(other.unguard().unwrap(), NONE);
    // It comes back with the next look.
    let [mended, _] = anchor.uphold(&openings());
    assert_eq!(mended, [format!("rule {GUARD} was gone: made anew")]);
    assert_eq!(anchor.double.rules(), format!("{right}{theirs}\n"));
    anchor.double.pfctl("-a postern -F all", "");
    assert_eq!(other.unguard().unwrap(), NONE);
    other.remove().unwrap();
}

#[test]
fn pf_that_is_disabled_or_does_not_reach_us_is_said() {
    let mut anchor = Anchor::new();
    anchor.double.pfctl("-f -", "pass all\n");
    anchor.double.pfctl("-d", "");
    let disabled = "pf is disabled: nothing is filtered (pfctl -e)";
    let unreached = "pf.conf has no anchor \"postern\": our rules are not reached";
    let upkeep = anchor.firewall.establish(&doors(), &[]).unwrap();
    assert_eq!(upkeep.strangers, [disabled, unreached]);
    assert!(anchor.double.rules().contains(GUARD), "loaded all the same");
    anchor.double.pfctl("-e", "");
    assert_eq!(anchor.uphold(&[]), [&NONE[..], &[unreached.to_owned()]]);
    for conf in [
        "anchor \"postern\"\n",
        "anchor \"*\"\n",
        "block in all\nanchor \"/postern\"\n",
    ] {
        anchor.double.pfctl("-f -", conf);
        assert_eq!(anchor.uphold(&[]), [NONE, NONE], "{conf}");
    }
    // Rules in our anchor are not reached by this one.
    anchor.double.pfctl("-f -", "anchor \"postern/*\"\n");
    assert_eq!(anchor.uphold(&[])[1], [unreached]);
}

/// Every interface but the loopback, where none is named.
#[test]
fn rules_apply_where_the_configuration_says() {
    let mut anchor = Anchor::new();
    let path = anchor.double.path().to_owned();
    for any in [vec![], vec!["em0".to_owned(), "any".to_owned()]] {
        anchor.firewall = Pf::with_path(&any, &[], &path).unwrap();
        anchor.firewall.establish(&doors()[..1], &[]).unwrap();
        let text = anchor.double.rules();
        assert_eq!(text.matches(" on ! lo0 ").count(), 2, "{text}");
        assert_eq!(text.lines().count(), 2, "{text}");
    }
    let mut door = opens("ssh", &[tcp(22)], true);
    door.on = vec!["em1".to_owned(), "em0".to_owned()];
    anchor.firewall.establish(&[door], &[]).unwrap();
    let text = anchor.double.rules();
    for on in [" on em0 ", " on em1 "] {
        assert_eq!(text.matches(on).count(), 2, "{text}");
    }
    for name in [
        "",
        "em*",
        "em0 all",
        "em0\n",
        "0em",
        "!em0",
        "abcdefghijklmnop",
    ] {
        let made = Pf::with_path(&[name.to_owned()], &[], &path);
        assert!(made.is_err(), "{name:?}");
    }
}
