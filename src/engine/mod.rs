//! The use cases: one function for each thing a user asks for.
//!
//! Architecture invariant: nothing here prints or reads a command line; what
//! the user should see goes through a trait that the caller gives.

pub mod base_steps;
pub mod check;
pub mod command_line;
pub mod commit;
pub mod copy;
pub mod diff;
pub mod disk;
pub mod embedded;
pub mod events;
pub mod exec;
pub mod export;
pub mod fetch;
pub mod history;
pub mod host_view;
pub mod info;
pub mod inspect;
pub mod inventory;
pub mod lifecycle;
pub mod limiting;
pub mod list;
pub mod login;
pub mod logs;
mod make;
pub mod manifest;
pub mod naming;
pub mod network;
pub mod networks;
pub mod options;
mod pack;
pub mod plan;
pub mod prune;
pub mod push;
pub mod remote;
pub mod removal;
pub mod request;
pub mod rootfs;
pub mod run;
pub mod save;
pub mod search;
pub mod start;
pub mod stats;
pub mod systemd;
pub mod top;
pub mod transfer;
pub mod tree;
pub mod unpack;
pub mod update;
pub mod view;
pub mod volume_inventory;
pub mod volume_removal;
pub mod volume_transfer;
pub mod volumes;
