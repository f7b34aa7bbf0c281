//! `kelp save`: images into an archive or an image layout.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::{Session, output, progress, units};
use crate::engine::save::{self, SaveOptions};
use crate::error::{Failure, Result};
use crate::image::archive::{self, Output};

/// Arguments of `kelp save`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Names or ids of images; an id saves the image without its names
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<String>,
    /// Write to this file or directory instead of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// The form of what is written
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Accepted for scripts: several names are always several images
    #[arg(short, long)]
    multi_image_archive: bool,
    /// Show no progress
    #[arg(short, long)]
    quiet: bool,
}

/// Forms by podman's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum Format {
    /// A tar for docker, podman, skopeo and containerd
    #[default]
    DockerArchive,
    /// A tar of an OCI image layout
    OciArchive,
    /// An OCI image layout as a directory; images are added to one that is there
    OciDir,
}

/// Saves.
pub(super) fn run(arguments: Arguments, session: &Session) -> Result<i32> {
    let format = match arguments.format {
        Format::DockerArchive => archive::Format::DockerArchive,
        Format::OciArchive => archive::Format::OciArchive,
        Format::OciDir => archive::Format::OciDirectory,
    };
    // Else 1970.
    let modified_s = units::source_date_epoch()?.unwrap_or(0);
    let progress = if arguments.quiet { progress::Bars::hidden() } else { progress::Bars::new() };
    let stdout;
    let output = match &arguments.output {
        Some(path) => Output::Path(path),
        None if format == archive::Format::OciDirectory => {
            return Err(Failure::usage("--format oci-dir writes a directory").hint("name it with -o DIRECTORY"));
        }
        None => {
            stdout = output::stream().map_err(|failure| failure.hint("kelp save -o FILE IMAGE"))?;
            Output::Stream(&stdout)
        }
    };
    save::save(&session.paths, &arguments.images, &SaveOptions { format, output, modified_s }, &progress)?;
    Ok(0)
}
