//! The image `hello`, inside the binary: its one program is this executable.
//!
//! It is put into the store as an ordinary image, so that `images`, `run` and
//! `save` need no special case. Which image in the store is ours is remembered
//! in a file of kelp's own beside the store, never read from the image itself:
//! the program is told about the host (host_view.rs), and no other image may
//! get at that by claiming to be it (rule P4).
//!
//! A user's own image called `hello` wins over this one.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;

use serde::{Deserialize, Serialize};

use crate::error::{Context, Failure, Kind, Result};
use crate::image::blobs::Blobs;
use crate::image::compression::Compression;
use crate::image::config::{History, ImageConfig, RootFs, RunConfig};
use crate::image::descriptor::{Descriptor, OCI_CONFIG, OCI_MANIFEST};
use crate::image::digest::Digest;
use crate::image::garbage;
use crate::image::lookup;
use crate::image::manifest::Manifest;
use crate::image::platform::Platform;
use crate::image::reference::Reference;
use crate::image::tags::{self, Tag};
use crate::limits;
use crate::paths::Paths;

/// Its name in the store.
const NAME: &str = "localhost/hello:latest";
/// Its program, which is also what tells this executable to give the tour.
const PROGRAM: &str = "/hello";
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const RECORD_VERSION: u32 = 1;

/// Directories with their modes, and files, in the order of their names. Time
/// and owner of all is 0, so that one executable always makes the same image.
const ENTRIES: [(&str, u32, Content); 12] = [
    ("./", 0o755, Content::Directory),
    ("dev/", 0o755, Content::Directory),
    ("etc/", 0o755, Content::Directory),
    ("etc/group", 0o644, Content::Text("root:x:0:\ntty:x:5:\nnogroup:x:65534:\n")),
    (
        "etc/passwd",
        0o644,
        Content::Text("root:x:0:0:root:/root:/hello\nnobody:x:65534:65534:nobody:/nonexistent:/hello\n"),
    ),
    ("hello", 0o755, Content::Executable),
    ("home/", 0o755, Content::Directory),
    ("proc/", 0o555, Content::Directory),
    ("root/", 0o700, Content::Directory),
    ("run/", 0o755, Content::Directory),
    ("sys/", 0o555, Content::Directory),
    ("tmp/", 0o1777, Content::Directory),
];

#[derive(Clone, Copy)]
enum Content {
    Directory,
    Text(&'static str),
    Executable,
}

/// Which file an image was made from. Kept instead of its digest, which would
/// cost each start the reading of the whole file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Build {
    kelp: String,
    device: u64,
    inode: u64,
    size: u64,
    modified_s: i64,
    modified_ns: i64,
}

/// What is remembered in `embedded.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    version: u32,
    /// What `image` was made from.
    build: Build,
    /// The image's id.
    image: Digest,
    /// The id that `image` takes the name from: a kill between record and tag
    /// must not make a stranger of the old one.
    before: Option<Digest>,
}

impl Record {
    fn is_ours(&self, id: &Digest) -> bool {
        self.image == *id || self.before == Some(*id)
    }
}

/// Whether `text` names it.
pub fn is_meant(text: &str) -> bool {
    matches!(text, "hello" | "hello:latest" | "localhost/hello" | NAME)
}

/// Puts it into the store where it is missing or was made by another kelp.
/// Whatever else goes by the name `text` is left alone.
pub fn store(paths: &Paths, text: &str) -> Result<()> {
    let record = load(paths);
    let before = match lookup::find_tag(paths, text) {
        Err(failure) if failure.kind == Kind::NotFound => None,
        Err(failure) => return Err(failure),
        Ok(tag) => match &record {
            Some(record) if record.is_ours(&tag.config) => {
                if record.image == tag.config && record.build == Build::of_this()? {
                    return Ok(());
                }
                Some(tag.config)
            }
            _ => return Ok(()),
        },
    };
    make(paths, before).doing(|| "make image \"hello\"")
}

/// Whether the image `id` is it. The cheap look first: the record is read only for
/// images that could be it.
pub fn is_embedded(paths: &Paths, id: &Digest, config: &ImageConfig) -> bool {
    config.config.entrypoint == [PROGRAM] && load(paths).is_some_and(|record| record.is_ours(id))
}

impl Build {
    fn of_this() -> Result<Self> {
        let status = fs::metadata("/proc/self/exe").doing(|| "look at kelp's own executable")?;
        Ok(Self {
            kelp: env!("CARGO_PKG_VERSION").to_owned(),
            device: status.dev(),
            inode: status.ino(),
            size: status.size(),
            modified_s: status.mtime(),
            modified_ns: status.mtime_nsec(),
        })
    }
}

fn make(paths: &Paths, before: Option<Digest>) -> Result<()> {
    // Held until the tag is set: a collection must not take the blobs away before that.
    let _guard = garbage::hold(paths)?;
    let build = Build::of_this()?;
    let executable = File::open("/proc/self/exe").doing(|| "open kelp's own executable")?;
    let blobs = Blobs::open(paths)?;
    let mut writer = blobs.writer(None, None)?;
    write_layer(&mut writer, &executable, build.size)?;
    // Not compressed: it is unpacked at once and read once.
    let (diff_id, size) = writer.finish()?;
    let layer = Descriptor::new(Compression::None.layer_media_type(), diff_id, size);
    let config = config(diff_id).to_bytes()?;
    let manifest = Manifest::new(Descriptor::of(OCI_CONFIG, &config), vec![layer]).to_bytes()?;
    let image = blobs.put(&config)?;
    blobs.put(&manifest)?;
    // The record first: an image with the name but without a record would be the user's.
    save(paths, &Record { version: RECORD_VERSION, build, image, before })?;
    let tag = Tag::new(Some(Reference::parse(NAME)?), Descriptor::of(OCI_MANIFEST, &manifest), image);
    tags::set(paths, &tag)?;
    // Nobody wants an older kelp's back: it may go with the next collection.
    if let Some(old) = before.filter(|old| *old != image) {
        tags::remove_untagged(paths, &old)?;
    }
    Ok(())
}

fn config(diff_id: Digest) -> ImageConfig {
    let Platform { os, architecture, variant } = Platform::host();
    let comment = Some(concat!("kelp ", env!("CARGO_PKG_VERSION"), "'s own executable").to_owned());
    ImageConfig {
        os,
        architecture,
        variant,
        config: RunConfig {
            entrypoint: vec![PROGRAM.to_owned()],
            env: vec![PATH.to_owned()],
            working_dir: "/".to_owned(),
            ..RunConfig::default()
        },
        rootfs: RootFs { kind: "layers".to_owned(), diff_ids: vec![diff_id] },
        history: vec![History { comment, ..History::default() }],
        ..ImageConfig::default()
    }
}

fn write_layer(to: impl Write, executable: impl Read, size: u64) -> io::Result<()> {
    let mut tar = tar::Builder::new(to);
    let mut executable = executable.take(size);
    for (name, mode, content) in ENTRIES {
        let mut header = tar::Header::new_ustar();
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        match content {
            Content::Directory => {
                header.set_entry_type(tar::EntryType::Directory);
                header.set_size(0);
                tar.append_data(&mut header, name, io::empty())?;
            }
            Content::Text(text) => {
                header.set_size(text.len() as u64);
                tar.append_data(&mut header, name, text.as_bytes())?;
            }
            Content::Executable => {
                header.set_size(size);
                tar.append_data(&mut header, name, &mut executable)?;
            }
        }
    }
    tar.into_inner()?.flush()
}

/// The record; none where it is missing or not to be understood, which costs
/// no more than making the image again.
fn load(paths: &Paths) -> Option<Record> {
    let bytes = limits::read_file(&paths.embedded_record(), limits::TAG_BYTES_MAX).ok()?;
    serde_json::from_slice(&bytes).ok().filter(|record: &Record| record.version == RECORD_VERSION)
}

fn save(paths: &Paths, record: &Record) -> Result<()> {
    let path = paths.embedded_record();
    let new = path.with_extension(format!("new.{}", std::process::id()));
    let bytes = serde_json::to_vec(record).map_err(|error| Failure::bug(error.to_string()))?;
    fs::write(&new, bytes).and_then(|()| fs::rename(&new, &path)).doing(|| format!("write \"{}\"", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths() -> (tempfile::TempDir, Paths) {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::new(dir.path().join("data"), dir.path().join("run"));
        (dir, paths)
    }

    fn id(paths: &Paths) -> Digest {
        lookup::find_tag(paths, "hello").unwrap().config
    }

    #[test]
    fn the_layer_is_the_same_each_time_and_in_order() {
        let layer = || {
            let mut bytes = Vec::new();
            write_layer(&mut bytes, &b"program"[..], 7).unwrap();
            bytes
        };
        let bytes = layer();
        assert_eq!(bytes, layer());
        let mut archive = tar::Archive::new(&*bytes);
        let names: Vec<_> = archive.entries().unwrap().map(|e| e.unwrap().path().unwrap().into_owned()).collect();
        assert!(names.is_sorted(), "{names:?}");
        assert_eq!(names.len(), ENTRIES.len());
    }

    #[test]
    fn is_stored_once_and_again_when_kelp_changed() {
        let (_dir, paths) = paths();
        store(&paths, "hello").unwrap();
        let first = id(&paths);
        let image = lookup::find(&paths, "localhost/hello").unwrap();
        assert_eq!(image.config.config.entrypoint, [PROGRAM]);
        let modified = || fs::metadata(paths.embedded_record()).unwrap().modified().unwrap();
        let stored = modified();
        store(&paths, "hello").unwrap();
        assert_eq!(modified(), stored);
        let mut record = load(&paths).unwrap();
        record.build.modified_s -= 1;
        save(&paths, &record).unwrap();
        store(&paths, "hello").unwrap();
        // The executable did not change, so neither does the image.
        assert_eq!(id(&paths), first);
        assert_eq!(load(&paths).unwrap().build, Build::of_this().unwrap());
    }

    #[test]
    fn a_users_own_image_wins() {
        let (_dir, paths) = paths();
        let blobs = Blobs::open(&paths).unwrap();
        let config = ImageConfig {
            config: RunConfig { entrypoint: vec![PROGRAM.to_owned()], ..RunConfig::default() },
            ..config(Digest::of(b""))
        };
        let config = config.to_bytes().unwrap();
        let manifest = Manifest::new(Descriptor::of(OCI_CONFIG, &config), Vec::new()).to_bytes().unwrap();
        blobs.put(&config).unwrap();
        let tag = Tag::new(
            Some(Reference::parse(NAME).unwrap()),
            Descriptor::of(OCI_MANIFEST, &manifest),
            Digest::of(&config),
        );
        tags::set(&paths, &tag).unwrap();
        store(&paths, "hello").unwrap();
        assert_eq!(id(&paths), Digest::of(&config));
        assert_eq!(load(&paths), None);
    }
}
