//! The journal's part of a container's log, by way of `journalctl -o json`.

use std::io::{BufRead, BufReader, ErrorKind, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::process::{Child, ChildStdout, Command, Stdio};

use jiff::Timestamp;
use nix::poll::{PollFd, PollFlags, PollTimeout};
use serde::Deserialize;

use crate::container::log::{Entry, Selection, Stream};
use crate::error::{Context, Failure, Result};
use crate::limits;

const NANOSECONDS: i128 = 1_000_000_000;

/// journald may have lines on their way when their container has ended.
const QUIET_MS: u16 = 300;

/// journalctl, running. Ended when dropped.
pub(super) struct Journalctl {
    child: Child,
    stdout: ChildStdout,
    /// What was read and holds no whole line yet.
    pending: Vec<u8>,
    selection: Selection,
    follows: bool,
}

/// A line of journalctl's (systemd, docs/JOURNAL_EXPORT_FORMATS.md).
#[derive(Deserialize)]
struct Line {
    #[serde(rename = "MESSAGE")]
    message: Option<Message>,
    #[serde(rename = "PRIORITY")]
    priority: Option<String>,
    #[serde(rename = "CONTAINER_PARTIAL_MESSAGE")]
    partial: Option<String>,
    #[serde(rename = "__REALTIME_TIMESTAMP")]
    time_us: Option<String>,
    #[serde(rename = "__CURSOR")]
    cursor: Option<String>,
}

impl Line {
    /// Whether this is the last piece of a line, as most entries are.
    fn ends_line(&self) -> bool {
        self.partial.as_deref() != Some("true")
    }

    fn time_ns(&self) -> Option<i128> {
        self.time_us.as_ref()?.parse::<i128>().ok()?.checked_mul(1000)
    }
}

/// Bytes that are no text are numbers.
#[derive(Deserialize)]
#[serde(untagged)]
enum Message {
    Text(String),
    Bytes(Vec<u8>),
}

impl Journalctl {
    /// Starts it for the container `id`.
    pub(super) fn start(id: &str, selection: &Selection, follows: bool) -> Result<Self> {
        let mut arguments = vec!["--output-fields=MESSAGE,PRIORITY,CONTAINER_PARTIAL_MESSAGE".to_owned()];
        arguments.extend(follows.then(|| "--follow".to_owned()));
        match selection.lines {
            // What journalctl counts are entries, and a long line is several.
            Some(lines @ 1..) => match Self::cursor_of_last(id, selection, lines)? {
                // It takes this or a time, and what is early is passed over below.
                Some(cursor) => arguments.push(format!("--cursor={cursor}")),
                None => arguments.extend(since(selection)),
            },
            _ => arguments.extend(since(selection)),
        }
        arguments.push(format!("--lines={}", if selection.lines == Some(0) { "0" } else { "all" }));
        Self::call(id, selection, follows, &arguments)
    }

    /// Where the last `lines` lines begin; `None` if there are not more.
    fn cursor_of_last(id: &str, selection: &Selection, lines: u64) -> Result<Option<String>> {
        let mut arguments = vec!["--output-fields=CONTAINER_PARTIAL_MESSAGE".to_owned(), "--reverse".to_owned()];
        arguments.extend(since(selection));
        let mut backwards = Self::call(id, selection, false, &arguments)?;
        let mut reader = BufReader::new(&mut backwards.stdout);
        let mut place = Backwards { lines, begun: 0, first: None };
        let mut text = Vec::new();
        loop {
            text.clear();
            let bound = limits::LOG_ENTRY_BYTES_MAX as u64;
            let count = (&mut reader).take(bound).read_until(b'\n', &mut text);
            if count.doing(|| "read what journalctl writes")? == 0 {
                return Ok(None);
            }
            let Ok(line) = serde_json::from_slice::<Line>(&text) else { continue };
            if line.time_ns().is_some_and(|time_ns| selects(selection, time_ns)) && place.is_past(line) {
                return Ok(place.first);
            }
        }
    }

    fn call(id: &str, selection: &Selection, follows: bool, arguments: &[String]) -> Result<Self> {
        let field = format!("CONTAINER_ID_FULL={id}");
        let mut command = Command::new("journalctl");
        command.args(["--output=json", "--all", "--no-pager", "--quiet", &field]).args(arguments);
        // Whole seconds here; to the nanosecond below.
        command.args(selection.until_ns.map(|time_ns| format!("--until=@{}", time_ns.div_euclid(NANOSECONDS) + 1)));
        let mut child = match command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn() {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Err(Failure::host("it is in the journal, and there is no journalctl here")
                    .hint(format!("where there is one: journalctl {field}")));
            }
            child => child.doing(|| "start journalctl")?,
        };
        let stdout = child.stdout.take().ok_or_else(|| Failure::bug("journalctl has no output"))?;
        Ok(Self { child, stdout, pending: Vec::new(), selection: *selection, follows })
    }

    /// Can be read when there is more.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.stdout.as_fd()
    }

    /// Hands over what there is: everything, or with `follows` what is there now.
    pub(super) fn drain(&mut self, mut take: impl FnMut(&Entry<'_>)) -> Result<()> {
        let mut buffer = vec![0; limits::LOG_BATCH_BYTES];
        while !self.follows || self.is_ready(0) {
            match self.stdout.read(&mut buffer) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Ok(0) => return self.end(),
                count => {
                    let read = buffer.get(..count?).unwrap_or_default();
                    self.pending.extend_from_slice(read);
                    self.hand_over(&mut take)?;
                }
            }
        }
        Ok(())
    }

    fn hand_over(&mut self, take: &mut impl FnMut(&Entry<'_>)) -> Result<()> {
        let mut rest = self.pending.as_slice();
        while let Some(at) = memchr::memchr(b'\n', rest) {
            let (line, more) = rest.split_at(at);
            // A line that journalctl would not write is none of ours.
            if let Some(entry) = serde_json::from_slice(line).ok().and_then(|line| entry(line, &self.selection)) {
                take(&entry);
            }
            rest = more.get(1..).unwrap_or_default();
        }
        self.pending = rest.to_vec();
        if self.pending.len() > limits::LOG_ENTRY_BYTES_MAX {
            return Err(Failure::host("journalctl writes a line without end"));
        }
        Ok(())
    }

    fn is_ready(&self, patience_ms: u16) -> bool {
        let mut fds = [PollFd::new(self.stdout.as_fd(), PollFlags::POLLIN)];
        matches!(nix::poll::poll(&mut fds, PollTimeout::from(patience_ms)), Ok(1))
    }

    /// Waits for what may still come; from here on there is an end.
    pub(super) fn end_when_quiet(&mut self) {
        if self.follows && !self.is_ready(QUIET_MS) {
            // It may have ended by itself.
            self.child.kill().ok();
        }
    }

    fn end(&mut self) -> Result<()> {
        let status = self.child.wait().doing(|| "wait for journalctl")?;
        if status.success() || self.follows {
            return Ok(());
        }
        Err(Failure::host(format!("journalctl ended with {status}")))
    }
}

impl Drop for Journalctl {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Counts lines from the last to the first.
struct Backwards {
    lines: u64,
    /// How many of them had their end already.
    begun: u64,
    /// The earliest piece so far.
    first: Option<String>,
}

impl Backwards {
    /// Whether this entry, the one before all earlier ones, is part of a line too many.
    fn is_past(&mut self, line: Line) -> bool {
        // The newest line may have no end yet.
        if line.ends_line() || self.first.is_none() {
            if self.begun == self.lines {
                return true;
            }
            self.begun += 1;
        }
        self.first = line.cursor;
        false
    }
}

/// Whole seconds here; to the nanosecond below.
fn since(selection: &Selection) -> Option<String> {
    selection.since_ns.map(|time_ns| format!("--since=@{}", time_ns.div_euclid(NANOSECONDS)))
}

fn selects(selection: &Selection, time_ns: i128) -> bool {
    selection.since_ns.is_none_or(|since_ns| time_ns >= since_ns)
        && selection.until_ns.is_none_or(|until_ns| time_ns <= until_ns)
}

fn entry(line: Line, selection: &Selection) -> Option<Entry<'static>> {
    let time_ns = line.time_ns()?;
    if !selects(selection, time_ns) {
        return None;
    }
    let ends_line = line.ends_line();
    let mut text = match line.message? {
        Message::Text(text) => text.into_bytes(),
        Message::Bytes(bytes) => bytes,
    };
    if ends_line {
        text.push(b'\n');
    }
    // Priorities as the writer gives them.
    let stream = if line.priority.as_deref() == Some("3") { Stream::Stderr } else { Stream::Stdout };
    Some(Entry::new(stream, Timestamp::from_nanosecond(time_ns).ok()?.to_string(), text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, expected: Option<(Stream, &str, &str)>) {
        let selection = Selection { since_ns: Some(NANOSECONDS), until_ns: Some(3 * NANOSECONDS), lines: None };
        let found = serde_json::from_str(line).ok().and_then(|line| entry(line, &selection));
        let found = found.map(|entry| {
            let mut text = Vec::new();
            entry.push_text(&mut text);
            (entry.stream, String::from_utf8(entry.time.into_owned()).unwrap(), String::from_utf8(text).unwrap())
        });
        assert_eq!(
            found.as_ref().map(|(stream, time, text)| (*stream, time.as_str(), text.as_str())),
            expected,
            "{line}"
        );
    }

    #[test]
    fn reads_what_journalctl_prints() {
        check(
            r#"{"__REALTIME_TIMESTAMP":"2000001","PRIORITY":"3","MESSAGE":"a","_UID":"1"}"#,
            Some((Stream::Stderr, "1970-01-01T00:00:02.000001Z", "a\n")),
        );
        check(
            r#"{"__REALTIME_TIMESTAMP":"2000000","PRIORITY":"6","MESSAGE":[97,10],"CONTAINER_PARTIAL_MESSAGE":"true"}"#,
            Some((Stream::Stdout, "1970-01-01T00:00:02Z", "a\n")),
        );
        check(r#"{"__REALTIME_TIMESTAMP":"999999","MESSAGE":"early"}"#, None);
        check(r#"{"__REALTIME_TIMESTAMP":"3000001","MESSAGE":"late"}"#, None);
        check(r#"{"__REALTIME_TIMESTAMP":"2000000","MESSAGE":null}"#, None);
        check(r#"{"MESSAGE":"a"}"#, None);
    }

    #[test]
    fn pieces_of_a_line_are_one_line() {
        // From the newest: whether each ends its line.
        let check = |lines, ends: &[bool], expected: Option<&str>| {
            let mut cursors = Backwards { lines, begun: 0, first: None };
            let mut found = None;
            for (number, ends) in ends.iter().enumerate() {
                let text = format!(r#"{{"__CURSOR":"{number}","CONTAINER_PARTIAL_MESSAGE":"{}"}}"#, !ends);
                if cursors.is_past(serde_json::from_str(&text).unwrap()) {
                    found = cursors.first;
                    break;
                }
            }
            assert_eq!(found.as_deref(), expected, "{lines} of {ends:?}");
        };
        check(1, &[true, false, false, true], Some("2"));
        check(2, &[true, false, false, true], None);
        check(1, &[true, true], Some("0"));
        check(1, &[false, false, true], Some("1"));
        check(1, &[], None);
    }
}
