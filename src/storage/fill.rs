//! The fill stage: files for a new volume, from an image or from an archive.
//!
//! ```text
//!      command                        fill stage               worker
//!  1   Request                  ->
//!  2   Handed(descriptor)       ->    (once a layer, topmost first, then once a directory to fill;
//!                                      or the directory and the archive)
//!  3                                  clone, write id map ->   pack and unpack
//!  4                            <-    Filled             <-    (once a directory)
//!  5                            <-    EOF                | Failed(Failure)
//! ```
//!
//! The worker (process/worker.rs) has the container's own id map, so owners
//! are what the container sees. What an image has at a path is read as the
//! pack stage reads a container's files (pack/), and written as the unpack
//! stage writes a layer (unpack/): both know how to take hostile files, and
//! what lies between them is a tar in a pipe. The directory to fill is one
//! that nobody else can reach yet.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::pack::{self, Form};
use super::unpack::{self, Owners, Summary, Whiteouts};
use crate::error::{Context, Failure, Result};
use crate::kernel::{file, open, process};
use crate::process::base::Base;
use crate::process::channel::Channel;
use crate::process::idmap::IdMap;
use crate::process::launch::{self, Launched};
use crate::process::{stage, worker};

/// What is to be done.
#[derive(Debug, Serialize, Deserialize)]
struct Request {
    /// The container's ids onto the base namespace's.
    id_map: IdMap,
    from: Content,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Content {
    /// What so many layers have at these paths; a directory to fill for each.
    Layers { layers: usize, paths: Vec<PathBuf> },
    /// An archive.
    Archive,
}

/// A descriptor, which comes along.
#[derive(Debug, Serialize, Deserialize)]
struct Handed {}

/// What the stage says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum FromFill {
    /// One directory is filled; `None` if there is nothing to fill it with,
    /// and it is as it was.
    Filled(Option<Summary>),
    /// It went wrong.
    Failed(Failure),
}

/// What reading takes, CAP_DAC_READ_SEARCH, and what writing takes: CAP_CHOWN,
/// CAP_DAC_OVERRIDE, CAP_FOWNER, CAP_FSETID, CAP_SETFCAP (capabilities(7)).
const CAPABILITIES: u64 = 1 | 1 << 1 | 1 << 2 | 1 << 3 | 1 << 4 | 1 << 31;

/// Copies what the stack `layers`, topmost first, has at each path of `wanted`
/// into the empty directory beside it: content, owners, modes and times, those
/// of the directory itself included. `None` for a path that is no directory
/// there. Links in the image lead where they lead in a container.
pub fn copy(
    base: &mut Base,
    id_map: &IdMap,
    layers: &[PathBuf],
    wanted: &[(PathBuf, PathBuf)],
) -> Result<Vec<Option<Summary>>> {
    let paths = wanted.iter().map(|(path, _)| path.clone()).collect();
    let launched = ask(base, id_map, Content::Layers { layers: layers.len(), paths })?;
    for layer in layers {
        hand(&launched, layer)?;
    }
    for (_, into) in wanted {
        hand(&launched, into)?;
    }
    wanted.iter().map(|(path, _)| answer(&launched).doing(|| format!("copy \"{}\"", path.display()))).collect()
}

/// Unpacks `archive`, a tar, plain or compressed, into the empty directory
/// `into`.
pub fn unpack(base: &mut Base, id_map: &IdMap, archive: BorrowedFd<'_>, into: &Path) -> Result<Summary> {
    let launched = ask(base, id_map, Content::Archive)?;
    hand(&launched, into)?;
    launched.channel.send_if_open(&Handed {}, &[archive])?;
    answer(&launched)?.ok_or_else(|| Failure::bug("an archive that is not there"))
}

fn ask(base: &mut Base, id_map: &IdMap, from: Content) -> Result<Launched> {
    let launched = launch::launch(stage::Stage::Fill, base, "", &[])?;
    launched.channel.send_if_open(&Request { id_map: id_map.clone(), from }, &[])?;
    Ok(launched)
}

fn hand(launched: &Launched, path: &Path) -> Result<()> {
    // O_PATH: it may be open to nobody but an id of the container's.
    let directory =
        open::open(path, libc::O_PATH | libc::O_DIRECTORY).doing(|| format!("open \"{}\"", path.display()))?;
    launched.channel.send_if_open(&Handed {}, &[directory.as_fd()])
}

fn answer(launched: &Launched) -> Result<Option<Summary>> {
    match launched.channel.receive::<FromFill>()?.map(|received| received.message) {
        Some(FromFill::Filled(summary)) => Ok(summary),
        Some(FromFill::Failed(failure)) => Err(failure),
        None => Err(Failure::host("the process that fills volumes was killed")),
    }
}

/// The stage's whole life.
pub fn main() -> Result<()> {
    let channel = stage::take_channel()?;
    process::set_name(c"kelp-fill")?;
    process::set_no_new_privileges()?;
    let result = receive(&channel).and_then(|received| match received {
        Some(work) => start(&channel, &work),
        None => Ok(()),
    });
    if let Err(failure) = result {
        // A command that is gone needs no answer.
        channel.send(&FromFill::Failed(failure), &[]).ok();
    }
    Ok(())
}

struct Work {
    request: Request,
    /// The layers, or the archive.
    sources: Vec<OwnedFd>,
    /// The directories to fill.
    into: Vec<OwnedFd>,
}

fn receive(channel: &Channel) -> Result<Option<Work>> {
    // An image may have more layers than a process may open files by default.
    process::raise_descriptor_limit()?;
    let Some(received) = channel.receive::<Request>()? else { return Ok(None) };
    let request = received.message;
    let (sources, into) = match &request.from {
        Content::Layers { layers, paths } => (take(channel, *layers)?, take(channel, paths.len())?),
        Content::Archive => {
            let into = take(channel, 1)?;
            (take(channel, 1)?, into)
        }
    };
    let (Some(sources), Some(into)) = (sources, into) else { return Ok(None) };
    let into = into.into_iter().map(|directory| readable(&directory, &request.id_map)).collect::<Result<_>>()?;
    Ok(Some(Work { request, sources, into }))
}

fn take(channel: &Channel, count: usize) -> Result<Option<Vec<OwnedFd>>> {
    let mut descriptors = Vec::new();
    for _ in 0..count {
        let Some(received) = channel.receive::<Handed>()? else { return Ok(None) };
        descriptors.extend(received.descriptors);
    }
    if descriptors.len() != count {
        return Err(Failure::bug("a request to fill without a descriptor"));
    }
    Ok(Some(descriptors))
}

/// The directory to fill, opened to be written to. One that was just made is
/// the caller's; where the container does not know the caller, its root's.
fn readable(directory: &OwnedFd, id_map: &IdMap) -> Result<OwnedFd> {
    let flags = libc::O_RDONLY | libc::O_DIRECTORY;
    let opened = open::openat2(directory.as_fd(), Path::new("."), flags, 0, open::Resolve::SameMount)?;
    let knows_caller = [&id_map.uids, &id_map.gids].iter().all(|extents| extents.iter().any(|one| one.outside == 0));
    if !knows_caller {
        let (uid, gid) = id_map.root();
        file::set_owner(opened.as_fd(), uid, gid)?;
    }
    Ok(opened)
}

fn start(channel: &Channel, work: &Work) -> Result<()> {
    worker::run(&work.request.id_map, CAPABILITIES, "fills volumes", channel, || {
        let owners = if work.request.id_map.is_single() { Owners::CallerOnly } else { Owners::AsRecorded };
        let options = unpack::Options { whiteouts: Whiteouts::None, ..unpack::Options::new(owners) };
        let none = Vec::new();
        let paths = match &work.request.from {
            Content::Layers { paths, .. } => paths,
            Content::Archive => &none,
        };
        let mut paths = paths.iter();
        for into in &work.into {
            let filled = match paths.next() {
                Some(path) => copy_one(&work.sources, path, into.as_fd(), &options)?,
                None => Some(unpack_one(&work.sources, into.as_fd(), &options)?),
            };
            channel.send(&FromFill::Filled(filled), &[])?;
        }
        Ok(())
    })
}

fn unpack_one(sources: &[OwnedFd], into: BorrowedFd<'_>, options: &unpack::Options) -> Result<Summary> {
    let archive = sources.first().ok_or_else(|| Failure::bug("a request to fill without an archive"))?;
    let (_, summary) = unpack::apply_blob(File::from(archive.try_clone()?), into, options)?;
    Ok(summary)
}

/// Copies one directory: a thread packs, this one unpacks.
fn copy_one(
    layers: &[OwnedFd],
    path: &Path,
    into: BorrowedFd<'_>,
    options: &unpack::Options,
) -> Result<Option<Summary>> {
    let Some(found) = pack::locate(layers, path)? else { return Ok(None) };
    let (reading, writing) = process::pipe()?;
    // A smaller pipe is only slower.
    process::grow_pipe(writing.as_fd(), PIPE_BYTES).ok();
    let (packed, applied) = std::thread::scope(|scope| {
        let packing = scope.spawn(move || pack::pack(&found, &[], &pack::Options::of(Form::Tree), File::from(writing)));
        let applied = unpack::apply(File::from(reading), into, options);
        (packing.join(), applied)
    });
    match packed.map_err(|_| Failure::bug("a thread that packs panicked"))? {
        // Whoever reads has stopped, and says why.
        Err(failure) if !failure.is_errno(libc::EPIPE) || applied.is_ok() => Err(failure),
        _ => applied.map(Some),
    }
}

/// What users may have in a pipe (/proc/sys/fs/pipe-max-size).
const PIPE_BYTES: i32 = 1 << 20;
