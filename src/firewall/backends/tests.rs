use super::*;
use crate::config::toml;

fn config(rest: &str) -> Config {
    let door = "opens = [\"22/tcp\"]\nopen_for = \"30s\"\n";
    let knock = "sequence = [\"7000/tcp\", \"8000/tcp\", \"9000/tcp\"]\n";
    let text = format!(
        "interface = \"em0\"\nfirewall = \"memory\"\n{rest}\n[door.ssh]\n{door}[[door.ssh.knock]]\n{knock}"
    );
    toml::parse("test", &text).unwrap_or_else(|wrong| panic!("{wrong:?}"))
}

/// What was entered in the administrator's tables is known to nobody else.
#[test]
fn where_only_doors_change_the_packet_filter_stays_the_one_that_knows() {
    let opening = Opening {
        door: 0,
        address: [192, 0, 2, 7].into(),
    };
    let interfaces = ["em0".to_owned()];
    let plain = config("");
    let mut backends = Backends::from_config(&plain, &interfaces).unwrap();
    let minute = Some(Duration::from_secs(60));
    let all = [(opening, minute)];
    backends.establish(&plain.doors, &all).unwrap();
    backends.reconfigure(&plain, &interfaces).unwrap();
    assert_eq!(backends.openings().unwrap(), [opening]);
    let always = config("always = [\"192.0.2.1\"]");
    for (config, interfaces) in [
        (&always, &interfaces[..]),
        (&always, &["em1".to_owned()][..]),
    ] {
        backends.establish(&config.doors, &all).unwrap();
        backends.reconfigure(config, interfaces).unwrap();
        assert_eq!(backends.openings().unwrap(), []);
    }
}
