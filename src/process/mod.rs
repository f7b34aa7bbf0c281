//! kelp's own processes: how a stage is started and spoken to, and the id
//! maps they live under. Knows nothing of containers or images.

pub mod base;
pub mod channel;
pub mod identity;
pub mod idmap;
pub mod launch;
pub mod meeting;
pub mod stage;
pub mod steps;
pub mod subids;
pub mod worker;
