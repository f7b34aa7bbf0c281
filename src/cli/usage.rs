//! What is wrong with a command line, in kelp's words.

use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::refused;
use crate::error::Failure;

/// What clap found wrong with the words behind `kelp VERB`: one line, then
/// hints.
pub(super) fn failure(error: &clap::Error, verb: &str) -> Failure {
    let help = format!("kelp {verb} --help lists the options");
    let text = without_values_of_switches(&error.render().to_string());
    let first = text.lines().next().unwrap_or_default().trim_start_matches("error: ").replace('\'', "\"");
    let problem = match (error.kind(), named(error, ContextKind::InvalidArg)) {
        (ErrorKind::UnknownArgument, Some(name)) if !name.starts_with('-') => {
            Failure::usage(format!("one argument too many: \"{name}\""))
        }
        (ErrorKind::UnknownArgument, Some(flag)) => {
            if let Some(refused) = refused::flag(verb, flag) {
                return refused.hint(help);
            }
            Failure::usage(format!("no option \"{flag}\" in kelp {verb}"))
        }
        (ErrorKind::MissingRequiredArgument, _) => {
            let missing: Vec<&str> = list(error, ContextKind::InvalidArg).iter().map(|name| plain(name)).collect();
            Failure::usage(format!("{} is missing", missing.join(", ")))
        }
        // Of words that are one list to clap, and none to whoever types them.
        (ErrorKind::TooFewValues, Some(name)) if name.starts_with('<') => {
            let least = match error.get(ContextKind::MinValues) {
                Some(ContextValue::Number(least)) => format!("at least {least} arguments"),
                _ => "more arguments".to_owned(),
            };
            Failure::usage(format!("kelp {verb} requires {least}: {}", plain(name)))
        }
        (ErrorKind::InvalidValue, _) if !list(error, ContextKind::ValidValue).is_empty() => {
            let first = first.split(" [possible").next().unwrap_or(&first);
            Failure::usage(first).hint(format!("it may be {}", list(error, ContextKind::ValidValue).join(", ")))
        }
        _ => Failure::usage(first.trim_end_matches(':')),
    };
    let problem = match named(error, ContextKind::SuggestedArg) {
        Some(near) => problem.hint(format!("did you mean \"{near}\"?")),
        None => problem,
    };
    problem.hint(help)
}

fn named(error: &clap::Error, kind: ContextKind) -> Option<&str> {
    match error.get(kind) {
        Some(ContextValue::String(name)) => Some(name),
        _ => None,
    }
}

fn list(error: &clap::Error, kind: ContextKind) -> &[String] {
    match error.get(kind) {
        Some(ContextValue::Strings(names)) => names,
        _ => &[],
    }
}

/// `CONTAINER COMMAND [ARG...]` for clap's `<CONTAINER COMMAND [ARG...]> <…>...`;
/// an option as it is.
fn plain(argument: &str) -> &str {
    argument.strip_prefix('<').and_then(|text| text.split_once('>')).map_or(argument, |(words, _)| words)
}

/// `--rm` for `--rm[=<RM>]`: what a switch may be given (cli/switches.rs) is
/// not what is wrong.
fn without_values_of_switches(text: &str) -> String {
    let mut parts = text.split("[=<");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| text + part.split_once(">]").map_or(part, |(_, rest)| rest))
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::super::{switches, verbs};
    use super::*;

    fn check(words: &[&str], expected: &str, hints: usize) {
        let (verb, rest) = words.split_first().unwrap();
        let words = std::iter::once(&"kelp").chain(rest).map(OsString::from);
        let command = switches::with_values(verbs::find(verb).unwrap().command());
        let failure = failure(&command.try_get_matches_from(words).unwrap_err(), verb);
        assert_eq!(failure.sentence(), expected);
        assert_eq!(failure.hints.len(), hints, "{:?}", failure.hints);
    }

    #[test]
    fn what_is_wrong_is_said_in_a_line() {
        check(&["exec", "web"], "kelp exec requires at least 2 arguments: CONTAINER COMMAND [ARG...]", 1);
        check(&["exec"], "CONTAINER COMMAND [ARG...] is missing", 1);
        check(&["stop"], "CONTAINER is missing", 1);
        check(&["cp", "a"], "[CONTAINER:]PATH|- is missing", 1);
        check(&["rename", "a", "b", "c"], "one argument too many: \"c\"", 1);
        check(&["run", "--rm=maybe", "a"], "invalid value \"maybe\" for \"--rm\": it is true or false", 1);
        check(
            &["ps", "-q", "--format", "json"],
            "the argument \"--quiet\" cannot be used with \"--format <FORMAT>\"",
            1,
        );
        check(&["ps", "--no-trnc"], "no option \"--no-trnc\" in kelp ps", 2);
    }

    #[test]
    fn what_others_have_is_refused_with_the_reason() {
        check(&["ps", "--watch"], "kelp ps has no --watch: a list is printed once", 2);
    }
}
