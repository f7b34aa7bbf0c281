//! `kelp update`: changes what may change of containers.

use clap::Args;

use super::{Session, each, output};
use crate::container::control::Update;
use crate::engine::lifecycle;
use crate::engine::options::restart;
use crate::error::{Failure, Result};

/// Arguments of `kelp update`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Start it again when it ends: no, on-failure[:MAX], always or unless-stopped
    #[arg(long, value_name = "POLICY")]
    restart: Option<String>,
    /// Names or ids
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

/// Updates each; goes on behind one that cannot be.
pub(super) fn run(arguments: Arguments, session: &Session) -> Result<i32> {
    let update = Update { restart: arguments.restart.as_deref().map(restart::parse).transpose()? };
    if update == Update::default() {
        return Err(Failure::usage("nothing to change was given").hint("--restart always, for example"));
    }
    Ok(each(&arguments.containers, |name| {
        lifecycle::update(&session.paths, name, &update)?;
        output::line(name);
        Ok(())
    }))
}
