//! A registry, as its clients see it (OCI distribution spec; Docker's Registry
//! HTTP API V2).
//!
//! [`Client`] asks for manifests and blobs of one repository, and sends them
//! (`upload`). Below it, in this order: `challenge` and `credentials` (who are we), `transport` (one
//! request, its redirects and retries), `address` (who may be called, and who
//! may be told what).
//!
//! Architecture invariants: `Authorization` goes only to the origin it is
//! for; what arrives is bounded and verified; nothing here knows what a tag
//! file is or prints.

mod address;
mod challenge;
mod client;
pub mod credentials;
mod error;
mod transport;
mod upload;

pub use address::Transport;
pub use client::{Client, Options, Progress, Sent, Silent};
pub use credentials::Credentials;
pub use error::Error;
pub use transport::Timeouts;
pub use upload::Uploaded;

#[cfg(test)]
#[path = "../../../tests/support/registry.rs"]
pub(super) mod fake;
#[cfg(test)]
mod tests;
