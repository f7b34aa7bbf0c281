//! Volumes: directories that outlive containers.
//!
//! ```text
//! volumes/NAME/              0700, the user's own
//!   data/                    what is mounted in containers
//!   volume.json              when it was made, labels, whose it is
//!   new                      no container has used it yet; locked by the one that is about to
//! ```
//!
//! A volume appears complete by rename(2). Its data belongs to whatever ids
//! wrote to it, so only the user namespace can look into all of it.
//!
//! Only a new volume can be given content (an image's files, an archive): the
//! data is made in `staging/` and takes the place of the empty directory in one
//! step, so that no container ever has the wrong one of the two mounted.
//! Whoever uses a new volume first, with or without content, takes `new` away.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::error::{Context, Failure, Result};
use crate::kernel::{self, Errno};
use crate::limits;
use crate::paths::{self, Paths};

use super::{layers, sweep};

const DATA_NAME: &str = "data";
const NEW_NAME: &str = "new";
const RECORD_NAME: &str = "volume.json";
const RECORD_VERSION: u32 = 1;

/// Label of a volume that nobody named, as docker has it.
pub const ANONYMOUS: &str = "com.docker.volume.anonymous";
/// What an older kelp had instead: the label's value was the owner.
const ANONYMOUS_OF: &str = "kelp.anonymous-of";

/// The legal name of a volume.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct VolumeName(String);

impl VolumeName {
    /// Checks a name ([`paths::check_name`]).
    pub fn parse(name: &str) -> Result<Self> {
        paths::check_name(name)?;
        Ok(Self(name.to_owned()))
    }

    /// A fresh one, for a volume that nobody names: 64 hexadecimal digits.
    pub fn random() -> Result<Self> {
        Ok(Self(kernel::process::random_hex::<32>()?))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it looks like one that was made up.
    fn is_random(&self) -> bool {
        self.0.len() == 64 && self.0.bytes().all(|byte| byte.is_ascii_hexdigit())
    }
}

/// A volume that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// Its name.
    pub name: VolumeName,
    /// The directory to mount.
    pub data: PathBuf,
    /// When it was made, in seconds since 1970.
    pub created_s: u64,
    /// The user's own words.
    pub labels: BTreeMap<String, String>,
    /// The id of the container that it is removed with.
    pub owner: Option<String>,
    /// Why the rest of this is not known: its record cannot be read. The data
    /// is there all the same.
    pub damage: Option<String>,
}

impl Volume {
    /// Whether nobody gave it its name.
    pub fn is_anonymous(&self) -> bool {
        self.labels.contains_key(ANONYMOUS)
    }
}

/// What a volume's record says when it is made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Description {
    /// The user's own words.
    pub labels: BTreeMap<String, String>,
    /// The id of the container that it is removed with.
    pub owner: Option<String>,
}

impl Description {
    /// Of a volume that nobody named and that belongs to container `id`.
    pub fn anonymous(id: &str) -> Self {
        Self { labels: [(ANONYMOUS.to_owned(), String::new())].into(), owner: Some(id.to_owned()) }
    }
}

#[derive(Serialize, Deserialize)]
struct Record {
    version: u32,
    created_s: u64,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    owner: Option<String>,
}

impl Record {
    fn new(description: Description) -> Self {
        let created_s = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_secs();
        let Description { labels, owner } = description;
        Self { version: RECORD_VERSION, created_s, labels, owner }
    }

    fn of(volume: &Volume) -> Self {
        let Volume { created_s, labels, owner, .. } = volume;
        Self { version: RECORD_VERSION, created_s: *created_s, labels: labels.clone(), owner: owner.clone() }
    }
}

/// Where a volume's data is, or would be.
pub fn data_directory(paths: &Paths, name: &VolumeName) -> PathBuf {
    dir(paths, name).join(DATA_NAME)
}

/// Makes an empty volume that is new; `false` if there is one already, which is
/// left as it is.
pub fn create(paths: &Paths, name: &VolumeName, description: Description) -> Result<bool> {
    if get(paths, name)?.is_some() {
        return Ok(false);
    }
    let staged = stage(paths)?;
    File::create_new(staged.dir().join(NEW_NAME)).doing(|| format!("make volume \"{}\"", name.0))?;
    publish(paths, staged, name, description, true)
}

/// A volume on its way, in `staging/`. Dropped, it is thrown away.
#[derive(Debug)]
pub struct Staged(layers::Staged);

impl Staged {
    /// The directory that will be its data.
    pub fn data(&self) -> PathBuf {
        self.dir().join(DATA_NAME)
    }

    fn dir(&self) -> &Path {
        self.0.dir()
    }
}

/// Begins a volume, with an empty data directory.
pub fn stage(paths: &Paths) -> Result<Staged> {
    paths::make_private(&paths.volumes())?;
    let staged = Staged(layers::stage(paths)?);
    let data = staged.data();
    let doing = || format!("make \"{}\"", data.display());
    std::fs::create_dir(&data).doing(doing)?;
    // As Docker's: others in the container may look in. Set after: mkdir(2) applies the umask.
    std::fs::set_permissions(&data, PermissionsExt::from_mode(0o755)).doing(doing)?;
    Ok(staged)
}

/// Gives a staged volume its name; `false` and into the trash if there is one
/// of that name already. One that is `lasting` survives a power cut.
pub fn publish(
    paths: &Paths,
    staged: Staged,
    name: &VolumeName,
    description: Description,
    lasting: bool,
) -> Result<bool> {
    let doing = || format!("make volume \"{}\"", name.0);
    layers::write_record(&staged.dir().join(RECORD_NAME), &Record::new(description))?;
    let is_new = layers::publish_dir(paths, staged.dir(), &dir(paths, name)).doing(doing)?;
    if lasting {
        sync_names(paths).doing(doing)?;
    }
    Ok(is_new)
}

/// Puts a staged volume in the place of one that is there and whose record it
/// takes over. The caller knows that nobody has that one mounted.
pub fn replace(paths: &Paths, staged: Staged, volume: &Volume) -> Result<()> {
    let doing = || format!("fill volume \"{}\"", volume.name.0);
    let place = dir(paths, &volume.name);
    layers::write_record(&staged.dir().join(RECORD_NAME), &Record::of(volume))?;
    std::fs::remove_file(staged.dir().join(sweep::LOCK_NAME)).doing(doing)?;
    match kernel::file::exchange(staged.dir(), &place) {
        // A file system that cannot exchange: killed between the two, the volume is one that nobody has made yet.
        Err(error) if matches!(error.errno, Errno::EINVAL | Errno::ENOSYS | Errno::EOPNOTSUPP) => {
            sweep::trash(paths, &place).doing(doing)?;
            std::fs::rename(staged.dir(), &place).doing(doing)?;
        }
        result => result.doing(doing)?,
    }
    // What was there before is in the staged one's place now, and goes with it.
    drop(staged);
    sync_names(paths).doing(doing)
}

/// The names must survive a power cut as well as the content does.
fn sync_names(paths: &Paths) -> Result<()> {
    Ok(File::open(paths.volumes()).and_then(|volumes| volumes.sync_all())?)
}

/// Writes out what a staged volume was filled with.
pub fn write_out(staged: &Staged) -> Result<()> {
    let dir = kernel::open::open_dir(staged.dir()).doing(|| "write volume out")?;
    kernel::file::sync_file_system(dir.as_fd()).doing(|| "write volume out")
}

/// A volume that no container has used yet. No other can while this is held.
#[derive(Debug)]
pub struct FirstUse {
    marker: PathBuf,
    lock: File,
}

/// Takes a new volume for its first use; waits for another that is at it.
/// `None` if it was used before, or is not there.
pub fn first_use(paths: &Paths, name: &VolumeName) -> Result<Option<FirstUse>> {
    let marker = dir(paths, name).join(NEW_NAME);
    let doing = || format!("lock \"{}\"", marker.display());
    loop {
        // Read-write, since NFS maps flock(2) to a lock that needs it.
        let lock = match File::options().read(true).write(true).open(&marker) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            result => result.doing(doing)?,
        };
        lock.lock().doing(doing)?;
        let first = FirstUse { marker: marker.clone(), lock };
        if first.is_current()? {
            return Ok(Some(first));
        }
    }
}

impl FirstUse {
    /// Whether the volume is still the one that was locked.
    pub fn is_current(&self) -> Result<bool> {
        let held = self.lock.metadata()?;
        match self.marker.symlink_metadata() {
            Ok(there) => Ok((there.dev(), there.ino()) == (held.dev(), held.ino())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// The volume is used from here on, with what is in it.
    pub fn done(self) -> Result<()> {
        match std::fs::remove_file(&self.marker) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Failure::from(error).doing(format!("remove \"{}\"", self.marker.display())))
            }
            _ => Ok(()),
        }
    }
}

/// Whether there is nothing in a volume. One that cannot be looked into has
/// been given to somebody, so it was used.
pub fn is_empty(volume: &Volume) -> Result<bool> {
    match std::fs::read_dir(&volume.data) {
        Ok(mut entries) => Ok(entries.next().is_none()),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(false),
        Err(error) => Err(Failure::from(error).doing(format!("look into volume \"{}\"", volume.name.0))),
    }
}

/// The volume `name`, if it is there.
pub fn get(paths: &Paths, name: &VolumeName) -> Result<Option<Volume>> {
    let dir = dir(paths, name);
    let doing = || format!("read volume \"{}\"", name.0);
    let read = limits::read_file(&dir.join(RECORD_NAME), limits::RECORD_BYTES_MAX);
    let parsed = match read {
        Err(failure) if failure.is_errno(libc::ENOENT) && !dir.is_dir() => return Ok(None),
        read => read
            .and_then(|json| serde_json::from_slice::<Record>(&json).map_err(|error| Failure::host(error.to_string()))),
    };
    let (record, damage) = match parsed {
        Ok(record) if record.version > RECORD_VERSION => {
            return Err(Failure::host("it was made by a newer kelp")).doing(doing);
        }
        Ok(record) => (record, None),
        Err(failure) => match dir.metadata() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            status => {
                let created_s = u64::try_from(status.doing(doing)?.mtime()).unwrap_or_default();
                let record = Record { created_s, ..Record::new(Description::default()) };
                (record, Some(failure.to_string()))
            }
        },
    };
    let Record { created_s, mut labels, mut owner, .. } = record;
    if let Some(id) = labels.remove(ANONYMOUS_OF) {
        owner = owner.or(Some(id));
        labels.insert(ANONYMOUS.to_owned(), String::new());
    }
    let data = dir.join(DATA_NAME);
    Ok(Some(Volume { name: name.clone(), data, created_s, labels, owner, damage }))
}

/// All volumes, by name; and why others could not be read.
pub fn list(paths: &Paths) -> Result<(Vec<Volume>, Vec<Failure>)> {
    let (mut volumes, mut failures) = (Vec::new(), Vec::new());
    for name in names(paths)? {
        match get(paths, &name) {
            // One that is gone meanwhile is left out.
            Ok(volume) => volumes.extend(volume),
            Err(failure) => failures.push(failure),
        }
    }
    Ok((volumes, failures))
}

/// The volumes that belong to one container alone, each with its id.
pub fn owned(paths: &Paths) -> Result<Vec<(VolumeName, String)>> {
    let mut owned = Vec::new();
    for name in names(paths)?.into_iter().filter(VolumeName::is_random) {
        // What cannot be read is nobody's for now.
        if let Ok(Some(Volume { owner: Some(owner), .. })) = get(paths, &name) {
            owned.push((name, owner));
        }
    }
    Ok(owned)
}

fn names(paths: &Paths) -> Result<Vec<VolumeName>> {
    let mut names: Vec<_> =
        layers::names(&paths.volumes())?.iter().filter_map(|name| VolumeName::parse(name).ok()).collect();
    names.sort();
    Ok(names)
}

/// Lets a volume outlive its container.
pub fn disown(paths: &Paths, name: &VolumeName) -> Result<()> {
    let Some(mut volume) = get(paths, name)?.filter(|volume| volume.owner.is_some()) else { return Ok(()) };
    volume.owner = None;
    let (record, new) = (dir(paths, name).join(RECORD_NAME), dir(paths, name).join("volume.json.new"));
    layers::write_record(&new, &Record::of(&volume))?;
    std::fs::rename(&new, &record).doing(|| format!("write \"{}\"", record.display()))
}

/// Moves a volume into the trash. The caller holds the lock and knows that no
/// container uses it.
pub fn remove(paths: &Paths, name: &VolumeName) -> Result<()> {
    match sweep::trash(paths, &dir(paths, name)) {
        Err(failure) if failure.is_errno(libc::ENOENT) => Err(missing(name)),
        result => result,
    }
}

/// That there is no such volume.
pub fn missing(name: &VolumeName) -> Failure {
    Failure::not_found(format!("there is no volume \"{}\"", name.0))
}

/// A held lock; let go when dropped.
#[derive(Debug)]
pub struct Guard {
    _lock: File,
}

/// Keeps volumes from being removed, until the record of the container that
/// uses them is written.
pub fn hold(paths: &Paths) -> Result<Guard> {
    lock(paths, File::lock_shared)
}

/// Keeps everybody away who makes containers of volumes.
pub fn hold_alone(paths: &Paths) -> Result<Guard> {
    lock(paths, File::lock)
}

fn lock(paths: &Paths, take: impl Fn(&File) -> io::Result<()>) -> Result<Guard> {
    let path = paths.volumes_lock();
    let mut options = File::options();
    // Read-write, since NFS maps flock(2) to a lock that needs it.
    let file = options.read(true).write(true).create(true).truncate(false).open(&path);
    let file = file.doing(|| format!("open \"{}\"", path.display()))?;
    take(&file).doing(|| format!("lock \"{}\"", path.display()))?;
    Ok(Guard { _lock: file })
}

fn dir(paths: &Paths, name: &VolumeName) -> PathBuf {
    paths.volumes().join(Path::new(&name.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths() -> (tempfile::TempDir, Paths) {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::new(dir.path().join("data"), dir.path().join("run"));
        (dir, paths)
    }

    fn name(text: &str) -> VolumeName {
        VolumeName::parse(text).unwrap()
    }

    #[test]
    fn checks_names() {
        for name in ["db", "a1_.-", "0.x"] {
            assert!(VolumeName::parse(name).is_ok(), "{name}");
        }
        for name in ["", "a", ".", "..", ".a", "-a", "_a", "a/b", "a b", "a\0b", "ä1", "../x", &"a".repeat(200)] {
            assert!(VolumeName::parse(name).is_err(), "{name}");
        }
        assert!(VolumeName::random().unwrap().is_random() && !name("db").is_random());
    }

    #[test]
    fn makes_lists_and_removes() {
        let (_dir, paths) = paths();
        assert_eq!(list(&paths).unwrap(), (vec![], vec![]));
        let db = name("db");
        let labels = BTreeMap::from([("a".to_owned(), "b".to_owned())]);
        assert!(create(&paths, &db, Description { labels: labels.clone(), owner: None }).unwrap());
        let volume = get(&paths, &db).unwrap().unwrap();
        assert_eq!((&volume.labels, volume.is_anonymous()), (&labels, false));
        assert_eq!(volume.data.metadata().unwrap().permissions().mode() & 0o7777, 0o755);
        std::fs::write(volume.data.join("kept"), "").unwrap();
        assert!(!create(&paths, &db, Description::default()).unwrap());
        assert!(volume.data.join("kept").exists());
        assert_eq!(list(&paths).unwrap(), (vec![volume], vec![]));
        remove(&paths, &db).unwrap();
        assert_eq!(list(&paths).unwrap(), (vec![], vec![]));
        assert_eq!(remove(&paths, &db).unwrap_err().kind, crate::error::Kind::NotFound);
        assert_eq!(std::fs::read_dir(paths.staging()).unwrap().count(), 0);
    }

    #[test]
    fn a_volume_is_new_until_it_is_used() {
        let (_dir, paths) = paths();
        let db = name("db");
        assert!(first_use(&paths, &db).unwrap().is_none());
        create(&paths, &db, Description::default()).unwrap();
        // Killed: it stays new.
        drop(first_use(&paths, &db).unwrap().unwrap());
        let first = first_use(&paths, &db).unwrap().unwrap();
        std::thread::scope(|scope| {
            let second = scope.spawn(|| first_use(&paths, &db).unwrap().is_none());
            first.done().unwrap();
            assert!(second.join().unwrap(), "two were the first");
        });
        assert!(get(&paths, &db).unwrap().is_some());
    }

    #[test]
    fn a_new_volume_is_replaced_in_one_step() {
        let (_dir, paths) = paths();
        let db = name("db");
        create(&paths, &db, Description::anonymous("abc")).unwrap();
        let volume = get(&paths, &db).unwrap().unwrap();
        assert!(is_empty(&volume).unwrap());
        let first = first_use(&paths, &db).unwrap().unwrap();
        let staged = stage(&paths).unwrap();
        std::fs::write(staged.data().join("file"), "x").unwrap();
        replace(&paths, staged, &volume).unwrap();
        assert!(!first.is_current().unwrap());
        assert!(first_use(&paths, &db).unwrap().is_none());
        assert_eq!(get(&paths, &db).unwrap().unwrap(), volume);
        assert!(!is_empty(&volume).unwrap());
        assert_eq!(std::fs::read_dir(paths.staging()).unwrap().count(), 0);
        assert_eq!(std::fs::read_dir(paths.trash()).unwrap().count(), 1);
    }

    #[test]
    fn the_first_of_one_name_stays() {
        let (_dir, paths) = paths();
        let db = name("db");
        let (one, other) = (stage(&paths).unwrap(), stage(&paths).unwrap());
        std::fs::write(one.data().join("one"), "").unwrap();
        assert!(publish(&paths, one, &db, Description::default(), true).unwrap());
        assert!(!publish(&paths, other, &db, Description::default(), false).unwrap());
        assert!(data_directory(&paths, &db).join("one").exists());
        drop(stage(&paths).unwrap());
        assert_eq!(std::fs::read_dir(paths.staging()).unwrap().count(), 0);
    }

    #[test]
    fn a_damaged_record_does_not_take_the_data_away() {
        let (_dir, paths) = paths();
        for (text, json) in [("cut", &b"{\"version\":1,"[..]), ("empty", b""), ("other", b"[1]")] {
            create(&paths, &name(text), Description::default()).unwrap();
            std::fs::write(dir(&paths, &name(text)).join(RECORD_NAME), json).unwrap();
        }
        create(&paths, &name("gone"), Description::default()).unwrap();
        std::fs::remove_file(dir(&paths, &name("gone")).join(RECORD_NAME)).unwrap();
        let (volumes, failures) = list(&paths).unwrap();
        assert_eq!((volumes.len(), failures.len()), (4, 0));
        assert!(volumes.iter().all(|volume| volume.damage.is_some() && volume.data.is_dir() && volume.created_s > 0));
        // A newer kelp's is not ours to guess at.
        let newer = dir(&paths, &name("gone")).join(RECORD_NAME);
        std::fs::write(newer, r#"{"version":2,"created_s":1}"#).unwrap();
        let (volumes, failures) = list(&paths).unwrap();
        assert_eq!((volumes.len(), failures.len()), (3, 1));
        for volume in volumes {
            remove(&paths, &volume.name).unwrap();
        }
    }

    #[test]
    fn an_owner_is_told_and_forgotten() {
        let (_dir, paths) = paths();
        let (own, old) = (VolumeName::random().unwrap(), VolumeName::random().unwrap());
        create(&paths, &own, Description::anonymous("abc")).unwrap();
        let labels = BTreeMap::from([(ANONYMOUS_OF.to_owned(), "def".to_owned())]);
        create(&paths, &old, Description { labels, owner: None }).unwrap();
        create(&paths, &name("db"), Description::default()).unwrap();
        let mut owners: Vec<_> = owned(&paths).unwrap().into_iter().map(|(_, owner)| owner).collect();
        owners.sort();
        assert_eq!(owners, ["abc", "def"]);
        disown(&paths, &own).unwrap();
        disown(&paths, &old).unwrap();
        assert_eq!(owned(&paths).unwrap(), []);
        let volume = get(&paths, &old).unwrap().unwrap();
        assert!(volume.is_anonymous() && volume.owner.is_none() && volume.damage.is_none());
    }
}
