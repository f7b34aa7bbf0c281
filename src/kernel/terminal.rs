//! Terminals: raw mode, window size, pseudo-terminals (ioctl_tty(2), pts(4)).

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};

use super::error::{Named, Result, check};

/// Rows and columns of a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Size {
    /// Lines of text.
    pub rows: u16,
    /// Characters a line.
    pub columns: u16,
}

/// Whether `fd` is a terminal.
pub fn is_terminal(fd: BorrowedFd<'_>) -> bool {
    nix::unistd::isatty(fd).unwrap_or(false)
}

/// The window size of a terminal.
pub fn size(terminal: BorrowedFd<'_>) -> Result<Size> {
    let mut window = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCGWINSZ writes one winsize to the live variable given.
    let value = unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCGWINSZ, &raw mut window) };
    check(value.into(), "ioctl", || "TIOCGWINSZ".to_owned())?;
    Ok(Size { rows: window.ws_row, columns: window.ws_col })
}

/// Sets the window size; the foreground process group gets SIGWINCH.
pub fn resize(terminal: BorrowedFd<'_>, size: Size) -> Result<()> {
    let window = libc::winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCSWINSZ reads the live winsize given.
    let value = unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSWINSZ, &raw const window) };
    check(value.into(), "ioctl", || "TIOCSWINSZ".to_owned()).map(drop)
}

/// A terminal in raw mode, put back as it was when this is dropped.
pub struct Raw {
    terminal: OwnedFd,
    before: Termios,
}

impl Raw {
    /// Puts `terminal` into raw mode: every key goes through unchanged.
    pub fn enter(terminal: BorrowedFd<'_>) -> Result<Self> {
        let terminal = terminal.try_clone_to_owned().map_err(|error| {
            super::Error::new(
                "dup",
                "terminal",
                nix::errno::Errno::from_raw(error.raw_os_error().unwrap_or(libc::EBADF)),
            )
        })?;
        let before = tcgetattr(terminal.as_fd()).named("tcgetattr", || "terminal".to_owned())?;
        let mut raw = before.clone();
        cfmakeraw(&mut raw);
        tcsetattr(terminal.as_fd(), SetArg::TCSADRAIN, &raw).named("tcsetattr", || "terminal".to_owned())?;
        Ok(Self { terminal, before })
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // A terminal that is gone cannot be restored, and there is nobody to tell.
        tcsetattr(self.terminal.as_fd(), SetArg::TCSADRAIN, &self.before).ok();
    }
}

/// Unlocks the slave side of the pseudo-terminal `master` and opens it
/// without a path, so that no /dev of an image is trusted
/// (TIOCGPTPEER, Linux 4.13; CVE-2025-52565).
pub fn open_slave(master: BorrowedFd<'_>) -> Result<OwnedFd> {
    let unlock: libc::c_int = 0;
    // SAFETY: TIOCSPTLCK reads one int from the live variable given.
    let value = unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCSPTLCK, &raw const unlock) };
    check(value.into(), "ioctl", || "TIOCSPTLCK".to_owned())?;
    // SAFETY: TIOCGPTPEER takes open flags and returns a descriptor or −1.
    let value =
        unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCGPTPEER, libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC) };
    let fd = check(value.into(), "ioctl", || "TIOCGPTPEER".to_owned())?;
    // SAFETY: the kernel returned a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Makes `slave` the controlling terminal of the caller's session (TIOCSCTTY).
pub fn make_controlling(slave: BorrowedFd<'_>) -> Result<()> {
    // SAFETY: TIOCSCTTY takes one integer: 0 steals nobody's terminal.
    let value = unsafe { libc::ioctl(slave.as_raw_fd(), libc::TIOCSCTTY, 0) };
    check(value.into(), "ioctl", || "TIOCSCTTY".to_owned()).map(drop)
}
