//! The kernel's calls, one wrapper each. The only room with `unsafe` code.
//!
//! A wrapper turns raw arguments into owned types and a raw errno into an
//! [`Error`] that names the call and its object. It decides nothing: no
//! defaults, no retries (but for EINTR), no fallbacks. Calls that nix wraps
//! are taken from nix; the rest go through `libc::syscall`.
//!
//! Architecture invariant: nothing here knows what a container or an image is.

mod error;

pub mod capability;
pub mod clone;
pub mod datagram;
pub mod file;
pub mod landlock;
pub mod memory;
pub mod mount;
pub mod namespace;
pub mod netlink;
pub mod network;
pub mod open;
pub mod pipe;
pub mod process;
pub mod seccomp;
pub mod signal;
pub mod socket;
pub mod terminal;
pub mod tun;
pub mod visit;

pub use error::{Error, Result};
pub use nix::errno::Errno;
