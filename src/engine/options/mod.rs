//! What users type, as data: one file an option.
//!
//! Pure: nothing here looks at the host, at an image or at the environment.
//! The grammar is Docker's, and Podman's where Docker has none; what a value
//! may not be is refused here, by name, with what to write instead. Whether it
//! fits this host or this image is decided later, in the plan.

pub mod cgroup;
pub mod columns;
pub mod container_filter;
pub mod detach_keys;
pub mod device;
pub mod environment;
pub mod event_filter;
pub mod filter;
pub mod health;
pub mod hostname;
pub mod label;
pub mod log;
pub mod moment;
pub mod mount;
pub mod name;
pub mod namespaces;
pub mod network;
pub mod prune_filter;
pub mod publish;
pub mod resources;
pub mod restart;
pub mod security;
pub mod size;
pub mod stop_signal;
pub mod sysctl;
pub mod time_offset;
pub mod tmpfs;
pub mod volume;
pub mod volumes_from;

mod field;
