//! `logs`: what containers said, from the beginning, from the last lines or as
//! it comes.
//!
//! Files are read as they lie. The journal is read by journalctl(1), which
//! knows what this user may see of it.

mod journalctl;

use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;

use self::journalctl::Journalctl;
use crate::container::log::{Driver, Entry, Item, Reader, Selection, Watch};
use crate::container::store::{self, Container};
use crate::error::{Context, Failure, Result};
use crate::paths::Paths;

/// How long one waits for more before looking whether the container is alive.
const IDLE: Duration = Duration::from_millis(200);

/// The same after something happened, so often: a container writes its last
/// line, then its record, then lets go of its lock.
const BUSY: Duration = Duration::from_millis(5);
const BUSY_TURNS: u32 = 20;

/// Where entries go.
pub trait Output {
    /// One entry of the container with this number.
    fn entry(&mut self, number: usize, entry: &Entry<'_>);
    /// There is nothing more for now.
    fn flush(&mut self);
    /// One line for the user.
    fn notice(&mut self, notice: &str);
}

/// The containers with these names; a failure if there is one less.
pub fn find(paths: &Paths, names: &[String]) -> Result<Vec<Container>> {
    names.iter().map(|name| store::find(paths, name)).collect()
}

/// Hands over the logs of `containers`: one after the other, or with `follows`
/// together and until all of them have ended.
pub fn read(containers: &[Container], selection: &Selection, follows: bool, output: &mut impl Output) -> Result<()> {
    // Before the first look: what comes after it is not missed.
    let watch = follows.then(|| Watch::new(containers.iter().map(|container| container.directory.as_path())));
    let open = |(number, container)| Source::open(number, container, selection, follows);
    let mut sources: Vec<Source> = containers.iter().enumerate().map(open).collect::<Result<_>>()?;
    let Some(watch) = watch else {
        sources.iter_mut().try_for_each(|source| source.drain(output))?;
        sources.iter().for_each(|source| source.tell_skipped(output));
        output.flush();
        return Ok(());
    };
    let mut busy = BUSY_TURNS;
    while !sources.is_empty() {
        let is_over = selection.until_ns.is_some_and(|until_ns| Timestamp::now().as_nanosecond() > until_ns);
        let mut still = Vec::new();
        for mut source in sources {
            // First the look, then the read: what is written before the end is read.
            let has_ended = is_over || !store::is_alive(&source.directory);
            if has_ended {
                source.finish(output)?;
            } else {
                source.drain(output)?;
                still.push(source);
            }
        }
        sources = still;
        output.flush();
        if !sources.is_empty() {
            let others: Vec<BorrowedFd<'_>> = sources.iter().filter_map(Source::fd).collect();
            let is_woken = watch.wait(&others, if busy > 0 { BUSY } else { IDLE });
            busy = if is_woken { BUSY_TURNS } else { busy.saturating_sub(1) };
        }
    }
    Ok(())
}

/// One container's log.
struct Source {
    number: usize,
    name: String,
    directory: PathBuf,
    from: From,
    /// Lines that were no entries.
    skipped: u64,
}

enum From {
    Files(Box<Reader>),
    Journal(Box<Journalctl>),
}

impl Source {
    fn open(number: usize, container: &Container, selection: &Selection, follows: bool) -> Result<Self> {
        let Container { directory, record } = container;
        let reading = || format!("read the log of container \"{}\"", record.name);
        let from = match &record.log.driver {
            Driver::JsonFile { rotation, .. } => {
                let reader = Reader::open(directory, &record.id, rotation, selection, follows).doing(reading)?;
                From::Files(Box::new(reader))
            }
            Driver::Journald { .. } => {
                From::Journal(Box::new(Journalctl::start(&record.id, selection, follows).doing(reading)?))
            }
            Driver::None => return Err(Failure::user("it keeps none (--log-driver none)").doing(reading())),
            Driver::Passthrough => {
                return Err(Failure::user("it keeps none: it has the streams of the command that started it")
                    .hint("run it without --rm, or with --log-driver json-file")
                    .doing(reading()));
            }
        };
        Ok(Self { number, name: record.name.clone(), directory: directory.clone(), from, skipped: 0 })
    }

    /// What to wait for beside the files.
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        match &self.from {
            From::Files(_) => None,
            From::Journal(journal) => Some(journal.fd()),
        }
    }

    /// Hands over what there is now.
    fn drain(&mut self, output: &mut impl Output) -> Result<()> {
        let reading = || format!("read the log of container \"{}\"", self.name);
        let reader = match &mut self.from {
            From::Files(reader) => reader,
            From::Journal(journal) => {
                let number = self.number;
                return journal.drain(|entry| output.entry(number, entry)).doing(reading);
            }
        };
        loop {
            // Not `doing`: a result of this size is not moved about for each line.
            match reader.next() {
                Ok(Some(Item::Entry(entry))) => output.entry(self.number, &entry),
                Ok(Some(Item::Skipped(path, offset))) => {
                    self.skipped += 1;
                    if self.skipped == 1 {
                        let path = path.display();
                        output.notice(&format!("what is at byte {offset} of {path} is no line of a log: passed over"));
                    }
                }
                Ok(Some(Item::Missed)) => output.notice(&format!(
                    "the log of \"{}\" was rotated faster than it was read: lines are missing here",
                    self.name
                )),
                Ok(None) => return Ok(()),
                Err(failure) => return Err(failure.doing(reading())),
            }
        }
    }

    /// The same for the last time.
    fn finish(&mut self, output: &mut impl Output) -> Result<()> {
        if let From::Journal(journal) = &mut self.from {
            journal.end_when_quiet();
        }
        self.drain(output)?;
        self.tell_skipped(output);
        Ok(())
    }

    fn tell_skipped(&self, output: &mut impl Output) {
        if self.skipped > 1 {
            output.notice(&format!("{} lines in the log of \"{}\" were passed over", self.skipped, self.name));
        }
    }
}
