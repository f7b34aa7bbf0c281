//! Writing limits into a cgroup: all of them, or none.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use super::limits::{Bound, Limits};
use super::{own, placement, shares};
use crate::error::{Failure, Result};

/// Writes `limits` into the new cgroup at `directory`. A failure names the file
/// and the value.
pub fn write(directory: &Path, limits: &Limits) -> Result<()> {
    put_all(directory, limits).map(drop)
}

/// Writes `limits` into the cgroup at `directory`, in which processes run: all
/// of them, or none. A limit of memory that is below what it cannot give back
/// is refused: the kernel would take it, and kill.
pub fn change(directory: &Path, limits: &Limits) -> Result<Undo> {
    if let Some(Bound::At(wanted)) = limits.memory_max
        && let Some(used) = pinned_bytes(directory).filter(|used| *used > wanted)
    {
        let cause = format!("it uses {used} bytes of memory now, more than the new limit of {wanted}");
        return Err(Failure::user(cause).hint("--memory-high makes it give back what it can, without killing it"));
    }
    put_all(directory, limits)
}

/// What files had before, oldest first.
#[derive(Debug, Default)]
pub struct Undo(Vec<(PathBuf, String)>);

impl Undo {
    /// Writes it back. It was accepted before; where it is not now, the failure
    /// that this is for is what is told.
    pub fn undo(self) {
        for (path, value) in self.0.iter().rev() {
            put(path, value).ok();
        }
    }
}

fn put_all(directory: &Path, limits: &Limits) -> Result<Undo> {
    let mut before = Undo::default();
    let files = limits.files();
    let places =
        files.iter().flat_map(|(file, value)| places(directory, file).into_iter().map(move |path| (file, value, path)));
    for (file, value, path) in places {
        let earlier = fs::read_to_string(&path);
        match put(&path, value) {
            Ok(()) => before.0.extend(earlier.map(|text| (path, earlier_value(&text, value)))),
            Err(error) if error.kind() == ErrorKind::NotFound && limits.may_lack(file) => {}
            Err(error) => {
                before.undo();
                return Err(explain(file, value, error).doing(format!("write \"{value}\" to {}", path.display())));
            }
        }
    }
    Ok(before)
}

/// Where `file` is written: in the cgroup, and what is a share among siblings
/// in the scope around it as well, which is what has siblings.
fn places(directory: &Path, file: &str) -> Vec<PathBuf> {
    let scope = directory.parent().filter(|_| shares::is_share(file) && directory.ends_with(own::CONTAINER));
    scope.into_iter().chain([directory]).map(|place| place.join(file)).collect()
}

/// Memory that the kernel cannot just drop: what no file is behind, and what
/// it holds itself for the cgroup. Without swap, all of it stays.
fn pinned_bytes(directory: &Path) -> Option<u64> {
    let stat = fs::read_to_string(directory.join("memory.stat")).ok()?;
    let swap = fs::read_to_string(directory.join("memory.swap.max")).ok();
    let has_swap = swap.is_some_and(|most| most.trim() != "0") && has_free_swap();
    let keys: &[&str] = if has_swap { &["slab_unreclaimable"] } else { &["anon", "shmem", "slab_unreclaimable"] };
    let number = |key: &&str| {
        stat.lines().find_map(|line| line.strip_prefix(*key)?.strip_prefix(' ')?.trim().parse::<u64>().ok())
    };
    Some(keys.iter().filter_map(number).fold(0, u64::saturating_add))
}

fn has_free_swap() -> bool {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    text.lines().any(|line| line.strip_prefix("SwapFree:").is_some_and(|rest| rest.trim() != "0 kB"))
}

/// Never makes a file; the kernel takes a value with a single write(2).
fn put(path: &Path, value: &str) -> std::io::Result<()> {
    // An empty list (cpuset) needs its line's end: nothing at all is not written.
    OpenOptions::new().write(true).open(path)?.write_all(format!("{value}\n").as_bytes())
}

/// What is to be written for `text`, which the file had, to be there again. Of
/// files with a line for each disk: that of the disk that `value` is for, or
/// what stands for none.
fn earlier_value(text: &str, value: &str) -> String {
    let Some((disk, rest)) = value.split_once(' ').filter(|(key, _)| key.contains(':') || *key == "default") else {
        return text.trim_end().to_owned();
    };
    let line = text.lines().find(|line| line.split_once(' ').is_some_and(|(key, _)| key == disk));
    match line {
        Some(line) => line.to_owned(),
        None if rest.contains('=') => {
            let keys = rest.split(' ').filter_map(|part| part.split_once('='));
            let parts: String = keys.map(|(key, _)| format!(" {key}=max")).collect();
            format!("{disk}{parts}")
        }
        None => format!("{disk} default"),
    }
}

fn explain(file: &str, value: &str, error: std::io::Error) -> Failure {
    let (kind, code) = (error.kind(), error.raw_os_error());
    let failure = Failure::from(error);
    match (kind, code) {
        (ErrorKind::NotFound, _) => failure.hint(placement::without(file)),
        (_, Some(libc::ENODEV)) if file.starts_with("io.") => {
            failure.hint(format!("\"{value}\" names no disk whose use can be limited"))
        }
        _ => failure,
    }
}

#[cfg(test)]
mod tests {
    use super::super::limits::{Disk, IoMax};
    use super::*;

    fn limits() -> Limits {
        Limits { memory_max: Some(Bound::At(5)), pids_max: Some(Bound::MAX), ..Limits::default() }
    }

    #[test]
    fn shares_are_of_the_scope_as_well() {
        let names = |directory: &str, file: &str| -> Vec<String> {
            places(Path::new(directory), file).iter().map(|path| path.display().to_string()).collect()
        };
        assert_eq!(
            names("/g/x.scope/container", "cpu.weight"),
            ["/g/x.scope/cpu.weight", "/g/x.scope/container/cpu.weight"]
        );
        assert_eq!(names("/g/x.scope/container", "cpu.max"), ["/g/x.scope/container/cpu.max"]);
        assert_eq!(names("/g/kelp-ab", "memory.low"), ["/g/kelp-ab/memory.low"]);
    }

    #[test]
    fn all_or_none() {
        let directory = tempfile::tempdir().unwrap();
        let (memory, pids) = (directory.path().join("memory.max"), directory.path().join("pids.max"));
        fs::write(&memory, "max\n").unwrap();
        let failure = write(directory.path(), &limits()).unwrap_err();
        assert!(failure.to_string().contains("write \"max\" to "), "{failure}");
        assert!(failure.to_string().contains("pids.max"), "{failure}");
        assert_eq!(fs::read_to_string(&memory).unwrap(), "max\n");
        assert!(!pids.exists(), "a file was made");
        fs::write(&pids, "1\n").unwrap();
        write(directory.path(), &limits()).unwrap();
        // A file that is not the kernel's keeps what the write does not cover.
        assert_eq!(fs::read_to_string(&memory).unwrap(), "5\nx\n");
    }

    #[test]
    fn less_than_what_is_in_use_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| fs::write(directory.path().join(name), text).unwrap();
        let limits = Limits { memory_max: Some(Bound::At(1000)), ..Limits::default() };
        file("memory.max", "max\n");
        file("memory.swap.max", "0\n");
        file("memory.stat", "anon 600\nfile 9000\nshmem 400\nslab_unreclaimable 1\n");
        let failure = change(directory.path(), &limits).unwrap_err();
        assert_eq!(failure.to_string(), "it uses 1001 bytes of memory now, more than the new limit of 1000");
        file("memory.stat", "anon 600\nfile 9000\nshmem 400\nslab_unreclaimable 0\n");
        let undo = change(directory.path(), &limits).unwrap();
        assert!(fs::read_to_string(directory.path().join("memory.max")).unwrap().starts_with("1000\n"));
        undo.undo();
        assert!(fs::read_to_string(directory.path().join("memory.max")).unwrap().starts_with("max\n"));
    }

    #[test]
    fn a_kernel_without_swap_is_no_failure_where_none_was_asked_for() {
        let directory = tempfile::tempdir().unwrap();
        let mut limits = Limits { swap_max: Some(Bound::At(1)), swap_is_implied: true, ..Limits::default() };
        write(directory.path(), &limits).unwrap();
        limits.swap_is_implied = false;
        assert!(write(directory.path(), &limits).unwrap_err().hints[0].contains("--memory-swap"));
    }

    #[test]
    fn earlier_values_are_those_of_the_same_disk() {
        for (text, value, earlier) in [
            ("max\n", "5", "max"),
            ("max 100000\n", "5 100000", "max 100000"),
            ("default 100\n8:0 5\n", "default 7", "default 100"),
            ("default 100\n8:0 5\n", "8:0 7", "8:0 5"),
            ("default 100\n8:0 5\n", "8:16 7", "8:16 default"),
            ("8:0 rbps=1 wbps=max riops=max wiops=max\n", "8:0 rbps=2", "8:0 rbps=1 wbps=max riops=max wiops=max"),
            ("", "8:0 rbps=2 wiops=3", "8:0 rbps=max wiops=max"),
        ] {
            assert_eq!(earlier_value(text, value), earlier, "{text:?} {value}");
        }
        let disk = Disk { major: 8, minor: 0 };
        let max = IoMax { disk, read_bytes: Some(Bound::At(2)), ..IoMax::of(disk) };
        let files = Limits { io_max: vec![max], ..Limits::default() }.files();
        assert_eq!(earlier_value("", &files[0].1), "8:0 rbps=max");
    }
}
