//! What pfctl is given, to the letter.

use std::time::Instant;

use super::*;
use crate::net::{Net, SERVER_4, SERVER_6, listen};
use crate::suite::still;

/// The calls, for each operation. `POSTERN_GOLDEN=write` writes them.
#[test]
fn commands() {
    let net = Net::new();
    let mut anchor = Anchor::here();
    let always = [
        "198.51.100.0/24".parse().unwrap(),
        "2001:db8:1::1".parse().unwrap(),
    ];
    let path = anchor.double.path().to_owned();
    let make = || Pf::with_path(&[INTERFACE.to_owned(), "em1".to_owned()], &always, &path).unwrap();
    anchor.firewall = make();
    let ssh = listen(22);
    let session = net.reach("10.77.0.2:40000", SERVER_4, 22);
    let six = net.reach("[fd77::2]:40000", SERVER_6, 22);

    let since = Instant::now();
    let mut all = doors();
    all.push(changed(
        opens("web", &[tcp(443), tcp(80), udp(443)], true),
        |opens| {
            opens.connections = Some(2);
            opens.to = postern::config::To::Any;
        },
    ));
    all.push(changed(opens("mail", &[tcp(587)], true), |opens| {
        opens.to = postern::config::To::Network("192.0.2.0/24".parse().unwrap());
        opens.kill_states = true;
    }));
    all[3].on = vec!["em1".to_owned()];
    all.push(changed(opens("friends", &[], false), |opens| {
        opens.pass = Pass::Table("friends".to_owned());
    }));
    anchor.double.pfctl(
        "-f -",
        "table <friends> persist\nanchor \"postern\"\npass all\n",
    );
    let _ = anchor.double.calls();
    let golden = |double: &Double, name: &str| {
        let text = double.calls();
        let file = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join(format!("tests/firewall/golden/pf-{name}.txt"));
        if std::env::var_os("POSTERN_GOLDEN").is_some_and(|value| value == "write") {
            std::fs::write(&file, &text).unwrap();
        }
        assert_eq!(text, std::fs::read_to_string(&file).unwrap(), "{name}");
    };
    anchor
        .firewall
        .establish(&all, &[left(0, "192.0.2.9", 600)])
        .unwrap();
    golden(&anchor.double, "establish");
    anchor.obey(&[
        open(0, "192.0.2.7", 600),
        open(0, "2001:db8::7", 600),
        open(2, "192.0.2.7", 600),
    ]);
    golden(&anchor.double, "open");
    anchor.obey(&[extend(0, "192.0.2.7", 600), close(0, "192.0.2.9")]);
    golden(&anchor.double, "extend");
    anchor.obey(&[open(4, "192.0.2.7", 600)]);
    golden(&anchor.double, "open-in-a-named-table");
    anchor.obey(&[open(3, "192.0.2.8", 600)]);
    let _ = anchor.double.calls();
    std::fs::write(
        anchor.double.file("states"),
        super::states::state("192.0.2.8", 1000, 587, "anchor 0, rule 10", 7),
    )
    .unwrap();
    anchor.obey(&[close(3, "192.0.2.8")]);
    golden(&anchor.double, "close-and-kill-states");
    let openings = || {
        [
            still(0, "192.0.2.7", since),
            still(0, "2001:db8::7", since),
            still(2, "192.0.2.7", since),
            still(4, "192.0.2.7", since),
        ]
    };
    anchor.firewall.uphold(&openings()).unwrap();
    golden(&anchor.double, "uphold");
    anchor.double.pfctl("-a postern -F all", "");
    let _ = anchor.double.calls();
    anchor.firewall.uphold(&openings()).unwrap();
    golden(&anchor.double, "uphold-flushed");
    let two = [openings()[0], openings()[1]];
    anchor.firewall.establish(&all[..2], &two).unwrap();
    golden(&anchor.double, "establish-reload");
    anchor.firewall = make();
    anchor.firewall.establish(&all[..2], &two).unwrap();
    golden(&anchor.double, "establish-restart");
    let mut kept = all[..2].to_vec();
    kept[0] = idle(prefix6(kept[0].clone(), 56), 90);
    anchor.firewall.establish(&kept, &two).unwrap();
    golden(&anchor.double, "establish-idle-prefix6");
    anchor.obey(&[open(0, "2001:db8:0:100::/56", 600)]);
    anchor.firewall.traffic().unwrap();
    anchor.obey(&[close(0, "2001:db8:0:100::/56")]);
    golden(&anchor.double, "open-network-traffic");
    anchor.firewall.establish(&all[..2], &two).unwrap();
    let _ = anchor.double.calls();
    anchor.firewall.unguard().unwrap();
    golden(&anchor.double, "unguard");
    anchor.firewall.remove().unwrap();
    golden(&anchor.double, "remove");
    drop((session, six, ssh));
}
