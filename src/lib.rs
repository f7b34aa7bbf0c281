//! kelp: rootless containers in one binary.
//!
//! The rooms in reading order; code may look only to the right
//! (tests/tidy.rs holds this):
//!
//! `cli -> engine -> container -> sandbox, network, storage -> image, process -> kernel`
//!
//! [`error`], [`limits`], [`paths`], [`host`] and [`settings`] are common ground
//! for all rooms but the kernel. docs/architecture.md has the map.

#![deny(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod error;
pub mod failpoint;
pub mod host;
pub mod limits;
pub mod paths;
pub mod settings;

pub mod cli;
pub mod container;
pub mod engine;
pub mod image;
pub mod network;
pub mod process;
pub mod sandbox;
pub mod storage;

#[allow(unsafe_code)]
pub mod kernel;
