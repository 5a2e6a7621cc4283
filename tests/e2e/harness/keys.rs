//! Keys of single packets, and who sends by them.

use std::fmt;
use std::fs;
use std::net::{IpAddr, SocketAddr, UdpSocket};

use base64ct::{Base64, Encoding};
use postern::config::{Port, Protocol};
use postern::spa::{self, Mac, Request, Secret, Whom};

use super::daemon::{Ran, chmod, program};
use super::host::Host;
use super::rng::Rng;

/// The server of every network here.
const SERVER: &str = "10.66.0.1";

/// A key, written as postern.toml wants it.
pub struct Key {
    name: &'static str,
    secret: Secret,
    lines: String,
}

impl Key {
    /// One of that name for these doors. Its secrets are made of the name.
    pub fn new(name: &'static str, doors: &[&str]) -> Key {
        let seed = name.bytes().fold(0, |n, b| n << 8 | u64::from(b));
        let mut rng = Rng::new(seed);
        let mut bytes = |n: usize| (0..n).map(|_| rng.next() as u8).collect();
        let secret = Secret {
            cipher: bytes(32),
            hmac: bytes(64),
            mac: Mac::Sha256,
        };
        let lines = format!("doors = {doors:?}\n");
        Key {
            name,
            secret,
            lines,
        }
    }

    /// The same under another name.
    pub fn named(mut self, name: &'static str) -> Key {
        self.name = name;
        self
    }

    /// With HMAC-SHA512.
    pub fn sha512(mut self) -> Key {
        self.secret.mac = Mac::Sha512;
        self
    }

    /// More lines for the key.
    pub fn with(mut self, lines: &str) -> Key {
        self.lines += &format!("{lines}\n");
        self
    }

    /// Its two secrets in base64, and its HMAC.
    pub fn written(&self) -> (String, String, &'static str) {
        let mac = match self.secret.mac {
            Mac::Sha256 => "sha256",
            Mac::Sha512 => "sha512",
        };
        let base64 = Base64::encode_string;
        (base64(&self.secret.cipher), base64(&self.secret.hmac), mac)
    }

    /// Debian's fwknop to the server, with these arguments.
    #[track_caller]
    pub fn fwknop(&self, from: &Host, arguments: &str) {
        let (cipher, hmac, mac) = self.written();
        let mut fwknop = from.command("fwknop");
        fwknop.args(["--no-rc-file", "--no-home-dir", "-E", "/dev/null"]);
        fwknop.args(["-D", SERVER, "--use-hmac"]);
        fwknop.args(["--key-base64-rijndael", &cipher]);
        fwknop.args(["--key-base64-hmac", &hmac, "--hmac-digest-type", mac]);
        let ran = Ran::of(fwknop.args(arguments.split_whitespace()));
        assert_eq!(ran.code(), 0, "{ran:?}");
    }

    /// `postern spa` by a profile with these lines, and with these arguments.
    #[track_caller]
    pub fn postern(&self, from: &Host, to: impl Into<IpAddr>, lines: &str, arguments: &str) {
        let (cipher, hmac, mac) = self.written();
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("config.toml");
        let text = format!(
            "[host.home]\naddress = \"{}\"\n[[host.home.way]]\nspa = true\n\
             cipher_key = \"{cipher}\"\nhmac_key = \"{hmac}\"\nhmac = \"{mac}\"\n{lines}\n",
            to.into()
        );
        fs::write(&file, text).unwrap();
        chmod(&file, 0o600);
        let mut postern = from.command(program("postern"));
        postern.args(["spa", "-c"]).arg(&file).arg("home");
        let ran = Ran::of(postern.args(arguments.split_whitespace()));
        assert_eq!(ran.code(), 0, "{ran:?}");
    }

    /// A packet's payload that no client would make.
    pub fn seal(&self, whom: impl Into<IpAddr>, port: u16, time: u64) -> Vec<u8> {
        let mut random = [0; 24];
        getrandom::fill(&mut random).unwrap();
        let port = Port {
            protocol: Protocol::Tcp,
            number: port,
        };
        let request = Request {
            whom: Whom::Address(whom.into()),
            ports: vec![port],
            time,
            lasts: None,
            user: "somebody".into(),
        };
        spa::seal(&self.secret, &request, &random)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let (cipher, hmac, mac) = self.written();
        write!(
            f,
            "[key.{}]\ncipher_key = \"{cipher}\"\nhmac_key = \"{hmac}\"\nhmac = \"{mac}\"\n{}",
            self.name, self.lines
        )
    }
}

/// Sends each of these as a datagram to fwknop's port, as fast as they are taken.
pub fn datagrams(from: &Host, to: impl Into<IpAddr>, payloads: &[Vec<u8>]) {
    let to = SocketAddr::new(to.into(), spa::PORT);
    let from_address: IpAddr = match to.is_ipv4() {
        true => from.v4.into(),
        false => from.v6.into(),
    };
    from.inside(|| {
        let socket = UdpSocket::bind((from_address, 0)).unwrap();
        for payload in payloads {
            socket.send_to(payload, to).unwrap();
        }
    });
}
