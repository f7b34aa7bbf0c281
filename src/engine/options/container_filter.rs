//! `--filter KEY=VALUE` of containers, as docker's and podman's `ps`.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use regex_lite::Regex;

use super::filter::{Label, are_like, known, pair};
use super::{field, moment, restart};
use crate::container::record::{Record, Status};
use crate::error::{Failure, Result};
use crate::sandbox::spec::Source;

/// The keys there are.
const KEYS: [&str; 13] = [
    "ancestor",
    "before",
    "exited",
    "health",
    "id",
    "label",
    "label!",
    "name",
    "restart-policy",
    "since",
    "status",
    "until",
    "volume",
];

/// What docker's containers have and ours have not yet.
const REFUSED: [&str; 3] = ["network", "publish", "expose"];

/// docker's states. Nothing here is ever `removing` or `dead`.
const STATES: [&str; 7] = ["created", "restarting", "running", "removing", "paused", "exited", "dead"];

/// docker's words for health.
const HEALTHS: [&str; 4] = ["starting", "healthy", "unhealthy", "none"];

/// What containers must be like: of several values of one key one is enough,
/// labels and times hold together, and so do the keys.
#[derive(Debug, Clone, Default)]
pub struct ContainerFilter {
    ids: Vec<Regex>,
    names: Vec<Regex>,
    labels: Vec<Label>,
    absent_labels: Vec<Label>,
    states: Vec<String>,
    codes: Vec<i32>,
    healths: Vec<String>,
    policies: Vec<&'static str>,
    volumes: Vec<String>,
    until: Option<Timestamp>,
    /// Made of one of these images, or of one that is built on it.
    pub ancestors: Vec<String>,
    /// Made before each of these containers.
    pub before: Vec<String>,
    /// Made after each of these containers.
    pub since: Vec<String>,
}

impl ContainerFilter {
    /// Reads the values of all `--filter` together.
    pub fn parse(texts: &[String]) -> Result<Self> {
        Self::parse_at(texts, Timestamp::now(), &TimeZone::system())
    }

    fn parse_at(texts: &[String], now: Timestamp, zone: &TimeZone) -> Result<Self> {
        let mut filter = Self::default();
        for text in texts {
            let (key, value) = pair(text, &KEYS)?;
            match key.as_str() {
                "ancestor" => filter.ancestors.push(value.to_owned()),
                "before" => filter.before.push(value.to_owned()),
                "exited" => filter.codes.push(code(value)?),
                "health" => filter.healths.push(word("state of health", value, &HEALTHS)?),
                "id" => filter.ids.push(regex(value)?),
                "label" => filter.labels.push(Label::parse(value)),
                "label!" => filter.absent_labels.push(Label::parse(value)),
                "name" => filter.names.push(regex(value)?),
                "restart-policy" => filter.policies.push(restart::parse(value)?.name()),
                "since" => filter.since.push(value.to_owned()),
                "status" => filter.states.push(word("state", value, &STATES)?),
                "until" => field::once(&mut filter.until, moment::parse(value, now, zone)?, text)?,
                "volume" => filter.volumes.push(value.to_owned()),
                key if REFUSED.contains(&key) => {
                    return Err(Failure::usage(format!("filter \"{key}\" is not supported yet")).hint(known(&KEYS)));
                }
                _ => return Err(field::unknown("filter", &key, &KEYS).hint(known(&KEYS))),
            }
        }
        Ok(filter)
    }

    /// Whether it asks for a state: then those that do not run are meant, too.
    pub fn asks_for_state(&self) -> bool {
        !self.states.is_empty() || !self.codes.is_empty()
    }

    /// Whether a container is wanted, as far as its record tells.
    pub fn accepts(&self, record: &Record) -> bool {
        let matches_name = |pattern: &Regex| {
            // docker's names begin with a slash, and patterns may say so.
            pattern.is_match(&record.name) || pattern.is_match(&format!("/{}", record.name))
        };
        any(&self.ids, |pattern| pattern.is_match(&record.id))
            && any(&self.names, matches_name)
            && any(&self.states, |state| state == record.status.word())
            && any(&self.codes, |code| matches!(&record.status, Status::Exited { code: own, .. } if own == code))
            && any(&self.healths, |word| word == record.status.health().map_or("none", |health| health.state.word()))
            && any(&self.policies, |policy| *policy == record.restart.name())
            && any(&self.volumes, |volume| has_volume(record, volume))
            && self.until.is_none_or(|until| i128::from(record.created_ns) < until.as_nanosecond())
            && self.accepts_labels(record)
    }

    fn accepts_labels(&self, record: &Record) -> bool {
        if self.labels.is_empty() && self.absent_labels.is_empty() {
            return true;
        }
        are_like(&record.all_labels(), &self.labels, &self.absent_labels)
    }
}

/// One is enough, and none asks for nothing.
fn any<T>(wanted: &[T], is_it: impl FnMut(&T) -> bool) -> bool {
    wanted.is_empty() || wanted.iter().any(is_it)
}

/// By its name, where it is on the host, or where it is in the container.
fn has_volume(record: &Record, wanted: &str) -> bool {
    record.mounts.iter().any(|mounted| {
        let is_source =
            matches!(&mounted.mount.source, Source::Bind { path, .. } if path.as_path().as_os_str() == wanted);
        mounted.volume.as_deref() == Some(wanted)
            || mounted.mount.target.as_path().as_os_str() == wanted
            || mounted.volume.is_none() && is_source
    })
}

fn regex(text: &str) -> Result<Regex> {
    Regex::new(text).map_err(|error| Failure::usage(format!("\"{text}\" is not a regular expression: {error}")))
}

fn code(text: &str) -> Result<i32> {
    text.parse().map_err(|_| Failure::usage(format!("\"{text}\" is not an exit status")))
}

fn word(what: &str, text: &str, known: &[&str]) -> Result<String> {
    match known.contains(&text) {
        true => Ok(text.to_owned()),
        false => Err(field::unknown(what, text, known).hint(format!("it may be {}", known.join(", ")))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::record::Mounted;
    use crate::container::restart::RestartPolicy;
    use crate::sandbox::spec::{ContainerPath, HostPath, Mount};

    fn filter(texts: &[&str]) -> Result<ContainerFilter> {
        let now = "2026-01-03T12:00:00Z".parse().unwrap();
        let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
        ContainerFilter::parse_at(&texts, now, &TimeZone::UTC)
    }

    fn mounted(volume: Option<&str>, path: &str, target: &str) -> Mounted {
        let source = Source::Bind { path: HostPath(path.into()), recursive: false, propagation: None };
        let mount = Mount { target: ContainerPath::new(target), source, attributes: Default::default() };
        Mounted { volume: volume.map(str::to_owned), mount }
    }

    fn record() -> Record {
        let mut record = Record::new(format!("abc{}", "0".repeat(61)), "web-1".to_owned());
        let made: Timestamp = "2026-01-03T10:00:00Z".parse().unwrap();
        record.created_ns = i64::try_from(made.as_nanosecond()).unwrap();
        record.labels = vec![("role".to_owned(), "x".to_owned())];
        // The image's and the user's.
        record.config.labels =
            [("of-image", "y"), ("role", "x")].map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        record.restart = RestartPolicy::OnFailure { max: Some(2) };
        record.status = Status::Exited { code: 3, started_ns: 0, finished_ns: 0, error: None };
        record.mounts = vec![mounted(Some("db"), "/kelp/volumes/db/data", "/var/db"), mounted(None, "/srv", "/data")];
        record
    }

    #[test]
    fn containers_are_chosen_as_docker_chooses_them() {
        let record = record();
        for (texts, expected) in [
            (&[][..], true),
            (&["id=abc"], true),
            (&["id=^bc"], false),
            (&["name=web"], true),
            (&["name=^web-[0-9]$"], true),
            (&["name=^/web-1$"], true),
            (&["name=web$"], false),
            (&["name=nobody", "name=web"], true),
            (&["status=exited"], true),
            (&["status=running"], false),
            (&["status=running", "status=exited"], true),
            (&["exited=3"], true),
            (&["exited=0", "status=exited"], false),
            (&["label=role"], true),
            (&["label=role=x", "label=of-image=y"], true),
            (&["label=role=y"], false),
            (&["label!=role"], false),
            (&["label!=other"], true),
            (&["health=none"], true),
            (&["health=healthy"], false),
            (&["restart-policy=on-failure"], true),
            (&["restart-policy=always"], false),
            (&["volume=db"], true),
            (&["volume=/var/db"], true),
            (&["volume=/srv"], true),
            (&["volume=/kelp/volumes/db/data"], false),
            (&["until=1h"], true),
            (&["until=3h"], false),
        ] {
            assert_eq!(filter(texts).unwrap().accepts(&record), expected, "{texts:?}");
        }
        assert!(filter(&["exited=0"]).unwrap().asks_for_state() && !filter(&["name=x"]).unwrap().asks_for_state());
    }

    #[test]
    fn what_is_no_filter_is_refused() {
        for (text, words) in [
            ("status=exitd", "did you mean \"exited\"?"),
            ("nmae=x", "did you mean \"name\"?"),
            ("network=host", "the filters are"),
            ("health=well", "it may be"),
        ] {
            let failure = filter(&[text]).unwrap_err();
            assert!(failure.hints.iter().any(|hint| hint.contains(words)), "{text}: {:?}", failure.hints);
        }
        for text in ["name", "name=", "name=(", "exited=x", "until=soon", "restart-policy=sometimes"] {
            assert!(filter(&[text]).is_err(), "{text}");
        }
    }
}
