//! `kelp container exists`: tells by the exit status whether a container is
//! there.

use clap::Args;

use super::Session;
use crate::container::store;
use crate::error::{Kind, Result};

/// Arguments of `kelp container exists`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Its name or id
    #[arg(value_name = "CONTAINER")]
    container: String,
}

/// Prints nothing: 0 it is there, 1 it is not, 125 that cannot be told
/// (podman's).
pub(super) fn run(arguments: Arguments, session: &Session) -> Result<i32> {
    match store::find(&session.paths, &arguments.container) {
        Ok(_) => Ok(0),
        Err(failure) if failure.kind == Kind::NotFound => Ok(1),
        Err(failure) => Err(failure),
    }
}
