//! A stage's worker: the process of a stage that touches what is not ours.
//!
//! It is root of a user namespace with a container's id map, in namespaces of
//! its own without network, mounts or other processes in sight; its root
//! directory is an empty one, or what it was made to work on; it has the few
//! capabilities that its work takes. Files of others it reaches by descriptors
//! alone.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use super::channel::Channel;
use super::idmap::IdMap;
use super::launch::StageFailed;
use crate::error::{Context, Failure, Result};
use crate::kernel::clone::{Child, Side, clone3};
use crate::kernel::{capability, mount, open, process};

/// What a worker does, before it is confined and after. A closure is work that
/// needs nothing before.
pub trait Work {
    /// Opens files by their paths, in the worker's mount namespace and with the
    /// user's own rights: its ids are not mapped yet.
    fn open(&mut self) -> Result<()> {
        Ok(())
    }

    /// Mounts what will be the worker's root directory, as root of its user
    /// namespace; `None` is an empty one.
    fn mount(&mut self) -> Result<Option<OwnedFd>> {
        Ok(None)
    }

    /// Does it.
    fn work(self) -> Result<()>;
}

impl<F: FnOnce() -> Result<()>> Work for F {
    fn work(self) -> Result<()> {
        self()
    }
}

/// Runs `work` in a worker with `id_map` (onto the caller's user namespace)
/// and the set `capabilities` (bit n is capability n), and waits for its end.
/// What `work` returns as a failure is sent over `channel`. `what` is what the
/// worker does, in an error: "packs". The caller must be single-threaded.
pub fn run(id_map: &IdMap, capabilities: u64, what: &str, channel: &Channel, mut work: impl Work) -> Result<()> {
    let flags = libc::CLONE_NEWUSER
        | libc::CLONE_NEWNS
        | libc::CLONE_NEWPID
        | libc::CLONE_NEWNET
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWUTS;
    let (ours, theirs) = Channel::pair()?;
    match clone3(flags as u64, None).map_err(crate::host::explain_namespaces)? {
        Side::Child => {
            drop(ours);
            let prepared = prepare(&theirs, id_map, capabilities, &mut work);
            let prepared = prepared.doing(|| format!("confine the process that {what}"));
            let result = prepared.and_then(|is_wanted| if is_wanted { work.work() } else { Ok(()) });
            if let Err(failure) = result {
                // A command that is gone needs no answer.
                channel.send(&StageFailed { failed: failure }, &[]).ok();
            }
            process::exit_now(0)
        }
        Side::Parent(Child { pid, pidfd }) => {
            // What the work holds is the worker's alone: whoever waits for the end of a pipe must see it.
            drop((theirs, work));
            id_map.write_for(pid)?;
            ours.send_if_open(&(), &[])?;
            match process::wait_pidfd(pidfd.as_fd())? {
                process::Exit::Code(_) => Ok(()),
                process::Exit::Signal(signal) => Err(killed(what, signal)),
            }
        }
    }
}

/// That a worker did not end by itself. SIGKILL comes from outside, as a rule
/// from the kernel that has no memory left; other signals are faults of ours.
fn killed(what: &str, signal: i32) -> Failure {
    let cause = format!("the process that {what} was killed by signal {signal}");
    match signal {
        libc::SIGKILL => Failure::host(cause).hint("if nobody did, memory ran out: journalctl -k tells"),
        _ => Failure::bug(cause),
    }
}

/// Waits for the id map and gives up all that the work does not need; `false`
/// if the stage is gone meanwhile.
fn prepare(parent: &Channel, id_map: &IdMap, capabilities: u64, work: &mut impl Work) -> Result<bool> {
    process::set_parent_death_signal(libc::SIGKILL)?;
    work.open()?;
    if parent.receive::<()>()?.is_none() {
        return Ok(false);
    }
    process::become_user(0, 0, (!id_map.is_single()).then_some(&[][..]))?;
    nix::sys::stat::umask(nix::sys::stat::Mode::empty());
    match work.mount()? {
        Some(root) => pivot(root.as_fd())?,
        None => empty_root()?,
    }
    for number in (0..64).take_while(|number| capability::known(*number)) {
        if capabilities & (1 << number) == 0 {
            capability::drop_bounding(number)?;
        }
    }
    capability::set(capabilities, capabilities, 0)?;
    Ok(true)
}

/// Makes an empty read-only file system the root: no path of the host can be
/// reached, even if the work could be fooled. The caller is root of a mount
/// namespace of its own.
pub fn empty_root() -> Result<()> {
    let context = mount::Context::new(c"tmpfs")?;
    let empty = context.mount(mount::RDONLY | mount::NOSUID | mount::NODEV | mount::NOEXEC)?;
    let here = open::open_dir(Path::new("/tmp"))?;
    mount::attach(empty.as_fd(), here.as_fd(), "/tmp")?;
    pivot(empty.as_fd())
}

/// Makes the mounted `root` the root directory; all others are gone.
fn pivot(root: BorrowedFd<'_>) -> Result<()> {
    nix::unistd::fchdir(root).map_err(std::io::Error::from)?;
    mount::pivot_to_cwd()?;
    Ok(mount::detach_cwd()?)
}
