//! One confined process tree: planned as data, then carried out.

pub mod spec;
