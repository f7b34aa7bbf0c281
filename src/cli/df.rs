//! `kelp system df`: what everything takes on disk.

use clap::Args;
use serde::Serialize;

use super::format::{Fields, FormatFlag, Listing};
use super::{Session, output, ps, units};
use crate::container::store::Container;
use crate::engine::disk::{self, Total, Usage};
use crate::engine::inventory::Item;
use crate::error::Result;
use crate::image::reference::Reference;
use crate::storage::measure::Measured;

/// Arguments of `kelp system df`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// List every image, container and volume
    #[arg(short, long, conflicts_with = "format")]
    verbose: bool,
    #[command(flatten)]
    format: FormatFlag,
}

/// One kind of thing for programs.
#[derive(Serialize)]
struct Row {
    kind: &'static str,
    #[serde(flatten)]
    total: Total,
}

const LISTING: Listing = Listing {
    headings: &[
        ("Type", "TYPE"),
        ("TotalCount", "TOTAL"),
        ("Active", "ACTIVE"),
        ("Size", "SIZE"),
        ("Reclaimable", "RECLAIMABLE"),
    ],
    shown: &["Type", "TotalCount", "Active", "Size", "Reclaimable"],
};

/// Measures and prints.
pub(super) fn run(arguments: Arguments, session: &Session) -> Result<i32> {
    let usage = disk::measure(&session.paths)?;
    match arguments.verbose {
        true => print_each(&usage),
        false => {
            let row = |kind, total| Row { kind, total };
            let rows = [
                row("Images", usage.images),
                row("Containers", usage.containers),
                row("Local Volumes", usage.volumes),
                row("Build Cache", Total::default()),
            ];
            let document = |row: &Row| Row { kind: row.kind, total: row.total };
            LISTING.print(&arguments.format.format, &rows, fields, document)?;
        }
    }
    let measured = usage.each_container.iter().map(|(_, measured)| measured);
    let uncounted: u64 =
        measured.chain(usage.each_volume.iter().map(|(.., measured)| measured)).map(|one| one.uncounted).sum();
    if uncounted > 0 {
        output::notice(&format!("{uncounted} directories could not be looked into and are not counted"));
    }
    usage.failures.iter().for_each(|failure| output::notice(&failure.sentence()));
    Ok(0)
}

fn fields(row: &Row) -> Fields {
    let total = &row.total;
    let reclaimable = match (row.kind, total.bytes) {
        ("Build Cache", _) | (_, 0) => units::bytes(total.reclaimable_bytes),
        (_, bytes) => {
            let share = u128::from(total.reclaimable_bytes) * 100 / u128::from(bytes);
            format!("{} ({share}%)", units::bytes(total.reclaimable_bytes))
        }
    };
    vec![
        ("Type", row.kind.to_owned()),
        ("TotalCount", total.count.to_string()),
        ("Active", total.active.to_string()),
        ("Size", units::bytes(total.bytes)),
        ("Reclaimable", reclaimable),
    ]
}

/// Docker's three tables.
fn print_each(usage: &Usage) {
    output::line("Images space usage:\n");
    let headings = ["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE", "SHARED SIZE", "UNIQUE SIZE", "CONTAINERS"];
    output::table(&headings, usage.each_image.iter().flat_map(|(image, users)| image_rows(image, *users)).collect());
    output::line("\nContainers space usage:\n");
    let headings = ["CONTAINER ID", "IMAGE", "COMMAND", "LOCAL VOLUMES", "SIZE", "CREATED", "STATUS", "NAMES"];
    output::table(&headings, usage.each_container.iter().map(container_row).collect());
    output::line("\nLocal Volumes space usage:\n");
    let row = |(volume, links, measured): &(_, u64, Measured)| volume_row(volume, *links, measured);
    output::table(&["VOLUME NAME", "LINKS", "SIZE"], usage.each_volume.iter().map(row).collect());
    output::line("\nBuild cache usage: 0B");
}

fn image_rows(image: &Item, users: u64) -> Vec<Vec<String>> {
    let created = image.documents.as_ref().ok().and_then(|(_, config)| config.created.as_deref());
    let row = |reference: Option<&Reference>| {
        let none = || "<none>".to_owned();
        vec![
            reference.map_or_else(none, Reference::familiar_name),
            reference.and_then(|reference| reference.tag()).map_or_else(none, str::to_owned),
            image.id.short(),
            units::ago(created, jiff::Timestamp::now()),
            units::bytes(image.sizes.size),
            units::bytes(image.sizes.shared),
            units::bytes(image.sizes.unique()),
            users.to_string(),
        ]
    };
    image.tags.iter().map(|tag| row(tag.reference.as_ref())).collect()
}

fn container_row((Container { record, .. }, measured): &(Container, Measured)) -> Vec<String> {
    vec![
        record.short_id().to_owned(),
        record.image.clone(),
        ps::shown_command(&record.command, false),
        record.volumes().len().to_string(),
        units::bytes(measured.bytes),
        ps::ago(record.created_ns),
        ps::shown_status(record),
        record.name.clone(),
    ]
}

fn volume_row(volume: &crate::storage::volumes::Volume, links: u64, measured: &Measured) -> Vec<String> {
    vec![volume.name.as_str().to_owned(), links.to_string(), units::bytes(measured.bytes)]
}
