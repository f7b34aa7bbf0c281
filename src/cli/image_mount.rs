//! `kelp image mount`: an image's files for a program of the host's; and why
//! there is no `image unmount`.

use std::ffi::OsString;

use clap::Args;

use super::{Session, progress};
use crate::engine::view;
use crate::error::Result;

/// Arguments of `kelp image mount`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The image, by name or id
    #[arg(value_name = "IMAGE")]
    image: String,
    /// What to run among its files; your shell by default
    ///
    /// It is a program of this machine and starts in the image's root
    /// directory, whose path is in KELP_IMAGE_ROOT.
    #[arg(value_name = "COMMAND", trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<OsString>,
}

/// Ends as the command ends; 125, 126 and 127 as with `run`.
pub(super) fn run(arguments: Arguments, session: &Session) -> Result<i32> {
    let mut command = arguments.command;
    if command.is_empty() {
        command.push(std::env::var_os("SHELL").filter(|shell| !shell.is_empty()).unwrap_or_else(|| "/bin/sh".into()));
    }
    let environment = std::env::vars_os().collect();
    view::run(&session.paths, &arguments.image, command, environment, &progress::Bars::new())
}
