//! Processes: pidfds, waiting, execution, prctl(2).

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};

use super::error::{Error, Named, Result, check};

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// It returned this status.
    Code(i32),
    /// This signal killed it.
    Signal(i32),
}

impl Exit {
    /// The exit status as a shell and Docker have it: 128+n for a signal.
    pub fn status(self) -> i32 {
        match self {
            Self::Code(code) => code,
            Self::Signal(signal) => 128 + signal,
        }
    }
}

/// A descriptor of a running process (pidfd_open(2)); ESRCH when there is none.
pub fn pidfd_open(pid: i32) -> Result<OwnedFd> {
    // SAFETY: the call takes two integers.
    let value = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    let fd = check(value, "pidfd_open", || pid.to_string())?;
    // SAFETY: the kernel returned a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// The pid of a process in the caller's pid namespace (pidfd_open(2), "fdinfo").
pub fn pid_of(pidfd: BorrowedFd<'_>) -> Result<i32> {
    let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd())).unwrap_or_default();
    let pid = text.lines().find_map(|line| line.strip_prefix("Pid:")?.trim().parse().ok());
    // −1: it has ended and was reaped.
    pid.filter(|pid| *pid > 0).ok_or_else(|| Error::new("read", "fdinfo of a pidfd", Errno::ESRCH))
}

/// Sends `signal` through a pidfd, so that a reused pid is never hit.
pub fn pidfd_send_signal(pidfd: BorrowedFd<'_>, signal: i32) -> Result<()> {
    // SAFETY: a null siginfo asks the kernel to fill it as kill(2) does.
    let value = unsafe {
        libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, std::ptr::null::<libc::siginfo_t>(), 0)
    };
    check(value, "pidfd_send_signal", || format!("signal {signal}")).map(drop)
}

/// Waits for the child behind `pidfd` to end and reaps it.
pub fn wait_pidfd(pidfd: BorrowedFd<'_>) -> Result<Exit> {
    loop {
        if let Some((_, exit)) = wait(Some(pidfd), WaitPidFlag::empty())? {
            return Ok(exit);
        }
    }
}

/// Reaps the child behind `pidfd`, if it has ended.
pub fn reap(pidfd: BorrowedFd<'_>) -> Result<Option<Exit>> {
    Ok(wait(Some(pidfd), WaitPidFlag::WNOHANG)?.map(|(_, exit)| exit))
}

/// Reaps one ended child of any kind. `None` when none has ended,
/// ECHILD when there is none at all.
pub fn reap_any() -> Result<Option<(i32, Exit)>> {
    wait(None, WaitPidFlag::WNOHANG)
}

/// Waits for any child to end and reaps it; ECHILD when there is none at all.
pub fn wait_any_child() -> Result<Option<(i32, Exit)>> {
    wait(None, WaitPidFlag::empty())
}

/// Waits for one child, or for any.
fn wait(pidfd: Option<BorrowedFd<'_>>, flags: WaitPidFlag) -> Result<Option<(i32, Exit)>> {
    loop {
        match waitid(pidfd.map_or(Id::All, Id::PIDFd), WaitPidFlag::WEXITED | flags) {
            Err(Errno::EINTR) => {}
            Err(errno) => {
                let who = if pidfd.is_some() { "pidfd" } else { "any child" };
                return Err(Error::new("waitid", who, errno));
            }
            Ok(WaitStatus::Exited(pid, code)) => return Ok(Some((pid.as_raw(), Exit::Code(code)))),
            Ok(WaitStatus::Signaled(pid, signal, _)) => return Ok(Some((pid.as_raw(), Exit::Signal(signal as i32)))),
            Ok(_) => return Ok(None),
        }
    }
}

/// Marks every descriptor from `first` up close-on-exec (close_range(2)), so
/// that none is inherited by an image's program (CVE-2024-21626).
pub fn close_on_exec_from(first: u32) -> Result<()> {
    // SAFETY: the call takes three integers, and only marks what it finds.
    let value = unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    check(value, "close_range", || format!("{first}..")).map(drop)
}

/// Closes every descriptor above 2 but those in `keep` (close_range(2)). Only
/// for a forked child that leaves by execve or [`exit_now`]: it closes what its
/// memory, a copy of the parent's, still has owners of.
pub fn close_all_but(keep: &[BorrowedFd<'_>]) -> Result<()> {
    let mut kept: Vec<u32> = keep.iter().map(|fd| fd.as_raw_fd() as u32).filter(|fd| *fd > 2).collect();
    kept.sort_unstable();
    kept.push(u32::MAX);
    let mut first: u32 = 3;
    for number in kept {
        if first < number {
            // SAFETY: the call takes three integers. Owners of what it closes are never used nor dropped in
            // this process, by this function's contract.
            let value = unsafe { libc::syscall(libc::SYS_close_range, first, number - 1, 0) };
            check(value, "close_range", || format!("{first}..{number}"))?;
        }
        first = number.saturating_add(1);
    }
    Ok(())
}

/// Replaces the process by the program at `path` (execve(2)). Returns only
/// its failure.
pub fn execve(path: &CStr, arguments: &[CString], environment: &[CString]) -> Error {
    let result = nix::unistd::execve(path, arguments, environment);
    let errno = match result {
        Err(errno) => errno,
        Ok(never) => match never {},
    };
    Error::new("execve", path.to_string_lossy(), errno)
}

/// Replaces the process by the program that `file` is open on (execveat(2)
/// with AT_EMPTY_PATH). Returns only its failure.
pub fn execve_file(file: BorrowedFd<'_>, arguments: &[CString], environment: &[CString]) -> Error {
    let result = nix::unistd::execveat(file, c"", arguments, environment, nix::fcntl::AtFlags::AT_EMPTY_PATH);
    let errno = match result {
        Err(errno) => errno,
        Ok(never) => match never {},
    };
    Error::new("execveat", "own executable", errno)
}

/// Has the kernel send `signal` to the caller when its parent ends
/// (prctl(2) PR_SET_PDEATHSIG). A change of credentials clears it: set it last.
pub fn set_parent_death_signal(signal: i32) -> Result<()> {
    // SAFETY: the option takes one integer.
    let value = unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, signal, 0, 0, 0) };
    check(value.into(), "prctl", || "PR_SET_PDEATHSIG".to_owned()).map(drop)
}

/// Sets no_new_privs (prctl(2)): no execve(2) gains rights from here on.
pub fn set_no_new_privileges() -> Result<()> {
    // SAFETY: the option takes one integer; unused arguments must be 0.
    let value = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    check(value.into(), "prctl", || "PR_SET_NO_NEW_PRIVS".to_owned()).map(drop)
}

/// Adopts orphaned descendants (prctl(2) PR_SET_CHILD_SUBREAPER).
pub fn become_subreaper() -> Result<()> {
    // SAFETY: the option takes one integer.
    let value = unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) };
    check(value.into(), "prctl", || "PR_SET_CHILD_SUBREAPER".to_owned()).map(drop)
}

/// Sets whether the process can be traced and read through /proc
/// (prctl(2) PR_SET_DUMPABLE).
pub fn set_dumpable(dumpable: bool) -> Result<()> {
    // SAFETY: the option takes one integer.
    let value = unsafe { libc::prctl(libc::PR_SET_DUMPABLE, libc::c_ulong::from(dumpable), 0, 0, 0) };
    check(value.into(), "prctl", || "PR_SET_DUMPABLE".to_owned()).map(drop)
}

/// Starts a session without a controlling terminal (setsid(2)).
pub fn new_session() -> Result<()> {
    nix::unistd::setsid().map(drop).named("setsid", String::new)
}

/// Becomes `uid`, `gid` and exactly `groups`, in every set of ids. Groups are
/// left alone when `groups` is `None` (a namespace whose setgroups is denied).
pub fn become_user(uid: u32, gid: u32, groups: Option<&[u32]>) -> Result<()> {
    if let Some(groups) = groups {
        let groups: Vec<_> = groups.iter().copied().map(nix::unistd::Gid::from_raw).collect();
        nix::unistd::setgroups(&groups).named("setgroups", || format!("{groups:?}"))?;
    }
    let gid = nix::unistd::Gid::from_raw(gid);
    nix::unistd::setresgid(gid, gid, gid).named("setresgid", || gid.to_string())?;
    let uid = nix::unistd::Uid::from_raw(uid);
    nix::unistd::setresuid(uid, uid, uid).named("setresuid", || uid.to_string())
}

/// What [`fork`] returns to each side.
pub enum Fork {
    /// In the parent: the child's pid.
    Parent(i32),
    /// In the child.
    Child,
}

/// Forks the process. The caller must be single-threaded (docs/processes.md).
pub fn fork() -> Result<Fork> {
    // SAFETY: the caller is single-threaded by this function's contract, so the child may use all of
    // its memory, allocator included.
    match unsafe { nix::unistd::fork() }.named("fork", String::new)? {
        nix::unistd::ForkResult::Parent { child } => Ok(Fork::Parent(child.as_raw())),
        nix::unistd::ForkResult::Child => Ok(Fork::Child),
    }
}

/// Ends a forked child at once, without running destructors or exit handlers
/// that belong to its parent.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: _exit has no preconditions.
    unsafe { libc::_exit(code) }
}

/// Sends `signal` to `pid`. For processes that are our own children; all
/// others are signalled by pidfd.
pub fn kill(pid: i32, signal: i32) -> Result<()> {
    // SAFETY: the call takes two integers.
    let value = unsafe { libc::kill(pid, signal) };
    check(value.into(), "kill", || format!("{pid} with signal {signal}")).map(drop)
}

/// Puts `fd` on descriptor `number`, inherited over exec (dup2(2)).
pub fn place(fd: BorrowedFd<'_>, number: i32) -> Result<()> {
    // SAFETY: dup2 on two numbers; what was on `number` is closed by contract of the caller, which places
    // into numbers that it owns right before exec.
    let value = unsafe { libc::dup2(fd.as_raw_fd(), number) };
    check(value.into(), "dup2", || number.to_string()).map(drop)
}

/// A copy of `fd` on a number of at least `least` (fcntl(2) F_DUPFD_CLOEXEC).
pub fn move_above(fd: BorrowedFd<'_>, least: i32) -> Result<OwnedFd> {
    // SAFETY: F_DUPFD_CLOEXEC returns a new descriptor or −1.
    let value = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, least) };
    let fd = check(value.into(), "fcntl", || "F_DUPFD_CLOEXEC".to_owned())?;
    // SAFETY: the kernel returned a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Bytes from the kernel's random source (getrandom(2)).
pub fn random<const N: usize>() -> Result<[u8; N]> {
    const { assert!(N <= 256, "a longer read may be short") }
    let mut bytes = [0_u8; N];
    // SAFETY: the buffer is live for the length given; up to 256 bytes are never short (getrandom(2)).
    let value = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), N, 0) };
    check(value as libc::c_long, "getrandom", String::new)?;
    Ok(bytes)
}

/// `N` random bytes in hexadecimal digits.
pub fn random_hex<const N: usize>() -> Result<String> {
    Ok(random::<N>()?.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// A file in memory with `name` in /proc, for a sealed copy of the executable.
pub fn memory_file(name: &CStr) -> Result<OwnedFd> {
    use nix::sys::memfd::{MFdFlags, memfd_create};
    memfd_create(name, MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING).named("memfd_create", String::new)
}

/// Seals a memory file: nobody writes, grows or shrinks it again.
pub fn seal(file: BorrowedFd<'_>) -> Result<()> {
    let seals = libc::F_SEAL_SEAL | libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_WRITE;
    // SAFETY: F_ADD_SEALS takes one integer.
    let value = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, seals) };
    check(value.into(), "fcntl", || "F_ADD_SEALS".to_owned()).map(drop)
}

/// Names the calling process in ps(1), at most 15 bytes (PR_SET_NAME).
pub fn set_name(name: &CStr) -> Result<()> {
    // SAFETY: the option reads a NUL-terminated string and copies at most 16 bytes.
    let value = unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr(), 0, 0, 0) };
    check(value.into(), "prctl", || "PR_SET_NAME".to_owned()).map(drop)
}

/// Sets a resource limit of the calling process (setrlimit(2)); `u64::MAX` is
/// unlimited.
pub fn set_limit(resource: u32, soft: u64, hard: u64) -> Result<()> {
    let limit = libc::rlimit { rlim_cur: soft, rlim_max: hard };
    // SAFETY: the call reads one live rlimit; an unknown resource is EINVAL.
    let value = unsafe { libc::setrlimit(resource as _, &raw const limit) };
    check(value.into(), "setrlimit", || format!("resource {resource} to {soft}:{hard}")).map(drop)
}

/// Lets the thread `tid` (0 for the calling one) run on these processors only
/// (sched_setaffinity(2)); processes and threads that it starts inherit it.
pub fn set_affinity(tid: i32, processors: &[u32]) -> Result<()> {
    let mut set = nix::sched::CpuSet::new();
    let target = || format!("thread {tid} to {} processors", processors.len());
    processors.iter().try_for_each(|processor| set.set(*processor as usize)).named("sched_setaffinity", target)?;
    nix::sched::sched_setaffinity(nix::unistd::Pid::from_raw(tid), &set).named("sched_setaffinity", target)
}

/// Closes descriptors 0 to 2, for a process that neither reads nor prints: a
/// pipe's reader must see the end when the program closes it.
pub fn close_standard_streams() {
    for number in 0..=2 {
        // SAFETY: the caller uses no standard stream any more, by this function's contract.
        unsafe { libc::close(number) };
    }
}

/// Puts /dev/null on descriptors 0 to 2, for a process that outlives the
/// command whose streams they were.
pub fn silence_standard_streams() -> Result<()> {
    let null = super::open::open(std::path::Path::new("/dev/null"), libc::O_RDWR)?;
    (0..=2).try_for_each(|number| place(null.as_fd(), number))
}

/// A pipe, close-on-exec: the reading end, then the writing one (pipe2(2)).
pub fn pipe() -> Result<(OwnedFd, OwnedFd)> {
    nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).named("pipe2", String::new)
}

/// Lets a pipe hold `bytes` (fcntl(2) F_SETPIPE_SZ); EPERM above what users
/// are allowed (/proc/sys/fs/pipe-max-size).
pub fn grow_pipe(fd: BorrowedFd<'_>, bytes: i32) -> Result<()> {
    use nix::fcntl::{FcntlArg, fcntl};
    fcntl(fd, FcntlArg::F_SETPIPE_SZ(bytes)).map(drop).named("fcntl", || "F_SETPIPE_SZ".to_owned())
}

/// Lets the calling process have as many descriptors as it may ask for; how
/// many that is.
pub fn raise_descriptor_limit() -> Result<u64> {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).named("getrlimit", || "RLIMIT_NOFILE".to_owned())?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).named("setrlimit", || "RLIMIT_NOFILE".to_owned())?;
    Ok(hard)
}
