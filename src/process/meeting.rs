//! Sockets in kelp's own directories, where processes of one user meet.
//!
//! The directories are closed to others (0700), and the kernel is asked who
//! speaks all the same.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use super::channel::Channel;
use crate::error::{Failure, Result};
use crate::kernel::{Errno, open, socket};

/// Opens the socket `name` in `directory`, for others to connect to. The caller
/// knows that one that is there was left by a process that was killed.
pub fn listen(directory: &Path, name: &str) -> Result<OwnedFd> {
    let directory = open::open_dir(directory)?;
    let path = below(&directory, name);
    std::fs::remove_file(&path).ok();
    Ok(socket::listen(&path)?)
}

/// A channel to who listens there; `None` where nobody does (any more).
pub fn connect(directory: &Path, name: &str) -> Result<Option<Channel>> {
    let directory = match open::open_dir(directory) {
        Err(error) if error.errno == Errno::ENOENT => return Ok(None),
        result => result?,
    };
    match socket::connect(&below(&directory, name)) {
        Ok(socket) => Ok(Some(Channel::new(socket))),
        Err(error) if matches!(error.errno, Errno::ENOENT | Errno::ECONNREFUSED) => Ok(None),
        Err(error) => Err(Failure::from(error)),
    }
}

/// Whether who is at the other end is this user.
pub fn is_own(socket: &OwnedFd) -> bool {
    socket::peer_uid(socket.as_fd()).is_ok_and(|uid| uid == nix::unistd::getuid().as_raw())
}

/// A socket's path may have 107 bytes (unix(7)); a runtime directory may be
/// longer than that.
fn below(directory: &OwnedFd, name: &str) -> PathBuf {
    Path::new("/proc/self/fd").join(directory.as_raw_fd().to_string()).join(name)
}
