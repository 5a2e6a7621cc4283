//! What the manual's examples do is what the manual shows: blocks that are marked `Run: NAME` are
//! run here, command by command, and what is printed is put beside what stands there.
//!
//! The machine of the manual runs ipfw on xl0; this one runs nftables on eth0. Names, addresses
//! and paths are put in each other's place, and numbers do not count.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use postern::config::onetime;

use crate::harness::{Daemon, Host, Net, Ran, Service, Session, chmod, program, until};
use crate::mdoc::{PAGES, Page, text};

/// The sequences that stand for `[...]`, in order: the first is that of the examples' knocks.
const STEPS: [&str; 2] = [
    r#"["4654", "15847", "12257", "3957", "28769"]"#,
    r#"["8351", "1207/udp", "22110", "30477"]"#,
];

/// Pages and names of marks, each of which has a test here.
const SCENES: [(&str, &str); 24] = [
    ("postern-nft.7", "gone"),
    ("posternd.8", "keygen"),
    ("posternd.8", "first"),
    ("posternd.8", "lockedout"),
    ("posternd.8", "daemon"),
    ("posternctl.8", "who"),
    ("posternctl.8", "log"),
    ("posternctl.8", "replay"),
    ("posternctl.8", "keygen"),
    ("posternctl.8", "misspelt"),
    ("posternctl.8", "close"),
    ("posternctl.8", "refused"),
    ("postern.toml.5", "revoke"),
    ("postern.toml.5", "rotate"),
    ("postern.toml.5", "list"),
    ("postern.1", "client"),
    ("postern.1", "ways"),
    ("postern.1", "nc"),
    ("postern.1", "curl"),
    ("postern.1", "telnet"),
    ("postern.1", "nmap"),
    ("postern.1", "plink"),
    ("postern.1", "ping"),
    ("postern.1", "putty"),
];

#[test]
fn every_mark_has_a_scene() {
    let mut marks = Vec::new();
    for page in PAGES {
        let blocks = Page::read(page).blocks();
        let run = blocks
            .iter()
            .filter_map(|b| b.mark.as_deref()?.strip_prefix("Run: "));
        marks.extend(run.map(|name| (page, name.to_owned())));
    }
    marks.sort_unstable();
    marks.dedup();
    let mut scenes = SCENES.map(|(page, name)| (page, name.to_owned()));
    scenes.sort_unstable();
    assert_eq!(marks, scenes);
}

/// The lines of a marked block.
pub fn block(page: &str, mark: &str, at: usize) -> Vec<String> {
    let blocks = Page::read(page).blocks();
    let mut marked = blocks
        .into_iter()
        .filter(|b| b.mark.as_deref() == Some(mark));
    let found = marked.nth(at);
    found
        .unwrap_or_else(|| panic!("{page}: {mark}, {at}"))
        .lines
}

/// A command and what the manual says it prints.
struct Step {
    /// `#` is the machine with the doors, `$` the one that knocks.
    root: bool,
    command: String,
    printed: Vec<String>,
}

fn steps(lines: &[String]) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for line in lines {
        // keygen prints comments.
        if let Some(last) = steps.last_mut()
            && last.command.ends_with('|')
        {
            last.command += line;
            continue;
        }
        let prompt = line.strip_prefix("# ").or_else(|| line.strip_prefix("$ "));
        match prompt.filter(|command| command.starts_with(|c: char| c.is_ascii_lowercase())) {
            Some(command) => steps.push(Step {
                root: line.starts_with('#'),
                command: command.to_owned(),
                printed: Vec::new(),
            }),
            None => steps
                .last_mut()
                .expect("a command")
                .printed
                .push(line.clone()),
        }
    }
    steps
}

/// Dots for what is a secret by its length and its letters, as the manual has them.
fn without_secrets(text: &str) -> String {
    let is_digit = |c: char| c.is_ascii_alphanumeric() || "+/=".contains(c);
    let mut plain = text.to_owned();
    for word in text.split(|c| !is_digit(c)).filter(|w| w.len() >= 32) {
        plain = plain.replace(word, "...");
    }
    plain
}

pub struct Stage<'n> {
    net: &'n Net,
    pub daemon: Daemon<'n>,
    _service: Option<Service>,
    sessions: Vec<Session>,
    tcpdump: Option<Child>,
    /// What stands in the manual, and what it is here.
    here: [(&'static str, String); 9],
}

impl<'n> Stage<'n> {
    pub fn new(net: &'n Net) -> Stage<'n> {
        let mut stage = Stage::without_service(net);
        stage._service = Some(Service::start(&net.server, &[22]));
        stage
    }

    /// One where nobody listens at port 22.
    pub fn without_service(net: &'n Net) -> Stage<'n> {
        let daemon = Daemon::prepare(&net.server, &[]);
        let path = |name: &str| daemon.path(name).display().to_string();
        // No name is part of one before it.
        let here = [
            ("/usr/local/etc", path("").trim_end_matches('/').to_owned()),
            ("/var/log/postern.log", path("log")),
            ("/var/run/posternd.pid", path("pid")),
            ("/tmp/hour.pcap", path("hour.pcap")),
            ("192.0.2.7", "10.66.0.11".to_owned()),
            ("192.0.2.6", "10.66.0.12".to_owned()),
            ("192.0.2.1", "10.66.0.1".to_owned()),
            ("xl0", "eth0".to_owned()),
            ("ipfw", "nft".to_owned()),
        ];
        let stage = Stage {
            net,
            _service: None,
            sessions: Vec::new(),
            tcpdump: None,
            here,
            daemon,
        };
        stage.programs();
        stage
    }

    /// Ours as they are found in PATH, posternctl with the daemon's configuration as its default.
    fn programs(&self) {
        let bin = self.daemon.path("bin");
        fs::create_dir(&bin).unwrap();
        let config = self.daemon.path("postern.toml");
        let ctl = format!(
            "exec {} -c {} \"$@\"",
            program("posternctl"),
            config.display()
        );
        let postern = format!("exec {} \"$@\"", program("postern"));
        // So that it writes at once.
        let tcpdump = "exec /usr/bin/tcpdump -U --immediate-mode -Z root \"$@\"".to_owned();
        for (name, text) in [
            ("posternctl", ctl),
            ("postern", postern),
            ("tcpdump", tcpdump),
        ] {
            fs::write(bin.join(name), format!("#!/bin/sh\n{text}\n")).unwrap();
            chmod(&bin.join(name), 0o755);
        }
        fs::create_dir_all(self.daemon.path(".config/postern")).unwrap();
        self.daemon.write("hosts", "10.66.0.1 server.example.net\n");
    }

    pub fn translated(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (there, here) in &self.here {
            text = text.replace(there, here);
        }
        text
    }

    /// What counts in a text: not how it is broken and spaced, not its numbers.
    fn shape(&self, text: &str) -> String {
        let mut shape = String::new();
        let mut text = without_secrets(text);
        for (there, here) in &self.here {
            let name: String = there
                .chars()
                .map(|c| char::from(b'A' + c as u8 % 26))
                .collect();
            text = text.replace(here, &name).replace(there, &name);
        }
        for c in text.chars() {
            match c.is_ascii_digit() {
                true if shape.ends_with('0') => {}
                true => shape.push('0'),
                false => shape.push(c),
            }
        }
        // 59m59s and 22s; any step may be UDP.
        for unit in ["0d0", "0h0", "0m0", "0/udp"] {
            shape = shape.replace(unit, "0");
        }
        shape.retain(|c| !c.is_whitespace());
        shape
    }

    /// Has the page's configuration for posternd, changed as told.
    pub fn configure(&self, page: &str, name: &str, change: &[(&str, &str)]) {
        let mut text = block(page, &format!("Configuration: {name}"), 0).join("\n");
        for (from, to) in change {
            assert!(text.contains(from), "{from}: {text}");
            text = text.replace(from, to);
        }
        for steps in STEPS {
            text = text.replacen("[...]", steps, 1);
        }
        let own = |name: &str| format!("{name} = {:?}\n", self.daemon.path(name));
        let mut lines = own("control") + &own("state") + "user = \"nobody\"\n";
        // nftables has no numbers.
        for line in self.translated(&text).lines() {
            match line.split_once(" = ") {
                Some(("rule", _)) => {}
                Some(("guard", _)) => lines += "guard = true\n",
                _ => lines.extend([line, "\n"]),
            }
        }
        self.daemon.write("postern.toml", &lines);
    }

    fn host(&self, root: bool) -> &Host {
        match root {
            true => &self.net.server,
            false => &self.net.clients[0],
        }
    }

    /// A command line of the manual, as it is here.
    fn shell(&self, step: &Step) -> Command {
        let path = format!(
            "PATH={}:/usr/sbin:/usr/bin:/sbin:/bin",
            self.daemon.path("bin").display()
        );
        let home = format!("HOME={}", self.daemon.path("").display());
        let mut command = self.host(step.root).command("env");
        // ip gives each command a mount namespace of its own.
        let hosts = self.daemon.path("hosts").display().to_string();
        let command_here = self.translated(&step.command);
        let line = format!("exec 2>&1; mount --bind {hosts} /etc/hosts; {command_here}");
        command.args(["-u", "XDG_CONFIG_HOME", &path, &home, "sh", "-c", &line]);
        command
    }

    pub fn run(&mut self, page: &str, name: &str) {
        let blocks = Page::read(page).blocks();
        let mark = format!("Run: {name}");
        let count = blocks
            .iter()
            .filter(|b| b.mark.as_deref() == Some(&mark))
            .count();
        for at in 0..count {
            self.run_block(page, name, at);
        }
    }

    fn run_block(&mut self, page: &str, name: &str, at: usize) {
        for step in steps(&block(page, &format!("Run: {name}"), at)) {
            self.step(&step);
        }
    }

    fn step(&mut self, step: &Step) {
        let words: Vec<&str> = step.command.split(' ').collect();
        match words[0] {
            _ if step.command.contains(" && ") => {
                for command in step.command.split(" && ") {
                    let (root, command, printed) = (step.root, command.to_owned(), Vec::new());
                    self.step(&Step {
                        root,
                        command,
                        printed,
                    });
                }
            }
            "posternd" => self.start(&words[1..]),
            "ssh" => {
                let session = self.host(step.root).session(self.net.server.v4, 22);
                self.sessions.push(session.expect("it is let in"));
            }
            "tcpdump" => self.capture(step),
            _ => self.compare(step),
        }
    }

    /// In a window of its own.
    fn start(&mut self, arguments: &[&str]) {
        // Its configuration is the one that the harness names.
        let mut arguments = arguments.iter();
        while let Some(&argument) = arguments.next() {
            match argument {
                "-c" => _ = arguments.next(),
                _ => self.daemon.argue(&self.translated(argument)),
            }
        }
        self.daemon.run();
    }

    /// It prints what the manual shows; what only looks is asked until it does.
    fn compare(&mut self, step: &Step) {
        let wanted = self.shape(&step.printed.join("\n"));
        let looks = [
            "posternctl list",
            "posternctl status",
            "posternctl replay",
            "grep ",
            "tail ",
        ];
        if looks.iter().any(|looks| step.command.starts_with(looks)) {
            let mut before = String::new();
            return until(&format!("{} prints {wanted:?}", step.command), || {
                let printed = Ran::of(&mut self.shell(step)).stdout;
                if printed != before {
                    println!("--- {}\n{printed}", step.command);
                }
                before = printed;
                self.shape(&before) == wanted
            });
        }
        let ran = Ran::of(&mut self.shell(step));
        let shape = self.shape(&ran.stdout);
        match wanted.split_once("...") {
            Some((begins, ends)) => {
                let fits = shape.starts_with(begins) && shape.ends_with(ends);
                assert!(fits, "{}: {wanted}: {ran:?}", step.command);
            }
            None => assert_eq!(shape, wanted, "{}: {ran:?}", step.command),
        }
        if step.command.starts_with("kill ") {
            assert!(self.daemon.wait().success());
        }
    }

    /// Whoever has the address of the manual's knocks.
    fn knock(&self, client: usize, steps: usize) {
        let steps: Vec<String> = serde_json::from_str(STEPS[steps]).unwrap();
        let steps: Vec<&str> = steps.iter().map(String::as_str).collect();
        self.net.clients[client].knock(self.net.server.v4, &steps);
    }

    /// tcpdump, until the scene ends.
    fn capture(&mut self, step: &Step) {
        let mut command = self.shell(step);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let said = BufReader::new(child.stdout.take().unwrap()).lines();
        let listens = said
            .map_while(Result::ok)
            .any(|line| line.contains("listening on"));
        self.tcpdump = Some(child);
        assert!(listens);
    }
}

impl Drop for Stage<'_> {
    fn drop(&mut self) {
        if let Some(mut child) = self.tcpdump.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[test]
fn first_installation() {
    let net = Net::new(1);
    let mut stage = Stage::new(&net);
    stage.run("posternd.8", "keygen");
    let mut before = net.client().session(net.server.v4, 22).unwrap();
    stage.configure("posternd.8", "first", &[]);
    stage.run_block("posternd.8", "first", 0);
    stage.run_block("posternd.8", "first", 1);
    stage.configure("posternd.8", "earnest", &[]);
    stage.run_block("posternd.8", "first", 2);
    let at_first = net.client();
    until("it is shut", || !stage.daemon.guard("22/tcp").0.is_empty());
    assert_eq!(stage.daemon.guard("22/tcp").0, "trial");
    before.echo();
    stage.run_block("posternd.8", "first", 3);
    before.echo();
    assert!(at_first.reaches(net.server.v4, 22));
}

#[test]
fn locked_out() {
    let net = Net::new(1);
    let mut stage = Stage::new(&net);
    stage.configure("posternd.8", "earnest", &[]);
    stage.daemon.run();
    let server = net.server.v4;
    assert!(net.client().connect(server, 22).is_silence());
    stage.run_block("posternd.8", "lockedout", 0);
    assert!(net.client().reaches(server, 22));
    stage.run_block("posternd.8", "lockedout", 1);
    until("it is shut", || {
        net.client().connect(server, 22).is_silence()
    });
}

#[test]
fn another_configuration_and_the_end() {
    let net = Net::new(1);
    let mut stage = Stage::new(&net);
    stage.configure("posternd.8", "earnest", &[]);
    stage.run_block("posternd.8", "daemon", 0);
    assert!(net.client().connect(net.server.v4, 22).is_silence());
    stage.run_block("posternd.8", "daemon", 1);
    assert!(net.client().reaches(net.server.v4, 22));
}

#[test]
fn what_nftables_holds_is_gone() {
    let net = Net::new(1);
    let mut stage = Stage::new(&net);
    stage.configure("posternd.8", "earnest", &[]);
    stage.daemon.run();
    assert!(stage.daemon.stop().success());
    stage.run("postern-nft.7", "gone");
    assert_eq!(net.server.run("nft list tables"), "");
}

#[test]
fn who_came_in_when() {
    let net = Net::new(2);
    let mut stage = Stage::new(&net);
    stage.configure("postern.toml.5", "users", &[("30s", "1h")]);
    stage.daemon.run();
    let replay = steps(&block("posternctl.8", "Run: replay", 0));
    let [tcpdump, replay] = &replay[..] else {
        panic!()
    };
    stage.step(tcpdump);
    stage.knock(0, 0);
    stage.run("posternctl.8", "who");
    stage.step(replay);
}

#[test]
fn what_the_log_says() {
    let net = Net::new(1);
    let mut stage = Stage::new(&net);
    stage.configure("postern.toml.5", "users", &[("30s", "1s")]);
    stage.daemon.run();
    stage.knock(0, 0);
    stage.run("posternctl.8", "log");
}

#[test]
fn posternctls_examples() {
    let net = Net::new(1);
    let mut stage = Stage::new(&net);
    stage.run("posternctl.8", "keygen");
    stage.configure("posternd.8", "earnest", &[("opens", "openz")]);
    stage.run("posternctl.8", "misspelt");
    stage.configure("posternd.8", "earnest", &[("30s", "1h")]);
    stage.daemon.run();
    stage.configure("posternd.8", "earnest", &[("30s", "30")]);
    stage.run("posternctl.8", "refused");
    stage.knock(0, 0);
    stage.run("posternctl.8", "close");
}

#[test]
fn one_user_is_revoked() {
    let net = Net::new(2);
    let mut stage = Stage::new(&net);
    stage.configure("postern.toml.5", "users", &[("30s", "1h"), ("1m", "1h")]);
    stage.daemon.run();
    stage.daemon.ctl(&["confirm"]);
    stage.knock(1, 0);
    stage.daemon.wait_lease("alice", net.clients[1].v4);
    stage.knock(0, 1);
    let all = steps(&block("postern.toml.5", "Run: revoke", 0));
    stage.step(&all[0]);
    let mut session = net.clients[0].session(net.server.v4, 22).unwrap();
    let text = stage.daemon.read("postern.toml");
    let (others, his) = text.split_once("[door.bob]").unwrap();
    let his = format!("[door.bob]{his}").replace('\n', "\n#");
    stage
        .daemon
        .write("postern.toml", &format!("{others}#{his}"));
    all[1..].iter().for_each(|step| stage.step(step));
    session.echo();
    let server = net.server.v4;
    assert!(net.clients[0].connect(server, 22).is_silence());
    stage.knock(0, 1);
    assert!(net.clients[1].reaches(server, 22));
    assert!(net.clients[0].connect(server, 22).is_silence());
}

#[test]
fn secrets_rotate() {
    let net = Net::new(2);
    let mut stage = Stage::new(&net);
    let pidfile = "pidfile = \"/var/run/posternd.pid\"";
    stage.configure("posternd.8", "earnest", &[(pidfile, "")]);
    stage.daemon.run();
    stage.daemon.ctl(&["confirm"]);
    stage.configure("postern.toml.5", "rotate", &[]);
    stage.run("postern.toml.5", "rotate");
    stage.knock(0, 0);
    stage.knock(1, 1);
    stage.daemon.wait_lease("ssh", net.clients[0].v4);
    stage.daemon.wait_lease("ssh", net.clients[1].v4);

    stage.run("postern.toml.5", "list");
    let list = stage.daemon.read("postern.once");
    assert_eq!(onetime::mistakes("list", &list), []);
    assert_eq!(onetime::count(&list), 50);
}

#[test]
fn the_readmes_loop_knocks() {
    let net = Net::new(1);
    let mut stage = Stage::new(&net);
    let readme = text("README.md");
    let mut lines = readme.lines().map(str::trim_start);
    let command = lines.find(|line| line.starts_with("for port in ")).unwrap();
    let (_, rest) = command.split_once(" in ").unwrap();
    let (ports, _) = rest.split_once(';').unwrap();
    let ports: Vec<&str> = ports.split(' ').collect();
    stage.configure("posternd.8", "earnest", &[("[...]", &format!("{ports:?}"))]);
    stage.daemon.run();
    let (root, command, printed) = (false, command.to_owned(), Vec::new());
    stage.compare(&Step {
        root,
        command,
        printed,
    });
    stage.daemon.wait_lease("ssh", net.client().v4);
}

#[test]
fn knocking() {
    let net = Net::new(1);
    let mut stage = Stage::new(&net);
    let sequence = r#"["7143", "2912/udp", "39001", "16044"]"#;
    stage.configure("posternd.8", "earnest", &[("[...]", sequence)]);
    stage.daemon.run();
    let profile = block("postern.1", "Profile: client", 0).join("\n");
    let profile = stage.translated(&profile);
    stage.daemon.write(".config/postern/config.toml", &profile);
    stage.run("postern.1", "client");
    assert!(stage.sessions.len() > 1);
}
