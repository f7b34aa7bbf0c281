//! Socket pairs and descriptors handed over them (unix(7), SCM_RIGHTS).

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, recvmsg, sendmsg, socketpair,
};

use super::error::{Named, Result};

/// The most descriptors that one message may carry (SCM_MAX_FD is 253).
const DESCRIPTORS_MAX: usize = 64;

/// A connected pair of stream sockets, close-on-exec.
pub fn pair() -> Result<(OwnedFd, OwnedFd)> {
    socketpair(AddressFamily::Unix, SockType::Stream, None, SockFlag::SOCK_CLOEXEC).named("socketpair", String::new)
}

/// Sends `bytes` with `descriptors` attached. Returns how many bytes went.
/// A closed peer is EPIPE, never a signal.
pub fn send(socket: BorrowedFd<'_>, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> Result<usize> {
    let raw: Vec<i32> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&raw)];
    let control = if raw.is_empty() { &[][..] } else { &rights[..] };
    sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(bytes)], control, MsgFlags::MSG_NOSIGNAL, None)
        .named("sendmsg", || "channel".to_owned())
}

/// Receives into `buffer`; descriptors that came along are appended to
/// `descriptors`. 0 is the end of the stream.
pub fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8], descriptors: &mut Vec<OwnedFd>) -> Result<usize> {
    let mut space = nix::cmsg_space!([i32; DESCRIPTORS_MAX]);
    let mut slices = [IoSliceMut::new(buffer)];
    let message = recvmsg::<()>(socket.as_raw_fd(), &mut slices, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC)
        .named("recvmsg", || "channel".to_owned())?;
    for control in message.cmsgs().named("recvmsg", || "control data".to_owned())? {
        if let ControlMessageOwned::ScmRights(received) = control {
            // SAFETY: SCM_RIGHTS installed these descriptors for us; nobody else owns them.
            descriptors.extend(received.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
        }
    }
    Ok(message.bytes)
}

/// Takes over descriptor `number` that an exec left open for us, and makes it
/// close-on-exec. `None` where it is not open. Each number is taken once.
pub fn take(number: i32) -> Option<OwnedFd> {
    // SAFETY: F_SETFD on any number is safe; it fails with EBADF where nothing is open.
    if unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) } == -1 {
        return None;
    }
    // SAFETY: the descriptor is open, was left for this stage by its parent, and is taken once by contract.
    Some(unsafe { OwnedFd::from_raw_fd(number) })
}
