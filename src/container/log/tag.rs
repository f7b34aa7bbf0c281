//! `--log-opt tag=…`: what a log is called, in Docker's words.
//!
//! A few fields of a Go template, put in by hand: a supervisor is to stay small.

use serde::{Deserialize, Serialize};

use crate::error::{Failure, Result};

/// What extras of a log are made of: facts of its container.
#[derive(Debug, Clone, Copy, Default)]
pub struct Subject<'a> {
    /// 64 hexadecimal digits.
    pub id: &'a str,
    /// The container's name.
    pub name: &'a str,
    /// The image as the user named it.
    pub image: &'a str,
    /// The image's config digest, with or without its algorithm.
    pub image_id: &'a str,
    /// The container's labels.
    pub labels: &'a [(String, String)],
    /// The environment, `NAME=VALUE` each.
    pub variables: &'a [String],
}

/// The template, checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Tag(String);

const FIELDS: &[&str] = &["ID", "FullID", "Name", "ImageID", "ImageFullID", "ImageName", "DaemonName"];

/// A piece of a template.
enum Piece<'a> {
    Text(&'a str),
    Field(&'a str),
}

impl Tag {
    /// Reads text with fields such as `{{.Name}}`. What Go's templates can do
    /// beside that is refused.
    pub fn parse(text: &str) -> Result<Self> {
        for piece in pieces(text) {
            match piece {
                Piece::Field(field) if !FIELDS.contains(&field) => {
                    return Err(Failure::usage(format!("a tag has no \"{{{{{}}}}}\"", field.escape_debug()))
                        .hint(format!("it has {{{{.{}}}}}", FIELDS.join("}}, {{."))));
                }
                Piece::Text(text) if text.chars().any(char::is_control) => {
                    return Err(Failure::usage("a tag has no control characters"));
                }
                _ => {}
            }
        }
        Ok(Self(text.to_owned()))
    }

    /// Puts in the facts.
    pub fn render(&self, subject: &Subject<'_>) -> String {
        pieces(&self.0)
            .map(|piece| match piece {
                Piece::Text(text) => text,
                Piece::Field("ID") => short(subject.id),
                Piece::Field("FullID") => subject.id,
                Piece::Field("Name") => subject.name,
                Piece::Field("ImageID") => short(hex(subject.image_id)),
                Piece::Field("ImageFullID") => subject.image_id,
                Piece::Field("ImageName") => subject.image,
                Piece::Field(_) => "kelp",
            })
            .collect()
    }
}

impl TryFrom<String> for Tag {
    type Error = Failure;

    fn try_from(text: String) -> Result<Self> {
        Self::parse(&text)
    }
}

impl From<Tag> for String {
    fn from(tag: Tag) -> Self {
        tag.0
    }
}

/// Text and fields in turn. What is opened and not closed is a field that no
/// table has.
fn pieces(text: &str) -> impl Iterator<Item = Piece<'_>> {
    text.split("{{").enumerate().flat_map(|(number, part)| {
        let (field, text) = match (number, part.split_once("}}")) {
            (0, _) => (None, part),
            (_, Some((field, text))) => {
                let field = field.trim();
                (Some(field.strip_prefix('.').unwrap_or(field)), text)
            }
            (_, None) => (Some(part), ""),
        };
        field.map(Piece::Field).into_iter().chain([Piece::Text(text)])
    })
}

/// The first twelve digits, as people see an id.
pub(super) fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}

fn hex(digest: &str) -> &str {
    digest.split_once(':').map_or(digest, |(_, hex)| hex)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn subject() -> Subject<'static> {
        Subject {
            id: "0123456789abcdef",
            name: "web",
            image: "nginx:1",
            image_id: "sha256:fedcba9876543210",
            ..Subject::default()
        }
    }

    #[test]
    fn puts_in_dockers_fields() {
        for (text, expected) in [
            ("", ""),
            ("web", "web"),
            ("{{.ID}}", "0123456789ab"),
            ("{{ .Name }}/{{.ImageName}}", "web/nginx:1"),
            ("<{{.ImageID}}|{{.ImageFullID}}>", "<fedcba987654|sha256:fedcba9876543210>"),
            ("{{.FullID}}{{.DaemonName}}", "0123456789abcdefkelp"),
            ("a}}b", "a}}b"),
        ] {
            assert_eq!(Tag::parse(text).unwrap().render(&subject()), expected, "{text}");
        }
        for bad in ["{{.Nme}}", "{{.Name", "{{}}", "{{json .}}", "{{.ExtraAttributes nil}}", "a\nb"] {
            assert!(Tag::parse(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(text in "[{}.a ID]{0,20}") {
            drop(Tag::parse(&text).map(|tag| tag.render(&subject())));
        }
    }
}
