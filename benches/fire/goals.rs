//! What is to be reached, and whether it was.

use std::time::Duration;

use crate::figures::{Cost, Figures, Success};
use crate::report::Goal;
use crate::table;

const WHY_COST: &str = "tcpdump copies a frame and looks once a second what there is. Here each \
    packet is parsed, its source looked up by a keyed hash, and an attempt begun that must also end: \
    about a thousand instructions and a line or two of the table from main memory. To do less \
    would be to leave packets unheard, and knocks with them. At 5,000 a second it is the \
    wake-ups that cost: naps are no longer than 10 ms, since a knock waits as long. Of a \
    processor it is 1 % at 5,000 a second and 4 to 9 % at 100,000.";
const WHY_SOURCES: &str = "the work is the same, but a million sources' attempts are 32 MiB and lie \
    in main memory: what a thousand leave in the processor's cache is waited for.";
const WHY_SPA: &str = "an HMAC is what tells a forged packet from a right one, and costs half a \
    microsecond by itself.";
const WHY_IDLE: &str = "4 MiB are the kernel's buffer, a tenth of a second of a flood. The rest is, \
    for the most part, program and libraries, which both processes share and which count twice in \
    this figure (libpcap brings a dozen on Debian).";

/// Every goal for which something was measured.
pub fn judge(figures: &Figures) -> Vec<Goal> {
    let mut goals = Vec::new();
    opened(figures, &mut goals);
    costs(figures, &mut goals);
    successes(figures, &mut goals);
    memory(figures, &mut goals);
    goals
}

fn goal(what: &str, wanted: &str, measured: String, reached: bool) -> Goal {
    Goal {
        what: what.into(),
        wanted: wanted.into(),
        measured,
        reached,
        why: String::new(),
    }
}

/// The last goal is not reached for this reason.
fn unless_reached(goals: &mut [Goal], why: &str) {
    if let Some(goal) = goals.last_mut().filter(|goal| !goal.reached) {
        goal.why = why.split_whitespace().collect::<Vec<_>>().join(" ");
    }
}

fn opened(figures: &Figures, goals: &mut Vec<Goal>) {
    let best = |percent: usize, limit: u64, what: &str, wanted: &str, goals: &mut Vec<Goal>| {
        let ours = figures.opened.iter().filter(|o| o.ours_in_nft);
        let ours = ours.filter(|o| o.who.starts_with(figures.best.as_str()));
        let worst = ours
            .filter_map(|o| Some((o.percentile(percent)?, o)))
            .max_by_key(|w| w.0);
        if let Some((time, of)) = worst {
            let measured = format!(
                "{} at worst ({}, {})",
                table::time(Some(time)),
                of.who,
                match of.doors {
                    1 => "1 door".to_owned(),
                    doors => format!("{doors} doors"),
                }
            );
            let reached = time < Duration::from_millis(limit);
            goals.push(goal(what, wanted, measured, reached));
        }
    };
    let at_any = "at 1, 100 and 1000 doors";
    best(
        50,
        1,
        &format!("last knock to opened in nft, median, {at_any}"),
        "under 1 ms",
        goals,
    );
    best(
        99,
        5,
        &format!("last knock to opened in nft, 99th percentile, {at_any}"),
        "under 5 ms",
        goals,
    );
    let all = figures.opened.iter().filter(|o| o.ours_in_nft);
    let (times, knocks) = all.fold((0, 0), |(t, k), o| (t + o.times.len(), k + o.knocks));
    if knocks > 0 {
        let measured = format!("{times} of {knocks}");
        goals.push(goal(
            "knocks that open when nothing else happens",
            "all",
            measured,
            times == knocks,
        ));
    }
}

fn costs(figures: &Figures, goals: &mut Vec<Goal>) {
    let ratio = |cost: &Cost| Some(cost.each / cost.floor.filter(|floor| *floor > 0.0)?);
    for (spa, what) in [
        (false, "processor time for a packet of a flood"),
        (true, "processor time for a forged single packet"),
    ] {
        let here = figures
            .costs
            .iter()
            .filter(|c| c.what.starts_with("SPA") == spa);
        // Without a key nothing of it comes through the filter.
        let here = here.filter(|c| c.what != "SPA, keys: 0");
        let worst = here.filter_map(|c| Some((ratio(c)?, c)));
        if let Some((worst, cost)) = worst.max_by(|a, b| a.0.total_cmp(&b.0)) {
            let measured = format!(
                "{worst:.1} times at worst ({} at {}: {} against {})",
                cost.what,
                table::rate(Some(cost.rate)),
                table::micros(cost.each),
                table::micros(cost.floor.unwrap_or(0.0)),
            );
            goals.push(goal(
                what,
                "at most 1.5 times tcpdump's",
                measured,
                worst <= 1.5,
            ));
            unless_reached(goals, if spa { WHY_SPA } else { WHY_COST });
        }
    }
    let rates: std::collections::BTreeSet<u32> = figures.costs.iter().map(|c| c.rate).collect();
    for rate in rates {
        for name in ["sources", "doors"] {
            let here = figures.costs.iter().filter(|c| c.rate == rate);
            let here = here.filter(|c| c.what.starts_with(name));
            let each: Vec<f64> = here.map(|c| c.each).collect();
            if each.len() < 2 {
                continue;
            }
            let (least, most) = each
                .iter()
                .fold((f64::MAX, 0f64), |(l, m), e| (l.min(*e), m.max(*e)));
            let measured = format!("{} to {}", table::micros(least), table::micros(most));
            let what = format!(
                "processor time by number of {name}, at {}",
                table::rate(Some(rate))
            );
            goals.push(goal(
                &what,
                "constant (within a quarter)",
                measured,
                most <= 1.25 * least,
            ));
            unless_reached(goals, if name == "sources" { WHY_SOURCES } else { "" });
        }
    }
}

fn successes(figures: &Figures, goals: &mut Vec<Goal>) {
    let floor = |ours: &Success| {
        let same = |s: &&Success| s.floor && s.attack == ours.attack && s.rate == ours.rate;
        figures.successes.iter().find(same).map(Success::percent)
    };
    let ours = figures.successes.iter().filter(|s| s.ours);
    let pairs: Vec<(&Success, f64)> = ours.filter_map(|s| Some((s, floor(s)?))).collect();
    let mut judge = |what: &str, wanted: &str, least: f64, whole: bool| {
        let here = pairs.iter().filter(|(_, floor)| (*floor == 100.0) == whole);
        let mut bad: Vec<String> = Vec::new();
        let mut all = 0;
        for (s, floor) in here {
            all += 1;
            if s.percent() < least {
                bad.push(format!(
                    "{}, {}: {:.0} % (tcpdump {floor:.0} %)",
                    s.attack,
                    table::rate(s.rate),
                    s.percent()
                ));
            }
        }
        if all > 0 {
            let measured = match bad.is_empty() {
                true => format!("at all {all} rates and attacks"),
                false => bad.join("; "),
            };
            goals.push(goal(what, wanted, measured, bad.is_empty()));
        }
    };
    judge(
        "legitimate knocks in where tcpdump loses none of them",
        "all",
        100.0,
        true,
    );
    judge(
        "legitimate knocks in where the kernel drops some of tcpdump's",
        "95 %",
        95.0,
        false,
    );
}

fn memory(figures: &Figures, goals: &mut Vec<Goal>) {
    let Some(memory) = figures.memory else {
        return;
    };
    let mib = |kib: u64| format!("{:.1} MiB", kib as f64 / 1024.0);
    if let Some(kib) = memory.flooded_kib {
        goals.push(goal(
            "resident at a million sources, both processes",
            "under 64 MiB",
            mib(kib),
            kib < 64 << 10,
        ));
    }
    if let Some(lines) = memory.lines_a_second {
        goals.push(goal(
            "log lines a second under a flood",
            "under 10",
            format!("{lines:.1}"),
            lines < 10.0,
        ));
    }
    if memory.idle_kib > 0 {
        goals.push(goal(
            "resident, idle, both processes",
            "under 10 MiB",
            format!(
                "{}; {} where shared pages count once",
                mib(memory.idle_kib),
                mib(memory.idle_shared_kib)
            ),
            memory.idle_kib < 10 << 10,
        ));
        unless_reached(goals, WHY_IDLE);
        // One for each check and for the first that has begun, over a tenth of a second's end or not.
        let checks = 2 * (memory.idle.as_secs() / 10 + 1);
        let [listener, monitor] = memory.moments;
        goals.push(goal(
            "wake-ups of both processes, idle",
            "the check every 10 s alone",
            format!(
                "{monitor} moments of the monitor's and {listener} of the listener's in {} s",
                memory.idle.as_secs()
            ),
            listener == 0 && monitor <= checks,
        ));
    }
}
