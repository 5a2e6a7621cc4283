//! `posternctl close`: ends leases.

use std::io::Write;
use std::path::Path;

use super::{Problem, ask, count, json_line};
use crate::config::Network;
use crate::daemon::control::{Request, Response};
use crate::exit;

/// The status when there was nothing to close, or posternd would not.
const NONE: u8 = 1;

pub fn run(
    socket: &Path,
    address: Network,
    door: Option<String>,
    json: bool,
    out: &mut impl Write,
) -> Result<u8, Problem> {
    let request = Request::Close { address, door };
    let Response::Closed(closed) = ask::ask(socket, &request, NONE)? else {
        return Err(ask::foreign(socket));
    };
    if json {
        json_line(&serde_json::json!({ "closed": closed }), out)?;
    } else if closed == 0 {
        writeln!(out, "no lease of {address}")?;
    } else {
        writeln!(out, "{} of {address} ended", count(closed as u64, "lease"))?;
    }
    Ok(if closed == 0 { NONE } else { exit::OK })
}
