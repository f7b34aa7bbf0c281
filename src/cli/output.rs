//! The one place that prints. Data goes to standard output, all else to
//! standard error; colour only on a terminal and without NO_COLOR.
//!
//! A reader that went away (`kelp images | head -1`) ends kelp quietly, as it
//! ends every program that writes to a closed pipe.

use std::fs::File;
use std::io::{self, IsTerminal, Write};

use anstyle::{AnsiColor, Style};
use serde::Serialize;

use crate::error::{Failure, Kind, Result};
use crate::kernel::file;

const ERROR: Style = AnsiColor::Red.on_default().bold();
const HINT: Style = AnsiColor::Cyan.on_default();
const NOTICE: Style = AnsiColor::Yellow.on_default();
/// A heading of a longer text.
pub(super) const HEADING: Style = Style::new().bold();
/// What protects.
pub(super) const GOOD: Style = AnsiColor::Green.on_default();
/// What is open or missing.
pub(super) const OPEN: Style = NOTICE;
/// What matters less.
pub(super) const QUIET: Style = Style::new().dimmed();

/// Prints one line of data.
pub fn line(text: impl AsRef<str>) {
    let mut out = anstream::stdout().lock();
    end_quietly(writeln!(out, "{}", text.as_ref()));
}

/// Prints data that may hold what an image's author wrote, and the end of a
/// line. A terminal gets no control character of it but tabs and line ends.
pub fn text(text: &str) {
    if io::stdout().is_terminal() {
        line(text.split('\n').map(tamed).collect::<Vec<_>>().join("\n"));
    } else {
        line(text);
    }
}

/// One line of a stranger's text, its control characters escaped.
pub fn tamed(text: &str) -> String {
    let shown = |character: char| match character.is_control() && character != '\t' {
        true => character.escape_default().collect(),
        false => String::from(character),
    };
    text.chars().map(shown).collect()
}

/// Prints text as it is, e.g. generated completions.
pub fn raw(bytes: &[u8]) {
    end_quietly(io::stdout().lock().write_all(bytes));
}

/// Standard output as a file, for data that is not text. A terminal is refused.
pub fn stream() -> Result<File> {
    use std::os::fd::AsFd;
    let stdout = io::stdout();
    if stdout.is_terminal() {
        return Err(Failure::usage("an archive is not for a terminal"));
    }
    Ok(stdout.as_fd().try_clone_to_owned()?.into())
}

/// Both streams, for what a container said: byte for byte, in large pieces.
pub struct Streams {
    out: Vec<u8>,
    err: Vec<u8>,
    /// Whether both lead to one place, where order matters.
    is_one: bool,
}

impl Streams {
    /// What is collected before it is written.
    const BATCH_BYTES: usize = 128 << 10;

    /// Those of this process.
    pub fn open() -> Self {
        use std::os::fd::{AsFd, BorrowedFd};
        let place = |fd: BorrowedFd<'_>| file::status(fd).map(|status| (status.st_dev, status.st_ino)).ok();
        let is_one = place(io::stdout().as_fd()).is_some_and(|out| place(io::stderr().as_fd()) == Some(out));
        Self { out: Vec::new(), err: Vec::new(), is_one }
    }

    /// Where to put what belongs to standard output, or to standard error.
    pub fn buffer(&mut self, to_stderr: bool) -> &mut Vec<u8> {
        if to_stderr && !self.is_one { &mut self.err } else { &mut self.out }
    }

    /// Writes when it is worth it.
    pub fn flush_if_full(&mut self) {
        if self.out.len() + self.err.len() >= Self::BATCH_BYTES {
            self.flush();
        }
    }

    /// Writes what there is.
    pub fn flush(&mut self) {
        if !self.out.is_empty() {
            let mut out = io::stdout().lock();
            end_quietly(out.write_all(&self.out).and_then(|()| out.flush()));
            self.out.clear();
        }
        if !self.err.is_empty() {
            end_quietly(io::stderr().lock().write_all(&self.err));
            self.err.clear();
        }
    }
}

/// Prints a document for programs.
pub fn json<T: Serialize>(value: &T) -> Result<()> {
    let text = serde_json::to_string_pretty(value).map_err(|error| Failure::bug(error.to_string()))?;
    line(text);
    Ok(())
}

/// A document as a value, for templates.
pub fn value<T: Serialize>(value: &T) -> Result<serde_json::Value> {
    serde_json::to_value(value).map_err(|error| Failure::bug(error.to_string()))
}

/// Prints columns as docker does: no borders, headings in capitals.
pub fn table(headings: &[&str], rows: Vec<Vec<String>>) {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_content_arrangement(comfy_table::ContentArrangement::Disabled);
    table.set_header(headings.iter().map(|heading| heading.to_string()));
    for row in rows {
        table.add_row(row);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 3));
    }
    // At once: a terminal or a pipe takes a thousand lines as it takes one.
    line(table.lines().map(|text| text.trim_end().to_owned()).collect::<Vec<_>>().join("\n"));
}

/// Empties the terminal and begins at its top.
pub fn clear() {
    raw(b"\x1b[H\x1b[J");
}

/// Prints a heading of a longer text.
pub fn heading(text: &str) {
    line(format!("{HEADING}{text}{HEADING:#}"));
}

/// Tells the user something beside the data.
pub fn notice(text: &str) {
    note(NOTICE, "notice", text);
}

/// Prints a line to standard error, e.g. one step's time.
pub fn remark(text: &str) {
    let mut err = anstream::stderr().lock();
    // Standard error that is gone has nobody reading it.
    writeln!(err, "{text}").ok();
}

/// Prints a question, whose answer stands on the same line.
pub fn prompt(text: &str) {
    let mut err = io::stderr().lock();
    write!(err, "{text}").ok();
    err.flush().ok();
}

/// Prints a failure: one line, then its hints.
pub fn failure(failure: &Failure) {
    let mut err = anstream::stderr().lock();
    writeln!(err, "{ERROR}kelp{ERROR:#}: {}", printable(&failure.sentence())).ok();
    if failure.kind == Kind::Bug {
        writeln!(err, "{HINT}hint{HINT:#}: this is a bug in kelp {}: please report it", env!("CARGO_PKG_VERSION")).ok();
    }
    for hint in &failure.hints {
        writeln!(err, "{HINT}hint{HINT:#}: {}", printable(hint)).ok();
    }
}

/// Prints help that was asked for.
pub fn help(text: &clap::builder::StyledStr) {
    let mut out = anstream::stdout().lock();
    end_quietly(write!(out, "{}", text.ansi()));
}

/// Asks whether to go on, as docker does; only a clear yes is one. Where
/// nobody can be asked, that is a failure.
pub fn confirm(warning: &str) -> Result<bool> {
    let mut answer = String::new();
    if !io::stdin().is_terminal() {
        return Err(Failure::usage("there is nobody to ask whether to go on").hint("--force goes on without asking"));
    }
    let mut err = anstream::stderr().lock();
    // Without standard error nobody reads the question and answers it.
    write!(err, "{warning}\nAre you sure you want to continue? [y/N] ").and_then(|()| err.flush()).ok();
    io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes" | "YES" | "Yes"))
}

/// Whether standard error is a terminal, where progress bars can be drawn.
pub fn progress_is_seen() -> bool {
    io::stderr().is_terminal()
}

fn note(style: Style, word: &str, text: &str) {
    let mut err = anstream::stderr().lock();
    writeln!(err, "{style}{word}{style:#}: {text}").ok();
}

/// Text that may hold what an image or a registry said: no control character
/// of it reaches the terminal, and not more than a screenful.
fn printable(text: &str) -> String {
    const CHARACTERS_MAX: usize = 4_000;
    let shown = |character: char| match character.is_control() {
        true => character.escape_default().collect(),
        false => String::from(character),
    };
    text.chars().take(CHARACTERS_MAX).map(shown).collect()
}

fn end_quietly(result: io::Result<()>) {
    if result.is_err() {
        // 128 + SIGPIPE: what the shell shows for a program that SIGPIPE ended.
        #[expect(clippy::exit, reason = "nobody reads what would come next")]
        std::process::exit(141);
    }
}
