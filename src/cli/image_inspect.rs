//! `kelp image inspect`: as `kelp inspect`, for images only.

use clap::Args;

use super::Session;
use super::format::DocumentFormat;
use super::inspect::{self, Look, Wanted};
use crate::error::Result;

/// Arguments of `kelp image inspect`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Names or ids of images
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
    /// How to print: json, or a Go template such as '{{.Id}}'
    #[arg(short, long, value_name = "FORMAT", default_value = "json", hide_default_value = true)]
    format: DocumentFormat,
}

/// Prints what was found as one array; exit status 1 if an image was not.
pub(super) fn run(arguments: Arguments, session: &Session) -> Result<i32> {
    let look = Look { kind: Some(Wanted::Image), size: false };
    inspect::print(&session.paths, &arguments.images, &look, &arguments.format)
}
