//! `kelp import`: an image from a root file system.

use std::io::{self, IsTerminal};
use std::path::PathBuf;

use clap::Args;

use super::{Session, output, progress};
use crate::engine::transfer;
use crate::error::{Failure, Result};
use crate::image::archive::ImportOptions;
use crate::image::platform::Platform;
use crate::image::reference::Reference;

/// Arguments of `kelp import`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// A tar of a root file system (gzip, zstd or plain), or - for standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The image's name; without a registry it is localhost/NAME
    #[arg(value_name = "NAME")]
    name: Option<String>,
    /// Apply an instruction to the image's config, e.g. 'CMD ["sh"]'
    ///
    /// CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD, SHELL,
    /// STOPSIGNAL, USER, VOLUME and WORKDIR, written as in a Dockerfile. Can be
    /// given several times.
    #[arg(short, long, value_name = "INSTRUCTION")]
    change: Vec<String>,
    /// Remark for the image's history
    #[arg(short, long, value_name = "TEXT")]
    message: Option<String>,
    /// What the files run on, e.g. linux/arm64; this host's by default
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    platform: Option<String>,
}

/// Imports and prints the image's id.
pub(super) fn run(arguments: Arguments, session: &Session) -> Result<i32> {
    let reference = arguments.name.as_deref().map(reference).transpose()?;
    let platform = arguments.platform.as_deref().map(Platform::parse).transpose()?.unwrap_or_else(Platform::host);
    let options = ImportOptions { reference, message: arguments.message, changes: arguments.change, platform };
    let mut stdin = io::stdin().lock();
    let file = if arguments.file.as_os_str() == "-" {
        if stdin.is_terminal() {
            return Err(Failure::usage("a root file system does not come from a terminal")
                .hint("kelp import FILE NAME, or tar -C DIRECTORY -c . | kelp import - NAME"));
        }
        None
    } else {
        if let Some(url) = arguments.file.to_str().filter(|text| text.contains("://")) {
            return Err(Failure::usage("an import from a URL is not supported")
                .hint(format!("curl -fL {url} | kelp import - NAME")));
        }
        Some(arguments.file.as_path())
    };
    let arrived = transfer::import(&session.paths, file, &mut stdin, &options, &progress::Bars::new())?;
    arrived.notices.iter().for_each(|notice| output::notice(notice));
    output::line(arrived.what.id.to_string());
    Ok(0)
}

/// A name for an image that is made here.
pub(super) fn reference(text: &str) -> Result<Reference> {
    let reference = Reference::parse_local(text)?;
    if reference.digest().is_some() {
        return Err(Failure::usage(format!("the name \"{text}\" cannot have a digest"))
            .hint("a digest comes from the content; give NAME or NAME:TAG"));
    }
    Ok(reference)
}
