//! `table = "name"`: the administrator's table, in the main ruleset.

use super::*;
use crate::suite;

const PF_CONF: &str = "\
table <ssh_in> persist
table <sftp_in> persist
pass in proto tcp from <ssh_in> to any port 22
block in proto tcp to port 22
";

struct Named(Anchor);

impl Named {
    fn new() -> Named {
        let anchor = Anchor::new();
        anchor.double.pfctl("-f -", PF_CONF);
        Named(anchor)
    }
}

fn table_door(name: &str, table: &str) -> Door {
    changed(opens(name, &[], false), |opens| {
        opens.pass = Pass::Table(table.to_owned())
    })
}

impl Subject for Named {
    fn firewall(&mut self) -> &mut dyn Firewall {
        &mut self.0.firewall
    }

    fn doors(&self) -> Vec<Door> {
        vec![table_door("ssh", "ssh_in"), table_door("sftp", "sftp_in")]
    }

    fn crash(&mut self) {
        self.0.crash();
    }

    fn let_in(&mut self) -> BTreeSet<Opening> {
        let mut all = BTreeSet::new();
        for (table, door) in [("ssh_in", 0), ("sftp_in", 1)] {
            let entries = self.0.double.table("", table);
            all.extend(entries.iter().map(|address| opening(door, address)));
        }
        all
    }
}

suite::suite!(Named::new());

#[test]
fn the_anchor_is_never_touched_and_nobody_elses_entry() {
    let mut named = Named::new();
    let double = &named.0.double;
    double.pfctl("-t ssh_in -T add 192.0.2.1 198.51.100.0/24", "");
    let doors = named.doors();
    let conf = named.0.double.pfctl("-s rules", "");
    let _ = named.0.double.calls();
    let upkeep = named
        .0
        .firewall
        .establish(&doors, &[left(0, "192.0.2.9", 600)]);
    let put_back = "door ssh: openings were missing, put back: 192.0.2.9";
    assert_eq!(upkeep.unwrap().mended, [put_back]);
    named
        .0
        .obey(&[open(0, "192.0.2.7", 600), open(0, "192.0.2.8", 600)]);
    named.0.obey(&[close(0, "192.0.2.8")]);
    let openings = [left(0, "192.0.2.7", 600), left(0, "192.0.2.9", 600)];
    assert_eq!(named.0.uphold(&openings), [NONE, NONE]);
    let mut said = named.0.firewall.openings().unwrap();
    said.sort();
    assert_eq!(said, [opening(0, "192.0.2.7"), opening(0, "192.0.2.9")]);
    // Flushed under us.
    named.0.double.pfctl("-t ssh_in -T delete 192.0.2.7", "");
    let [mended, strangers] = named.0.uphold(&openings);
    assert_eq!(
        mended,
        ["door ssh: openings were missing, put back: 192.0.2.7"]
    );
    assert_eq!(strangers, NONE);
    // A lease that is over, at a reload.
    named.0.firewall.establish(&doors, &openings[..1]).unwrap();
    let theirs = ["192.0.2.1", "198.51.100.0/24"].map(str::to_owned);
    let mut all = BTreeSet::from(theirs.clone());
    all.insert("192.0.2.7".to_owned());
    assert_eq!(named.0.double.table("", "ssh_in"), all);
    named.0.firewall.remove().unwrap();
    assert_eq!(named.0.double.table("", "ssh_in"), BTreeSet::from(theirs));
    assert_eq!(named.0.double.pfctl("-s rules", ""), conf);
    let calls = named.0.double.calls();
    assert!(!calls.contains("-a postern -f"), "{calls}");
    assert!(!calls.contains("-a postern -F"), "{calls}");
}

#[test]
fn a_missing_table_is_not_made_but_asked_for() {
    let mut named = Named::new();
    let words = "door mail: pf has no table mail_in: write \"table <mail_in> persist\" and rules \
                 that name it in pf.conf, and load it (service pf reload)";
    let mut doors = named.doors();
    doors.push(table_door("mail", "mail_in"));
    let failure = named.0.firewall.establish(&doors, &[]).unwrap_err();
    assert_eq!(failure.to_string(), words);
    named.0.double.pfctl("-t mail_in -T add 192.0.2.1", "");
    named.0.firewall.establish(&doors, &[]).unwrap();
    named.0.double.pfctl("-t mail_in -T kill", "");
    let orders = [open(2, "192.0.2.7", 600), open(0, "192.0.2.7", 600)];
    let done = carry_out(&mut named.0.firewall, &orders);
    assert_eq!(done[0].result.clone().unwrap_err().to_string(), words);
    assert_eq!(done[1].result, Ok(()), "of another door");
    assert_eq!(
        named.0.double.run(&["-t", "mail_in", "-T", "show"], "").1,
        255
    );
    // Nor does it keep what is wrong elsewhere from being mended.
    doors.rotate_right(1);
    named.0.double.pfctl("-t mail_in -T add 192.0.2.1", "");
    named.0.firewall.establish(&doors, &[]).unwrap();
    named.0.double.pfctl("-t mail_in -T kill", "");
    let failure = named
        .0
        .firewall
        .uphold(&[left(1, "192.0.2.8", 600)])
        .unwrap_err();
    assert_eq!(failure.to_string(), words);
    assert_eq!(named.let_in(), BTreeSet::from([opening(0, "192.0.2.8")]));
}

#[test]
fn of_two_doors_with_one_table_each_has_its_openings() {
    let mut named = Named::new();
    let doors = [table_door("a", "ssh_in"), table_door("b", "ssh_in")];
    named.0.firewall.establish(&doors, &[]).unwrap();
    named
        .0
        .obey(&[open(0, "192.0.2.7", 600), open(1, "192.0.2.7", 600)]);
    named.0.obey(&[close(0, "192.0.2.7")]);
    assert_eq!(named.let_in(), BTreeSet::from([opening(0, "192.0.2.7")]));
    assert_eq!(
        named.0.firewall.openings().unwrap(),
        [opening(1, "192.0.2.7")]
    );
    named.0.obey(&[open(0, "192.0.2.7", 600)]);
    named
        .0
        .obey(&[close(0, "192.0.2.7"), close(1, "192.0.2.7")]);
    assert_eq!(named.let_in(), BTreeSet::new());
}
