//! Environment variables: `-e NAME[=VALUE]` and `--env-file`.
//!
//! The caller's environment comes in as a function, so that nothing of it
//! gets into a container unasked. A value is taken as it is: no quotes, no
//! escapes, no expansion, also in files (docker/cli opts/envfile.go).

use serde::{Deserialize, Serialize};

use crate::error::{Failure, Result};
use crate::limits::{ENVIRONMENT_MAX, USER_FILE_BYTES_MAX};

/// One wish about a variable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Variable {
    /// Its name: not empty, no `=`.
    pub name: String,
    /// Its value; `None` removes the variable that the image sets.
    pub value: Option<String>,
}

/// Reads `-e`. `NAME` alone takes the value of the caller's variable, and if
/// there is none removes the image's.
pub fn parse(text: &str, caller: impl Fn(&str) -> Option<String>) -> Result<Variable> {
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, Some(value.to_owned())),
        None => (text, caller(text)),
    };
    let zero = value.as_ref().is_some_and(|value| value.contains('\0'));
    if name.is_empty() || name.contains('\0') || zero {
        return Err(Failure::usage(format!("\"{text}\" is not a variable: NAME=VALUE")));
    }
    Ok(Variable { name: name.to_owned(), value })
}

/// Reads an env-file. `NAME` alone takes the value of the caller's variable,
/// and if there is none is passed over.
pub fn parse_file(bytes: &[u8], caller: impl Fn(&str) -> Option<String>) -> Result<Vec<Variable>> {
    let imported = |line: Variable| {
        let value = line.value.or_else(|| caller(&line.name))?;
        Some(Variable { name: line.name, value: Some(value) })
    };
    Ok(parse_lines(bytes)?.into_iter().filter_map(imported).collect())
}

/// The lines of an env-file or label file that are not empty and not comments.
pub(super) fn parse_lines(bytes: &[u8]) -> Result<Vec<Variable>> {
    if bytes.len() as u64 > USER_FILE_BYTES_MAX {
        return Err(Failure::user(format!("the file is larger than {USER_FILE_BYTES_MAX} bytes")));
    }
    // A byte order mark, as editors of another system write it.
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let mut variables = Vec::new();
    for (number, line) in (1..).zip(bytes.split(|byte| *byte == b'\n')) {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let line = std::str::from_utf8(line).map_err(|_| Failure::user(format!("line {number} is not UTF-8")))?;
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, value) = line.split_once('=').map_or((line, None), |(name, value)| (name, Some(value)));
        if name.is_empty() {
            return Err(Failure::user(format!("line {number} has no name before \"=\"")));
        }
        if name.contains(char::is_whitespace) {
            return Err(Failure::user(format!("line {number}: the name \"{name}\" has a space in it")));
        }
        if line.contains('\0') {
            return Err(Failure::user(format!("line {number} has a zero byte in it")));
        }
        variables.push(Variable { name: name.to_owned(), value: value.map(str::to_owned) });
        if variables.len() > ENVIRONMENT_MAX {
            return Err(Failure::user(format!("the file has more than {ENVIRONMENT_MAX} lines that count")));
        }
    }
    Ok(variables)
}

/// `base` (`NAME=VALUE` each) with the wishes applied in order: a variable is
/// replaced where it stands, or added at the end.
pub fn apply(base: &[String], wishes: &[Variable]) -> Result<Vec<String>> {
    let wishes = wishes.iter().map(|wish| (wish.name.as_str(), wish.value.as_deref()));
    let result = crate::sandbox::environment::apply(base, wishes);
    if result.len() > ENVIRONMENT_MAX {
        return Err(Failure::user(format!("more than {ENVIRONMENT_MAX} environment variables")));
    }
    Ok(result)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(name: &str) -> Option<String> {
        (name == "HOME").then(|| "/home/me".to_owned())
    }

    /// The file's variables as `NAME=VALUE`, divided by `|`.
    fn check(file: &[u8], expected: Result<&str, &str>) {
        let result = parse_file(file, caller).map_err(|failure| failure.to_string());
        let result = result.map(|variables| apply(&[], &variables).unwrap().join("|"));
        assert_eq!(result, expected.map(str::to_owned).map_err(str::to_owned));
    }

    #[test]
    fn reads_files_as_docker_does() {
        check(b"A=1\n# no\n  # no\n\n  B= two \nC='x y'\nD=a=b\nE=\n", Ok("A=1|B= two |C='x y'|D=a=b|E="));
        check(b"\xef\xbb\xbfA=1\r\nHOME\nUNSET\n", Ok("A=1|HOME=/home/me"));
        check(b"A=1\nA=2", Ok("A=2"));
        check(b"", Ok(""));
        check(b"\n=x", Err("line 2 has no name before \"=\""));
        check(b"A B=x", Err("line 1: the name \"A B\" has a space in it"));
        check(b"export A=x", Err("line 1: the name \"export A\" has a space in it"));
        check(b"A=\xff", Err("line 1 is not UTF-8"));
        check(b"A=\0", Err("line 1 has a zero byte in it"));
    }

    #[test]
    fn arguments_replace_import_and_remove() {
        let wishes: Vec<Variable> =
            ["PATH=/x", "HOME", "TERM", "N=", "N=2"].iter().map(|text| parse(text, caller).unwrap()).collect();
        let base = ["PATH=/bin".to_owned(), "TERM=dumb".to_owned(), "malformed".to_owned()];
        assert_eq!(apply(&base, &wishes).unwrap(), ["PATH=/x", "HOME=/home/me", "N=2"]);
    }

    #[test]
    fn a_variable_needs_a_name() {
        for bad in ["", "=x", "A=\0", "\0=x"] {
            assert!(parse(bad, caller).is_err(), "{bad}");
        }
    }
}
