//! What the kernel refused: the call, its object and the errno.

use std::fmt;

use nix::errno::Errno;

/// A system call that failed. Prints as
/// `mount_setattr /run/x: Operation not permitted (EPERM)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// The system call's name, as in its man page.
    pub call: &'static str,
    /// What it was called on: a path, a pid, an option. May be empty.
    pub target: String,
    /// The kernel's answer.
    pub errno: Errno,
}

/// The result of a wrapper.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error of `call` on `target`.
    pub fn new(call: &'static str, target: impl Into<String>, errno: Errno) -> Self {
        Self { call, target: target.into(), errno }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.call)?;
        if !self.target.is_empty() {
            write!(f, " {}", self.target)?;
        }
        write!(f, ": {} ({:?})", self.errno.desc(), self.errno)
    }
}

impl std::error::Error for Error {}

/// Names the call and object of a nix error.
pub(super) trait Named<T> {
    /// Attaches `call` and `target` to the errno.
    fn named(self, call: &'static str, target: impl FnOnce() -> String) -> Result<T>;
}

impl<T> Named<T> for nix::Result<T> {
    fn named(self, call: &'static str, target: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|errno| Error::new(call, target(), errno))
    }
}

/// Turns a raw return value of `libc::syscall` into a result: −1 means errno.
pub(super) fn check(value: libc::c_long, call: &'static str, target: impl FnOnce() -> String) -> Result<i64> {
    if value == -1 { Err(Error::new(call, target(), Errno::last())) } else { Ok(value) }
}
