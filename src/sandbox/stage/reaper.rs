//! `--init`: kelp stays pid 1 of the container, forwards signals to the
//! program and reaps what it orphans.
//!
//! The kernel shields pid 1 from signals that it has no handler for, and gives
//! it every orphan to wait for; most programs expect neither.

use std::io::Read;
use std::os::fd::AsFd;

use nix::sys::signal::Signal;

use super::init::FromInit;
use super::payload::{self, Ready};
use crate::error::{EXIT_OWN_FAILURE, Result};
use crate::kernel::process::Fork;
use crate::kernel::signal::Signals;
use crate::kernel::{Errno, capability, process, seccomp};
use crate::process::channel::Channel;
use crate::sandbox::capabilities;
use crate::sandbox::seccomp::Policy;
use crate::sandbox::spec::Process;

/// CAP_KILL.
const KILL: u64 = capabilities::bit(5);

/// Forks the program and stays with it. The exit status is the program's,
/// 128+n for a signal.
pub fn run(program: &Process, ready: Ready, channel: Channel) -> ! {
    match start(program, ready, &channel) {
        Ok((pid, signals)) => stay(pid, &signals, channel),
        Err(failure) => {
            channel.send(&FromInit::Failed(failure), &[]).ok();
            process::exit_now(EXIT_OWN_FAILURE)
        }
    }
}

fn start(program: &Process, ready: Ready, channel: &Channel) -> Result<(i32, Signals)> {
    // Blocked before the fork, so that no signal falls between the two.
    let forwarded: Vec<Signal> = Signal::iterator().filter(|signal| !is_kept(*signal)).collect();
    let signals = Signals::block(&forwarded)?;
    // From before the program exists: it must never be able to trace us.
    process::set_dumpable(false)?;
    let (mut confined, confining) = std::io::pipe()?;
    match process::fork()? {
        Fork::Parent(pid) => {
            confine()?;
            drop(confining);
            Ok((pid, signals))
        }
        Fork::Child => {
            drop((signals, confining));
            // The end of the file: pid 1 has given up its rights. If it could
            // not, it ends, and the kernel kills us.
            confined.read_exact(&mut [0]).ok();
            let failure = match crate::kernel::signal::reset_all().and_then(|()| process::new_session()) {
                Ok(()) => payload::execute(program, ready, channel),
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

/// Forwards and reaps until the program has ended; the kernel then kills what
/// is left in the pid namespace.
fn stay(pid: i32, signals: &Signals, channel: Channel) -> ! {
    if channel.is_closed() {
        process::exit_now(EXIT_OWN_FAILURE);
    }
    // Ours is the copy that would keep the supervisor from seeing the program start.
    drop(channel);
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

/// The program can be root beside us: it must not be able to trace pid 1 and
/// make it do what it may not do itself. All that is left to do is to wait,
/// and to signal a program that may be another user's (kill(2)).
fn confine() -> Result<()> {
    process::set_no_new_privileges()?;
    for number in (0..64).filter(|number| KILL & (1 << number) == 0) {
        match capability::drop_bounding(number) {
            // Beyond the last one this kernel knows.
            Err(error) if error.errno == Errno::EINVAL => break,
            result => result?,
        }
    }
    seccomp::install(&Policy::default_profile(KILL).filter()?.0)?;
    capability::set(KILL, KILL, 0)?;
    process::set_parent_death_signal(libc::SIGKILL)?;
    Ok(())
}
