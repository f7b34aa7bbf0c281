//! kelp's own processes: how a stage is started and spoken to, and the id
//! maps they live under. Knows nothing of containers or images.

pub mod idmap;
