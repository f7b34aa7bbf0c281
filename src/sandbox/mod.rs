//! One confined process tree: planned as data, then carried out.
//!
//! Architecture invariant: knows nothing of images, records or networks; it is
//! given directories and gives back a process.

pub mod capabilities;
pub mod cgroup;
pub mod enforcement;
pub mod environment;
pub mod join;
pub mod mounts;
mod oom_score;
pub mod rlimits;
pub mod root;
pub mod seccomp;
pub mod spec;
pub mod stage;
pub mod start;
pub mod user;
pub mod view;
