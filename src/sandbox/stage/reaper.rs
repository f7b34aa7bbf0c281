//! `--init`: kelp stays pid 1 of the container, forwards signals to the
//! program and reaps what it orphans.
//!
//! The kernel shields pid 1 from signals that it has no handler for, and gives
//! it every orphan to wait for; most programs expect neither.

use std::os::fd::AsFd;

use nix::sys::signal::Signal;

use super::init::FromInit;
use super::payload::{self, Ready};
use crate::error::{EXIT_OWN_FAILURE, Result};
use crate::kernel::process::Fork;
use crate::kernel::signal::Signals;
use crate::kernel::{capability, process};
use crate::process::channel::Channel;
use crate::sandbox::capabilities;
use crate::sandbox::spec::SandboxSpec;

/// CAP_KILL.
const KILL: u64 = capabilities::bit(5);

/// Forks the program and stays with it. The exit status is the program's,
/// 128+n for a signal.
pub fn run(spec: &SandboxSpec, ready: Ready, channel: Channel) -> ! {
    match start(spec, ready, &channel).and_then(|started| give_up_rights().map(|()| started)) {
        Ok((pid, signals)) => {
            // Ours is the copy that would keep the supervisor from seeing the program start.
            drop(channel);
            stay(pid, &signals)
        }
        Err(failure) => {
            channel.send(&FromInit::Failed(failure), &[]).ok();
            process::exit_now(EXIT_OWN_FAILURE)
        }
    }
}

fn start(spec: &SandboxSpec, ready: Ready, channel: &Channel) -> Result<(i32, Signals)> {
    // Blocked before the fork, so that no signal falls between the two.
    let forwarded: Vec<Signal> = Signal::iterator().filter(|signal| !is_kept(*signal)).collect();
    let signals = Signals::block(&forwarded)?;
    match process::fork()? {
        Fork::Parent(pid) => Ok((pid, signals)),
        Fork::Child => {
            drop(signals);
            let failure = match crate::kernel::signal::reset_all().and_then(|()| process::new_session()) {
                Ok(()) => payload::execute(spec, ready),
                Err(error) => error.into(),
            };
            // The supervisor hears of it; if it is gone the exit status says it too.
            channel.send(&FromInit::Failed(failure), &[]).ok();
            process::exit_now(EXIT_OWN_FAILURE)
        }
    }
}

/// Signals that are about pid 1 itself.
fn is_kept(signal: Signal) -> bool {
    use Signal::{SIGBUS, SIGFPE, SIGILL, SIGKILL, SIGSEGV, SIGSTOP, SIGSYS, SIGTRAP};
    matches!(signal, SIGKILL | SIGSTOP | SIGSEGV | SIGBUS | SIGFPE | SIGILL | SIGTRAP | SIGSYS)
}

/// All that is left to do is to wait, and to signal a program that may be
/// another user's (kill(2)).
fn give_up_rights() -> Result<()> {
    process::set_no_new_privileges()?;
    Ok(capability::set(KILL, KILL, 0)?)
}

/// Forwards and reaps until the program has ended; the kernel then kills what
/// is left in the pid namespace.
fn stay(pid: i32, signals: &Signals) -> ! {
    process::close_standard_streams();
    loop {
        let mut fds = [nix::poll::PollFd::new(signals.as_fd(), nix::poll::PollFlags::POLLIN)];
        nix::poll::poll(&mut fds, nix::poll::PollTimeout::NONE).ok();
        while let Ok(Some(signal)) = signals.next() {
            if signal != libc::SIGCHLD {
                process::kill(pid, signal).ok();
            }
        }
        while let Ok(Some((ended, exit))) = process::reap_any() {
            if ended == pid {
                process::exit_now(exit.status());
            }
        }
    }
}
