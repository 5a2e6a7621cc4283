use std::sync::LazyLock;

use postern::config::{Config, toml};
use postern::firewall::live::{Sysctls, ipfw, nft, pf};

use super::is_a_line;

/// The same door in each packet filter.
static DOORS: LazyLock<[Config; 3]> = LazyLock::new(|| {
    let door = |firewall: &str, rules: &str| {
        let text = format!(
            r#"
            interface = ["em0", "vtnet0"]
            firewall = "{firewall}"
            [door.ssh]
            opens = ["22/tcp", "53/udp"]
            open_for = "30s"
            {rules}
            [[door.ssh.knock]]
            sequence = [7143, "2912/udp"]
            "#
        );
        toml::parse("doors", &text).expect("good")
    };
    [
        door("ipfw", "rule = 101\nguard = 110"),
        door("pf", "guard = true"),
        door("nft", "guard = true"),
    ]
});

/// What ipfw, pfctl and nft list, and whoever's rules those are.
pub fn listings(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let sysctls = Sysctls::new();
    let seen = pf::Seen {
        info: text.to_string(),
        rules: text.to_string(),
        nat: text.to_string(),
        tables: text.to_string(),
        interfaces: text.to_string(),
    };
    let [with_ipfw, with_pf, with_nft] = &*DOORS;
    let told = [
        ipfw::rules(with_ipfw, &text, &sysctls),
        pf::remarks(with_pf, &seen, &sysctls),
        nft::chains(with_nft, &text),
    ];
    for remark in told.iter().flatten() {
        assert!(is_a_line(&remark.what), "{:?}", remark.what);
    }
}
