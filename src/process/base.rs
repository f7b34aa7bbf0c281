//! The base user namespace: entered once, shared by a user's live kelp
//! processes (docs/processes.md, "The base namespace").
//!
//! Spawning newuidmap and newgidmap costs more than all other steps of a start
//! together, so it is done only when no live process holds the namespace.
//! Every process in it leaves a link `holders/PID` that names its start time;
//! a joiner takes the first one that is still that process, still owned by
//! this user and still a direct child of the caller's own user namespace.
//! Links of dead holders are removed by whoever meets them.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use super::identity::Identity;
use super::idmap::{self, Extent, IdMap};
use super::subids::{self, Full, Rung};
use crate::error::{Context, Failure, Result};
use crate::kernel::namespace;
use crate::paths::{self, Paths};

/// The base namespace as a stage enters it.
pub struct Base {
    /// Its id map, as seen from the host.
    pub map: IdMap,
    /// One line for the user where the map is less than full.
    pub notice: Option<String>,
    /// What the helpers said, where they failed to set a full map just now.
    pub helpers_said: Option<String>,
    /// How a stage gets in.
    pub(super) entry: Entry,
    holders: PathBuf,
}

/// How a stage gets into the base namespace.
pub(super) enum Entry {
    /// By joining it.
    Held(OwnedFd),
    /// By making it; the lock keeps others from making a second one and is
    /// released when the maker has registered.
    New { helpers: Option<Full>, _lock: File },
}

impl Base {
    /// Finds the live base namespace, or gets ready to make one.
    pub fn find(paths: &Paths) -> Result<Self> {
        let holders = paths.holders();
        if let Some(held) = find_held(&holders) {
            return Ok(Self::held(held, holders));
        }
        paths::make_private(&holders)?;
        let path = paths.base_lock();
        let lock = File::create(&path).doing(|| format!("open {}", path.display()))?;
        lock.lock().doing(|| format!("lock {}", path.display()))?;
        // Somebody may have made one while we waited for the lock.
        if let Some(held) = find_held(&holders) {
            return Ok(Self::held(held, holders));
        }
        let (uid, gid) = (nix::unistd::getuid().as_raw(), nix::unistd::getgid().as_raw());
        let rung = subids::find(uid, gid);
        let map = rung.map(uid, gid);
        let (helpers, notice) = match rung {
            Rung::Full(full) => (Some(full), None),
            Rung::Single { cause, remedy } => {
                (None, Some(format!("only your own id is mapped, as root ({cause}); {remedy}")))
            }
        };
        Ok(Self { map, notice, helpers_said: None, entry: Entry::New { helpers, _lock: lock }, holders })
    }

    fn held((fd, map): (OwnedFd, IdMap), holders: PathBuf) -> Self {
        let notice =
            map.is_single().then(|| "only your own id is mapped, as root; kelp run --rm hello says why".to_owned());
        Self { map, notice, helpers_said: None, entry: Entry::Held(fd), holders }
    }

    /// Falls back to the single-id rung after the helpers failed with `cause`.
    pub(super) fn fall_back(&mut self, cause: &Failure) {
        let (uid, gid) = (nix::unistd::getuid().as_raw(), nix::unistd::getgid().as_raw());
        self.map = IdMap::single(uid, gid);
        self.notice = Some(format!("only your own id is mapped, as root ({cause})"));
        self.helpers_said = Some(cause.to_string());
        if let Entry::New { helpers, .. } = &mut self.entry {
            *helpers = None;
        }
    }

    /// After a new base namespace was made and its maker, `pid`, registered:
    /// later stages join it, and others need not wait for the lock.
    pub(super) fn hold(&mut self, pid: i32) {
        if let (Entry::New { .. }, Ok(namespace)) = (&self.entry, File::open(format!("/proc/{pid}/ns/user"))) {
            self.entry = Entry::Held(namespace.into());
        }
    }

    /// Records that process `pid` is in the base namespace and, where it made
    /// it, lets others look for it.
    pub(super) fn register(&self, pid: i32) -> Result<()> {
        let identity = Identity::of(pid)?;
        let link = self.holders.join(pid.to_string());
        let start = identity.start_time.to_string();
        match std::os::unix::fs::symlink(&start, &link) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                fs::remove_file(&link).and_then(|()| std::os::unix::fs::symlink(&start, &link))
            }
            result => result,
        }
        .doing(|| format!("register in {}", self.holders.display()))
    }
}

/// Removes the calling process's own link: it is about to end.
pub fn unregister(paths: &Paths) {
    // A link that stays behind is removed by whoever meets it next.
    fs::remove_file(paths.holders().join(std::process::id().to_string())).ok();
}

fn find_held(holders: &Path) -> Option<(OwnedFd, IdMap)> {
    let own = File::open("/proc/self/ns/user").ok()?;
    for entry in fs::read_dir(holders).ok()?.flatten() {
        let link = entry.path();
        let found = holder(&link).and_then(|identity| {
            let fd = open_base_of(identity, &own)?;
            Some((fd, read_map(identity.pid)?))
        });
        if found.is_some() {
            return found;
        }
        fs::remove_file(&link).ok();
    }
    None
}

fn holder(link: &Path) -> Option<Identity> {
    let pid = link.file_name()?.to_str()?.parse().ok()?;
    let start_time = fs::read_link(link).ok()?.to_str()?.parse().ok()?;
    Some(Identity { pid, start_time })
}

/// The user namespace of a live holder. Opened first and checked afterwards,
/// so that what was checked is what is joined.
fn open_base_of(identity: Identity, own: &File) -> Option<OwnedFd> {
    let fd = OwnedFd::from(File::open(format!("/proc/{}/ns/user", identity.pid)).ok()?);
    let parent = namespace::parent(fd.as_fd()).ok()?;
    let same_parent = namespace::inode(parent.as_fd()).ok()? == namespace::inode(own.as_fd()).ok()?;
    let ours = namespace::owner_uid(fd.as_fd()).ok()? == nix::unistd::getuid().as_raw();
    (same_parent && ours && identity.is_current()).then_some(fd)
}

fn read_map(pid: i32) -> Option<IdMap> {
    let read = |name: &str| {
        let text = fs::read_to_string(format!("/proc/{pid}/{name}")).ok()?;
        let extents: Option<Vec<Extent>> = text.lines().map(idmap::parse_extent).collect();
        extents.filter(|extents| !extents.is_empty())
    };
    Some(IdMap { uids: read("uid_map")?, gids: read("gid_map")? })
}
