//! Into a container that runs: the joiner, and the program's process until it
//! executes.
//!
//! What is inside may be hostile and is awake: unlike init, which is alone in
//! its namespaces, a process that comes in can be seen, signalled and, if it
//! allowed it, traced by a root that has all capabilities. So the joiner makes
//! itself undumpable and lets go of all that the program does not need before
//! it enters (CVE-2016-9962), and everything inside is opened below the root's
//! descriptor and looked at before it is trusted.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use nix::sched::CloneFlags;
use serde::{Deserialize, Serialize};

use super::init::{self, Streams};
use super::payload::{self, Ready};
use crate::error::{EXIT_OWN_FAILURE, Failure, Result};
use crate::kernel::clone::{Child, Side, clone3_sibling};
use crate::kernel::{namespace, open, process, signal};
use crate::process::channel::Channel;
use crate::sandbox::join::Target;
use crate::sandbox::mounts;
use crate::sandbox::spec::{Namespace, Namespaces, Process};

/// What joiner and program say to the supervisor.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FromJoin {
    /// There is a process for the program, a child of the supervisor's. Its
    /// pidfd comes along. Not its pid: where the supervisor has joined another
    /// container's pid namespace, the joiner sees another one than it does.
    Cloned,
    /// The terminal's master comes along.
    Console,
    /// It went wrong; the program has not run.
    Failed(Failure),
}

/// Runs as the supervisor's fork. Never returns.
pub fn run(target: &Target<'_>, program: &Process, streams: Streams<'_>, channel: Channel) -> ! {
    let entered = enter(target, &streams, &channel).and_then(|()| Ok(clone3_sibling()?));
    let failure = match entered.map_err(explain) {
        Ok(Side::Child) => become_program(target.single, program, streams, &channel),
        Ok(Side::Parent(Child { pidfd, .. })) => match channel.send(&FromJoin::Cloned, &[pidfd.as_fd()]) {
            Ok(()) => process::exit_now(0),
            Err(failure) => failure,
        },
        Err(failure) => failure,
    };
    // A supervisor that is gone has nobody to tell; the exit status says it too.
    channel.send(&FromJoin::Failed(failure), &[]).ok();
    process::exit_now(EXIT_OWN_FAILURE)
}

/// Enters the container's namespaces, all that are not the host's. Its pid
/// namespace counts from the next clone on (setns(2)).
fn enter(target: &Target<'_>, streams: &Streams<'_>, channel: &Channel) -> Result<()> {
    process::set_parent_death_signal(libc::SIGKILL)?;
    process::set_dumpable(false)?;
    // The supervisor's locks, logs and other sessions are not for this one to hold.
    let mut needed = vec![channel.as_fd(), target.pidfd];
    needed.extend([streams.stdin, streams.stdout, streams.stderr].into_iter().flatten());
    process::close_all_but(&needed)?;
    // Those of other containers first: only the base namespace has capabilities over them.
    let joined = flags(target.namespaces, |choice| matches!(choice, Namespace::Join(_)));
    if !joined.is_empty() {
        namespace::setns(target.pidfd, joined, "joined namespaces")?;
    }
    let mut own = flags(target.namespaces, |choice| *choice == Namespace::Private);
    own |= CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS;
    if target.namespaces.time.is_some() {
        own |= CloneFlags::from_bits_retain(libc::CLONE_NEWTIME);
    }
    namespace::setns(target.pidfd, own, "the container's namespaces")?;
    // The change of credentials set both back (prctl(2); fs.suid_dumpable may be 1).
    process::set_dumpable(false)?;
    process::set_parent_death_signal(libc::SIGKILL)?;
    Ok(())
}

fn flags(namespaces: &Namespaces, is_wanted: impl Fn(&Namespace) -> bool) -> CloneFlags {
    let kinds = [
        (&namespaces.pid, CloneFlags::CLONE_NEWPID),
        (&namespaces.ipc, CloneFlags::CLONE_NEWIPC),
        (&namespaces.uts, CloneFlags::CLONE_NEWUTS),
        (&namespaces.network, CloneFlags::CLONE_NEWNET),
        (&namespaces.cgroup, CloneFlags::CLONE_NEWCGROUP),
    ];
    kinds.into_iter().filter(|(choice, _)| is_wanted(choice)).map(|(_, flag)| flag).collect()
}

/// A first process that has ended has no namespaces to join (ESRCH), and no
/// process comes into a pid namespace that is being taken down (ENOMEM,
/// pid_namespaces(7)).
fn explain(failure: Failure) -> Failure {
    match failure.errno {
        Some(libc::ESRCH | libc::ENOMEM) => Failure::user("the container is stopping"),
        _ => failure.doing("join the container"),
    }
}

/// The program's own process, from the clone to execve(2). Returns only a
/// failure.
fn become_program(single: bool, program: &Process, streams: Streams<'_>, channel: &Channel) -> Failure {
    match prepare(single, program, streams, channel) {
        Ok(ready) => payload::execute(program, ready, channel),
        Err(failure) => failure,
    }
}

fn prepare(single: bool, program: &Process, streams: Streams<'_>, channel: &Channel) -> Result<Ready> {
    process::set_parent_death_signal(libc::SIGKILL)?;
    process::new_session()?;
    signal::reset_all()?;
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
    init::become_root(single)?;
    // setns(2) made the mount namespace's root ours: nothing of the host is in sight.
    let root = open::open_dir(Path::new("/"))?;
    place_streams(program, root.as_fd(), streams, channel)?;
    let user = payload::find_user(program, root.as_fd())?;
    let directory = payload::find_directory(&program.directory, root.as_fd())?;
    Ok(Ready { user, directory, single })
}

fn place_streams(program: &Process, root: BorrowedFd<'_>, streams: Streams<'_>, channel: &Channel) -> Result<()> {
    let terminal = match program.terminal {
        true => Some(mounts::open_terminal(root).map_err(|failure| failure.doing("open a terminal of the container"))?),
        false => None,
    };
    match init::place_streams(terminal, streams)? {
        Some(master) => channel.send(&FromJoin::Console, &[master.as_fd()]),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::identity::Identity;

    #[test]
    fn joins_what_is_not_the_hosts() {
        let other = Namespace::Join(Identity { pid: 1, start_time: 1 });
        let namespaces = Namespaces {
            pid: other.clone(),
            ipc: Namespace::Private,
            uts: Namespace::Host,
            network: other,
            cgroup: Namespace::Private,
            time: None,
        };
        let joined = flags(&namespaces, |choice| matches!(choice, Namespace::Join(_)));
        assert_eq!(joined, CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWNET);
        let own = flags(&namespaces, |choice| *choice == Namespace::Private);
        assert_eq!(own, CloneFlags::CLONE_NEWIPC | CloneFlags::CLONE_NEWCGROUP);
    }

    #[test]
    fn a_container_that_is_stopping_is_called_so() {
        for errno in [libc::ESRCH, libc::ENOMEM] {
            assert_eq!(explain(Failure::host("x").errno(errno)).to_string(), "the container is stopping");
        }
        assert_eq!(explain(Failure::host("x").errno(libc::EPERM)).to_string(), "join the container: x");
    }
}
