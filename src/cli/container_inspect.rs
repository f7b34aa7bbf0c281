//! `kelp container inspect`: as `kelp inspect`, for containers only.

use clap::Args;

use super::Session;
use super::format::DocumentFormat;
use super::inspect::{self, Look, Wanted};
use crate::error::Result;

/// Arguments of `kelp container inspect`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Names or ids of containers
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
    /// How to print: json, or a Go template such as '{{.State.Status}}'
    #[arg(short, long, value_name = "FORMAT", default_value = "json", hide_default_value = true)]
    format: DocumentFormat,
    /// Tell what they take: SizeRw and SizeRootFs
    #[arg(short, long)]
    size: bool,
}

/// Prints what was found as one array; exit status 1 if a container was not.
pub(super) fn run(arguments: Arguments, session: &Session) -> Result<i32> {
    let look = Look { kind: Some(Wanted::Container), size: arguments.size };
    inspect::print(&session.paths, &arguments.containers, &look, &arguments.format)
}
