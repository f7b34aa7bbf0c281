//! What a container's program says, kept and read again.
//!
//! ```text
//!  program's pipes                                   kelp logs
//!        | chunks                                        ^ entries
//!        v                                               |
//!   Writer: lines --> entry --> json_file --> disk --> Reader: files, blocks, tail, follow
//!                 \-> journal --> journald(8) --> journalctl(1)
//! ```
//!
//! Files are Docker's json-file, `containers/ID/ID-json.log` with `.1`, `.2`, …
//! the older ones, so that what reads Docker's logs reads kelp's. Who holds the
//! container's lock writes; anybody reads, at any time and without a lock.
//!
//! Invariants: a file holds whole lines but for the end of the newest, which is
//! being written or was torn by a crash (mended before the next write); writing
//! fails nobody; no line costs memory beyond `limits::LOG_ENTRY_BYTES_MAX`.

mod blocks;
mod config;
mod entry;
mod files;
mod journal;
mod json_file;
mod lines;
mod lost;
mod reader;
mod tag;
mod tail;
mod watch;
mod writer;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use config::{Config, Driver, Extras, Rotation};
pub use entry::Entry;
pub use journal::{find_socket, sanitized};
pub use lost::Lost;
pub use reader::{Item, Reader, Selection};
pub use tag::{Subject, Tag};
pub use watch::Watch;
pub use writer::Writer;

/// The file that a log in Docker's format is written to. `directory` is
/// `containers/ID`.
pub fn path(directory: &Path, id: &str) -> PathBuf {
    directory.join(files::name(id, 0))
}

/// Which of the program's streams a line came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stream {
    /// Standard output; all there is with a terminal.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Stream {
    /// Docker's word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}
