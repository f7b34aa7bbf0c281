//! `kelp inspect`: all there is to say about images and containers, in the
//! field names of Docker's API.

use clap::{Args, ValueEnum};
use serde_json::{Map, Value, json};

use super::format::DocumentFormat;
use super::{Session, output};
use crate::container::record::{Mounted, Record, Status};
use crate::engine::inventory::{self, Sizes};
use crate::engine::lifecycle;
use crate::error::{Failure, Kind, Result};
use crate::image::lookup::StoredImage;
use crate::image::reference::Reference;
use crate::paths::Paths;
use crate::sandbox::spec::{Propagation, Source};

/// A time that is not known, as Go prints it.
const NEVER: &str = "0001-01-01T00:00:00Z";

/// Arguments of `kelp inspect`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Names or ids of containers and images
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
    /// How to print: json, or a Go template such as '{{.Id}}'
    #[arg(short, long, value_name = "FORMAT", default_value = "json", hide_default_value = true)]
    format: DocumentFormat,
    /// Look for one kind only
    #[arg(long = "type", value_enum)]
    kind: Option<Wanted>,
}

/// What is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Wanted {
    /// Images.
    Image,
    /// Containers.
    Container,
}

/// Prints what was found as one array; exit status 1 if a name was not.
pub(super) fn run(arguments: Arguments, session: &Session) -> Result<i32> {
    print(&session.paths, &arguments.names, arguments.kind, &arguments.format)
}

/// The same, for one kind or all.
pub(super) fn print(paths: &Paths, names: &[String], kind: Option<Wanted>, format: &DocumentFormat) -> Result<i32> {
    let (mut found, mut failures) = (Vec::new(), Vec::new());
    for name in names {
        match describe(paths, name, kind) {
            Ok(value) => found.push(value),
            Err(failure) => failures.push(failure),
        }
    }
    // An empty array as well: what reads it expects JSON.
    format.print(&found)?;
    failures.iter().for_each(output::failure);
    Ok(i32::from(!failures.is_empty()))
}

/// A container goes before an image of the same name, as with Docker.
fn describe(paths: &Paths, name: &str, kind: Option<Wanted>) -> Result<Value> {
    let as_container = || lifecycle::find(paths, name).map(|container| of_container(&container.record));
    let as_image = || inventory::find(paths, name).map(|(image, sizes)| of_image(&image, &sizes));
    match kind {
        Some(Wanted::Container) => as_container(),
        Some(Wanted::Image) => as_image(),
        None => {
            let container = match as_container() {
                Err(failure) if failure.kind == Kind::NotFound => failure,
                result => return result,
            };
            as_image().map_err(|image| {
                // What is no legal name of an image may have been meant as a container's.
                if !matches!(image.kind, Kind::NotFound | Kind::Usage) {
                    return image;
                }
                let failure = Failure::not_found(format!("there is no container or image \"{name}\""));
                let guess = |failure: Failure| failure.hints.into_iter().find(|hint| hint.starts_with("did you mean"));
                let image = Some(image).filter(|image| image.kind == Kind::NotFound);
                match guess(container).or_else(|| image.and_then(guess)) {
                    Some(hint) => failure.hint(hint),
                    None => failure.hint("kelp ps --all and kelp images list what there is"),
                }
            })
        }
    }
}

fn of_image(image: &StoredImage, sizes: &Sizes) -> Value {
    let config = &image.config;
    let names = |references: &[Reference]| references.iter().map(Reference::familiar).collect::<Vec<_>>();
    let tagged: Vec<Reference> = image.references.iter().filter(|name| name.tag().is_some()).cloned().collect();
    let mut value = json!({
        "Id": image.id.to_string(),
        "RepoTags": names(&tagged),
        "RepoDigests": names(&image.sources),
        "Comment": config.history.last().and_then(|step| step.comment.clone()).unwrap_or_default(),
        "Created": config.created,
        "Author": config.author.clone().unwrap_or_default(),
        "Architecture": config.architecture,
        "Os": config.os,
        "Size": sizes.size,
        "Config": run_config(image),
        "RootFS": {"Type": config.rootfs.kind, "Layers": config.rootfs.diff_ids},
        "Descriptor": image.descriptor,
        // Podman's places for what is above and in Config.
        "Digest": image.descriptor.digest,
        "Labels": config.config.labels,
    });
    if let (Some(variant), Some(object)) = (&config.variant, value.as_object_mut()) {
        object.insert("Variant".to_owned(), json!(variant));
    }
    value
}

/// The author's defaults; what is usually asked for is there even when empty.
fn run_config(image: &StoredImage) -> Value {
    let mut fields = Map::new();
    for (name, value) in [
        ("User", json!("")),
        ("Env", Value::Null),
        ("Cmd", Value::Null),
        ("Entrypoint", Value::Null),
        ("WorkingDir", json!("")),
        ("Labels", Value::Null),
    ] {
        fields.insert(name.to_owned(), value);
    }
    if let Ok(Value::Object(set)) = serde_json::to_value(&image.config.config) {
        fields.extend(set);
    }
    Value::Object(fields)
}

fn of_container(record: &Record) -> Value {
    let labels: Map<String, Value> = record.labels.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
    json!({
        "Id": record.id,
        "Created": time(record.created_ns),
        "Path": record.command.first(),
        "Args": record.command.get(1..).unwrap_or_default(),
        "State": state(&record.status),
        "Image": record.image_id,
        "Name": record.name,
        "Config": {
            "Image": record.image,
            "Cmd": record.command,
            "Labels": labels,
            "StopSignal": record.stop_signal,
        },
        "HostConfig": {"AutoRemove": record.auto_remove},
        "Mounts": record.mounts.iter().map(mounted).collect::<Vec<_>>(),
    })
}

fn mounted(mounted: &Mounted) -> Value {
    let Mounted { volume, mount } = mounted;
    let (source, propagation) = match &mount.source {
        Source::Bind { path, propagation, .. } => (path.as_path().display().to_string(), propagation),
        _ => (String::new(), &None),
    };
    let propagation = match propagation {
        None | Some(Propagation::Private) => "rprivate",
        Some(Propagation::Slave) => "rslave",
        Some(Propagation::Shared) => "rshared",
    };
    let (target, is_writable) = (mount.target.to_string(), !mount.attributes.read_only);
    match volume {
        Some(name) => json!({
            "Type": "volume", "Name": name, "Source": source, "Destination": target, "Driver": "local",
            "Mode": "", "RW": is_writable, "Propagation": "",
        }),
        None => json!({
            "Type": "bind", "Source": source, "Destination": target,
            "Mode": "", "RW": is_writable, "Propagation": propagation,
        }),
    }
}

fn state(status: &Status) -> Value {
    let (pid, code, started, finished) = match status {
        Status::Created => (0, 0, NEVER.to_owned(), NEVER.to_owned()),
        Status::Running { payload, started_ns, .. } => (payload.pid, 0, time(*started_ns), NEVER.to_owned()),
        Status::Restarting { code, started_ns, finished_ns, .. }
        | Status::Exited { code, started_ns, finished_ns, .. } => (0, *code, time(*started_ns), time(*finished_ns)),
    };
    let error = match status {
        Status::Exited { error: Some(error), .. } => error,
        _ => "",
    };
    json!({
        "Status": status.word(),
        "Running": status.is_live(),
        "Paused": matches!(status, Status::Running { paused: true, .. }),
        "Restarting": matches!(status, Status::Restarting { .. }),
        "Pid": pid,
        "ExitCode": code,
        "Error": error,
        "StartedAt": started,
        "FinishedAt": finished,
    })
}

fn time(nanoseconds: i64) -> String {
    jiff::Timestamp::from_nanosecond(nanoseconds.into()).map_or_else(|_| NEVER.to_owned(), |time| time.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_looks_like_dockers() {
        let mut record = Record::new("ab".repeat(32), "web".to_owned());
        record.created_ns = 0;
        record.command = vec!["sh".to_owned(), "-c".to_owned(), "true".to_owned()];
        record.labels = vec![("a".to_owned(), "b".to_owned())];
        record.status = Status::Exited { code: 3, started_ns: 0, finished_ns: 60_000_000_000, error: None };
        let value = of_container(&record);
        assert_eq!(value["Created"], "1970-01-01T00:00:00Z");
        assert_eq!((&value["Path"], &value["Args"]), (&json!("sh"), &json!(["-c", "true"])));
        assert_eq!(value["Config"]["Labels"], json!({"a": "b"}));
        assert_eq!(value["State"]["ExitCode"], 3);
        assert_eq!(value["State"]["FinishedAt"], "1970-01-01T00:01:00Z");
        assert_eq!(value["State"]["Running"], false);
    }
}
