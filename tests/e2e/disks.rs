//! Disks that are full, read-only, or give back something else than was written: posternd starts,
//! says so, keeps the guard up, and opens nothing that it cannot write down.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::{Daemon, Door, Host, Net, Ran, Service, until};
use crate::{OTHER, STEPS, ssh};

/// A file system of its own in a daemon's directory, gone when this is dropped.
struct Disk(PathBuf);

impl Disk {
    /// One that holds so little.
    fn small(at: PathBuf) -> Disk {
        fs::create_dir_all(&at).unwrap();
        Disk::mount(&["-t", "tmpfs", "-o", "size=64k,mode=700", "none"], &at);
        Disk(at)
    }

    fn mount(arguments: &[&str], at: &Path) {
        let ran = Ran::of(Command::new("mount").args(arguments).arg(at));
        assert_eq!(ran.code(), 0, "{ran:?}");
    }

    /// Takes all its room.
    fn fill(&self) {
        let all = vec![0; 1 << 20];
        assert!(fs::write(self.0.join("filler"), all).is_err());
        // Pages that files have begun: nothing is left of them either.
        let rest = fs::read_dir(&self.0).unwrap().count();
        assert!(rest > 0);
    }

    /// Gives it back.
    fn empty(&self) {
        fs::remove_file(self.0.join("filler")).unwrap();
    }

    fn read_only(&self, read_only: bool) {
        let how = if read_only {
            "remount,ro"
        } else {
            "remount,rw"
        };
        Disk::mount(&["-o", how], &self.0);
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// A network, a daemon whose state is on a disk of its own, somebody let in for an hour.
fn let_in<'n>(net: &'n Net, doors: &[Door]) -> (Daemon<'n>, Disk) {
    let mut daemon = Daemon::prepare(&net.server, doors);
    let disk = Disk::small(daemon.path("state"));
    daemon.run();
    net.clients[0].knock(net.server.v4, &STEPS);
    daemon.wait_lease("ssh", net.clients[0].v4);
    (daemon, disk)
}

/// Who knocks is refused, and shut out.
fn refused(daemon: &Daemon, client: &Host, server: &Host, steps: &[&str], port: u16) {
    let words = format!(
        "knock of {} refused: the journal cannot be written",
        client.v4
    );
    let before = daemon.log().matches(&words).count();
    until("a knock is refused", || {
        client.knock(server.v4, steps);
        daemon.log().matches(&words).count() > before
    });
    assert!(client.connect(server.v4, port).is_silence());
    assert!(
        !daemon
            .leases()
            .iter()
            .any(|lease| lease.address == client.v4)
    );
}

#[test]
fn a_full_disk() {
    let net = Net::new(3);
    let _service = Service::start(&net.server, &[22, 23]);
    let (server, [a, b, c]) = (&net.server, &net.clients[..]) else {
        panic!("three clients")
    };
    let soon = Door::opens("soon", "23/tcp", "6s").to(&OTHER);
    let doors = [ssh("1h").with("max_leases = 2"), soon];
    let (mut daemon, disk) = let_in(&net, &doors);
    b.knock(server.v4, &OTHER);
    daemon.wait_lease("soon", b.v4);
    b.knock(server.v4, &STEPS);
    daemon.wait_lease("ssh", b.v4);

    // It runs: nobody is let in, nobody has to give way, no lease gets longer; what is short
    // ends all the same.
    disk.fill();
    let journal = daemon.path("state").join("journal");
    until("nothing more fits", || {
        a.knock(server.v4, &STEPS);
        daemon
            .log()
            .contains("no door opens until it can be written")
    });
    refused(&daemon, c, server, &STEPS, 22);
    assert!(a.reaches(server.v4, 22));
    assert!(b.reaches(server.v4, 22));
    until("the short one ends", || {
        b.connect(server.v4, 23).is_silence()
    });
    let until_before = daemon.lease("ssh", a.v4).unwrap().until;
    let words = format!("ssh: knock of {} refused: the journal", a.v4);
    let said = daemon.log().matches(&words).count();
    until("it is not extended", || {
        a.knock(server.v4, &STEPS);
        daemon.log().matches(&words).count() > said
    });
    let now = daemon.lease("ssh", a.v4).unwrap().until;
    assert!(
        now.duration_since(until_before).abs().as_secs() <= 1,
        "{now}"
    );

    // The administrator is told that what he closes is closed for now only.
    let ran = daemon.ctl(&["close", &b.v4.to_string()]);
    assert!(
        ran.code() != 0 && ran.stderr.contains("1 closed; but"),
        "{ran:?}"
    );
    assert!(b.connect(server.v4, 22).is_silence());

    // It starts: what the journal says goes on, the guard stands, nobody else is let in.
    daemon.kill();
    let before = fs::read(&journal).unwrap();
    daemon.run();
    assert_eq!(fs::read(&journal).unwrap(), before, "it says what it said");
    assert!(a.reaches(server.v4, 22));
    refused(&daemon, c, server, &OTHER, 23);

    // There is room again.
    disk.empty();
    let ran = daemon.ctl(&["close", &b.v4.to_string()]);
    assert!(
        ran.stderr.contains("posternd") || ran.code() == 0,
        "{ran:?}"
    );
    until("doors open again", || {
        c.knock(server.v4, &OTHER);
        daemon.lease("soon", c.v4).is_some()
    });
    daemon.wait_log("journal: it can be written again");
    daemon.kill();
    daemon.run();
    assert!(a.reaches(server.v4, 22));
    assert!(b.connect(server.v4, 22).is_silence(), "closed for good");
}

#[test]
fn a_read_only_disk() {
    let net = Net::new(3);
    let _service = Service::start(&net.server, &[22]);
    let (server, [a, b, _]) = (&net.server, &net.clients[..]) else {
        panic!()
    };
    let (mut daemon, disk) = let_in(&net, &[ssh("1h")]);
    daemon.kill();
    disk.read_only(true);
    server.run("nft flush ruleset");
    daemon.run();
    daemon.wait_log("no door opens until it can be written");
    assert!(a.reaches(server.v4, 22), "its lease goes on");
    refused(&daemon, b, server, &STEPS, 22);
    daemon.kill();
    disk.read_only(false);
    daemon.run();
    b.knock(server.v4, &STEPS);
    daemon.wait_lease("ssh", b.v4);
}

#[test]
fn a_disk_that_takes_nothing_at_all_from_the_start() {
    let net = Net::new(1);
    let _service = Service::start(&net.server, &[22]);
    let (server, client) = (&net.server, net.client());
    let mut daemon = Daemon::prepare(server, &[]);
    let disk = Disk::small(daemon.path("disk"));
    fs::create_dir(disk.0.join("state")).unwrap();
    for (key, file) in [
        ("state", "state"),
        ("log", "log"),
        ("pidfile", "pid"),
        ("control", "sock"),
    ] {
        daemon.set(key, &format!("{:?}", disk.0.join(file)));
    }
    daemon.configure(&[ssh("1h")]);
    disk.read_only(true);
    daemon.spawn();
    until("the guard stands", || {
        client.connect(server.v4, 22).is_silence()
    });
    // In its own mount namespace, too.
    let monitor = daemon.monitor().to_string();
    disk.read_only(false);
    let mut there = Command::new("nsenter");
    there.args(["-t", &monitor, "-m", "mount", "-o", "remount,rw"]);
    let ran = Ran::of(there.arg(&disk.0));
    assert_eq!(ran.code(), 0, "{ran:?}");
    until("it is heard of", || daemon.listens());
    client.knock(server.v4, &STEPS);
    daemon.wait_lease("ssh", client.v4);
    until("it logs there", || {
        fs::read_to_string(disk.0.join("log")).is_ok_and(|log| log.contains("ssh: open for"))
    });
}

#[test]
fn a_log_that_is_full_goes_on_when_there_is_room() {
    let net = Net::new(1);
    let mut daemon = Daemon::prepare(&net.server, &[]);
    let disk = Disk::small(daemon.path("logs"));
    let log = disk.0.join("log");
    daemon.set("log", &format!("{log:?}"));
    daemon.configure(&[ssh("1h")]);
    daemon.run();
    disk.fill();
    until("the log is full", || {
        net.client().knock(net.server.v4, &STEPS);
        daemon.reload();
        fs::read(&log).unwrap().len().is_multiple_of(4096)
    });
    daemon.kill();
    daemon.run();
    net.client().knock(net.server.v4, &STEPS);
    daemon.wait_lease("ssh", net.client().v4);
    disk.empty();
    daemon.reload();
    let text = fs::read_to_string(&log).unwrap();
    assert!(
        text.contains("before this one could not be written"),
        "{text}"
    );
    assert!(
        text.lines().last().unwrap().contains("posternd: "),
        "{text}"
    );
}

/// What stands in the journal's place, with somebody let in before: who is let in after it.
#[test]
fn a_journal_that_is_none_lets_nobody_in_and_leaves_the_guard() {
    let net = Net::new(1);
    let _service = Service::start(&net.server, &[22]);
    let (server, client) = (&net.server, net.client());
    let mut daemon = Daemon::start(server, &[ssh("1h")]);
    let journal = daemon.path("state").join("journal");
    let own = daemon.write("precious", "not a journal\n");
    type Spoil<'a> = &'a dyn Fn(&[u8]);
    let spoil: [(&str, Spoil); 6] = [
        ("lines damaged", &|text| {
            // One bit, of the lease's address.
            let mut text = text.to_vec();
            let at = text.windows(5).position(|w| w == b"10.66").unwrap();
            text[at] ^= 1;
            fs::write(&journal, text).unwrap();
        }),
        ("lines damaged", &|text| {
            fs::write(&journal, [b"garbage\n", text].concat()).unwrap();
        }),
        ("cut short", &|text| {
            let at = text.windows(6).position(|w| w == b"\"open\"").unwrap();
            fs::write(&journal, &text[..at + 20]).unwrap()
        }),
        ("not read", &|_| {
            fs::remove_file(&journal).unwrap();
            std::os::unix::fs::symlink(&own, &journal).unwrap();
        }),
        ("not read", &|_| {
            fs::remove_file(&journal).unwrap();
            fs::create_dir(&journal).unwrap();
        }),
        ("not read", &|_| {
            fs::remove_file(&journal).unwrap();
            fs::File::create(&journal)
                .unwrap()
                .set_len(2 << 30)
                .unwrap();
        }),
    ];
    for (said, spoil) in spoil {
        client.knock(server.v4, &STEPS);
        daemon.wait_lease("ssh", client.v4);
        daemon.kill();
        spoil(&fs::read(&journal).unwrap());
        let before = daemon.log().matches(said).count();
        daemon.run();
        assert!(daemon.log().matches(said).count() > before, "{said}");
        assert_eq!(daemon.leases().len(), 0, "{said}");
        assert!(client.connect(server.v4, 22).is_silence(), "{said}");
        if journal.is_dir() {
            daemon.wait_log("no door opens until it can be written");
            fs::remove_dir(&journal).unwrap();
        }
    }
    assert_eq!(daemon.read("precious"), "not a journal\n");
}

#[test]
fn a_confirmed_guard_outlives_a_damaged_file_of_trials() {
    let net = Net::new(1);
    let _service = Service::start(&net.server, &[22]);
    let mut daemon = Daemon::prepare(&net.server, &[]);
    daemon.set("trial", "\"1s\"");
    daemon.configure(&[ssh("1h")]);
    daemon.run();
    assert_eq!(daemon.ctl(&["confirm"]).code(), 0);
    daemon.kill();
    let file = daemon.path("state").join("trial");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace("22/tcp", "23/tcp")).unwrap();
    daemon.run();
    daemon.wait_log("its copy is believed");
    assert_eq!(daemon.guard("22/tcp").0, "confirmed");
    assert_eq!(fs::read_to_string(&file).unwrap(), text, "mended");
}
