//! Writing limits into a cgroup: all of them, or none.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::path::Path;

use super::limits::Limits;
use crate::error::{Failure, Result};

/// Writes `limits` into the cgroup at `directory`. On a failure, which names
/// the file and the value, what was written before is as it was.
pub fn write(directory: &Path, limits: &Limits) -> Result<()> {
    let mut before = Vec::new();
    for (file, value) in limits.files() {
        let path = directory.join(&file);
        let earlier = fs::read_to_string(&path);
        match put(&path, &value) {
            Ok(()) => before.extend(earlier.map(|text| (path, earlier_value(&text, &value)))),
            Err(error) if error.kind() == ErrorKind::NotFound && limits.may_lack(&file) => {}
            Err(error) => {
                for (path, value) in before.iter().rev() {
                    // It was accepted before; the first failure is what is told.
                    put(path, value).ok();
                }
                return Err(explain(&file, &value, error).doing(format!("write \"{value}\" to {}", path.display())));
            }
        }
    }
    Ok(())
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
        (ErrorKind::NotFound, _) => failure.hint(match file {
            "io.weight" => "this kernel has no weights for disks (CONFIG_BLK_CGROUP_IOCOST); with the scheduler BFQ, \
                            --cgroup-conf io.bfq.weight=NUMBER"
                .to_owned(),
            "memory.swap.max" => "this kernel counts no swap: leave --memory-swap out".to_owned(),
            _ => format!("the cgroup has no file {file}: this kernel does not know it"),
        }),
        (_, Some(libc::ENODEV)) if file.starts_with("io.") => {
            failure.hint(format!("\"{value}\" names no disk whose use can be limited"))
        }
        _ => failure,
    }
}

#[cfg(test)]
mod tests {
    use super::super::limits::{Bound, Disk, IoMax};
    use super::*;

    fn limits() -> Limits {
        Limits { memory_max: Some(Bound::At(5)), pids_max: Some(Bound::MAX), ..Limits::default() }
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
