//! Id maps: which host ids a user namespace's ids stand for.
//!
//! Two namespaces are stacked (docs/processes.md): the *base* namespace maps
//! the user to 0 and the subordinate range above it; a container's own
//! namespace maps its ids onto the base's. An extent of the child must lie
//! within one extent of the parent (user_namespaces(7)), so a map onto the
//! base is always split where the base is.

use serde::{Deserialize, Serialize};

use crate::error::{Context, Result};

/// A run of ids: `inside + n` stands for `outside + n`, for n below `count`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extent {
    /// First id in the namespace.
    pub inside: u32,
    /// First id in its parent.
    pub outside: u32,
    /// How many.
    pub count: u32,
}

/// The uid and gid maps of one user namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdMap {
    /// Users, sorted by `inside`.
    pub uids: Vec<Extent>,
    /// Groups, sorted by `inside`.
    pub gids: Vec<Extent>,
}

impl IdMap {
    /// One id only: 0 inside is `uid`/`gid` outside.
    pub fn single(uid: u32, gid: u32) -> Self {
        let one = |outside| vec![Extent { inside: 0, outside, count: 1 }];
        Self { uids: one(uid), gids: one(gid) }
    }

    /// The same ids below `self` as in it.
    pub fn identity(&self) -> Self {
        let same = |extents: &[Extent]| {
            extents.iter().map(|extent| Extent { outside: extent.inside, ..*extent }).collect::<Vec<_>>()
        };
        Self { uids: same(&self.uids), gids: same(&self.gids) }
    }

    /// Whether only one user id is mapped: no other owner can exist inside.
    pub fn is_single(&self) -> bool {
        self.uids.iter().map(|extent| u64::from(extent.count)).sum::<u64>() <= 1
    }

    /// The map of a namespace with map `child` below one with this map, as
    /// seen from this one's parent. Ids that this map lacks are left out.
    pub fn compose(&self, child: &Self) -> Self {
        Self { uids: compose(&self.uids, &child.uids), gids: compose(&self.gids, &child.gids) }
    }

    /// A name for this mapping that is the same for the same extents: layers
    /// unpacked under it are kept under this name (storage/layers.rs).
    pub fn key(&self) -> String {
        let part = |extents: &[Extent]| {
            extents
                .iter()
                .map(|extent| format!("{}-{}-{}", extent.inside, extent.outside, extent.count))
                .collect::<Vec<_>>()
                .join("_")
        };
        let (uids, gids) = (part(&self.uids), part(&self.gids));
        if uids == gids { format!("b{uids}") } else { format!("u{uids}+g{gids}") }
    }

    /// The ids outside that root inside stands for; 0 where it has none.
    pub fn root(&self) -> (u32, u32) {
        let owner = |extents| outside_of(extents, 0).unwrap_or(0);
        (owner(&self.uids), owner(&self.gids))
    }

    /// The last group id that is mapped.
    pub fn last_gid(&self) -> u32 {
        let last = |extent: &Extent| extent.inside.saturating_add(extent.count.saturating_sub(1));
        self.gids.iter().map(last).max().unwrap_or(0)
    }

    /// Gives the new user namespace of `pid` this map: one write(2) a file,
    /// uids first (user_namespaces(7)).
    pub fn write_for(&self, pid: i32) -> Result<()> {
        for (name, extents) in [("uid_map", &self.uids), ("gid_map", &self.gids)] {
            let path = format!("/proc/{pid}/{name}");
            std::fs::write(&path, Self::lines(extents)).doing(|| format!("write {path}"))?;
        }
        Ok(())
    }

    /// The lines of /proc/PID/uid_map, written in one write(2).
    pub fn lines(extents: &[Extent]) -> String {
        extents.iter().map(|extent| format!("{} {} {}\n", extent.inside, extent.outside, extent.count)).collect()
    }
}

/// The id outside for `inside`, if it is mapped.
pub fn outside_of(extents: &[Extent], inside: u32) -> Option<u32> {
    let extent = extents.iter().find(|extent| inside.checked_sub(extent.inside).is_some_and(|n| n < extent.count))?;
    extent.outside.checked_add(inside - extent.inside)
}

/// A line of /proc/PID/uid_map or gid_map, as the kernel shows it to the reader.
pub fn parse_extent(line: &str) -> Option<Extent> {
    let mut fields = line.split_ascii_whitespace().map(|field| field.parse().ok());
    Some(Extent { inside: fields.next()??, outside: fields.next()??, count: fields.next()?? })
}

fn compose(parent: &[Extent], child: &[Extent]) -> Vec<Extent> {
    let mut result = Vec::new();
    for outer in child {
        for inner in parent {
            let start = outer.outside.max(inner.inside);
            let end = (u64::from(outer.outside) + u64::from(outer.count))
                .min(u64::from(inner.inside) + u64::from(inner.count));
            if u64::from(start) < end {
                result.push(Extent {
                    inside: outer.inside + (start - outer.outside),
                    outside: inner.outside + (start - inner.inside),
                    count: (end - u64::from(start)) as u32,
                });
            }
        }
    }
    result.sort_by_key(|extent| extent.inside);
    result
}
