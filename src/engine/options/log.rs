//! Logs: `--log-driver` and `--log-opt`.

use std::collections::BTreeMap;

use super::size;
use crate::container::log::{Config, Driver, Extras, Rotation, Tag};
use crate::error::{Context, Failure, Result};
use crate::limits;

/// Docker's and podman's other drivers, with what to do instead.
const REFUSED_DRIVERS: &[&str] =
    &["local", "k8s-file", "syslog", "gelf", "fluentd", "awslogs", "splunk", "etwlogs", "gcplogs", "logentries"];

/// Options of Docker's json-file and of podman that kelp does not have.
const REFUSED_OPTIONS: &[(&str, &str)] = &[
    ("labels-regex", "name the labels with labels"),
    ("env-regex", "name the variables with env"),
    ("max-buffer-size", "the log is written as it comes"),
    ("path", "the log is beside the container's record; kelp logs CONTAINER > FILE copies it"),
];

/// Reads `--log-driver`, if it was given, and each `--log-opt NAME=VALUE`. Of an
/// option that is given twice the last one counts.
pub fn parse(driver: Option<&str>, options: &[String]) -> Result<Config> {
    let name = driver.unwrap_or("json-file");
    let mut chosen = BTreeMap::new();
    for option in options {
        let Some((key, value)) = option.split_once('=').filter(|(key, _)| !key.is_empty()) else {
            return Err(Failure::usage(format!("\"{}\" is not a log option: NAME=VALUE", option.escape_debug()))
                .doing("use --log-opt"));
        };
        chosen.insert(key.to_owned(), value.to_owned());
    }
    let mut wishes = Wishes::default();
    for (key, value) in &chosen {
        wishes.take(name, key, value).doing(|| format!("use --log-opt {}", key.escape_debug()))?;
    }
    let driver = match name {
        "json-file" => Driver::JsonFile { rotation: wishes.rotation()?, extras: wishes.extras },
        "journald" => Driver::Journald { extras: wishes.extras },
        "none" => Driver::None,
        other => return Err(refused_driver(other)),
    };
    Ok(Config { driver, options: chosen })
}

fn refused_driver(name: &str) -> Failure {
    let drivers = ["json-file", "journald", "none"];
    let failure = match name {
        "passthrough" => Failure::usage("passthrough cannot be asked for")
            .hint("kelp run --rm without -d, -t and --log-driver is that: the command's own streams, and no log"),
        _ if REFUSED_DRIVERS.contains(&name) => Failure::usage(format!("kelp does not log to {name}"))
            .hint("json-file is the default; journald and none are the others"),
        _ => Failure::usage(format!("there is no log driver \"{}\"", name.escape_debug()))
            .did_you_mean(name, drivers)
            .hint("there are json-file, journald and none"),
    };
    failure.doing("use --log-driver")
}

/// What the options ask for.
#[derive(Default)]
struct Wishes {
    /// `Some(None)` is without bound.
    bytes: Option<Option<u64>>,
    files: Option<u32>,
    extras: Extras,
}

impl Wishes {
    fn take(&mut self, driver: &str, key: &str, value: &str) -> Result<()> {
        match key {
            // It is said of the driver what is wrong with it.
            _ if !matches!(driver, "json-file" | "journald" | "none") => return Err(refused_driver(driver)),
            _ if driver == "none" => return Err(Failure::usage("with --log-driver none there is nothing to choose")),
            "max-size" | "max-file" | "compress" if driver == "journald" => {
                return Err(
                    Failure::usage(format!("the journal has no {key}")).hint("see journald.conf(5), SystemMaxUse=")
                );
            }
            "max-size" => self.bytes = Some(bytes(value)?),
            "max-file" => self.files = Some(files(value)?),
            "labels" => self.extras.labels = list(value)?,
            "env" => self.extras.variables = list(value)?,
            "tag" => self.extras.tag = Some(Tag::parse(value)?),
            "compress" if value == "false" => {}
            "compress" => return Err(Failure::usage("kelp does not compress logs")),
            "mode" if value == "blocking" => {}
            "mode" => {
                return Err(Failure::usage("kelp has no other mode than blocking")
                    .hint("a full disk holds nobody up: what cannot be written is counted and told"));
            }
            _ => return Err(refused_option(driver, key)),
        }
        Ok(())
    }

    fn rotation(&self) -> Result<Rotation> {
        let rotation = match (self.bytes, self.files) {
            (None, None) => Rotation::default(),
            (None, Some(files)) => Rotation { files, ..Rotation::default() },
            // As Docker: who says how large a file may be, and no more, has one.
            (Some(bytes), files) => Rotation { bytes, files: files.unwrap_or(1) },
        };
        if rotation.bytes.is_none() && rotation.files > 1 {
            return Err(Failure::usage("max-file has no meaning where max-size is -1").doing("use --log-opt"));
        }
        Ok(rotation)
    }
}

fn refused_option(driver: &str, key: &str) -> Failure {
    let known = ["max-size", "max-file", "labels", "env", "tag"];
    let failure = Failure::usage(format!("{driver} has no option \"{}\"", key.escape_debug()));
    match REFUSED_OPTIONS.iter().find(|(name, _)| *name == key) {
        Some((_, hint)) => failure.hint(*hint),
        None => failure.did_you_mean(key, known).hint(format!("there are {}", known.join(", "))),
    }
}

fn bytes(value: &str) -> Result<Option<u64>> {
    if value == "-1" {
        return Ok(None);
    }
    match size::parse_decimal(value)? {
        0 => Err(Failure::usage("a file of a log has more than 0 bytes").hint("-1 is without bound")),
        bytes => Ok(Some(bytes)),
    }
}

fn files(value: &str) -> Result<u32> {
    let max = limits::LOG_FILES_MAX;
    value
        .parse()
        .ok()
        .filter(|files| (1..=max).contains(files))
        .ok_or_else(|| Failure::usage(format!("\"{}\" is not a number of files from 1 to {max}", value.escape_debug())))
}

/// Names, separated by commas.
fn list(value: &str) -> Result<Vec<String>> {
    let names: Vec<String> = value.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect();
    if names.is_empty() {
        return Err(Failure::usage("it names nothing"));
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(driver: Option<&str>, options: &[&str]) -> Result<Config> {
        parse(driver, &options.iter().map(|option| option.to_string()).collect::<Vec<_>>())
    }

    fn rotation(options: &[&str]) -> Option<(Option<u64>, u32)> {
        match read(None, options).ok()?.driver {
            Driver::JsonFile { rotation, .. } => Some((rotation.bytes, rotation.files)),
            _ => None,
        }
    }

    #[test]
    fn reads_dockers_options() {
        assert_eq!(read(None, &[]).unwrap(), Config::default());
        assert_eq!(read(Some("none"), &[]).unwrap().driver, Driver::None);
        for (options, expected) in [
            (&["max-size=20m"][..], (Some(20_000_000), 1)),
            (&["max-size=10k", "max-file=3"], (Some(10_000), 3)),
            (&["max-file=3"], (Some(limits::LOG_FILE_BYTES), 3)),
            (&["max-size=-1"], (None, 1)),
            (&["max-size=1m", "max-size=2m", "compress=false", "mode=blocking"], (Some(2_000_000), 1)),
        ] {
            assert_eq!(rotation(options), Some(expected), "{options:?}");
        }
        let config = read(Some("journald"), &["labels=a,b", "env=X", "tag={{.Name}}"]).unwrap();
        let tag = Some(Tag::parse("{{.Name}}").unwrap());
        let extras = Extras { labels: vec!["a".into(), "b".into()], variables: vec!["X".into()], tag };
        assert_eq!(config.driver, Driver::Journald { extras });
        assert_eq!(config.options.get("env").map(String::as_str), Some("X"));
    }

    #[test]
    fn refuses_by_name() {
        for (driver, options, word) in [
            (Some("syslog"), &[][..], "kelp does not log to syslog"),
            (Some("syslog"), &["syslog-address=x"], "kelp does not log to syslog"),
            (Some("passthrough"), &[], "passthrough"),
            (Some("jornald"), &[], "no log driver \"jornald\""),
            (Some("none"), &["max-size=1m"], "max-size"),
            (Some("journald"), &["max-size=1m"], "the journal has no max-size"),
            (None, &["max-size"], "NAME=VALUE"),
            (None, &["max-size=0"], "max-size"),
            (None, &["max-size=-2"], "max-size"),
            (None, &["max-file=0"], "max-file"),
            (None, &["max-file=9999"], "from 1 to 256"),
            (None, &["max-file=2", "max-size=-1"], "max-file"),
            (None, &["compress=true"], "compress"),
            (None, &["mode=non-blocking"], "blocking"),
            (None, &["labels-regex=x"], "labels-regex"),
            (None, &["max-sise=1m"], "max-sise"),
            (None, &["tag={{.Nme}}"], "Nme"),
            (None, &["labels="], "labels"),
        ] {
            let failure = read(driver, options).unwrap_err();
            assert!(failure.sentence().contains(word), "{driver:?} {options:?}: {}", failure.sentence());
        }
    }

    proptest! {
        #[test]
        fn never_panics(driver in "(json-file|journald)?", option in "(max-size|max-file|tag|labels|env|x)?=?.{0,12}") {
            drop(read(Some(&driver), &[&option]));
        }
    }
}
