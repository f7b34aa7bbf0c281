//! What docker and podman have and kelp has not: refused by name, with the
//! reason and what to do instead. Without this a wrong "did you mean" would be
//! all that somebody hears who types from habit.
//!
//! A row goes when what it names is built; a test sees to it.

mod commands;
mod flags;

use super::verbs;
use crate::error::Failure;

/// Something that kelp has not.
struct Refused {
    /// Of a flag: the verbs that it is a flag of elsewhere, without a group;
    /// empty for any verb.
    verbs: &'static [&'static str],
    /// All spellings.
    names: &'static [&'static str],
    /// Why there is none.
    reason: &'static str,
    /// What to do instead; empty where there is nothing.
    instead: &'static str,
}

impl Refused {
    fn failure(&self, what: &str) -> Failure {
        let failure = Failure::usage(format!("{what}: {}", self.reason));
        if self.instead.is_empty() { failure } else { failure.hint(self.instead) }
    }
}

/// Why `verb` (its name in the table of verbs) has no `flag`, if that is known.
pub(super) fn flag(verb: &str, flag: &str) -> Option<Failure> {
    let flag = flag.split('=').next().unwrap_or(flag);
    let verb = plain(verb);
    let found = flags::FLAGS
        .iter()
        .find(|row| row.names.contains(&flag) && (row.verbs.is_empty() || row.verbs.contains(&verb)))?;
    Some(found.failure(&format!("kelp {verb} has no {flag}")))
}

/// Why there is no command `name`, of one word or two, if that is known.
pub(super) fn command(name: &str) -> Option<Failure> {
    let found = commands::COMMANDS.iter().find(|row| row.names.contains(&name))?;
    Some(found.failure(&format!("kelp has no \"{name}\"")))
}

/// The name of a verb outside of its group, where it has one: `container run`
/// is `run`, `image ls` is `images`.
fn plain(verb: &str) -> &str {
    match verb {
        "container ls" | "container ps" => "ps",
        "image ls" => "images",
        "image rm" => "rmi",
        // Of all kinds at once outside.
        "container inspect" | "image inspect" => verb,
        _ => match verb.split_once(' ') {
            Some(("container" | "image", short)) if verbs::find(short).is_some() => short,
            _ => verb,
        },
    }
}

#[cfg(test)]
mod tests {
    use clap::Arg;

    use super::*;

    /// All spellings of an argument, with their dashes.
    fn spellings(argument: &Arg) -> Vec<String> {
        let long =
            argument.get_long_and_visible_aliases().unwrap_or_default().into_iter().map(|long| format!("--{long}"));
        let hidden = argument.get_all_aliases().unwrap_or_default().into_iter().map(|long| format!("--{long}"));
        let short =
            argument.get_short_and_visible_aliases().unwrap_or_default().into_iter().map(|short| format!("-{short}"));
        long.chain(hidden).chain(short).collect()
    }

    #[test]
    fn nothing_that_there_is_is_refused() {
        let all = verbs::ALL.iter().flat_map(|verb| {
            let arguments: Vec<Arg> = verb.command().get_arguments().cloned().collect();
            arguments.into_iter().flat_map(|argument| spellings(&argument)).map(|spelling| (verb.name, spelling))
        });
        let wrong: Vec<(&str, String)> = all.filter(|(verb, spelling)| flag(verb, spelling).is_some()).collect();
        assert_eq!(wrong, [], "kelp has them");
        for name in commands::COMMANDS.iter().flat_map(|row| row.names) {
            assert!(verbs::find(name).is_none() && !verbs::is_group(name), "there is {name}");
        }
    }

    #[test]
    fn rows_are_about_verbs_that_there_are() {
        for verb in flags::FLAGS.iter().flat_map(|row| row.verbs) {
            assert!(verbs::find(verb).is_some(), "{verb}");
            assert_eq!(plain(verb), *verb);
        }
    }

    #[test]
    fn rows_read_as_a_sentence_goes_on() {
        for Refused { names, reason, instead, .. } in flags::FLAGS.iter().chain(commands::COMMANDS) {
            assert!(!names.is_empty());
            assert!(!reason.is_empty() && !reason.ends_with('.') && !instead.ends_with('.'), "{names:?}");
            assert!(!reason.starts_with(char::is_uppercase) || reason.starts_with("Linux"), "{names:?}");
        }
    }

    #[test]
    fn what_is_advised_exists() {
        let rows = flags::FLAGS.iter().chain(commands::COMMANDS);
        for advice in rows.flat_map(|row| [row.reason, row.instead]) {
            for (at, _) in advice.match_indices("kelp ") {
                let mut words = advice[at + 5..].split([' ', ',', ';', ')', ':']);
                let (first, second) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
                let is_verb = verbs::find(first).is_some() || verbs::find(&format!("{first} {second}")).is_some();
                // "kelp is", "kelp has": prose.
                let is_prose = ["has", "is", "runs", "has", "needs", "keeps", "does", "itself"].contains(&first);
                assert!(is_verb || is_prose, "{advice}");
            }
        }
    }

    #[test]
    fn groups_do_not_matter() {
        for verb in ["run", "create", "container run", "container create"] {
            assert!(flag(verb, "--privileged").is_some(), "{verb}");
            assert!(flag(verb, "--gpus").is_some(), "{verb}");
        }
        assert!(flag("container ls", "--watch").is_some());
        assert!(flag("volume rm", "-p").is_none());
        assert!(flag("run", "--privileged=true").is_some());
    }
}
