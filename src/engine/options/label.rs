//! Labels: `--label KEY[=VALUE]` and `--label-file`.

use super::environment;
use crate::error::{Failure, Result};

/// Reads one label; without `=` the value is empty.
pub fn parse(text: &str) -> Result<(String, String)> {
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    if key.is_empty() || key.contains('\0') || value.contains('\0') {
        return Err(Failure::usage(format!("\"{text}\" is not a label: KEY=VALUE")));
    }
    Ok((key.to_owned(), value.to_owned()))
}

/// Reads the lines of a label file, which has the form of an env-file.
pub fn parse_file(bytes: &[u8]) -> Result<Vec<(String, String)>> {
    let lines = environment::parse_lines(bytes)?;
    Ok(lines.into_iter().map(|line| (line.name, line.value.unwrap_or_default())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Option<(&str, &str)>) {
        let label = parse(text).ok();
        assert_eq!(label.as_ref().map(|(key, value)| (key.as_str(), value.as_str())), expected, "{text}");
    }

    #[test]
    fn reads_labels() {
        check("a=b", Some(("a", "b")));
        check("org.x/y=b=c", Some(("org.x/y", "b=c")));
        check("a", Some(("a", "")));
        check("a b= c ", Some(("a b", " c ")));
        check("", None);
        check("=b", None);
    }

    #[test]
    fn reads_label_files() {
        let labels = parse_file(b"# one\na=b\n\n c\n").unwrap();
        assert_eq!(labels, [("a".to_owned(), "b".to_owned()), ("c".to_owned(), String::new())]);
    }
}
