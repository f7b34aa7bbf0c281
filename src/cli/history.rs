//! `kelp history`: how an image came to be.

use clap::Args;
use serde::Serialize;

use super::format::{Fields, FormatFlag, Listing};
use super::{Session, output, units};
use crate::engine::history::{self, Step};
use crate::error::Result;
use crate::image::digest::Digest;

/// Docker's word for a step that is no image of its own.
const MISSING: &str = "<missing>";

/// Times before it are not told: reproducible images are made at the epoch.
const FIRST_S: i64 = 946_684_800;

/// Arguments of `kelp history`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The image, by name or id
    #[arg(value_name = "IMAGE")]
    image: String,
    /// Print sizes and times for people; --human=false prints bytes and RFC 3339
    #[arg(
        short = 'H', long, value_name = "BOOL", default_value = "true", default_missing_value = "true", num_args = 0..=1,
        require_equals = true, hide_default_value = true, action = clap::ArgAction::Set
    )]
    human: bool,
    /// Do not shorten ids and commands
    #[arg(long)]
    no_trunc: bool,
    /// Print ids only
    #[arg(short, long, conflicts_with = "format")]
    quiet: bool,
    #[command(flatten)]
    format: FormatFlag,
}

const HEADINGS: &[(&str, &str)] = &[
    ("ID", "IMAGE"),
    ("CreatedSince", "CREATED"),
    ("CreatedAt", "CREATED AT"),
    ("CreatedBy", "CREATED BY"),
    ("Size", "SIZE"),
    ("Comment", "COMMENT"),
];

/// One step for programs.
#[derive(Serialize)]
struct Row<'a> {
    /// The image's id with its newest step.
    id: Option<Digest>,
    created: Option<&'a str>,
    created_by: &'a str,
    /// Bytes of content of the layer that it made.
    size: u64,
    comment: &'a str,
    layer: Option<Digest>,
}

/// Prints the steps, newest first.
pub(super) fn run(arguments: Arguments, session: &Session) -> Result<i32> {
    let (image, steps) = history::read(&session.paths, &arguments.image)?;
    // Only the image as a whole has an id; steps of other images have none.
    let steps: Vec<(Option<Digest>, Step)> =
        steps.into_iter().enumerate().map(|(place, step)| ((place == 0).then_some(image.id), step)).collect();
    if arguments.quiet {
        steps.iter().for_each(|(id, _)| output::line(shown_id(*id, arguments.no_trunc)));
        return Ok(0);
    }
    let shown: &[&str] = match arguments.human {
        true => &["ID", "CreatedSince", "CreatedBy", "Size", "Comment"],
        false => &["ID", "CreatedAt", "CreatedBy", "Size", "Comment"],
    };
    let listing = Listing { headings: HEADINGS, shown };
    listing.print(
        &arguments.format.format,
        &steps,
        |(id, step)| fields(*id, step, &arguments),
        |(id, step)| row(*id, step),
    )?;
    Ok(0)
}

fn row(id: Option<Digest>, step: &Step) -> Row<'_> {
    Row {
        id,
        created: step.created.as_deref(),
        created_by: &step.created_by,
        size: step.size,
        comment: &step.comment,
        layer: step.layer,
    }
}

fn fields(id: Option<Digest>, step: &Step, arguments: &Arguments) -> Fields {
    let time = step.created.as_deref().and_then(|text| text.parse::<jiff::Timestamp>().ok());
    let since = match time {
        Some(time) if time.as_second() > FIRST_S => units::ago(step.created.as_deref(), jiff::Timestamp::now()),
        _ => String::new(),
    };
    let at = time.map(units::rfc3339).unwrap_or_default();
    vec![
        ("ID", shown_id(id, arguments.no_trunc)),
        ("CreatedSince", if arguments.human { since } else { at.clone() }),
        ("CreatedAt", at),
        ("CreatedBy", shown_command(&step.created_by, arguments.no_trunc)),
        ("Size", if arguments.human { units::bytes(step.size) } else { step.size.to_string() }),
        ("Comment", output::tamed(&step.comment)),
    ]
}

fn shown_id(id: Option<Digest>, whole: bool) -> String {
    match id {
        Some(id) if whole => id.to_string(),
        Some(id) => id.short(),
        None => MISSING.to_owned(),
    }
}

/// The command on one line, as docker shortens it.
fn shown_command(command: &str, whole: bool) -> String {
    const WIDTH: usize = 45;
    let line = output::tamed(&command.replace(['\t', '\n'], " "));
    if whole || line.chars().count() <= WIDTH {
        return line;
    }
    format!("{}…", line.chars().take(WIDTH - 1).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_shown_on_one_line() {
        assert_eq!(shown_command("RUN a\tb\nc", false), "RUN a b c");
        let long = "x".repeat(50);
        assert_eq!(shown_command(&long, false), format!("{}…", "x".repeat(44)));
        assert_eq!(shown_command(&long, true), long);
        assert_eq!(shown_command("\u{1b}[31m", true), "\\u{1b}[31m");
    }
}
