//! `kelp create`: makes a container and starts nothing.

use clap::Args;

use super::request::{RequestArguments, request};
use super::run::Printer;
use super::{Session, output, progress};
use crate::engine::run;
use crate::error::Result;

/// Arguments of `kelp create`.
#[derive(Debug, Args)]
#[command(
    disable_help_flag = true,
    override_usage = "kelp create [OPTIONS] IMAGE [COMMAND] [ARG...]\n       kelp create [OPTIONS] --rootfs DIR COMMAND [ARG...]"
)]
pub(super) struct Arguments {
    #[command(flatten)]
    container: RequestArguments,
}

/// Makes it and prints its id.
pub(super) fn run(arguments: Arguments, session: &Session) -> Result<i32> {
    let request = request(arguments.container)?;
    let mut observer = Printer::new(session);
    let id = run::create(&session.paths, &request, &progress::Bars::new(), &mut observer)?;
    output::line(&id);
    Ok(0)
}
