//! The double is held against what a real FreeBSD 12.1 printed.

use super::*;

struct Recorded {
    command: String,
    output: Vec<String>,
    status: i32,
}

fn recorded() -> Vec<Recorded> {
    let mut all: Vec<Recorded> = Vec::new();
    for line in include_str!("recorded.txt").lines() {
        if line.starts_with("# ") {
            continue;
        }
        if let Some(command) = line.strip_prefix("fbsd12# ") {
            all.push(Recorded {
                command: command.to_owned(),
                output: Vec::new(),
                status: 0,
            });
            continue;
        }
        let last = all.last_mut().unwrap();
        match line.strip_prefix("[exit ") {
            Some(status) => last.status = status.trim_end_matches(']').parse().unwrap(),
            None => last.output.push(line.to_owned()),
        }
    }
    all
}

const PF_CONF: &str = "\
table <knock> persist
block drop in quick on vtnet9 proto tcp to port 2299
anchor \"knock/*\"
block in proto tcp to port 22
pass all
";

/// `Enabled for 0 days 00:00:01`: it may have taken longer. `Cleared: Sat Nov 21 20:31:00 2026`: it
/// was then.
fn timeless(line: &str) -> String {
    if let Some(when) = line.strip_prefix("\tCleared:     ") {
        assert_eq!(when.len(), "Sat Nov 21 20:31:00 2026".len(), "{when}");
        return "\tCleared:".to_owned();
    }
    match line.split_once(" days ") {
        Some((before, after)) => format!("{before} days 00:00:01{}", &after["00:00:01".len()..]),
        None => line.to_owned(),
    }
}

#[test]
fn the_double_prints_what_was_recorded() {
    let double = Double::new();
    double.pfctl("-F all", "");
    double.edit(|state| {
        state["enabled"] = false.into();
        state["since"] = 0.into();
    });
    for Recorded {
        command,
        output,
        status,
    } in recorded()
    {
        // What is not pfctl's is acted out.
        match command.as_str() {
            "service pf start" | "service pf reload" | "service pf restart" => {
                double.pfctl("-f -", PF_CONF);
                double.edit(|state| {
                    state["enabled"] = true.into();
                    let now = std::time::SystemTime::now()
                        .duration_since(std::time::UNIX_EPOCH)
                        .unwrap();
                    state["since"] = (now.as_secs() - 1).into();
                });
                continue;
            }
            "service pf stop" => {
                double.pfctl("-d", "");
                continue;
            }
            "pfctl -t knock -T expire 1" => {
                double.pfctl("-t knock -T flush", "");
                continue;
            }
            command if command.contains("/tmp/door") => {
                for line in output.iter().filter(|line| is_rule(line)) {
                    let shown = double.pfctl("-nv -a postern -f -", line);
                    assert_eq!(shown, format!("{line}\n"), "shown as it was given");
                }
                continue;
            }
            _ => {}
        }
        let (stdin, call) = match command.split_once(" | ") {
            Some((call, "head -6")) => {
                let states: String = output
                    .iter()
                    .filter(|line| !line.contains("ALTQ"))
                    .map(|line| format!("{line}\n"))
                    .collect();
                std::fs::write(double.file("states"), states).unwrap();
                (String::new(), call)
            }
            Some((given, call)) => {
                let text = given.split('\'').nth(1).unwrap();
                (text.replace("\\n", "\n"), call)
            }
            None => (String::new(), command.as_str()),
        };
        let args: Vec<&str> = call.split_whitespace().skip(1).collect();
        let (text, exit) = double.run(&args, &stdin);
        let lines: Vec<String> = text.lines().map(timeless).collect();
        let expected: Vec<String> = output.iter().map(|line| timeless(line)).collect();
        assert_eq!(lines, expected, "{command}");
        assert_eq!(exit, status, "{command}");
    }
}

fn is_rule(line: &str) -> bool {
    ["pass ", "block ", "anchor "]
        .iter()
        .any(|word| line.starts_with(word))
}
