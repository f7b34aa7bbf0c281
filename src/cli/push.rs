//! `kelp push`: sends an image to a registry.

use std::path::PathBuf;

use clap::Args;

use super::{Session, output, progress, registry};
use crate::engine::{lifecycle, push};
use crate::error::{Context, Failure, Result};
use crate::image::compression::Compression;
use crate::image::packing::Form;
use crate::image::platform::Platform;
use crate::image::push::Pushed;
use crate::image::registry::Uploaded;

/// Arguments of `kelp push`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Push all tags of the name
    #[arg(short, long)]
    all_tags: bool,
    /// Print the image's name only
    #[arg(short, long)]
    quiet: bool,
    /// Push one image of several platforms, e.g. linux/arm64
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    platform: Option<String>,
    /// Compress all layers so, whatever they are now
    #[arg(long, alias = "compression-format", value_enum, value_name = "FORM")]
    compression: Option<Kind>,
    /// How hard to compress: 1 to 12 for gzip, 1 to 19 for zstd
    #[arg(long, value_name = "LEVEL", requires = "compression")]
    compression_level: Option<i32>,
    /// Write the digest to this file
    #[arg(long, value_name = "FILE")]
    digestfile: Option<PathBuf>,
    #[command(flatten)]
    registry: registry::Transport,
    /// The image; its name says where to, unless there is a destination
    #[arg(value_name = "IMAGE")]
    image: String,
    /// Where to, e.g. quay.io/team/app:1
    #[arg(value_name = "DESTINATION")]
    destination: Option<String>,
}

/// A compression by its name.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Kind {
    Gzip,
    Zstd,
    None,
}

/// Pushes and says what became of each layer.
pub(super) fn run(arguments: Arguments, session: &Session) -> Result<i32> {
    arguments.registry.check()?;
    let form = arguments.compression.map(|kind| {
        let compression = match kind {
            Kind::Gzip => Compression::Gzip,
            Kind::Zstd => Compression::Zstd,
            Kind::None => Compression::None,
        };
        Form::new(compression, arguments.compression_level)
    });
    let request = push::Request {
        image: arguments.image,
        destination: arguments.destination,
        all_tags: arguments.all_tags,
        platform: arguments.platform.as_deref().map(Platform::parse).transpose()?,
        form: form.transpose()?,
        plain_http: arguments.registry.plain_http,
    };
    if request.all_tags && arguments.digestfile.is_some() {
        return Err(Failure::usage("--digestfile is for one image, not for --all-tags"));
    }
    let planned = push::plan(&session.paths, &request)?;
    if let Some(first) = planned.plans.first().filter(|_| !arguments.quiet) {
        output::line(format!("The push refers to repository [{}]", first.destination.name()));
    }
    let progress = if arguments.quiet { progress::Bars::hidden() } else { progress::Bars::new() };
    let mut sent = Vec::new();
    for plan in &planned.plans {
        let pushed = push::send(&session.paths, &planned, plan, &progress)?;
        match arguments.quiet {
            true => output::line(pushed.reference.to_string()),
            false => print(&pushed),
        }
        if let Some(file) = &arguments.digestfile {
            std::fs::write(file, pushed.root.digest.to_string())
                .doing(|| format!("write the digest to \"{}\"", file.display()))?;
        }
        sent.push(pushed);
    }
    push::finish(&session.paths, planned, &sent)?;
    lifecycle::delete_removed(&session.paths)?;
    Ok(0)
}

/// As docker does.
fn print(pushed: &Pushed) {
    for (diff_id, uploaded) in &pushed.layers {
        let became = match uploaded {
            Uploaded::Sent => "Pushed".to_owned(),
            Uploaded::WasThere => "Layer already exists".to_owned(),
            Uploaded::Mounted(repository) => format!("Mounted from {repository}"),
        };
        output::line(format!("{}: {became}", diff_id.short()));
    }
    let digest = pushed.root.digest.to_string();
    let name = pushed.reference.tag().unwrap_or(&digest);
    output::line(format!("{name}: digest: {digest} size: {}", pushed.root.size));
}
