//! All processes of a container stopped, or let go on, by signals.
//!
//! kill(2) with −1 from inside the pid namespace reaches all but its first
//! process, whatever they forked meanwhile; that one is reached from outside.
//! The sender is a fork of the supervisor that no process inside can trace.

use std::fs::File;
use std::os::fd::AsFd;

use nix::poll::{PollFd, PollFlags, PollTimeout};
use nix::sched::CloneFlags;

use crate::error::{Context, Failure, Result};
use crate::kernel::process::{self, Fork};
use crate::kernel::{Errno, namespace};
use crate::sandbox::start::Started;

/// Every process is signalled so often: one that was forked while the first
/// signals went out is there for the next.
const ROUNDS: u32 = 3;

/// How long the sender may take: it does nothing but send.
const PATIENCE_MS: u16 = 2_000;

/// Sends `signal` to every process of a container with a pid namespace of its own.
pub(super) fn signal_all(started: &Started, signal: i32) -> Result<()> {
    let path = format!("/proc/{}/ns/pid", started.pid);
    let inside = File::open(&path).doing(|| format!("open {path}"))?;
    if signal == libc::SIGSTOP {
        // First the one that could start others anew.
        process::pidfd_send_signal(started.pidfd.as_fd(), signal)?;
    }
    if let Err(failure) = send(&inside, signal) {
        // Not half of it.
        process::pidfd_send_signal(started.pidfd.as_fd(), libc::SIGCONT).ok();
        return Err(failure);
    }
    if signal != libc::SIGSTOP {
        process::pidfd_send_signal(started.pidfd.as_fd(), signal)?;
    }
    Ok(())
}

/// A fork enters the namespace, and a fork of that is in it (setns(2)).
fn send(inside: &File, signal: i32) -> Result<()> {
    match process::fork()? {
        Fork::Parent(pid) => {
            let exit = process::wait_pidfd(process::pidfd_open(pid)?.as_fd())?;
            match exit.status() {
                0 => Ok(()),
                _ => Err(Failure::host("its processes cannot be reached; is it ending?")),
            }
        }
        Fork::Child => process::exit_now(i32::from(enter_and_send(inside, signal).is_err())),
    }
}

fn enter_and_send(inside: &File, signal: i32) -> Result<()> {
    process::set_dumpable(false)?;
    namespace::setns(inside.as_fd(), CloneFlags::CLONE_NEWPID, "pid")?;
    match process::fork()? {
        Fork::Parent(pid) => {
            let pidfd = process::pidfd_open(pid)?;
            let mut fds = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
            if nix::poll::poll(&mut fds, PollTimeout::from(PATIENCE_MS)) != Ok(1) {
                // Root in there is the same user, and may have stopped it.
                process::pidfd_send_signal(pidfd.as_fd(), libc::SIGKILL)?;
            }
            let exit = process::wait_pidfd(pidfd.as_fd())?;
            process::exit_now(exit.status());
        }
        Fork::Child => {
            for _ in 0..ROUNDS {
                match process::kill(-1, signal) {
                    Ok(()) => {}
                    // Nobody but the first process.
                    Err(error) if error.errno == Errno::ESRCH => {}
                    Err(_) => process::exit_now(1),
                }
            }
            process::exit_now(0)
        }
    }
}
