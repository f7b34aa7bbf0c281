//! Where a container's cgroup can be made.

use std::path::{Path, PathBuf};

use crate::host;

/// The directory of the calling process's own cgroup, if its user may make
/// others in it and put processes there.
pub(super) fn delegated() -> Option<PathBuf> {
    let cgroup = host::cgroup();
    cgroup.directory.filter(|_| cgroup.is_delegated)
}

/// The name of the cgroup of the container `id`.
pub(super) fn name(id: &str) -> String {
    format!("kelp-{id}")
}

/// Whether `path` is one that [`name`] has named: nothing else is ever removed.
pub(super) fn is_named(path: &Path, id: &str) -> bool {
    path.is_absolute() && path.file_name().is_some_and(|last| *last == *name(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_we_named_is_ours() {
        let id = "ab".repeat(32);
        assert!(is_named(&Path::new("/sys/fs/cgroup/x").join(name(&id)), &id));
        for path in ["/sys/fs/cgroup/x", "/", "", &name(&id), "/sys/fs/cgroup/kelp-/.."] {
            assert!(!is_named(Path::new(path), &id), "{path}");
        }
        assert!(!is_named(&Path::new("/x").join(name(&id)), "cd"));
    }
}
