//! postern ping: a secret in the payload of an echo request.

use std::io::{self, Read};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Args;

use super::profile::{self, Way};
use super::{Common, Problem, echo};
use crate::config::Pattern;
use crate::config::toml::knock::pattern;
use crate::exit::{self, words};

/// Bytes of the payload that ping sends unless told otherwise: 64 with the header of ICMP.
const PAYLOAD: usize = 56;

/// Bytes of the time stamp before the secret, in 64-bit Linux's ping: a `struct timeval`.
const STAMP: usize = 16;

/// The payload that `ping -p` of a 64-bit Linux sends `at` this time since the Unix epoch: a time
/// stamp, then the secret over and over, so that it stands at 16 and at 32.
fn payload(secret: &Pattern, at: Duration) -> [u8; PAYLOAD] {
    let mut payload = [0; PAYLOAD];
    let (stamp, rest) = payload.split_at_mut(STAMP);
    let (seconds, micros) = stamp.split_at_mut(STAMP / 2);
    seconds.copy_from_slice(&at.as_secs().to_le_bytes());
    micros.copy_from_slice(&u64::from(at.subsec_micros()).to_le_bytes());
    for (byte, secret) in rest.iter_mut().zip(secret.0.iter().cycle()) {
        *byte = *secret;
    }
    payload
}

/// What this machine's clock says, since the Unix epoch.
pub(super) fn now() -> Duration {
    // A clock before 1970 is no reason not to knock.
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}

#[derive(Args)]
pub(super) struct PingArgs {
    #[command(flatten)]
    common: Common,
    /// A name or address; without --secret, a host of the profile file
    #[arg(value_hint = clap::ValueHint::Hostname)]
    host: String,
    /// A file with the secret in 32 hexadecimal digits; - is standard input
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    secret: Option<PathBuf>,
}

/// Pings with the secret of the file that the command line names, else with the profile's.
pub(super) fn run(args: &PingArgs) -> Result<(), Problem> {
    let common = &args.common;
    let (name, secret) = match &args.secret {
        Some(file) => (args.host.clone(), secret_in(file)?),
        None => {
            let host = common.profile(&args.host, "--secret")?;
            let secret = host.ways.iter().find_map(|way| match way {
                Way::Ping(secret) => Some(*secret),
                _ => None,
            });
            let secret = secret.ok_or_else(|| host.lacks("ping"))?;
            (host.address, secret)
        }
    };
    let to = common.resolve(&name)?;
    let told = |e| Problem::from(e).about(to);
    let (sent, by) = knock(to, common.source, &secret).map_err(told)?;
    common.say(format_args!("pinged {}{by}", echo::bare(to)));
    sent.wait().map_err(told)
}

/// Sends one ping, by the system's own where this user has no socket for it; and says by what.
pub(super) fn knock(
    to: SocketAddr,
    source: Option<IpAddr>,
    secret: &Pattern,
) -> Result<(echo::Sent, &'static str), echo::Error> {
    match echo::send(to, source, &payload(secret, now())) {
        Err(echo::Error::Denied) => {
            let sent = echo::by_system(to, source, &hex(secret))?;
            Ok((
                sent,
                " by the system's ping, which ps shows with the secret",
            ))
        }
        sent => Ok((sent?, "")),
    }
}

/// As [`pattern`] reads it, and ping takes it.
fn hex(secret: &Pattern) -> String {
    secret.0.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The secret in a file, or from standard input.
fn secret_in(file: &Path) -> Result<Pattern, Problem> {
    let stdin = file == Path::new("-");
    let name = match stdin {
        true => "standard input".to_owned(),
        false => file.display().to_string(),
    };
    let bytes = match stdin {
        false => profile::read(file).map_err(|e| {
            let status = match e {
                profile::Error::Open { .. } => exit::CONFIG,
                _ => exit::NOINPUT,
            };
            Problem::new(status, e)
        })?,
        true => {
            let mut bytes = Vec::new();
            let read = io::stdin().lock().take(MOST).read_to_end(&mut bytes);
            read.map_err(|e| Problem::new(exit::NOINPUT, format!("{name}: {}", words(&e))))?;
            bytes
        }
    };
    let text = String::from_utf8_lossy(&bytes);
    pattern(text.trim()).map_err(|wrong| Problem::new(exit::CONFIG, format!("{name}: {wrong}")))
}

/// More than any secret has, with blanks around it.
const MOST: u64 = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "30313233343536373839616263646566";

    #[test]
    fn the_payload_is_that_of_ping() {
        let secret = pattern(HEX).unwrap();
        assert_eq!(hex(&secret), HEX);
        let payload = payload(&secret, Duration::from_micros(0x0102_0304 * 1_000_000 + 5));
        assert_eq!(
            payload[..16],
            [4, 3, 2, 1, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0]
        );
        assert_eq!(&payload[16..], b"0123456789abcdef0123456789abcdef01234567");
    }
}
