//! `kelp ps`: the containers there are.

use std::collections::BTreeMap;

use clap::Args;
use serde::Serialize;

use super::format::{Fields, FormatFlag, Listing};
use super::{Session, output, units};
use crate::container::health::State;
use crate::container::record::{Mounted, Record, Status, now_ns};
use crate::engine::list::{self, Sizes, Wanted};
use crate::engine::options::container_filter::ContainerFilter;
use crate::error::Result;
use crate::network::publish::ports::{self, Port};
use crate::sandbox::spec::Source;

/// Arguments of `kelp ps`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Show all containers, not only running ones
    #[arg(short, long)]
    all: bool,
    /// Only containers that are like this: id=REGEX, name=REGEX, label=KEY[=VALUE], label!=KEY[=VALUE], status=STATE,
    /// exited=CODE, ancestor=IMAGE, before=CONTAINER, since=CONTAINER, until=TIME, volume=NAME|PATH, health=STATE,
    /// restart-policy=POLICY
    ///
    /// Can be given several times: of several values of a key one is enough,
    /// all labels and all keys hold together.
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// Show the last N that were made, running or not
    #[arg(short = 'n', long, value_name = "N")]
    last: Option<usize>,
    /// Show the last that was made, running or not
    #[arg(short, long, conflicts_with = "last")]
    latest: bool,
    /// Print ids only
    #[arg(short, long, conflicts_with = "format")]
    quiet: bool,
    /// Show what containers changed, and with it their images
    #[arg(short, long)]
    size: bool,
    #[command(flatten)]
    format: FormatFlag,
    /// Do not shorten ids, commands and mounts
    #[arg(long)]
    no_trunc: bool,
}

/// One container, and what it takes if that was asked for.
struct Item {
    record: Record,
    sizes: Option<Sizes>,
}

/// One row for programs.
#[derive(Serialize)]
struct Row<'a> {
    id: &'a str,
    name: &'a str,
    image: &'a str,
    image_id: &'a str,
    command: &'a [String],
    /// Seconds after the epoch.
    created: i64,
    labels: &'a BTreeMap<String, String>,
    mounts: Vec<&'a str>,
    network: &'a str,
    restart_policy: &'a str,
    #[serde(flatten)]
    status: &'a Status,
    /// Bytes that it changed or added.
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    /// The same with its image.
    #[serde(skip_serializing_if = "Option::is_none")]
    virtual_size: Option<u64>,
}

/// Prints the list.
pub(super) fn run(arguments: Arguments, session: &Session) -> Result<i32> {
    let filter = ContainerFilter::parse(&arguments.filter)?;
    let last = arguments.last.or(arguments.latest.then_some(1));
    let wanted = Wanted { all: arguments.all, last, filter };
    let (containers, damaged) = list::containers(&session.paths, &wanted)?;
    damaged.iter().for_each(|failure| output::notice(&failure.sentence()));
    if arguments.quiet {
        containers.iter().for_each(|container| output::line(id(&container.record, arguments.no_trunc)));
        return Ok(0);
    }
    let sizes = match arguments.size {
        true => list::sizes(&session.paths, &containers)?.into_iter().map(Some).collect(),
        false => vec![None; containers.len()],
    };
    let items: Vec<Item> = containers
        .into_iter()
        .zip(sizes)
        .map(|(container, sizes)| {
            let mut record = container.record;
            record.config.labels = record.all_labels().into_owned();
            Item { record, sizes }
        })
        .collect();
    let fields = |item: &Item| fields(item, arguments.no_trunc);
    let listing = if arguments.size { LISTING_WITH_SIZES } else { LISTING };
    listing.print(&arguments.format.format, &items, fields, row)?;
    Ok(0)
}

const LISTING: Listing = Listing {
    headings: &[
        ("ID", "CONTAINER ID"),
        ("Names", "NAMES"),
        ("Image", "IMAGE"),
        ("Command", "COMMAND"),
        ("CreatedAt", "CREATED AT"),
        ("RunningFor", "CREATED"),
        ("Ports", "PORTS"),
        ("State", "STATE"),
        ("Status", "STATUS"),
        ("Size", "SIZE"),
        ("Labels", "LABELS"),
        ("Mounts", "MOUNTS"),
        ("LocalVolumes", "LOCAL VOLUMES"),
        ("Networks", "NETWORKS"),
    ],
    shown: &["ID", "Image", "Command", "RunningFor", "Status", "Ports", "Names"],
};

const LISTING_WITH_SIZES: Listing =
    Listing { shown: &["ID", "Image", "Command", "RunningFor", "Status", "Ports", "Names", "Size"], ..LISTING };

fn fields(Item { record, sizes }: &Item, whole: bool) -> Fields {
    let labels = &record.config.labels;
    let shown: Vec<String> = labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let volumes = record.mounts.iter().filter(|mounted| mounted.volume.is_some()).count();
    vec![
        ("ID", id(record, whole)),
        ("Names", record.name.clone()),
        ("Image", record.image.clone()),
        ("Command", shown_command(&record.command, whole)),
        ("CreatedAt", units::moment(record.created_ns / NANOSECONDS)),
        ("RunningFor", ago(record.created_ns)),
        ("Ports", ports(record)),
        ("State", record.status.word().to_owned()),
        ("Status", shown_status(record)),
        ("Size", sizes.map_or_else(|| "0B".to_owned(), shown_size)),
        ("Labels", shown.join(",")),
        ("Label", serde_json::json!(labels).to_string()),
        ("Mounts", shown_mounts(record, whole)),
        ("LocalVolumes", volumes.to_string()),
        ("Networks", record.network.clone()),
    ]
}

/// Of one that runs.
fn ports(record: &Record) -> String {
    match &record.lease {
        Some(lease) if record.status.is_live() => {
            ports::column(&lease.published, record.config.exposed_ports.iter().filter_map(|text| Port::parse(text)))
        }
        _ => String::new(),
    }
}

fn id(record: &Record, whole: bool) -> String {
    if whole { record.id.clone() } else { record.short_id().to_owned() }
}

fn row(Item { record, sizes }: &Item) -> Row<'_> {
    Row {
        id: &record.id,
        name: &record.name,
        image: &record.image,
        image_id: &record.image_id,
        command: &record.command,
        created: record.created_ns / NANOSECONDS,
        labels: &record.config.labels,
        mounts: record.mounts.iter().filter_map(|mounted| mounted.mount.target.as_path().to_str()).collect(),
        network: &record.network,
        restart_policy: record.restart.name(),
        status: &record.status,
        size: sizes.map(|sizes| sizes.own),
        virtual_size: sizes.map(|sizes| sizes.all),
    }
}

fn shown_size(sizes: Sizes) -> String {
    format!("{} (virtual {})", units::bytes(sizes.own), units::bytes(sizes.all))
}

/// Names of volumes and directories of the host, as docker shortens them.
fn shown_mounts(record: &Record, whole: bool) -> String {
    const WIDTH: usize = 15;
    let shown = |Mounted { volume, mount }: &Mounted| {
        let source = match &mount.source {
            Source::Bind { path, .. } => path.as_path().display().to_string(),
            _ => String::new(),
        };
        shortened(volume.as_ref().unwrap_or(&source), if whole { usize::MAX } else { WIDTH })
    };
    record.mounts.iter().map(shown).collect::<Vec<_>>().join(",")
}

/// A command in one cell, shortened if it is not to be `whole`.
pub(super) fn shown_command(command: &[String], whole: bool) -> String {
    const WIDTH: usize = 20;
    let text = command.join(" ");
    let shown: String = text.chars().filter(|character| !character.is_control()).collect();
    format!("\"{}\"", shortened(&shown, if whole { usize::MAX } else { WIDTH }))
}

/// At most `width` characters, the last of them `…` if there are more.
fn shortened(text: &str, width: usize) -> String {
    match text.chars().nth(width) {
        None => text.to_owned(),
        Some(_) => format!("{}…", text.chars().take(width.saturating_sub(1)).collect::<String>()),
    }
}

/// How a container is, and since when.
pub(super) fn shown_status(record: &Record) -> String {
    match &record.status {
        Status::Created => "Created".to_owned(),
        Status::Running { started_ns, paused, health, .. } => {
            let state = match (paused, health.map(|health| health.state)) {
                (true, _) => " (Paused)".to_owned(),
                (false, Some(State::Starting)) => " (health: starting)".to_owned(),
                (false, Some(state)) => format!(" ({})", state.word()),
                (false, None) => String::new(),
            };
            format!("Up {}{state}", since(*started_ns))
        }
        Status::Restarting { code, finished_ns, .. } => format!("Restarting ({code}) {}", ago(*finished_ns)),
        Status::Exited { code, finished_ns, .. } => format!("Exited ({code}) {}", ago(*finished_ns)),
    }
}

/// A second, in nanoseconds.
const NANOSECONDS: i64 = 1_000_000_000;

fn since(moment_ns: i64) -> String {
    units::duration((now_ns() - moment_ns) / NANOSECONDS)
}

/// How long ago a moment was, in nanoseconds after the epoch.
pub(super) fn ago(moment_ns: i64) -> String {
    format!("{} ago", since(moment_ns))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_are_shortened_as_docker_does() {
        assert_eq!(shown_command(&["sleep".to_owned(), "1".to_owned()], false), "\"sleep 1\"");
        assert_eq!(shown_command(&["x".repeat(20)], false), format!("\"{}\"", "x".repeat(20)));
        assert_eq!(shown_command(&["x".repeat(21)], false), format!("\"{}…\"", "x".repeat(19)));
        assert_eq!(shown_command(&["x".repeat(21)], true), format!("\"{}\"", "x".repeat(21)));
        assert_eq!(shown_command(&["a\nb\u{1b}".to_owned()], true), "\"ab\"");
    }

    #[test]
    fn sizes_are_shown_as_dockers() {
        assert_eq!(shown_size(Sizes { own: 12_000, all: 5_400_000 }), "12kB (virtual 5.4MB)");
    }
}
