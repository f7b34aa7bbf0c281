//! `kelp manifest ls`: the lists there are.

use clap::Args;
use serde::Serialize;

use crate::cli::format::{Fields, FormatFlag, Listing};
use crate::cli::{Session, output, units};
use crate::engine::manifest::{self, Listed};
use crate::error::Result;

/// Arguments of `kelp manifest ls`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Arguments {
    #[command(flatten)]
    format: FormatFlag,
}

const LISTING: Listing = Listing {
    headings: &[("Name", "NAME"), ("Digest", "DIGEST"), ("Platforms", "PLATFORMS"), ("ChangedSince", "CHANGED")],
    shown: &["Name", "Platforms", "ChangedSince"],
};

/// One list for programs.
#[derive(Serialize)]
struct Row {
    name: String,
    digest: String,
    platforms: Vec<String>,
    changed: String,
}

/// Prints them by name.
pub(in crate::cli) fn run(arguments: Arguments, session: &Session) -> Result<i32> {
    let all = manifest::all(&session.paths)?;
    LISTING.print(&arguments.format.format, &all, fields, row)?;
    for (list, contents) in &all {
        if let Err(failure) = contents {
            output::notice(&format!("list {} is damaged: {failure}", list.reference.familiar()));
        }
    }
    Ok(0)
}

fn fields(listed: &Listed) -> Fields {
    let now = jiff::Timestamp::now();
    vec![
        ("Name", listed.0.reference.familiar()),
        ("Digest", listed.0.index.digest.to_string()),
        ("Platforms", platforms(listed).join(", ")),
        ("ChangedSince", format!("{} ago", units::duration(now.as_second() - listed.0.changed.as_second()))),
    ]
}

fn row(listed: &Listed) -> Row {
    let list = &listed.0;
    let (name, digest) = (list.reference.familiar(), list.index.digest.to_string());
    Row { name, digest, platforms: platforms(listed), changed: list.changed.to_string() }
}

fn platforms((_, contents): &Listed) -> Vec<String> {
    let entries = contents.iter().flat_map(|contents| &contents.manifests);
    let shown = entries.map(|entry| {
        let variant = entry.platform.variant.iter().map(|variant| format!("/{variant}"));
        let name = format!("{}/{}{}", entry.platform.os, entry.platform.architecture, variant.collect::<String>());
        output::tamed(&name)
    });
    shown.collect()
}
