//! Points in time as docker's filters take them (`until=`, `--since`).
//!
//! ```text
//!   24h  1h30m  10m                       so long ago (Go's durations)
//!   2026-01-02  2026-01-02T15:04[:05]     in the user's time zone
//!   2026-01-02T15:04:05Z  …+02:00         RFC 3339
//!   1767366245  1767366245.5              seconds after the epoch
//! ```

use jiff::civil;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use crate::error::{Failure, Result};

/// The time that `text` means, seen from `now`.
pub fn parse(text: &str, now: Timestamp, zone: &TimeZone) -> Result<Timestamp> {
    let refused = || {
        Failure::usage(format!("\"{text}\" is not a point in time"))
            .hint("write 24h, 2026-01-02, 2026-01-02T15:04:05Z or seconds after the epoch")
    };
    if let Some(seconds) = seconds(text) {
        return Timestamp::from_duration(seconds).map_err(|_| refused());
    }
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time);
    }
    if let Ok(time) = text.parse::<civil::DateTime>() {
        return time.to_zoned_datetime(zone.clone()).map(|zoned| zoned.timestamp()).map_err(|_| refused());
    }
    let duration: SignedDuration = text.parse().map_err(|_| refused())?;
    now.checked_sub(duration).map_err(|_| refused())
}

/// `1767366245` or `1767366245.000000001`.
fn seconds(text: &str) -> Option<SignedDuration> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let is_number = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !is_number(whole) || !is_number(part) || part.len() > 9 || text.ends_with('.') {
        return None;
    }
    let nanoseconds: i32 = format!("{part:0<9}").parse().ok()?;
    Some(SignedDuration::new(whole.parse().ok()?, nanoseconds))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> Result<String, String> {
        let now = "2026-01-03T12:00:00Z".parse().unwrap();
        let zone = TimeZone::posix("CET-1").unwrap();
        parse(text, now, &zone).map(|time| time.to_string()).map_err(|failure| failure.to_string())
    }

    #[test]
    fn reads_what_docker_reads() {
        for (text, time) in [
            ("24h", "2026-01-02T12:00:00Z"),
            ("1h30m", "2026-01-03T10:30:00Z"),
            ("10m", "2026-01-03T11:50:00Z"),
            ("2026-01-02", "2026-01-01T23:00:00Z"),
            ("2026-01-02T15:04", "2026-01-02T14:04:00Z"),
            ("2026-01-02T15:04:05", "2026-01-02T14:04:05Z"),
            ("2026-01-02T15:04:05Z", "2026-01-02T15:04:05Z"),
            ("2026-01-02T15:04:05+02:00", "2026-01-02T13:04:05Z"),
            ("1767366245", "2026-01-02T15:04:05Z"),
            ("1767366245.5", "2026-01-02T15:04:05.5Z"),
        ] {
            assert_eq!(read(text).as_deref(), Ok(time), "{text}");
        }
        for text in ["", "yesterday", "-", "99999999999999999999", "1.1234567890", "h", "1.", "2026-13-01"] {
            assert!(read(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(text in "[0-9hmsT:.Z+-]{0,30}") {
            drop(read(&text));
        }
    }
}
