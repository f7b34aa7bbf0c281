//! One container's life: its record on disk, its supervisor, its terminal.
//!
//! ```text
//!            create          start                 the program ends
//!   (none) ---------> Created -----> Running -------------------------> Exited
//!                        |             ^ |  the supervisor was killed   ^ |  ^
//!                        |             | +---------> Exited (137) ------|-+  |
//!                        |  by policy  | v                start again --+ |  |
//!                        |          Restarting ------------ stop ---------|--+
//!                        +--------- removal ---> (none) <-----------------+
//! ```
//!
//! A container is alive while its supervisor holds the lock beside the record;
//! a record that says Running without that is repaired by whoever reads it.
//!
//! Architecture invariant: nothing here parses a command line or an image.

pub mod attach;
pub mod cgroupfs;
pub mod control;
pub mod copy;
pub mod events;
pub mod exec;
pub mod health;
pub mod log;
pub mod namespaces;
pub mod oom;
pub mod processes;
pub mod procfs;
pub mod record;
mod relay;
pub mod restart;
pub mod signals;
pub mod spent;
pub mod store;
pub mod supervisor;
pub mod usage;
pub mod uses;
