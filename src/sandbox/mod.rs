//! One confined process tree: planned as data, then carried out.

pub mod capabilities;
pub mod rlimits;
pub mod seccomp;
pub mod spec;
pub mod user;
