//! What nft is given, to the letter.

use super::driving::in_nfts_place;
use super::repairs::handle;
use super::*;

/// The transactions that nft is given, for each operation. `POSTERN_GOLDEN=write` writes them.
#[test]
fn transactions() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    in_nfts_place(
        dir.path(),
        &format!(
            "#!/bin/sh\nif [ \"$1\" = -f ]; then tee -a {0} | nft \"$@\"; else exec nft \"$@\"; fi\n",
            log.display()
        ),
    );
    let mut tables = Tables::new();
    let path = dir.path().to_str().unwrap();
    let make = || Nft::with_path(&[INTERFACE.to_owned(), "em1".to_owned()], &[], path).unwrap();
    tables.firewall = make();
    let ssh = listen(22);
    let client = tables.net.reach("10.77.0.2:40000", SERVER_4, 22);
    let (server, _) = ssh.accept().unwrap();
    let ssh_6 = tables.net.reach("[fd77::2]:40000", SERVER_6, 22);

    let since = Instant::now();
    let mut three = doors();
    three.push(opens("web", &[tcp(80), tcp(443), udp(443)], true));
    let golden = |name: &str| {
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        let _ = std::fs::remove_file(&log);
        // What is left of 600 s depends on how long this took, handles on the kernel.
        let whole = |word: &str| {
            let comma = if word.ends_with(',') { "," } else { "" };
            let seconds = word.split('s').next().unwrap().parse::<u64>();
            match seconds {
                Ok(500..=600) => format!("600s{comma}"),
                _ => word.to_owned(),
            }
        };
        let unnumbered = |line: &str| match line.split_once(" handle ") {
            Some((rule, _)) => format!("{rule} handle N"),
            None => line.to_owned(),
        };
        let mut text = text
            .lines()
            .map(|line| {
                unnumbered(&line.split(' ').map(whole).collect::<Vec<_>>().join(" ")) + "\n"
            })
            .collect::<String>();
        if text.is_empty() {
            text.push_str("# nothing\n");
        }
        let file = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join(format!("tests/firewall/golden/nft-{name}.txt"));
        if std::env::var_os("POSTERN_GOLDEN").is_some_and(|value| value == "write") {
            std::fs::write(&file, &text).unwrap();
        }
        let expected = std::fs::read_to_string(&file).unwrap();
        assert_eq!(text, expected, "{name}");
    };
    tables
        .firewall
        .establish(&three, &[left(0, "192.0.2.9", 600)])
        .unwrap();
    golden("establish");
    tables.obey(&[open(0, "192.0.2.7", 600), open(2, "2001:db8::7", 600)]);
    golden("open");
    tables.obey(&[
        extend(0, "192.0.2.7", 600),
        open(0, "192.0.2.8", 600),
        close(0, "192.0.2.9"),
    ]);
    golden("extend");
    tables.obey(&[open(0, CLIENT_4, 600)]);
    golden("open-2");
    tables.obey(&[close(0, CLIENT_4), close(0, CLIENT_6)]);
    golden("close");
    let openings = || {
        [
            still(0, "192.0.2.7", since),
            still(0, "192.0.2.8", since),
            still(2, "2001:db8::7", since),
        ]
    };
    tables.firewall.uphold(&openings()).unwrap();
    golden("uphold");
    nft(&format!(
        "delete rule inet postern input handle {}",
        handle("running tcp ip\"")
    ));
    tables.firewall.uphold(&openings()).unwrap();
    golden("uphold-rule-deleted");
    nft("flush ruleset");
    tables.firewall.uphold(&openings()).unwrap();
    golden("uphold-flushed");
    let [first, second, _] = openings();
    tables
        .firewall
        .establish(&three[..2], &[first, second])
        .unwrap();
    golden("establish-reload");
    tables.firewall = make();
    tables.firewall.establish(&three[..2], &[first]).unwrap();
    golden("establish-restart");
    nft("add table inet postern; add chain inet postern mine");
    tables.firewall.remove().unwrap();
    golden("remove-with-a-stranger");
    tables.firewall.establish(&three[..2], &[]).unwrap();
    let _ = std::fs::remove_file(&log);
    nft("delete chain inet postern mine");
    tables.firewall.remove().unwrap();
    golden("remove");
    let always = ["192.0.2.0/24", "198.51.100.7", "2001:db8::/32"];
    let always = always.map(|network| network.parse().unwrap());
    tables.firewall = Nft::with_path(&[INTERFACE.to_owned()], &always, path).unwrap();
    let mut doors = doors();
    doors[0] = limited(on(doors[0].clone(), &["em1"]), 2);
    doors[1] = opens("sftp", &[tcp(22)], true);
    tables.firewall.establish(&doors, &[]).unwrap();
    golden("establish-limits");
    tables.firewall.unguard().unwrap();
    golden("unguard");
    let kept = idle(
        prefix6(limited(opens("ssh", &[tcp(22), udp(53)], true), 2), 56),
        90,
    );
    tables.firewall.establish(&[kept], &[]).unwrap();
    golden("establish-idle-prefix6");
    tables.obey(&[open(0, "2001:db8:0:100::/56", 600), open(0, "fe80::1", 600)]);
    golden("open-network");
    tables.obey(&[extend(0, "2001:db8:0:100::/56", 600), close(0, "fe80::1")]);
    golden("extend-network");
    drop((client, server, ssh_6));
}
