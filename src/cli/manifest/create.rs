//! `kelp manifest create`: a new list.

use clap::Args;

use crate::cli::{Session, output, progress, registry};
use crate::engine::manifest::{self, Adding};
use crate::error::Result;

/// Arguments of `kelp manifest create`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Arguments {
    /// Add to the list if it exists
    #[arg(short, long)]
    amend: bool,
    /// Take all images of several platforms, not the one for this host
    #[arg(long)]
    all: bool,
    /// A remark about the list
    #[arg(long = "annotation", value_name = "KEY=VALUE")]
    annotations: Vec<String>,
    #[command(flatten)]
    registry: registry::Transport,
    /// The list's name
    #[arg(value_name = "LIST")]
    list: String,
    /// Images, of this machine or of a registry (docker://NAME: of a registry only)
    #[arg(value_name = "IMAGE")]
    images: Vec<String>,
}

/// Makes the list and says so, in docker's words.
pub(in crate::cli) fn run(arguments: Arguments, session: &Session) -> Result<i32> {
    arguments.registry.check()?;
    let Arguments { amend, all, annotations, registry, list, images } = arguments;
    let adding = Adding { all, plain_http: registry.plain_http, ..Adding::default() };
    let bars = progress::Bars::new();
    let list = manifest::create(&session.paths, &list, &images, amend, &annotations, &adding, &bars)?;
    output::line(format!("Created manifest list {}", list.reference));
    Ok(0)
}
