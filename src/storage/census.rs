//! What is in an unpacked layer: counted and, so that two can be compared,
//! put into a fingerprint. A stage of its own does it, as root of the base
//! namespace: the files belong to subordinate ids and may be closed to us.
//!
//! ```text
//!      command                    census stage
//!  1   Count(directory)   ->
//!  2                      <-      Census            (as often as asked)
//!      Measure(list)      ->
//!                         <-      Measured, one each (measure.rs)
//! ```
//!
//! Two directories that were unpacked from one layer have one fingerprint: it
//! covers the paths, types, modes, sizes, targets, whiteouts and, of files
//! with content, the times. Owners are in it only on request, since a layer
//! that was unpacked for other ids has others; contents likewise, since
//! reading them takes its time. Not in it: other extended attributes, and the
//! times of directories, which no archive needs to tell.

use std::collections::{HashMap, HashSet};
use std::ffi::{CStr, CString, OsStr};
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::sys::stat::{FileStat, SFlag};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::measure::{Measured, measure};
use crate::error::{Context, Failure, Result};
use crate::image::quote::quoted_bytes;
use crate::kernel::file::{self, Listing};
use crate::kernel::{open, process};
use crate::process::base::Base;
use crate::process::channel::Channel;
use crate::process::launch;
use crate::process::stage::{self, Stage};

/// How many entries that cannot be read are named.
const NAMED_MAX: usize = 5;

/// What the kernel's overlayfs reads in a directory (`userxattr`).
const OPAQUE: &CStr = c"user.overlay.opaque";

/// Which directory, and how closely it is looked at.
#[derive(Debug, Serialize, Deserialize)]
struct Ask {
    root: PathBuf,
    owners: bool,
    contents: bool,
}

/// What the command says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Question {
    Count(Ask),
    Measure(Vec<PathBuf>),
}

/// What the stage says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Answer {
    Counted(Census),
    Measured(Vec<Measured>),
    Failed(Failure),
}

/// What is in a directory.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Census {
    /// Files, directories and all else below it.
    pub entries: u64,
    /// Sizes of its regular files, each counted once however many names it
    /// has; holes are counted.
    pub bytes: u64,
    /// SHA-256 in hex.
    pub fingerprint: String,
    /// Entries that could not be read; the first of them by path and cause.
    pub unreadable: u64,
    /// At most [`NAMED_MAX`] of them.
    pub examples: Vec<String>,
}

/// A census stage that was started.
pub struct Counter {
    channel: Channel,
}

impl Counter {
    /// Starts one. The caller must be single-threaded.
    pub fn start(base: &mut Base) -> Result<Self> {
        Ok(Self { channel: launch::launch(Stage::Census, base, "", &[])?.channel })
    }

    /// Counts what is below `root`, an absolute path of ours.
    pub fn count(&self, root: &Path, owners: bool, contents: bool) -> Result<Census> {
        match self.ask(&Question::Count(Ask { root: root.to_owned(), owners, contents }))? {
            Answer::Counted(census) => Ok(census),
            other => Err(unexpected(&other)),
        }
    }

    /// How many bytes are below each of `roots`, absolute paths of ours. Any
    /// number of them is asked for in one go.
    pub fn measure(&self, roots: Vec<PathBuf>) -> Result<Vec<Measured>> {
        let count = roots.len();
        match self.ask(&Question::Measure(roots))? {
            Answer::Measured(measured) if measured.len() == count => Ok(measured),
            other => Err(unexpected(&other)),
        }
    }

    fn ask(&self, question: &Question) -> Result<Answer> {
        self.channel.send_if_open(question, &[])?;
        match self.channel.receive::<Answer>()?.map(|received| received.message) {
            Some(Answer::Failed(failure)) => Err(failure),
            Some(answer) => Ok(answer),
            None => Err(Failure::host("the process that looks into layers was killed")),
        }
    }
}

fn unexpected(answer: &Answer) -> Failure {
    Failure::bug(format!("the census stage answered {answer:?}"))
}

/// The stage's whole life.
pub fn main() -> Result<()> {
    let channel = stage::take_channel()?;
    process::set_name(c"kelp-census")?;
    process::set_no_new_privileges()?;
    raise_descriptors();
    while let Some(received) = channel.receive::<Question>()? {
        let answer = match received.message {
            Question::Count(ask) => census(&ask).map(Answer::Counted),
            Question::Measure(roots) => Ok(Answer::Measured(roots.iter().map(|root| measure(root)).collect())),
        };
        channel.send_if_open(&answer.unwrap_or_else(Answer::Failed), &[])?;
    }
    Ok(())
}

/// A descriptor for each level of a deep tree; where the host does not let us,
/// what is too deep is told as unreadable.
pub(super) fn raise_descriptors() {
    use nix::sys::resource::{Resource, getrlimit};
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        process::set_limit(libc::RLIMIT_NOFILE, hard, hard).ok();
    }
}

fn census(ask: &Ask) -> Result<Census> {
    let doing = || format!("look into \"{}\"", ask.root.display());
    let root = open::open_dir(&ask.root).doing(doing)?;
    let status = file::status(root.as_fd()).doing(doing)?;
    let mut walk =
        Walk { ask, hash: Sha256::new(), census: Census::default(), seen: HashSet::new(), links: HashMap::new() };
    walk.describe(b"", &status);
    walk.below(root)?;
    Ok(Census { fingerprint: hex(&walk.hash.finalize()), ..walk.census })
}

struct Walk<'a> {
    ask: &'a Ask,
    hash: Sha256,
    census: Census,
    /// Files with several names that were counted, by inode.
    seen: HashSet<u64>,
    /// The same, by the order in which they were met: links are part of what
    /// the layer is, inode numbers are not.
    links: HashMap<u64, usize>,
}

/// A directory that is being read.
struct Level {
    fd: OwnedFd,
    path: Vec<u8>,
    /// In reverse order of names.
    names: Vec<CString>,
}

impl Walk<'_> {
    fn below(&mut self, root: OwnedFd) -> Result<()> {
        let mut levels = vec![Level { names: names(root.as_fd())?, fd: root, path: Vec::new() }];
        while let Some(level) = levels.last_mut() {
            let Some(name) = level.names.pop() else {
                levels.pop();
                continue;
            };
            let mut path = level.path.clone();
            path.push(b'/');
            path.extend_from_slice(name.to_bytes());
            match self.entry(level.fd.as_fd(), Path::new(OsStr::from_bytes(name.to_bytes())), &path) {
                Ok(None) => {}
                Ok(Some((fd, names))) => levels.push(Level { fd, path, names }),
                Err(failure) => self.miss(&path, &failure),
            }
        }
        Ok(())
    }

    /// Takes one entry down; of a directory returns what is in it.
    fn entry(&mut self, dir: BorrowedFd<'_>, name: &Path, path: &[u8]) -> Result<Option<(OwnedFd, Vec<CString>)>> {
        let status = file::status_at(dir, name)?;
        self.census.entries += 1;
        self.describe(path, &status);
        match kind(&status) {
            SFlag::S_IFLNK => {
                self.add(file::read_link_at(dir, name)?.as_bytes());
                Ok(None)
            }
            SFlag::S_IFREG => {
                self.regular(dir, name, &status)?;
                Ok(None)
            }
            SFlag::S_IFDIR => {
                let fd = file::open_at(dir, name, libc::O_RDONLY | libc::O_DIRECTORY, 0)?;
                let opaque = file::attribute(fd.as_fd(), OPAQUE)?.unwrap_or_default();
                self.add(&opaque);
                let names = names(fd.as_fd())?;
                Ok(Some((fd, names)))
            }
            _ => Ok(None),
        }
    }

    fn regular(&mut self, dir: BorrowedFd<'_>, name: &Path, status: &FileStat) -> Result<()> {
        let is_first = status.st_nlink < 2 || self.seen.insert(status.st_ino);
        if status.st_nlink > 1 {
            let next = self.links.len();
            let number = *self.links.entry(status.st_ino).or_insert(next);
            self.add(&number.to_be_bytes());
        }
        if !is_first {
            return Ok(());
        }
        self.census.bytes = self.census.bytes.saturating_add(u64::try_from(status.st_size).unwrap_or(0));
        if self.ask.contents && status.st_size > 0 {
            // Not O_NONBLOCK: it is a regular file, and nobody else changes a layer.
            let mut file = File::from(file::open_at(dir, name, libc::O_RDONLY, 0)?);
            let mut hash = Sha256::new();
            let mut buffer = vec![0; 256 << 10];
            loop {
                match file.read(&mut buffer)? {
                    0 => break,
                    count => hash.update(buffer.get(..count).unwrap_or_default()),
                }
            }
            self.add(&hash.finalize());
        }
        Ok(())
    }

    /// What the fingerprint has of every entry.
    fn describe(&mut self, path: &[u8], status: &FileStat) {
        self.add(path);
        let mut numbers = vec![u64::from(status.st_mode)];
        if kind(status) == SFlag::S_IFREG && status.st_size > 0 {
            numbers.extend([status.st_size as u64, status.st_mtime as u64, status.st_mtime_nsec as u64]);
        }
        if matches!(kind(status), SFlag::S_IFCHR | SFlag::S_IFBLK) {
            numbers.push(status.st_rdev);
        }
        if self.ask.owners {
            numbers.extend([u64::from(status.st_uid), u64::from(status.st_gid)]);
        }
        numbers.into_iter().for_each(|number| self.hash.update(number.to_be_bytes()));
    }

    /// Adds bytes with their length before them: two fields cannot be taken
    /// for one.
    fn add(&mut self, bytes: &[u8]) {
        self.hash.update((bytes.len() as u64).to_be_bytes());
        self.hash.update(bytes);
    }

    fn miss(&mut self, path: &[u8], failure: &Failure) {
        self.census.unreadable += 1;
        if self.census.examples.len() < NAMED_MAX {
            self.census.examples.push(format!("{}: {failure}", quoted_bytes(path)));
        }
    }
}

fn kind(status: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(status.st_mode & SFlag::S_IFMT.bits())
}

/// The names in a directory, in reverse order.
fn names(dir: BorrowedFd<'_>) -> Result<Vec<CString>> {
    // Opened anew: a listing takes its descriptor over, with its position.
    let dir = file::open_at(dir, Path::new("."), libc::O_RDONLY | libc::O_DIRECTORY, 0)?;
    let mut names = Listing::new(dir)?.map(|next| Ok(next?.0)).collect::<Result<Vec<_>>>()?;
    names.sort_unstable_by(|a, b| b.cmp(a));
    Ok(names)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn make(root: &Path) {
        fs::create_dir_all(root.join("a/b")).unwrap();
        for (name, content) in [("a/one", "1234"), ("a/b/two", "56"), ("empty", "")] {
            fs::write(root.join(name), content).unwrap();
            let file = File::options().write(true).open(root.join(name)).unwrap();
            file.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
        }
        fs::hard_link(root.join("a/one"), root.join("link")).unwrap();
        symlink("/etc/passwd", root.join("symlink")).unwrap();
    }

    fn count(root: &Path, contents: bool) -> Census {
        census(&Ask { root: root.to_owned(), owners: true, contents }).unwrap()
    }

    #[test]
    fn equal_trees_have_one_fingerprint() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        make(one.path());
        make(two.path());
        let census = count(one.path(), true);
        assert_eq!((census.entries, census.bytes, census.unreadable), (7, 6, 0));
        assert_eq!(census, count(two.path(), true));
        type Change<'a> = (&'a str, &'a dyn Fn(&Path));
        let changes: [Change<'_>; 7] = [
            ("size", &|root| fs::write(root.join("a/one"), "123").unwrap()),
            ("a file more", &|root| fs::write(root.join("a/more"), "").unwrap()),
            ("a file less", &|root| fs::remove_file(root.join("empty")).unwrap()),
            ("mode", &|root| fs::set_permissions(root.join("empty"), fs::Permissions::from_mode(0o600)).unwrap()),
            ("type", &|root| {
                fs::remove_file(root.join("empty")).unwrap();
                fs::create_dir(root.join("empty")).unwrap();
            }),
            ("target", &|root| {
                fs::remove_file(root.join("symlink")).unwrap();
                symlink("/etc/group", root.join("symlink")).unwrap();
            }),
            ("link", &|root| {
                fs::remove_file(root.join("link")).unwrap();
                fs::copy(root.join("a/one"), root.join("link")).unwrap();
            }),
        ];
        for (what, change) in changes {
            let three = tempfile::tempdir().unwrap();
            make(three.path());
            change(three.path());
            assert_ne!(count(three.path(), false).fingerprint, count(one.path(), false).fingerprint, "{what}");
        }
    }

    #[test]
    fn contents_count_only_when_asked() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        make(one.path());
        make(two.path());
        let changed = two.path().join("a/b/two");
        fs::write(&changed, "65").unwrap();
        let file = File::options().write(true).open(&changed).unwrap();
        file.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
        assert_eq!(count(one.path(), false), count(two.path(), false));
        assert_ne!(count(one.path(), true), count(two.path(), true));
    }

    #[test]
    fn what_cannot_be_read_is_told() {
        if nix::unistd::geteuid().is_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        make(dir.path());
        fs::set_permissions(dir.path().join("a/b"), fs::Permissions::from_mode(0o000)).unwrap();
        let census = count(dir.path(), false);
        fs::set_permissions(dir.path().join("a/b"), fs::Permissions::from_mode(0o700)).unwrap();
        assert_eq!(census.unreadable, 1);
        assert!(census.examples[0].starts_with("\"/a/b\": "), "{:?}", census.examples);
        assert!(census_of_nothing().is_err());
    }

    fn census_of_nothing() -> Result<Census> {
        census(&Ask { root: PathBuf::from("/nonexistent"), owners: false, contents: false })
    }
}
