//! `cp`: files between this machine and containers, and between containers,
//! as a tar through a pipe.
//!
//! ```text
//! what is read       this machine's files, here | a container's, in a stage | a tar of the user's
//!     pipe
//! what is written    this machine's files, here | a container's, in a stage | a tar for the user
//! ```
//!
//! Both ends are looked up before anything moves, and docker's rules decide
//! (storage/copy.rs). This machine's files are read and written by the command
//! itself: with the user's own rights and nothing more.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{BufReader, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use super::make::Effort;
use super::pack::{self, Files};
use super::rootfs;
use crate::container::copy::{Files as Reached, FromCopy, Go, Request, Way};
use crate::container::events::{self, Action};
use crate::container::record::{self, Status};
use crate::container::store::{self, Container, Locked};
use crate::error::{Context, Failure, Result};
use crate::image::registry::Progress;
use crate::kernel::{open, process};
use crate::paths::{self, Paths};
use crate::process::base::Base;
use crate::process::channel::Channel;
use crate::process::launch::{self, Launched};
use crate::process::stage::Stage;
use crate::sandbox::spec::{HostPath, Mount, Root, Source, Step};
use crate::storage::copy::{self, Found, Kind, LastLink, TypedPath};
use crate::storage::overlay;
use crate::storage::unpack::{self, Ownership, Target};

/// One end of a copy.
#[derive(Debug)]
pub enum End {
    /// A path of this machine.
    Host(OsString),
    /// A path in a container.
    Container {
        /// Name or id.
        name: String,
        /// From its root.
        path: OsString,
    },
    /// A tar on this stream.
    Stream(File),
}

/// How to copy.
#[derive(Debug, Clone, Copy, Default)]
pub struct CopyOptions {
    /// Owners are kept (`-a`).
    pub archive: bool,
    /// A link that is the source itself is followed (`-L`).
    pub follow: bool,
}

/// What was copied.
#[derive(Debug)]
pub struct Copied {
    /// Bytes of content that were written, holes not counted; 0 where a tar
    /// was.
    pub bytes: u64,
    /// One line each.
    pub notices: Vec<String>,
}

/// How the progress is named.
const COPYING: &str = "copy";

/// Copies `from` to `into`.
pub fn copy(paths: &Paths, from: End, into: End, options: CopyOptions, progress: &dyn Progress) -> Result<Copied> {
    let last = if options.follow { LastLink::Follow } else { LastLink::Keep };
    progress.start(COPYING, 0);
    let copied = match (from, into) {
        (End::Host(source), End::Container { name, path }) => {
            let source = typed_here(&source)?;
            let found = copy::find(open::cwd(), open::Resolve::Anywhere, &source, last)?;
            into_container(paths, (source, found), (&name, &path), options, progress)
        }
        (End::Container { name, path }, End::Host(destination)) => {
            let destination = typed_here(&destination)?;
            let found = copy::find(open::cwd(), open::Resolve::Anywhere, &destination, LastLink::Follow)?;
            out_of_container(paths, (&name, &path, last), (destination, found), options, progress)
        }
        (End::Container { name, path }, End::Container { name: other, path: to }) => {
            between(paths, (&name, &path, last), (&other, &to), options)
        }
        (End::Stream(stream), End::Container { name, path }) => unpack_stream(paths, stream, &name, &path),
        (End::Container { name, path }, End::Stream(stream)) => pack_stream(paths, &name, &path, last, stream),
        _ => Err(Failure::usage("neither of the two paths is in a container").hint("write it as CONTAINER:PATH")),
    };
    progress.done(COPYING);
    copied
}

fn typed_here(path: &OsString) -> Result<TypedPath> {
    if path.is_empty() {
        return Err(Failure::usage("a path on this machine is empty"));
    }
    let here = std::env::current_dir().doing(|| "find the working directory")?;
    TypedPath::parse(path, &here)
}

/// The stage at work on one container.
struct Side {
    container: Container,
    path: TypedPath,
    /// To the stage; `None` when it is to end.
    channel: Option<Channel>,
    pidfd: OwnedFd,
    kind: Kind,
    notices: Vec<String>,
}

impl Drop for Side {
    /// Until the stage is gone, the container's lock is not free, and what is
    /// done next to the container would be refused.
    fn drop(&mut self) {
        drop(self.channel.take());
        process::wait_pidfd(self.pidfd.as_fd()).ok();
    }
}

impl Side {
    /// Has `path` looked up in the container called `name`. `data` is where the
    /// stage reads or writes the tar.
    fn open(paths: &Paths, (name, path, last): (&str, &OsString, LastLink), way: Way, data: OwnedFd) -> Result<Self> {
        let path = TypedPath::parse(path, Path::new("/"))?;
        let (container, lock) = settled(paths, name)?;
        let mut notices = Vec::new();
        let (files, id_map) = reach(paths, &container, &mut notices)?;
        let mut base = Base::find(paths)?;
        let launched = launch::launch(Stage::Copy, &mut base, name, &[])?;
        // Now, since the launch may have had to take a lower rung.
        let key = container.record.files.as_ref().map(|files| files.id_map_key.as_str());
        if Some(base.map.compose(&id_map).key().as_str()) != key {
            return Err(pack::other_ids());
        }
        let request = Request { id_map, files, path: path.clone(), last, way };
        let descriptors: Vec<_> = [Some(data.as_fd()), lock.as_ref().map(AsFd::as_fd)].into_iter().flatten().collect();
        launched.channel.send_if_open(&request, &descriptors)?;
        drop((data, lock));
        let Launched { channel, pidfd, .. } = launched;
        let mut side = Self { container, path, channel: Some(channel), pidfd, kind: Kind::Directory, notices };
        match side.hear()? {
            FromCopy::Found(kind) => side.kind = kind,
            _ => return Err(Failure::bug("a copy that began before it was told to")),
        }
        Ok(side)
    }

    fn hear(&self) -> Result<FromCopy> {
        let received = self.channel.as_ref().map(Channel::receive::<FromCopy>).transpose()?.flatten();
        match received.map(|received| received.message) {
            Some(FromCopy::Failed(failure)) => Err(failure),
            Some(message) => Ok(message),
            None => Err(Failure::host("the process that copies was killed")),
        }
    }

    fn go(&self, go: &Go) -> Result<()> {
        self.channel.as_ref().map_or(Ok(()), |channel| channel.send_if_open(go, &[]))
    }

    /// Waits until all is read.
    fn packed(mut self, paths: &Paths) -> Result<Vec<String>> {
        let FromCopy::Packed(summary) = self.hear()? else { return Err(Failure::bug("an answer of another copy")) };
        self.notices.extend(pack::notices(&summary));
        pack::check_still_there(paths, &self.container)?;
        events::tell(paths, &self.container.record, Action::ArchivePath);
        Ok(std::mem::take(&mut self.notices))
    }

    /// Waits until all is written.
    fn unpacked(mut self, paths: &Paths) -> Result<Copied> {
        let FromCopy::Unpacked(summary) = self.hear()? else { return Err(Failure::bug("an answer of another copy")) };
        self.notices.extend(left_out(&summary));
        pack::check_still_there(paths, &self.container)?;
        events::tell(paths, &self.container.record, Action::ExtractToDir);
        Ok(Copied { bytes: summary.bytes, notices: std::mem::take(&mut self.notices) })
    }
}

/// The container called `name`, and its lock if it does not run. While another
/// command has the lock, or a supervisor that is about to run the program, that
/// is waited for.
fn settled(paths: &Paths, name: &str) -> Result<(Container, Option<OwnedFd>)> {
    const STEP: Duration = Duration::from_millis(5);
    loop {
        let container = store::find(paths, name)?;
        match container.record.status {
            Status::Running { .. } => return Ok((container, None)),
            Status::Restarting { .. } => {}
            Status::Created | Status::Exited { .. } => match store::lock(paths, &container) {
                Ok(Some(Locked { container, lock })) => return Ok((container, Some(lock.into()))),
                Ok(None) => {}
                Err(failure) if failure.is_errno(libc::EBUSY) => {}
                Err(failure) => return Err(failure),
            },
        }
        std::thread::sleep(STEP);
    }
}

/// Where the files of a container are, and its id map.
fn reach(
    paths: &Paths,
    container: &Container,
    notices: &mut Vec<String>,
) -> Result<(Reached, crate::process::idmap::IdMap)> {
    let Container { directory, record } = container;
    let Some(files) = &record.files else { return Err(pack::older_kelp()) };
    if let Status::Running { payload, .. } = &record.status {
        return Ok((Reached::Running(*payload), files.id_map.clone()));
    }
    let is_new = matches!(record.status, Status::Created);
    let place = paths.container_run(&record.id);
    paths::make_private(&place)?;
    let (root, mut steps) = root_of(paths, container, files)?;
    for mount in &files.mounts {
        match &mount.source {
            Source::Bind { path, .. } if fs::symlink_metadata(path.as_path()).is_err() => {
                notices.push(format!("what is mounted on {} is gone: \"{}\"", mount.target, path.as_path().display()));
            }
            // Those of `--rootfs /` are made anew, by what the host has now.
            Source::Overlay(_) => {}
            _ => steps.push(Step::Mount(mount.clone())),
        }
    }
    if let (true, Some(top)) = (is_new, root.lowers.first()) {
        overlay::take_mode(&directory.join("upper"), top.as_path())?;
    }
    Ok((Reached::Stopped { root, steps, place, is_new }, files.id_map.clone()))
}

/// The root of a stopped container, and the overlays that belong to it.
fn root_of(paths: &Paths, container: &Container, files: &record::Files) -> Result<(Root, Vec<Step>)> {
    let read_only = files.read_only;
    if let Some(rootfs) = &files.rootfs {
        let (root, steps) = rootfs::of_directory(rootfs, &container.directory, false, read_only, Effort::Make)?;
        let is_overlay = |step: &Step| matches!(step, Step::Mount(Mount { source: Source::Overlay(_), .. }));
        return Ok((root, steps.into_iter().filter(is_overlay).collect()));
    }
    let lowers = Files::of(paths, container)?.lowers.into_iter().map(HostPath).collect();
    let [upper, work] = ["upper", "work"].map(|name| HostPath(container.directory.join(name)));
    Ok((Root { lowers, upper, work, volatile: false, read_only }, Vec::new()))
}

fn into_container(
    paths: &Paths,
    (source, found): (TypedPath, Found),
    (name, path): (&str, &OsString),
    options: CopyOptions,
    progress: &dyn Progress,
) -> Result<Copied> {
    let doing = || format!("copy {} to container \"{name}\"", source.quoted());
    let (reading, writing) = pipe()?;
    let side = Side::open(paths, (name, path, LastLink::Follow), Way::In, reading).doing(doing)?;
    let top = copy::name_of((&source, &found.kind()), (&side.path, &side.kind)).doing(doing)?;
    side.go(&unpack_of(&top, options))?;
    let mut output = Shown(File::from(writing), progress);
    let packed = copy::pack(&found, top, &mut output);
    drop(output);
    // Who stopped first knows why; all the other knows of is a broken pipe.
    let (summary, mut copied) = match packed {
        Err(failure) if !failure.is_errno(libc::EPIPE) => return Err(failure).doing(doing),
        Err(broken) => return Err(side.hear().err().unwrap_or(broken)).doing(doing),
        Ok(summary) => (summary, side.unpacked(paths).doing(doing)?),
    };
    copied.notices.extend(pack::notices(&summary));
    Ok(copied)
}

/// An empty name stands for content alone, whose names are not known.
fn unpack_of(top: &[u8], options: CopyOptions) -> Go {
    let ownership = if options.archive { Ownership::AsRecorded } else { Ownership::Root };
    Go::Unpack { only: Some(top.to_vec()), ownership }
}

fn out_of_container(
    paths: &Paths,
    from: (&str, &OsString, LastLink),
    (destination, found): (TypedPath, Found),
    options: CopyOptions,
    progress: &dyn Progress,
) -> Result<Copied> {
    let doing = || format!("copy {} of container \"{}\"", from.1.display(), from.0);
    let (reading, writing) = pipe()?;
    let side = Side::open(paths, from, Way::Out, writing).doing(doing)?;
    let top = copy::name_of((&side.path, &side.kind), (&destination, &found.kind())).doing(doing)?;
    side.go(&Go::Pack(top.clone()))?;
    let ownership = if options.archive { Ownership::AsPermitted } else { Ownership::Caller };
    let target = Target { directory: found.directory(), only: Some(&top), links: None, ownership };
    let mut input = Shown(File::from(reading), progress);
    let merged = unpack::merge(BufReader::with_capacity(PIPE_BYTES as usize, &mut input), target);
    drop(input);
    let summary = match merged {
        Ok(summary) => summary,
        // A tar that is cut short was so by the stage, which says why.
        Err(failure) => {
            let said = side.hear().err().filter(|said| !said.is_errno(libc::EPIPE));
            return Err(said.unwrap_or(failure)).doing(doing);
        }
    };
    let mut notices = side.packed(paths).doing(doing)?;
    notices.extend(left_out(&summary));
    Ok(Copied { bytes: summary.bytes, notices })
}

/// The two stages are each other's readers.
fn between(
    paths: &Paths,
    from: (&str, &OsString, LastLink),
    (name, path): (&str, &OsString),
    options: CopyOptions,
) -> Result<Copied> {
    let doing = || format!("copy {} of container \"{}\" to container \"{name}\"", from.1.display(), from.0);
    if store::find(paths, from.0)?.record.id == store::find(paths, name)?.record.id {
        return Err(Failure::usage("both paths are in the same container").hint("kelp exec CONTAINER cp does that"));
    }
    let (reading, writing) = pipe()?;
    let source = Side::open(paths, from, Way::Out, writing).doing(doing)?;
    let destination = Side::open(paths, (name, path, LastLink::Follow), Way::In, reading).doing(doing)?;
    let top = copy::name_of((&source.path, &source.kind), (&destination.path, &destination.kind)).doing(doing)?;
    destination.go(&unpack_of(&top, options))?;
    source.go(&Go::Pack(top))?;
    let (packed, unpacked) = (source.packed(paths), destination.unpacked(paths));
    let (notices, mut copied) = match (packed, unpacked) {
        (Err(failure), Err(other)) if failure.is_errno(libc::EPIPE) => return Err(other).doing(doing),
        (packed, unpacked) => (packed.doing(doing)?, unpacked.doing(doing)?),
    };
    copied.notices.extend(notices);
    Ok(copied)
}

fn unpack_stream(paths: &Paths, stream: File, name: &str, path: &OsString) -> Result<Copied> {
    let doing = || format!("unpack standard input in container \"{name}\"");
    let side = Side::open(paths, (name, path, LastLink::Follow), Way::In, stream.into()).doing(doing)?;
    if side.kind != Kind::Directory {
        return Err(Failure::user("the destination must be a directory")).doing(doing);
    }
    side.go(&Go::Unpack { only: None, ownership: Ownership::AsRecorded })?;
    side.unpacked(paths).doing(doing)
}

fn pack_stream(paths: &Paths, name: &str, path: &OsString, last: LastLink, stream: File) -> Result<Copied> {
    let doing = || format!("copy {} of container \"{name}\"", path.display());
    let side = Side::open(paths, (name, path, last), Way::Out, stream.into()).doing(doing)?;
    // As to a directory: by its own name.
    let parent = TypedPath::parse("/".as_ref(), Path::new("/"))?;
    let top = copy::name_of((&side.path, &side.kind), (&parent, &Kind::Directory)).doing(doing)?;
    side.go(&Go::Pack(top))?;
    Ok(Copied { bytes: 0, notices: side.packed(paths).doing(doing)? })
}

/// What users may have in a pipe (/proc/sys/fs/pipe-max-size).
const PIPE_BYTES: i32 = 1 << 20;

fn pipe() -> Result<(OwnedFd, OwnedFd)> {
    let (reading, writing) = process::pipe()?;
    // A smaller pipe is only slower.
    process::grow_pipe(writing.as_fd(), PIPE_BYTES).ok();
    Ok((reading, writing))
}

/// What the user should know about what was not written: one line each.
fn left_out(summary: &unpack::Summary) -> Vec<String> {
    let unpack::Summary { skipped_devices, ignored_owners, dropped_attributes, .. } = summary;
    pack::counted(&[
        (*skipped_devices, "device was left out", "devices were left out"),
        (*ignored_owners, "file could not be given its owner", "files could not be given their owners"),
        (*dropped_attributes, "extended attribute was left out", "extended attributes were left out"),
    ])
}

/// A pipe whose bytes are shown as progress.
struct Shown<'a>(File, &'a dyn Progress);

impl Read for Shown<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let bytes = self.0.read(buffer)?;
        self.1.advance(COPYING, bytes as u64);
        Ok(bytes)
    }
}

impl Write for Shown<'_> {
    fn write(&mut self, buffer: &[u8]) -> std::io::Result<usize> {
        let bytes = self.0.write(buffer)?;
        self.1.advance(COPYING, bytes as u64);
        Ok(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()
    }
}
