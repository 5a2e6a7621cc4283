//! What happened to a knock or a lease, by name: one line of JSON each.

#![forbid(unsafe_code)]

use std::fmt;

use jiff::Timestamp;
use serde::{Serialize, Serializer};

use crate::config::Network;
use crate::time::Time;

/// One thing that happened at one door. Times are microseconds since the Unix epoch.
///
/// As JSON (by [`fmt::Display`], one line, the keys in this order):
/// `{"time":"2026-11-21T20:15:00.123456Z","event":"open","door":"ssh","address":"192.0.2.7",
/// "until":"2026-11-21T20:15:30.123456Z"}`; `open` and `extend` by a key have `key` before `until`;
/// `stage`, `timeout` and `fail` have `stage`, a
/// number, where `open` and `extend` have `until`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Event<'a> {
    /// When.
    #[serde(serialize_with = "stamp")]
    pub time: Time,
    /// What.
    #[serde(rename = "event")]
    pub what: What,
    /// The door's name.
    pub door: &'a str,
    /// Whose attempt or lease.
    pub address: Network,
    /// The key by which a lease goes, for what sets its end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<&'a str>,
    /// Steps taken rightly so far, for what concerns an attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stage: Option<u8>,
    /// When the lease ends, for what sets its end.
    #[serde(
        skip_serializing_if = "Option::is_none",
        serialize_with = "stamp_if_any"
    )]
    pub until: Option<Time>,
}

/// See [`Event`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum What {
    /// A step was right, and there are more.
    Stage,
    /// The door opened.
    Open,
    /// It was open already: the lease's end moved.
    Extend,
    /// The lease ended.
    Close,
    /// An attempt's time was up.
    Timeout,
    /// A wrong step or a trap ended an attempt.
    Fail,
}

impl fmt::Display for Event<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&serde_json::to_string(self).map_err(|_| fmt::Error)?)
    }
}

/// RFC 3339, UTC, six decimals. Times past the year 9999 are written as its end.
fn written(time: Time) -> String {
    let stamp = i64::try_from(time.0)
        .ok()
        .and_then(|t| Timestamp::from_microsecond(t).ok())
        .unwrap_or(Timestamp::MAX);
    format!("{stamp:.6}")
}

fn stamp<S: Serializer>(time: &Time, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&written(*time))
}

fn stamp_if_any<S: Serializer>(time: &Option<Time>, to: S) -> Result<S::Ok, S::Error> {
    match time {
        Some(time) => stamp(time, to),
        None => to.serialize_none(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: Time = Time(1_795_292_100_123_456);

    #[test]
    fn keys_stand_in_their_order() {
        let open = Event {
            time: AT,
            what: What::Open,
            door: "ssh",
            address: "192.0.2.7".parse().unwrap(),
            key: None,
            stage: None,
            until: Some(Time(AT.0 + 30_000_000)),
        };
        assert_eq!(
            open.to_string(),
            r#"{"time":"2026-11-21T20:15:00.123456Z","event":"open","door":"ssh","address":"192.0.2.7","until":"2026-11-21T20:15:30.123456Z"}"#
        );
        let by_key = Event {
            key: Some("alice"),
            ..open
        };
        assert_eq!(
            by_key.to_string(),
            r#"{"time":"2026-11-21T20:15:00.123456Z","event":"open","door":"ssh","address":"192.0.2.7","key":"alice","until":"2026-11-21T20:15:30.123456Z"}"#
        );
        let fail = Event {
            what: What::Fail,
            address: "2001:db8::7".parse().unwrap(),
            stage: Some(3),
            until: None,
            ..open
        };
        assert_eq!(
            fail.to_string(),
            r#"{"time":"2026-11-21T20:15:00.123456Z","event":"fail","door":"ssh","address":"2001:db8::7","stage":3}"#
        );
    }

    #[test]
    fn any_time_can_be_written() {
        assert_eq!(written(Time(0)), "1970-01-01T00:00:00.000000Z");
        assert_eq!(written(Time(u64::MAX)), "9999-12-30T22:00:00.999999Z");
        assert_eq!(written(Time(i64::MAX as u64)), written(Time(u64::MAX)));
    }
}
