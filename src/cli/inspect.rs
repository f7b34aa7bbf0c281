//! `kelp inspect`: all there is to say about containers, images and volumes,
//! in the field names of Docker's API.

use clap::{Args, ValueEnum};
use serde_json::Value;

use super::format::DocumentFormat;
use super::volume::inspect as volume_inspect;
use super::{Session, output};
use crate::engine::{inspect, volume_inventory};
use crate::error::{Failure, Kind, Result};
use crate::paths::Paths;

/// Arguments of `kelp inspect`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Names or ids of containers, images and volumes
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
    /// How to print: json, or a Go template such as '{{.Id}}'
    #[arg(short, long, value_name = "FORMAT", default_value = "json", hide_default_value = true)]
    format: DocumentFormat,
    /// Tell what containers take: SizeRw and SizeRootFs
    #[arg(short, long)]
    size: bool,
    /// Look for one kind only
    #[arg(long = "type", value_enum)]
    kind: Option<Wanted>,
}

/// What is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Wanted {
    /// Containers.
    Container,
    /// Images.
    Image,
    /// Volumes.
    Volume,
}

/// Prints what was found as one array; exit status 1 if a name was not.
pub(super) fn run(arguments: Arguments, session: &Session) -> Result<i32> {
    let Arguments { names, format, size, kind } = arguments;
    print(&session.paths, &names, &Look { kind, size }, &format)
}

/// What is looked for, and how closely.
pub(super) struct Look {
    /// `None` is all kinds.
    pub(super) kind: Option<Wanted>,
    /// Containers' sizes too.
    pub(super) size: bool,
}

/// The same, for one kind or all.
pub(super) fn print(paths: &Paths, names: &[String], look: &Look, format: &DocumentFormat) -> Result<i32> {
    let (mut found, mut failures) = (Vec::new(), Vec::new());
    for name in names {
        match describe(paths, name, look) {
            Ok(value) => found.push(value),
            Err(failure) => failures.push(failure),
        }
    }
    // An empty array as well: what reads it expects JSON.
    format.print(&found)?;
    failures.iter().for_each(output::failure);
    Ok(i32::from(!failures.is_empty()))
}

fn describe(paths: &Paths, name: &str, look: &Look) -> Result<Value> {
    let all = [Wanted::Container, Wanted::Image, Wanted::Volume];
    let describe_as = |kind: Wanted| match kind {
        Wanted::Container => inspect::container(paths, name, look.size),
        Wanted::Image => inspect::image(paths, name),
        Wanted::Volume => volume_inventory::find(paths, name).map(|volume| volume_inspect::document(&volume)),
    };
    if let Some(kind) = look.kind {
        return describe_as(kind);
    }
    // A container goes before an image of the same name, as with Docker.
    let mut guess = None;
    for kind in all {
        match describe_as(kind) {
            // What is no legal name of an image may have been meant as another's.
            Err(failure) if matches!(failure.kind, Kind::NotFound | Kind::Usage) => {
                let hints = failure.hints.into_iter().filter(|_| failure.kind == Kind::NotFound);
                guess = guess.or_else(|| hints.into_iter().find(|hint| hint.starts_with("did you mean")));
            }
            result => return result,
        }
    }
    let failure = Failure::not_found(format!("there is no container, image or volume \"{name}\""));
    Err(match guess {
        Some(hint) => failure.hint(hint),
        None => failure.hint("kelp ps --all, kelp images and kelp volume ls list what there is"),
    })
}
