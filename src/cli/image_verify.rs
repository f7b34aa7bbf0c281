//! `kelp image verify`: whether images are whole, and their repair.

use clap::Args;

use super::{Session, check};
use crate::error::Result;

/// Arguments of `kelp image verify`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Images by name or id; all of them if none is given
    #[arg(value_name = "IMAGE")]
    images: Vec<String>,
    #[command(flatten)]
    how: check::How,
}

/// Checks the images, their unpacked layers and containers that were made from them.
pub(super) fn run(arguments: Arguments, session: &Session) -> Result<i32> {
    arguments.how.check(Some(arguments.images), session)
}
