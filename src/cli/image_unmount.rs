//! `kelp image unmount`: why there is nothing to unmount.

use clap::Args;

use super::Session;
use crate::error::{Failure, Result};

/// Arguments of `kelp image unmount`, taken as podman's are.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[arg(hide = true, trailing_var_arg = true, allow_hyphen_values = true)]
    images: Vec<String>,
}

/// Refuses.
pub(super) fn run(arguments: Arguments, _session: &Session) -> Result<i32> {
    let what = arguments.images.join(" ");
    Err(Failure::user("a mount of kelp's belongs to one command and ends with it: there is nothing to unmount")
        .hint(format!("kelp image mount {what} COMMAND runs a command among the image's files").replace("  ", " ")))
}
