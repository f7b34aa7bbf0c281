//! One line of a json-file log: Docker's JSON object, written and read.
//!
//! ```text
//! {"log":"hello\n","stream":"stdout","attrs":{"tag":"web"},"time":"2026-01-02T15:04:05.999999999Z"}
//! ```
//! `log` is text as JSON can hold it: each byte that is no UTF-8 is U+FFFD, as
//! with Docker. A long line is several entries, of which only the last has
//! `\n`. `attrs` is there where `--log-opt` asked for it.
//!
//! A log of a GiB has millions of these, so both ways are written by hand for
//! the form above; what is JSON of another form is read by serde_json.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::Stream;
use super::lines::Line;

const HEAD: &[u8] = br#"{"log":""#;

/// Appends an entry to `out`. `tail` is [`tail`] of its stream and time.
pub(super) fn push(out: &mut Vec<u8>, line: Line<'_>, tail: &[u8]) {
    out.extend_from_slice(HEAD);
    push_escaped(out, line.text);
    if line.ends {
        out.extend_from_slice(br"\n");
    }
    out.extend_from_slice(tail);
}

/// What follows the text of an entry: the same for all of one moment.
/// `attributes` is empty or a JSON object.
pub(super) fn tail(stream: Stream, attributes: &str, time: jiff::Timestamp) -> Vec<u8> {
    let (before, after) = if attributes.is_empty() { ("", "") } else { (r#","attrs":"#, attributes) };
    // jiff prints RFC 3339 with as many digits as there are, as Go's RFC3339Nano does.
    format!("\",\"stream\":\"{}\"{before}{after},\"time\":\"{time}\"}}\n", stream.name()).into_bytes()
}

/// How many bytes from the start of `bytes` stand for themselves in JSON and
/// are ASCII.
fn plain_length(bytes: &[u8]) -> usize {
    /// All eight bytes, or the high bit of all eight.
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = 0x8080_8080_8080_8080;
    let mut length = 0;
    for chunk in bytes.chunks_exact(8) {
        let Ok(eight) = chunk.try_into().map(u64::from_le_bytes) else { break };
        // The usual tricks: a byte that was zero borrows into its high bit. A
        // borrow may mark a neighbour too, which the loop below finds out.
        let is_zero = |word: u64| word.wrapping_sub(ONES) & !word;
        let below_space = eight.wrapping_sub(ONES * 0x20) & !eight;
        let quote = is_zero(eight ^ (ONES * u64::from(b'"')));
        let backslash = is_zero(eight ^ (ONES * u64::from(b'\\')));
        if (eight | below_space | quote | backslash) & HIGHS != 0 {
            break;
        }
        length += 8;
    }
    let is_plain = |byte: &u8| matches!(byte, 0x20..0x80) && !matches!(byte, b'"' | b'\\');
    length + bytes.get(length..).unwrap_or_default().iter().take_while(|byte| is_plain(byte)).count()
}

fn push_escaped(out: &mut Vec<u8>, text: &[u8]) {
    let mut rest = text;
    loop {
        let (plain, special) = rest.split_at(plain_length(rest));
        out.extend_from_slice(plain);
        let Some(first) = special.first() else { return };
        if first.is_ascii() {
            push_escape(out, *first);
            rest = special.get(1..).unwrap_or_default();
            continue;
        }
        let length = special.iter().position(u8::is_ascii).unwrap_or(special.len());
        let (foreign, after) = special.split_at(length);
        for chunk in foreign.utf8_chunks() {
            out.extend_from_slice(chunk.valid().as_bytes());
            if !chunk.invalid().is_empty() {
                out.extend_from_slice(br"\ufffd");
            }
        }
        rest = after;
    }
}

fn push_escape(out: &mut Vec<u8>, byte: u8) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    match byte {
        b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
        b'\n' => out.extend_from_slice(br"\n"),
        b'\r' => out.extend_from_slice(br"\r"),
        b'\t' => out.extend_from_slice(br"\t"),
        _ => {
            let digit = |value: u8| DIGITS.get(usize::from(value & 15)).copied().unwrap_or(b'0');
            out.extend_from_slice(&[b'\\', b'u', b'0', b'0', digit(byte >> 4), digit(byte)]);
        }
    }
}

/// An entry that was read.
#[derive(Debug)]
pub struct Entry<'a> {
    /// Where the program wrote it.
    pub stream: Stream,
    /// When kelp read it: RFC 3339, not checked. Bytes, because most readers
    /// do not look at it.
    pub time: Cow<'a, [u8]>,
    /// What `--log-opt` added: a JSON object, as it stands in the file.
    pub attributes: Option<&'a str>,
    text: Text<'a>,
}

#[derive(Debug)]
enum Text<'a> {
    /// As it stands in the file, between the quotes; so many bytes have no escape.
    Escaped(&'a [u8], usize),
    Plain(Cow<'a, [u8]>),
}

/// Any JSON that has what an entry has.
#[derive(Deserialize)]
struct Odd<'a> {
    #[serde(borrow, default)]
    log: Cow<'a, str>,
    #[serde(borrow, default)]
    stream: Cow<'a, str>,
    #[serde(borrow)]
    time: Cow<'a, str>,
    #[serde(borrow, default)]
    attrs: Option<&'a RawValue>,
}

impl<'a> Entry<'a> {
    /// An entry that comes from elsewhere than a file.
    pub fn new(stream: Stream, time: String, text: Vec<u8>) -> Self {
        Self { stream, time: Cow::Owned(time.into_bytes()), attributes: None, text: Text::Plain(Cow::Owned(text)) }
    }

    /// Reads one line, without its end. `None` if it is no entry.
    pub fn parse(line: &'a [u8]) -> Option<Self> {
        Self::parse_usual(line).or_else(|| Self::parse_odd(line))
    }

    /// The form in which Docker and kelp write. That the text is UTF-8 is not
    /// checked: what is printed is bytes.
    fn parse_usual(line: &'a [u8]) -> Option<Self> {
        let rest = line.strip_prefix(HEAD)?;
        let (length, plain) = string_length(rest)?;
        let (text, rest) = rest.split_at_checked(length)?;
        let rest = rest.strip_prefix(br#"","stream":"std"#)?;
        let (stream, rest) = match rest.strip_prefix(b"out\"") {
            Some(rest) => (Stream::Stdout, rest),
            None => (Stream::Stderr, rest.strip_prefix(b"err\"")?),
        };
        let (attributes, rest) = match rest.strip_prefix(br#","attrs":"#) {
            Some(rest) => {
                let (object, rest) = rest.split_at_checked(object_length(rest)?)?;
                (Some(std::str::from_utf8(object).ok()?), rest)
            }
            None => (None, rest),
        };
        let time = rest.strip_prefix(br#","time":""#)?.strip_suffix(br#""}"#)?;
        // Of these bytes there is no way out of the string.
        let is_time = time.len() <= 40 && time.iter().all(|byte| matches!(byte, b'+'..=b':' | b'T' | b'Z'));
        let (time, text) = (Cow::Borrowed(time), Text::Escaped(text, plain));
        is_time.then_some(Self { stream, time, attributes, text })
    }

    fn parse_odd(line: &'a [u8]) -> Option<Self> {
        let odd: Odd<'a> = serde_json::from_slice(line).ok()?;
        let stream = match odd.stream.as_ref() {
            "stdout" | "" => Stream::Stdout,
            "stderr" => Stream::Stderr,
            _ => return None,
        };
        let bytes = |text| match text {
            Cow::Borrowed(text) => Cow::Borrowed(str::as_bytes(text)),
            Cow::Owned(text) => Cow::Owned(String::into_bytes(text)),
        };
        let attributes = odd.attrs.map(RawValue::get).filter(|attributes| *attributes != "null");
        Some(Self { stream, time: bytes(odd.time), attributes, text: Text::Plain(bytes(odd.log)) })
    }

    /// When it was, in nanoseconds after the epoch; `None` if that is no time.
    pub fn time_ns(&self) -> Option<i128> {
        std::str::from_utf8(&self.time).ok()?.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_nanosecond)
    }

    /// Whether a line of the program ends here.
    pub fn ends_line(&self) -> bool {
        match &self.text {
            Text::Plain(text) => text.ends_with(b"\n"),
            // An odd number of backslashes: `\\n` is a backslash and an n.
            Text::Escaped(text, _) => text
                .strip_suffix(b"n")
                .is_some_and(|text| text.iter().rev().take_while(|byte| **byte == b'\\').count() % 2 == 1),
        }
    }

    /// Appends what the program wrote. An escape that JSON does not have stands
    /// for U+FFFD.
    pub fn push_text(&self, out: &mut Vec<u8>) {
        let (text, mut plain) = match &self.text {
            Text::Plain(text) => return out.extend_from_slice(text),
            Text::Escaped(text, plain) => (*text, *plain),
        };
        let mut rest = text;
        loop {
            let (before, escape) = rest.split_at(plain.min(rest.len()));
            out.extend_from_slice(before);
            if escape.is_empty() {
                return;
            }
            rest = escape.get(push_unescaped(out, escape)..).unwrap_or_default();
            plain = memchr::memchr(b'\\', rest).unwrap_or(rest.len());
        }
    }

    /// How long what the program wrote is, in bytes.
    pub(super) fn text_length(&self) -> u64 {
        let mut text = Vec::new();
        self.push_text(&mut text);
        text.len() as u64
    }
}

/// Appends what the escape that `escape` begins with stands for; returns its
/// length.
fn push_unescaped(out: &mut Vec<u8>, escape: &[u8]) -> usize {
    let byte = match escape.get(1) {
        Some(b'n') => b'\n',
        Some(b'r') => b'\r',
        Some(b't') => b'\t',
        Some(byte @ (b'"' | b'\\' | b'/')) => *byte,
        Some(b'b') => 8,
        Some(b'f') => 12,
        Some(b'u') => return push_code(out, escape),
        _ => {
            push_char(out, char::REPLACEMENT_CHARACTER);
            return 2;
        }
    };
    out.push(byte);
    2
}

/// `\uXXXX`, or two of them that are one character (RFC 8259, section 7).
fn push_code(out: &mut Vec<u8>, escape: &[u8]) -> usize {
    let unit = |at: usize| {
        let digits = escape.get(at..)?.strip_prefix(br"\u")?.get(..4)?;
        digits.iter().try_fold(0, |value, digit| Some(value << 4 | char::from(*digit).to_digit(16)?))
    };
    let (first, second) = (unit(0), unit(6));
    if let (Some(high @ 0xd800..0xdc00), Some(low @ 0xdc00..0xe000)) = (first, second) {
        let code = 0x1_0000 + ((high - 0xd800) << 10) + (low - 0xdc00);
        push_char(out, char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
        return 12;
    }
    push_char(out, first.and_then(char::from_u32).unwrap_or(char::REPLACEMENT_CHARACTER));
    if first.is_some() { 6 } else { 2 }
}

fn push_char(out: &mut Vec<u8>, character: char) {
    out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
}

/// The length of a JSON string up to its closing quote, and how much of it has
/// no escape.
fn string_length(bytes: &[u8]) -> Option<(usize, usize)> {
    let (mut at, mut plain) = (0, None);
    loop {
        at += memchr::memchr2(b'"', b'\\', bytes.get(at..)?)?;
        if bytes.get(at) == Some(&b'"') {
            return Some((at, plain.unwrap_or(at)));
        }
        plain.get_or_insert(at);
        at += 2;
    }
}

/// The length of a JSON object of strings that begins here.
fn object_length(bytes: &[u8]) -> Option<usize> {
    let mut at = 1;
    bytes.strip_prefix(b"{")?;
    loop {
        match bytes.get(at)? {
            b'}' => return Some(at + 1),
            b'"' => at += 2 + string_length(bytes.get(at + 1..)?)?.0,
            b',' | b':' => at += 1,
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn time() -> jiff::Timestamp {
        "2026-01-02T15:04:05.12Z".parse().unwrap()
    }

    fn written(text: &[u8], ends: bool, attributes: &str) -> String {
        let mut out = Vec::new();
        push(&mut out, Line { text, ends }, &tail(Stream::Stderr, attributes, time()));
        String::from_utf8(out).unwrap()
    }

    fn read(line: &str) -> Option<(String, Stream, String, bool)> {
        let entry = Entry::parse(line.as_bytes())?;
        let mut text = Vec::new();
        entry.push_text(&mut text);
        let is_end = entry.ends_line();
        assert_eq!(is_end, text.ends_with(b"\n"), "{line}");
        Some((String::from_utf8(text).unwrap(), entry.stream, entry.attributes.unwrap_or_default().to_owned(), is_end))
    }

    #[test]
    fn writes_dockers_form() {
        assert_eq!(
            written(b"a \"b\" \\ \x1b[1m\t\r caf\xc3\xa9 \xff\xfe <&>", true, ""),
            "{\"log\":\"a \\\"b\\\" \\\\ \\u001b[1m\\t\\r caf\u{e9} \\ufffd\\ufffd <&>\\n\",\"stream\":\"stderr\",\
             \"time\":\"2026-01-02T15:04:05.12Z\"}\n"
        );
        assert_eq!(
            written(b"", false, r#"{"tag":"web"}"#),
            "{\"log\":\"\",\"stream\":\"stderr\",\"attrs\":{\"tag\":\"web\"},\"time\":\"2026-01-02T15:04:05.12Z\"}\n"
        );
    }

    #[test]
    fn reads_what_docker_and_others_write() {
        let rest = r#","stream":"stdout","time":"2026-01-02T15:04:05Z"}"#;
        for (log, expected) in [
            (r#"a\n"#, "a\n"),
            (r#"a\\n"#, "a\\n"),
            (r#"a\\\n"#, "a\\\n"),
            (r#"\u003ca\u0026\u003e\u0009"#, "<a&>\t"),
            (r#"\ud83d\ude00 \ufffd\/\b\f"#, "\u{1f600} \u{fffd}/\u{8}\u{c}"),
            ("", ""),
        ] {
            let found = read(&format!(r#"{{"log":"{log}"{rest}"#)).unwrap();
            assert_eq!((found.0.as_str(), found.1), (expected, Stream::Stdout), "{log}");
        }
        let odd = read(r#" { "time" : "2026-01-02T15:04:05Z", "stream":"stderr", "x":[1], "log":"\ud83d\ude00\n" } "#);
        assert_eq!(odd.unwrap(), ("\u{1f600}\n".to_owned(), Stream::Stderr, String::new(), true));
        let extra = r#"{"log":"x","stream":"stderr","attrs":{"a}\"":"b{","c":""},"time":"2026-01-02T15:04:05Z"}"#;
        assert_eq!(read(extra).unwrap().2, r#"{"a}\"":"b{","c":""}"#);
        let nested = r#"{"log":"x","stream":"stderr","attrs":{"a":{"b":1}},"time":"2026-01-02T15:04:05Z"}"#;
        assert_eq!(read(nested).unwrap().2, r#"{"a":{"b":1}}"#);
        assert!(read(r#"{"stream":"stderr","time":"2026-01-02T15:04:05Z"}"#).is_some());
    }

    #[test]
    fn what_is_no_entry_is_none() {
        for bad in [
            "",
            "hello",
            "{}",
            "null",
            r#"{"log":"a"#,
            r#"{"log":"a\"#,
            r#"{"log":"a","stream":"stdin","time":"2026-01-02T15:04:05Z"}"#,
            r#"{"log":"a","stream":"stdout","time":"2026-01-02T15:04:05Z""#,
            r#"{"log":"a","stream":"stdout","time":"2026-01-02T15:04:05Z"}}"#,
            r#"{"log":"a","stream":"stdout","attrs":{"time":"2026-01-02T15:04:05Z"}"#,
            r#"{"log":1,"stream":"stdout","time":"2026-01-02T15:04:05Z"}"#,
        ] {
            assert_eq!(read(bad), None, "{bad}");
        }
        assert!(Entry::parse(b"{\"stream\":\"stdout\",\"log\":\"\xff\",\"time\":\"2026-01-02T15:04:05Z\"}").is_none());
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(bytes in prop::collection::vec(prop_oneof![any::<u8>(), b' '..b'~', Just(b'\\'), Just(b'"')], 0..100), ends: bool) {
            let line: Vec<u8> = bytes.into_iter().filter(|byte| *byte != b'\n').collect();
            let found = written(&line, ends, r#"{"a":"b"}"#);
            let found = found.strip_suffix('\n').unwrap();
            prop_assert!(!found.contains('\n'));
            let (text, _, attributes, is_end) = read(found).unwrap();
            let expected = String::from_utf8_lossy(&line).into_owned() + if ends { "\n" } else { "" };
            prop_assert_eq!((&text, attributes.as_str(), is_end), (&expected, r#"{"a":"b"}"#, ends));
            // As everybody else reads it.
            let value: serde_json::Value = serde_json::from_str(found).unwrap();
            prop_assert_eq!(value["log"].as_str().unwrap(), expected);
        }

        #[test]
        fn never_panics(line in r#"(\{"log":")?[a"\\u{}:,0-9nd]{0,30}(","stream":"stdout")?(,"attrs":[{}"a,:]{0,9})?(,"time":"2026-01-02T15:04:05Z"\})?"#) {
            if let Some(entry) = Entry::parse(line.as_bytes()) {
                let mut text = Vec::new();
                entry.push_text(&mut text);
                std::str::from_utf8(&text).unwrap();
                entry.time_ns();
            }
        }
    }
}
