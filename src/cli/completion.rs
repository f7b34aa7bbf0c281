//! `kelp completion`: the script that completes kelp's commands in a shell; in
//! bash and fish the names of containers, images and volumes, too.

use clap::Args;
use clap_complete::Shell;

use super::{Session, output, verbs};
use crate::error::Result;

/// Arguments of `kelp completion`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The shell to write for
    shell: Shell,
}

/// What is named on command lines: the word that begins an argument's value
/// name, and what prints the names.
const NAMED: &[(&str, &str)] = &[
    ("CONTAINER", "kelp ps --all --format '{{.Names}}'"),
    ("IMAGE", "kelp images --filter dangling=false --format '{{.Repository}}:{{.Tag}}'"),
    ("VOLUME", "kelp volume ls --quiet"),
];

/// Prints the script.
pub(super) fn run(arguments: Arguments, _session: &Session) -> Result<i32> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut verbs::tree(), "kelp", &mut script);
    output::raw(&script);
    match arguments.shell {
        Shell::Bash => output::raw(bash_names().as_bytes()),
        Shell::Fish => output::raw(fish_names().as_bytes()),
        _ => {}
    }
    Ok(0)
}

/// The verbs whose first operand is a `kind` of thing.
fn verbs_of(kind: &str) -> impl Iterator<Item = &'static str> {
    let is_of = move |verb: &&verbs::Verb| {
        let command = verb.command();
        let first = command.get_positionals().next().and_then(|operand| operand.get_value_names()?.first().cloned());
        first.is_some_and(|name| name.split([' ', '|']).next() == Some(kind))
    };
    verbs::ALL.iter().filter(is_of).map(|verb| verb.name)
}

/// Names in the place of the options that the generated function offers where
/// nothing is typed yet. A colon splits words in bash: what bash-completion
/// puts together, it takes apart again.
fn bash_names() -> String {
    let groups: Vec<&str> = verbs::group_names().collect();
    let mut cases = String::new();
    for (kind, list) in NAMED {
        let verbs: Vec<String> = verbs_of(kind).map(|verb| format!("\"{verb}\"")).collect();
        cases +=
            &format!("        {})\n            names=\"$({list} 2>/dev/null)\"\n            ;;\n", verbs.join("|"));
    }
    format!(
        r#"
_kelp_with_names() {{
    local word="$2" words=("${{COMP_WORDS[@]}}") cword="${{COMP_CWORD}}" names=
    _kelp "$@"
    if declare -F _get_comp_words_by_ref >/dev/null; then
        _get_comp_words_by_ref -n : -c word -w words -i cword
    fi
    local verb="${{words[1]}}" place=2
    case "${{verb}}" in
        {})
            verb="${{verb}} ${{words[2]}}"
            place=3
            ;;
    esac
    [[ "${{cword}}" -ge "${{place}}" && "${{word}}" != -* ]] || return 0
    case "${{verb}}" in
{cases}    esac
    [[ -n "${{names}}" ]] || return 0
    COMPREPLY=( $(compgen -W "${{names}}" -- "${{word}}") )
    if declare -F __ltrim_colon_completions >/dev/null; then
        __ltrim_colon_completions "${{word}}"
    fi
}}
complete -F _kelp_with_names -o bashdefault -o default kelp
"#,
        groups.join("|")
    )
}

fn fish_names() -> String {
    let mut script = String::new();
    for (kind, list) in NAMED {
        for verb in verbs_of(kind) {
            let condition = match verb.split_once(' ') {
                Some((group, verb)) => {
                    format!("__fish_kelp_using_subcommand {group}; and __fish_seen_subcommand_from {verb}")
                }
                None => format!("__fish_kelp_using_subcommand {verb}"),
            };
            script += &format!("complete -c kelp -n \"{condition}\" -f -a \"({list} 2>/dev/null)\"\n");
        }
    }
    script
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verbs_are_known_by_what_they_take() {
        let of = |kind| verbs_of(kind).collect::<Vec<_>>();
        for verb in ["start", "exec", "container rm", "diff", "cp"] {
            assert_eq!(of("CONTAINER").contains(&verb), verb != "cp", "{verb}");
        }
        assert!(
            of("IMAGE").contains(&"run") && of("IMAGE").contains(&"image rm") && of("VOLUME").contains(&"volume rm")
        );
        assert!(!of("VOLUME").contains(&"volume create"));
        let rule = "complete -c kelp -n \"__fish_kelp_using_subcommand stop\" -f -a \"(kelp ps --all";
        assert!(fish_names().contains(rule));
    }
}
