//! `kelp healthcheck run`: asks a container now whether it is well.

use clap::Args;

use super::{Session, output};
use crate::container::health::{State, WELL};
use crate::engine::lifecycle;
use crate::error::Result;

/// Arguments of `kelp healthcheck run`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Name or id
    #[arg(value_name = "CONTAINER")]
    container: String,
}

/// Exit status 0 if the probe says so, 1 if not.
pub(super) fn run(arguments: Arguments, session: &Session) -> Result<i32> {
    match lifecycle::check_health(&session.paths, &arguments.container)? {
        WELL => Ok(0),
        _ => {
            output::line(State::Unhealthy.word());
            Ok(1)
        }
    }
}
