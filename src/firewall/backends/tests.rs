use super::*;
use crate::config::toml;

fn config(rest: &str) -> Config {
    let door = "opens = [\"22/tcp\"]\nopen_for = \"30s\"\n";
    let knock = "sequence = [\"7000/tcp\", \"8000/tcp\", \"9001/tcp\"]\n";
    let text = format!(
        "interface = \"em0\"\nfirewall = \"memory\"\n{rest}\n[door.ssh]\n{door}[[door.ssh.knock]]\n{knock}"
    );
    toml::parse("test", &text).unwrap_or_else(|wrong| panic!("{wrong:?}"))
}

/// What was entered in the administrator's tables is known to nobody else.
#[test]
fn the_packet_filter_stays_the_one_that_knows() {
    let opening = Opening {
        door: 0,
        address: IpAddr::from([192, 0, 2, 7]).into(),
    };
    let plain = config("");
    let mut backends = Backends::from_config(&plain, &["em0".to_owned()]).unwrap();
    let minute = Some(Duration::from_secs(60));
    backends
        .establish(&plain.doors, &[(opening, minute)])
        .unwrap();
    let always = config("always = [\"192.0.2.1\"]");
    for (config, interface) in [(&plain, "em0"), (&always, "em0"), (&always, "em1")] {
        backends
            .reconfigure(config, &[interface.to_owned()])
            .unwrap();
        assert_eq!(backends.openings().unwrap(), [opening]);
    }
}
