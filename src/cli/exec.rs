//! `kelp exec`: runs a command in a container that runs.

use std::path::PathBuf;

use clap::Args;

use super::run::{Printer, check_terminal};
use super::{Session, output, request};
use crate::container::attach::End;
use crate::engine::exec::{self, ExecRequest};
use crate::engine::options::detach_keys;
use crate::error::{EXIT_OWN_FAILURE, Failure, Kind, Result};

/// Arguments of `kelp exec`.
#[derive(Debug, Args)]
#[command(override_usage = "kelp exec [OPTIONS] CONTAINER COMMAND [ARG...]")]
pub(super) struct Arguments {
    /// The container, then the command and its arguments
    #[arg(trailing_var_arg = true, value_name = "CONTAINER COMMAND [ARG...]", required = true, num_args = 2..)]
    words: Vec<String>,
    /// Go on as soon as it runs
    #[arg(short, long)]
    detach: bool,
    /// Keep standard input open
    #[arg(short, long)]
    interactive: bool,
    /// Give the command a terminal
    #[arg(short, long)]
    tty: bool,
    /// Set a variable; NAME alone takes the value from here
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    env: Vec<String>,
    /// Read variables from a file
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,
    /// Run as this user, by name or number of the container
    #[arg(short, long, value_name = "USER[:GROUP]")]
    user: Option<String>,
    /// Start in this directory
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<String>,
    /// Keys that detach from its terminal
    #[arg(long, value_name = "KEYS", default_value = detach_keys::DEFAULT)]
    detach_keys: String,
    /// Not possible: a container's programs have no more rights than it was given
    #[arg(long, hide = true)]
    privileged: bool,
}

/// Runs it; the exit status is the program's.
pub(super) fn run(arguments: Arguments, session: &Session) -> Result<i32> {
    if arguments.privileged {
        return Err(Failure::usage(
            "--privileged is not possible: nothing in a container gets more rights than it has",
        )
        .hint("give the container what it needs when it is made: kelp run --cap-add, --security-opt"));
    }
    let request = request(arguments)?;
    if !request.detached {
        check_terminal(request.terminal, request.interactive)?;
    }
    let found = exec::find(&session.paths, &request.container)?;
    match exec::exec(&found, &request, &mut Printer::new(session)) {
        Ok(End::Exited(code)) => Ok(code),
        Ok(End::Detached) => Ok(0),
        // A container that is there and runs: 1 would look like the program's own.
        Err(failure) if matches!(failure.kind, Kind::User | Kind::NotFound | Kind::Host) => {
            output::failure(&failure);
            Ok(EXIT_OWN_FAILURE)
        }
        Err(failure) => Err(failure),
    }
}

/// What was typed, as one request.
fn request(arguments: Arguments) -> Result<ExecRequest> {
    let variables = request::variables(&arguments.env_file, &arguments.env)?;
    let mut words = arguments.words.into_iter();
    Ok(ExecRequest {
        container: words.next().unwrap_or_default(),
        command: words.collect(),
        interactive: arguments.interactive,
        terminal: arguments.tty,
        detached: arguments.detach,
        variables,
        user: arguments.user,
        directory: arguments.workdir,
        detach_keys: detach_keys::parse(&arguments.detach_keys)?,
    })
}
