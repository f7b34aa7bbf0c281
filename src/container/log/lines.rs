//! A stream of bytes cut into lines, as Docker's copier cuts it
//! (moby, daemon/logger/copier.go): at line ends, and where a line is longer
//! than 16 KiB, there; what is cut has all bytes that came in.

use crate::limits;

/// One stream; holds the beginning of a line until the rest comes.
#[derive(Debug, Default)]
pub(super) struct Lines {
    pending: Vec<u8>,
}

/// A line, without its end, or a piece of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Line<'a> {
    /// The bytes; no line end.
    pub(super) text: &'a [u8],
    /// Whether the line ends here.
    pub(super) ends: bool,
}

impl Lines {
    /// Takes in what was read and hands on what it makes whole. How the bytes
    /// come in pieces makes no difference to what comes out.
    pub(super) fn feed(&mut self, bytes: &[u8], mut take: impl FnMut(Line<'_>)) {
        let mut rest = bytes;
        if !self.pending.is_empty() {
            rest = self.complete(bytes, &mut take);
        }
        while let Some(at) = memchr::memchr(b'\n', rest) {
            let (line, more) = rest.split_at(at);
            cut(line, true, &mut take);
            rest = more.get(1..).unwrap_or_default();
        }
        let rest = cut(rest, false, &mut take);
        self.pending.extend_from_slice(rest);
    }

    /// Completes what is pending; returns what follows.
    fn complete<'a>(&mut self, bytes: &'a [u8], take: &mut impl FnMut(Line<'_>)) -> &'a [u8] {
        let end = memchr::memchr(b'\n', bytes);
        let (line, rest) = bytes.split_at(end.unwrap_or(bytes.len()));
        // In steps: memory is bounded, however much comes at once.
        for piece in line.chunks(limits::LOG_LINE_BYTES) {
            self.pending.extend_from_slice(piece);
            let kept = cut(&self.pending, false, take).len();
            let gone = self.pending.len() - kept;
            self.pending.drain(..gone);
        }
        if end.is_some() {
            take(Line { text: &self.pending, ends: true });
            self.pending.clear();
        }
        rest.get(1..).unwrap_or_default()
    }

    /// Hands on what no line end came for, at the end of the stream.
    pub(super) fn finish(&mut self, mut take: impl FnMut(Line<'_>)) {
        if !self.pending.is_empty() {
            take(Line { text: &self.pending, ends: false });
        }
        self.pending = Vec::new();
    }
}

/// Hands on pieces while `line` is longer than one may be, then, if it ends,
/// the last; else returns what is left.
fn cut<'a>(line: &'a [u8], ends: bool, take: &mut impl FnMut(Line<'_>)) -> &'a [u8] {
    let mut rest = line;
    while rest.len() > limits::LOG_LINE_BYTES {
        let (text, more) = rest.split_at(boundary(rest, limits::LOG_LINE_BYTES));
        take(Line { text, ends: false });
        rest = more;
    }
    if ends {
        take(Line { text: rest, ends: true });
        return &[];
    }
    rest
}

/// The place at or shortly before `at` that cuts no character of UTF-8 in two;
/// in other encodings `at` itself.
fn boundary(bytes: &[u8], at: usize) -> usize {
    let is_continuation = |at: usize| bytes.get(at).is_some_and(|byte| byte & 0xc0 == 0x80);
    (at.saturating_sub(3)..=at).rev().find(|at| !is_continuation(*at)).unwrap_or(at)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MAX: usize = limits::LOG_LINE_BYTES;

    fn all(chunks: &[&[u8]]) -> Vec<(Vec<u8>, bool)> {
        let mut lines = Lines::default();
        let mut found = Vec::new();
        for chunk in chunks {
            lines.feed(chunk, |line| found.push((line.text.to_owned(), line.ends)));
            assert!(lines.pending.len() <= MAX);
        }
        lines.finish(|line| found.push((line.text.to_owned(), line.ends)));
        found
    }

    fn joined(lines: &[(Vec<u8>, bool)]) -> Vec<u8> {
        lines.iter().flat_map(|(text, ends)| [text.as_slice(), if *ends { b"\n" } else { b"" }].concat()).collect()
    }

    #[test]
    fn cuts_at_line_ends() {
        let line = |text: &str, ends| (text.as_bytes().to_owned(), ends);
        assert_eq!(all(&[b"a\nb\n\nc"]), [line("a", true), line("b", true), line("", true), line("c", false)]);
        assert_eq!(all(&[b"a", b"b", b"\n", b"\n"]), [line("ab", true), line("", true)]);
        assert_eq!(all(&[b"", b"a\nb", b"", b"c\n"]), [line("a", true), line("bc", true)]);
        assert_eq!(all(&[]), []);
    }

    #[test]
    fn long_lines_come_in_pieces() {
        let text = vec![b'x'; 2 * MAX];
        let lengths =
            |lines: &[(Vec<u8>, bool)]| lines.iter().map(|(text, ends)| (text.len(), *ends)).collect::<Vec<_>>();
        assert_eq!(lengths(&all(&[&text])), [(MAX, false), (MAX, false)]);
        assert_eq!(lengths(&all(&[&text, b"\n"])), [(MAX, false), (MAX, true)]);
        assert_eq!(lengths(&all(&[&text, b"x\n"])), [(MAX, false), (MAX, false), (1, true)]);
        // No character is cut in two.
        let text = "\u{20ac}".repeat(MAX);
        assert!(all(&[text.as_bytes()]).iter().all(|(piece, _)| std::str::from_utf8(piece).is_ok()));
        // What is no UTF-8 is cut where it must be.
        assert_eq!(lengths(&all(&[&vec![0x80; MAX + 1]])), [(MAX, false), (1, false)]);
    }

    proptest! {
        #[test]
        fn no_byte_is_lost_however_they_come(
            parts in prop::collection::vec(prop_oneof![
                prop::collection::vec(prop_oneof![Just(b'\n'), any::<u8>()], 0..40),
                (any::<u8>(), 0..3 * MAX).prop_map(|(byte, count)| vec![byte; count]),
            ], 0..8),
            cuts in prop::collection::vec(0..4 * MAX, 0..8),
        ) {
            let bytes = parts.concat();
            let whole = all(&[&bytes]);
            prop_assert_eq!(joined(&whole), bytes.clone());
            let mut chunks: Vec<&[u8]> = Vec::new();
            let mut rest = bytes.as_slice();
            for cut in cuts {
                let (chunk, more) = rest.split_at(cut.min(rest.len()));
                chunks.push(chunk);
                rest = more;
            }
            chunks.push(rest);
            prop_assert_eq!(all(&chunks), whole);
        }
    }
}
