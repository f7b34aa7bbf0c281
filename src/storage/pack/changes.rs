//! What the walk finds, as a list: the stage writes it, the command reads it.
//!
//! One letter and a path for each change, ended by a NUL, which no path holds.

use std::io::Write;

use nix::sys::stat::FileStat;
use serde::{Deserialize, Serialize};

use super::walk::{Difference, Directory, Found, Sink};
use crate::error::{Failure, Result};

/// How a path changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// It is another than it was, or a directory in which something changed.
    Changed,
    /// There was nothing.
    Added,
    /// There is nothing any more.
    Deleted,
}

impl Kind {
    /// The letter that `docker diff` prints.
    pub fn letter(self) -> char {
        match self {
            Self::Changed => 'C',
            Self::Added => 'A',
            Self::Deleted => 'D',
        }
    }
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// How.
    pub kind: Kind,
    /// What, as seen in the container: begins with a slash. Any bytes but NUL.
    pub path: Vec<u8>,
}

/// Reads the list that [`super::pack`] writes; sorted by path.
pub fn parse(bytes: &[u8]) -> Result<Vec<Change>> {
    let mut changes = Vec::new();
    for line in bytes.split(|byte| *byte == 0).filter(|line| !line.is_empty()) {
        let kind = match line.first() {
            Some(b'C') => Kind::Changed,
            Some(b'A') => Kind::Added,
            Some(b'D') => Kind::Deleted,
            _ => return Err(Failure::bug("a change of no kind")),
        };
        changes.push(Change { kind, path: line.split_at(1).1.to_vec() });
    }
    changes.sort_by(|one, other| by_components(&one.path, &other.path));
    Ok(changes)
}

/// A directory stands before what is in it, and that before its next sibling.
fn by_components(one: &[u8], other: &[u8]) -> std::cmp::Ordering {
    let parts = |path| <[u8]>::split(path, |byte: &u8| *byte == b'/');
    parts(one).cmp(parts(other))
}

/// A list under way.
pub(super) struct List<W> {
    output: W,
    count: u64,
}

impl<W: Write> List<W> {
    pub(super) fn new(output: W) -> Self {
        Self { output, count: 0 }
    }

    /// How many changes were written.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    fn write(&mut self, kind: Kind, parts: &[&[u8]]) -> Result<()> {
        self.count += 1;
        let mut line = vec![kind.letter() as u8];
        for part in parts.iter().filter(|part| !part.is_empty()) {
            line.push(b'/');
            line.extend_from_slice(part);
        }
        line.push(0);
        Ok(self.output.write_all(&line)?)
    }
}

impl From<Difference> for Kind {
    fn from(difference: Difference) -> Self {
        match difference {
            Difference::Added => Self::Added,
            Difference::Modified | Difference::Within => Self::Changed,
        }
    }
}

impl<W: Write> Sink for List<W> {
    /// The root, whose path is empty, is not told of: docker does not either.
    fn directory(&mut self, directory: &Directory<'_>) -> Result<()> {
        if directory.path.is_empty() {
            return Ok(());
        }
        self.write(directory.difference.into(), &[directory.path])
    }

    fn takes(&mut self, _: &FileStat) -> bool {
        true
    }

    fn file(&mut self, found: &Found<'_>) -> Result<bool> {
        self.write(found.difference.into(), &[found.path])?;
        Ok(true)
    }

    // A list holds nothing of what it names.
    fn unread(&mut self) {}

    fn deleted(&mut self, parent: &[u8], names: &[&[u8]], _: bool) -> Result<()> {
        names.iter().try_for_each(|name| self.write(Kind::Deleted, &[parent, name]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut bytes = Vec::new();
        let mut list = List::new(&mut bytes);
        list.write(Kind::Changed, &[b"etc"]).unwrap();
        list.write(Kind::Deleted, &[b"etc", b"motd"]).unwrap();
        list.write(Kind::Added, &[b"etc/a\nb\xff"]).unwrap();
        list.write(Kind::Deleted, &[b"", b"etc-old"]).unwrap();
        assert_eq!(list.count(), 4);
        let found = parse(&bytes).unwrap();
        let lines: Vec<_> = found.iter().map(|change| (change.kind.letter(), change.path.as_slice())).collect();
        let expected = [('C', &b"/etc"[..]), ('A', b"/etc/a\nb\xff"), ('D', b"/etc/motd"), ('D', b"/etc-old")];
        assert_eq!(lines, expected);
        assert!(parse(b"X/a\0").is_err());
    }
}
