//! `kelp logs`: what containers said.

use std::collections::BTreeMap;

use clap::Args;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::{Session, output};
use crate::container::log::{Entry, Selection, Stream};
use crate::container::store::Container;
use crate::engine::logs;
use crate::engine::options::moment;
use crate::error::{Context, Failure, Result};

/// Arguments of `kelp logs`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Go on with what comes, until the container ends
    #[arg(short, long)]
    follow: bool,
    /// Print the last lines only: a number, or all
    #[arg(short = 'n', long, value_name = "LINES", default_value = "all", allow_hyphen_values = true)]
    tail: String,
    /// Leave out what is older than a time (2026-01-02T15:04:05Z) or a duration (10m)
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Leave out what is newer
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Print the time before each line
    #[arg(short, long)]
    timestamps: bool,
    /// Print before each line what --log-opt labels, env and tag added
    #[arg(long)]
    details: bool,
    /// With several containers, print names before lines, not ids
    #[arg(long)]
    names: bool,
    /// Names or ids
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

/// Prints standard output's lines to standard output, standard error's to
/// standard error.
pub(super) fn run(arguments: Arguments, session: &Session) -> Result<i32> {
    let selection = selection(&arguments)?;
    let containers = logs::find(&session.paths, &arguments.containers)?;
    let mut printer = Printer::new(&arguments, &containers);
    logs::read(&containers, &selection, arguments.follow, &mut printer)?;
    Ok(0)
}

fn selection(arguments: &Arguments) -> Result<Selection> {
    let (now, zone) = (Timestamp::now(), TimeZone::system());
    let time_ns = |text: &str| moment::parse(text, now, &zone).map(Timestamp::as_nanosecond);
    Ok(Selection {
        lines: lines(&arguments.tail)?,
        since_ns: arguments.since.as_deref().map(time_ns).transpose().doing(|| "use --since")?,
        until_ns: arguments.until.as_deref().map(time_ns).transpose().doing(|| "use --until")?,
    })
}

/// As Docker: less than none is all.
fn lines(text: &str) -> Result<Option<u64>> {
    if text == "all" {
        return Ok(None);
    }
    let lines: i64 = text.parse().map_err(|_| {
        Failure::usage(format!("--tail wants a number of lines or all, not \"{}\"", text.escape_debug()))
    })?;
    Ok(u64::try_from(lines).ok())
}

/// Puts entries into the two streams.
struct Printer {
    streams: output::Streams,
    /// For each container.
    columns: Vec<Column>,
    timestamps: bool,
    details: bool,
    /// The last attributes, as they stand in the log and as they are printed:
    /// they are the same for all lines of a container.
    attributes: (String, Vec<u8>),
}

/// One container's place in what is printed.
struct Column {
    /// What its lines begin with.
    prefix: String,
    /// Whether a line begins, on standard output and standard error.
    begins: [bool; 2],
}

impl Printer {
    fn new(arguments: &Arguments, containers: &[Container]) -> Self {
        let is_alone = containers.len() == 1;
        let column = |container: &Container| {
            let name = if arguments.names { &container.record.name } else { container.record.short_id() };
            Column { prefix: if is_alone { String::new() } else { format!("{name} ") }, begins: [true; 2] }
        };
        Self {
            streams: output::Streams::open(),
            columns: containers.iter().map(column).collect(),
            timestamps: arguments.timestamps,
            details: arguments.details,
            attributes: Default::default(),
        }
    }

    fn push_prefix(&mut self, number: usize, entry: &Entry<'_>) {
        let out = self.streams.buffer(entry.stream == Stream::Stderr);
        if let Some(column) = self.columns.get(number) {
            out.extend_from_slice(column.prefix.as_bytes());
        }
        if self.timestamps {
            push_time(out, &entry.time);
        }
        if self.details {
            let attributes = entry.attributes.unwrap_or_default();
            if attributes != self.attributes.0 {
                self.attributes = (attributes.to_owned(), details(attributes));
            }
            out.extend_from_slice(&self.attributes.1);
            out.push(b' ');
        }
    }
}

impl logs::Output for Printer {
    fn entry(&mut self, number: usize, entry: &Entry<'_>) {
        let stream = usize::from(entry.stream == Stream::Stderr);
        let begins = self.columns.get_mut(number).and_then(|column| column.begins.get_mut(stream));
        // Pieces of a long line are put together again.
        if begins.is_some_and(|begins| std::mem::replace(begins, entry.ends_line())) {
            self.push_prefix(number, entry);
        }
        entry.push_text(self.streams.buffer(entry.stream == Stream::Stderr));
        self.streams.flush_if_full();
    }

    fn flush(&mut self) {
        self.streams.flush();
    }

    fn notice(&mut self, notice: &str) {
        self.streams.flush();
        output::notice(notice);
    }
}

/// A time as docker prints it, always with nine digits. What is no time is
/// printed as it stands.
fn push_time(out: &mut Vec<u8>, time: &[u8]) {
    let whole = time.strip_suffix(b"Z").and_then(|time| time.split_at_checked(19));
    let is_usual = |fraction: &[u8]| fraction.is_empty() || (fraction.starts_with(b".") && fraction.len() <= 10);
    match whole {
        Some((second, fraction)) if is_usual(fraction) => {
            let digits = fraction.get(1..).unwrap_or_default();
            out.extend_from_slice(second);
            out.push(b'.');
            out.extend_from_slice(digits);
            out.extend(std::iter::repeat_n(b'0', 9 - digits.len()));
            out.extend_from_slice(b"Z ");
        }
        // In another time zone.
        _ => {
            let text = String::from_utf8_lossy(time);
            let time = text.parse::<Timestamp>().map_or_else(|_| text.into_owned(), |time| format!("{time:.9}"));
            out.extend_from_slice(time.as_bytes());
            out.push(b' ');
        }
    }
}

/// `key=value,key=value`, escaped as docker does it (Go's url.QueryEscape).
fn details(attributes: &str) -> Vec<u8> {
    let pairs: BTreeMap<String, String> = serde_json::from_str(attributes).unwrap_or_default();
    let pairs: Vec<String> = pairs.iter().map(|(key, value)| format!("{}={}", escaped(key), escaped(value))).collect();
    pairs.join(",").into_bytes()
}

fn escaped(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => char::from(byte).to_string(),
        b' ' => "+".to_owned(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_nine_digits() {
        for (time, printed) in [
            ("2026-01-02T15:04:05Z", "2026-01-02T15:04:05.000000000Z "),
            ("2026-01-02T15:04:05.12Z", "2026-01-02T15:04:05.120000000Z "),
            ("2026-01-02T15:04:05.123456789Z", "2026-01-02T15:04:05.123456789Z "),
            ("2026-01-02T15:04:05.5+02:00", "2026-01-02T13:04:05.500000000Z "),
            ("éééééééééé Z", "éééééééééé Z "),
            ("yesterday", "yesterday "),
        ] {
            let mut out = Vec::new();
            push_time(&mut out, time.as_bytes());
            assert_eq!(String::from_utf8(out).unwrap(), printed, "{time}");
        }
    }

    #[test]
    fn details_are_dockers() {
        assert_eq!(details(r#"{"tag":"web","a b":"x&y/\u00e9"}"#), b"a+b=x%26y%2F%C3%A9,tag=web");
        assert_eq!(details(""), b"");
        assert_eq!(details(r#"{"a":1}"#), b"");
    }

    #[test]
    fn tail_is_a_number_or_all() {
        for (text, expected) in [("all", None), ("0", Some(0)), ("10", Some(10)), ("-1", None)] {
            assert_eq!(lines(text).unwrap(), expected, "{text}");
        }
        assert!(lines("ten").is_err());
    }
}
