//! The real kelp as a real user: one binary, a file a topic.
//!
//! Each test has a [`harness::Home`] of its own and meets no other. Nothing
//! here needs the internet: images are made from `probe` (examples/probe.rs).

#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr, unreachable_pub)]

mod harness;

mod archives;
mod commit;
mod copy;
mod crash;
mod exec;
mod exit;
mod export;
mod faults;
mod health;
mod images;
mod images_checked;
mod images_mounted;
mod images_shown;
mod limits;
mod login;
mod logs;
mod manifest;
mod mounts;
mod namespaces;
mod network;
mod network_names;
mod network_path;
mod network_ports;
mod push;
mod refusals;
mod registries;
mod regressions;
mod run;
mod security;
mod shown;
mod stores;
mod systemd;
mod terminal;
mod usage;
mod user;
mod volumes;
