//! Options of all verbs that talk to a registry.

use clap::Args;

use crate::error::{Failure, Result};

/// How to talk to it.
#[derive(Debug, Args)]
pub(super) struct Transport {
    /// Talk to the registry without TLS (on loopback this needs no flag)
    #[arg(long)]
    pub(super) plain_http: bool,
    #[arg(long, hide = true, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    tls_verify: Option<bool>,
}

impl Transport {
    /// Refuses what kelp does not do.
    pub(super) fn check(&self) -> Result<()> {
        if self.tls_verify != Some(false) {
            return Ok(());
        }
        Err(Failure::usage("certificates are always verified")
            .hint("--plain-http talks to a registry that has no TLS")
            .hint("your own authority's certificate goes to ~/.config/containers/certs.d/HOST:PORT/ca.crt"))
    }
}
