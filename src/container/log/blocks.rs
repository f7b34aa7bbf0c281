//! Lines of a file, read forwards in large blocks.
//!
//! Only whole lines are handed on. What has no end yet is read again the next
//! time: it is being written, or may be cut off by who mends the file.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use crate::error::Result;
use crate::limits;

/// Bytes read at once: enough for the disk, little enough for the cache.
const BLOCK: usize = 256 << 10;

/// A place in a file, and what was read ahead of it.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    buffer: Vec<u8>,
    /// What is not handed on yet.
    ready: Range<usize>,
    /// Up to where there is no line end in `ready`.
    searched: usize,
    /// The offset in the file where `ready` begins.
    offset: u64,
    /// In the middle of a line that is too long.
    skips: bool,
}

/// What came next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// A line, without its end: [`Blocks::bytes`] has it until the next call.
    Line(Range<usize>),
    /// A line longer than `limits::LOG_ENTRY_BYTES_MAX` has ended.
    TooLong,
    /// The file has no more, for now.
    End,
}

impl Blocks {
    /// Goes to another place, in this file or another.
    pub(super) fn seek(&mut self, offset: u64) {
        (self.ready, self.searched, self.offset, self.skips) = (0..0, 0, offset, false);
    }

    /// The offset in the file of what comes next.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// The bytes of a line that was just found.
    pub(super) fn bytes(&self, line: Range<usize>) -> &[u8] {
        self.buffer.get(line).unwrap_or_default()
    }

    /// Finds the next line of `file`, which ends at `end` if that is given.
    pub(super) fn next(&mut self, file: &File, end: Option<u64>) -> Result<Next> {
        loop {
            let unsearched = self.bytes(self.searched..self.ready.end);
            if let Some(at) = memchr::memchr(b'\n', unsearched) {
                let line = self.ready.start..self.searched + at;
                self.pass(line.len() + 1);
                self.searched = self.ready.start;
                return Ok(if std::mem::take(&mut self.skips) { Next::TooLong } else { Next::Line(line) });
            }
            self.searched = self.ready.end;
            if self.skips || self.ready.len() > limits::LOG_ENTRY_BYTES_MAX {
                self.skips = true;
                self.pass(self.ready.len());
            }
            if self.fill(file, end)? == 0 {
                // Read again when there is more.
                (self.ready, self.searched) = (0..0, 0);
                return Ok(Next::End);
            }
        }
    }

    fn pass(&mut self, count: usize) {
        self.ready.start += count;
        self.offset += count as u64;
    }

    fn fill(&mut self, file: &File, end: Option<u64>) -> Result<usize> {
        self.buffer.resize(limits::LOG_ENTRY_BYTES_MAX + BLOCK, 0);
        self.buffer.copy_within(self.ready.clone(), 0);
        self.ready = 0..self.ready.len();
        self.searched = self.ready.end;
        let from = self.offset + self.ready.len() as u64;
        let most = end.map_or(BLOCK as u64, |end| end.saturating_sub(from).min(BLOCK as u64));
        let room = self.ready.end..self.ready.end + most as usize;
        loop {
            match file.read_at(self.buffer.get_mut(room.clone()).unwrap_or_default(), from) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                result => {
                    let count = result?;
                    self.ready.end += count;
                    return Ok(count);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn all(blocks: &mut Blocks, file: &File, end: Option<u64>) -> Vec<Option<usize>> {
        std::iter::from_fn(|| match blocks.next(file, end).unwrap() {
            Next::Line(line) => Some(Some(blocks.bytes(line).len())),
            Next::TooLong => Some(None),
            Next::End => None,
        })
        .collect()
    }

    #[test]
    fn finds_lines_across_blocks_and_growth() {
        let mut file = tempfile::tempfile().unwrap();
        let mut blocks = Blocks::default();
        let lengths = [0, 1, 100_000, BLOCK, 200_000, 3];
        for length in lengths {
            file.write_all(&vec![b'x'; length]).unwrap();
            file.write_all(b"\n").unwrap();
        }
        file.write_all(b"torn").unwrap();
        assert_eq!(all(&mut blocks, &file, None), lengths.map(Some));
        file.write_all(b"-or-not\n").unwrap();
        assert_eq!(all(&mut blocks, &file, None), [Some(11)]);
        assert_eq!(blocks.offset(), file.metadata().unwrap().len());
        blocks.seek(1);
        assert_eq!(all(&mut blocks, &file, Some(4)), [Some(1)]);
        assert_eq!(blocks.offset(), 3);
    }

    #[test]
    fn lines_without_end_are_passed_over() {
        let mut file = tempfile::tempfile().unwrap();
        let mut blocks = Blocks::default();
        file.write_all(&vec![b'x'; 3 * limits::LOG_ENTRY_BYTES_MAX]).unwrap();
        assert_eq!(all(&mut blocks, &file, None), []);
        file.write_all(b"x\ny\n").unwrap();
        assert_eq!(all(&mut blocks, &file, None), [None, Some(1)]);
        assert!(blocks.buffer.len() <= limits::LOG_ENTRY_BYTES_MAX + BLOCK);
    }
}
