//! `kelp manifest inspect`: the document that a name stands for.

use clap::Args;

use crate::cli::{Session, output, registry};
use crate::engine::manifest;
use crate::error::Result;

/// Arguments of `kelp manifest inspect`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Arguments {
    /// Print the bytes as they are, which is what the digest is of
    #[arg(long)]
    raw: bool,
    #[command(flatten)]
    registry: registry::Transport,
    /// A list, or an image of a registry (docker://NAME: of a registry only)
    #[arg(value_name = "NAME")]
    name: String,
}

/// Prints it, indented but otherwise as it is.
pub(in crate::cli) fn run(arguments: Arguments, session: &Session) -> Result<i32> {
    arguments.registry.check()?;
    let bytes = manifest::inspect(&session.paths, &arguments.name, arguments.registry.plain_http)?;
    match arguments.raw {
        true => output::raw(&bytes),
        false => indented(&String::from_utf8_lossy(&bytes)).lines().for_each(|line| output::line(output::tamed(line))),
    }
    Ok(0)
}

/// JSON with a line for each value, in its own order and spelling.
fn indented(json: &str) -> String {
    let mut out = String::with_capacity(json.len() * 2);
    let (mut depth, mut in_text, mut is_escaped) = (0_usize, false, false);
    let mut rest = json.chars().peekable();
    while let Some(character) = rest.next() {
        if in_text {
            out.push(character);
            in_text = is_escaped || character != '"';
            is_escaped = !is_escaped && character == '\\';
            continue;
        }
        match character {
            '{' | '[' => {
                out.push(character);
                while rest.next_if(|next| next.is_ascii_whitespace()).is_some() {}
                match rest.next_if(|next| matches!(next, '}' | ']')) {
                    Some(end) => out.push(end),
                    None => {
                        depth += 1;
                        new_line(&mut out, depth);
                    }
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                new_line(&mut out, depth);
                out.push(character);
            }
            ',' => {
                out.push(character);
                new_line(&mut out, depth);
            }
            ':' => out.push_str(": "),
            other if other.is_ascii_whitespace() => {}
            other => {
                in_text = other == '"';
                out.push(other);
            }
        }
    }
    out
}

fn new_line(out: &mut String, depth: usize) {
    out.push('\n');
    out.extend(std::iter::repeat_n("   ", depth));
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn order_and_spelling_stay() {
        let json = r#"{"b":1e5,"a":[ ],"x":{},"t":["\"{,\\",true , null],"n":{"k":"\u00e4:"}}"#;
        let expected = "{\n   \"b\": 1e5,\n   \"a\": [],\n   \"x\": {},\n   \"t\": [\n      \"\\\"{,\\\\\",\n      true,\n      null\n   ],\n   \"n\": {\n      \"k\": \"\\u00e4:\"\n   }\n}";
        assert_eq!(indented(json), expected);
        assert_eq!(indented(expected), expected);
    }

    proptest! {
        #[test]
        fn always_ends(text in ".{0,100}|[\\[\\]{},:\" \\\\]{0,100}") {
            indented(&text);
        }
    }
}
