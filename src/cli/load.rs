//! `kelp load`: images from an archive.

use std::io::{self, IsTerminal};
use std::path::PathBuf;

use clap::Args;

use super::{Session, output, progress};
use crate::engine::transfer;
use crate::error::{Failure, Result};
use crate::image::archive::Input;
use crate::image::platform::Platform;

/// Arguments of `kelp load`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Read this file or OCI directory instead of standard input
    #[arg(short, long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// Print nothing
    #[arg(short, long)]
    quiet: bool,
    /// Load the images for another platform, e.g. linux/arm64
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    platform: Option<String>,
    #[arg(hide = true)]
    misplaced: Option<PathBuf>,
}

/// Loads and says what came.
pub(super) fn run(arguments: Arguments, session: &Session) -> Result<i32> {
    if let Some(file) = &arguments.misplaced {
        return Err(Failure::usage(format!(
            "load takes the archive with -i, or from standard input, not as \"{}\"",
            file.display()
        ))
        .hint(format!("kelp load -i {}", file.display())));
    }
    let platform = arguments.platform.as_deref().map(Platform::parse).transpose()?;
    let mut stdin = io::stdin().lock();
    let input = match &arguments.input {
        Some(path) if path.as_os_str() != "-" => Input::Path(path),
        _ if stdin.is_terminal() => {
            return Err(Failure::usage("an archive does not come from a terminal")
                .hint("kelp load -i FILE, or kelp load < FILE"));
        }
        _ => Input::Stream(&mut stdin),
    };
    let progress = if arguments.quiet { progress::Bars::hidden() } else { progress::Bars::new() };
    let arrived = transfer::load(&session.paths, input, platform.as_ref(), &progress)?;
    arrived.notices.iter().for_each(|notice| output::notice(notice));
    if arguments.quiet {
        return Ok(0);
    }
    for image in arrived.what {
        if image.references.is_empty() {
            output::line(format!("Loaded image ID: {}", image.id));
        }
        for reference in &image.references {
            output::line(format!("Loaded image: {}", reference.familiar()));
        }
    }
    Ok(0)
}
