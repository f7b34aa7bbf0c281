//! `kelp diff`: what a container or an image changed.

use clap::Args;
use serde::Serialize;

use super::{Session, output, progress};
use crate::engine::diff;
use crate::error::Result;
use crate::storage::pack::Kind;

/// Arguments of `kelp diff`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// A container: against its image; an image: its topmost layer
    #[arg(value_name = "CONTAINER|IMAGE")]
    name: String,
    /// Compare with this container or image instead
    #[arg(value_name = "OTHER")]
    other: Option<String>,
    /// How to print
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// How changes are printed; podman's choice too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
enum Format {
    /// A letter and a path a line.
    #[default]
    Table,
    /// One JSON document.
    Json,
}

/// Podman's document.
#[derive(Debug, Default, Serialize)]
struct Document {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    changed: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    added: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    deleted: Vec<String>,
}

/// Prints a letter and a path a line, as docker does.
pub(super) fn run(arguments: Arguments, session: &Session) -> Result<i32> {
    let bars = progress::Bars::new();
    let found = diff::diff(&session.paths, &arguments.name, arguments.other.as_deref(), &bars)?;
    found.notices.iter().for_each(|notice| output::notice(notice));
    if arguments.format == Format::Table {
        found
            .changes
            .iter()
            .for_each(|change| output::line(format!("{} {}", change.kind.letter(), shown(&change.path))));
        return Ok(0);
    }
    let mut document = Document::default();
    for change in found.changes {
        let path = String::from_utf8_lossy(&change.path).into_owned();
        match change.kind {
            Kind::Changed => document.changed.push(path),
            Kind::Added => document.added.push(path),
            Kind::Deleted => document.deleted.push(path),
        }
    }
    output::json(&document)?;
    Ok(0)
}

/// A path on one line: a container can give its files any name, and no control
/// character of it reaches the terminal.
fn shown(path: &[u8]) -> String {
    let character = |character: char| match character.is_control() {
        true => character.escape_default().collect(),
        false => String::from(character),
    };
    String::from_utf8_lossy(path).chars().map(character).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_do_not_reach_the_terminal_as_commands() {
        assert_eq!(shown("/etc/\u{e9} a".as_bytes()), "/etc/\u{e9} a");
        assert_eq!(shown(b"/a\n/b\x1b[2J\xff"), "/a\\n/b\\u{1b}[2J\u{fffd}");
    }
}
