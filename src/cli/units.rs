//! Durations, points in time and sizes as docker words them.

use jiff::tz::TimeZone;

use crate::error::{Failure, Result};

/// The time that reproducible builds ask for, in seconds since 1970
/// (reproducible-builds.org, SOURCE_DATE_EPOCH).
pub(super) fn source_date_epoch() -> Result<Option<u64>> {
    match std::env::var("SOURCE_DATE_EPOCH") {
        Err(std::env::VarError::NotPresent) => Ok(None),
        Ok(text) if text.is_empty() => Ok(None),
        text => text
            .ok()
            .and_then(|text| text.parse().ok())
            // What fits into a tar's header.
            .filter(|seconds| *seconds < 1 << 33)
            .map(Some)
            .ok_or_else(|| Failure::usage("SOURCE_DATE_EPOCH is not a number of seconds since 1970")),
    }
}

/// A duration, e.g. `3 days`.
pub(super) fn duration(seconds: i64) -> String {
    const HOUR: i64 = 3600;
    const DAY: i64 = 24 * HOUR;
    // Docker's thresholds (go-units, HumanDuration): two of the next unit.
    let (count, unit) = match seconds.max(0) {
        0 => return "Less than a second".to_owned(),
        seconds @ 1..60 => (seconds, "second"),
        60..120 => return "About a minute".to_owned(),
        seconds @ 120..HOUR => (seconds / 60, "minute"),
        HOUR..7200 => return "About an hour".to_owned(),
        seconds if seconds < 2 * DAY => (seconds / HOUR, "hour"),
        seconds if seconds < 14 * DAY => (seconds / DAY, "day"),
        seconds if seconds < 60 * DAY => (seconds / (7 * DAY), "week"),
        seconds if seconds < 2 * 365 * DAY => (seconds / (30 * DAY), "month"),
        seconds => (seconds / (365 * DAY), "year"),
    };
    if count == 1 { format!("1 {unit}") } else { format!("{count} {unit}s") }
}

/// How long ago a time of an image config (RFC 3339) was, e.g. `3 days ago`.
/// An author may leave it out or write anything.
pub(super) fn ago(created: Option<&str>, now: jiff::Timestamp) -> String {
    match created.and_then(|text| text.parse::<jiff::Timestamp>().ok()) {
        Some(time) => format!("{} ago", duration(now.as_second() - time.as_second())),
        None => "N/A".to_owned(),
    }
}

/// A point in time, in seconds after the epoch, as docker's `.CreatedAt` has
/// it (Go's Time.String), in the user's time zone.
pub(super) fn moment(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).map_or_else(|_| "N/A".to_owned(), |time| moment_in(time, TimeZone::system()))
}

fn moment_in(time: jiff::Timestamp, zone: TimeZone) -> String {
    time.to_zoned_datetime(zone).strftime("%Y-%m-%d %H:%M:%S %z %Z").to_string()
}

/// The same as programs want it, to the second.
pub(super) fn rfc3339(time: jiff::Timestamp) -> String {
    time.to_zoned_datetime(TimeZone::system()).strftime("%Y-%m-%dT%H:%M:%S%:z").to_string().replace("+00:00", "Z")
}

/// The same to the nanosecond, always with nine digits.
pub(super) fn rfc3339_with_nanoseconds(time: jiff::Timestamp) -> String {
    let time = time.to_zoned_datetime(TimeZone::system()).strftime("%Y-%m-%dT%H:%M:%S.%9f%:z").to_string();
    time.replace("+00:00", "Z")
}

/// Bytes in decimal units with three digits, e.g. `7.8MB`.
pub(super) fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["kB", "MB", "GB", "TB", "PB", "EB"];
    if count < 1000 {
        return format!("{count}B");
    }
    let mut value = count as f64 / 1000.0;
    let mut unit = UNITS[0];
    for next in &UNITS[1..] {
        // What would be rounded to 1000 is one of the next unit.
        if value < 999.5 {
            break;
        }
        value /= 1000.0;
        unit = next;
    }
    let digits = match value {
        value if value < 9.995 => 2,
        value if value < 99.95 => 1,
        _ => 0,
    };
    let text = format!("{value:.digits$}");
    let text = if digits > 0 { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}{unit}")
}

/// Bytes in binary units with four digits, as docker shows memory: `7.441MiB`.
pub(super) fn binary_bytes(count: u64) -> String {
    const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let (mut value, mut units) = (count as f64, UNITS.iter().peekable());
    // As go-units' BytesSize: what would be rounded to 1024 stays.
    while value >= 1024.0 && units.next().is_some() {
        value /= 1024.0;
    }
    let digits = match value {
        value if value < 9.999_5 => 3,
        value if value < 99.995 => 2,
        value if value < 999.95 => 1,
        _ => 0,
    };
    let text = format!("{value:.digits$}");
    let text = if digits > 0 { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}{}", units.next().unwrap_or(&"EiB"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_dockers() {
        for (seconds, text) in [
            (-5, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (120, "2 minutes"),
            (3600, "About an hour"),
            (7200, "2 hours"),
            (47 * 3600, "47 hours"),
            (48 * 3600, "2 days"),
            (14 * 86_400, "2 weeks"),
            (61 * 86_400, "2 months"),
            (i64::MAX, "292471208677 years"),
        ] {
            assert_eq!(duration(seconds), text, "{seconds}");
        }
    }

    #[test]
    fn times_may_be_missing_or_wrong() {
        let now = "2026-01-03T00:00:00Z".parse().unwrap();
        assert_eq!(ago(Some("2026-01-01T01:00:00+01:00"), now), "2 days ago");
        assert_eq!(ago(Some("yesterday"), now), "N/A");
        assert_eq!(ago(None, now), "N/A");
    }

    #[test]
    fn points_in_time_read_as_dockers() {
        let time = "2026-01-03T12:00:00Z".parse().unwrap();
        assert_eq!(moment_in(time, TimeZone::UTC), "2026-01-03 12:00:00 +0000 UTC");
        assert_eq!(moment_in(time, TimeZone::posix("CET-1").unwrap()), "2026-01-03 13:00:00 +0100 CET");
        assert_eq!(moment(i64::MAX), "N/A");
    }

    #[test]
    fn memory_reads_as_dockers() {
        for (count, text) in [
            (0, "0B"),
            (1023, "1023B"),
            (1024, "1KiB"),
            (7_802_880, "7.441MiB"),
            (25_276_854_272, "23.54GiB"),
            (129_394_278, "123.4MiB"),
            (1_073_741_823, "1024MiB"),
            (u64::MAX, "16EiB"),
        ] {
            assert_eq!(binary_bytes(count), text, "{count}");
        }
    }

    #[test]
    fn sizes_read_as_dockers() {
        for (count, text) in [
            (0, "0B"),
            (999, "999B"),
            (1000, "1kB"),
            (7_800_000, "7.8MB"),
            (12_345_678, "12.3MB"),
            (126_400_000, "126MB"),
            (999_400, "999kB"),
            (999_600, "1MB"),
            (1_130_000_000, "1.13GB"),
            (u64::MAX, "18.4EB"),
        ] {
            assert_eq!(bytes(count), text, "{count}");
        }
    }
}
