//! The layer applier: one layer's tar stream becomes a directory that
//! overlayfs can stack.
//!
//! ```text
//! stream  a compressed blob: detect, inflate, hash   (stream.rs)
//! archive tar headers, strictly                      (archive.rs, pax.rs)
//! path    names made clean and read for whiteouts    (path.rs)
//! tree    files below the root, by descriptor        (tree.rs, attributes.rs)
//! merge   the same into a directory that has something already: `cp`
//! ```
//!
//! Runs as uid 0 of a user namespace, in the short-lived unpack stage, on a
//! directory that nobody else can reach. Everything about the stream is
//! hostile: it may fail the unpack, never reach outside of the root.
//!
//! Whiteouts become what overlayfs reads with `userxattr` (kernel
//! documentation, overlayfs, "whiteouts and opaque directories").

mod archive;
mod attributes;
mod merge;
mod path;
mod pax;
mod stream;
#[cfg(test)]
mod tests;
mod tree;

use std::io::{BufRead, BufReader, Read};
use std::os::fd::BorrowedFd;

use crate::error::{Failure, Result};
use crate::image::quote::quoted_bytes;
use crate::limits;

use archive::{Archive, Entry, Kind};
use path::Role;
use tree::Tree;

pub mod stage;

pub use merge::{Ownership, Target, merge};
pub use stream::apply_blob;

/// Whose the files of the layer will be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owners {
    /// As the layer says; ids that the user namespace lacks are a failure.
    AsRecorded,
    /// All the caller's: the namespace has one id only. What was passed over
    /// is counted.
    CallerOnly,
}

/// How a deleted file is written down for overlayfs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whiteouts {
    /// As device node 0:0; as a file from the first that is refused.
    Nodes,
    /// As a file with an extended attribute, since Linux 6.7.
    Files,
    /// Not at all: the archive is no layer, and a file may have such a name.
    None,
}

/// How to unpack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Whose the files will be.
    pub owners: Owners,
    /// How deleted files are written down.
    pub whiteouts: Whiteouts,
    /// Entries at most.
    pub entries_max: u64,
    /// Bytes of the uncompressed archive at most.
    pub bytes_max: u64,
}

impl Options {
    /// The usual bounds.
    pub fn new(owners: Owners) -> Self {
        Self {
            owners,
            whiteouts: Whiteouts::Nodes,
            entries_max: limits::LAYER_ENTRIES_MAX,
            bytes_max: limits::LAYER_BYTES_MAX,
        }
    }
}

/// What was made and what could not be.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Summary {
    /// Entries of the archive.
    pub entries: u64,
    /// Bytes of file content written, holes not counted.
    pub bytes: u64,
    /// Device nodes passed over: a user namespace cannot make them, and a
    /// container gets its devices from kelp.
    pub skipped_devices: u64,
    /// Entries whose owner is another than it should be.
    pub ignored_owners: u64,
    /// Extended attributes passed over.
    pub dropped_attributes: u64,
}

/// Unpacks the uncompressed tar `stream` into the empty directory `root`. The
/// stream is read to its end.
pub fn apply(stream: impl Read, root: BorrowedFd<'_>, options: &Options) -> Result<Summary> {
    const BUFFER_BYTES: usize = 256 << 10;
    apply_buffered(BufReader::with_capacity(BUFFER_BYTES, stream), root, options)
}

/// As [`apply`], for a stream that has a buffer of its own.
pub fn apply_buffered(stream: impl BufRead, root: BorrowedFd<'_>, options: &Options) -> Result<Summary> {
    unpack(stream, root, options).map_err(|failure| failure.doing("unpack layer"))
}

fn unpack(stream: impl BufRead, root: BorrowedFd<'_>, options: &Options) -> Result<Summary> {
    let mut archive = Archive::new(stream, options.bytes_max);
    let mut tree = Tree::new(root, options)?;
    let mut clean = Vec::new();
    let entries =
        read_entries(&mut archive, options.entries_max, |archive, entry| place(&mut tree, archive, entry, &mut clean))?;
    archive.drain()?;
    let summary = tree.settle()?;
    Ok(Summary { entries, ..summary })
}

/// Has `make` make all entries of an archive, at most `entries_max`; returns
/// how many there were.
fn read_entries<R: BufRead>(
    archive: &mut Archive<R>,
    entries_max: u64,
    mut make: impl FnMut(&mut Archive<R>, &mut Entry) -> Result<()>,
) -> Result<u64> {
    let mut entry = Entry::default();
    let mut entries = 0_u64;
    loop {
        match archive.next(&mut entry) {
            Ok(true) => {}
            Ok(false) => return Ok(entries),
            Err(failure) => return Err(named(failure, &entry, entries)),
        }
        entries += 1;
        if entries > entries_max {
            return Err(Failure::user(format!("layer has more than {entries_max} entries")));
        }
        make(archive, &mut entry).map_err(|failure| named(failure, &entry, entries))?;
    }
}

/// Makes one entry.
fn place<R: BufRead>(
    tree: &mut Tree<'_>,
    archive: &mut Archive<R>,
    entry: &mut Entry,
    clean: &mut Vec<u8>,
) -> Result<()> {
    path::clean(&entry.path, clean).map_err(refused)?;
    let role = match tree.knows_whiteouts() {
        true => path::role(clean).map_err(refused)?,
        false if clean.is_empty() => Role::Root,
        false => Role::File,
    };
    match role {
        Role::Ignored => Ok(()),
        Role::Opaque => tree.make_opaque(path::parent(clean)),
        Role::Whiteout => tree.make_whiteout(path::parent(clean), path::hidden(path::name(clean))),
        Role::Root if entry.kind == Kind::Directory => tree.set_root(entry),
        Role::Root => Err(Failure::user("the root of a layer must be a directory")),
        Role::File => {
            tree.enter(path::parent(clean))?;
            let name = path::name(clean);
            match entry.kind {
                Kind::File => tree.make_file(name, entry, archive),
                Kind::Directory => tree.make_directory(name, entry),
                Kind::Symlink => tree.make_symlink(name, entry),
                Kind::Link => tree.make_link(name, entry),
                Kind::Fifo => tree.make_fifo(name, entry),
                Kind::Device => {
                    tree.skip_device();
                    Ok(())
                }
            }
        }
    }
}

fn refused(error: path::PathError) -> Failure {
    Failure::user(error.to_string())
}

/// Names the entry by its path, or where there is none by its number.
fn named(failure: Failure, entry: &Entry, number: u64) -> Failure {
    if entry.path.is_empty() {
        failure.doing(format!("entry {number}"))
    } else {
        failure.plainly().doing(format!("entry {}", quoted_bytes(&entry.path)))
    }
}
