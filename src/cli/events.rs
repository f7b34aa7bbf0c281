//! `kelp events`: what happened to containers, images and volumes, and what
//! happens.

use clap::Args;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::{Map, Value, json};

use super::template::Template;
use super::{Session, output, units};
use crate::container::events::{Event, Kind};
use crate::engine::events::{self, Wanted};
use crate::engine::options::event_filter::EventFilter;
use crate::engine::options::moment;
use crate::error::{Context, Failure, Result};

/// Arguments of `kelp events`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Begin with what has happened since then: 10m ago, 2026-01-02T15:04, RFC 3339 or seconds after the epoch
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// End with what has happened until then
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Only events that are like this: container=NAME, event=WORD, image=NAME, label=KEY[=VALUE], type=TYPE,
    /// volume=NAME
    ///
    /// Can be given several times: of several values of a key one is enough,
    /// all labels and all keys hold together.
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// How to print: json (one object a line), or a Go template such as '{{.Action}} {{.Actor.ID}}'
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
}

/// How they are printed.
enum Form {
    /// docker's line.
    Line,
    /// docker's message.
    Json,
    /// Of one's own.
    Template(Template),
}

impl Form {
    fn parse(text: Option<&str>) -> Result<Self> {
        match text {
            None | Some("") => Ok(Self::Line),
            // Its fields have other names in JSON than in a template.
            Some("json" | "{{json .}}") => Ok(Self::Json),
            Some(text) if text.contains("{{") && !text.starts_with("table") => {
                Ok(Self::Template(Template::parse(text)?))
            }
            Some(_) => Err(Failure::usage("--format is json or a template such as \"{{.Action}}\"")),
        }
    }
}

/// Prints them as they come.
pub(super) fn run(arguments: Arguments, session: &Session) -> Result<i32> {
    let now = Timestamp::now();
    let moment_ns = |text: &String| {
        let time = moment::parse(text, now, &TimeZone::system())?;
        i64::try_from(time.as_nanosecond()).map_err(|_| Failure::usage(format!("\"{text}\" is too far away")))
    };
    let wanted = Wanted {
        since_ns: arguments.since.as_ref().map(moment_ns).transpose().doing(|| "use --since")?,
        until_ns: arguments.until.as_ref().map(moment_ns).transpose().doing(|| "use --until")?,
        filter: EventFilter::parse(&arguments.filter)?,
    };
    let form = Form::parse(arguments.format.as_deref())?;
    events::follow(&session.paths, &wanted, |event| {
        match &form {
            Form::Line => output::line(line(event)),
            Form::Json => output::line(document(event).to_string()),
            Form::Template(template) => output::text(&template.render(&fields(event))?),
        }
        Ok(())
    })?;
    Ok(0)
}

/// docker's line. An image's label cannot make two of it.
fn line(event: &Event) -> String {
    let Event { kind, action, id, attributes, .. } = event;
    let time = time(event).map_or_else(|| "-".to_owned(), units::rfc3339_with_nanoseconds);
    let attributes: Vec<String> = attributes.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let shown = if attributes.is_empty() { String::new() } else { format!(" ({})", attributes.join(", ")) };
    output::tamed(&format!("{time} {} {action} {id}{shown}", kind.word()))
}

/// docker's message (moby api/types/events, Message).
fn document(event: &Event) -> Value {
    let Event { time_ns, kind, action, id, attributes } = event;
    let mut document = Map::new();
    if *kind != Kind::Volume {
        document.insert("status".to_owned(), json!(action));
        document.insert("id".to_owned(), json!(id));
    }
    if *kind == Kind::Container {
        document.insert("from".to_owned(), json!(attributes.get("image")));
    }
    for (name, value) in [
        ("Type", json!(kind.word())),
        ("Action", json!(action)),
        ("Actor", json!({"ID": id, "Attributes": attributes})),
        ("scope", json!("local")),
        ("time", json!(time_ns.div_euclid(1_000_000_000))),
        ("timeNano", json!(time_ns)),
    ] {
        document.insert(name.to_owned(), value);
    }
    Value::Object(document)
}

/// The same under the names that docker's templates have.
fn fields(event: &Event) -> Value {
    let Event { time_ns, kind, action, id, attributes } = event;
    json!({
        "Status": action,
        "ID": id,
        "From": attributes.get("image").filter(|_| *kind == Kind::Container).map_or("", String::as_str),
        "Type": kind.word(),
        "Action": action,
        "Actor": {"ID": id, "Attributes": attributes},
        "Scope": "local",
        "Time": time_ns.div_euclid(1_000_000_000),
        "TimeNano": time_ns,
    })
}

fn time(event: &Event) -> Option<Timestamp> {
    Timestamp::from_nanosecond(event.time_ns.into()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::events::Action;
    use crate::container::record::Record;

    fn event() -> Event {
        let mut record = Record::new("ab".repeat(32), "web".to_owned());
        record.image = "alpine".to_owned();
        record.labels = vec![("a".to_owned(), "one\ntwo".to_owned())];
        Event { time_ns: 1_767_366_245_000_000_042, ..Event::of_container(&record, Action::Die(3)) }
    }

    #[test]
    fn a_line_is_dockers() {
        let expected = format!("container die {} (a=one\\ntwo, exitCode=3, image=alpine, name=web)", "ab".repeat(32));
        let shown = line(&event());
        let (time, rest) = shown.split_once(' ').unwrap();
        assert_eq!(rest, expected);
        assert_eq!(time.parse::<Timestamp>().unwrap().as_nanosecond(), 1_767_366_245_000_000_042);
        assert!(time.contains(":05.000000042"), "{time}");
    }

    #[test]
    fn a_document_is_dockers() {
        let value = document(&event());
        assert_eq!(
            (&value["Type"], &value["Action"], &value["status"], &value["from"]),
            (&json!("container"), &json!("die"), &json!("die"), &json!("alpine"))
        );
        assert_eq!(value["Actor"]["Attributes"]["exitCode"], "3");
        assert_eq!(
            (&value["time"], &value["timeNano"]),
            (&json!(1_767_366_245), &json!(1_767_366_245_000_000_042_i64))
        );
        assert!(document(&Event::of_volume("create", "db")).get("id").is_none());
    }
}
