//! One cgroup: made, frozen, killed, removed.

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Seek};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout};

use super::own;
use crate::error::{Context, Failure, Result};
use crate::kernel::{file, open};

/// How long processes may take to stop: they do at once, unless the kernel is
/// doing something for them that cannot be interrupted.
const FREEZE_PATIENCE: Duration = Duration::from_millis(500);

/// How often a cgroup is tried to be removed whose processes are on their way out.
const REMOVE_TRIES: u32 = 50;
const REMOVE_PAUSE: Duration = Duration::from_millis(2);

/// A container's cgroup.
#[derive(Debug)]
pub struct Group {
    path: PathBuf,
    directory: File,
}

impl Group {
    /// Makes that of the container `id`; `None` where the user may not. One
    /// that a killed supervisor left is emptied and used.
    pub fn make(id: &str) -> Option<Self> {
        let path = own::delegated()?.join(own::name(id));
        if fs::create_dir(&path).is_err() {
            remove(&path, id).and_then(|()| Ok(fs::create_dir(&path)?)).ok()?;
        }
        Some(Self { directory: File::open(&path).ok()?, path })
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
        self.directory.as_fd()
    }
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
    for _ in 0..REMOVE_TRIES {
        match fs::remove_dir(path) {
            Err(error) if error.kind() == ErrorKind::ResourceBusy => std::thread::sleep(REMOVE_PAUSE),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
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
