//! Named places at which a test lets a process of kelp be killed: after a step
//! that others can see, before the next (docs/processes.md has the list).
//!
//! Only debug builds have them. The link `failpoint` in the runtime directory
//! names one, for stages are executed without an environment; the first process
//! that comes by takes the link away and is gone, as by `kill -9`.

use crate::paths::Paths;

/// The process ends here if a test wants it to.
#[cfg(debug_assertions)]
pub fn reach(paths: &Paths, name: &str) {
    let link = paths.run.join("failpoint");
    let is_wanted = std::fs::read_link(&link).is_ok_and(|wanted| wanted.as_os_str() == name);
    // Whoever removes it is the first.
    if is_wanted && std::fs::remove_file(&link).is_ok() {
        nix::sys::signal::raise(nix::sys::signal::Signal::SIGKILL).ok();
    }
}

/// Nothing.
#[cfg(not(debug_assertions))]
#[inline]
pub fn reach(_: &Paths, _: &str) {}
