//! `--filter KEY=VALUE` of images, as docker's `image ls` and `image prune`.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::{field, moment};
use crate::error::{Failure, Result};
use crate::image::pattern::Pattern;

/// The keys there are.
const KEYS: [&str; 7] = ["dangling", "label", "label!", "before", "since", "reference", "until"];

/// What images must be like. Several filters hold together; of several
/// references one is enough.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ImageFilter {
    /// Without a name, or with one.
    pub dangling: Option<bool>,
    /// Labels that must be there.
    pub labels: Vec<Label>,
    /// Labels that must not.
    pub absent_labels: Vec<Label>,
    /// Made before each of these images.
    pub before: Vec<String>,
    /// Made after each of these images.
    pub since: Vec<String>,
    /// Patterns of names.
    pub references: Vec<Pattern>,
    /// Made before this time.
    pub until: Option<Timestamp>,
}

/// `KEY` or `KEY=VALUE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    key: String,
    value: Option<String>,
}

impl Label {
    pub(super) fn parse(text: &str) -> Self {
        match text.split_once('=') {
            Some((key, value)) => Self { key: key.to_owned(), value: Some(value.to_owned()) },
            None => Self { key: text.to_owned(), value: None },
        }
    }

    pub(super) fn is_in(&self, labels: &BTreeMap<String, String>) -> bool {
        labels.get(&self.key).is_some_and(|value| self.value.as_ref().is_none_or(|wanted| wanted == value))
    }
}

impl ImageFilter {
    /// Reads the values of all `--filter` together.
    pub fn parse(texts: &[String]) -> Result<Self> {
        Self::parse_at(texts, Timestamp::now(), &TimeZone::system())
    }

    fn parse_at(texts: &[String], now: Timestamp, zone: &TimeZone) -> Result<Self> {
        let mut filter = Self::default();
        for text in texts {
            let (key, value) = key_and_value(text, &KEYS)?;
            match key {
                "dangling" => field::once(&mut filter.dangling, field::boolean(key, Some(value))?, text)?,
                "label" => filter.labels.push(Label::parse(value)),
                "label!" => filter.absent_labels.push(Label::parse(value)),
                "before" => filter.before.push(value.to_owned()),
                "since" | "after" => filter.since.push(value.to_owned()),
                "reference" => filter.references.push(Pattern::parse(value)?),
                "until" => field::once(&mut filter.until, moment::parse(value, now, zone)?, text)?,
                _ => return Err(field::unknown("filter", key, &KEYS).hint(known(&KEYS))),
            }
        }
        Ok(filter)
    }

    /// Whether an image with these labels may pass.
    pub fn accepts_labels(&self, labels: &BTreeMap<String, String>) -> bool {
        self.labels.iter().all(|label| label.is_in(labels))
            && !self.absent_labels.iter().any(|label| label.is_in(labels))
    }
}

/// Splits `KEY=VALUE` and `KEY!=VALUE`, whose key is `KEY!`; `keys` are told to
/// who writes something else.
pub(super) fn key_and_value<'a>(text: &'a str, keys: &[&str]) -> Result<(&'a str, &'a str)> {
    let (key, value) = text
        .split_once('=')
        .ok_or_else(|| Failure::usage(format!("filter \"{text}\" is not KEY=VALUE")).hint(known(keys)))?;
    Ok((key, field::required(key, Some(value))?))
}

pub(super) fn known(keys: &[&str]) -> String {
    format!("the filters are {}", keys.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(texts: &[&str]) -> Result<ImageFilter> {
        ImageFilter::parse(&texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn reads_all_keys() {
        let texts = [
            "dangling=true",
            "label=a",
            "label=b=c=d",
            "label!=e=f",
            "before=x",
            "since=y",
            "reference=al*",
            "until=2026-01-02T00:00:00Z",
        ];
        let filter = parse(&texts).unwrap();
        assert_eq!(
            (filter.dangling, filter.labels.len(), filter.before, filter.since),
            (Some(true), 2, vec!["x".to_owned()], vec!["y".to_owned()])
        );
        assert_eq!(filter.labels[1], Label { key: "b".to_owned(), value: Some("c=d".to_owned()) });
        assert_eq!(filter.absent_labels, [Label { key: "e".to_owned(), value: Some("f".to_owned()) }]);
        for text in ["dangling", "dangling=perhaps", "label=", "labl=a", "until=soon", "reference=[", "=x"] {
            assert!(parse(&[text]).is_err(), "{text}");
        }
        assert!(parse(&["dangling=true", "dangling=false"]).is_err());
        assert_eq!(parse(&["labl=a"]).unwrap_err().hints[0], "did you mean \"label\"?");
    }

    #[test]
    fn labels_hold_together() {
        let labels = BTreeMap::from([("a".to_owned(), "1".to_owned()), ("b".to_owned(), String::new())]);
        for (texts, expected) in [
            (&["label=a"][..], true),
            (&["label=a=1", "label=b="], true),
            (&["label=a=2"], false),
            (&["label=a", "label=c"], false),
            (&["label!=a=2"], true),
            (&["label!=a"], false),
            (&["label!=c", "label!=b"], false),
        ] {
            assert_eq!(parse(texts).unwrap().accepts_labels(&labels), expected, "{texts:?}");
        }
    }
}
