//! The copy stage: the process that reads and writes a container's files for
//! `cp`.
//!
//! ```text
//!      command                      copy stage                       worker
//!  1   Request(data, lock)    ->
//!  2                                root of the container,
//!                                   clone, write id map         ->   find the path
//!  3                          <-    Found(Kind)                 <-
//!  4   Go                     ->                                ->   (a command that has thought better of it is gone)
//!  5   data: a tar            <->                              <->   pack or merge
//!  6                          <-    Done(Summary)               <-
//!  7                          <-    EOF                   | Failed(Failure)
//! ```
//!
//! The worker (process/worker.rs) is in no namespace of the container's: its
//! user namespace has the same id map but is another one, and nobody in the
//! container can see, signal or trace it. Of a container that runs it has the
//! root directory's descriptor, of the container's own mount namespace, and an
//! empty root of its own. Of a stopped one the files are mounted as a start
//! would do it, and are the worker's root, so that links are the container's
//! even where nobody resolves them by rule; the container's lock is held so
//! that nobody else mounts them meanwhile.

use std::fs::File;
use std::io::BufReader;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::error::{Context, Failure, Result};
use crate::image::compression::Compression;
use crate::kernel::open::Resolve;
use crate::kernel::{mount, open, process};
use crate::process::channel::Channel;
use crate::process::identity::Identity;
use crate::process::idmap::IdMap;
use crate::process::stage;
use crate::process::steps::Steps;
use crate::process::worker::{self, Work};
use crate::sandbox::mounts::{self, Sources};
use crate::sandbox::root::{self, Opened};
use crate::sandbox::spec::{HostPath, Root, Step};
use crate::sandbox::start;
use crate::storage::copy::{self, Kind, LastLink, TypedPath};
use crate::storage::pack;
use crate::storage::unpack::{self, Ownership, Target};

/// What is to be copied. The end of a pipe or a file for the tar comes along,
/// and for a stopped container its lock.
#[derive(Debug, Serialize, Deserialize)]
pub struct Request {
    /// The container's ids onto the base namespace's.
    pub id_map: IdMap,
    /// Where its files are.
    pub files: Files,
    /// The path in it.
    pub path: TypedPath,
    /// What a link in the last place means.
    pub last: LastLink,
    /// Which way.
    pub way: Way,
}

/// A container's files.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Files {
    /// As its first process has them mounted.
    Running(Identity),
    /// As they would be mounted.
    Stopped {
        /// The root.
        root: Root,
        /// Volumes, binds and overlays on top of it.
        steps: Vec<Step>,
        /// A directory of ours to mount them on.
        place: PathBuf,
        /// It never ran: its root is not its own yet.
        is_new: bool,
    },
}

/// Which way files go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// Out of the container.
    Out,
    /// Into it.
    In,
}

/// That what was found is right.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Go {
    /// Pack it under this name; empty for the content of a directory.
    Pack(Vec<u8>),
    /// Unpack to it.
    Unpack {
        /// All entries are this or below it; `None` where the archive is the
        /// user's own.
        only: Option<Vec<u8>>,
        /// Whose they become.
        ownership: Ownership,
    },
}

/// What the stage says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FromCopy {
    /// What the path leads to.
    Found(Kind),
    /// All is written to the pipe.
    Packed(pack::Summary),
    /// All is in the container.
    Unpacked(unpack::Summary),
    /// It went wrong.
    Failed(Failure),
}

/// CAP_DAC_READ_SEARCH (capabilities(7)).
const READ: u64 = 1 << 2;
/// CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_FOWNER, CAP_FSETID, CAP_SETFCAP.
const WRITE: u64 = 1 | 1 << 1 | 1 << 3 | 1 << 4 | 1 << 31;

/// The stage's whole life.
pub fn main() -> Result<()> {
    let channel = stage::take_channel()?;
    process::set_name(c"kelp-copy")?;
    process::set_no_new_privileges()?;
    if let Err(failure) = serve(&channel) {
        // A command that is gone needs no answer.
        channel.send(&FromCopy::Failed(failure), &[]).ok();
    }
    Ok(())
}

fn serve(channel: &Channel) -> Result<()> {
    let Some(received) = channel.receive::<Request>()? else { return Ok(()) };
    let mut descriptors = received.descriptors.into_iter();
    let data = descriptors.next().ok_or_else(|| Failure::bug("a request to copy without a pipe"))?;
    let Request { id_map, files, path, last, way } = received.message;
    let capabilities = if way == Way::Out { READ } else { WRITE };
    let is_single = id_map.is_single();
    let task = Task { channel, data: data.into(), path, last, way, is_single };
    match files {
        Files::Running(identity) => {
            let (namespace, root) = start::root_of(identity).doing(|| "enter the container's mount namespace")?;
            worker::run(&id_map, capabilities, "copies", channel, move || {
                // Held until the end: should the container end, its mounts stay.
                let _namespace = namespace;
                task.run(root.as_fd())
            })
        }
        Files::Stopped { root, steps, place, is_new } => {
            if is_new {
                root::give(&root, id_map.root())?;
            }
            let lock = descriptors.next().ok_or_else(|| Failure::bug("a stopped container without its lock"))?;
            let place = HostPath(place);
            let stopped = Stopped { root, steps, place, is_new, opened: None, mounted: None, task, _lock: lock };
            worker::run(&id_map, capabilities, "copies", channel, stopped)
        }
    }
}

/// The work on a container that does not run.
struct Stopped<'a> {
    root: Root,
    steps: Vec<Step>,
    place: HostPath,
    is_new: bool,
    opened: Option<(Opened, Sources)>,
    mounted: Option<OwnedFd>,
    task: Task<'a>,
    /// Held while its files are mounted.
    _lock: OwnedFd,
}

impl Work for Stopped<'_> {
    fn open(&mut self) -> Result<()> {
        let sources = mounts::open_sources(&self.steps)?;
        self.opened = Some((Opened::open(&self.root)?, sources));
        Ok(())
    }

    fn mount(&mut self) -> Result<Option<OwnedFd>> {
        let (opened, mut sources) = self.opened.take().ok_or_else(|| Failure::bug("a root that was not opened"))?;
        // A container that never ran lacks directories to mount on.
        let mounted = match (self.task.way, self.is_new) {
            (Way::Out, false) => root::mount_to_read(&self.root, &opened),
            _ => root::mount(&self.root, &opened),
        };
        let root = mounted.doing(|| "mount its files")?;
        let place = open::open_dir(self.place.as_path())?;
        mount::attach(root.as_fd(), place.as_fd(), "/")?;
        mounts::apply(&self.steps, root.as_fd(), &mut sources, &mut Steps::new("copy"))?;
        if self.root.read_only {
            mount::set_attributes(root.as_fd(), mount::RDONLY, 0, false, "/")?;
        }
        self.mounted = Some(root.try_clone()?);
        Ok(Some(root))
    }

    fn work(mut self) -> Result<()> {
        let root = self.mounted.take().ok_or_else(|| Failure::bug("a root that was not mounted"))?;
        self.task.run(root.as_fd())
    }
}

/// What the worker does below the container's root.
struct Task<'a> {
    channel: &'a Channel,
    data: File,
    path: TypedPath,
    last: LastLink,
    way: Way,
    /// Only one id is mapped: no file can have another owner.
    is_single: bool,
}

impl Task<'_> {
    fn run(self, root: BorrowedFd<'_>) -> Result<()> {
        // Nobody else's business, though nobody can come near it.
        process::set_dumpable(false)?;
        let found = copy::find(root, Resolve::InRoot, &self.path, self.last)?;
        self.channel.send(&FromCopy::Found(found.kind()), &[])?;
        match (self.way, self.channel.receive::<Go>()?.map(|received| received.message)) {
            (_, None) => Ok(()),
            (Way::Out, Some(Go::Pack(name))) => {
                let summary = copy::pack(&found, name, self.data)?;
                self.channel.send(&FromCopy::Packed(summary), &[])
            }
            (Way::In, Some(Go::Unpack { only, ownership })) => {
                let ownership = if self.is_single { Ownership::Root } else { ownership };
                let links = only.is_none().then_some((root, self.path.bytes()));
                let target = Target { directory: found.directory(), only: only.as_deref(), links, ownership };
                let summary = unpack_stream(self.data, target)?;
                self.channel.send(&FromCopy::Unpacked(summary), &[])
            }
            _ => Err(Failure::bug("files are to go the other way")),
        }
    }
}

fn unpack_stream(input: File, target: Target<'_>) -> Result<unpack::Summary> {
    const BUFFER_BYTES: usize = 256 << 10;
    // By its first bytes and with our own decoders: never with a program that a container could bring.
    let (compression, input) = Compression::sniff(input)?;
    let input = compression.decoder(BufReader::with_capacity(BUFFER_BYTES, input))?;
    unpack::merge(BufReader::with_capacity(BUFFER_BYTES, input), target)
}
