//! Switches with a value, as docker's are: `--rm`, `--rm=true`, `-it=false`.
//!
//! Verbs declare plain switches, and so says their help. What is parsed with is
//! made of that here, in one place for all.

use std::any::TypeId;

use clap::{Arg, ArgAction, Command};

/// The same command, whose switches take `=true` and `=false`.
pub(super) fn with_values(command: Command) -> Command {
    command.mut_args(|argument| match argument.get_action() {
        ArgAction::SetTrue => with_value(argument),
        // Those that are on by themselves, such as --sig-proxy.
        ArgAction::Set if argument.get_value_parser().type_id() == TypeId::of::<bool>() => argument.value_parser(parse),
        _ => argument,
    })
}

fn with_value(switch: Arg) -> Arg {
    switch
        .action(ArgAction::Set)
        .num_args(0..=1)
        .require_equals(true)
        .default_value("false")
        .default_missing_value("true")
        .value_parser(parse)
}

/// The words of Go's `strconv.ParseBool`, which docker and podman read with.
fn parse(text: &str) -> Result<bool, &'static str> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
        _ => Err("it is true or false"),
    }
}

#[cfg(test)]
mod tests {
    use clap::{ArgMatches, arg};

    use super::super::verbs;
    use super::*;

    fn read(words: &[&str]) -> Result<ArgMatches, String> {
        let command = Command::new("x")
            .no_binary_name(true)
            .args_override_self(true)
            .args([arg!(-i - -interactive), arg!(-t - -tty), arg!(-e --env <NAME>).required(false), arg!([word]...)])
            .mut_arg("word", |words| words.trailing_var_arg(true));
        with_values(command).try_get_matches_from(words).map_err(|error| error.to_string())
    }

    fn check(words: &[&str], interactive: bool, tty: bool, rest: &[&str]) {
        let matches = read(words).unwrap();
        let switch = |name| *matches.get_one::<bool>(name).unwrap();
        let words: Vec<&str> = matches.get_many::<String>("word").unwrap_or_default().map(String::as_str).collect();
        assert_eq!((switch("interactive"), switch("tty")), (interactive, tty), "{words:?}");
        assert_eq!(words, rest);
    }

    #[test]
    fn switches_have_values_where_they_are_given_some() {
        check(&["a"], false, false, &["a"]);
        check(&["-it", "a"], true, true, &["a"]);
        check(&["-it=false", "a"], true, false, &["a"]);
        check(&["-t=f", "-i=1", "a"], true, false, &["a"]);
        check(&["--tty=T", "--interactive=FALSE", "a"], false, true, &["a"]);
        // The last one counts.
        check(&["--tty", "--tty=false", "a"], false, false, &["a"]);
        // Only an equals sign joins a value to a switch.
        check(&["--tty", "false"], false, true, &["false"]);
        check(&["-t", "true", "-i=false"], false, true, &["true", "-i=false"]);
        check(&["-ite", "A=b", "a"], true, true, &["a"]);
        for words in [["--tty=maybe"], ["--tty="], ["-it=yes"]] {
            assert!(read(&words).is_err(), "{words:?}");
        }
    }

    #[test]
    fn every_switch_of_every_verb_has_values() {
        for verb in verbs::ALL {
            let command = with_values(verb.command());
            let switches =
                command.get_arguments().filter(|argument| matches!(argument.get_action(), ArgAction::SetTrue));
            assert_eq!(switches.map(Arg::get_id).collect::<Vec<_>>(), [""; 0], "{}", verb.name);
            command.debug_assert();
        }
    }
}
