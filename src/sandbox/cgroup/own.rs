//! The names of kelp's own cgroups. What is not called so is never removed.
//!
//! ```text
//!   SLICE/kelp-ID.scope/     systemd's; kelp-ID-2.scope where that is still taken
//!       supervisor/          kelp's own process
//!       container/           the container's
//!           init/            where its program starts, if it may make cgroups
//!
//!   SUBTREE/                 delegated to the user
//!       kelp/                kelp's own processes, where they have to move
//!       kelp-ID/             the container's
//!           init/
//! ```

use std::path::Path;

/// kelp's own process, in a scope.
pub(super) const SUPERVISOR: &str = "supervisor";

/// The container's, in a scope.
pub(super) const CONTAINER: &str = "container";

/// Where the program starts of a container that may make cgroups: what it is
/// limited by is one above, where it cannot write.
pub(super) const INIT: &str = "init";

/// kelp's own processes, in a subtree.
pub(super) const KELP: &str = "kelp";

/// The name of the cgroup of the container `id` in a subtree.
pub(super) fn name(id: &str) -> String {
    format!("kelp-{id}")
}

/// The name of its scope; `number` counts from 1.
pub(super) fn scope_name(id: &str, number: u32) -> String {
    if number == 1 { format!("kelp-{id}.scope") } else { format!("kelp-{id}-{number}.scope") }
}

/// Whether `path` is a container's cgroup of the container `id`: nothing else
/// is ever removed.
pub(super) fn is_named(path: &Path, id: &str) -> bool {
    let last = |path: &Path| path.file_name().and_then(|name| name.to_str()).map(str::to_owned);
    let (Some(own), Some(above)) = (last(path), path.parent().and_then(last)) else { return false };
    path.is_absolute() && (own == name(id) || own == CONTAINER && is_scope(&above, id))
}

/// The scope that `path`, the cgroup of the container `id`, is in.
pub(super) fn scope_of<'a>(path: &'a Path, id: &str) -> Option<&'a str> {
    let above = path.parent().filter(|_| is_named(path, id) && path.ends_with(CONTAINER))?;
    above.file_name()?.to_str()
}

fn is_scope(unit: &str, id: &str) -> bool {
    let rest = unit.strip_prefix(&name(id)).and_then(|rest| rest.strip_suffix(".scope"));
    rest.is_some_and(|rest| {
        rest.is_empty() || rest.strip_prefix('-').is_some_and(|number| number.parse::<u32>().is_ok())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_we_named_is_ours() {
        let id = "ab".repeat(32);
        let tree = Path::new("/sys/fs/cgroup/x");
        assert!(is_named(&tree.join(name(&id)), &id));
        for number in [1, 2, 8] {
            let scope = tree.join(scope_name(&id, number));
            assert!(is_named(&scope.join(CONTAINER), &id), "{number}");
            assert_eq!(scope_of(&scope.join(CONTAINER), &id), Some(scope_name(&id, number).as_str()));
            assert_eq!(scope_of(&scope.join(CONTAINER), "cd"), None);
            assert!(!is_named(&scope, &id) && !is_named(&scope.join(SUPERVISOR), &id));
        }
        assert_eq!(scope_of(&tree.join(name(&id)), &id), None);
        for path in ["/sys/fs/cgroup/x", "/", "", &name(&id), "/sys/fs/cgroup/kelp-/..", "/x/container", "/container"] {
            assert!(!is_named(Path::new(path), &id), "{path}");
        }
        assert!(!is_named(&tree.join(format!("kelp-{id}-x.scope/container")), &id));
        assert!(!is_named(&Path::new("/x").join(name(&id)), "cd"));
        assert!(!is_named(&Path::new("/x").join(scope_name(&id, 1)).join(CONTAINER), "cd"));
    }
}
