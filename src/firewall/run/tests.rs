use super::*;
use std::fs::File;

/// More than any pipe holds.
const MUCH: u32 = 4_000_000;

const LONG: Duration = Duration::from_secs(60);

fn sh<'a>(args: &'a [&'a str], stdin: &'a [u8], limit: Duration) -> Program<'a> {
    Program {
        path: Path::new("/bin/sh"),
        args,
        env: &FILTER_ENV,
        stdin,
        stdout: Keep::First(1 << 24),
        stderr: Some(Keep::Last(KEPT)),
        limit,
    }
}

#[test]
fn both_outputs_and_the_status() {
    let ended = run(&sh(&["-c", "echo out; echo err >&2; exit 3"], b"", LONG)).unwrap();
    assert_eq!(ended.stdout, b"out\n");
    assert_eq!(ended.stderr, b"err\n");
    assert_eq!(in_words(ended.status.unwrap()), "exit status 3");
}

/// In place of [`input::anonymous`], where that fails.
fn no_file() -> io::Result<File> {
    Err(io::ErrorKind::Unsupported.into())
}

/// As [`run`], where there is no anonymous file.
fn run_by_pipe(program: &Program) -> io::Result<Ended> {
    let (stdin, feed) = Feed::new(program.stdin, no_file)?;
    run_fed(program, stdin, feed)
}

/// What a child reads whose input comes from a process that dies before the child starts.
fn read_of_the_dead(script: &[u8], file: fn() -> io::Result<File>) -> Vec<u8> {
    let (stdin, feed) = Feed::new(script, file).unwrap();
    drop(feed);
    let ended = Command::new("/bin/cat").stdin(stdin).output().unwrap();
    assert!(ended.status.success());
    ended.stdout
}

#[test]
fn what_is_handed_over_is_whole_whatever_becomes_of_us() {
    let much: Vec<u8> = (0..MUCH).map(|n| n as u8).collect();
    for script in [&b"flush\n"[..], &much] {
        let read = read_of_the_dead(script, input::anonymous);
        assert!(read == script, "{} of {}", read.len(), script.len());
    }
    // Through a pipe: what it holds.
    assert_eq!(read_of_the_dead(b"flush\n", no_file), b"flush\n");
    let read = read_of_the_dead(&much, no_file);
    assert!(!read.is_empty() && read.len() < much.len() && much.starts_with(&read));
}

/// As ipfw(8) is told to read it.
#[test]
fn what_is_handed_over_can_be_opened_by_name() {
    for run in [run, run_by_pipe] {
        let ended = run(&sh(&["-c", "cat /dev/stdin"], b"table all info\n", LONG)).unwrap();
        assert_eq!(ended.stdout, b"table all info\n");
    }
}

#[test]
fn much_in_and_much_out_at_once() {
    let fed: Vec<u8> = (0..MUCH).map(|n| n as u8).collect();
    for run in [run, run_by_pipe] {
        let ended = run(&sh(&["-c", "tee /dev/stderr"], &fed, LONG)).unwrap();
        assert!(
            ended.stdout == fed,
            "{} bytes of {}",
            ended.stdout.len(),
            fed.len()
        );
        assert_eq!(ended.stderr, &fed[fed.len() - KEPT..]);
    }
}

#[test]
fn who_does_not_read_is_not_waited_for() {
    let fed = vec![b'x'; MUCH as usize];
    for run in [run, run_by_pipe] {
        let ended = run(&sh(&["-c", "exec <&-; echo done"], &fed, LONG)).unwrap();
        assert!(ended.status.unwrap().success());
        assert_eq!(ended.stdout, b"done\n");
    }
}

#[test]
fn the_environment_is_ours_and_the_input_no_terminal() {
    let ended = run(&sh(
        &["-c", "env | grep -v ^_= | sort; test -t 0 || echo none; pwd; cat; ps -o pgid= -p $$; echo $$"],
        b"",
        LONG,
    ))
    .unwrap();
    let text = String::from_utf8(ended.stdout).unwrap();
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    assert_eq!(lines[0], "LC_ALL=C");
    assert_eq!(lines[1], format!("PATH={PATH}"));
    assert_eq!(lines[2..lines.len() - 2], ["PWD=/", "none", "/"]);
    assert_eq!(
        lines[lines.len() - 2],
        lines[lines.len() - 1],
        "a process group of its own"
    );
}

#[test]
fn at_the_limit_the_whole_group_dies() {
    let dir = tempfile::tempdir().unwrap();
    let fifo = dir.path().join("held");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    // Opening to read returns once the child has it open to write, and reading ends when the
    // child's own children, which hold it too, are dead.
    let path = fifo.clone();
    let reader = std::thread::spawn(move || std::fs::read(path).unwrap());
    let line = format!(
        "exec 3>{}; sleep 1000 & sleep 1000 & echo before; wait",
        fifo.display()
    );
    let ended = run(&sh(&["-c", &line], b"", Duration::from_secs(3))).unwrap();
    assert!(ended.status.is_none());
    assert_eq!(ended.stdout, b"before\n");
    reader.join().unwrap();
}

#[test]
fn the_limit_holds_for_who_prints_without_end_or_closes_all() {
    for line in [
        "while :; do echo yyyyyyyyyyyyyyyyyyyy; done",
        "exec >&- 2>&-; sleep 1000",
    ] {
        let ended = run(&Program {
            stdout: Keep::Last(KEPT),
            ..sh(&["-c", line], b"", Duration::from_millis(300))
        })
        .unwrap();
        assert!(ended.status.is_none());
        assert!(ended.stdout.len() <= KEPT);
    }
}

#[test]
fn a_child_left_behind_is_neither_waited_for_nor_killed() {
    let ended = run(&sh(&["-c", "sleep 1000 & echo $!"], b"", LONG)).unwrap();
    assert!(ended.status.unwrap().success());
    let left = String::from_utf8(ended.stdout)
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    nix::sys::signal::kill(Pid::from_raw(left), Signal::SIGKILL).expect("it still runs");
}

#[test]
fn one_output_in_the_order_of_printing() {
    let ended = run(&Program {
        stdout: Keep::Last(8),
        stderr: None,
        ..sh(
            &["-c", "echo a; echo b >&2; echo c; echo d >&2; echo e"],
            b"",
            LONG,
        )
    })
    .unwrap();
    assert_eq!(ended.stdout, b"b\nc\nd\ne\n");
    assert!(ended.cut && ended.stderr.is_empty());
}

#[test]
fn failures_in_words() {
    let checked = |line| {
        checked(
            &sh(&["-c", line], b"", Duration::from_millis(300)),
            on_one_line,
        )
        .unwrap_err()
    };
    assert_eq!(
        checked("echo first >&2; printf '\\tno\\033\\n' >&2; exit 64").to_string(),
        "sh -c echo first >&2; printf '\\tno\\033\\n' >&2; exit 64: exit status 64: first no?"
    );
    assert_eq!(
        checked("kill -9 $$").to_string(),
        "sh -c kill -9 $$: killed by signal 9"
    );
    assert_eq!(
        checked("sleep 1000").to_string(),
        "sh -c sleep 1000: still running after 300ms, killed"
    );
    let missing = super::checked(
        &Program {
            path: Path::new("/nonexistent/nft"),
            ..sh(&["-f", "-"], b"", LONG)
        },
        on_one_line,
    );
    assert_eq!(
        missing.unwrap_err().to_string(),
        "cannot run nft -f -: No such file or directory"
    );
    let long = "x".repeat(2000);
    let line = on_one_line(long.as_bytes());
    assert_eq!(line.len(), SHOWN + 3);
    let whole = "é".repeat(SHOWN);
    assert_eq!(on_one_line(whole.as_bytes()), whole);
}

#[test]
fn programs_are_found_where_they_may_be_run() {
    let dir = tempfile::tempdir().unwrap();
    let path = format!("relative::{0}/none:{0}:/bin", dir.path().display());
    assert_eq!(find("sh", &path), Some(PathBuf::from("/bin/sh")));
    std::fs::write(dir.path().join("sh"), "").unwrap();
    assert_eq!(find("sh", &path), Some(PathBuf::from("/bin/sh")));
    assert_eq!(find("no-such-program", &path), None);
    assert_eq!(find("sh", ""), None);
}
