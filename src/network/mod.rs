//! A network of containers: packets in, ordinary sockets out.
//!
//! One process for each network ([`process`]) holds the devices of its
//! containers and makes of their packets what sockets of the host's can do.
//! Supervisors attach to it and detach from it ([`client`], [`control`]).
//!
//! Architecture invariant: knows no container but by its lease and its
//! [`policy`], and enters no namespace of one. Nothing in here reads a file
//! once the process serves.

pub mod client;
mod confine;
pub mod control;
pub mod lease;
pub mod policy;
pub mod process;
pub mod resolv_conf;
