//! What runs inside the new namespaces, until the image's program does.
//!
//! ```text
//!      init (child)                    supervisor (parent, sandbox/start.rs)
//!  1   loopback, host sources open     write id maps
//!      network device           ->     Link(fd)
//!  2                            <-     Mapped
//!  3   root, mounts, terminal   ->     Console(fd)
//!  4                            ->     Notice, Steps
//!  5   close-on-exec EOF        ->     running             | Failed(Failure) instead, at any step
//! ```
//!
//! One program more in a container that runs:
//!
//! ```text
//!      joiner (child)           program (child)            supervisor (parent, sandbox/join.rs)
//!  1   enter namespaces
//!  2   clone the program                            ->     Cloned(pidfd)
//!  3   exit                     terminal            ->     Console(fd)
//!  4                            close-on-exec EOF   ->     running     | Failed(Failure) instead, at any step
//! ```
//! 2 and 3 may arrive in any order.

pub mod init;
pub mod join;
mod network;
pub mod payload;
pub mod reaper;
