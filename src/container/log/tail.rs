//! Where the last N lines of a log begin: read backwards, in blocks.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use super::Entry;
use crate::error::Result;
use crate::limits;

/// Bytes read at once. `--tail 10` needs one block.
const BLOCK: u64 = 64 << 10;

/// The place where the last `count` lines begin that `accept` takes: which of
/// `files` (oldest first, each with its length) and the offset in it. Pieces of
/// one long line are one line.
pub(super) fn start(
    files: &[(&File, u64)],
    count: u64,
    mut accept: impl FnMut(&Entry<'_>) -> bool,
) -> Result<(usize, u64)> {
    let mut lines = 0;
    let mut start = files.last().map_or((0, 0), |(_, length)| (files.len() - 1, *length));
    let mut is_last = true;
    for (number, (file, length)) in files.iter().enumerate().rev() {
        let mut backwards = Backwards::new(file, *length);
        while let Some((offset, line)) = backwards.previous()? {
            let bytes = backwards.window.get(line).unwrap_or_default();
            let Some(entry) = Entry::parse(bytes).filter(&mut accept) else { continue };
            if entry.ends_line() || is_last {
                if lines == count {
                    return Ok(start);
                }
                lines += 1;
            }
            is_last = false;
            start = (number, offset);
        }
    }
    Ok(start)
}

/// The lines of one file, from the last to the first.
struct Backwards<'a> {
    file: &'a File,
    window: Vec<u8>,
    /// The offset in the file where the window begins.
    at: u64,
    /// Where in the window the last line ends that is not handed out; the byte
    /// before it is a line end.
    end: usize,
    /// Whether what has no line end was cut off the end of the file.
    is_trimmed: bool,
}

impl<'a> Backwards<'a> {
    fn new(file: &'a File, length: u64) -> Self {
        Self { file, window: Vec::new(), at: length, end: 0, is_trimmed: false }
    }

    /// The offset of the line before, and where it is in the window.
    fn previous(&mut self) -> Result<Option<(u64, Range<usize>)>> {
        loop {
            let before = self.window.get(..self.end).unwrap_or_default();
            let before = if self.is_trimmed { before.strip_suffix(b"\n").unwrap_or(before) } else { before };
            match memchr::memrchr(b'\n', before) {
                Some(at) if !self.is_trimmed => (self.end, self.is_trimmed) = (at + 1, true),
                Some(at) => {
                    let line = at + 1..before.len();
                    self.end = at + 1;
                    return Ok(Some((self.at + at as u64 + 1, line)));
                }
                None if self.at == 0 => {
                    let line = 0..before.len();
                    let is_line = self.is_trimmed && self.end > 0;
                    self.end = 0;
                    return Ok(is_line.then_some((0, line)));
                }
                None => self.load()?,
            }
        }
    }

    /// Puts the block before in front.
    fn load(&mut self) -> Result<()> {
        let count = self.at.min(BLOCK);
        self.window.truncate(self.end);
        if self.window.len() > limits::LOG_ENTRY_BYTES_MAX {
            // No entry: only its end is needed, to have one.
            self.window.splice(.., if self.is_trimmed { Some(b'\n') } else { None });
        }
        let mut block = vec![0; count as usize];
        self.file.read_exact_at(&mut block, self.at - count)?;
        self.window.splice(..0, block);
        self.end = self.window.len();
        self.at -= count;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn file(text: &str) -> (File, u64) {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        (file, text.len() as u64)
    }

    fn entry(text: &str) -> String {
        format!("{{\"log\":\"{text}\",\"stream\":\"stdout\",\"time\":\"2026-01-02T15:04:05Z\"}}\n")
    }

    fn check(texts: &[&str], count: u64, expected: (usize, u64)) {
        let files: Vec<(File, u64)> = texts.iter().map(|text| file(text)).collect();
        let files: Vec<(&File, u64)> = files.iter().map(|(file, length)| (file, *length)).collect();
        assert_eq!(start(&files, count, |_| true).unwrap(), expected, "{count}");
    }

    #[test]
    fn counts_lines_from_the_end() {
        let line = entry(r"a\n");
        let size = line.len() as u64;
        let five = line.repeat(5);
        for count in 0..=5 {
            check(&[&five], count, (0, (5 - count) * size));
        }
        check(&[&five], 99, (0, 0));
        check(&[&five, &line], 3, (0, 3 * size));
        check(&[&five, &line], 1, (1, 0));
        check(&[&five, "", &line], 2, (0, 4 * size));
        check(&[&five, ""], 1, (0, 4 * size));
        check(&[], 1, (0, 0));
        check(&[""], 1, (0, 0));
    }

    #[test]
    fn a_line_in_pieces_is_one() {
        let (piece, last, line) = (entry("a"), entry(r"b\n"), entry(r"c\n"));
        let text = [line.as_str(), &piece, &piece, &last].concat();
        check(&[&text], 1, (0, line.len() as u64));
        // One that has not ended yet counts, too.
        let text = [line.as_str(), &line, &piece].concat();
        check(&[&text], 1, (0, 2 * line.len() as u64));
        check(&[&text], 2, (0, line.len() as u64));
    }

    #[test]
    fn what_is_no_entry_is_not_counted() {
        let line = entry(r"a\n");
        let size = line.len() as u64;
        let junk = "x".repeat(2 * limits::LOG_ENTRY_BYTES_MAX);
        check(&[&format!("{line}junk\n{line}{{\"torn")], 2, (0, 0));
        check(&[&format!("{line}{junk}\n{line}")], 1, (0, size + junk.len() as u64 + 1));
        check(&[&format!("{line}{junk}\n{line}")], 2, (0, 0));
        check(&[&format!("{line}{junk}")], 1, (0, 0));
        check(&[&junk], 1, (0, junk.len() as u64));
    }
}
