//! What runs inside the new namespaces, until the image's program does.
//!
//! ```text
//!      init (child)                    supervisor (parent, sandbox/start.rs)
//!  1   loopback, host sources open     write id maps
//!  2                            <-     Mapped
//!  3   root, mounts, terminal   ->     Console(fd)
//!  4                            ->     Notice, Steps
//!  5   close-on-exec EOF        ->     running             | Failed(Failure) instead, at any step
//! ```

pub mod init;
pub mod payload;
pub mod reaper;
