//! What the machine has that limits are about: processors, memory nodes, disks.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::sys::resource::{Resource, getrlimit};
use nix::sys::stat::{major, minor};

use super::sysctl;
use crate::error::{Context, Failure, Result};

/// What the machine has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Machine {
    /// Processors that are on, as the kernel lists them: `0-3,8`.
    pub processors: String,
    /// Memory nodes, in the same form.
    pub nodes: String,
    /// Processes that the caller may have at most (RLIMIT_NPROC, hard).
    pub processes_max: u64,
    /// Whether the kernel counts processes for each user namespace on its own
    /// (ucounts, Linux 5.14): before, all of a user's counted in each.
    pub counts_by_namespace: bool,
}

impl Machine {
    /// Looks it up.
    pub fn look() -> Self {
        let list = |name: &str| fs::read_to_string(format!("/sys/devices/system/{name}")).unwrap_or_default();
        let release = sysctl("kernel/osrelease").unwrap_or_default();
        Self {
            processors: list("cpu/online").trim().to_owned(),
            nodes: list("node/online").trim().to_owned(),
            processes_max: getrlimit(Resource::RLIMIT_NPROC).map_or(u64::MAX, |(_, hard)| hard),
            counts_by_namespace: is_since(&release, (5, 14)),
        }
    }
}

/// The numbers of a list such as `0-3,8`; nothing where it is none.
pub fn numbers(list: &str) -> Vec<u32> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.parse::<u32>().ok()?..=last.parse::<u32>().ok()?)
    };
    list.split(',').filter_map(range).flatten().collect()
}

/// The numbers of the disk that the device node at `path` is, or is a part of.
pub fn disk(path: &Path) -> Result<(u32, u32)> {
    let doing = || format!("find the disk \"{}\"", path.display());
    let status = fs::metadata(path).doing(doing)?;
    if !status.file_type().is_block_device() {
        return Err(Failure::user("it is no block device")).doing(doing);
    }
    let own = (number(major(status.rdev()))?, number(minor(status.rdev()))?);
    let known = PathBuf::from(format!("/sys/dev/block/{}:{}", own.0, own.1));
    if !known.join("partition").exists() {
        return Ok(own);
    }
    // A link into /sys/devices, where a partition lies in the directory of its disk.
    let around = fs::canonicalize(&known).doing(doing)?;
    let text = fs::read_to_string(around.join("../dev")).doing(doing)?;
    let numbers =
        text.trim().split_once(':').and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)));
    numbers.ok_or_else(|| Failure::host("the kernel does not say which disk it is a part of").doing(doing()))
}

/// The node below /dev of the disk of these numbers, as the kernel names it.
pub fn node(major: u32, minor: u32) -> PathBuf {
    let text = fs::read_to_string(format!("/sys/dev/block/{major}:{minor}/uevent")).unwrap_or_default();
    match text.lines().find_map(|line| line.strip_prefix("DEVNAME=")) {
        Some(name) => Path::new("/dev").join(name),
        // udev(7) has links for all.
        None => PathBuf::from(format!("/dev/block/{major}:{minor}")),
    }
}

fn number(number: u64) -> Result<u32> {
    u32::try_from(number).map_err(|_| Failure::bug("a device number of more than 32 bits"))
}

/// Whether `6.1.0-18-amd64` is Linux 5.14 or later, for (5, 14).
fn is_since(release: &str, first: (u32, u32)) -> bool {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse::<u32>().ok());
    let version = numbers.next().flatten().zip(numbers.next().flatten());
    version.is_some_and(|version| version >= first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_versions() {
        assert_eq!(numbers("0-3,8"), [0, 1, 2, 3, 8]);
        assert_eq!(numbers("5"), [5]);
        for none in ["", "a", "3-1", "-", ","] {
            assert_eq!(numbers(none), [0; 0], "{none}");
        }
        for (release, since) in [("5.14.0", true), ("6.1", true), ("5.13.19-1", false), ("5", false), ("", false)] {
            assert_eq!(is_since(release, (5, 14)), since, "{release}");
        }
    }

    #[test]
    fn what_is_no_disk_is_refused() {
        let said = |path: &str| disk(Path::new(path)).unwrap_err().to_string();
        assert!(said("/dev/null").contains("no block device"));
        assert!(said("/dev/no-such-disk").contains("find the disk \"/dev/no-such-disk\""));
    }

    #[test]
    fn this_machine_has_a_processor() {
        assert!(!numbers(&Machine::look().processors).is_empty());
    }
}
