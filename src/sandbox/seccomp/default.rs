//! The default profile: what a container may ask of the kernel.
//!
//! Denied unless listed. The list is the field's usual one (the default
//! profile of moby, which nearly all images are made and tested under), brought
//! up to Linux 6.18. Departures, stricter:
//!
//! - `ioctl` with TIOCSTI and TIOCLINUX, which type into a shared terminal
//!   (CVE-2017-5226, CVE-2020-13753);
//! - calls of another architecture (32-bit x86 by `int 0x80`, x32) get ENOSYS:
//!   their numbers mean other calls, and past holes were there (socketcall hides
//!   its arguments behind a pointer). ENOSYS and not a signal, so that a program
//!   that only asks learns that they are not there;
//! - numbers newer than the table get ENOSYS, so that a C library falls back to
//!   an older call; EPERM it would report to its program.
//!
//! One departure is wider: pivot_root(2) with CAP_SYS_ADMIN, beside mount(2),
//! for containers in containers.

use std::borrow::Cow;

use super::profile::{Action, Comparison, Condition, Profile, Rule, When};
use super::table::Call::{self, *};
use crate::sandbox::capabilities::bit;

const EPERM: Action = Action::Errno(libc::EPERM as u16);
const ENOSYS: Action = Action::Errno(libc::ENOSYS as u16);

/// The profile, for any architecture and any capabilities.
pub(super) const PROFILE: Profile =
    Profile { default: EPERM, unknown: ENOSYS, foreign: ENOSYS, newest: u16::MAX, rules: Cow::Borrowed(RULES) };

/// Everything allowed: `--security-opt seccomp=unconfined`.
pub(super) const UNCONFINED: Profile = Profile {
    default: Action::Allow,
    unknown: Action::Allow,
    foreign: Action::Allow,
    newest: u16::MAX,
    rules: Cow::Borrowed(&[]),
};

/// Succeed without doing anything, where only one id is mapped: there chown(2)
/// and setuid(2) to any other id fail with EINVAL and setgroups(2) with EPERM
/// (user_namespaces(7)), which stops package managers. Stateless, so stat(2)
/// still shows root. Goes behind the profile's own rules: errnos are equally
/// strict and the first counts, so what a profile refuses stays refused.
///
/// Left alone: capset(2), which works, and mknod(2) of character device 0:0,
/// which is an overlayfs whiteout and works.
pub(super) const ROOT_EMULATION: &[Rule] = &[
    Rule::new(
        &[
            chown, fchown, fchownat, lchown, setfsgid, setfsuid, setgid, setgroups, setregid, setresgid, setresuid,
            setreuid, setuid,
        ],
        &[],
        Action::Errno(0),
        When::ALWAYS,
    ),
    Rule::new(&[mknod], &[file_type(1, libc::S_IFCHR), some_device(2)], Action::Errno(0), When::ALWAYS),
    Rule::new(&[mknod], &[file_type(1, libc::S_IFBLK), some_device(2)], Action::Errno(0), When::ALWAYS),
    Rule::new(&[mknodat], &[file_type(2, libc::S_IFCHR), some_device(3)], Action::Errno(0), When::ALWAYS),
    Rule::new(&[mknodat], &[file_type(2, libc::S_IFBLK), some_device(3)], Action::Errno(0), When::ALWAYS),
];

const fn file_type(argument: u8, kind: u32) -> Condition {
    Condition { argument, comparison: Comparison::MaskedEq { mask: libc::S_IFMT as u64, value: kind as u64 } }
}

const fn some_device(argument: u8) -> Condition {
    Condition { argument, comparison: Comparison::Ne(0) }
}

/// A condition on an argument that the kernel takes as a 32-bit `int`.
const fn int(argument: u8, value: u32) -> Condition {
    Condition { argument, comparison: Comparison::MaskedEq { mask: u32::MAX as u64, value: value as u64 } }
}

const fn allow(calls: &'static [Call]) -> Rule {
    Rule::new(calls, &[], Action::Allow, When::ALWAYS)
}

const fn allow_with(capability: u32, calls: &'static [Call]) -> Rule {
    Rule::new(calls, &[], Action::Allow, When { with: bit(capability), without: 0 })
}

const WITHOUT_ADMIN: When = When { with: 0, without: bit(21) };

/// CLONE_NEW* of sched.h but NEWTIME, whose bit clone(2) uses for the signal:
/// NS, CGROUP, UTS, IPC, USER, PID, NET.
const CLONE_NAMESPACES: u64 = 0x7e02_0000;

/// personality(2): PER_LINUX and PER_LINUX32, each also with UNAME26; all ones
/// only asks. Not among them: ADDR_NO_RANDOMIZE and whatever else eases attacks.
const PERSONALITIES: [u64; 5] = [0x0, 0x0008, 0x2_0000, 0x2_0008, 0xffff_ffff];

const fn personality_is(index: usize) -> Condition {
    Condition { argument: 0, comparison: Comparison::Eq(PERSONALITIES[index]) }
}

static RULES: &[Rule] = &[
    allow(FILES),
    allow(MEMORY),
    allow(PROCESSES),
    allow(IDENTITY),
    allow(TIME),
    allow(NETWORK),
    allow(EVENTS),
    allow(INTER_PROCESS),
    allow(SYSTEM),
    // Typing into a terminal of others. 32 bits: the kernel takes an unsigned int.
    Rule::new(&[ioctl], &[int(1, 0x5412)], EPERM, When::ALWAYS), // TIOCSTI
    Rule::new(&[ioctl], &[int(1, 0x541c)], EPERM, When::ALWAYS), // TIOCLINUX
    // AF_ALG (CVE-2026-31431) and AF_VSOCK, which network namespaces do not
    // hold. 32 bits: with 64 the family 2^32 + 40 is not 40 to the filter, but is to the kernel.
    allow(&[socket]),
    Rule::new(&[socket], &[int(0, 38)], EPERM, When::ALWAYS),
    Rule::new(&[socket], &[int(0, 40)], EPERM, When::ALWAYS),
    Rule::new(&[personality], &[personality_is(0)], Action::Allow, When::ALWAYS),
    Rule::new(&[personality], &[personality_is(1)], Action::Allow, When::ALWAYS),
    Rule::new(&[personality], &[personality_is(2)], Action::Allow, When::ALWAYS),
    Rule::new(&[personality], &[personality_is(3)], Action::Allow, When::ALWAYS),
    Rule::new(&[personality], &[personality_is(4)], Action::Allow, When::ALWAYS),
    // No new namespaces without CAP_SYS_ADMIN. clone3(2) has its flags in
    // memory, out of a filter's sight: ENOSYS has the C library take clone(2).
    Rule::new(
        &[clone],
        &[Condition { argument: 0, comparison: Comparison::MaskedEq { mask: CLONE_NAMESPACES, value: 0 } }],
        Action::Allow,
        WITHOUT_ADMIN,
    ),
    Rule::new(&[clone3], &[], ENOSYS, WITHOUT_ADMIN),
    // Large, fast-moving and outside of a filter's sight (moby#46762); its users all have a fallback.
    Rule::new(&[io_uring_enter, io_uring_register, io_uring_setup], &[], ENOSYS, When::ALWAYS),
    allow_with(2, &[open_by_handle_at]),                         // DAC_READ_SEARCH
    allow_with(16, &[delete_module, finit_module, init_module]), // SYS_MODULE
    allow_with(17, &[ioperm, iopl]),                             // SYS_RAWIO
    allow_with(18, &[chroot]),                                   // SYS_CHROOT
    allow_with(19, &[kcmp, pidfd_getfd, process_madvise]),       // SYS_PTRACE
    allow_with(20, &[acct]),                                     // SYS_PACCT
    allow_with(21, ADMINISTRATION),
    allow_with(22, &[reboot]),                                                       // SYS_BOOT
    allow_with(23, &[get_mempolicy, mbind, set_mempolicy, set_mempolicy_home_node]), // SYS_NICE
    allow_with(25, &[clock_settime, settimeofday]),                                  // SYS_TIME
    allow_with(26, &[vhangup]),                                                      // SYS_TTY_CONFIG
    allow_with(34, &[syslog]),                                                       // SYSLOG
    allow_with(38, &[perf_event_open]),                                              // PERFMON
    allow_with(39, &[bpf]),                                                          // BPF
];

/// With CAP_SYS_ADMIN.
#[rustfmt::skip]
static ADMINISTRATION: &[Call] = &[
    bpf, clone, clone3, fanotify_init, fsconfig, fsmount, fsopen, fspick, lookup_dcookie, lsm_set_self_attr, mount,
    mount_setattr, move_mount, open_tree, open_tree_attr, perf_event_open, pivot_root, quotactl, quotactl_fd,
    setdomainname, sethostname, setns, syslog, umount2, unshare,
];

/// What the container's mounts and file modes decide.
#[rustfmt::skip]
static FILES: &[Call] = &[
    access, chdir, chmod, chown, close, close_range, copy_file_range, creat, dup, dup2, dup3, faccessat, faccessat2,
    fadvise64, fallocate, fchdir, fchmod, fchmodat, fchmodat2, fchown, fchownat, fcntl, fdatasync, fgetxattr,
    file_getattr, file_setattr, flistxattr, flock, fremovexattr, fsetxattr, fstat, fstatfs, fsync, ftruncate,
    futimesat, getcwd, getdents, getdents64, getxattr, getxattrat, ioctl, lchown, lgetxattr, link, linkat, listmount,
    listxattr, listxattrat, llistxattr, lremovexattr, lseek, lsetxattr, lstat, mkdir, mkdirat, mknod, mknodat,
    name_to_handle_at, newfstatat, open, openat, openat2, pread64, preadv, preadv2, pwrite64, pwritev, pwritev2, read,
    readahead, readlink, readlinkat, readv, removexattr, removexattrat, rename, renameat, renameat2, rmdir, sendfile,
    setxattr, setxattrat, splice, stat, statfs, statmount, statx, symlink, symlinkat, sync, sync_file_range, syncfs,
    tee, truncate, umask, unlink, unlinkat, utime, utimensat, utimes, vmsplice, write, writev,
];

#[rustfmt::skip]
static MEMORY: &[Call] = &[
    brk, cachestat, madvise, map_shadow_stack, membarrier, memfd_create, memfd_secret, mincore, mlock, mlock2,
    mlockall, mmap, mprotect, mremap, mseal, msync, munlock, munlockall, munmap, pkey_alloc, pkey_free, pkey_mprotect,
    remap_file_pages,
];

/// ptrace(2) and its like: a container's processes are in its own pid namespace,
/// and since Linux 4.8 a tracer cannot get around this filter.
#[rustfmt::skip]
static PROCESSES: &[Call] = &[
    arch_prctl, execve, execveat, exit, exit_group, fork, getcpu, getpgid, getpgrp, getpid, getppid, getpriority,
    get_robust_list, get_thread_area, getrlimit, getrusage, getsid, gettid, ioprio_get, ioprio_set, kill, modify_ldt,
    pidfd_open, pidfd_send_signal, prctl, prlimit64, process_mrelease, process_vm_readv, process_vm_writev, ptrace,
    restart_syscall, rseq, rt_sigaction, rt_sigpending, rt_sigprocmask, rt_sigqueueinfo, rt_sigreturn, rt_sigsuspend,
    rt_sigtimedwait, rt_tgsigqueueinfo, sched_get_priority_max, sched_get_priority_min, sched_getaffinity,
    sched_getattr, sched_getparam, sched_getscheduler, sched_rr_get_interval, sched_setaffinity, sched_setattr,
    sched_setparam, sched_setscheduler, sched_yield, set_robust_list, set_thread_area, set_tid_address, setpgid,
    setpriority, setrlimit, setsid, sigaltstack, tgkill, times, tkill, uprobe, uretprobe, vfork, wait4, waitid,
];

/// Who one is; the landlock calls and seccomp(2) only take rights away.
#[rustfmt::skip]
static IDENTITY: &[Call] = &[
    capget, capset, getegid, geteuid, getgid, getgroups, getresgid, getresuid, getuid, landlock_add_rule,
    landlock_create_ruleset, landlock_restrict_self, lsm_get_self_attr, lsm_list_modules, seccomp, setfsgid, setfsuid,
    setgid, setgroups, setregid, setresgid, setresuid, setreuid, setuid,
];

/// adjtimex(2) and clock_adjtime(2) without CAP_SYS_TIME only read.
#[rustfmt::skip]
static TIME: &[Call] = &[
    adjtimex, alarm, clock_adjtime, clock_getres, clock_gettime, clock_nanosleep, getitimer, gettimeofday, nanosleep,
    setitimer, time, timer_create, timer_delete, timer_getoverrun, timer_gettime, timer_settime, timerfd_create,
    timerfd_gettime, timerfd_settime,
];

#[rustfmt::skip]
static NETWORK: &[Call] = &[
    accept, accept4, bind, connect, getpeername, getsockname, getsockopt, listen, recvfrom, recvmmsg, recvmsg,
    sendmmsg, sendmsg, sendto, setsockopt, shutdown, socketpair,
];

/// fanotify_mark(2) needs a descriptor of fanotify_init(2).
#[rustfmt::skip]
static EVENTS: &[Call] = &[
    epoll_create, epoll_create1, epoll_ctl, epoll_ctl_old, epoll_pwait, epoll_pwait2, epoll_wait, epoll_wait_old,
    eventfd, eventfd2, fanotify_mark, inotify_add_watch, inotify_init, inotify_init1, inotify_rm_watch, io_cancel,
    io_destroy, io_getevents, io_pgetevents, io_setup, io_submit, pause, poll, ppoll, pselect6, select, signalfd,
    signalfd4,
];

#[rustfmt::skip]
static INTER_PROCESS: &[Call] = &[
    futex, futex_requeue, futex_wait, futex_waitv, futex_wake, mq_getsetattr, mq_notify, mq_open, mq_timedreceive,
    mq_timedsend, mq_unlink, msgctl, msgget, msgrcv, msgsnd, pipe, pipe2, semctl, semget, semop, semtimedop, shmat,
    shmctl, shmdt, shmget,
];

static SYSTEM: &[Call] = &[getrandom, sysinfo, uname];
