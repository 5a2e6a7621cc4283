//! pfctl missing, failing, refusing; how often it is run.

use super::*;
use postern::firewall::Failure;

#[test]
fn without_pfctl_everything_fails_and_says_so() {
    let mut anchor = Anchor::new();
    let path = anchor.double.path().to_owned();
    let pfctl = anchor.double.file("pfctl");
    std::fs::remove_file(&pfctl).unwrap();
    anchor.firewall = fresh(&path);
    let failure = anchor.firewall.establish(&doors(), &[]).unwrap_err();
    let words = format!("cannot run pfctl: not found in {path}");
    assert_eq!(failure.to_string(), words);
    let done = carry_out(&mut anchor.firewall, &[open(0, "192.0.2.7", 600)]);
    assert!(done[0].result.is_err());
    // It is taken away while we run, and comes back.
    anchor.double.install();
    anchor.firewall.establish(&doors(), &[]).unwrap();
    std::fs::remove_file(&pfctl).unwrap();
    let done = carry_out(&mut anchor.firewall, &[open(0, "192.0.2.7", 600)]);
    let failure = done[0].result.clone().unwrap_err();
    assert!(matches!(failure, Failure::NotRun { .. }), "{failure}");
    assert!(anchor.firewall.uphold(&[]).is_err());
    assert!(anchor.firewall.openings().is_err());
    anchor.double.install();
    anchor.obey(&[open(0, "192.0.2.7", 600)]);
}

#[test]
fn a_failure_is_retried_once_and_told_with_its_words() {
    let mut anchor = Anchor::new();
    anchor.firewall.establish(&doors(), &[]).unwrap();
    let no_luck = "-T add|1|pfctl: no luck\n";
    anchor.double.fail(no_luck);
    anchor.obey(&[open(0, "192.0.2.7", 600)]);
    assert_eq!(anchor.let_in(), BTreeSet::from([opening(0, "192.0.2.7")]));
    anchor.double.fail(&no_luck.repeat(3));
    let done = carry_out(
        &mut anchor.firewall,
        &[open(0, "192.0.2.8", 600), close(1, "192.0.2.8")],
    );
    assert_eq!(
        done[0].result.clone().unwrap_err().to_string(),
        "pfctl -a postern -t door_ssh -T add -f -: exit status 1: pfctl: no luck"
    );
    assert_eq!(done[1].result, Ok(()), "of another door");
    let left = std::fs::read_to_string(anchor.double.file("fail")).unwrap();
    assert_eq!(left.lines().count(), 1, "tried twice");
    assert_eq!(anchor.let_in(), BTreeSet::from([opening(0, "192.0.2.7")]));
}

#[test]
fn what_can_be_done_is_said_with_the_failure() {
    for (words, output, told) in [
        (
            "-s rules",
            "pfctl: /dev/pf: No such file or directory",
            "pfctl: /dev/pf: No such file or directory (pf is not loaded: service pf start)",
        ),
        (
            "-a postern -f -",
            "pfctl: DIOCXBEGIN: Operation not permitted",
            "pfctl: DIOCXBEGIN: Operation not permitted (at securelevel 3 pf's rules stay as they \
             are, only tables change: table = \"name\")",
        ),
    ] {
        let mut anchor = Anchor::new();
        anchor
            .double
            .fail(&format!("{words}|1|{output}\n").repeat(4));
        let failure = anchor.firewall.establish(&doors(), &[]).unwrap_err();
        let failure = failure.to_string();
        assert!(
            failure.ends_with(&format!("exit status 1: {told}")),
            "{failure}"
        );
    }
}

/// Looking whether rules and tables stand is two processes, and each door that has something to
/// do one to add and one to delete.
#[test]
fn a_thousand_orders_cost_a_few_processes() {
    let mut anchor = Anchor::new();
    anchor.firewall.establish(&doors(), &[]).unwrap();
    let address = |n: u32| std::net::Ipv4Addr::from(0x0a00_0000 + n).to_string();
    let _ = anchor.double.calls();
    anchor.obey(&[open(0, &address(1), 600)]);
    assert_eq!(anchor.double.count(), 3);
    let orders: Vec<Order> = (1..=1000)
        .map(|n| open((n % 2) as u16, &address(n), 600))
        .collect();
    anchor.obey(&orders);
    assert_eq!(anchor.double.count(), 4);
    let orders: Vec<Order> = (1..=1000)
        .map(|n| match n % 3 {
            0 => extend((n % 2) as u16, &address(n), 900),
            _ => close((n % 2) as u16, &address(n)),
        })
        .collect();
    anchor.obey(&orders);
    assert_eq!(anchor.double.count(), 6);
}

/// A restart of the daemon loads nothing where all stands right.
#[test]
fn a_restart_changes_nothing() {
    let mut anchor = Anchor::new();
    anchor.firewall.establish(&doors(), &[]).unwrap();
    anchor.obey(&[open(0, "192.0.2.7", 600)]);
    let stood = anchor.double.state();
    anchor.crash();
    let _ = anchor.double.calls();
    let upkeep = anchor
        .firewall
        .establish(&doors(), &[left(0, "192.0.2.7", 500)]);
    assert_eq!(upkeep.unwrap(), Default::default());
    assert_eq!(anchor.double.state(), stood);
    let calls = anchor.double.calls();
    let changes = ["pfctl -a postern -f -", " add ", " delete ", " -F "];
    assert!(
        !changes.iter().any(|change| calls.contains(change)),
        "{calls}"
    );
}

/// What pfctl shows of rules that are loaded may not be what it said it would.
#[test]
fn what_reads_back_is_trusted() {
    let mut anchor = Anchor::new();
    let shown = |line: &str| format!("-nv -a postern -f -|0|{line}\n");
    anchor.double.fail(&shown("x"));
    let failure = anchor.firewall.establish(&doors(), &[]).unwrap_err();
    assert_eq!(failure.to_string(), "pfctl -nv: showed 0 rules of 3");
    anchor.firewall.establish(&doors(), &[]).unwrap();
    let right = anchor.double.rules();
    // As if pfctl showed loaded rules in another way.
    anchor.double.edit(|state| {
        let text = state["anchors"]["postern"].to_string();
        state["anchors"]["postern"] =
            serde_json::from_str(&text.replace(" = ssh", " = 22")).unwrap();
    });
    let [mended, _] = anchor.uphold(&[]);
    assert_eq!(mended.len(), 6, "{mended:?}");
    assert_eq!(anchor.double.rules(), right);
    assert_eq!(anchor.uphold(&[]), [NONE, NONE]);
}

/// What 12.1 says of an anchor that is not there, with exit status 0, and what others say.
#[test]
fn an_anchor_that_is_not_there_is_made() {
    for (status, words) in [
        (0, "pfctl: DIOCGETRULES: Invalid argument"),
        (1, "pfctl: Anchor does not exist."),
    ] {
        let mut anchor = Anchor::new();
        anchor
            .double
            .fail(&format!("-a postern -s rules|{status}|{words}\n"));
        anchor.firewall.establish(&doors(), &[]).unwrap();
        assert_ne!(anchor.double.rules(), "");
        anchor
            .double
            .fail("-a postern -s rules|0|pfctl: DIOCGETRULES: Device busy\n");
        assert_eq!(anchor.uphold(&[]), [NONE, NONE], "looked at again");
        anchor
            .double
            .fail(&"-a postern -s rules|0|pfctl: DIOCGETRULES: Device busy\n".repeat(2));
        assert_eq!(
            anchor.firewall.uphold(&[]).unwrap_err().to_string(),
            "pfctl -a postern -s rules: it complained: pfctl: DIOCGETRULES: Device busy"
        );
    }
}
