//! The supervisor's end of a log: takes what the program writes, chunk by
//! chunk, and never fails or waits for anybody but the disk.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::config::{Config, Driver, Extras};
use super::journal::{self, Journal};
use super::json_file::{JsonFile, Shortfall};
use super::lines::{Line, Lines};
use super::lost::Lost;
use super::tag::Subject;
use super::{Entry, Stream, entry};
use crate::error::{Failure, Result};
use crate::limits;

/// The log of one container that is running.
///
/// Costs a few hundred bytes until something is written; then a batch
/// (`limits::LOG_BATCH_BYTES`), and for each stream the beginning of a line.
pub struct Writer {
    sink: Sink,
    stdout: Lines,
    stderr: Lines,
}

enum Sink {
    Files(Box<Files>),
    Journal(Box<Journal>),
    Nothing,
}

impl Writer {
    /// Opens the log of the container whose `directory` this is. The caller
    /// holds the container's lock. Fails where the file cannot be made, where
    /// there is no journal, and where extras are larger than
    /// `limits::LOG_EXTRAS_BYTES_MAX`.
    pub fn open(config: &Config, directory: &Path, subject: &Subject<'_>) -> Result<Self> {
        let sink = match &config.driver {
            Driver::JsonFile { rotation, extras } => {
                let file = JsonFile::open(directory, subject.id, *rotation)?;
                Sink::Files(Box::new(Files::new(file, attributes(extras, subject)?)))
            }
            Driver::Journald { extras } => {
                let fields = journal::fields(extras, &chosen(extras, subject), subject);
                check_size(fields.len())?;
                Sink::Journal(Box::new(Journal::open(&journal::find_socket()?, fields)?))
            }
            Driver::None | Driver::Passthrough => Sink::Nothing,
        };
        Ok(Self { sink, stdout: Lines::default(), stderr: Lines::default() })
    }

    /// Whether nothing is kept, so that there is no need to call.
    pub fn is_nothing(&self) -> bool {
        matches!(self.sink, Sink::Nothing)
    }

    /// Takes one chunk of what the program wrote, of any size, cut anywhere. The
    /// last line is kept back until its end comes.
    pub fn write(&mut self, stream: Stream, bytes: &[u8]) {
        let lines = match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        };
        match &mut self.sink {
            Sink::Nothing => {}
            Sink::Files(files) => {
                files.begin(stream, Timestamp::now());
                lines.feed(bytes, |line| files.take(line));
                files.flush();
            }
            Sink::Journal(journal) => lines.feed(bytes, |line| journal.take(stream, line)),
        }
    }

    /// Writes what was kept back: lines without an end, and what was lost. Called
    /// when the program has ended, or before a restart; the writer goes on.
    pub fn finish(&mut self) {
        for (stream, lines) in [(Stream::Stdout, &mut self.stdout), (Stream::Stderr, &mut self.stderr)] {
            match &mut self.sink {
                Sink::Nothing => {}
                Sink::Files(files) => {
                    files.begin(stream, Timestamp::now());
                    lines.finish(|line| files.take(line));
                    files.flush();
                }
                Sink::Journal(journal) => lines.finish(|line| journal.take(stream, line)),
            }
        }
        match &mut self.sink {
            Sink::Nothing => {}
            Sink::Files(files) => files.tell_lost(),
            Sink::Journal(journal) => journal.tell_lost(),
        }
    }

    /// What could not be written and is not said in the log yet. The next write
    /// tries again; a supervisor that finds something here may call
    /// [`Writer::finish`] to have it said.
    pub fn lost(&self) -> Option<Lost> {
        match &self.sink {
            Sink::Nothing => None,
            Sink::Files(files) => files.lost,
            Sink::Journal(journal) => journal.lost,
        }
    }

    /// The file that is written to, below the container's directory; `None`
    /// where it is none.
    pub fn file_name(&self) -> Option<PathBuf> {
        match &self.sink {
            Sink::Files(files) => Some(files.file.name()),
            Sink::Journal(_) | Sink::Nothing => None,
        }
    }
}

/// Labels and variables that `--log-opt` asks for and the container has.
fn chosen<'a>(extras: &Extras, subject: &Subject<'a>) -> BTreeMap<&'a str, &'a str> {
    let labels = subject.labels.iter().map(|(key, value)| (key.as_str(), value.as_str()));
    let labels = labels.filter(|(key, _)| extras.labels.iter().any(|wanted| wanted == key));
    let variables = subject.variables.iter().filter_map(|variable| variable.split_once('='));
    let variables = variables.filter(|(name, _)| extras.variables.iter().any(|wanted| wanted == name));
    labels.chain(variables).collect()
}

/// Docker's `attrs`: a JSON object, or nothing.
fn attributes(extras: &Extras, subject: &Subject<'_>) -> Result<String> {
    let tag = extras.tag.as_ref().map(|tag| tag.render(subject)).filter(|tag| !tag.is_empty());
    let mut chosen = chosen(extras, subject);
    if let Some(tag) = &tag {
        chosen.insert("tag", tag);
    }
    if chosen.is_empty() {
        return Ok(String::new());
    }
    let text = serde_json::to_string(&chosen).map_err(|error| Failure::bug(error.to_string()))?;
    check_size(text.len())?;
    Ok(text)
}

fn check_size(bytes: usize) -> Result<()> {
    if bytes <= limits::LOG_EXTRAS_BYTES_MAX {
        return Ok(());
    }
    let max = limits::LOG_EXTRAS_BYTES_MAX;
    Err(Failure::user(format!("labels and variables add {bytes} bytes to every line of the log, {max} at most")))
}

/// Entries on their way into files.
struct Files {
    file: JsonFile,
    /// Of every entry.
    attributes: String,
    /// Of the entries of this chunk.
    stream: Stream,
    time: Timestamp,
    tail: Vec<u8>,
    /// Entries that are not written yet.
    batch: Vec<u8>,
    lost: Option<Lost>,
}

impl Files {
    fn new(file: JsonFile, attributes: String) -> Self {
        let (stream, time) = (Stream::Stdout, Timestamp::UNIX_EPOCH);
        Self { file, attributes, stream, time, tail: Vec::new(), batch: Vec::new(), lost: None }
    }

    /// One time for a chunk: formatting one for each line costs more than all else.
    fn begin(&mut self, stream: Stream, time: Timestamp) {
        (self.stream, self.time) = (stream, time);
        self.tail = entry::tail(stream, &self.attributes, time);
    }

    fn take(&mut self, line: Line<'_>) {
        // Most lines have little to escape: the batch seldom grows beyond its bound.
        let length = line.text.len() + self.tail.len();
        if self.batch.len() + length > limits::LOG_BATCH_BYTES || self.file.is_full_with(self.batch.len()) {
            self.flush();
        }
        self.batch.reserve_exact(limits::LOG_BATCH_BYTES.saturating_sub(self.batch.len()));
        entry::push(&mut self.batch, line, &self.tail);
    }

    fn flush(&mut self) {
        if !self.batch.is_empty() {
            self.flush_all();
            self.batch.clear();
            // A batch that grew around an unusual line is not kept.
            self.batch.shrink_to(limits::LOG_BATCH_BYTES);
        }
    }

    fn flush_all(&mut self) {
        let notice = self.lost.map(|lost| self.notice(&lost)).unwrap_or_default();
        self.batch.splice(..0, notice.iter().copied());
        let Err(Shortfall { written, errno }) = self.file.append(&self.batch, notice.len()) else {
            self.lost = None;
            return;
        };
        let rest = match written {
            0 => notice.len(),
            written => {
                self.lost = None;
                written
            }
        };
        let rest = self.batch.get(rest..).unwrap_or_default();
        for line in rest.split_inclusive(|byte| *byte == b'\n') {
            let text = line.strip_suffix(b"\n").unwrap_or(line);
            let bytes = Entry::parse(text).map_or(0, |entry| entry.text_length());
            Lost::add(&mut self.lost, bytes, errno);
        }
    }

    /// The entry that says what was lost.
    fn notice(&self, lost: &Lost) -> Vec<u8> {
        let mut notice = Vec::new();
        let tail = entry::tail(Stream::Stderr, &self.attributes, self.time);
        entry::push(&mut notice, Line { text: lost.sentence().as_bytes(), ends: true }, &tail);
        notice
    }

    fn tell_lost(&mut self) {
        if let Some(lost) = self.lost
            && self.file.append(&self.notice(&lost), 0).is_ok()
        {
            self.lost = None;
        }
    }
}
