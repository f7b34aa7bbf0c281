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
use std::os::fd::OwnedFd;

use serde::{Deserialize, Serialize};

use crate::error::{Context, Result};

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
}

impl Options {
    /// All as it is.
    pub fn of(form: Form) -> Self {
        Self { form, newest_s: None, passed_over: BTreeSet::new(), passed_over_before: BTreeSet::new() }
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
}

/// Packs what the directories `new`, topmost first, have in difference to the
/// directories `old`.
pub fn pack(new: &[OwnedFd], old: &[OwnedFd], options: &Options, output: impl Write) -> Result<Summary> {
    const BUFFER_BYTES: usize = 256 << 10;
    let mut output = BufWriter::with_capacity(BUFFER_BYTES, output);
    let compare = compare::Rules { newest_s: options.newest_s, splits_links: options.form == Form::Layer };
    let paths =
        |paths: &BTreeSet<String>| paths.iter().map(|path| path.trim_matches('/').as_bytes().to_vec()).collect();
    let (passed_over, passed_over_before) = (paths(&options.passed_over), paths(&options.passed_over_before));
    let walk = walk::Walk { passed_over, passed_over_before, compare };
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
