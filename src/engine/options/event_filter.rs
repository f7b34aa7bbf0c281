//! `--filter KEY=VALUE` of `events`, as docker's.

use super::field;
use super::filter::{Label, known, pair};
use crate::container::events::{Event, Kind};
use crate::error::Result;
use crate::image::pattern::Pattern;
use crate::image::reference::Reference;

/// The keys there are.
const KEYS: [&str; 6] = ["container", "event", "image", "label", "type", "volume"];

/// What a removal is called elsewhere; docker has a word for each kind.
const REMOVALS: [&str; 3] = ["destroy", "delete", "remove"];

/// What events must be like: of several values of one key one is enough,
/// labels hold together, and so do the keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventFilter {
    containers: Vec<String>,
    actions: Vec<String>,
    images: Vec<String>,
    labels: Vec<Label>,
    kinds: Vec<Kind>,
    volumes: Vec<String>,
}

impl EventFilter {
    /// Reads the values of all `--filter` together.
    pub fn parse(texts: &[String]) -> Result<Self> {
        let mut filter = Self::default();
        for text in texts {
            let (key, value) = pair(text, &KEYS)?;
            match key.as_str() {
                "container" => filter.containers.push(value.to_owned()),
                "event" => filter.actions.push(value.to_owned()),
                "image" => filter.images.push(value.to_owned()),
                "label" => filter.labels.push(Label::parse(value)),
                "type" => filter.kinds.push(kind(value)?),
                "volume" => filter.volumes.push(value.to_owned()),
                _ => return Err(field::unknown("filter", &key, &KEYS).hint(known(&KEYS))),
            }
        }
        Ok(filter)
    }

    /// Whether `event` is wanted.
    pub fn accepts(&self, event: &Event) -> bool {
        let any = |wanted: &[String], is_it: &dyn Fn(&str) -> bool| {
            wanted.is_empty() || wanted.iter().any(|wanted| is_it(wanted))
        };
        (self.kinds.is_empty() || self.kinds.contains(&event.kind))
            && any(&self.actions, &|action| is_action(event, action))
            && any(&self.containers, &|name| is_container(event, name))
            && any(&self.images, &|name| is_of_image(event, name))
            && any(&self.volumes, &|name| event.kind == Kind::Volume && event.id == name)
            && self.labels.iter().all(|label| label.is_in(&event.attributes))
    }
}

fn kind(text: &str) -> Result<Kind> {
    let all = [Kind::Container, Kind::Image, Kind::Volume];
    let found = all.into_iter().find(|kind| kind.word() == text);
    found.ok_or_else(|| field::unknown("type", text, &all.map(Kind::word)))
}

/// `exec_create` stands for `exec_create: sh -c …`, as with docker.
fn is_action(event: &Event, wanted: &str) -> bool {
    let first = event.action.split(':').next().unwrap_or_default();
    event.action == wanted || first == wanted || REMOVALS.contains(&first) && REMOVALS.contains(&wanted)
}

fn is_container(event: &Event, wanted: &str) -> bool {
    let name = event.attributes.get("name").map(String::as_str);
    let wanted = wanted.trim_start_matches('/');
    event.kind == Kind::Container && !wanted.is_empty() && (name == Some(wanted) || event.id.starts_with(wanted))
}

/// By the name that a container was made from or that something was done to,
/// with or without its tag, or by an image's id.
fn is_of_image(event: &Event, wanted: &str) -> bool {
    let (name, id) = match event.kind {
        Kind::Volume => return false,
        Kind::Container => (event.attributes.get("image"), None),
        Kind::Image => (event.attributes.get("name"), Some(event.id.as_str())),
    };
    let is_id = |id: &str| id == wanted || id.strip_prefix("sha256:").is_some_and(|hex| hex.starts_with(wanted));
    if id.is_some_and(is_id) || name.is_some_and(|name| name == wanted) {
        return true;
    }
    let Ok(pattern) = Pattern::parse(wanted) else { return false };
    let candidates = |text: &str| Reference::local_candidates(text).unwrap_or_default();
    let names = name.into_iter().map(String::as_str).chain(id);
    names.flat_map(candidates).any(|reference| pattern.accepts(&reference, None))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::events::Action;
    use crate::container::record::Record;

    fn accepts(texts: &[&str], event: &Event) -> bool {
        EventFilter::parse(&texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>()).unwrap().accepts(event)
    }

    #[test]
    fn events_are_chosen_as_docker_chooses_them() {
        let mut record = Record::new("ab".repeat(32), "web".to_owned());
        record.image = "alpine:3".to_owned();
        record.labels = vec![("role".to_owned(), "x".to_owned())];
        let health = Event::of_container(&record, Action::Health("healthy"));
        for (texts, expected) in [
            (&[][..], true),
            (&["type=container"], true),
            (&["type=image"], false),
            (&["type=image", "type=container"], true),
            (&["event=health_status"], true),
            (&["event=health_status: healthy"], true),
            (&["event=start"], false),
            (&["event=start", "event=health_status"], true),
            (&["container=web"], true),
            (&["container=/web"], true),
            (&["container=abab"], true),
            (&["container=we"], false),
            (&["image=alpine"], true),
            (&["image=alpine:3"], true),
            (&["image=docker.io/library/alpine"], true),
            (&["image=alpine:4"], false),
            (&["label=role"], true),
            (&["label=role=x", "container=web"], true),
            (&["label=role=x", "container=db"], false),
            (&["volume=web"], false),
        ] {
            assert_eq!(accepts(texts, &health), expected, "{texts:?}");
        }
        let id = format!("sha256:{}", "cd".repeat(32));
        let deleted = Event::of_image("delete", &id, &id);
        assert!(accepts(&["event=remove"], &deleted) && accepts(&["image=cdcd"], &deleted));
        assert!(accepts(&["image=alpine"], &Event::of_image("pull", "alpine:3", "alpine")));
        assert!(accepts(&["volume=db"], &Event::of_volume("create", "db")));
    }

    #[test]
    fn what_is_no_filter_is_refused() {
        for text in ["event", "event=", "evnt=start", "type=daemon", "network=x", "=x"] {
            assert!(EventFilter::parse(&[text.to_owned()]).is_err(), "{text}");
        }
    }
}
