//! `--volumes-from CONTAINER[:OPTIONS]` and `--image-volume`.

use serde::{Deserialize, Serialize};

use super::field::{once, unknown};
use crate::error::{Failure, Result};

/// A container whose volumes and host directories another one gets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lender {
    /// Its name or id.
    pub container: String,
    /// None of them can be written to; else those that the lender can write to can.
    pub read_only: bool,
}

/// What becomes of the paths that an image wants volumes on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ImageVolumes {
    /// A volume of the container's own.
    #[default]
    Anonymous,
    /// Memory.
    Tmpfs,
    /// Nothing: they are part of the root file system.
    Ignore,
}

/// Reads one `--volumes-from`.
pub fn parse(text: &str) -> Result<Lender> {
    read(text).map_err(|failure| failure.doing(format!("use --volumes-from \"{text}\"")))
}

fn read(text: &str) -> Result<Lender> {
    let (container, words) = text.split_once(':').unwrap_or((text, ""));
    if container.is_empty() {
        return Err(Failure::usage("it names no container"));
    }
    let mut read_only = None;
    for word in words.split(',').filter(|_| !words.is_empty()) {
        match word {
            "ro" | "rw" => once(&mut read_only, word == "ro", word)?,
            // As with -v: labels are not changed.
            "z" | "Z" => {}
            _ => return Err(unknown("option", word, &["ro", "rw", "z", "Z"])),
        }
    }
    Ok(Lender { container: container.to_owned(), read_only: read_only.unwrap_or(false) })
}

/// Reads `--image-volume`, podman's words; `bind` is its older one for `anonymous`.
pub fn parse_image_volumes(text: &str) -> Result<ImageVolumes> {
    match text {
        "anonymous" | "bind" => Ok(ImageVolumes::Anonymous),
        "tmpfs" => Ok(ImageVolumes::Tmpfs),
        "ignore" => Ok(ImageVolumes::Ignore),
        _ => Err(unknown("value of --image-volume", text, &["anonymous", "tmpfs", "ignore"])
            .hint("it may be anonymous, tmpfs or ignore")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<(&str, bool), &str>) {
        let result = parse(text).map(|lender| (lender.container, lender.read_only));
        let expected = expected.map(|(container, read_only)| (container.to_owned(), read_only));
        let expected = expected.map_err(|cause| format!("use --volumes-from \"{text}\": {cause}"));
        assert_eq!(result.map_err(|failure| failure.to_string()), expected);
    }

    #[test]
    fn reads_dockers_grammar() {
        check("db", Ok(("db", false)));
        check("db:rw", Ok(("db", false)));
        check("db:ro,z", Ok(("db", true)));
        check("db:", Ok(("db", false)));
        check(":ro", Err("it names no container"));
        check("", Err("it names no container"));
        check("db:rp", Err("unknown option \"rp\""));
        check("db:ro,rw", Err("\"rw\" repeats or contradicts what was said before it"));
        assert_eq!(parse_image_volumes("bind").unwrap(), ImageVolumes::Anonymous);
        assert!(parse_image_volumes("none").is_err());
    }
}
