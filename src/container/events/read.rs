//! Reading events, those that are there and those that come.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use super::{CURRENT, Event, PREVIOUS, identity};
use crate::error::{Context, Result};
use crate::limits;
use crate::paths::Paths;

/// What every line begins with. Within a line it cannot stand: there, quotes
/// are escaped.
const START: &[u8] = b"{\"ns\":";

/// Bytes that are read at once.
const CHUNK: usize = 64 << 10;

/// A place in the events.
pub struct Reader {
    paths: Paths,
    /// The files that may still be written to, oldest first: the previous one
    /// and the current one, as far as there are any.
    tails: Vec<Tail>,
}

/// A file and how far it was read.
struct Tail {
    file: File,
    identity: (u64, u64),
    /// A line whose end was not there yet.
    begun: Vec<u8>,
}

impl Reader {
    /// Begins with what there is, or with what comes from now on.
    pub fn open(paths: &Paths, from_now: bool) -> Result<Self> {
        let mut reader = Self { paths: paths.clone(), tails: Vec::new() };
        reader.find_files()?;
        if from_now {
            for tail in &mut reader.tails {
                tail.file.seek(SeekFrom::End(0)).doing(|| "read events")?;
            }
        }
        Ok(reader)
    }

    /// Passes on all that was not read yet, roughly in the order in which it
    /// was written.
    pub fn read(&mut self, take: &mut dyn FnMut(Event)) -> Result<()> {
        self.find_files()?;
        for tail in &mut self.tails {
            tail.read(take).doing(|| "read events")?;
        }
        // What is older has no name any more.
        let old = self.tails.len().saturating_sub(2);
        self.tails.drain(..old);
        Ok(())
    }

    /// Opens the files that are not open yet.
    fn find_files(&mut self) -> Result<()> {
        // The current one first: if it becomes the previous one now, it is open
        // already, and the new one is found the next time.
        let current = self.open_new(CURRENT)?;
        let previous = self.open_new(PREVIOUS)?;
        let is_same = |tail: &Tail| current.as_ref().is_some_and(|current| current.identity == tail.identity);
        self.tails.extend(previous.filter(|previous| !is_same(previous)));
        self.tails.extend(current);
        Ok(())
    }

    fn open_new(&self, name: &str) -> Result<Option<Tail>> {
        let path = self.paths.events().join(name);
        let is_open = |path: &Path| -> io::Result<bool> {
            let identity = identity(&fs::metadata(path)?);
            Ok(self.tails.iter().any(|tail| tail.identity == identity))
        };
        match is_open(&path).and_then(|is_open| if is_open { Ok(None) } else { Tail::open(&path).map(Some) }) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            // Replaced meanwhile by one that is open.
            Ok(Some(tail)) if self.tails.iter().any(|other| other.identity == tail.identity) => Ok(None),
            result => result.doing(|| format!("read {}", path.display())),
        }
    }
}

impl Tail {
    fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let identity = identity(&file.metadata()?);
        Ok(Self { file, identity, begun: Vec::new() })
    }

    fn read(&mut self, take: &mut dyn FnMut(Event)) -> io::Result<()> {
        let mut chunk = vec![0; CHUNK];
        loop {
            let count = self.file.read(&mut chunk)?;
            if count == 0 {
                return Ok(());
            }
            let mut rest = chunk.get(..count).unwrap_or_default();
            while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                let (line, after) = rest.split_at(end);
                self.begun.extend_from_slice(line);
                parse(&self.begun).into_iter().for_each(&mut *take);
                self.begun.clear();
                rest = after.get(1..).unwrap_or_default();
            }
            // What has no end is no line of ours.
            if self.begun.len() <= limits::EVENT_BYTES_MAX {
                self.begun.extend_from_slice(rest);
            }
        }
    }
}

/// The event of a line; one that stands behind a torn one is found.
fn parse(line: &[u8]) -> Option<Event> {
    let start = line.windows(START.len()).rposition(|window| window == START)?;
    serde_json::from_slice(line.get(start..)?).ok()
}
