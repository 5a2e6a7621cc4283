//! ipfw missing, failing, not loaded; and how often it is called.

use super::*;

fn ssh() -> Door {
    numbered("ssh", &[tcp(22)], 101, Some(102))
}

const SAID: &str = "Line 2: Adding record failed: table is locked";

#[test]
fn the_command_is_missing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_str().unwrap();
    let mut firewall = Ipfw::with_path(&["xl0".to_owned()], &[], path).unwrap();
    let failure = firewall.establish(&[ssh()], &[]).unwrap_err();
    assert_eq!(
        failure.to_string(),
        format!("cannot run ipfw: not found in {path}")
    );
    assert!(firewall.unguard().is_err() && firewall.remove().is_err());
    assert!(firewall.uphold(&[]).is_err() && firewall.openings().is_err());
    // It comes, goes and comes back.
    let double = Double::new();
    let ipfw = std::path::Path::new(double.path()).join("ipfw");
    let mut firewall = fresh(&double);
    firewall.establish(&[ssh()], &[]).unwrap();
    let aside = ipfw.with_file_name("aside");
    std::fs::rename(&ipfw, &aside).unwrap();
    let done = carry_out(&mut firewall, &[open(0, "192.0.2.7", 600)]);
    let failure = done[0].result.as_ref().unwrap_err();
    assert!(matches!(failure, Failure::NotRun { .. }), "{failure}");
    std::fs::rename(&aside, &ipfw).unwrap();
    let done = carry_out(&mut firewall, &[open(0, "192.0.2.7", 600)]);
    assert_eq!(done[0].result, Ok(()));
}

#[test]
fn a_failed_batch_is_looked_at_again_and_retried_once() {
    let mut rules = Rules::with(&[ssh()]);
    rules.double.fail(1, 71, "-q", SAID);
    rules.double.calls();
    rules.obey(&[open(0, "192.0.2.7", 600), open(0, "192.0.2.8", 600)]);
    assert_eq!(rules.double.runs(), 3);
    assert_eq!(rules.double.table("ssh").len(), 2);

    rules.double.fail(2, 71, "-q", SAID);
    rules.double.calls();
    let orders = [open(0, "192.0.2.9", 600), close(0, "192.0.2.8")];
    for done in carry_out(&mut rules.firewall, &orders) {
        let failure = done.result.unwrap_err();
        let Failure::Refused {
            command,
            status,
            output,
        } = failure
        else {
            panic!("{failure}");
        };
        assert_eq!(
            (command.as_str(), status.as_str()),
            ("ipfw -q /dev/stdin", "exit status 71")
        );
        // With the line of the batch.
        let line = "(set 31 table postern_ssh delete 192.0.2.8)";
        assert_eq!(output, format!("{SAID} {line}"));
    }
    assert_eq!(rules.double.runs(), 3);
    rules.obey(&orders);
}

#[test]
fn a_repair_that_fails_is_tried_again() {
    let mut rules = Rules::with(&[ssh()]);
    let stands = rules.double.rules();
    rules.double.ipfw("delete 102");
    rules.double.fail(
        1,
        69,
        "-q",
        "Line 1: getsockopt(IP_FW_XADD): Cannot allocate memory",
    );
    rules.firewall.uphold(&[]).unwrap();
    assert_eq!(rules.double.rules(), stands);
    rules.double.ipfw("delete 102");
    rules.double.fail(
        2,
        69,
        "-q",
        "Line 1: getsockopt(IP_FW_XADD): Cannot allocate memory",
    );
    let failure = rules.firewall.uphold(&[]).unwrap_err().to_string();
    assert!(failure.contains("exit status 69: Line 1"), "{failure}");
    let mended = rules.firewall.uphold(&[]).unwrap().mended;
    assert_eq!(mended.len(), 2, "{mended:?}");
    assert_eq!(rules.double.rules(), stands);
}

/// A configuration that cannot be established leaves the one before it in force.
#[test]
fn an_establish_that_fails_changes_nothing() {
    let mut rules = Rules::with(&[ssh()]);
    rules.double.fail(
        2,
        69,
        "-q",
        "Line 1: getsockopt(IP_FW_XADD): Cannot allocate memory",
    );
    let web = numbered("web", &[tcp(80)], 201, Some(202));
    rules.firewall.establish(&[web], &[]).unwrap_err();
    assert_eq!(rules.firewall.uphold(&[]), Ok(Upkeep::default()));
    rules.obey(&[open(0, "192.0.2.7", 600)]);
    assert_eq!(rules.double.table("ssh").len(), 1);
}

#[test]
fn ipfw_is_not_loaded() {
    let mut rules = Rules::with(&[ssh()]);
    rules.double.mark("unloaded");
    let order = open(0, "192.0.2.7", 600);
    let failures = [
        rules.firewall.uphold(&[]).unwrap_err(),
        rules.firewall.establish(&[], &[]).unwrap_err(),
        rules.firewall.unguard().unwrap_err(),
        rules.firewall.remove().unwrap_err(),
    ];
    for failure in failures {
        let words = failure.to_string();
        assert!(words.contains("ipfw is not loaded"), "{words}");
        assert!(words.contains("firewall_enable=\"YES\""), "{words}");
    }
    rules.double.unmark("unloaded");
    rules.firewall.establish(&[ssh()], &[]).unwrap();
    rules.double.mark("unloaded");
    let words = rules.fails(order).to_string();
    assert!(words.contains("ipfw is not loaded"), "{words}");
}

#[test]
fn an_address_that_ipfw_does_not_take_fails_alone() {
    let mut rules = Rules::with(&[ssh()]);
    let orders = [open(0, "::192.0.2.7", 600), open(0, "192.0.2.7", 600)];
    let done = carry_out(&mut rules.firewall, &orders);
    assert!(done[0].result.is_err());
    assert_eq!(done[1].result, Ok(()));
    let openings = ["::192.0.2.7", "192.0.2.7"];
    rules.uphold(&openings).unwrap();
    assert_eq!(rules.uphold(&openings), Ok(Upkeep::default()));
}

#[test]
fn a_thousand_orders_are_one_call() {
    for (by, calls) in [(By::Table, 1), (By::Rules, 2)] {
        let mut rules = Rules::new(by);
        rules.firewall.establish(&doors(by), &[]).unwrap();
        let orders: Vec<Order> = (1..=900u32)
            .map(|n| {
                open(
                    0,
                    &std::net::Ipv4Addr::from(0x0a00_0000 + n).to_string(),
                    600,
                )
            })
            .collect();
        rules.double.calls();
        rules.obey(&orders);
        assert_eq!(rules.double.runs(), calls);
        rules.firewall.uphold(&[]).unwrap();
        // A look, a change, and a look at the change where rules were changed.
        assert!(rules.double.runs() <= 3);
        assert!(rules.let_in().is_empty());
    }
}

/// Another version of ipfw lists rules in another way: learnt, not repaired for ever.
#[test]
fn rules_that_read_back_in_another_way() {
    let double = Double::new();
    // What -n tells is not how it lists: the worst case.
    double.wrap(
        "[ \"$1\" = -n ] && exec $real \"$@\"\n\
         text=$($real \"$@\"); status=$?\n\
         [ -z \"$text\" ] || echo \"$text\" | sed 's/ me 22 / me dst-port 22 /'\n\
         exit $status\n",
    );
    for by in [By::Table, By::Rules] {
        let doors = doors(by);
        let mut firewall = fresh(&double);
        firewall.establish(&doors, &[]).unwrap();
        let since = Instant::now();
        let openings = || [still(0, "192.0.2.7", since), still(0, "2001:db8::7", since)];
        carry_out(
            &mut firewall,
            &[open(0, "192.0.2.7", 600), open(0, "2001:db8::7", 600)],
        );
        firewall.uphold(&openings()).unwrap();
        for _ in 0..2 {
            assert_eq!(firewall.uphold(&openings()), Ok(Upkeep::default()));
        }
        assert_eq!(firewall.openings().unwrap().len(), 2);
    }
}
