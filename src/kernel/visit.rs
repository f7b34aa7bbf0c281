//! Sockets that are made in another network namespace. A socket stays in the
//! namespace that it was made in, whoever holds it.
//!
//! Who is not privileged on the host can enter a namespace that its user
//! namespace owns, but never go back: the host's network namespace is not its
//! own (setns(2)). So somebody else goes: a child with our memory and our
//! descriptors (CLONE_VM, CLONE_FILES) but a namespace of its own, for which we
//! wait (CLONE_VFORK). It costs what making the sockets costs, copies nothing
//! and is gone when the call returns; posix_spawn(3) works the same way.

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::errno::Errno;

use super::error::{Error, Result, check};

/// Sockets that one visit makes at most: as many as one message carries.
pub const SOCKETS_MAX: usize = 64;

/// Room for three calls and their arguments, with much to spare.
const STACK_BYTES: usize = 64 << 10;

/// What the child is told, and what it tells.
struct Visit {
    namespace: i32,
    families: [i32; SOCKETS_MAX],
    sockets: [i32; SOCKETS_MAX],
    wanted: usize,
    made: usize,
    refused: Option<(&'static str, Errno)>,
}

/// Makes a TCP socket for each of `families` (AF_INET, AF_INET6), at most
/// [`SOCKETS_MAX`], in the network namespace `namespace`: non-blocking,
/// close-on-exec, not bound. Fewer where the kernel gives no more. The caller
/// is single-threaded, and its user namespace owns the namespace or is an
/// ancestor of the one that does.
pub fn tcp_sockets(namespace: BorrowedFd<'_>, families: &[i32]) -> Result<Vec<OwnedFd>> {
    let mut visit = Visit {
        namespace: namespace.as_raw_fd(),
        families: [0; SOCKETS_MAX],
        sockets: [-1; SOCKETS_MAX],
        wanted: families.len().min(SOCKETS_MAX),
        made: 0,
        refused: None,
    };
    for (to, from) in visit.families.iter_mut().zip(families) {
        *to = *from;
    }
    // Of u128, for the ABI wants a stack that is aligned to 16 bytes.
    let mut stack = vec![0_u128; STACK_BYTES / size_of::<u128>()];
    let top = stack.as_mut_ptr_range().end;
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_FILES | libc::SIGCHLD;
    // SAFETY: the child runs `go` on a stack of its own that lives until it is gone: CLONE_VFORK holds us until it has
    // left our memory. It works on the live `visit` alone, makes nothing but system calls, and touches no lock that the
    // one thread we are could hold. The stack grows down from its end.
    let value = unsafe { libc::clone(go, top.cast(), flags, (&raw mut visit).cast()) };
    let pid = check(value.into(), "clone", || "CLONE_VM | CLONE_VFORK | CLONE_FILES".to_owned())?;
    loop {
        // SAFETY: waitpid takes a null pointer where the status is not wanted.
        let value = unsafe { libc::waitpid(pid as libc::pid_t, std::ptr::null_mut(), libc::__WALL) };
        if value != -1 || Errno::last() != Errno::EINTR {
            break;
        }
    }
    let made = visit.sockets.iter().take(visit.made);
    // SAFETY: the child made these in the table of descriptors that we share; nobody else owns them.
    let made: Vec<OwnedFd> = made.map(|fd| unsafe { OwnedFd::from_raw_fd(*fd) }).collect();
    match visit.refused {
        Some((call, errno)) if made.is_empty() => Err(Error::new(call, "in a network namespace", errno)),
        _ => Ok(made),
    }
}

/// The child: nothing in it allocates, panics or returns early with a lock.
extern "C" fn go(argument: *mut libc::c_void) -> i32 {
    // SAFETY: the argument is the parent's `visit`, and the parent stands still until we are gone.
    let visit = unsafe { &mut *argument.cast::<Visit>() };
    // SAFETY: setns takes integers. Our parent has its own idea of where it is: CLONE_NEWNET concerns the caller alone.
    if unsafe { libc::setns(visit.namespace, libc::CLONE_NEWNET) } == -1 {
        visit.refused = Some(("setns", Errno::last()));
        return 0;
    }
    let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    for (family, place) in visit.families.iter().zip(&mut visit.sockets).take(visit.wanted) {
        // SAFETY: socket takes integers.
        let socket = unsafe { libc::socket(*family, kind, 0) };
        if socket == -1 {
            visit.refused = Some(("socket", Errno::last()));
            return 0;
        }
        *place = socket;
        visit.made += 1;
    }
    0
}
