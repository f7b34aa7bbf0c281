//! The use cases: what each command means.

pub mod options;
