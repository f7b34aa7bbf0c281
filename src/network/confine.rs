//! What a network's process gives up before it looks at the first packet.
//!
//! ```text
//!   empty root         no path leads anywhere
//!   no capabilities    in any set, and no_new_privs
//!   not dumpable       nobody traces it or reads its memory, but its user on the host, who owns its namespace
//!   Landlock           no right to any file, no signals, no abstract sockets
//!   limits             no cores, no files written
//!   seccomp            an allow list: descriptors it has, sockets of IP, memory, time
//! ```
//!
//! What is left: the kernel lets a process whose user owns a user namespace
//! that is a child of its own act with all capabilities on what belongs to that
//! one (user_namespaces(7)), whatever its own sets are. So it may still act on
//! sockets of its containers that are handed to it, as published ports need;
//! it cannot enter their namespaces, for setns(2) is not on the list.

use nix::sched::CloneFlags;

use crate::error::{Context, Result};
use crate::kernel::seccomp::{self, Instruction};
use crate::kernel::{Errno, capability, landlock, namespace, process};
use crate::process::worker;

/// Gives up all that carrying packets does not need. The caller has opened
/// what it needs, and has one thread.
pub(super) fn confine() -> Result<()> {
    namespace::unshare(CloneFlags::CLONE_NEWNS)?;
    worker::empty_root().doing(|| "enter an empty root directory")?;
    process::set_dumpable(false)?;
    process::set_no_new_privileges()?;
    for number in (0..64).take_while(|number| capability::known(*number)) {
        capability::drop_bounding(number)?;
    }
    capability::clear_ambient()?;
    capability::set(0, 0, 0)?;
    limit()?;
    match landlock::refuse_all() {
        // Linux before 5.13, or one that was started without it.
        Err(error) if matches!(error.errno, Errno::ENOSYS | Errno::EOPNOTSUPP) => {}
        result => result?,
    }
    seccomp::install(&filter())?;
    Ok(())
}

fn limit() -> Result<()> {
    process::set_limit(libc::RLIMIT_CORE, 0, 0)?;
    process::set_limit(libc::RLIMIT_FSIZE, 0, 0)?;
    Ok(process::set_limit(libc::RLIMIT_NPROC, 0, 0)?)
}

/// Calls that are always allowed, by what they are for.
const ALLOWED: &[libc::c_long] = &[
    // Descriptors that it has: devices, sockets, pipes.
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_close,
    libc::SYS_fcntl,
    libc::SYS_pipe2,
    libc::SYS_splice,
    libc::SYS_fstat,
    // Sockets; making one is under a condition, below.
    libc::SYS_bind,
    libc::SYS_connect,
    libc::SYS_listen,
    libc::SYS_accept4,
    libc::SYS_shutdown,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    libc::SYS_getsockopt,
    libc::SYS_setsockopt,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_recvmmsg,
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_sendmmsg,
    // Waiting.
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_epoll_wait,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
    libc::SYS_ppoll,
    libc::SYS_eventfd2,
    libc::SYS_timerfd_create,
    libc::SYS_timerfd_settime,
    libc::SYS_timerfd_gettime,
    libc::SYS_restart_syscall,
    // Time, where it does not come from the vDSO.
    libc::SYS_clock_gettime,
    libc::SYS_gettimeofday,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    // Memory; mapping and protecting are under a condition, below.
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_brk,
    libc::SYS_futex,
    // Random numbers.
    libc::SYS_getrandom,
    // Its own end, also by abort(3).
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    // Who it is, to be compared with who speaks.
    libc::SYS_getuid,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_tgkill,
];

// Operations, linux/bpf_common.h.
const LOAD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
const JUMP_EQ: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
const JUMP_SET: u16 = 0x45; // BPF_JMP | BPF_JSET | BPF_K
const RETURN: u16 = 0x06; // BPF_RET | BPF_K

// Offsets in struct seccomp_data, linux/seccomp.h.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

// linux/seccomp.h.
const ALLOW: u32 = 0x7fff_0000;
const KILL_PROCESS: u32 = 0x8000_0000;
const REFUSE: u32 = 0x0005_0000 | libc::EPERM as u32;

/// AUDIT_ARCH_* of linux/audit.h: the ELF machine, 64-bit, little-endian.
const OWN_ARCHITECTURE: u32 = if cfg!(target_arch = "x86_64") { 0xc000_003e } else { 0xc000_00b7 };

/// The one type of socket that pairs are made of.
const STREAM: u32 = (libc::SOCK_STREAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK) as u32;

/// The filter. A straight list: the kernel remembers which calls are always
/// allowed and does not run it for them (Linux 5.11).
fn filter() -> Vec<Instruction> {
    let step = |code, jt, jf, k| Instruction { code, jt, jf, k };
    let mut filter = vec![
        step(LOAD, 0, 0, ARCHITECTURE),
        step(JUMP_EQ, 1, 0, OWN_ARCHITECTURE),
        step(RETURN, 0, 0, KILL_PROCESS),
        step(LOAD, 0, 0, NUMBER),
    ];
    for number in ALLOWED {
        filter.extend([step(JUMP_EQ, 0, 1, *number as u32), step(RETURN, 0, 0, ALLOW)]);
    }
    // Sockets of IP alone: none of this machine's own (D-Bus, an X server), of packets or of netlink.
    filter.extend([
        step(JUMP_EQ, 0, 5, libc::SYS_socket as u32),
        step(LOAD, 0, 0, ARGUMENTS),
        step(JUMP_EQ, 1, 0, libc::AF_INET as u32),
        step(JUMP_EQ, 0, 1, libc::AF_INET6 as u32),
        step(RETURN, 0, 0, ALLOW),
        step(RETURN, 0, 0, REFUSE),
    ]);
    // Connections within the process, to its resolver. Streams: nothing can be sent from them to other sockets.
    filter.extend([
        step(JUMP_EQ, 0, 6, libc::SYS_socketpair as u32),
        step(LOAD, 0, 0, ARGUMENTS),
        step(JUMP_EQ, 0, 3, libc::AF_UNIX as u32),
        step(LOAD, 0, 0, ARGUMENTS + 8),
        step(JUMP_EQ, 0, 1, STREAM),
        step(RETURN, 0, 0, ALLOW),
        step(RETURN, 0, 0, REFUSE),
    ]);
    // Of a device, what its reader can do for the kernel.
    filter.extend([
        step(JUMP_EQ, 0, 4, libc::SYS_ioctl as u32),
        step(LOAD, 0, 0, ARGUMENTS + 8),
        step(JUMP_EQ, 0, 1, libc::TUNSETOFFLOAD as u32),
        step(RETURN, 0, 0, ALLOW),
        step(RETURN, 0, 0, REFUSE),
    ]);
    // Memory that can be executed is what the program began with.
    for call in [libc::SYS_mmap, libc::SYS_mprotect] {
        filter.extend([
            step(JUMP_EQ, 0, 4, call as u32),
            step(LOAD, 0, 0, ARGUMENTS + 2 * 8),
            step(JUMP_SET, 1, 0, libc::PROT_EXEC as u32),
            step(RETURN, 0, 0, ALLOW),
            step(RETURN, 0, 0, REFUSE),
        ]);
    }
    filter.push(step(RETURN, 0, 0, REFUSE));
    filter
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the filter says to a call with these arguments.
    fn decide(number: libc::c_long, arguments: &[u64]) -> u32 {
        let (filter, mut accumulator, mut at) = (filter(), 0_u32, 0_usize);
        loop {
            let Instruction { code, jt, jf, k } = filter[at];
            at += 1;
            let jump = |holds: bool| usize::from(if holds { jt } else { jf });
            match code {
                LOAD => {
                    accumulator = match k {
                        NUMBER => number as u32,
                        ARCHITECTURE => OWN_ARCHITECTURE,
                        argument => arguments[((argument - ARGUMENTS) / 8) as usize] as u32,
                    }
                }
                JUMP_EQ => at += jump(accumulator == k),
                JUMP_SET => at += jump(accumulator & k != 0),
                RETURN => return k,
                other => panic!("{other:#x}"),
            }
        }
    }

    #[test]
    fn what_packets_need_is_allowed() {
        for number in ALLOWED {
            assert_eq!(decide(*number, &[]), ALLOW, "{number}");
        }
        for family in [libc::AF_INET, libc::AF_INET6] {
            assert_eq!(decide(libc::SYS_socket, &[family as u64, libc::SOCK_STREAM as u64]), ALLOW);
        }
        assert_eq!(decide(libc::SYS_socketpair, &[libc::AF_UNIX as u64, STREAM.into()]), ALLOW);
        assert_eq!(decide(libc::SYS_ioctl, &[3, libc::TUNSETOFFLOAD]), ALLOW);
        let read_write = (libc::PROT_READ | libc::PROT_WRITE) as u64;
        for call in [libc::SYS_mmap, libc::SYS_mprotect] {
            assert_eq!(decide(call, &[0, 4096, read_write]), ALLOW);
        }
    }

    #[test]
    fn all_else_is_refused() {
        for number in [
            libc::SYS_openat,
            libc::SYS_openat2,
            libc::SYS_execve,
            libc::SYS_clone,
            libc::SYS_clone3,
            libc::SYS_setns,
            libc::SYS_unshare,
            libc::SYS_mount,
            libc::SYS_ptrace,
            libc::SYS_process_vm_readv,
            libc::SYS_pidfd_getfd,
            libc::SYS_kill,
            libc::SYS_io_uring_setup,
            libc::SYS_bpf,
            libc::SYS_memfd_create,
            // x32.
            libc::SYS_read | 0x4000_0000,
        ] {
            assert_eq!(decide(number, &[]), REFUSE, "{number}");
        }
        for family in [libc::AF_UNIX, libc::AF_NETLINK, libc::AF_PACKET, libc::AF_ALG, libc::AF_VSOCK] {
            assert_eq!(decide(libc::SYS_socket, &[family as u64]), REFUSE, "{family}");
        }
        for kind in [libc::SOCK_DGRAM, libc::SOCK_SEQPACKET] {
            assert_eq!(decide(libc::SYS_socketpair, &[libc::AF_UNIX as u64, kind as u64]), REFUSE);
        }
        assert_eq!(decide(libc::SYS_socketpair, &[libc::AF_INET as u64, STREAM.into()]), REFUSE);
        for request in [libc::TUNSETIFF, libc::TIOCSTI, libc::SIOCSIFFLAGS] {
            assert_eq!(decide(libc::SYS_ioctl, &[3, request]), REFUSE);
        }
        let executable = (libc::PROT_READ | libc::PROT_EXEC) as u64;
        for call in [libc::SYS_mmap, libc::SYS_mprotect] {
            assert_eq!(decide(call, &[0, 4096, executable]), REFUSE);
        }
    }
}
