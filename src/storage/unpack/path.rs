//! Names of layer entries: made clean, bounded, and read for whiteouts.
//!
//! Pure. What comes out is relative to the layer's root, has no empty, `.` or
//! `..` component and no NUL. Whether a component is a symbolic link is for
//! [`super::tree`] to find out.

use thiserror::Error;

use crate::limits;

/// What prefixes the name of a deleted file (image-spec, layer.md, "Whiteouts").
const WHITEOUT: &[u8] = b".wh.";
/// What prefixes the names of AUFS's own files, which mean nothing elsewhere.
const METADATA: &[u8] = b".wh..wh.";
/// Marks its directory as opaque (image-spec, layer.md, "Opaque Whiteout").
const OPAQUE: &[u8] = b".wh..wh..opq";

/// Why a path in a layer is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(super) enum PathError {
    #[error("path is empty")]
    Empty,
    #[error("path holds a NUL byte")]
    Nul,
    #[error("path is longer than {} bytes", limits::ENTRY_PATH_BYTES_MAX)]
    TooLong,
    #[error("path is deeper than {} directories", limits::ENTRY_DEPTH_MAX)]
    TooDeep,
    #[error("path leaves the layer")]
    Leaves,
    #[error("whiteout does not name a file")]
    WhiteoutName,
    #[error("a whiteout cannot be a directory with entries")]
    WhiteoutParent,
}

/// What an entry is by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// The layer's root itself.
    Root,
    /// A file of any type.
    File,
    /// Hides the name after `.wh.` in the same directory of lower layers.
    Whiteout,
    /// Hides all that lower layers have in its directory.
    Opaque,
    /// AUFS's own bookkeeping.
    Ignored,
}

/// Writes `raw` to `clean`, as components joined by `/`; the root is empty.
/// A leading `/` is dropped and `..` taken lexically, as Docker does.
pub(super) fn clean(raw: &[u8], clean: &mut Vec<u8>) -> Result<(), PathError> {
    clean.clear();
    match raw {
        [] => return Err(PathError::Empty),
        _ if raw.len() >= limits::ENTRY_PATH_BYTES_MAX => return Err(PathError::TooLong),
        _ if raw.contains(&0) => return Err(PathError::Nul),
        _ => {}
    }
    let mut depth = 0;
    for component in raw.split(|byte| *byte == b'/') {
        match component {
            b"" | b"." => {}
            b".." if depth == 0 => return Err(PathError::Leaves),
            b".." => {
                depth -= 1;
                clean.truncate(parent(clean).len());
            }
            _ => {
                depth += 1;
                push(clean, component);
            }
        }
        if depth > limits::ENTRY_DEPTH_MAX {
            return Err(PathError::TooDeep);
        }
    }
    Ok(())
}

/// Reads a clean path for whiteouts.
pub(super) fn role(clean: &[u8]) -> Result<Role, PathError> {
    if clean.is_empty() {
        return Ok(Role::Root);
    }
    let mut components = clean.split(|byte| *byte == b'/').rev();
    let name = components.next().unwrap_or_default();
    for component in components {
        if component.starts_with(METADATA) && component != OPAQUE {
            return Ok(Role::Ignored);
        }
        if component.starts_with(WHITEOUT) {
            return Err(PathError::WhiteoutParent);
        }
    }
    match name.strip_prefix(WHITEOUT) {
        None => Ok(Role::File),
        Some(_) if name == OPAQUE => Ok(Role::Opaque),
        Some(_) if name.starts_with(METADATA) => Ok(Role::Ignored),
        Some(b"" | b"." | b"..") => Err(PathError::WhiteoutName),
        Some(_) => Ok(Role::Whiteout),
    }
}

/// The name that a whiteout hides.
pub(super) fn hidden(name: &[u8]) -> &[u8] {
    name.strip_prefix(WHITEOUT).unwrap_or(name)
}

/// All but the last component.
pub(super) fn parent(clean: &[u8]) -> &[u8] {
    match clean.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => clean.split_at(slash).0,
        None => b"",
    }
}

/// The last component.
pub(super) fn name(clean: &[u8]) -> &[u8] {
    clean.rsplit(|byte| *byte == b'/').next().unwrap_or_default()
}

/// Adds a component to a clean path.
pub(super) fn push(clean: &mut Vec<u8>, component: &[u8]) {
    if !clean.is_empty() {
        clean.push(b'/');
    }
    clean.extend_from_slice(component);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cleaned(raw: &[u8]) -> Result<Vec<u8>, PathError> {
        let mut out = Vec::new();
        clean(raw, &mut out).map(|()| out)
    }

    #[track_caller]
    fn check(raw: &str, expected: Result<&str, PathError>) {
        assert_eq!(cleaned(raw.as_bytes()), expected.map(|path| path.as_bytes().to_vec()), "{raw:?}");
    }

    #[test]
    fn cleans_paths() {
        check("etc/passwd", Ok("etc/passwd"));
        check("./etc/passwd", Ok("etc/passwd"));
        check("/etc//passwd/", Ok("etc/passwd"));
        check("a/b/../c", Ok("a/c"));
        check("a/../b", Ok("b"));
        check("a/..", Ok(""));
        check("./", Ok(""));
        check("/", Ok(""));
        check("...", Ok("..."));
        check("..a/b..", Ok("..a/b.."));
    }

    #[test]
    fn refuses_paths() {
        check("", Err(PathError::Empty));
        check("..", Err(PathError::Leaves));
        check("/..", Err(PathError::Leaves));
        check("/../etc/passwd", Err(PathError::Leaves));
        check("a/../../b", Err(PathError::Leaves));
        check("a\0b", Err(PathError::Nul));
        check(&"a".repeat(4096), Err(PathError::TooLong));
        check(&"a/".repeat(1025), Err(PathError::TooDeep));
        check(&"a/".repeat(1024), Ok("a/".repeat(1024).trim_end_matches('/')));
    }

    #[track_caller]
    fn check_role(path: &str, expected: Result<Role, PathError>) {
        assert_eq!(role(path.as_bytes()), expected, "{path:?}");
    }

    #[test]
    fn reads_whiteouts() {
        check_role("", Ok(Role::Root));
        check_role("a/b", Ok(Role::File));
        check_role("a/.wh", Ok(Role::File));
        check_role("a/.whx", Ok(Role::File));
        check_role("a/.wh.b", Ok(Role::Whiteout));
        check_role(".wh....", Ok(Role::Whiteout));
        check_role("a/.wh..wh..opq", Ok(Role::Opaque));
        check_role(".wh..wh.plnk", Ok(Role::Ignored));
        check_role(".wh..wh.plnk/12.34", Ok(Role::Ignored));
        check_role(".wh..wh.aufs", Ok(Role::Ignored));
        check_role(".wh.", Err(PathError::WhiteoutName));
        check_role(".wh..", Err(PathError::WhiteoutName));
        check_role("a/.wh...", Err(PathError::WhiteoutName));
        check_role(".wh.a/b", Err(PathError::WhiteoutParent));
        check_role(".wh..wh..opq/b", Err(PathError::WhiteoutParent));
    }

    proptest! {
        #[test]
        fn clean_paths_are_relative_and_stable(raw in proptest::collection::vec(prop_oneof![Just(b'/'), Just(b'.'), Just(b'a'), any::<u8>()], 0..64)) {
            if let Ok(path) = cleaned(&raw) {
                for component in path.split(|byte| *byte == b'/').filter(|_| !path.is_empty()) {
                    prop_assert!(!matches!(component, b"" | b"." | b".."));
                }
                prop_assert!(!path.contains(&0));
                if !path.is_empty() {
                    prop_assert_eq!(cleaned(&path), Ok(path.clone()));
                    let mut joined = parent(&path).to_vec();
                    push(&mut joined, name(&path));
                    prop_assert_eq!(joined, path);
                }
            }
        }
    }
}
