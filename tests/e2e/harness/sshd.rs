//! A real sshd behind a door.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::thread;

use tempfile::TempDir;

use super::daemon::Ran;
use super::host::{Answer, Host};
use super::wait::until;

/// A real sshd in a namespace, with a key that lets root in.
pub struct Sshd {
    dir: TempDir,
    child: Child,
}

impl Sshd {
    /// Starts it on port 22.
    pub fn start(host: &Host) -> Sshd {
        Sshd::on(host, 22)
    }

    /// Starts it on a port.
    pub fn on(host: &Host, port: u16) -> Sshd {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).display().to_string();
        for key in ["host", "key"] {
            let ran = Ran::of(
                Command::new("ssh-keygen")
                    .args(["-q", "-t", "ed25519", "-N", "", "-f"])
                    .arg(dir.path().join(key)),
            );
            assert_eq!(ran.code(), 0, "{ran:?}");
        }
        let config = format!(
            "Port {port}\nAddressFamily any\nHostKey {}\nAuthorizedKeysFile {}\nStrictModes no\n\
             UsePAM no\nPasswordAuthentication no\nPermitRootLogin yes\nPidFile none\nUseDNS no\n",
            path("host"),
            path("key.pub")
        );
        fs::write(path("config"), config).unwrap();
        // sshd wants a directory of this name; here it gets one that nobody else sees.
        let script = format!(
            "mount -t tmpfs none /run && mkdir /run/sshd && exec /usr/sbin/sshd -D -f {} -E {}",
            path("config"),
            path("log")
        );
        let child = host.command("sh").args(["-c", &script]).spawn().unwrap();
        until("sshd listens", || {
            matches!(host.connect([127, 0, 0, 1], port), Answer::Open(_))
        });
        Sshd { dir, child }
    }

    /// The file of the key that lets root in.
    pub fn key(&self) -> PathBuf {
        self.dir.path().join("key")
    }

    /// The file of its host key.
    pub fn host_key(&self) -> PathBuf {
        self.dir.path().join("host.pub")
    }

    /// What its log says.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// ssh with the key, running `cat`.
    pub fn login(&self, from: &Host, to: &str) -> Command {
        let mut ssh = from.command("ssh");
        ssh.args([
            "-F",
            "none",
            "-T",
            "-o",
            "BatchMode=yes",
            "-o",
            "ConnectTimeout=2",
        ]);
        ssh.args([
            "-o",
            "StrictHostKeyChecking=no",
            "-o",
            "UserKnownHostsFile=/dev/null",
        ]);
        ssh.arg("-i")
            .arg(self.key())
            .arg(format!("root@{to}"))
            .arg("cat");
        ssh
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        if thread::panicking() {
            println!("--- sshd\n{}", self.log());
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
