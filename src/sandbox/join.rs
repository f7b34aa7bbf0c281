//! One program more in a container that runs, the supervisor's side: fork a
//! joiner, which enters the container's namespaces and clones the program as
//! the supervisor's own child.
//!
//! Nothing here waits: the container can stop the program's process before it
//! has executed (it is a process of its own pid namespace by then), and the
//! supervisor must go on all the same.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::cgroup::Entrance;
use super::oom_score;
use super::spec::{Namespaces, Process};
use super::stage::init::Streams;
use super::stage::join;
use crate::error::{Failure, Result};
use crate::kernel::Errno;
use crate::kernel::clone::{Child, Side, clone3};
use crate::process::channel::Channel;

/// A container to join.
pub struct Target<'a> {
    /// Its first process.
    pub pidfd: BorrowedFd<'a>,
    /// What it was started with: only what is not the host's is joined.
    pub namespaces: &'a Namespaces,
    /// Only one id is mapped in it.
    pub single: bool,
    /// Its own cgroup, if it has one.
    pub cgroup: Option<&'a Entrance>,
    /// Its first process, seen from here.
    pub pid: i32,
}

/// A program that is on its way into a container.
pub struct Joining {
    /// The joiner, a child to be waited for. It ends by itself.
    pub joiner: OwnedFd,
    /// What joiner and program say ([`join::FromJoin`]). Its end is the
    /// program's execve(2), if nothing else was said.
    pub channel: Channel,
}

/// A container that may make cgroups may have put its processes into some, and
/// given those controllers: then none can be where its program was started (the
/// kernel says EBUSY). The joiner goes where the first process is now.
fn clone_joiner(target: &Target<'_>) -> Result<Side> {
    let entrance = target.cgroup.map(Entrance::as_fd);
    match (clone3(0, entrance), target.cgroup) {
        (Err(error), Some(entrance)) if matches!(error.errno, Errno::EBUSY | Errno::EOPNOTSUPP) => {
            let inside = entrance.find_below(target.pid)?;
            Ok(clone3(0, Some(inside.as_fd()))?)
        }
        (Err(error), Some(_)) if error.errno == Errno::EAGAIN => {
            Err(Failure::from(error).doing("start a process: it has as many as it may have (--pids-limit)"))
        }
        (side, _) => Ok(side?),
    }
}

/// Runs `process` in a container. The caller is single-threaded, in the base
/// user namespace and without no_new_privs, which the program would inherit.
/// Of `streams`, each that is `None` is the caller's own.
pub fn join(target: &Target<'_>, process: &Process, streams: Streams<'_>) -> Result<Joining> {
    let (ours, theirs) = Channel::pair()?;
    let score = oom_score::lend(process.oom_score_adj)?;
    let cloned = clone_joiner(target);
    if !matches!(cloned, Ok(Side::Child)) {
        oom_score::restore(score);
    }
    match cloned? {
        Side::Child => join::run(target, process, streams, theirs),
        Side::Parent(Child { pidfd, .. }) => {
            drop(theirs);
            Ok(Joining { joiner: pidfd, channel: ours })
        }
    }
}
