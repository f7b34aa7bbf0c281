//! Words of a Dockerfile instruction: split at blanks, quotes and variables
//! resolved, by the rules of the Dockerfile reference ("Escape",
//! "Environment replacement").

use std::iter::Peekable;
use std::str::Chars;

use crate::error::{Failure, Result};

/// Splits at blanks that are neither quoted nor escaped. Quotes and escapes
/// stay: [`expand`] resolves them.
pub(super) fn split(text: &str) -> Result<Vec<String>> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quote = None;
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match (letter, quote) {
            (letter, None) if letter.is_whitespace() => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                continue;
            }
            ('\\', None | Some('"')) => {
                word.push(letter);
                word.extend(letters.next());
                continue;
            }
            ('\'' | '"', None) => quote = Some(letter),
            (letter, Some(open)) if letter == open => quote = None,
            _ => {}
        }
        word.push(letter);
    }
    if quote.is_some() {
        return Err(Failure::usage("a quote is not closed"));
    }
    words.extend(Some(word).filter(|word| !word.is_empty()));
    Ok(words)
}

/// What `word` stands for: quotes and escapes removed, `$name`, `${name}`,
/// `${name:-word}` and `${name:+word}` replaced. A variable that is not set is
/// empty, as in a build.
pub(super) fn expand(word: &str, lookup: &dyn Fn(&str) -> Option<String>) -> Result<String> {
    let mut letters = word.chars().peekable();
    let mut text = String::new();
    while let Some(letter) = letters.next() {
        match letter {
            '\'' => loop {
                match letters.next() {
                    Some('\'') => break,
                    Some(letter) => text.push(letter),
                    None => return Err(Failure::usage("a quote is not closed")),
                }
            },
            '"' => loop {
                match letters.next() {
                    Some('"') => break,
                    Some('$') => text.push_str(&variable(&mut letters, lookup)?),
                    Some('\\') => match letters.next() {
                        Some(escaped @ ('"' | '$' | '\\')) => text.push(escaped),
                        Some(other) => text.extend(['\\', other]),
                        None => return Err(Failure::usage("a quote is not closed")),
                    },
                    Some(letter) => text.push(letter),
                    None => return Err(Failure::usage("a quote is not closed")),
                }
            },
            '\\' => text.extend(letters.next()),
            '$' => text.push_str(&variable(&mut letters, lookup)?),
            letter => text.push(letter),
        }
    }
    Ok(text)
}

/// What follows a dollar sign.
fn variable(letters: &mut Peekable<Chars<'_>>, lookup: &dyn Fn(&str) -> Option<String>) -> Result<String> {
    let is_braced = letters.next_if_eq(&'{').is_some();
    let mut name = String::new();
    while let Some(letter) = letters.next_if(|letter| letter.is_ascii_alphanumeric() || *letter == '_') {
        name.push(letter);
    }
    if !is_braced {
        // A lone dollar sign is one, as in a shell.
        return Ok(if name.is_empty() { "$".to_owned() } else { lookup(&name).unwrap_or_default() });
    }
    let mut rest = String::new();
    let mut depth = 1;
    for letter in letters.by_ref() {
        match letter {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            break;
        }
        rest.push(letter);
    }
    if depth > 0 || name.is_empty() {
        return Err(Failure::usage("a variable is written $NAME or ${NAME}"));
    }
    let value = lookup(&name);
    let filled = value.clone().filter(|value| !value.is_empty());
    match (rest.get(..2), rest.get(2..)) {
        (None, None) if rest.is_empty() => Ok(value.unwrap_or_default()),
        (Some(":-"), Some(word)) => filled.map_or_else(|| expand(word, lookup), Ok),
        (Some(":+"), Some(word)) => filled.map_or_else(|| Ok(String::new()), |_| expand(word, lookup)),
        _ => {
            Err(Failure::usage(format!("${{{name}{rest}}} is not supported: ${{NAME:-WORD}} and ${{NAME:+WORD}} are")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lookup(name: &str) -> Option<String> {
        Some(match name {
            "PATH" => "/bin".to_owned(),
            "EMPTY" => String::new(),
            _ => return None,
        })
    }

    fn check(text: &str, expected: &[&str]) {
        let words = split(text).unwrap();
        let words: Vec<String> = words.iter().map(|word| expand(word, &lookup).unwrap()).collect();
        assert_eq!(words, expected, "{text}");
    }

    #[test]
    fn words_quotes_and_variables() {
        check("a  b\tc", &["a", "b", "c"]);
        check(r#"A="two words" 'and $PATH' x\ y"#, &["A=two words", "and $PATH", "x y"]);
        check(r#"$PATH:/x ${PATH}b "${PATH} \$ \" \n""#, &["/bin:/x", "/binb", r#"/bin $ " \n"#]);
        check(
            "${NO:-a${PATH}} ${PATH:-no} ${EMPTY:-e} ${EMPTY:+no}${PATH:+yes} $NO.",
            &["a/bin", "/bin", "e", "yes", "."],
        );
        check("5$ $", &["5$", "$"]);
        check("", &[]);
        for bad in ["'a", "\"a", "a\"\\"] {
            assert!(split(bad).is_err(), "{bad}");
        }
        for bad in ["${", "${A", "${}", "${A:?x}", "${A:", "${:-x}"] {
            assert!(expand(bad, &lookup).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(text in r#"[a${}:\-+"'\\ é]{0,24}"#) {
            for word in split(&text).unwrap_or_default() {
                drop(expand(&word, &lookup));
            }
        }
    }
}
