//! One container's life: its record on disk, its supervisor, its terminal.
//!
//! ```text
//!            create          start              the payload ends
//!   (none) ---------> Created -----> Running --------------------> Exited
//!                        |              |  the supervisor was killed   |
//!                        |              +------------> Exited (137) ---+
//!                        +--- start failed, or removal ---> (none) <---+
//! ```
//!
//! A container is alive while its supervisor holds the lock beside the record;
//! a record that says Running without that is repaired by whoever reads it.
//!
//! Architecture invariant: nothing here parses a command line or an image.

pub mod attach;
pub mod copy;
pub mod namespaces;
pub mod record;
pub mod store;
pub mod supervisor;
mod terminal;
