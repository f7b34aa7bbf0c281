//! `kelp images`: the images there are.

use std::collections::BTreeMap;

use clap::Args;
use serde::Serialize;

use super::format::{Fields, FormatFlag, Listing};
use super::{Session, output, units};
use crate::engine::inventory::{self, Item};
use crate::engine::options::filter::ImageFilter;
use crate::error::Result;
use crate::image::reference::Reference;
use crate::image::tags::Tag;

/// What stands in a column that has nothing.
const NONE: &str = "<none>";

/// Arguments of `kelp images`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Only images of this name: NAME for all its tags, NAME:TAG, or a pattern such as 'quay.io/*/web:1.*'
    #[arg(value_name = "NAME")]
    name: Option<String>,
    /// Accepted for scripts: kelp keeps no intermediate images
    #[arg(short, long)]
    all: bool,
    /// Only images that are like this: dangling=BOOL, label=KEY[=VALUE], label!=KEY[=VALUE], before=IMAGE,
    /// since=IMAGE, until=TIME, reference=PATTERN
    ///
    /// Can be given several times: all filters hold together, and of several
    /// references one is enough.
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// Print ids only
    #[arg(short, long, conflicts_with = "format")]
    quiet: bool,
    /// Show under which digest an image was pulled
    #[arg(long)]
    digests: bool,
    /// Do not shorten ids
    #[arg(long)]
    no_trunc: bool,
    #[command(flatten)]
    format: FormatFlag,
}

/// One row for programs.
#[derive(Serialize)]
struct Row<'a> {
    id: String,
    repository: Option<String>,
    tag: Option<String>,
    digest: Option<String>,
    /// As the image's author wrote it (RFC 3339).
    created: Option<&'a str>,
    labels: Option<&'a BTreeMap<String, String>>,
    /// Bytes of content, unpacked where it is, else as received.
    size: u64,
    /// What of it other images have as well.
    shared_size: u64,
    /// What no other image has.
    unique_size: u64,
    /// Bytes of its blobs as received.
    packed_size: u64,
    /// The read-only store that it is in; none for our own.
    store: Option<String>,
}

const LISTING: Listing = Listing {
    headings: &[
        ("ID", "IMAGE ID"),
        ("Repository", "REPOSITORY"),
        ("Tag", "TAG"),
        ("Digest", "DIGEST"),
        ("CreatedSince", "CREATED"),
        ("CreatedAt", "CREATED AT"),
        ("Size", "SIZE"),
        ("VirtualSize", "SIZE"),
        ("SharedSize", "SHARED SIZE"),
        ("UniqueSize", "UNIQUE SIZE"),
        ("ReadOnly", "R/O"),
    ],
    shown: &["Repository", "Tag", "ID", "CreatedSince", "Size"],
};

const LISTING_WITH_DIGESTS: Listing =
    Listing { shown: &["Repository", "Tag", "Digest", "ID", "CreatedSince", "Size"], ..LISTING };

const LISTING_WITH_STORES: Listing =
    Listing { shown: &["Repository", "Tag", "ID", "CreatedSince", "Size", "ReadOnly"], ..LISTING };

const LISTING_WITH_BOTH: Listing =
    Listing { shown: &["Repository", "Tag", "Digest", "ID", "CreatedSince", "Size", "ReadOnly"], ..LISTING };

/// Prints the list, newest first.
pub(super) fn run(arguments: Arguments, session: &Session) -> Result<i32> {
    let mut filters = arguments.filter;
    filters.extend(arguments.name.map(|name| format!("reference={name}")));
    let filter = ImageFilter::parse(&filters)?;
    let inventory = inventory::read_all(&session.paths)?;
    let chosen = inventory::choose(&inventory, &filter, &session.paths)?;
    if arguments.quiet {
        // One image may have many names; scripts want it once.
        let mut seen = std::collections::BTreeSet::new();
        let images = chosen.iter().filter(|(image, _)| seen.insert(image.id));
        images.for_each(|(image, _)| output::line(id(image, arguments.no_trunc)));
    } else {
        let fields = |(image, tag): &(&Item, &Tag)| fields(image, tag, arguments.no_trunc);
        let has_stores = chosen.iter().any(|(_, tag)| tag.store.is_some());
        let listing = match (arguments.digests, has_stores) {
            (false, false) => LISTING,
            (true, false) => LISTING_WITH_DIGESTS,
            (false, true) => LISTING_WITH_STORES,
            (true, true) => LISTING_WITH_BOTH,
        };
        listing.print(&arguments.format.format, &chosen, fields, |(image, tag)| row(image, tag))?;
    }
    for (image, tag) in chosen {
        if let Err(failure) = &image.documents {
            let name = tag.reference.as_ref().map_or_else(|| tag.config.short(), Reference::familiar);
            output::notice(&format!("image \"{name}\" is damaged: {failure}"));
        }
    }
    inventory.damaged.iter().for_each(|failure| output::notice(&failure.sentence()));
    Ok(0)
}

fn fields(image: &Item, tag: &Tag, whole: bool) -> Fields {
    let row = row(image, tag);
    let or_none = |text: Option<String>| text.unwrap_or_else(|| NONE.to_owned());
    let size = |bytes| if image.documents.is_ok() { units::bytes(bytes) } else { "N/A".to_owned() };
    vec![
        ("ID", id(image, whole)),
        ("Repository", or_none(row.repository)),
        ("Tag", or_none(row.tag)),
        ("Digest", or_none(row.digest)),
        ("CreatedSince", units::ago(row.created, jiff::Timestamp::now())),
        ("CreatedAt", image.created().map_or_else(|| "N/A".to_owned(), |time| units::moment(time.as_second()))),
        ("Size", size(row.size)),
        ("VirtualSize", size(row.size)),
        ("SharedSize", size(row.shared_size)),
        ("UniqueSize", size(row.unique_size)),
        ("ReadOnly", row.store.is_some().to_string()),
    ]
}

fn row<'a>(image: &'a Item, tag: &Tag) -> Row<'a> {
    let reference = tag.reference.as_ref();
    let digest = tag.source.or_else(|| reference.and_then(|reference| reference.digest().copied()));
    let config = image.documents.as_ref().ok().map(|(_, config)| config);
    Row {
        id: image.id.to_string(),
        repository: reference.map(Reference::familiar_name),
        tag: reference.and_then(|reference| reference.tag()).map(str::to_owned),
        digest: digest.map(|digest| digest.to_string()),
        created: config.and_then(|config| config.created.as_deref()),
        labels: config.map(|config| &config.config.labels),
        size: image.sizes.size,
        shared_size: image.sizes.shared,
        unique_size: image.sizes.unique(),
        packed_size: image.sizes.packed,
        store: tag.store.as_ref().map(|store| store.path().display().to_string()),
    }
}

fn id(image: &Item, whole: bool) -> String {
    if whole { image.id.to_string() } else { image.id.short() }
}
