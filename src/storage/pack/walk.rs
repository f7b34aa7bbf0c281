//! The walk: two stacks side by side, what differs told to a [`Sink`].
//!
//! A directory that both stacks have from the same layers is not entered: all
//! below it is the same. So the walk costs what was changed, not what is there.
//!
//! Names come in the order of their bytes, a directory before what is in it,
//! deletions before their siblings (image spec, layer.md, "Whiteouts"). A
//! directory that did not change itself is told of when something in it did.
//!
//! However deep the tree, few directories are open at once: those further up
//! are closed and opened again by their path, which must lead to the same
//! directory or else has been moved away meanwhile.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::os::fd::{AsFd, OwnedFd};
use std::vec::IntoIter;

use nix::sys::stat::{FileStat, SFlag};

use super::attributes::{self, Attributes};
use super::compare::{Place, Rules};
use super::stack::{self, Dir, Id, Name};
use crate::error::{Context, Failure, Result};
use crate::image::quote::quoted_bytes;
use crate::kernel::file;
use crate::kernel::open::Resolve;
use crate::limits;
use crate::storage::kernel_tree;

/// Levels whose directories are open at once.
const OPEN_LEVELS_MAX: usize = 8;

/// How something differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Difference {
    /// There was nothing.
    Added,
    /// There was something else.
    Modified,
    /// A directory as it was, with changes in it.
    Within,
}

/// A directory as it is told of.
pub(super) struct Directory<'a> {
    /// Empty for the root.
    pub(super) path: &'a [u8],
    pub(super) difference: Difference,
    pub(super) status: &'a FileStat,
    pub(super) attributes: &'a Attributes,
}

/// A file of any other type.
pub(super) struct Found<'a> {
    pub(super) path: &'a [u8],
    pub(super) difference: Difference,
    pub(super) place: Place<'a>,
    /// As it was when its name was looked at.
    pub(super) status: &'a FileStat,
}

/// Who is told.
pub(super) trait Sink {
    /// A directory; what is in it follows.
    fn directory(&mut self, directory: &Directory<'_>) -> Result<()>;
    /// Whether there can be such a file at all.
    fn takes(&mut self, status: &FileStat) -> bool;
    /// Another file. Returns whether it stayed as it was while it was read.
    fn file(&mut self, found: &Found<'_>) -> Result<bool>;
    /// There is something that the kernel does not let us read.
    fn unread(&mut self);
    /// Names that the directory `parent` has no more; all that it had, if
    /// `is_opaque`.
    fn deleted(&mut self, parent: &[u8], names: &[&[u8]], is_opaque: bool) -> Result<()>;
}

/// One walk.
pub(super) struct Walk {
    /// What is not looked at where nothing but the topmost layer has it.
    pub(super) passed_over: BTreeSet<Vec<u8>>,
    /// The same on the old side.
    pub(super) passed_over_before: BTreeSet<Vec<u8>>,
    pub(super) compare: Rules,
    /// How far names may lead.
    pub(super) rule: Resolve,
}

/// A directory on the way to where the walk is.
struct Level {
    path: Vec<u8>,
    new: Side,
    old: Side,
    status: FileStat,
    attributes: Attributes,
    /// How it differs by itself; `None` if it does not.
    difference: Option<Difference>,
    /// Nothing but its time differs.
    is_touched: bool,
    is_told: Cell<bool>,
    /// Only the topmost layer has it.
    is_top: bool,
    /// Something in it was passed over.
    has_passed_over: bool,
    left: IntoIter<Pair>,
}

/// A merged directory.
enum Side {
    Open(Vec<Dir>),
    /// By the layers it is in, to be opened again.
    Closed(Vec<(u16, Id)>),
}

/// A name that shows on the new side.
struct Pair {
    name: Vec<u8>,
    new: Name,
    old: Option<Name>,
}

struct State<'a, S> {
    walk: &'a Walk,
    sink: &'a mut S,
    /// From the root, whose directories stay open, to where the walk is.
    levels: Vec<Level>,
    gone: u64,
}

impl Walk {
    /// Compares the stacks `new` and `old`, topmost first; returns how much
    /// changed under it.
    pub(super) fn run(&self, new: &[OwnedFd], old: &[OwnedFd], sink: &mut impl Sink) -> Result<u64> {
        let mut state = State { walk: self, sink, levels: Vec::new(), gone: 0 };
        let (new, old) = (stack::open_roots(new, self.rule)?, stack::open_roots(old, self.rule)?);
        state.begin(Vec::new(), new, old, false)?;
        while let Some(level) = state.levels.last_mut() {
            let Some(pair) = level.left.next() else {
                state.leave()?;
                continue;
            };
            let path = join(&level.path, &pair.name);
            state.step(&pair, &path).doing(|| format!("pack {}", quoted_bytes(&path)))?;
        }
        Ok(state.gone)
    }
}

impl<S: Sink> State<'_, S> {
    /// One name of the current directory.
    fn step(&mut self, pair: &Pair, path: &[u8]) -> Result<()> {
        if path.len() >= limits::ENTRY_PATH_BYTES_MAX {
            return Err(Failure::user(format!("its path is longer than {} bytes", limits::ENTRY_PATH_BYTES_MAX)));
        }
        if !self.reopen()? {
            return Ok(());
        }
        if let Some(level) = self.levels.last_mut()
            && self.walk.passed_over.contains(path)
            && is_of_top(level.new.dirs(), &pair.new)
        {
            level.has_passed_over = true;
            return Ok(());
        }
        let result = if pair.new.is_directory { self.enter(pair, path) } else { self.file(pair, path) };
        match result {
            Err(failure) if self.is_refused_by_kernel(&failure)? => {
                self.sink.unread();
                Ok(())
            }
            result => result,
        }
    }

    /// Whether a failure is a thing of the kernel's own file systems, where a
    /// process may be gone or not ours to look into.
    fn is_refused_by_kernel(&self, failure: &Failure) -> Result<bool> {
        const CAUSES: [i32; 6] = [libc::EACCES, libc::EPERM, libc::ESRCH, libc::ENOENT, libc::EINVAL, libc::EIO];
        let directory = self.levels.last().and_then(|level| level.new.dirs().first());
        match directory {
            Some(directory) if CAUSES.iter().any(|cause| failure.is_errno(*cause)) => {
                kernel_tree::is_one(directory.fd.as_fd())
            }
            _ => Ok(false),
        }
    }

    fn enter(&mut self, pair: &Pair, path: &[u8]) -> Result<()> {
        let Some(level) = self.levels.last() else { return Ok(()) };
        let (above, before) = (level.new.dirs(), level.old.dirs());
        let old = pair.old.as_ref().filter(|old| old.is_directory);
        if old.is_some_and(|old| ids(above, &pair.new).eq(ids(before, old))) {
            return Ok(());
        }
        let Some(new) = stack::enter(above, &pair.name, &pair.new.sources)? else {
            self.gone += 1;
            return Ok(());
        };
        let old = match old {
            Some(old) => stack::enter(before, &pair.name, &old.sources)?.unwrap_or_default(),
            None => Vec::new(),
        };
        if self.levels.len() > limits::ENTRY_DEPTH_MAX {
            return Err(Failure::user(format!("it is deeper than {} directories", limits::ENTRY_DEPTH_MAX)));
        }
        let replaces = pair.old.is_some() && old.is_empty();
        self.begin(path.to_vec(), new, old, replaces)
    }

    /// Enters a directory; `replaces` something else than a directory.
    fn begin(&mut self, path: Vec<u8>, new: Vec<Dir>, old: Vec<Dir>, replaces: bool) -> Result<()> {
        let Some(top) = new.first() else { return Err(Failure::bug("a directory without a layer")) };
        let status = file::status(top.fd.as_fd())?;
        let attributes = attributes::read(top.fd.as_fd(), &mut 0)?;
        let mut difference = Some(if replaces { Difference::Modified } else { Difference::Added });
        let mut is_touched = false;
        if let Some(top) = old.first() {
            let before = file::status(top.fd.as_fd())?;
            let key = |status: &FileStat| (status.st_mode, status.st_uid, status.st_gid);
            let is_same = key(&status) == key(&before) && attributes == attributes::read(top.fd.as_fd(), &mut 0)?;
            difference = (!is_same).then_some(Difference::Modified);
            let rules = &self.walk.compare;
            is_touched = is_same && rules.modified_s(&status) != rules.modified_s(&before);
        }
        let names = stack::merge(&new, &mut self.gone)?;
        let mut before = stack::merge(&old, &mut self.gone)?;
        let all = before.len();
        before.retain(|name, sources| {
            !self.walk.passed_over_before.contains(&join(&path, name)) || !is_of_top(&old, sources)
        });
        let has_passed_over = before.len() < all;
        let left: Vec<Pair> = names
            .into_iter()
            .map(|(name, new)| {
                let old = before.remove(&name);
                Pair { name, new, old }
            })
            .collect();
        // What is left of the old names is gone.
        let deleted: Vec<&[u8]> = before.keys().map(Vec::as_slice).collect();
        let is_opaque = top.is_opaque && left.iter().all(|pair| pair.old.is_none());
        let is_top = new.iter().all(Dir::is_top);
        let (new, old) = (Side::Open(new), Side::Open(old));
        let (left, is_told) = (left.into_iter(), Cell::new(false));
        let level = Level {
            path,
            new,
            old,
            status,
            attributes,
            difference,
            is_touched,
            is_told,
            is_top,
            has_passed_over,
            left,
        };
        self.levels.push(level);
        self.close_far_ones();
        if deleted.is_empty() { Ok(()) } else { self.tell_deleted(&deleted, is_opaque) }
    }

    fn file(&mut self, pair: &Pair, path: &[u8]) -> Result<()> {
        let Some(level) = self.levels.last() else { return Ok(()) };
        let old = pair.old.as_ref().filter(|old| !old.is_directory);
        if old.is_some_and(|old| ids(level.new.dirs(), &pair.new).eq(ids(level.old.dirs(), old))) {
            return Ok(());
        }
        let place = place(level.new.dirs(), &pair.new, &pair.name)?;
        let found = stack::status(place.dir, place.name)?;
        let Some(status) = found.filter(|status| !stack::is(status, SFlag::S_IFDIR)) else {
            self.gone += 1;
            return Ok(());
        };
        if let Some(old) = old {
            let before = self::place(level.old.dirs(), old, &pair.name)?;
            if let Some(status_before) = stack::status(before.dir, before.name)?
                && self.walk.compare.is_same((place, &status), (before, &status_before))?
            {
                return Ok(());
            }
        }
        if !self.sink.takes(&status) {
            return if pair.old.is_some() { self.tell_deleted(&[&pair.name], false) } else { Ok(()) };
        }
        let difference = if pair.old.is_some() { Difference::Modified } else { Difference::Added };
        tell(&self.levels, self.sink)?;
        let is_steady = self.sink.file(&Found { path, difference, place, status: &status })?;
        self.gone += u64::from(!is_steady);
        Ok(())
    }

    fn tell_deleted(&mut self, names: &[&[u8]], is_opaque: bool) -> Result<()> {
        tell(&self.levels, self.sink)?;
        let parent = self.levels.last().map_or(&[][..], |level| &level.path);
        self.sink.deleted(parent, names, is_opaque)
    }

    /// Leaves the current directory. If nothing in it was told of, it is told
    /// of now, or not at all.
    fn leave(&mut self) -> Result<()> {
        let is_root = self.levels.len() == 1;
        let Some(level) = self.levels.last().filter(|level| !level.is_told.get()) else {
            self.levels.pop();
            return Ok(());
        };
        let (is_told, made_for_others) = match level.difference {
            // It was made on the way to what was passed over.
            Some(Difference::Added) if level.has_passed_over && level.is_top && !is_root => (false, true),
            Some(_) => (true, false),
            // The time of the root is that of the container's making.
            None => (level.is_touched && !level.has_passed_over && !is_root, false),
        };
        if is_told {
            tell(&self.levels, self.sink)?;
        }
        self.levels.pop();
        if let Some(above) = self.levels.last_mut() {
            above.has_passed_over |= made_for_others;
        }
        Ok(())
    }

    /// Closes the directories that are furthest up, but for the root's.
    fn close_far_ones(&mut self) {
        let Some(far) = self.levels.len().checked_sub(OPEN_LEVELS_MAX + 1).filter(|far| *far > 0) else { return };
        if let Some(level) = self.levels.get_mut(far) {
            level.new.close();
            level.old.close();
        }
    }

    /// Opens the current directory again if it was closed. If it is not where
    /// it was, what is left of it is given up: `false`.
    fn reopen(&mut self) -> Result<bool> {
        let [root, .., level] = self.levels.as_mut_slice() else { return Ok(true) };
        if level.new.open(&root.new, &level.path)? && level.old.open(&root.old, &level.path)? {
            return Ok(true);
        }
        level.left = Vec::new().into_iter();
        self.gone += 1;
        Ok(false)
    }
}

impl Side {
    /// The directories, topmost first; none while it is closed.
    fn dirs(&self) -> &[Dir] {
        match self {
            Self::Open(dirs) => dirs,
            Self::Closed(_) => &[],
        }
    }

    fn close(&mut self) {
        if let Self::Open(dirs) = self {
            *self = Self::Closed(dirs.iter().map(|dir| (dir.layer, dir.id)).collect());
        }
    }

    fn open(&mut self, root: &Self, path: &[u8]) -> Result<bool> {
        if let Self::Closed(places) = self {
            let Some(dirs) = stack::open_again(root.dirs(), places, path)? else { return Ok(false) };
            *self = Self::Open(dirs);
        }
        Ok(true)
    }
}

/// Tells of all directories on the way that were not told of yet.
fn tell(levels: &[Level], sink: &mut impl Sink) -> Result<()> {
    for level in levels.iter().filter(|level| !level.is_told.replace(true)) {
        let alone = if level.is_touched { Difference::Modified } else { Difference::Within };
        let difference = level.difference.unwrap_or(alone);
        let Level { path, status, attributes, .. } = level;
        sink.directory(&Directory { path, difference, status, attributes })?;
    }
    Ok(())
}

/// Which directories have a name: what it stands for is the same where they
/// are the same.
fn ids<'a>(dirs: &'a [Dir], name: &'a Name) -> impl Iterator<Item = Option<Id>> + 'a {
    name.sources.iter().map(|source| dirs.get(usize::from(*source)).map(|dir| dir.id))
}

/// Whether nothing but the topmost layer has a name.
fn is_of_top(dirs: &[Dir], name: &Name) -> bool {
    name.sources.iter().all(|source| dirs.get(usize::from(*source)).is_some_and(Dir::is_top))
}

fn place<'a>(dirs: &'a [Dir], of: &Name, name: &'a [u8]) -> Result<Place<'a>> {
    let dir = of.sources.first().and_then(|source| dirs.get(usize::from(*source)));
    let dir = dir.ok_or_else(|| Failure::bug("a name that no layer has"))?;
    Ok(Place { dir: dir.fd.as_fd(), name, rule: dir.rule })
}

fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    if directory.is_empty() { name.to_vec() } else { [directory, name].join(&b'/') }
}
