//! `kelp logout`: forgets what `kelp login` kept.

use std::path::PathBuf;

use clap::Args;

use super::{Session, output};
use crate::engine::login::{self, LoggedOut, Scope};
use crate::error::Result;
use crate::image::registry::Place;

/// Arguments of `kelp logout`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The registry, or the namespace of it, that was logged in to; short names' if left out
    #[arg(value_name = "REGISTRY")]
    registry: Option<String>,
    /// Forget all logins
    #[arg(short, long, conflicts_with = "registry")]
    all: bool,
    /// Forget logins in this file
    #[arg(long, value_name = "FILE")]
    authfile: Option<PathBuf>,
}

/// Forgets, and says what is left.
pub(super) fn run(arguments: Arguments, _session: &Session) -> Result<i32> {
    let auth_file = arguments.authfile.as_deref();
    let all = match arguments.all {
        true => login::log_out_of_all(auth_file)?,
        false => vec![login::log_out(&Scope::parse(arguments.registry.as_deref())?, auth_file)?],
    };
    all.iter().for_each(tell);
    Ok(0)
}

fn tell(logged_out: &LoggedOut) {
    let name = &logged_out.name;
    for place in &logged_out.places {
        output::line(match place {
            Place::File(_) => format!("Removed login credentials for {name}"),
            Place::Keychain(program) => format!("Removed login credentials for {name} from {program}"),
        });
    }
    match &logged_out.left {
        Some(file) => {
            output::notice(&format!("you are logged in to {name} all the same, by \"{}\"", file.display()));
        }
        None if logged_out.places.is_empty() => output::line(format!("Not logged in to {name}")),
        None => {}
    }
}
