//! `kelp completion`: the script that completes kelp's commands in a shell.

use clap::Args;

use super::{Session, output, verbs};
use crate::error::Result;

/// Arguments of `kelp completion`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The shell to write for
    shell: clap_complete::Shell,
}

/// Prints the script.
pub(super) fn run(arguments: Arguments, _session: &Session) -> Result<i32> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut verbs::tree(), "kelp", &mut script);
    output::raw(&script);
    Ok(0)
}
