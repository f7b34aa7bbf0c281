//! What happened, for `kelp events`: a line of JSON for each, which whoever did
//! it appends to one file of the user's. No process collects them.
//!
//! ```text
//! events/current.jsonl      {"ns":…,"kind":"container","action":"start","id":…,"attributes":{…}}
//! events/previous.jsonl     the file before, when the current one had grown too large
//! ```
//!
//! Lines are written with one write(2) in append mode, so many writers do not
//! mix them up; one that is torn all the same (a full disk, a network file
//! system) is passed over by readers. What happens does not depend on its being
//! told: that an event cannot be written is no failure.

mod read;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Seek, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};

use serde::{Deserialize, Serialize};

pub use read::Reader;

use super::record::{Mounted, Record, now_ns};
use crate::error::Result;
use crate::limits;
use crate::paths::{self, Paths};
use crate::sandbox::spec::Mount;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// When, in nanoseconds after the epoch. The first field, by which a
    /// reader finds a line behind a torn one.
    #[serde(rename = "ns")]
    pub time_ns: i64,
    /// To what.
    pub kind: Kind,
    /// What, in docker's words: `start`, `exec_create: sh`, `health_status: healthy`.
    pub action: String,
    /// A container's id, an image's id or name, a volume's name.
    pub id: String,
    /// The name, the image, labels and what belongs to the action.
    #[serde(default)]
    pub attributes: BTreeMap<String, String>,
}

/// What something happened to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A container.
    Container,
    /// An image.
    Image,
    /// A volume.
    Volume,
}

impl Kind {
    /// As docker calls it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Container => "container",
            Self::Image => "image",
            Self::Volume => "volume",
        }
    }
}

/// What happens to a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action<'a> {
    /// Files of it were copied out.
    ArchivePath,
    /// A command stays with it.
    Attach,
    /// An image was made of it.
    Commit {
        /// The image's id.
        image: &'a str,
        /// The image's name, empty without one.
        name: &'a str,
        /// What was remarked.
        comment: &'a str,
    },
    /// It was made.
    Create,
    /// It was removed.
    Destroy,
    /// A command has left it.
    Detach,
    /// Its program ended with this exit status.
    Die(i32),
    /// A command is about to be run in it.
    ExecCreate {
        /// Names this one.
        id: &'a str,
        /// argv.
        command: &'a [String],
    },
    /// The command runs.
    ExecStart {
        /// Names this one.
        id: &'a str,
        /// argv.
        command: &'a [String],
    },
    /// The command ended.
    ExecDie {
        /// Names this one.
        id: &'a str,
        /// Its exit status.
        code: i32,
    },
    /// All its files were written to a tar.
    Export,
    /// Files were copied into it.
    ExtractToDir,
    /// A health check changed its state to this word.
    Health(&'a str),
    /// It was sent this signal.
    Kill(i32),
    /// The kernel killed a process of it for want of memory.
    Oom,
    /// Its processes were stopped.
    Pause,
    /// It was called this before.
    Rename(&'a str),
    /// It was stopped and started by one command.
    Restart,
    /// Its program runs.
    Start,
    /// It ended because it was asked to.
    Stop,
    /// Its processes were listed.
    Top,
    /// Its processes go on.
    Unpause,
    /// Something of it was changed.
    Update,
}

impl Action<'_> {
    /// docker's word (moby api/types/events) and what it says beside it.
    fn words(&self) -> (String, Vec<(&'static str, String)>) {
        let plain = |word: &str| (word.to_owned(), Vec::new());
        match self {
            Self::ArchivePath => plain("archive-path"),
            Self::Attach => plain("attach"),
            Self::Commit { image, name, comment } => {
                let said = [("imageID", image), ("imageRef", name), ("comment", comment)];
                ("commit".to_owned(), said.map(|(key, value)| (key, (*value).to_owned())).into())
            }
            Self::Create => plain("create"),
            Self::Destroy => plain("destroy"),
            Self::Detach => plain("detach"),
            Self::Die(code) => ("die".to_owned(), vec![("exitCode", code.to_string())]),
            Self::ExecCreate { id, command } => {
                (format!("exec_create: {}", command.join(" ")), vec![("execID", (*id).to_owned())])
            }
            Self::ExecStart { id, command } => {
                (format!("exec_start: {}", command.join(" ")), vec![("execID", (*id).to_owned())])
            }
            Self::ExecDie { id, code } => {
                ("exec_die".to_owned(), vec![("execID", (*id).to_owned()), ("exitCode", code.to_string())])
            }
            Self::Export => plain("export"),
            Self::ExtractToDir => plain("extract-to-dir"),
            Self::Health(word) => (format!("health_status: {word}"), Vec::new()),
            Self::Kill(signal) => ("kill".to_owned(), vec![("signal", signal.to_string())]),
            Self::Oom => plain("oom"),
            Self::Pause => plain("pause"),
            Self::Rename(old) => ("rename".to_owned(), vec![("oldName", format!("/{old}"))]),
            Self::Restart => plain("restart"),
            Self::Start => plain("start"),
            Self::Stop => plain("stop"),
            Self::Top => plain("top"),
            Self::Unpause => plain("unpause"),
            Self::Update => plain("update"),
        }
    }
}

impl Event {
    /// Something that happens to a container now.
    pub fn of_container(record: &Record, action: Action<'_>) -> Self {
        let (action, extra) = action.words();
        // As docker: labels first, which cannot take the place of the others.
        let mut attributes: BTreeMap<String, String> = record.labels.iter().cloned().collect();
        attributes.insert("image".to_owned(), record.image.clone());
        attributes.insert("name".to_owned(), record.name.clone());
        attributes.extend(extra.into_iter().map(|(name, value)| (name.to_owned(), value)));
        Self { time_ns: now_ns(), kind: Kind::Container, action, id: record.id.clone(), attributes }
    }

    /// Something that happens to an image now; `action` is docker's word, `id`
    /// its id or, where docker has that, the name that was typed.
    pub fn of_image(action: &str, id: &str, name: &str) -> Self {
        let attributes = BTreeMap::from([("name".to_owned(), name.to_owned())]);
        Self { time_ns: now_ns(), kind: Kind::Image, action: action.to_owned(), id: id.to_owned(), attributes }
    }

    /// Something that happens to a volume now.
    pub fn of_volume(action: &str, name: &str) -> Self {
        let attributes = BTreeMap::from([("driver".to_owned(), "local".to_owned())]);
        Self { time_ns: now_ns(), kind: Kind::Volume, action: action.to_owned(), id: name.to_owned(), attributes }
    }

    /// That a container begins to use its volumes (`mount`), or has ended to
    /// (`unmount`): one for each.
    pub fn of_volumes(action: &str, record: &Record) -> Vec<Self> {
        let of = |mounted: &Mounted| {
            let mut event = Self::of_volume(action, mounted.volume.as_deref()?);
            event.attributes.insert("container".to_owned(), record.id.clone());
            if action == "mount" {
                let Mount { target, attributes, .. } = &mounted.mount;
                event.attributes.insert("destination".to_owned(), target.to_string());
                event.attributes.insert("read/write".to_owned(), (!attributes.read_only).to_string());
            }
            Some(event)
        };
        record.mounts.iter().filter_map(of).collect()
    }

    /// That things nobody needed were removed, which freed so many bytes.
    pub fn of_prune(kind: Kind, freed: u64) -> Self {
        let attributes = BTreeMap::from([("reclaimed".to_owned(), freed.to_string())]);
        Self { time_ns: now_ns(), kind, action: "prune".to_owned(), id: String::new(), attributes }
    }

    fn append_to(&self, bytes: &mut Vec<u8>) -> serde_json::Result<()> {
        let start = bytes.len();
        serde_json::to_writer(&mut *bytes, self)?;
        if bytes.len() - start > limits::EVENT_BYTES_MAX {
            // Only what somebody chose can be so long.
            let known = ["image", "name", "exitCode", "signal", "oldName", "execID"];
            let mut short = self.clone();
            short.attributes.retain(|name, value| known.contains(&name.as_str()) && value.len() < 1_000);
            short.action = short.action.chars().take(1_000).collect();
            bytes.truncate(start);
            serde_json::to_writer(&mut *bytes, &short)?;
        }
        bytes.push(b'\n');
        Ok(())
    }
}

/// Tells of something that happens to a container.
pub fn tell(paths: &Paths, record: &Record, action: Action<'_>) {
    write(paths, &[Event::of_container(record, action)]);
}

/// Writes events down, all of them at once.
pub fn write(paths: &Paths, events: &[Event]) {
    // A full disk must not keep a container from ending.
    try_write(paths, events).ok();
}

fn try_write(paths: &Paths, events: &[Event]) -> Result<()> {
    let mut bytes = Vec::new();
    for event in events {
        event.append_to(&mut bytes).map_err(io::Error::from)?;
    }
    let mut file = open(paths)?;
    if file.write(&bytes)? < bytes.len() {
        // The rest would not fit either; the next line is to begin on its own.
        file.write_all(b"\n")?;
    }
    if file.stream_position()? >= limits::EVENTS_BYTES_MAX {
        rotate(paths, &file)?;
    }
    Ok(())
}

fn open(paths: &Paths) -> Result<File> {
    let open = || File::options().append(true).create(true).mode(0o600).open(paths.events().join(CURRENT));
    match open() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            paths::make_private(&paths.events())?;
            Ok(open()?)
        }
        result => Ok(result?),
    }
}

const CURRENT: &str = "current.jsonl";
const PREVIOUS: &str = "previous.jsonl";

/// Makes `full` the previous file. Who opened it before may still write to it;
/// readers look there, too.
fn rotate(paths: &Paths, full: &File) -> Result<()> {
    let current = paths.events().join(CURRENT);
    // Whoever renames the file holds its lock: one of all who see it full.
    if full.try_lock().is_err() {
        return Ok(());
    }
    if identity(&fs::metadata(&current)?) == identity(&full.metadata()?) {
        fs::rename(&current, paths.events().join(PREVIOUS))?;
    }
    Ok(())
}

/// What tells one file from another.
fn identity(status: &fs::Metadata) -> (u64, u64) {
    (status.dev(), status.ino())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn home() -> (tempfile::TempDir, Paths) {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::new(dir.path().join("data"), dir.path().join("run"));
        (dir, paths)
    }

    fn actions(reader: &mut Reader) -> Vec<String> {
        let mut actions = Vec::new();
        reader.read(&mut |event| actions.push(event.action)).unwrap();
        actions
    }

    #[test]
    fn containers_are_told_of_in_dockers_words() {
        let mut record = Record::new("ab".repeat(32), "web".to_owned());
        record.image = "alpine".to_owned();
        record.labels = vec![("role".to_owned(), "x".to_owned()), ("name".to_owned(), "forged".to_owned())];
        let command = ["sh".to_owned(), "-c".to_owned()];
        for (action, word, extra) in [
            (Action::Start, "start", None),
            (Action::Die(3), "die", Some(("exitCode", "3"))),
            (Action::Kill(9), "kill", Some(("signal", "9"))),
            (Action::Rename("old"), "rename", Some(("oldName", "/old"))),
            (Action::ExecCreate { id: "e1", command: &command }, "exec_create: sh -c", Some(("execID", "e1"))),
            (Action::ExecDie { id: "e1", code: 2 }, "exec_die", Some(("exitCode", "2"))),
            (Action::Health("healthy"), "health_status: healthy", None),
        ] {
            let event = Event::of_container(&record, action);
            assert_eq!((event.action.as_str(), event.kind, &event.id), (word, Kind::Container, &record.id));
            assert_eq!((event.attributes["image"].as_str(), event.attributes["name"].as_str()), ("alpine", "web"));
            assert_eq!(event.attributes["role"], "x");
            if let Some((name, value)) = extra {
                assert_eq!(event.attributes[name], value);
            }
        }
    }

    #[test]
    fn what_is_written_is_read_by_who_came_before_and_after() {
        let (_dir, paths) = home();
        let mut early = Reader::open(&paths, true).unwrap();
        write(&paths, &[Event::of_volume("create", "a"), Event::of_volume("remove", "a")]);
        assert_eq!(actions(&mut early), ["create", "remove"]);
        assert_eq!(actions(&mut early), [""; 0]);
        let mut late = Reader::open(&paths, true).unwrap();
        let mut whole = Reader::open(&paths, false).unwrap();
        write(&paths, &[Event::of_image("pull", "x", "x")]);
        assert_eq!(actions(&mut early), ["pull"]);
        assert_eq!(actions(&mut late), ["pull"]);
        assert_eq!(actions(&mut whole), ["create", "remove", "pull"]);
    }

    #[test]
    fn a_torn_line_costs_itself_alone() {
        let (_dir, paths) = home();
        write(&paths, &[Event::of_volume("create", "a")]);
        let path = paths.events().join(CURRENT);
        let mut file = File::options().append(true).open(&path).unwrap();
        file.write_all(b"{\"ns\":1,\"kind\":\"volu").unwrap();
        write(&paths, &[Event::of_volume("remove", "{\"ns\":")]);
        file.write_all(b"\n\nnonsense\n{\"ns\":5}\n").unwrap();
        write(&paths, &[Event::of_volume("prune", "")]);
        assert_eq!(actions(&mut Reader::open(&paths, false).unwrap()), ["create", "remove", "prune"]);
        // A line whose end is not there yet is read when it is.
        let mut reader = Reader::open(&paths, true).unwrap();
        let mut line = Vec::new();
        Event::of_volume("create", "b").append_to(&mut line).unwrap();
        let (first, rest) = line.split_at(20);
        file.write_all(first).unwrap();
        assert_eq!(actions(&mut reader), [""; 0]);
        file.write_all(rest).unwrap();
        assert_eq!(actions(&mut reader), ["create"]);
    }

    #[test]
    fn a_full_file_makes_room_for_the_next_and_nothing_is_lost() {
        let (_dir, paths) = home();
        let big = Event::of_volume("create", &"x".repeat(limits::EVENT_BYTES_MAX / 2));
        let mut reader = Reader::open(&paths, true).unwrap();
        let before = open(&paths).unwrap();
        let mut written = 0;
        let mut seen = 0;
        while !paths.events().join(PREVIOUS).exists() {
            write(&paths, std::slice::from_ref(&big));
            written += 1;
        }
        write(&paths, std::slice::from_ref(&big));
        seen += actions(&mut reader).len();
        // Somebody who had opened it before it was renamed.
        let mut line = Vec::new();
        big.append_to(&mut line).unwrap();
        (&before).write_all(&line).unwrap();
        write(&paths, std::slice::from_ref(&big));
        seen += actions(&mut reader).len();
        assert_eq!(seen, written + 3);
        let all = actions(&mut Reader::open(&paths, false).unwrap()).len();
        assert_eq!(all, seen);
        assert!(fs::metadata(paths.events().join(PREVIOUS)).unwrap().len() >= limits::EVENTS_BYTES_MAX);
        assert!(fs::metadata(paths.events().join(CURRENT)).unwrap().len() < limits::EVENTS_BYTES_MAX);
    }

    #[test]
    fn many_writers_do_not_mix() {
        let (_dir, paths) = home();
        std::thread::scope(|scope| {
            for writer in 0..4 {
                let paths = &paths;
                scope.spawn(move || {
                    for number in 0..200 {
                        write(paths, &[Event::of_volume("create", &format!("{writer}-{number}"))]);
                    }
                });
            }
        });
        let mut ids = std::collections::BTreeSet::new();
        Reader::open(&paths, false).unwrap().read(&mut |event| ids.extend([event.id])).unwrap();
        assert_eq!(ids.len(), 800);
    }

    #[test]
    fn what_is_too_long_is_cut_to_what_matters() {
        let mut record = Record::new("ab".repeat(32), "web".to_owned());
        record.labels = vec![("a".to_owned(), "x".repeat(limits::EVENT_BYTES_MAX))];
        let mut line = Vec::new();
        let long = ["y".repeat(limits::EVENT_BYTES_MAX)];
        Event::of_container(&record, Action::ExecCreate { id: "e", command: &long }).append_to(&mut line).unwrap();
        let event: Event = serde_json::from_slice(&line).unwrap();
        assert!(line.len() < limits::EVENT_BYTES_MAX);
        assert_eq!(event.attributes.keys().collect::<Vec<_>>(), ["execID", "image", "name"]);
    }
}
