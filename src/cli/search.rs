//! `kelp search`: images that registries have.

use clap::Args;
use serde::Serialize;

use super::format::{Fields, FormatFlag, Listing};
use super::{Session, registry};
use crate::engine::search::{self, Filter, Request};
use crate::error::Result;
use crate::image::registry::FoundRepository;

/// How much of a description is shown (docker's number).
const DESCRIPTION_CHARACTERS: usize = 45;

/// Arguments of `kelp search`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The most results, up to 100
    #[arg(long, value_name = "NUMBER", default_value_t = 25)]
    limit: usize,
    /// Only those with is-official=true|false or stars=NUMBER
    #[arg(short, long = "filter", value_name = "FILTER")]
    filters: Vec<String>,
    /// Do not shorten descriptions
    #[arg(long)]
    no_trunc: bool,
    #[command(flatten)]
    format: FormatFlag,
    #[command(flatten)]
    registry: registry::Transport,
    /// A word to look for, perhaps at another registry: REGISTRY/WORD
    #[arg(value_name = "TERM")]
    term: String,
}

const LISTING: Listing = Listing {
    headings: &[("Name", "NAME"), ("Description", "DESCRIPTION"), ("StarCount", "STARS"), ("IsOfficial", "OFFICIAL")],
    shown: &["Name", "Description", "StarCount", "IsOfficial"],
};

/// One row for programs.
#[derive(Serialize)]
struct Row<'a> {
    name: &'a str,
    description: &'a str,
    stars: u64,
    is_official: bool,
}

/// Prints what is found, best first.
pub(super) fn run(arguments: Arguments, _session: &Session) -> Result<i32> {
    arguments.registry.check()?;
    let filters = arguments.filters.iter().map(|filter| Filter::parse(filter)).collect::<Result<_>>()?;
    let plain_http = arguments.registry.plain_http;
    let found = search::search(&Request { term: arguments.term, limit: arguments.limit, filters, plain_http })?;
    LISTING.print(&arguments.format.format, &found, |found| fields(found, arguments.no_trunc), row)?;
    Ok(0)
}

fn fields(found: &FoundRepository, no_trunc: bool) -> Fields {
    let description = on_one_line(&found.description);
    vec![
        ("Name", on_one_line(&found.name)),
        ("Description", if no_trunc { description } else { shortened(&description) }),
        ("StarCount", found.stars.to_string()),
        ("IsOfficial", if found.is_official { "[OK]".to_owned() } else { String::new() }),
    ]
}

fn row(found: &FoundRepository) -> Row<'_> {
    let FoundRepository { name, description, stars, is_official } = found;
    Row { name, description, stars: *stars, is_official: *is_official }
}

/// A stranger's text: nothing of it controls the terminal.
fn on_one_line(text: &str) -> String {
    let words = text.split(|c: char| c.is_control() || c.is_whitespace()).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join(" ")
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(DESCRIPTION_CHARACTERS) {
        None => text.to_owned(),
        Some(_) => text.chars().take(DESCRIPTION_CHARACTERS - 1).chain(['…']).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptions_are_tamed() {
        assert_eq!(on_one_line(" a\n\tb \u{1b}[31mred\u{7} "), "a b [31mred");
        assert_eq!(shortened(&"ä".repeat(45)), "ä".repeat(45));
        assert_eq!(shortened(&"ä".repeat(46)), format!("{}…", "ä".repeat(44)));
    }
}
