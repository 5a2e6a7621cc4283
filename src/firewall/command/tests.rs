use super::*;

fn commands(start: &str) -> Commands {
    Commands {
        start: start.to_owned(),
        start_6: None,
        stop: None,
        stop_6: None,
        cmd_timeout: Duration::from_secs(10),
        run_limit: Duration::from_secs(30),
    }
}

fn door(commands: Commands) -> CommandDoor {
    CommandDoor {
        name: "d".into(),
        commands,
        waiting: 1,
    }
}

const OPEN: What = What::Open { remaining: None };

#[test]
fn every_occurrence_of_the_address() {
    let door = door(commands("/bin/wake %IP% -l=%IP% %ip% %IP%%IP%"));
    let line = |address: &str| door.line(OPEN, address.parse().unwrap()).unwrap();
    assert_eq!(
        line("192.0.2.7"),
        "/bin/wake 192.0.2.7 -l=192.0.2.7 %ip% 192.0.2.7192.0.2.7"
    );
    assert_eq!(
        line("2001:db8::7"),
        "/bin/wake 2001:db8::7 -l=2001:db8::7 %ip% 2001:db8::72001:db8::7"
    );
}

/// knockd's rules: IPv6 falls back to the plain command, an empty one runs nothing, and there
/// is no stop command where there is no plain one.
#[test]
fn which_command_for_which_family() {
    let (four, six): (IpAddr, IpAddr) =
        ("192.0.2.7".parse().unwrap(), "2001:db8::7".parse().unwrap());
    let some = |text: &str| Some(text.to_owned());

    let plain = door(Commands {
        stop: some("/stop %IP%"),
        ..commands("/start %IP%")
    });
    assert_eq!(plain.line(OPEN, four), some("/start 192.0.2.7"));
    assert_eq!(plain.line(OPEN, six), some("/start 2001:db8::7"));
    assert_eq!(plain.line(What::Close, four), some("/stop 192.0.2.7"));
    assert_eq!(plain.line(What::Close, six), some("/stop 2001:db8::7"));
    let remaining = Duration::from_secs(1);
    assert_eq!(plain.line(What::Extend { remaining }, four), None);

    let both = door(Commands {
        start_6: some("/start6 %IP%"),
        stop: some("/stop %IP%"),
        stop_6: some("/stop6 %IP%"),
        ..commands("/start %IP%")
    });
    assert_eq!(both.line(OPEN, four), some("/start 192.0.2.7"));
    assert_eq!(both.line(OPEN, six), some("/start6 2001:db8::7"));
    assert_eq!(both.line(What::Close, four), some("/stop 192.0.2.7"));
    assert_eq!(both.line(What::Close, six), some("/stop6 2001:db8::7"));

    let only_four = door(Commands {
        start_6: some(""),
        stop: some("/stop %IP%"),
        stop_6: some(" "),
        ..commands("/start %IP%")
    });
    assert_eq!(only_four.line(OPEN, four), some("/start 192.0.2.7"));
    assert_eq!(only_four.line(OPEN, six), None);
    assert_eq!(only_four.line(What::Close, six), None);

    let no_stop = door(Commands {
        stop_6: some("/stop6"),
        ..commands("/start")
    });
    assert_eq!(no_stop.line(What::Close, four), None);
    assert_eq!(no_stop.line(What::Close, six), None);
}

#[test]
fn a_shell_only_where_the_line_needs_one() {
    assert_eq!(
        read_line("/sbin/ipfw  -q table\tssh add 2001:db8::7 x=1,2 50% a@b +c "),
        Line::Words(
            "/sbin/ipfw",
            vec![
                "-q",
                "table",
                "ssh",
                "add",
                "2001:db8::7",
                "x=1,2",
                "50%",
                "a@b",
                "+c"
            ]
        )
    );
    assert_eq!(read_line("/sbin/a"), Line::Words("/sbin/a", vec![]));
    for line in [
        "",
        " ",
        "ipfw add",
        "./a",
        "PATH=/x /bin/a",
        "/a; b",
        "/a & b",
        "/a | b",
        "/a > b",
        "/a 'b c'",
        "/a \"b\"",
        "/a \\b",
        "/a $b",
        "/a `b`",
        "/a *",
        "/a ?",
        "/a [b]",
        "/a {b}",
        "/a ~",
        "/a #b",
        "/a !b",
        "/a (b)",
        "/a ^b",
        "/a\n/b",
        "/a \u{e9}",
        "/a \0",
    ] {
        assert_eq!(read_line(line), Line::Shell, "{line:?}");
    }
}

#[test]
fn a_script_without_an_interpreter_is_the_shells() {
    let dir = tempfile::tempdir().unwrap();
    let script = dir.path().join("script");
    // Written by another process: while one of ours has it open to write it cannot be run.
    let write = r#"echo 'echo "$1" >"$2"' >FILE; chmod 700 FILE"#;
    let write = write.replace("FILE", script.to_str().unwrap());
    run_line(&write, Duration::from_secs(30)).unwrap();
    let told = dir.path().join("told");
    let line = format!("{} 192.0.2.7 {}", script.display(), told.display());
    assert!(matches!(read_line(&line), Line::Words(..)), "{line}");
    run_line(&line, Duration::from_secs(30)).unwrap();
    assert_eq!(std::fs::read_to_string(told).unwrap(), "192.0.2.7\n");
}

#[test]
fn commands_get_a_path_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let told = dir.path().join("told");
    let line = format!("/usr/bin/env >{}", told.display());
    run_line(&line, Duration::from_secs(30)).unwrap();
    let told = std::fs::read_to_string(told).unwrap();
    let own = |line: &&str| {
        !["PWD=", "SHLVL=", "_="]
            .iter()
            .any(|shell| line.starts_with(shell))
    };
    assert_eq!(
        told.lines().filter(own).collect::<Vec<_>>(),
        [format!("PATH={}", run::PATH)]
    );
}

fn who(door: &str, last: u8) -> Who {
    (door.into(), IpAddr::from([192, 0, 2, last]))
}

fn job(what: What) -> Job {
    Job {
        what,
        line: None,
        limit: Duration::ZERO,
        owed: false,
    }
}

/// One door with a thousand waiting does not keep another's single command from its turn.
#[test]
fn doors_take_turns_and_have_their_shares() {
    let mut state = State {
        share: 2,
        ..State::default()
    };
    for last in 0..100 {
        state.push(who("busy", last), job(OPEN));
    }
    state.push(who("calm", 1), job(OPEN));
    let taken: Vec<Who> = std::iter::from_fn(|| state.next().map(|(who, _)| who)).collect();
    assert_eq!(taken, [who("busy", 0), who("calm", 1), who("busy", 1)]);
    state.finish(who("busy", 0), &job(OPEN), Ok(()));
    assert_eq!(state.next().unwrap().0, who("busy", 2));
    assert!(state.next().is_none());
}

#[test]
fn one_address_at_one_door_in_order() {
    let mut state = State {
        share: AT_ONCE,
        ..State::default()
    };
    let order = [OPEN, What::Close, OPEN, What::Close];
    for what in order {
        state.push(who("d", 1), job(what));
    }
    state.push(who("d", 2), job(OPEN));
    for (place, what) in order.into_iter().enumerate() {
        let (first, job) = state.next().unwrap();
        if place == 1 {
            // The other address came forward while the first was running.
            assert_eq!((first, job.what), (who("d", 2), OPEN));
            state.finish(who("d", 2), &job, Ok(()));
            let (first, job) = state.next().unwrap();
            assert_eq!((first, job.what), (who("d", 1), what));
        } else {
            assert_eq!((first, job.what), (who("d", 1), what));
        }
        if place > 0 {
            assert!(state.next().is_none());
        }
        state.finish(who("d", 1), &self::job(what), Ok(()));
    }
    assert!(state.next().is_none());
    assert!(state.queues.is_empty());
    assert_eq!(state.finished.len(), 5);
}

/// A flood of right knocks is refused, not remembered: at a door without a stop command nothing
/// would ever let go of them.
#[test]
fn refused_starts_are_remembered_only_where_a_stop_will_ask() {
    for (stop, remembered) in [(None, 0), (Some("/stop".to_owned()), 1000)] {
        let mut doors = CommandDoors::new().unwrap();
        let commands = Commands {
            stop,
            ..commands("/start")
        };
        let busy = CommandDoor {
            waiting: 0,
            ..door(commands)
        };
        doors.doors.push(Some(busy));
        let mut state = State::default();
        for n in 0..1000u32 {
            let address = IpAddr::from(n.to_be_bytes());
            let opening = Opening {
                door: 0,
                address: address.into(),
            };
            let order = Order {
                opening,
                what: OPEN,
            };
            assert!(doors.take(&mut state, order).unwrap().is_err());
        }
        assert_eq!(state.refused.len(), remembered);
    }
}
