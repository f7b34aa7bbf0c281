//! A cgroup of a container's own, where the caller's is delegated (cgroups(7),
//! "Delegation").
//!
//! It is made below the cgroup that the supervisor is in: the one place where
//! a user may put processes without asking anybody. That one keeps its own
//! processes, so no controller can be enabled there ("no internal processes"),
//! and none is needed: freezing, killing and counting time are the tree's own.
//!
//! Nothing here decides what to do without one.

mod group;
pub mod limits;
mod own;
mod write;

pub use group::{Group, remove};
pub use limits::Limits;
pub use write::write;
