//! Signals as descriptors: blocked, then read from a signalfd(2).

use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use super::error::{Named, Result};

/// Blocked signals, readable from a descriptor.
pub struct Signals(SignalFd);

impl Signals {
    /// Blocks `signals` for the calling thread and opens a descriptor of them.
    pub fn block(signals: &[Signal]) -> Result<Self> {
        let set: SigSet = signals.iter().copied().collect();
        set.thread_block().named("sigprocmask", String::new)?;
        SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
            .map(Self)
            .named("signalfd", String::new)
    }

    /// The next pending signal's number, if there is one.
    pub fn next(&self) -> Result<Option<i32>> {
        let info = self.0.read_signal().named("read", || "signalfd".to_owned())?;
        Ok(info.map(|info| info.ssi_signo as i32))
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Unblocks every signal and sets each one's action to the default, as a new
/// program expects to find them.
pub fn reset_all() -> Result<()> {
    SigSet::empty().thread_set_mask().named("sigprocmask", String::new)?;
    for signal in Signal::iterator().filter(|signal| !matches!(signal, Signal::SIGKILL | Signal::SIGSTOP)) {
        // SAFETY: SIG_DFL installs no handler, so no code of ours can run in a signal context.
        unsafe { nix::sys::signal::signal(signal, nix::sys::signal::SigHandler::SigDfl) }
            .named("signal", || signal.as_str().to_owned())?;
    }
    Ok(())
}

/// Has writes beyond the largest size of a file (setrlimit(2), RLIMIT_FSIZE)
/// fail with EFBIG instead of ending the process.
pub fn ignore_file_size_limit() -> Result<()> {
    // SAFETY: SIG_IGN installs no handler, so no code of ours can run in a signal context.
    unsafe { nix::sys::signal::signal(Signal::SIGXFSZ, nix::sys::signal::SigHandler::SigIgn) }
        .map(drop)
        .named("signal", || "SIGXFSZ".to_owned())
}

/// Has writes to a closed pipe fail with EPIPE instead of ending the process.
pub fn ignore_broken_pipe() -> Result<()> {
    // SAFETY: SIG_IGN installs no handler, so no code of ours can run in a signal context.
    unsafe { nix::sys::signal::signal(Signal::SIGPIPE, nix::sys::signal::SigHandler::SigIgn) }
        .map(drop)
        .named("signal", || "SIGPIPE".to_owned())
}
