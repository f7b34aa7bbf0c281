//! Starting a sandbox, the supervisor's side: open what init may not, clone it
//! into its namespaces, write its id maps.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::sched::CloneFlags;

use super::cgroup::{Entrance, Group};
use super::mounts::Sources;
use super::oom_score;
use super::root;
use super::spec::{HostPath, Mount, Namespace, Namespaces, SandboxSpec, Source, Step, TimeOffsets};
use super::stage::init::{self, Handed, Streams, ToInit};
use crate::error::{Context, Failure, Result};
use crate::kernel::clone::{Child, Side, clone3};
use crate::kernel::{self, Errno, mount, namespace, open};
use crate::process::channel::Channel;
use crate::process::identity::Identity;

/// A sandbox whose init is at work.
pub struct Started {
    /// Init's pid, seen from here.
    pub pid: i32,
    /// A descriptor of it.
    pub pidfd: OwnedFd,
    /// What init says.
    pub channel: Channel,
    /// Its mount namespace. Whoever holds it keeps the kernel from taking the
    /// mounts down the moment the last process ends.
    pub mounts: Option<File>,
    /// Its own cgroup, if it could be put into that.
    pub cgroup: Option<Entrance>,
}

/// Starts `spec`. `mount_point` is an existing directory that only hosts the
/// root until init pivots to it. The caller is single-threaded and in the base
/// user namespace. The sandbox is put into `cgroup`, if one is given.
pub fn start(
    spec: &SandboxSpec,
    mount_point: &HostPath,
    cgroup: Option<&Group>,
    streams: Streams<'_>,
    debug: bool,
) -> Result<Started> {
    root::give(&spec.root, spec.id_map.root())?;
    join_namespaces(&spec.namespaces)?;
    let sources = open_shared(spec)?;
    let (ours, theirs) = Channel::pair()?;
    let score = oom_score::lend(spec.process.oom_score_adj)?;
    let cloned = clone_init(spec, cgroup);
    if !matches!(cloned, Ok((Side::Child, _))) {
        oom_score::restore(score);
    }
    let (side, is_inside) = cloned.map_err(crate::host::explain_namespaces)?;
    match side {
        Side::Child => {
            drop(ours);
            let makes_cgroup_namespace = is_inside && spec.namespaces.cgroup == Namespace::Private;
            init::run(spec, Handed { channel: theirs, mount_point, sources, streams, makes_cgroup_namespace, debug })
        }
        Side::Parent(Child { pid, pidfd }) => {
            drop(theirs);
            spec.id_map.write_for(pid)?;
            // An init that is gone already has said why: the supervisor reads that next.
            ours.send(&ToInit::Mapped, &[]).ok();
            let mounts = File::open(format!("/proc/{pid}/ns/mnt")).ok();
            let cgroup = cgroup.filter(|_| is_inside).map(Group::entrance).transpose()?;
            Ok(Started { pid, pidfd, channel: ours, mounts, cgroup })
        }
    }
}

/// Clones init, into `cgroup` if there is one that it can be cloned into;
/// whether it is there. Where one is required, it must be.
fn clone_init(spec: &SandboxSpec, cgroup: Option<&Group>) -> kernel::Result<(Side, bool)> {
    let flags = clone_flags(&spec.namespaces);
    if let Some(group) = cgroup {
        // A cgroup namespace begins where its maker is, which would be here: init makes it itself.
        match clone3(flags & !(libc::CLONE_NEWCGROUP as u64), Some(group.as_fd())) {
            // A threaded cgroup, controllers for its children, Linux before 5.7.
            Err(error)
                if matches!(error.errno, Errno::EACCES | Errno::EBUSY | Errno::EOPNOTSUPP | Errno::E2BIG)
                    && !spec.placement.is_required => {}
            side => return Ok((side?, true)),
        }
    }
    Ok((clone3(flags, None)?, false))
}

fn clone_flags(namespaces: &Namespaces) -> u64 {
    let private = [
        (&namespaces.pid, libc::CLONE_NEWPID),
        (&namespaces.ipc, libc::CLONE_NEWIPC),
        (&namespaces.uts, libc::CLONE_NEWUTS),
        (&namespaces.network, libc::CLONE_NEWNET),
        (&namespaces.cgroup, libc::CLONE_NEWCGROUP),
    ];
    let mut flags = libc::CLONE_NEWUSER | libc::CLONE_NEWNS;
    for (choice, flag) in private {
        if *choice == Namespace::Private {
            flags |= flag;
        }
    }
    // With offsets, init makes the namespace itself.
    if namespaces.time == Some(TimeOffsets::default()) {
        flags |= libc::CLONE_NEWTIME;
    }
    flags as u64
}

/// Joins other containers' namespaces before the clone: the base namespace has
/// capabilities over them, the new container's own has not.
fn join_namespaces(namespaces: &Namespaces) -> Result<()> {
    let kinds = [
        (&namespaces.pid, "pid", CloneFlags::CLONE_NEWPID),
        (&namespaces.ipc, "ipc", CloneFlags::CLONE_NEWIPC),
        (&namespaces.uts, "uts", CloneFlags::CLONE_NEWUTS),
        (&namespaces.network, "net", CloneFlags::CLONE_NEWNET),
        (&namespaces.cgroup, "cgroup", CloneFlags::CLONE_NEWCGROUP),
    ];
    for (choice, name, flag) in kinds {
        if let Namespace::Join(identity) = choice {
            let fd = open_namespace(*identity, name)?;
            namespace::setns(fd.as_fd(), flag, name)?;
        }
    }
    Ok(())
}

fn open_namespace(identity: Identity, name: &str) -> Result<File> {
    let path = format!("/proc/{}/ns/{name}", identity.pid);
    let fd = File::open(&path).doing(|| format!("open {path}"))?;
    if identity.is_current() { Ok(fd) } else { Err(Failure::user("the container to join has ended")) }
}

/// Copies mounts out of joined containers: a short visit to each one's mount
/// namespace.
fn open_shared(spec: &SandboxSpec) -> Result<Sources> {
    let mut sources = Sources::new();
    for (index, step) in spec.steps.iter().enumerate() {
        if let Step::Mount(Mount { source: Source::Shared(identity), target, .. }) = step {
            let tree = copy_from(*identity, target.as_path()).doing(|| format!("share {target}"))?;
            sources.insert(index, tree);
        }
    }
    Ok(sources)
}

fn copy_from(identity: Identity, path: &Path) -> Result<OwnedFd> {
    let theirs = open_namespace(identity, "mnt")?;
    Ok(visit(&theirs, || mount::clone_tree(open::cwd(), path, true))??)
}

/// The root directory of a running container: that of its mount namespace,
/// wherever its first process may have changed its own root to. The namespace
/// comes along: as long as it is held, what is mounted in it stays. The caller
/// is single-threaded and in the base user namespace, and in no namespace of
/// the container's before or after.
pub fn root_of(identity: Identity) -> Result<(File, OwnedFd)> {
    let theirs = open_namespace(identity, "mnt")?;
    // setns(2) has made the namespace's root the caller's: there is no path to be led astray on.
    let root = visit(&theirs, || open::open(Path::new("/"), libc::O_PATH | libc::O_DIRECTORY))??;
    Ok((theirs, root))
}

/// Makes one call in another mount namespace.
fn visit<T>(theirs: &File, call: impl FnOnce() -> T) -> Result<T> {
    let ours = File::open("/proc/self/ns/mnt").doing(|| "open /proc/self/ns/mnt")?;
    namespace::setns(theirs.as_fd(), CloneFlags::CLONE_NEWNS, "mnt")?;
    let result = call();
    namespace::setns(ours.as_fd(), CloneFlags::CLONE_NEWNS, "own mnt")?;
    Ok(result)
}
