//! Bytes that go from one socket to another without passing through us
//! (splice(2)).

use std::os::fd::{AsFd, OwnedFd};

use nix::fcntl::{FcntlArg, OFlag, SpliceFFlags, fcntl, splice};

use super::error::{Named, Result};

/// A pipe: what is spliced into it is pages, not copies.
pub struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
}

impl Pipe {
    /// A pipe that never waits, close-on-exec, with room for so many bytes of
    /// full pages, if the user has so much left (pipe(7), pipe-user-pages-soft);
    /// else with as much as the kernel gives.
    pub fn new(bytes: i32) -> Result<Self> {
        let flags = OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
        let (read, write) = nix::unistd::pipe2(flags).named("pipe2", String::new)?;
        // EPERM: this user has enough of them.
        fcntl(&write, FcntlArg::F_SETPIPE_SZ(bytes)).ok();
        Ok(Self { read, write })
    }

    /// Moves up to `most` bytes out of `source`. 0 is its end; EAGAIN: it has
    /// none now, or the pipe is full.
    pub fn fill(&self, source: impl AsFd, most: usize) -> nix::Result<usize> {
        splice(source, None, &self.write, None, most, SpliceFFlags::SPLICE_F_MOVE | SpliceFFlags::SPLICE_F_NONBLOCK)
    }

    /// Moves up to `most` bytes on into `target`. EAGAIN: it takes none now.
    pub fn empty(&self, target: impl AsFd, most: usize) -> nix::Result<usize> {
        splice(&self.read, None, target, None, most, SpliceFFlags::SPLICE_F_MOVE | SpliceFFlags::SPLICE_F_NONBLOCK)
    }
}
