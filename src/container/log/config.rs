//! Where a container's log goes: a part of its record.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::tag::Tag;
use crate::limits;

/// Where a container's log goes, and how.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Config {
    /// What is done with it.
    pub driver: Driver,
    /// `--log-opt` as typed, for those who ask what was asked for (`inspect`).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<String, String>,
}

/// What is done with what the program says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "name")]
pub enum Driver {
    /// Files in Docker's format beside the record.
    JsonFile {
        /// When a file is full, and how many there are.
        #[serde(default)]
        rotation: Rotation,
        /// What each line says beside what the program wrote.
        #[serde(default)]
        extras: Extras,
    },
    /// The host's journal.
    Journald {
        /// Fields beside those that every line has.
        #[serde(default)]
        extras: Extras,
    },
    /// Nothing is kept.
    None,
    /// The program has the command's own streams: there is nothing to keep.
    /// Never asked for by name.
    Passthrough,
}

/// When a file of a log is full, and how many are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rotation {
    /// Bytes from which on a file is not written to any more, so that it has up
    /// to one line more; `None` for no bound.
    pub bytes: Option<u64>,
    /// Files, the one that is written to included; at least 1, at most
    /// [`limits::LOG_FILES_MAX`]. With 1 the old file is deleted when it is full.
    pub files: u32,
}

/// What each line of a log says beside what the program wrote.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extras {
    /// Labels of the container, by key.
    #[serde(default)]
    pub labels: Vec<String>,
    /// Variables of the container's environment, by name.
    #[serde(default)]
    pub variables: Vec<String>,
    /// What the log is called.
    #[serde(default)]
    pub tag: Option<Tag>,
}

impl Default for Driver {
    fn default() -> Self {
        Self::JsonFile { rotation: Rotation::default(), extras: Extras::default() }
    }
}

impl Driver {
    /// Docker's word for it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::JsonFile { .. } => "json-file",
            Self::Journald { .. } => "journald",
            Self::None => "none",
            Self::Passthrough => "passthrough",
        }
    }
}

impl Default for Rotation {
    fn default() -> Self {
        Self { bytes: Some(limits::LOG_FILE_BYTES), files: limits::LOG_FILES }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn survives_the_record() {
        let extras =
            Extras { labels: vec!["a".into()], variables: vec![], tag: Some(Tag::parse("{{.Name}}").unwrap()) };
        let options = BTreeMap::from([("tag".to_owned(), "{{.Name}}".to_owned())]);
        for driver in [
            Driver::default(),
            Driver::JsonFile { rotation: Rotation { bytes: None, files: 1 }, extras: extras.clone() },
            Driver::Journald { extras },
            Driver::None,
            Driver::Passthrough,
        ] {
            let config = Config { driver, options: options.clone() };
            let json = serde_json::to_string(&config).unwrap();
            assert_eq!(serde_json::from_str::<Config>(&json).unwrap(), config, "{json}");
        }
        assert_eq!(serde_json::from_str::<Config>(r#"{"driver":{"name":"json-file"}}"#).unwrap(), Config::default());
    }
}
