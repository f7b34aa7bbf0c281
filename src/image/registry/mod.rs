//! A registry, as its clients see it (OCI distribution spec; Docker's Registry
//! HTTP API V2).
//!
//! A [`Route`] says which registries to ask for an image. A [`Client`] asks
//! one of them for manifests and blobs of one repository, and sends them there
//! (`upload`). Below it, in this order: `session`, `tokens`, `challenge` and
//! `credentials` (who are we; kept in `logins`, made of `authfile` and
//! `keychain`), `transport` (one request, its redirects and retries),
//! `tls`, `certificates` and `proxy` (the way there), `address` (who may be
//! called, and who may be told what).
//!
//! Architecture invariants: `Authorization` goes only to the origin it is
//! for; what arrives is bounded and verified; nothing here knows what a tag
//! file is or prints.

mod address;
pub mod authfile;
mod certificates;
pub mod challenge;
mod client;
mod credentials;
mod error;
mod keychain;
mod listing;
mod login;
mod logins;
mod proxy;
mod registries;
mod route;
mod search;
mod session;
mod tls;
mod tokens;
mod transport;
mod upload;

pub use address::Transport;
pub use certificates::Certificates;
pub use client::{Client, Progress, Sent, Silent};
pub use credentials::Credentials;
pub use error::Error;
pub use login::{Accepted, login};
pub use logins::{Found, Logins, Place};
pub use proxy::Proxies;
pub use registries::Registries;
pub use route::{Endpoint, Route};
pub use search::{FoundRepository, search};
pub use transport::{Options, Timeouts};
pub use upload::Uploaded;

#[cfg(test)]
#[path = "../../../tests/support/registry.rs"]
pub(super) mod fake;
#[cfg(test)]
#[path = "../../../tests/support/proxy.rs"]
mod fake_proxy;
#[cfg(test)]
#[path = "../../../tests/support/tls.rs"]
mod fake_tls;
#[cfg(test)]
pub(super) mod tests;
#[cfg(test)]
mod trust_tests;
