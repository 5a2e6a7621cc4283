//! posternd in a namespace, and posternctl beside it.

use std::fmt;
use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};

use jiff::Timestamp;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

use super::host::Host;
use super::keys::Key;
use super::wait::{LIMIT, eventually, until};

/// The programs under test, by name.
pub fn program(name: &str) -> &'static str {
    match name {
        "posternd" => env!("CARGO_BIN_EXE_posternd"),
        "posternctl" => env!("CARGO_BIN_EXE_posternctl"),
        "postern" => env!("CARGO_BIN_EXE_postern"),
        "hostile-listener" => env!("CARGO_BIN_EXE_hostile-listener"),
        _ => panic!("there is no {name}"),
    }
}

/// A door, written as postern.toml wants it.
#[derive(Clone)]
pub struct Door {
    name: &'static str,
    lines: String,
    knocks: String,
}

impl Door {
    /// Guards a port and opens it for so long.
    pub fn opens(name: &'static str, port: &str, open_for: &str) -> Door {
        Door::new(name).with(&format!(
            "opens = [\"{port}\"]\nopen_for = \"{open_for}\"\nguard = true"
        ))
    }

    /// One of which nothing is said yet.
    pub fn new(name: &'static str) -> Door {
        Door {
            name,
            lines: String::new(),
            knocks: String::new(),
        }
    }

    /// Runs a command line.
    pub fn starts(name: &'static str, command: &str) -> Door {
        Door::new(name).with(&format!("start_command = '''{command}'''"))
    }

    /// More lines for the door.
    pub fn with(mut self, lines: &str) -> Door {
        self.lines += &format!("{lines}\n");
        self
    }

    /// A sequence that opens it.
    pub fn to(self, steps: &[&str]) -> Door {
        let steps: Vec<String> = steps.iter().map(|s| format!("{s:?}")).collect();
        self.knock(&format!("sequence = [{}]", steps.join(", ")))
    }

    /// A knock.
    pub fn knock(mut self, lines: &str) -> Door {
        self.knocks += &format!("[[door.{}.knock]]\n{lines}\n", self.name);
        self
    }

    /// Traffic keeps its window open for so long.
    pub fn idle(self, idle: &str) -> Door {
        self.with(&format!("idle = {idle:?}"))
    }

    /// More lines for the last knock.
    pub fn but(mut self, lines: &str) -> Door {
        self.knocks += &format!("{lines}\n");
        self
    }
}

impl fmt::Display for Door {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "[door.{}]\n{}{}", self.name, self.lines, self.knocks)
    }
}

/// What `posternctl list --json` says of one lease.
#[derive(Clone, Debug)]
pub struct Lease {
    pub door: String,
    /// The first address of whoever may enter.
    pub address: IpAddr,
    /// An address or a network, as it is shown.
    pub who: String,
    pub until: Timestamp,
    pub in_force: bool,
    pub failure: Option<String>,
    /// The name of the key that set its end.
    pub key: Option<String>,
}

/// A program that has ended.
#[derive(Debug)]
pub struct Ran {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    pub fn of(command: &mut Command) -> Ran {
        let output = command
            .output()
            .unwrap_or_else(|e| panic!("{command:?}: {e}"));
        Ran {
            status: output.status,
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// The exit status.
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or(-1)
    }
}

/// A posternd and its directory, which holds all its files.
pub struct Daemon<'h> {
    host: &'h Host,
    dir: TempDir,
    top: Vec<(String, String)>,
    keys: String,
    child: Option<Child>,
    arguments: Vec<String>,
    within: Vec<String>,
    hostile: bool,
    environment: Vec<(String, PathBuf)>,
    /// Files that it finds in the place of others.
    bound: Vec<(PathBuf, String)>,
}

impl<'h> Daemon<'h> {
    /// posternd with these doors, listening on eth0, its filter being nftables.
    pub fn start(host: &'h Host, doors: &[Door]) -> Daemon<'h> {
        let mut daemon = Daemon::prepare(host, doors);
        daemon.run();
        daemon
    }

    /// The same, not started yet.
    pub fn prepare(host: &'h Host, doors: &[Door]) -> Daemon<'h> {
        let dir = tempfile::tempdir().unwrap();
        let own = |name: &str| format!("{:?}", dir.path().join(name));
        let top = [
            ("interface", "\"eth0\"".to_owned()),
            ("firewall", "\"nft\"".to_owned()),
            ("user", "\"nobody\"".to_owned()),
            ("log", own("log")),
            ("pidfile", own("pid")),
            ("control", own("control")),
            ("state", own("state")),
            ("trial", "\"off\"".to_owned()),
        ];
        let top = top.map(|(key, value)| (key.to_owned(), value)).to_vec();
        let daemon = Daemon {
            host,
            dir,
            top,
            keys: String::new(),
            child: None,
            arguments: Vec::new(),
            within: Vec::new(),
            hostile: false,
            environment: Vec::new(),
            bound: Vec::new(),
        };
        daemon.configure(doors);
        daemon
    }

    /// Another value for a key at the top, from the next [`Daemon::configure`] on.
    pub fn set(&mut self, key: &str, value: &str) {
        self.top.retain(|(k, _)| k != key);
        self.top.push((key.into(), value.into()));
    }

    /// These keys and no others, from the next [`Daemon::configure`] on.
    pub fn keys(&mut self, keys: &[&Key]) {
        self.keys = keys.iter().map(|key| key.to_string()).collect();
    }

    /// Another argument of the command line, from the next start on.
    pub fn argue(&mut self, argument: &str) {
        self.arguments.push(argument.into());
    }

    /// Has a double stand in for each listener that is started from now on, and do these acts
    /// (tests/doubles/listener.rs). The monitor stays the real one.
    pub fn listener_does(&mut self, acts: &[&str]) {
        if !self.hostile {
            copy_program("hostile-listener", &self.path("posternd"));
            self.hostile = true;
        }
        // In one step: one may be starting.
        let new = self.write("acts", &acts.join("\n"));
        fs::rename(new, self.path("listener")).unwrap();
    }

    /// A program that starts posternd, from the next start on: its command line.
    pub fn within(&mut self, line: &[&str]) {
        self.within = line.iter().map(|word| word.to_string()).collect();
    }

    /// A variable of its environment, from the next start on.
    pub fn environ(&mut self, name: &str, value: &Path) {
        self.environment.push((name.into(), value.into()));
    }

    /// Has it find a file in the place of another, from the next start on.
    pub fn bind(&mut self, file: &Path, at: &str) {
        self.bound.push((file.into(), at.into()));
    }

    /// Writes the configuration.
    pub fn configure(&self, doors: &[Door]) {
        let mut text = String::new();
        for (key, value) in &self.top {
            text += &format!("{key} = {value}\n");
        }
        for door in doors {
            text += &door.to_string();
        }
        text += &self.keys;
        // Whole at any moment: a reload may be under way.
        self.write("postern.toml.new", &text);
        fs::rename(self.path("postern.toml.new"), self.path("postern.toml")).unwrap();
    }

    /// Writes a file of mode 0600 in the daemon's directory.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        chmod(&path, 0o600);
        path
    }

    /// A file in the daemon's directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A file's text; empty if there is none.
    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// Starts posternd and waits until it listens on all its interfaces.
    pub fn run(&mut self) {
        self.spawn();
        until("posternd listens", || {
            if let Some(status) = self.ended() {
                panic!("posternd ended at once: {status}");
            }
            self.listens()
        });
    }

    /// Starts posternd.
    pub fn spawn(&mut self) {
        self.spawn_as(self.command());
    }

    /// Starts posternd by a command line of the caller's.
    pub fn spawn_as(&mut self, mut command: Command) {
        assert!(self.child.is_none(), "it runs");
        let stderr = fs::File::options()
            .create(true)
            .append(true)
            .open(self.path("stderr"));
        let child = command.stderr(stderr.unwrap()).spawn().unwrap();
        self.child = Some(child);
    }

    /// posternd's command line.
    pub fn command(&self) -> Command {
        let program = match self.hostile {
            true => self.path("posternd"),
            false => PathBuf::from(program("posternd")),
        };
        let mut command = self.host.command("env");
        for (name, value) in &self.environment {
            command.arg(format!("{name}={}", value.display()));
        }
        for (file, at) in &self.bound {
            // ip gives each command a mount namespace of its own.
            let bind = "mount --bind \"$0\" \"$1\" && shift && exec \"$@\"";
            command.args(["sh", "-c", bind]).arg(file).arg(at);
        }
        command
            .args(&self.within)
            .arg(program)
            .arg("-c")
            .arg(self.path("postern.toml"))
            .args(&self.arguments);
        command
    }

    /// Whether it listens on all its interfaces now.
    pub fn listens(&self) -> bool {
        let Some(status) = self.status() else {
            return false;
        };
        let all = status["interfaces"].as_array().unwrap();
        status["listener"].is_u64() && all.iter().all(|i| i["listening"] == true)
    }

    /// Its exit status, if it has ended by itself.
    fn ended(&mut self) -> Option<ExitStatus> {
        self.child.as_mut()?.try_wait().unwrap()
    }

    /// The monitor's process.
    pub fn monitor(&self) -> Pid {
        Pid::from_raw(self.child.as_ref().expect("it runs").id() as i32)
    }

    /// The listener's process.
    pub fn listener(&self) -> Pid {
        let found = || {
            let pid = self.status()?["listener"].as_i64()?;
            Some(Pid::from_raw(pid as i32))
        };
        eventually("there is a listener", LIMIT, found)
    }

    /// Sends the monitor a signal.
    pub fn signal(&self, signal: Signal) {
        kill(self.monitor(), signal).unwrap();
    }

    /// kill -9 of the monitor; its listener leaves by itself.
    pub fn kill(&mut self) {
        let listener = self.status().and_then(|s| s["listener"].as_i64());
        self.signal(Signal::SIGKILL);
        self.child.take().unwrap().wait().unwrap();
        if let Some(pid) = listener {
            until("the listener leaves", || !is_posternd(pid));
        }
    }

    /// SIGTERM, and its end.
    pub fn stop(&mut self) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        let status = eventually("posternd stops", LIMIT, || self.ended());
        self.child = None;
        status
    }

    /// Waits until posternd ends by itself.
    pub fn wait(&mut self) -> ExitStatus {
        let status = eventually("posternd ends", LIMIT, || self.ended());
        self.child = None;
        status
    }

    /// posternctl.
    pub fn ctl(&self, arguments: &[&str]) -> Ran {
        let mut command = Command::new(program("posternctl"));
        Ran::of(
            command
                .arg("-c")
                .arg(self.path("postern.toml"))
                .args(arguments),
        )
    }

    /// posternctl in the daemon's namespace: it may have to reach the packet filter itself.
    pub fn ctl_there(&self, arguments: &[&str]) -> Ran {
        let mut command = self.host.command(program("posternctl"));
        Ran::of(
            command
                .arg("-c")
                .arg(self.path("postern.toml"))
                .args(arguments),
        )
    }

    /// The same in another boot than the daemon's.
    pub fn ctl_after_reboot(&self, argument: &str) -> Ran {
        let boot = self.write("boot", "another-boot\n");
        let line = format!(
            "mount --bind {} /proc/sys/kernel/random/boot_id && exec {} -c {} {argument}",
            boot.display(),
            program("posternctl"),
            self.path("postern.toml").display()
        );
        let mut there = self.host.command("unshare");
        Ran::of(there.args(["--mount", "sh", "-c", &line]))
    }

    /// The guard that status tells of with these words: its state, and when its trial ends.
    pub fn guard(&self, words: &str) -> (String, Option<Timestamp>) {
        let status = self.status().expect("it answers");
        let guards = status["guards"].as_array().unwrap();
        let guard = guards
            .iter()
            .find(|g| g["guard"].as_str().unwrap().contains(words))
            .unwrap_or_else(|| panic!("{words}: {guards:?}"));
        let until = guard["until"].as_str().map(|u| u.parse().unwrap());
        (guard["state"].as_str().unwrap().to_owned(), until)
    }

    /// Reloads by posternctl; it must succeed.
    pub fn reload(&self) {
        let ran = self.ctl(&["reload"]);
        assert_eq!(ran.code(), 0, "{ran:?}");
    }

    /// Who is let in.
    pub fn leases(&self) -> Vec<Lease> {
        let ran = self.ctl(&["list", "--json"]);
        assert_eq!(ran.code(), 0, "{ran:?}");
        let leases: Vec<Value> = serde_json::from_str(&ran.stdout).unwrap();
        let text = |v: &Value, key: &str| v[key].as_str().map(str::to_owned);
        let first = |who: &str| who.split('/').next().unwrap().parse().unwrap();
        let lease = |v: &Value| Lease {
            door: text(v, "door").unwrap(),
            address: first(v["address"].as_str().unwrap()),
            who: text(v, "address").unwrap(),
            until: text(v, "until").unwrap().parse().unwrap(),
            in_force: v["in_force"].as_bool().unwrap(),
            failure: text(v, "failure"),
            key: text(v, "key"),
        };
        leases.iter().map(lease).collect()
    }

    /// A lease in force.
    pub fn lease(&self, door: &str, address: impl Into<IpAddr>) -> Option<Lease> {
        let address = address.into();
        let mut leases = self.leases().into_iter();
        leases.find(|l| l.door == door && l.address == address && l.in_force)
    }

    /// Waits for a lease in force.
    pub fn wait_lease(&self, door: &str, address: impl Into<IpAddr>) -> Lease {
        let address = address.into();
        eventually(&format!("a lease of {address} at {door}"), LIMIT, || {
            self.lease(door, address)
        })
    }

    /// `posternctl status --json`; none while nobody answers.
    pub fn status(&self) -> Option<Value> {
        let ran = self.ctl(&["status", "--json"]);
        (ran.code() == 0).then(|| serde_json::from_str(&ran.stdout).unwrap())
    }

    /// Grants at a door since posternd's start.
    pub fn granted(&self, door: &str) -> u64 {
        let status = self.status().unwrap();
        let doors = status["doors"].as_array().unwrap();
        doors.iter().find(|d| d["name"] == door).unwrap()["granted"]
            .as_u64()
            .unwrap()
    }

    /// The log so far.
    pub fn log(&self) -> String {
        self.read("log")
    }

    /// Waits for a log line with these words.
    pub fn wait_log(&self, words: &str) {
        until(&format!("the log says {words:?}"), || {
            self.log().contains(words)
        });
    }
}

impl Drop for Daemon<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!(
                "--- standard error\n{}--- log\n{}",
                self.read("stderr"),
                self.log()
            );
            let nft = Ran::of(self.host.command("nft").args(["list", "ruleset"]));
            println!("--- nft list ruleset\n{}{}", nft.stdout, nft.stderr);
            let list = self.ctl(&["list"]);
            println!("--- posternctl list\n{}{}", list.stdout, list.stderr);
            println!("--- configuration\n{}", self.read("postern.toml"));
        }
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Copies a program, by a process of its own: what one of ours has open to write cannot be run.
pub fn copy_program(name: &str, to: &Path) {
    let ran = Ran::of(Command::new("cp").arg(program(name)).arg(to));
    assert_eq!(ran.code(), 0, "{ran:?}");
}

/// Sets a file's permission bits.
pub fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Whether this process is one of posternd's.
pub fn is_posternd(pid: i64) -> bool {
    let process = Path::new("/proc").join(pid.to_string());
    let runs = fs::read_to_string(process.join("stat")).is_ok_and(|stat| !stat.contains(") Z "));
    runs && fs::read_to_string(process.join("cmdline")).is_ok_and(|c| c.contains("postern"))
}
