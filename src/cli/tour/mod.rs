//! The program of the image `hello`: a tour of the container it runs in.
//!
//! It looks at itself through /proc ([`seen`]), puts that beside what kelp told
//! it about the outside ([`report`]) and says it in words ([`text`]) or as
//! JSON. It is kelp's own executable called by another name, and it needs
//! nothing but /proc: run by hand, anywhere, it shows what there is.

mod report;
mod seen;
mod text;

#[cfg(test)]
mod tests;

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::ExitCode;

use clap::{Args, FromArgMatches};

use super::{base_command, output};
use crate::engine::host_view::{self, HostView};
use crate::error::{Failure, Result};
use crate::limits;

/// Arguments of `hello`.
#[derive(Debug, Args)]
struct Arguments {
    /// Print a JSON document for programs
    #[arg(long)]
    json: bool,
}

/// Whether argv[0] asks for the tour.
pub fn is_meant(argv0: &OsStr) -> bool {
    Path::new(argv0).file_name().is_some_and(|name| name == "hello")
}

/// The whole program.
pub fn main(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let about = "Show this container from inside";
    let command = Arguments::augment_args(base_command("hello", about))
        .about(about)
        .override_usage("kelp run --rm hello [--json]");
    let words = std::iter::once(OsString::from("hello")).chain(arguments);
    let parsed = command.try_get_matches_from(words).and_then(|matches| Arguments::from_arg_matches(&matches));
    let arguments = match parsed {
        Ok(arguments) => arguments,
        Err(error) if !error.use_stderr() => {
            output::help(&error.render());
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            output::failure(&super::usage::failure(&error, "run hello"));
            output::remark("hello holds this one program and no shell; for a shell: kelp run -it --rm --rootfs / sh");
            return ExitCode::from(2);
        }
    };
    match show(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            output::failure(&failure);
            ExitCode::FAILURE
        }
    }
}

fn show(arguments: &Arguments) -> Result<()> {
    let report = report::make(&seen::look(), read_host_view());
    if arguments.json {
        return output::json(&report);
    }
    text::lines(&report).iter().for_each(output::line);
    Ok(())
}

/// What kelp told about the outside; `Err` with the reason where it did not.
fn read_host_view() -> Result<HostView> {
    let bytes = limits::read_file(Path::new(host_view::PATH), limits::HOST_VIEW_BYTES_MAX)?;
    serde_json::from_slice(&bytes).map_err(|error| Failure::host(error.to_string()))
}
