//! The use cases: one function for each thing a user asks for.
//!
//! Architecture invariant: nothing here prints or reads a command line; what
//! the user should see goes through a trait that the caller gives.

pub mod base_steps;
pub mod commit;
pub mod diff;
pub mod embedded;
pub mod export;
pub mod host_view;
pub mod images;
pub mod lifecycle;
pub mod options;
mod pack;
pub mod plan;
pub mod removal;
pub mod request;
pub mod rootfs;
pub mod run;
pub mod save;
pub mod transfer;
