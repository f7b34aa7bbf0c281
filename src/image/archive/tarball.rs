//! A tar of documents and blobs (POSIX.1-2017, pax, "ustar Interchange
//! Format"): plain files and the directories of blobs, owned by 0:0, all of one
//! time.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use tar::EntryType::{Directory, Regular};

use super::output::{self, copy_blob};
use crate::error::{Failure, Result};
use crate::image::blobs::Blobs;
use crate::image::digest::Digest;
use crate::image::layout;
use crate::image::registry::Progress;

const BLOCK: u64 = 512;

/// The largest size that fits into eleven octal digits.
const OCTAL_SIZE_MAX: u64 = (1 << 33) - 1;

/// Writes a tar at `path`: whole, or not at all.
pub(super) fn write_file(
    blobs: &Blobs,
    documents: &[(&str, Vec<u8>)],
    contents: &[(Digest, u64)],
    path: &Path,
    modified_s: u64,
    progress: &dyn Progress,
) -> Result<()> {
    if path.is_dir() {
        return Err(Failure::user("it is a directory")
            .doing(format!("write \"{}\"", path.display()))
            .hint("--format oci-dir writes images into a directory"));
    }
    output::write_file(path, |file| write(blobs, documents, contents, file, modified_s, progress))
}

/// Writes a tar to an open file.
pub(super) fn write(
    blobs: &Blobs,
    documents: &[(&str, Vec<u8>)],
    contents: &[(Digest, u64)],
    mut out: &File,
    modified_s: u64,
    progress: &dyn Progress,
) -> Result<()> {
    for (name, bytes) in documents {
        out.write_all(header(Regular, name, bytes.len() as u64, modified_s)?.as_bytes())?;
        out.write_all(bytes)?;
        pad(out, bytes.len() as u64)?;
    }
    // containers/image changes the owner of a directory that it had to make up,
    // which an ordinary user may not.
    for name in ["blobs/", "blobs/sha256/"] {
        out.write_all(header(Directory, name, 0, modified_s)?.as_bytes())?;
    }
    for (digest, size) in contents {
        out.write_all(header(Regular, &layout::blob_path(digest), *size, modified_s)?.as_bytes())?;
        copy_blob(blobs, digest, *size, out, progress)?;
        pad(out, *size)?;
    }
    out.write_all(&[0; 2 * BLOCK as usize])?;
    Ok(())
}

fn pad(mut out: &File, size: u64) -> Result<()> {
    let rest = size.next_multiple_of(BLOCK) - size;
    out.write_all([0; BLOCK as usize].get(..rest as usize).unwrap_or_default())?;
    Ok(())
}

fn header(kind: tar::EntryType, name: &str, size: u64, modified_s: u64) -> Result<tar::Header> {
    // A larger size is binary, which is GNU's way and read by all.
    let mut header = if size > OCTAL_SIZE_MAX { tar::Header::new_gnu() } else { tar::Header::new_ustar() };
    header.set_entry_type(kind);
    header.set_path(name).map_err(|error| Failure::bug(format!("the name {name} in a tar: {error}")))?;
    header.set_size(size);
    header.set_mode(if kind == Directory { 0o755 } else { 0o644 });
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(modified_s);
    header.set_cksum();
    Ok(header)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_beyond_octal_are_read_back() {
        for size in [0, 1, OCTAL_SIZE_MAX, OCTAL_SIZE_MAX + 1, 1 << 42] {
            let header = header(Regular, "blobs/x", size, 7).unwrap();
            assert_eq!(header.entry_size().unwrap(), size);
            assert_eq!(header.mtime().unwrap(), 7);
            assert!(super::super::headers::is_header(header.as_bytes()));
        }
    }
}
