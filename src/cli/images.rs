//! `kelp images`: the images there are.

use clap::Args;
use serde::Serialize;

use super::format::{Fields, FormatFlag, Listing};
use super::{Session, output, units};
use crate::engine::images::{self, Listed};
use crate::error::{Failure, Result};
use crate::image::reference::Reference;

/// What stands in a column that has nothing.
const NONE: &str = "<none>";

/// Arguments of `kelp images`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Only images of this name: NAME for all its tags, or NAME:TAG
    #[arg(value_name = "NAME")]
    name: Option<String>,
    /// Accepted for scripts: kelp keeps no intermediate images
    #[arg(short, long)]
    all: bool,
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
struct Row {
    id: String,
    repository: Option<String>,
    tag: Option<String>,
    digest: Option<String>,
    /// As the image's author wrote it (RFC 3339).
    created: Option<String>,
    /// Bytes on disk: unpacked where it is, else as received.
    size: u64,
}

/// Prints the list.
///
/// SIZE is that of the unpacked layers, each counted once; for an image that
/// is not unpacked, that of its blobs as received.
pub(super) fn run(arguments: Arguments, session: &Session) -> Result<i32> {
    let filter = arguments.name.as_deref().map(Filter::parse).transpose()?;
    let listed = images::list(&session.paths)?;
    let chosen: Vec<&Listed> =
        listed.iter().filter(|listed| filter.as_ref().is_none_or(|filter| filter.accepts(listed))).collect();
    if arguments.quiet {
        let mut ids: Vec<String> = chosen.iter().map(|listed| id(listed, arguments.no_trunc)).collect();
        // One image may have many names; scripts want it once.
        let mut seen = std::collections::BTreeSet::new();
        ids.retain(|id| seen.insert(id.clone()));
        ids.iter().for_each(output::line);
    } else {
        let fields = |listed: &&Listed| fields(listed, arguments.no_trunc);
        let listing = if arguments.digests { LISTING_WITH_DIGESTS } else { LISTING };
        listing.print(&arguments.format.format, &chosen, fields, |listed| row(listed))?;
    }
    for listed in chosen {
        if let Err(failure) = &listed.config {
            output::notice(&format!("image {} is damaged: {failure}", shown_name(listed)));
        }
    }
    Ok(0)
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
    ],
    shown: &["Repository", "Tag", "ID", "CreatedSince", "Size"],
};

const LISTING_WITH_DIGESTS: Listing =
    Listing { shown: &["Repository", "Tag", "Digest", "ID", "CreatedSince", "Size"], ..LISTING };

fn fields(listed: &Listed, whole: bool) -> Fields {
    let row = row(listed);
    let or_none = |text: Option<String>| text.unwrap_or_else(|| NONE.to_owned());
    let created = row.created.as_deref().and_then(|text| text.parse::<jiff::Timestamp>().ok());
    vec![
        ("ID", id(listed, whole)),
        ("Repository", or_none(row.repository)),
        ("Tag", or_none(row.tag)),
        ("Digest", or_none(row.digest)),
        ("CreatedSince", units::ago(row.created.as_deref(), jiff::Timestamp::now())),
        ("CreatedAt", created.map_or_else(|| "N/A".to_owned(), |time| units::moment(time.as_second()))),
        ("Size", if listed.config.is_ok() { units::bytes(row.size) } else { "N/A".to_owned() }),
    ]
}

fn row(listed: &Listed) -> Row {
    let reference = listed.tag.reference.as_ref();
    let digest = listed.tag.source.or_else(|| reference.and_then(|reference| reference.digest().copied()));
    Row {
        id: listed.tag.config.to_string(),
        repository: reference.map(Reference::familiar_name),
        tag: reference.and_then(|reference| reference.tag()).map(str::to_owned),
        digest: digest.map(|digest| digest.to_string()),
        created: listed.config.as_ref().ok().and_then(|config| config.created.clone()),
        size: listed.size,
    }
}

fn id(listed: &Listed, whole: bool) -> String {
    if whole { listed.tag.config.to_string() } else { listed.tag.config.short() }
}

fn shown_name(listed: &Listed) -> String {
    match &listed.tag.reference {
        Some(reference) => format!("\"{}\"", reference.familiar()),
        None => listed.tag.config.short(),
    }
}

/// What a name on the command line stands for.
struct Filter {
    candidates: Vec<Reference>,
    /// The tag or digest was typed, not filled in.
    is_exact: bool,
}

impl Filter {
    fn parse(text: &str) -> Result<Self> {
        let candidates = Reference::local_candidates(text)
            .map_err(|error| Failure::from(error).hint("give NAME or NAME:TAG, without patterns"))?;
        let last = text.rsplit('/').next().unwrap_or(text);
        Ok(Self { candidates, is_exact: last.contains([':', '@']) })
    }

    fn accepts(&self, listed: &Listed) -> bool {
        let Some(reference) = &listed.tag.reference else { return false };
        self.candidates.iter().any(|candidate| match (candidate.digest(), self.is_exact) {
            (Some(digest), _) => {
                candidate.name() == reference.name()
                    && (reference.digest() == Some(digest) || listed.tag.source.as_ref() == Some(digest))
            }
            (None, true) => candidate == reference,
            (None, false) => candidate.name() == reference.name(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::descriptor::{Descriptor, OCI_MANIFEST};
    use crate::image::digest::Digest;
    use crate::image::tags::Tag;

    fn check(filter: &str, name: &str, expected: bool) {
        let manifest = Descriptor::of(OCI_MANIFEST, b"m");
        let tag = Tag::new(Some(Reference::parse(name).unwrap()), manifest, Digest::of(b"c"));
        let listed = Listed { tag: tag.pulled_as(Digest::of(b"m")), config: Err(Failure::user("none")), size: 0 };
        assert_eq!(Filter::parse(filter).unwrap().accepts(&listed), expected, "{filter} {name}");
    }

    #[test]
    fn filters_by_name_tag_and_digest() {
        check("alpine", "alpine:3", true);
        check("alpine:3", "alpine:3", true);
        check("alpine:latest", "alpine:3", false);
        check("web", "localhost/web:1", true);
        check("web", "docker.io/team/web", false);
        check("localhost:5000/web", "localhost:5000/web:2", true);
        check(&format!("alpine@{}", Digest::of(b"m")), "alpine:3", true);
        check(&format!("alpine@{}", Digest::of(b"x")), "alpine:3", false);
        assert!(Filter::parse("Alpine*").is_err());
    }
}
