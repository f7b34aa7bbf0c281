//! Starting a stage: the same executable again, inside the base namespace.
//!
//! ```text
//!     command (host)                       stage (fork of it, until it executes)
//!  1  fork                            ->
//!  2                                  <-   In        (a new user namespace; not when joining one)
//!  3  newuidmap, newgidmap at once    ->   Mapped
//!  4  register as holder                   own mount namespace, read-only executable
//!  5                                       execveat: channel on 3, handed descriptors from 4 on
//! ```
//!
//! The executable runs from a read-only mount of its own (or from a sealed
//! copy), because a container's root is the user outside, who may well be able
//! to write the binary's file: through /proc/1/exe it must not be
//! (CVE-2019-5736).

use std::ffi::CString;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;

use nix::sched::CloneFlags;

use super::base::{Base, Entry};
use super::channel::Channel;
use super::idmap::{Extent, IdMap};
use super::stage::{CHANNEL_FD, Stage};
use super::subids::Full;
use crate::error::{Context, EXIT_OWN_FAILURE, Failure, Result};
use crate::kernel::clone::{Side, clone3_sibling};
use crate::kernel::process::Fork;
use crate::kernel::{mount, namespace, open, process};

/// A stage that was started.
pub struct Launched {
    /// The channel to it.
    pub channel: Channel,
    /// The process, a child of the caller's.
    pub pidfd: OwnedFd,
    /// The same, by number; it is that one's until it is waited for.
    pub pid: i32,
}

/// Starts `stage` in the base namespace with `handed` on its descriptors 4 and
/// up. `title` is shown behind its name in ps(1). Its standard streams are the
/// caller's. The caller must be single-threaded.
pub fn launch(stage: Stage, base: &mut Base, title: &str, handed: &[BorrowedFd<'_>]) -> Result<Launched> {
    match try_launch(stage, base, title, handed) {
        Err(failure) if failure.is_helper_failure => {
            base.fall_back(&failure.failure);
            try_launch(stage, base, title, handed).map_err(|failure| failure.failure)
        }
        result => result.map_err(|failure| failure.failure),
    }
}

/// Starts `stage` from a stage, as [`launch`] does from a command: in the same
/// user namespace, from the same file, which nobody can write. It is a child of
/// the caller's own parent: it outlives the caller, and is none of the processes
/// that the caller looks after. Its standard streams are /dev/null. The caller
/// must be single-threaded.
pub fn launch_beside(stage: Stage, title: &str, handed: &[BorrowedFd<'_>]) -> Result<Channel> {
    let (ours, theirs) = Channel::pair()?;
    match clone3_sibling()? {
        Side::Child => {
            drop(ours);
            let executable = open::open(Path::new("/proc/self/exe"), libc::O_PATH);
            let placed = process::silence_standard_streams()
                .and(executable)
                .map_err(Failure::from)
                .and_then(|executable| place_descriptors(executable, &theirs, handed));
            let failure = placed.map_or_else(|failure| failure, |program| execute(stage, title, &program));
            theirs.send(&StageFailed { failed: failure }, &[]).ok();
            process::exit_now(EXIT_OWN_FAILURE)
        }
        Side::Parent(_) => Ok(ours),
    }
}

/// Waits for threads that are about to end: the HTTP library looks names up in
/// one that it does not join. A command that has other threads must not come
/// here; it goes on after a second all the same.
pub fn wait_until_single_threaded() {
    for _ in 0..1_000 {
        let threads = std::fs::read_dir("/proc/self/task").map_or(1, Iterator::count);
        if threads <= 1 {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}

/// A failed launch; where the id-map helpers ran and refused, a lower rung
/// helps. What may pass (EMFILE, a kill) must not degrade all later starts.
struct LaunchFailure {
    failure: Failure,
    is_helper_failure: bool,
}

impl<E: Into<Failure>> From<E> for LaunchFailure {
    fn from(error: E) -> Self {
        Self { failure: error.into(), is_helper_failure: false }
    }
}

fn try_launch(
    stage: Stage,
    base: &mut Base,
    title: &str,
    handed: &[BorrowedFd<'_>],
) -> std::result::Result<Launched, LaunchFailure> {
    let (ours, theirs) = Channel::pair()?;
    let (sync_ours, sync_theirs) = crate::kernel::socket::pair()?;
    let executable = std::env::current_exe().doing(|| "find kelp's own executable")?;
    match process::fork()? {
        Fork::Child => {
            drop((ours, sync_ours));
            let failure = become_stage(stage, base, title, &executable, &theirs, sync_theirs, handed);
            // The parent may be gone; then there is nobody left to tell.
            theirs.send(&StageFailed { failed: failure }, &[]).ok();
            process::exit_now(EXIT_OWN_FAILURE)
        }
        Fork::Parent(pid) => {
            drop((theirs, sync_theirs));
            let pidfd = process::pidfd_open(pid)?;
            if let Entry::New { helpers, .. } = &base.entry
                && let Err(failure) = map_ids(pid, helpers.as_ref(), File::from(sync_ours), &ours)
            {
                process::kill(pid, libc::SIGKILL).ok();
                process::wait_pidfd(pidfd.as_fd()).ok();
                return Err(failure);
            }
            // A stage that is gone already has said why on its channel.
            if base.register(pid).is_ok() {
                base.hold(pid);
            }
            Ok(Launched { channel: ours, pidfd, pid })
        }
    }
}

/// What a stage says that could not even be entered. Every stage's own reply
/// has this shape for failures: `{"failed": {...}}`.
#[derive(serde::Serialize, serde::Deserialize)]
pub struct StageFailed {
    /// Why.
    pub failed: Failure,
}

/// The child's side. Returns only a failure.
fn become_stage(
    stage: Stage,
    base: &Base,
    title: &str,
    executable: &Path,
    channel: &Channel,
    sync: OwnedFd,
    handed: &[BorrowedFd<'_>],
) -> Failure {
    let prepared = enter(base, sync).and_then(|()| {
        namespace::unshare(CloneFlags::CLONE_NEWNS)?;
        place_descriptors(unwritable(executable)?, channel, handed)
    });
    match prepared {
        Err(failure) => failure,
        Ok(program) => execute(stage, title, &program),
    }
}

/// Becomes `stage`. Returns only a failure.
fn execute(stage: Stage, title: &str, program: &OwnedFd) -> Failure {
    let name = CString::new(stage.name()).unwrap_or_default();
    let title = CString::new(title).unwrap_or_default();
    process::execve_file(program.as_fd(), &[name, title], &[]).into()
}

/// Joins or makes the base user namespace.
fn enter(base: &Base, sync: OwnedFd) -> Result<()> {
    match &base.entry {
        Entry::Held(fd) => namespace::setns(fd.as_fd(), CloneFlags::CLONE_NEWUSER, "base user namespace")?,
        Entry::New { helpers, .. } => {
            namespace::unshare(CloneFlags::CLONE_NEWUSER).map_err(crate::host::explain_user_namespace)?;
            let mut sync = File::from(sync);
            match helpers {
                Some(_) => {
                    sync.write_all(b"I")?;
                    sync.read_exact(&mut [0_u8]).doing(|| "wait for the id map")?;
                }
                None => {
                    write_own_map(&base.map).map_err(crate::host::explain_user_namespace)?;
                    sync.write_all(b"I")?;
                }
            }
        }
    }
    // The user is root here by the map itself. Their supplementary groups are
    // kept: volumes are opened with the user's own rights.
    Ok(())
}

/// Writes a single-id map for the calling process: the only one that is open
/// to everybody (user_namespaces(7)).
fn write_own_map(map: &IdMap) -> Result<()> {
    let write = |name: &str, text: &str| {
        std::fs::write(format!("/proc/self/{name}"), text).doing(|| format!("write /proc/self/{name}"))
    };
    write("setgroups", "deny")?;
    write("uid_map", &IdMap::lines(&map.uids))?;
    write("gid_map", &IdMap::lines(&map.gids))
}

/// The parent's side of a new namespace: both helpers at once, for they are
/// independent and each costs about two milliseconds.
fn map_ids(
    pid: i32,
    helpers: Option<&Full>,
    mut sync: File,
    channel: &Channel,
) -> std::result::Result<(), LaunchFailure> {
    if sync.read_exact(&mut [0_u8]).is_err() {
        // The child did not get as far as to say so: its channel has the reason.
        let said = channel.receive::<StageFailed>()?;
        let failure = said.map_or_else(|| Failure::bug("a stage ended without a word"), |said| said.message.failed);
        return Err(failure.into());
    }
    let Some(Full { map, newuidmap, newgidmap }) = helpers else { return Ok(()) };
    let spawn = |program: &Path, extents: &[Extent]| {
        let mut command = Command::new(program);
        command.arg(pid.to_string()).stdin(std::process::Stdio::null());
        for extent in extents {
            command.args([extent.inside, extent.outside, extent.count].map(|number| number.to_string()));
        }
        command
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .doing(|| format!("run {}", program.display()))
    };
    let running = [spawn(newuidmap, &map.uids), spawn(newgidmap, &map.gids)];
    for (program, child) in [newuidmap, newgidmap].into_iter().zip(running) {
        let output = child.and_then(|child| Ok(child.wait_with_output()?))?;
        if let Some(signal) = output.status.signal() {
            return Err(Failure::host(format!("{} was killed by signal {signal}", program.display())).into());
        }
        if !output.status.success() {
            let words = String::from_utf8_lossy(&output.stderr);
            let words = words.lines().next().unwrap_or("no message").trim().to_owned();
            return Err(mapping_failed(Failure::host(format!("{}: {words}", program.display()))));
        }
    }
    sync.write_all(b"M")?;
    Ok(())
}

fn mapping_failed(failure: Failure) -> LaunchFailure {
    LaunchFailure { failure, is_helper_failure: true }
}

/// The executable, open on a file that cannot be written through
/// /proc/PID/exe: a read-only clone of its mount, else a sealed copy.
fn unwritable(executable: &Path) -> Result<OwnedFd> {
    let cloned = mount::clone_tree(open::cwd(), executable, false).and_then(|tree| {
        mount::set_attributes(tree.as_fd(), mount::RDONLY | mount::NOSUID, 0, false, "own executable")?;
        Ok(tree)
    });
    match cloned {
        Ok(tree) => Ok(tree),
        // E.g. a binary on a path that was replaced since: copy what is running.
        Err(_) => sealed_copy(),
    }
}

fn sealed_copy() -> Result<OwnedFd> {
    let mut own = File::open("/proc/self/exe").doing(|| "open kelp's own executable")?;
    let copy = process::memory_file(c"kelp")?;
    let mut file = File::from(copy);
    std::io::copy(&mut own, &mut file).doing(|| "copy kelp's own executable")?;
    process::seal(file.as_fd())?;
    Ok(file.into())
}

/// Puts the channel on 3 and the handed descriptors on 4 and up. All, the
/// program too, are first moved out of the way, so that none is overwritten
/// before its turn. Returns the program's new descriptor.
fn place_descriptors(program: OwnedFd, channel: &Channel, handed: &[BorrowedFd<'_>]) -> Result<OwnedFd> {
    let all: Vec<BorrowedFd<'_>> = std::iter::once(channel.as_fd()).chain(handed.iter().copied()).collect();
    let above = CHANNEL_FD + all.len() as i32;
    let moved = all.iter().map(|fd| process::move_above(*fd, above)).collect::<Result<Vec<_>, _>>()?;
    let moved_program = process::move_above(program.as_fd(), above)?;
    // Closed now: its number may be one that is about to be placed on.
    drop(program);
    for (fd, number) in moved.iter().zip(CHANNEL_FD..) {
        process::place(fd.as_fd(), number)?;
    }
    process::close_on_exec_from(above as u32)?;
    Ok(moved_program)
}
