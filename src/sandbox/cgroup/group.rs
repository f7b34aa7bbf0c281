//! One cgroup: made, frozen, killed, removed.

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Seek};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout};

use super::limits::Limits;
use super::own;
use crate::error::{Context, Failure, Result};
use crate::host::cgroup;
use crate::kernel::{file, open};
use crate::limits;

/// How long processes may take to stop: they do at once, unless the kernel is
/// doing something for them that cannot be interrupted.
const FREEZE_PATIENCE: Duration = Duration::from_millis(500);

/// How often a cgroup is tried to be removed whose processes are on their way out.
const REMOVE_TRIES: u32 = 50;
const REMOVE_PAUSE: Duration = Duration::from_millis(2);

/// A container's cgroup.
#[derive(Debug)]
pub struct Group {
    /// Where limits are written, and what is frozen and killed.
    path: PathBuf,
    /// Where processes are put.
    entrance: Entrance,
    /// The entrance is one below: the container may make cgroups in that.
    is_writable: bool,
}

impl Group {
    /// Makes the one at `path` of the container `id`, with its limits. One that
    /// a killed supervisor left is emptied and made anew.
    pub(super) fn make(path: PathBuf, id: &str, limits: &Limits, is_writable: bool) -> Result<Self> {
        let doing = || format!("make cgroup {}", path.display());
        match fs::create_dir(&path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                remove(&path, id)?;
                fs::create_dir(&path).doing(doing)?;
            }
            result => result.doing(doing)?,
        }
        let made = super::write(&path, limits).and_then(|()| match is_writable {
            true => make_entrance(&path),
            false => Entrance::open(&path),
        });
        match made {
            Ok(entrance) => Ok(Self { path, entrance, is_writable }),
            Err(failure) => {
                // Nothing is in it; why it could not be made is what is told.
                remove(&path, id).ok();
                Err(failure)
            }
        }
    }

    /// Where its processes are put, to be kept.
    pub fn entrance(&self) -> Result<Entrance> {
        Entrance::open(&self.entrance.path)
    }

    /// Makes it as it was before its program was started: what that has made in
    /// it goes, and what was paused goes on. No process is in it.
    pub fn renew(&mut self) -> Result<()> {
        self.freeze(false)?;
        if self.is_writable {
            remove_below(&self.path)?;
            self.entrance = make_entrance(&self.path)?;
        }
        Ok(())
    }

    /// Its directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Stops all its processes, and returns when they are; or lets them go on.
    pub fn freeze(&self, wanted: bool) -> Result<()> {
        self.write("cgroup.freeze", if wanted { "1" } else { "0" })?;
        if !wanted || self.wait_until_frozen()? {
            return Ok(());
        }
        self.write("cgroup.freeze", "0")?;
        Err(Failure::host("its processes do not stop: the kernel is busy for one of them"))
    }

    /// Kills all its processes, with those that they are starting.
    pub fn kill(&self) -> Result<()> {
        self.write("cgroup.kill", "1")
    }

    /// The file's change is told by poll(2) (cgroups(7), "cgroup.events").
    fn wait_until_frozen(&self) -> Result<bool> {
        let path = self.path.join("cgroup.events");
        let mut events = File::open(&path).doing(|| format!("open {}", path.display()))?;
        let deadline = Instant::now() + FREEZE_PATIENCE;
        loop {
            let mut text = String::new();
            events
                .rewind()
                .and_then(|()| events.read_to_string(&mut text))
                .doing(|| format!("read {}", path.display()))?;
            let left = deadline.saturating_duration_since(Instant::now());
            if is_frozen(&text) || left.is_zero() {
                return Ok(is_frozen(&text));
            }
            let mut fds = [PollFd::new(events.as_fd(), PollFlags::POLLPRI)];
            // A signal, or the end of the time: the file says what is so.
            nix::poll::poll(&mut fds, PollTimeout::try_from(left.as_millis() + 1).unwrap_or(PollTimeout::MAX)).ok();
        }
    }

    fn write(&self, name: &str, value: &str) -> Result<()> {
        let path = self.path.join(name);
        fs::write(&path, value).doing(|| format!("write {value} to {}", path.display()))
    }
}

impl AsFd for Group {
    /// The directory, to clone processes into.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.entrance.as_fd()
    }
}

/// The cgroup that a container's processes are put into.
#[derive(Debug)]
pub struct Entrance {
    path: PathBuf,
    directory: File,
}

impl Entrance {
    fn open(path: &Path) -> Result<Self> {
        let directory = File::open(path).doing(|| format!("open {}", path.display()))?;
        Ok(Self { path: path.to_owned(), directory })
    }

    /// The cgroup that the process `pid` of the container's has been put into
    /// by the container itself.
    pub fn find_below(&self, pid: i32) -> Result<OwnedFd> {
        let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).doing(|| "find the container's cgroup")?;
        let mount = cgroup::CgroupMount::find().ok_or_else(|| Failure::host("no cgroup v2 tree is mounted"))?;
        let path = mount.directory(Path::new(cgroup::own_cgroup(&text).unwrap_or_default()));
        if !path.starts_with(&self.path) {
            return Err(Failure::host("the container's first process is in another cgroup"));
        }
        Ok(open::open_dir(&path)?)
    }
}

impl AsFd for Entrance {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }
}

/// Where the program of a container starts that may make cgroups: one below
/// what its limits are written to, with the same controllers, and bounds on
/// what it makes. Its files are its owner's, who is root in the container.
fn make_entrance(path: &Path) -> Result<Entrance> {
    let write = |name: &str, value: String| {
        let file = path.join(name);
        fs::write(&file, &value).doing(|| format!("write {value} to {}", file.display()))
    };
    write("cgroup.max.descendants", limits::CGROUP_DESCENDANTS_MAX.to_string())?;
    write("cgroup.max.depth", limits::CGROUP_NESTING_MAX.to_string())?;
    enable(path, &words(&path.join("cgroup.controllers"))?)?;
    let entrance = path.join(own::INIT);
    fs::create_dir(&entrance).doing(|| format!("make cgroup {}", entrance.display()))?;
    Entrance::open(&entrance)
}

/// Gives the controllers `wanted` to the cgroups in `directory`, as far as that
/// can be done; returns why others could not be given.
pub(super) fn enable(directory: &Path, wanted: &[String]) -> Result<Option<Failure>> {
    let file = directory.join("cgroup.subtree_control");
    let enabled = words(&file)?;
    let missing: Vec<String> =
        wanted.iter().filter(|name| !enabled.contains(name)).map(|name| format!("+{name}")).collect();
    if missing.is_empty() || fs::write(&file, missing.join(" ")).is_ok() {
        return Ok(None);
    }
    // One that cannot be given takes no other along.
    let mut refused: Vec<Failure> = missing
        .iter()
        .filter_map(|name| fs::write(&file, name).doing(|| format!("write {name} to {}", file.display())).err())
        .collect();
    Ok(refused.pop())
}

pub(super) fn words(path: &Path) -> Result<Vec<String>> {
    let text = fs::read_to_string(path).doing(|| format!("read {}", path.display()))?;
    Ok(text.split_ascii_whitespace().map(str::to_owned).collect())
}

/// Kills what is left in the cgroup at `path` of the container `id`, and
/// removes it. One that is gone is no failure.
pub fn remove(path: &Path, id: &str) -> Result<()> {
    if !own::is_named(path, id) {
        return Err(Failure::bug(format!("{} is not the cgroup of {id}", path.display())));
    }
    let directory = match open::open_dir(path) {
        Err(error) if error.errno == crate::kernel::Errno::ENOENT => return Ok(()),
        result => result?,
    };
    if file::file_system_magic(directory.as_fd())? != libc::CGROUP2_SUPER_MAGIC {
        return Err(Failure::bug(format!("{} is no cgroup", path.display())));
    }
    // Linux before 5.14 has no such file; there it can only be removed empty.
    fs::write(path.join("cgroup.kill"), "1").ok();
    // Frozen, they die as well.
    remove_below(path)?;
    remove_empty(path)
}

/// Removes the cgroups in `path`, the deepest first. No process is in them, or
/// all are on their way out.
fn remove_below(path: &Path) -> Result<()> {
    let entries = match fs::read_dir(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        result => result.doing(|| format!("read {}", path.display()))?,
    };
    // The kernel keeps to the depth that was written; the names are its own and no links.
    for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        remove_below(&entry.path())?;
        remove_empty(&entry.path())?;
    }
    Ok(())
}

fn remove_empty(path: &Path) -> Result<()> {
    for _ in 0..REMOVE_TRIES {
        match fs::remove_dir(path) {
            Err(error) if error.kind() == ErrorKind::ResourceBusy => std::thread::sleep(REMOVE_PAUSE),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            // Files of cgroupfs are no entries; of a directory that is no cgroup they are.
            result => return result.doing(|| format!("remove {}", path.display())),
        }
    }
    Err(Failure::host("its processes do not end").doing(format!("remove {}", path.display())))
}

fn is_frozen(events: &str) -> bool {
    events.lines().any(|line| line == "frozen 1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_events_say_whether_it_is_frozen() {
        assert!(is_frozen("populated 1\nfrozen 1\n"));
        assert!(!is_frozen("populated 1\nfrozen 0\n"));
        assert!(!is_frozen("populated 1\n"));
        assert!(!is_frozen(""));
    }

    #[test]
    fn nothing_else_is_removed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("kelp-ab");
        fs::create_dir(&path).unwrap();
        assert!(remove(directory.path(), "ab").is_err());
        assert!(remove(&path, "cd").is_err());
        // The name is right, but it is no cgroup.
        assert!(remove(&path, "ab").is_err());
        assert!(path.exists());
        fs::remove_dir(&path).unwrap();
        remove(&path, "ab").unwrap();
    }
}
