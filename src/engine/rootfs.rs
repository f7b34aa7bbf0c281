//! `--rootfs DIR`: any directory as a container's root, under an overlay, so
//! that it stays as it is.
//!
//! `/` itself cannot be a lower layer, since it hides mounts that the kernel
//! keeps covered (CVE-2021-3732). Its top-level directories are overlaid one
//! by one instead, on a root that is made here; what the system keeps in
//! memory (/dev, /proc, /sys, /run, /tmp) is the container's own.

use std::fs;
use std::path::Path;

use super::make::Effort;
use crate::error::{Context, Failure, Result};
use crate::sandbox::spec::{Attributes, ContainerPath, HostPath, Mount, Overlay, Root, Source, Step};

/// Made afresh for each container.
const OWN: [&str; 3] = ["dev", "proc", "sys"];
/// Empty and in memory for each container.
const MEMORY: [(&str, u32); 2] = [("run", 0o755), ("tmp", 0o1777)];

/// The root of a container at `container` that shows `directory`, and the
/// mounts that belong to it.
pub(super) fn of_directory(
    directory: &Path,
    container: &Path,
    volatile: bool,
    read_only: bool,
    effort: Effort,
) -> Result<(Root, Vec<Step>)> {
    let doing = || format!("use \"{}\" as root file system", directory.display());
    let directory = fs::canonicalize(directory).doing(doing)?;
    if !directory.is_dir() {
        return Err(Failure::user("it is not a directory").doing(doing()));
    }
    let root = |lowers| Root {
        lowers,
        upper: HostPath(container.join("upper")),
        work: HostPath(container.join("work")),
        volatile,
        read_only,
    };
    if directory == Path::new("/") {
        let steps = overlay_top_level(container, volatile, read_only, effort).doing(doing)?;
        return Ok((root(Vec::new()), steps));
    }
    Ok((root(vec![HostPath(directory)]), Vec::new()))
}

fn overlay_top_level(container: &Path, volatile: bool, read_only: bool, effort: Effort) -> Result<Vec<Step>> {
    let make = |directory: &Path| match effort {
        Effort::Make => fs::create_dir_all(directory),
        Effort::Name => Ok(()),
    };
    let mut steps = Vec::new();
    let changes = container.join("changes");
    for entry in fs::read_dir("/")?.flatten() {
        let name = entry.file_name();
        let (lower, shown) = (entry.path(), container.join("upper").join(&name));
        let target = ContainerPath::new(&lower);
        let kind = entry.file_type()?;
        if kind.is_symlink() {
            let path = target;
            let target = fs::read_link(&lower)?.to_string_lossy().into_owned();
            steps.push(Step::Symlink { path, target });
        } else if kind.is_dir() {
            let memory = MEMORY.iter().find(|(own, _)| name == *own);
            make(&shown)?;
            if let Some((_, mode)) = memory {
                let source = Source::Tmpfs { size_bytes: None, mode: *mode, owner: None };
                steps.push(Step::Mount(Mount { target, source, attributes: Attributes::default() }));
            } else if !OWN.iter().any(|own| name == *own) && fs::read_dir(&lower).is_ok() {
                let (upper, work) = (changes.join(&name).join("upper"), changes.join(&name).join("work"));
                make(&upper)?;
                make(&work)?;
                let (lower, upper, work) = (HostPath(lower), HostPath(upper), HostPath(work));
                let source = Source::Overlay(Overlay { lower, upper, work, volatile });
                let attributes = Attributes { read_only, ..Attributes::default() };
                steps.push(Step::Mount(Mount { target, source, attributes }));
            }
        }
    }
    Ok(steps)
}
