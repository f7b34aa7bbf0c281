//! Reading a log: from its beginning, from its last lines, or as it grows.
//!
//! Reading takes no lock. What is there when a reader is opened is read whole,
//! whatever rotation does meanwhile: the files are held open. A reader that
//! follows goes from file to file as they are rotated.

use std::collections::VecDeque;
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::blocks::{Blocks, Next};
use super::config::Rotation;
use super::files::{LogFile, Place};
use super::{Entry, tail};
use crate::error::{Context, Result};

/// Which entries are wanted. Times are nanoseconds after the epoch.
#[derive(Debug, Clone, Copy, Default)]
pub struct Selection {
    /// Only so many of the last lines.
    pub lines: Option<u64>,
    /// Not what was written before.
    pub since_ns: Option<i128>,
    /// Not what was written later.
    pub until_ns: Option<i128>,
}

/// What comes out of a log.
#[derive(Debug)]
pub enum Item<'a> {
    /// An entry.
    Entry(Entry<'a>),
    /// A line that is no entry was passed over: its file and offset.
    Skipped(PathBuf, u64),
    /// Files were rotated away before they could be read.
    Missed,
}

/// One container's log, being read.
#[derive(Debug)]
pub struct Reader {
    place: Place,
    filter: Filter,
    /// Still to be read, oldest first; the last one may grow.
    parts: VecDeque<Part>,
    blocks: Blocks,
    /// Whether to go on with what comes after.
    follows: bool,
}

#[derive(Debug)]
struct Part {
    file: LogFile,
    /// Where it ends for this reader; `None` where it ends for everybody.
    end: Option<u64>,
}

enum Step {
    Line(Range<usize>),
    Skipped(u64),
    Missed,
}

impl Reader {
    /// Opens the log of the container `id` in its `directory`. Without
    /// `follows` it ends where it ends now.
    pub fn open(directory: &Path, id: &str, rotation: &Rotation, selection: &Selection, follows: bool) -> Result<Self> {
        let place = Place { directory: directory.to_owned(), id: id.to_owned(), files: rotation.files };
        let filter = Filter { since_ns: selection.since_ns, until_ns: selection.until_ns, second: None };
        let mut reader = Self { place, filter, parts: VecDeque::new(), blocks: Blocks::default(), follows };
        let mut ends = Vec::new();
        for file in reader.place.open()? {
            let length = file.file.metadata()?.len();
            ends.push(length);
            // One that is written to all the time would have no end.
            reader.parts.push_back(Part { file, end: (!follows).then_some(length) });
        }
        if let Some(lines) = selection.lines {
            reader.skip_to_last(&ends, lines)?;
        }
        Ok(reader)
    }

    fn skip_to_last(&mut self, ends: &[u64], lines: u64) -> Result<()> {
        let files: Vec<_> = self.parts.iter().zip(ends).map(|(part, end)| (&part.file.file, *end)).collect();
        let filter = &mut self.filter;
        let (number, offset) = tail::start(&files, lines, |entry| filter.accepts(entry)).doing(|| "find its end")?;
        self.parts.drain(..number);
        self.blocks.seek(offset);
        Ok(())
    }

    /// The next entry that is wanted; `None` at the end, which for one who
    /// follows is the end for now.
    #[expect(clippy::should_implement_trait, reason = "an entry lives until the next call")]
    pub fn next(&mut self) -> Result<Option<Item<'_>>> {
        let Some(step) = self.step()? else { return Ok(None) };
        let path = || self.parts.front().map(|part| part.file.path.clone()).unwrap_or_default();
        Ok(Some(match step {
            Step::Missed => Item::Missed,
            Step::Skipped(offset) => Item::Skipped(path(), offset),
            Step::Line(line) => {
                let offset = self.blocks.offset().saturating_sub(line.len() as u64 + 1);
                match Entry::parse(self.blocks.bytes(line)) {
                    Some(entry) => Item::Entry(entry),
                    None => Item::Skipped(path(), offset),
                }
            }
        }))
    }

    fn step(&mut self) -> Result<Option<Step>> {
        loop {
            if self.parts.is_empty() {
                // A container that is being started has no file yet.
                self.find_newer(None)?;
            }
            let Some(part) = self.parts.front() else { return Ok(None) };
            // Not `doing`: a result of this size is not moved about for each line.
            let next = match self.blocks.next(&part.file.file, part.end) {
                Ok(next) => next,
                Err(failure) => return Err(failure.doing(format!("read {}", part.file.path.display()))),
            };
            match next {
                Next::TooLong => return Ok(Some(Step::Skipped(self.blocks.offset()))),
                Next::Line(line) => {
                    if self.filter.is_open() || self.filter.accepts_line(self.blocks.bytes(line.clone())) {
                        return Ok(Some(Step::Line(line)));
                    }
                }
                Next::End if self.parts.len() > 1 => {
                    self.parts.pop_front();
                    self.blocks.seek(0);
                }
                Next::End => {
                    let identity = part.file.identity;
                    if !self.follows || !self.has_moved_on()? {
                        return Ok(None);
                    }
                    if let Some(step) = self.find_newer(Some(identity))? {
                        return Ok(Some(step));
                    }
                }
            }
        }
    }

    /// Whether there is more to read than the last part had: a file that was
    /// begun after it, or it was emptied and begun anew.
    fn has_moved_on(&mut self) -> Result<bool> {
        let Some(part) = self.parts.back() else { return Ok(false) };
        if !self.place.is_newest(&part.file) {
            return Ok(true);
        }
        // `: > FILE`, which Docker's users know as a way to make room.
        if part.file.file.metadata()?.len() < self.blocks.offset() {
            self.blocks.seek(0);
        }
        Ok(false)
    }

    /// Takes in the files that came after the one that was `last`. That one is
    /// read to its end once more: only now is it known that it is not written
    /// to any more.
    fn find_newer(&mut self, last: Option<(u64, u64)>) -> Result<Option<Step>> {
        if !self.follows {
            return Ok(None);
        }
        let found = self.place.open()?;
        let known = found.iter().position(|file| Some(file.identity) == last);
        let newer = found.into_iter().skip(known.map_or(0, |known| known + 1));
        self.parts.extend(newer.map(|file| Part { file, end: None }));
        // With one file the old one is always gone, and nothing is known.
        let is_missed = last.is_some() && known.is_none() && self.place.files > 1;
        Ok(is_missed.then_some(Step::Missed))
    }
}

/// Times that are wanted.
#[derive(Debug)]
struct Filter {
    since_ns: Option<i128>,
    until_ns: Option<i128>,
    /// The second of the last time, as text and as a number: the next one is
    /// mostly the same.
    second: Option<(Vec<u8>, i128)>,
}

impl Filter {
    /// Whether everything is wanted.
    fn is_open(&self) -> bool {
        self.since_ns.is_none() && self.until_ns.is_none()
    }

    /// What is no entry, or has no time, is not held back.
    fn accepts_line(&mut self, line: &[u8]) -> bool {
        Entry::parse(line).is_none_or(|entry| self.accepts(&entry))
    }

    fn accepts(&mut self, entry: &Entry<'_>) -> bool {
        if self.is_open() {
            return true;
        }
        let Some(time_ns) = self.time_ns(entry) else { return true };
        // A clock may have been set back: what comes after may still be wanted.
        self.since_ns.is_none_or(|since_ns| time_ns >= since_ns)
            && self.until_ns.is_none_or(|until_ns| time_ns <= until_ns)
    }

    fn time_ns(&mut self, entry: &Entry<'_>) -> Option<i128> {
        self.usual_time_ns(&entry.time).or_else(|| entry.time_ns())
    }

    /// `2026-01-02T15:04:05.999Z` in the second of the last one.
    fn usual_time_ns(&mut self, time: &[u8]) -> Option<i128> {
        let (second, fraction) = time.strip_suffix(b"Z")?.split_at_checked(19)?;
        let digits = match fraction {
            [] => fraction,
            [b'.', digits @ ..] if digits.len() <= 9 => digits,
            _ => return None,
        };
        let nanoseconds = (0..9).try_fold(0_i128, |value, at| match digits.get(at) {
            None => Some(value * 10),
            Some(digit) => Some(value * 10 + i128::from(char::from(*digit).to_digit(10)?)),
        })?;
        if let Some((text, second_ns)) = &self.second
            && text == second
        {
            return Some(second_ns + nanoseconds);
        }
        let whole = std::str::from_utf8(second).ok()?;
        let second_ns = format!("{whole}Z").parse::<jiff::Timestamp>().ok()?.as_nanosecond();
        self.second = Some((second.to_vec(), second_ns));
        Some(second_ns + nanoseconds)
    }
}
