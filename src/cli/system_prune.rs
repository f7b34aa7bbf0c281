//! `kelp system prune`: removes all that nobody needs.

use clap::Args;

use super::{Session, image_prune, output, rmi, units};
use crate::engine::options::prune_filter::PruneFilter;
use crate::engine::{lifecycle, prune};
use crate::error::Result;

/// Arguments of `kelp system prune`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Remove all images that no container was made from, not only those without a name
    #[arg(short, long)]
    all: bool,
    /// Only what is like this: until=TIME, label=KEY[=VALUE], label!=KEY[=VALUE]
    #[arg(long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// Do not ask first
    #[arg(short, long)]
    force: bool,
    /// Remove anonymous volumes, too
    #[arg(long)]
    volumes: bool,
}

/// Asks, removes and tells what was gained, in docker's words.
pub(super) fn run(arguments: Arguments, session: &Session) -> Result<i32> {
    let filter = PruneFilter::parse(&arguments.filter, arguments.volumes)?;
    if !arguments.force && !output::confirm(&warning(&arguments))? {
        return Ok(0);
    }
    let pruned = prune::prune(&session.paths, arguments.all, &filter);
    for (heading, names) in [("Deleted Containers:", &pruned.containers), ("Deleted Volumes:", &pruned.volumes)] {
        if !names.is_empty() {
            output::line(heading);
            names.iter().for_each(output::line);
            output::line("");
        }
    }
    image_prune::print_removed(&pruned.images);
    output::line(format!("Total reclaimed space: {}", units::bytes(pruned.freed)));
    rmi::warn(&pruned.collected);
    pruned.failures.iter().for_each(output::failure);
    lifecycle::delete_removed(&session.paths)?;
    Ok(i32::from(!pruned.failures.is_empty()))
}

/// Docker's, of what there is: neither networks nor a build cache.
fn warning(arguments: &Arguments) -> String {
    let mut lines = vec!["WARNING! This will remove:".to_owned(), "  - all stopped containers".to_owned()];
    if arguments.volumes {
        lines.push("  - all anonymous volumes not used by at least one container".to_owned());
    }
    lines.push(match arguments.all {
        true => "  - all images without at least one container associated to them".to_owned(),
        false => "  - all dangling images".to_owned(),
    });
    if !arguments.filter.is_empty() {
        lines.extend([String::new(), "  Items to be pruned will be filtered with:".to_owned()]);
        lines.extend(arguments.filter.iter().map(|filter| format!("  - {filter}")));
    }
    lines.push(String::new());
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_question_is_dockers() {
        let mut arguments = Arguments { all: false, filter: Vec::new(), force: false, volumes: false };
        assert_eq!(
            warning(&arguments),
            "WARNING! This will remove:\n  - all stopped containers\n  - all dangling images\n"
        );
        (arguments.all, arguments.volumes, arguments.filter) = (true, true, vec!["label=a".to_owned()]);
        assert_eq!(
            warning(&arguments),
            "WARNING! This will remove:\n  - all stopped containers\n  \
             - all anonymous volumes not used by at least one container\n  \
             - all images without at least one container associated to them\n\n  \
             Items to be pruned will be filtered with:\n  - label=a\n"
        );
    }
}
