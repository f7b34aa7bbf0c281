//! From where to where files are copied: docker's rules for the two paths of
//! `cp` (docs.docker.com, "docker container cp"), the same on either side.
//!
//! A path is looked up once, and from then on is a descriptor and a single
//! name: whatever a container that runs does to its directories meanwhile, what
//! was found is what is read or written to. Below a container's root it is
//! looked up by the kernel as seen from there (rule P1); of a link in the last
//! place the target is read and looked up from the root in the same way.

use std::ffi::OsStr;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use nix::sys::stat::SFlag;
use serde::{Deserialize, Serialize};

use crate::error::{Context, Failure, Result};
use crate::image::quote::quoted_bytes;
use crate::kernel::open::{Resolve, openat2};
use crate::kernel::{Errno, file};
use crate::limits;
use crate::storage::pack::{self, Form, Options, Summary};

/// A path as typed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TypedPath {
    /// As the kernel is given it; never empty.
    path: Vec<u8>,
    /// What it would be called elsewhere; empty for the root.
    name: Vec<u8>,
    /// It ends in a slash or a dot, so it must be a directory.
    is_directory: bool,
    /// It ends in `/.`, or is the root: what is in it is meant, not itself.
    is_content: bool,
}

impl TypedPath {
    /// Reads `text`; what is relative begins at `start`, which is absolute. An
    /// empty path is the root.
    pub fn parse(text: &OsStr, start: &Path) -> Result<Self> {
        let text = text.as_bytes();
        if text.contains(&0) || text.len() >= limits::ENTRY_PATH_BYTES_MAX {
            return Err(Failure::user("the path is too long or holds a NUL byte"));
        }
        let mut path = text.to_vec();
        if !text.starts_with(b"/") {
            path = [start.as_os_str().as_bytes(), text].join(&b'/');
        }
        let last = text.rsplit(|byte| *byte == b'/').find(|part| !part.is_empty()).unwrap_or_default();
        let name = clean_name(&path);
        Ok(Self {
            is_directory: text.ends_with(b"/") || matches!(last, b"" | b"." | b".."),
            is_content: last == b"." || name.is_empty(),
            path,
            name,
        })
    }

    /// As the kernel is given it.
    pub fn bytes(&self) -> &[u8] {
        &self.path
    }

    /// The path, as text.
    pub fn quoted(&self) -> String {
        quoted_bytes(&self.path)
    }
}

/// The last name of a path, `.` and `..` taken literally.
fn clean_name(path: &[u8]) -> Vec<u8> {
    let mut names: Vec<&[u8]> = Vec::new();
    for part in path.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => drop(names.pop()),
            name => names.push(name),
        }
    }
    names.last().map(|name| name.to_vec()).unwrap_or_default()
}

/// What a path led to.
#[derive(Debug)]
pub enum Found {
    /// A directory, open with O_PATH.
    Directory(OwnedFd),
    /// Something else.
    File(Place),
    /// Nothing, in a directory that is there.
    Missing(Place),
}

/// A name in an open directory.
#[derive(Debug)]
pub struct Place {
    /// The directory, open with O_PATH.
    pub directory: OwnedFd,
    /// The name: no slash, not `.` or `..`.
    pub name: Vec<u8>,
}

/// What is told of [`Found`] to another process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A directory.
    Directory,
    /// Something else: its name in its directory.
    File(Vec<u8>),
    /// Nothing yet: the name it will have.
    Missing(Vec<u8>),
}

impl Found {
    /// The directory that was found, or that it is in.
    pub fn directory(&self) -> BorrowedFd<'_> {
        match self {
            Self::Directory(directory) => directory.as_fd(),
            Self::File(place) | Self::Missing(place) => place.directory.as_fd(),
        }
    }

    /// Without the descriptors.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Directory(_) => Kind::Directory,
            Self::File(place) => Kind::File(place.name.clone()),
            Self::Missing(place) => Kind::Missing(place.name.clone()),
        }
    }
}

/// Whether a symbolic link in the last place is what is meant, or its target.
/// Docker follows it where a path ends in a slash, `-L` is given or something
/// is copied to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LastLink {
    /// The link itself.
    Keep,
    /// What it leads to.
    Follow,
}

const DIRECTORY: i32 = libc::O_PATH | libc::O_DIRECTORY;

/// Looks `typed` up below `root` by `rule`.
pub fn find(root: BorrowedFd<'_>, rule: Resolve, typed: &TypedPath, last: LastLink) -> Result<Found> {
    look_up(root, rule, typed, last).doing(|| format!("find {}", typed.quoted()))
}

fn look_up(root: BorrowedFd<'_>, rule: Resolve, typed: &TypedPath, last: LastLink) -> Result<Found> {
    let open = |path: &[u8]| openat2(root, as_path(path), DIRECTORY, 0, rule).map_err(explain);
    let mut path = typed.path.clone();
    for _ in 0..limits::ENTRY_LINKS_MAX {
        let trimmed = path.trim_ascii_end_slashes();
        let (parent, name) = match trimmed.iter().rposition(|byte| *byte == b'/') {
            Some(slash) => trimmed.split_at(slash + 1),
            None => (&b"."[..], trimmed),
        };
        if matches!(name, b"" | b"." | b"..") {
            return Ok(Found::Directory(open(&path)?));
        }
        let directory = open(parent)?;
        let status = match file::status_at(directory.as_fd(), as_path(name)) {
            Err(error) if error.errno == Errno::ENOENT => {
                return Ok(Found::Missing(Place { directory, name: name.to_vec() }));
            }
            result => result.plainly()?,
        };
        let must_be_directory = typed.is_directory || trimmed.len() < path.len();
        match SFlag::from_bits_truncate(status.st_mode & SFlag::S_IFMT.bits()) {
            SFlag::S_IFDIR => {
                let rule = Resolve::BeneathNoLinks;
                let found = openat2(directory.as_fd(), as_path(name), DIRECTORY, 0, rule).map_err(explain)?;
                return Ok(Found::Directory(found));
            }
            SFlag::S_IFLNK if must_be_directory || last == LastLink::Follow => {
                let target = file::read_link_at(directory.as_fd(), as_path(name))?.into_vec();
                // Not cleaned: what `..` means is for the kernel to say, behind the links before it.
                path = if target.starts_with(b"/") { target } else { [parent, &target].concat() };
                if path.len() >= limits::ENTRY_PATH_BYTES_MAX {
                    return Err(Failure::user("a symbolic link leads to too long a path"));
                }
            }
            _ if must_be_directory => return Err(Failure::user("it is not a directory")),
            _ => return Ok(Found::File(Place { directory, name: name.to_vec() })),
        }
    }
    Err(Failure::user("there are too many symbolic links"))
}

fn explain(error: crate::kernel::Error) -> Failure {
    match error.errno {
        Errno::ENOENT => Failure::not_found("there is no such file or directory"),
        Errno::ENOTDIR => Failure::user("what it leads through is not a directory"),
        _ => Failure::from(error).plainly(),
    }
}

/// Slashes at the end of a path, taken off.
trait TrimSlashes {
    fn trim_ascii_end_slashes(&self) -> &[u8];
}

impl TrimSlashes for [u8] {
    fn trim_ascii_end_slashes(&self) -> &[u8] {
        let length = self.iter().rposition(|byte| *byte != b'/').map_or(0, |last| last + 1);
        self.split_at(length).0
    }
}

/// What the source goes by at the destination, seen from the directory that is
/// the destination or that it is in; empty if only its content is copied.
pub fn name_of(source: (&TypedPath, &Kind), destination: (&TypedPath, &Kind)) -> Result<Vec<u8>> {
    let ((source, from), (destination, into)) = (source, destination);
    match (from, into) {
        (Kind::Missing(_), _) => Err(Failure::not_found("there is no such file or directory")),
        (Kind::Directory, Kind::Directory) if source.is_content => Ok(Vec::new()),
        (Kind::Directory | Kind::File(_), Kind::Directory) => Ok(source.name.clone()),
        (Kind::Directory, Kind::File(_)) => Err(Failure::user("a directory cannot be copied to a file")),
        (Kind::File(_), Kind::Missing(_)) if destination.is_directory => {
            Err(Failure::not_found("the destination directory must exist"))
        }
        (_, Kind::File(name) | Kind::Missing(name)) => Ok(name.clone()),
    }
}

/// Packs what was found, by its new name. What is mounted in it belongs to it.
pub fn pack(found: &Found, name: Vec<u8>, output: impl Write) -> Result<Summary> {
    let options = Options { with_mounts: true, name, ..Options::of(Form::Tree) };
    match found {
        Found::Directory(directory) => pack::pack(&[directory.try_clone()?], &[], &options, output),
        Found::File(Place { directory, name }) | Found::Missing(Place { directory, name }) => {
            pack::pack_file(directory.as_fd(), name, &options, output)
        }
    }
}

fn as_path(bytes: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn typed(text: &str) -> TypedPath {
        TypedPath::parse(OsStr::new(text), Path::new("/work/here")).unwrap()
    }

    #[test]
    fn reads_paths() {
        let check = |text: &str, name: &str, is_directory: bool, is_content: bool| {
            let TypedPath { name: found, is_directory: directory, is_content: content, .. } = typed(text);
            assert_eq!((found, directory, content), (name.as_bytes().to_vec(), is_directory, is_content), "{text:?}");
        };
        check("a/b", "b", false, false);
        check("a/b/", "b", true, false);
        check("a/b//", "b", true, false);
        check("a/b/.", "b", true, true);
        check("a/b/./", "b", true, true);
        check(".", "here", true, true);
        check("..", "work", true, false);
        check("a/..", "here", true, false);
        check("/a/..", "", true, true);
        check("/", "", true, true);
        check("", "here", true, false);
        check("/..b", "..b", false, false);
        assert!(TypedPath::parse(OsStr::new("a\0"), Path::new("/")).is_err());
    }

    /// docs.docker.com, "docker container cp", the list of cases.
    #[test]
    fn follows_dockers_table() {
        let (directory, file) = (Kind::Directory, Kind::File(b"src".to_vec()));
        let (there, missing) = (Kind::File(b"dst".to_vec()), Kind::Missing(b"dst".to_vec()));
        let check = |source: &str, from: &Kind, destination: &str, into: &Kind, expected: Option<&str>| {
            let found = name_of((&typed(source), from), (&typed(destination), into)).ok();
            let expected = expected.map(|name| name.as_bytes().to_vec());
            assert_eq!(found, expected, "{source} {from:?} {destination} {into:?}");
        };
        check("/src", &file, "/dst", &missing, Some("dst"));
        check("/src", &file, "/dst/", &missing, None);
        check("/src", &file, "/dst", &there, Some("dst"));
        check("/src", &file, "/dst", &directory, Some("src"));
        check("/src", &file, "/dst/.", &directory, Some("src"));
        check("/src", &directory, "/dst", &missing, Some("dst"));
        check("/src", &directory, "/dst/", &missing, Some("dst"));
        check("/src/.", &directory, "/dst", &missing, Some("dst"));
        check("/src", &directory, "/dst", &there, None);
        check("/src/.", &directory, "/dst", &there, None);
        check("/src", &directory, "/dst", &directory, Some("src"));
        check("/src/", &directory, "/dst", &directory, Some("src"));
        check("/src/.", &directory, "/dst", &directory, Some(""));
        check("/", &directory, "/dst", &directory, Some(""));
        check("/src", &missing, "/dst", &directory, None);
    }

    #[test]
    fn finds_what_a_root_shows() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        std::fs::create_dir_all(root.join("usr/bin")).unwrap();
        std::fs::write(root.join("usr/bin/tool"), "").unwrap();
        std::fs::write(dir.path().join("outside"), "").unwrap();
        for (target, link) in [
            ("usr/bin", "bin"),
            ("/usr/bin/tool", "absolute"),
            ("../../../outside", "escape"),
            ("bin/../bin/tool", "parents"),
            ("usr/new", "dangling"),
            ("loop", "loop"),
        ] {
            symlink(target, root.join(link)).unwrap();
        }
        let root = crate::kernel::open::open_dir(&root).unwrap();
        let find = |text: &str, last| {
            let typed = TypedPath::parse(OsStr::new(text), Path::new("/")).unwrap();
            find(root.as_fd(), Resolve::InRoot, &typed, last).map(|found| found.kind())
        };
        let check = |text: &str, last, expected: Option<Kind>| assert_eq!(find(text, last).ok(), expected, "{text}");
        let file = |name: &str| Some(Kind::File(name.as_bytes().to_vec()));
        let missing = |name: &str| Some(Kind::Missing(name.as_bytes().to_vec()));
        check("/", LastLink::Keep, Some(Kind::Directory));
        check("../..", LastLink::Keep, Some(Kind::Directory));
        check("bin", LastLink::Keep, file("bin"));
        check("bin/", LastLink::Keep, Some(Kind::Directory));
        check("bin/.", LastLink::Keep, Some(Kind::Directory));
        check("bin", LastLink::Follow, Some(Kind::Directory));
        check("bin/tool", LastLink::Keep, file("tool"));
        check("bin/tool/", LastLink::Keep, None);
        check("bin/tool/x", LastLink::Keep, None);
        check("absolute", LastLink::Keep, file("absolute"));
        check("absolute", LastLink::Follow, file("tool"));
        check("parents", LastLink::Follow, file("tool"));
        check("escape", LastLink::Follow, missing("outside"));
        check("dangling", LastLink::Follow, missing("new"));
        check("dangling", LastLink::Keep, file("dangling"));
        check("loop", LastLink::Follow, None);
        check("none/x", LastLink::Keep, None);
        check("x", LastLink::Keep, missing("x"));
    }
}
