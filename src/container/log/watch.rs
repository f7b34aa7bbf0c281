//! Waiting until there may be more in a log.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

/// Some containers' directories, watched. Where the host gives no inotify(7)
/// instance (there are 128 a user by default), waiting is short instead.
pub struct Watch(Option<Inotify>);

/// How long one waits who is not woken.
const NAP: Duration = Duration::from_millis(50);

impl Watch {
    /// Watches for writes to files and for new files, here, not below.
    pub fn new<'a>(directories: impl IntoIterator<Item = &'a Path>) -> Self {
        let flags = AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO;
        let watch = || {
            let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).ok()?;
            for directory in directories {
                inotify.add_watch(directory, flags).ok()?;
            }
            Some(inotify)
        };
        Self(watch())
    }

    /// Returns when something was written since the last time, when one of
    /// `others` can be read, or after `most`; whether it was for the first two.
    pub fn wait(&self, others: &[BorrowedFd<'_>], most: Duration) -> bool {
        let most = if self.0.is_some() { most } else { most.min(NAP) };
        let inotify = self.0.as_ref().map(AsFd::as_fd);
        let mut fds: Vec<PollFd<'_>> =
            inotify.into_iter().chain(others.iter().copied()).map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
        // Interrupted or not: the caller looks for itself.
        let woken = nix::poll::poll(&mut fds, PollTimeout::try_from(most).unwrap_or(PollTimeout::ZERO));
        // What exactly happened does not matter.
        while self.0.as_ref().is_some_and(|inotify| inotify.read_events().is_ok()) {}
        woken.is_ok_and(|count| count > 0)
    }
}
