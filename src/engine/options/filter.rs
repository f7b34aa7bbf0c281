//! `--filter KEY=VALUE` of images, as docker's `image ls` and `image prune`, and
//! of volumes, as its `volume ls` and `volume prune`.

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
            let (key, value) = pair(text, &KEYS)?;
            match key.as_str() {
                "dangling" => field::once(&mut filter.dangling, field::boolean(&key, Some(value))?, text)?,
                "label" => filter.labels.push(Label::parse(value)),
                "label!" => filter.absent_labels.push(Label::parse(value)),
                "before" => filter.before.push(value.to_owned()),
                "since" | "after" => filter.since.push(value.to_owned()),
                "reference" => filter.references.push(Pattern::parse(value)?),
                "until" => field::once(&mut filter.until, moment::parse(value, now, zone)?, text)?,
                _ => return Err(field::unknown("filter", &key, &KEYS).hint(known(&KEYS))),
            }
        }
        Ok(filter)
    }

    /// Whether an image with these labels may pass.
    pub fn accepts_labels(&self, labels: &BTreeMap<String, String>) -> bool {
        are_like(labels, &self.labels, &self.absent_labels)
    }
}

pub(super) fn are_like(labels: &BTreeMap<String, String>, wanted: &[Label], absent: &[Label]) -> bool {
    wanted.iter().all(|label| label.is_in(labels)) && !absent.iter().any(|label| label.is_in(labels))
}

/// Reads `KEY=VALUE` or `KEY!=VALUE`, whose key is then `KEY!`.
pub(super) fn pair<'a>(text: &'a str, keys: &[&str]) -> Result<(String, &'a str)> {
    let (key, value) = match text.split_once("!=") {
        Some((key, value)) if !key.contains('=') => (format!("{key}!"), value),
        _ => text
            .split_once('=')
            .map(|(key, value)| (key.to_owned(), value))
            .ok_or_else(|| Failure::usage(format!("filter \"{text}\" is not KEY=VALUE")).hint(known(keys)))?,
    };
    let value = field::required(&key, Some(value))?;
    Ok((key, value))
}

pub(super) fn known(keys: &[&str]) -> String {
    format!("the filters are {}", keys.join(", "))
}

/// The keys that choose among volumes; the labels are those that a prune knows.
const VOLUME_KEYS: [&str; 5] = ["label", "label!", "dangling", "driver", "name"];
const VOLUME_PRUNE_KEYS: usize = 2;

/// What volumes must be like. Several filters hold together; of several names
/// one is enough, and of several drivers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct VolumeFilter {
    /// Used by no container, or by one.
    pub dangling: Option<bool>,
    /// Parts of names.
    pub names: Vec<String>,
    drivers: Vec<String>,
    labels: Vec<Label>,
    absent_labels: Vec<Label>,
}

impl VolumeFilter {
    /// Reads the values of all `--filter` of a list.
    pub fn parse(texts: &[String]) -> Result<Self> {
        Self::parse_keys(texts, &VOLUME_KEYS)
    }

    /// Reads those of a prune.
    pub fn parse_for_prune(texts: &[String]) -> Result<Self> {
        Self::parse_keys(texts, VOLUME_KEYS.split_at(VOLUME_PRUNE_KEYS).0)
    }

    fn parse_keys(texts: &[String], keys: &[&str]) -> Result<Self> {
        let mut filter = Self::default();
        for text in texts {
            let (key, value) = pair(text, keys)?;
            match key.as_str() {
                key if !keys.contains(&key) => {
                    return Err(field::unknown("filter", key, keys).hint(known(keys)));
                }
                "label" => filter.labels.push(Label::parse(value)),
                "label!" => filter.absent_labels.push(Label::parse(value)),
                "name" => filter.names.push(value.to_owned()),
                "driver" => filter.drivers.push(value.to_owned()),
                _ => field::once(&mut filter.dangling, field::boolean(&key, Some(value))?, text)?,
            }
        }
        Ok(filter)
    }

    /// Whether a volume of this name and with these labels may pass. All are of
    /// the driver `local`.
    pub fn accepts(&self, name: &str, labels: &BTreeMap<String, String>) -> bool {
        let is_named = self.names.is_empty() || self.names.iter().any(|part| name.contains(part));
        let is_local = self.drivers.is_empty() || self.drivers.iter().any(|driver| driver == "local");
        is_named && is_local && are_like(labels, &self.labels, &self.absent_labels)
    }
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

    #[test]
    fn volumes_are_chosen_as_dockers() {
        let labels = BTreeMap::from([("a".to_owned(), "1".to_owned())]);
        let parse =
            |texts: &[&str]| VolumeFilter::parse(&texts.iter().map(|text| text.to_string()).collect::<Vec<_>>());
        for (texts, expected) in [
            (&["name=at", "name=x"][..], true),
            (&["name=x"], false),
            (&["driver=local"], true),
            (&["driver=nfs"], false),
            (&["label=a", "name=data"], true),
            (&["label!=a"], false),
            (&["dangling=true"], true),
        ] {
            assert_eq!(parse(texts).unwrap().accepts("data", &labels), expected, "{texts:?}");
        }
        assert_eq!(parse(&["dangling=0"]).unwrap().dangling, Some(false));
        assert!(parse(&["until=1h"]).is_err() && parse(&["name"]).is_err());
        assert!(VolumeFilter::parse_for_prune(&["name=a".to_owned()]).is_err());
        assert!(VolumeFilter::parse_for_prune(&["label!=a".to_owned()]).is_ok());
    }
}
