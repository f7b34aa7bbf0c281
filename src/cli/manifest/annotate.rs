//! `kelp manifest annotate`: what a list says of one of its images.

use clap::Args;

use crate::cli::Session;
use crate::cli::manifest::Platform;
use crate::engine::manifest::{self, Attributes};
use crate::error::{Failure, Result};

/// Arguments of `kelp manifest annotate`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Arguments {
    #[command(flatten)]
    platform: Platform,
    /// The list
    #[arg(value_name = "LIST")]
    list: String,
    /// One of its images: a digest, or the name by which it was added
    #[arg(value_name = "IMAGE")]
    image: String,
}

/// Changes it.
pub(in crate::cli) fn run(arguments: Arguments, session: &Session) -> Result<i32> {
    let attributes = Attributes::from(arguments.platform);
    if attributes == Attributes::default() {
        return Err(Failure::usage("there is nothing to say of the image").hint("--arch, --annotation and the like do"));
    }
    manifest::annotate(&session.paths, &arguments.list, &arguments.image, &attributes)?;
    Ok(0)
}
