//! Files of containers and images on their way out: which directories they
//! are, and the pack stage at work on them.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use crate::container::record::Record;
use crate::container::store::{self, Container};
use crate::error::{Context, Failure, Result};
use crate::image::blobs::Blobs;
use crate::image::config::ImageConfig;
use crate::image::digest::Digest;
use crate::kernel::open;
use crate::limits;
use crate::paths::Paths;
use crate::process::base::Base;
use crate::process::idmap::IdMap;
use crate::process::launch::{self, Launched};
use crate::process::stage::Stage;
use crate::storage::layers::{self, LayerId};
use crate::storage::pack::stage::{Directory, FromPack, Request};
use crate::storage::pack::{Options, Summary};

/// The files of a container: directories on top of each other.
pub(super) struct Files {
    /// What the container changed.
    pub(super) upper: PathBuf,
    /// What it was started on, topmost first.
    pub(super) lowers: Vec<PathBuf>,
    /// The ids of all of them onto the base namespace's.
    pub(super) id_map: IdMap,
    /// The same onto the host's, as a key.
    pub(super) id_map_key: String,
    /// What kelp made to mount on.
    pub(super) mount_points: Vec<String>,
}

impl Files {
    /// Finds the files of `container`.
    pub(super) fn of(paths: &Paths, container: &Container) -> Result<Self> {
        let Container { directory, record } = container;
        let Some(files) = &record.files else {
            return Err(older_kelp());
        };
        let lowers = match &files.rootfs {
            Some(root) if root == Path::new("/") => {
                return Err(Failure::user("its root file system is this machine's own (--rootfs /)")
                    .hint("what it changed is not a tree by itself; copy what you need through a volume"));
            }
            Some(root) => vec![root.clone()],
            None => lowers(paths, record, &files.id_map_key)?,
        };
        Ok(Self {
            upper: directory.join("upper"),
            lowers,
            id_map: files.id_map.clone(),
            id_map_key: files.id_map_key.clone(),
            mount_points: files.mount_points.clone(),
        })
    }

    /// All of it, topmost first.
    pub(super) fn stack(&self) -> Vec<PathBuf> {
        std::iter::once(&self.upper).chain(&self.lowers).cloned().collect()
    }
}

/// That a record says nothing of the container's files.
pub(super) fn older_kelp() -> Failure {
    Failure::user("it was made by an older kelp, which did not write down what its files are")
        .hint("run it again; copy what you need through a volume")
}

/// The unpacked layers of a container's image, which are kept as long as the
/// container is, even if the image is not.
pub(super) fn lowers(paths: &Paths, record: &Record, id_map_key: &str) -> Result<Vec<PathBuf>> {
    let id: Digest = record.image_id.parse().map_err(|_| Failure::bug("a container without an image"))?;
    let config = Blobs::open(paths)?.read_verified(&id, limits::CONFIG_BYTES_MAX)?;
    let config = ImageConfig::parse(&config)?;
    let find = |diff_id: &Digest| {
        let layer = LayerId::new(id_map_key, &diff_id.hex())?;
        layers::find(paths, &layer).ok_or_else(|| Failure::host(format!("layer {} disappeared", diff_id.short())))
    };
    config.rootfs.diff_ids.iter().rev().map(find).collect()
}

/// The pack stage at work.
pub(super) struct Packing {
    launched: Launched,
}

/// Has the difference between the stacks `new` and `old` written to `output`.
/// `id_map` is that of the files, and `id_map_key` what it was onto the host's
/// ids when they were made.
pub(super) fn start(
    base: &mut Base,
    (id_map, id_map_key): (&IdMap, &str),
    (new, old): (&[PathBuf], &[PathBuf]),
    options: Options,
    output: BorrowedFd<'_>,
) -> Result<Packing> {
    let launched = launch::launch(Stage::Pack, base, "", &[])?;
    // Now, since the launch may have had to take a lower rung.
    if base.map.compose(id_map).key() != id_map_key {
        return Err(other_ids());
    }
    let request = Request { id_map: id_map.clone(), options, new: new.len(), old: old.len() };
    launched.channel.send_if_open(&request, &[output])?;
    for path in new.iter().chain(old) {
        // O_PATH: it may be open to nobody but an id of the container's.
        let directory =
            open::open(path, libc::O_PATH | libc::O_DIRECTORY).doing(|| format!("open \"{}\"", path.display()))?;
        launched.channel.send_if_open(&Directory {}, &[directory.as_fd()])?;
    }
    Ok(Packing { launched })
}

/// The user's ids are not what they were when the files were made.
pub(super) fn other_ids() -> Failure {
    Failure::host("the ids that are mapped for you are not those that its files were made with")
        .hint("kelp run --rm hello shows your ids; an admin changes them in /etc/subuid and /etc/subgid")
}

impl Packing {
    /// Waits for the end. The output is whole if this succeeds.
    pub(super) fn finish(self) -> Result<Summary> {
        match self.launched.channel.receive::<FromPack>()?.map(|received| received.message) {
            Some(FromPack::Packed(summary)) => Ok(summary),
            Some(FromPack::Failed(failure)) => Err(failure),
            None => Err(Failure::host("the process that packs was killed")),
        }
    }
}

/// Fails if a container was removed while it was read: what was read then is
/// not all of it. Removal begins with a rename.
pub(super) fn check_still_there(paths: &Paths, container: &Container) -> Result<()> {
    let id = &container.record.id;
    match store::find(paths, id) {
        Ok(_) if container.directory.join("upper").is_dir() => Ok(()),
        Ok(_) => Err(Failure::user("it was removed meanwhile")),
        Err(failure) if failure.kind == crate::error::Kind::NotFound => Err(Failure::user("it was removed meanwhile")),
        Err(failure) => Err(failure),
    }
}

/// What the user should know about what was packed: one line each.
pub(super) fn notices(summary: &Summary) -> Vec<String> {
    let Summary { changed, skipped_sockets, dropped_attributes, unread, .. } = summary;
    counted(&[
        (*changed, "file changed while it was read", "files changed while they were read"),
        (*skipped_sockets, "socket was left out", "sockets were left out"),
        (*dropped_attributes, "extended attribute was left out", "extended attributes were left out"),
        (*unread, "file of the kernel's was not read to its end", "files of the kernel's were not read to their end"),
    ])
}

/// A line for each count that is not 0, with its words for one and for many.
pub(super) fn counted(counts: &[(u64, &str, &str)]) -> Vec<String> {
    let line = |(count, one, many): &(u64, &str, &str)| match count {
        0 => None,
        1 => Some(format!("1 {one}")),
        count => Some(format!("{count} {many}")),
    };
    counts.iter().filter_map(line).collect()
}
