//! `kelp update`: changes what may change of containers.

use clap::Args;

use super::resources::{self, ResourceArguments};
use super::{Session, each, output};
use crate::engine::options::restart;
use crate::engine::update::{self, Wish};
use crate::error::{Failure, Result};

/// Arguments of `kelp update`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Start it again when it ends: no, on-failure[:MAX], always or unless-stopped
    #[arg(long, value_name = "POLICY")]
    restart: Option<String>,
    #[command(flatten)]
    resources: ResourceArguments,
    /// Names or ids
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

/// Updates each; goes on behind one that cannot be.
pub(super) fn run(arguments: Arguments, session: &Session) -> Result<i32> {
    let wish = Wish {
        restart: arguments.restart.as_deref().map(restart::parse).transpose()?,
        resources: resources::resources(arguments.resources, None)?,
    };
    if wish == Wish::default() {
        return Err(Failure::usage("nothing to change was given").hint("--memory 1g or --restart always, for example"));
    }
    Ok(each(&arguments.containers, |name| {
        update::update(&session.paths, name, &wish)?.iter().for_each(|notice| output::notice(notice));
        output::line(name);
        Ok(())
    }))
}
