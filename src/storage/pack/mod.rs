//! The way back: directories become the tar stream of a layer, of a whole
//! tree, or the list of what changed.
//!
//! ```text
//! stack      directories on top of each other, read as overlayfs reads them
//! walk       two stacks compared: what is new, changed, gone   (compare.rs)
//! layer      what the walk finds, as entries of a tar          (archive.rs, attributes.rs)
//! changes    what the walk finds, as a list
//! stage      the confined process that all this runs in
//! ```
//!
//! A layer is the difference between two stacks, never a copy of what an upper
//! directory happens to hold: a file that was only touched on the way (copied
//! up and left as it was) is not in it, a whiteout that hides nothing is not
//! either, and the same change makes the same bytes on any storage driver. A
//! whole tree is the difference to nothing.
//!
//! What is read belongs to a container, which may be running and hostile. The
//! walk goes from a directory's descriptor to a single name in it, follows no
//! link and crosses no mount; what changes under it is read as it comes and
//! counted. docs/reference/commit.md says what a layer holds.

mod archive;
mod attributes;
mod changes;
mod compare;
mod layer;
mod stack;
#[cfg(test)]
mod tests;
mod walk;

pub mod stage;

use std::collections::BTreeSet;
use std::io::{BufWriter, Write};
use std::os::fd::{BorrowedFd, OwnedFd};

use serde::{Deserialize, Serialize};

use crate::error::{Context, Failure, Result};
use crate::kernel::open::Resolve;
use walk::Sink;

pub use changes::{Change, Kind, parse as parse_changes};
pub use stack::locate;

/// What comes out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// A layer's tar: what is gone is written as whiteouts.
    Layer,
    /// A plain tar. There is nothing older to compare with.
    Tree,
    /// A list of changes ([`parse_changes`]).
    Changes,
}

/// How to pack.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Options {
    /// What comes out.
    pub form: Form,
    /// Times of change after this are written as this; seconds after 1970
    /// (SOURCE_DATE_EPOCH).
    pub newest_s: Option<i64>,
    /// Paths that are not the container's own where only the topmost directory
    /// has them: what kelp made to mount on.
    pub passed_over: BTreeSet<String>,
    /// The same of the directories that are compared with.
    #[serde(default)]
    pub passed_over_before: BTreeSet<String>,
    /// What is mounted in the directories belongs to them. The kernel's own
    /// file systems are empty directories then; else a mount is a failure.
    #[serde(default)]
    pub with_mounts: bool,
    /// What is packed goes by this name; empty for the content of a directory
    /// by its own names.
    #[serde(default)]
    pub name: Vec<u8>,
}

impl Options {
    /// All as it is.
    pub fn of(form: Form) -> Self {
        Self {
            form,
            newest_s: None,
            passed_over: BTreeSet::new(),
            passed_over_before: BTreeSet::new(),
            with_mounts: false,
            name: Vec::new(),
        }
    }

    fn rule(&self) -> Resolve {
        // Nothing that is read may lead to another place, and only to another file system if that is wanted.
        if self.with_mounts { Resolve::BeneathNoLinks } else { Resolve::SameMount }
    }

    fn compare(&self) -> compare::Rules {
        compare::Rules { newest_s: self.newest_s, splits_links: self.form == Form::Layer }
    }
}

/// What was written, and what was not as it should be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Entries or changes.
    pub entries: u64,
    /// Files and directories that were removed, replaced or written to while
    /// they were read.
    pub changed: u64,
    /// Sockets, which a tar cannot hold.
    pub skipped_sockets: u64,
    /// Extended attributes that cannot be kept.
    pub dropped_attributes: u64,
    /// Files of the kernel's own that it did not let us read, or not to their end.
    pub unread: u64,
}

/// What is gathered before it is written.
const BUFFER_BYTES: usize = 256 << 10;

/// Packs what the directories `new`, topmost first, have in difference to the
/// directories `old`.
pub fn pack(new: &[OwnedFd], old: &[OwnedFd], options: &Options, output: impl Write) -> Result<Summary> {
    let mut output = BufWriter::with_capacity(BUFFER_BYTES, output);
    let compare = options.compare();
    let paths =
        |paths: &BTreeSet<String>| paths.iter().map(|path| path.trim_matches('/').as_bytes().to_vec()).collect();
    let (passed_over, passed_over_before) = (paths(&options.passed_over), paths(&options.passed_over_before));
    let walk = walk::Walk { passed_over, passed_over_before, compare, rule: options.rule() };
    let summary = match options.form {
        Form::Layer | Form::Tree => {
            let mut layer = layer::Layer::new(&mut output, options, compare);
            let changed = walk.run(new, old, &mut layer)?;
            let mut summary = layer.finish()?;
            summary.changed += changed;
            summary
        }
        Form::Changes => {
            let mut list = changes::List::new(&mut output);
            let changed = walk.run(new, old, &mut list)?;
            Summary { entries: list.count(), changed, ..Summary::default() }
        }
    };
    output.flush().doing(|| "write")?;
    Ok(summary)
}

/// Packs the one file `name` of `directory`, which is none itself.
pub fn pack_file(directory: BorrowedFd<'_>, name: &[u8], options: &Options, output: impl Write) -> Result<Summary> {
    let mut output = BufWriter::with_capacity(BUFFER_BYTES, output);
    let gone = || Failure::not_found("it was removed meanwhile");
    let status = stack::status(directory, name)?.ok_or_else(gone)?;
    let mut layer = layer::Layer::new(&mut output, options, options.compare());
    if !layer.takes(&status) {
        return Err(Failure::user("it is a socket, which means nothing elsewhere"));
    }
    let place = compare::Place { dir: directory, name, rule: options.rule() };
    let difference = walk::Difference::Added;
    let is_steady = layer.file(&walk::Found { path: b"", difference, place, status: &status })?;
    let mut summary = layer.finish()?;
    if summary.entries == 0 {
        return Err(gone());
    }
    summary.changed += u64::from(!is_steady);
    output.flush().doing(|| "write")?;
    Ok(summary)
}
