//! One confined process tree: planned as data, then carried out.

pub mod capabilities;
pub mod seccomp;
pub mod spec;
