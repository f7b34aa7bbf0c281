//! Lists: indexes that a user makes of images for several platforms. A record
//! under a name, replaced by rename; the index itself is a blob.
//!
//! Names of lists and of images do not meet: a list is no image that runs. The
//! images of a list are needed by it (image/garbage.rs), as far as they are
//! here; those that are not are known by where they were seen.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::blobs::{self, Blobs};
use super::descriptor::{Descriptor, OCI_INDEX, null_is_default};
use super::digest::Digest;
use super::platform::Platform;
use super::reference::Reference;
use super::tags::{self, rfc3339};
use crate::error::{Context, Failure, Result};
use crate::limits;
use crate::paths::{self, Paths};

/// The version of [`List`] on disk.
const VERSION: u32 = 1;

/// A list under its name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct List {
    version: u32,
    /// The name.
    pub reference: Reference,
    /// The index.
    pub index: Descriptor,
    /// Where images were found that came from a registry, by manifest.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sources: BTreeMap<Digest, Reference>,
    /// When it was last changed.
    #[serde(with = "rfc3339")]
    pub changed: jiff::Timestamp,
}

/// The index of a list (image spec, image-index.md).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Contents {
    schema_version: u32,
    media_type: String,
    /// The images.
    pub manifests: Vec<Entry>,
    /// Remarks about all of it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// One image of a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// What kind of manifest it is.
    pub media_type: String,
    /// The manifest.
    pub digest: Digest,
    /// The manifest's length in bytes.
    pub size: u64,
    /// What the image runs on.
    pub platform: EntryPlatform,
    /// Remarks.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "null_is_default")]
    pub annotations: BTreeMap<String, String>,
}

/// A platform with all that the specification has for it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntryPlatform {
    /// `amd64`, `arm64`, `arm`, ...
    #[serde(default)]
    pub architecture: String,
    /// `linux`.
    #[serde(default)]
    pub os: String,
    /// The version of the operating system that is needed.
    #[serde(rename = "os.version", default, skip_serializing_if = "Option::is_none")]
    pub os_version: Option<String>,
    /// What the operating system has to offer.
    #[serde(
        rename = "os.features",
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "null_is_default"
    )]
    pub os_features: Vec<String>,
    /// `v7`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// What the processor has to offer (docker's; OCI reserves it).
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub features: Vec<String>,
}

impl From<Platform> for EntryPlatform {
    fn from(platform: Platform) -> Self {
        let Platform { os, architecture, variant } = platform;
        Self { os, architecture, variant, ..Self::default() }
    }
}

impl Entry {
    /// An entry for a manifest.
    pub fn new(manifest: &Descriptor, platform: Platform) -> Self {
        Self {
            media_type: manifest.media_type.clone(),
            digest: manifest.digest,
            size: manifest.size,
            platform: platform.into(),
            annotations: BTreeMap::new(),
        }
    }

    /// The manifest's descriptor.
    pub fn descriptor(&self) -> Descriptor {
        Descriptor::new(&*self.media_type, self.digest, self.size)
    }
}

impl Default for Contents {
    fn default() -> Self {
        let media_type = OCI_INDEX.to_owned();
        Self { schema_version: 2, media_type, manifests: Vec::new(), annotations: BTreeMap::new() }
    }
}

impl Contents {
    /// Adds an image, in place of one that is the same.
    pub fn insert(&mut self, entry: Entry) {
        match self.manifests.iter_mut().find(|other| other.digest == entry.digest) {
            Some(same) => *same = entry,
            None => self.manifests.push(entry),
        }
    }
}

impl List {
    /// A list of nothing, not kept yet.
    pub fn new(reference: Reference) -> Self {
        let index = Descriptor::of(OCI_INDEX, b"");
        Self { version: VERSION, reference, index, sources: BTreeMap::new(), changed: jiff::Timestamp::now() }
    }

    /// Whether it was never kept.
    pub fn is_new(&self) -> bool {
        self.index.size == 0
    }

    /// The index as it is stored.
    pub fn bytes(&self, blobs: &Blobs) -> Result<Vec<u8>> {
        blobs.read_verified(&self.index.digest, limits::MANIFEST_BYTES_MAX)
    }

    /// What is in it.
    pub fn contents(&self, blobs: &Blobs) -> Result<Contents> {
        let invalid = |error| Failure::host(format!("its index is not valid: {error}"));
        serde_json::from_slice(&self.bytes(blobs)?).map_err(invalid)
    }

    /// Keeps the list with these contents. The caller keeps collections away
    /// ([`super::garbage::hold`]).
    pub fn keep(mut self, paths: &Paths, contents: &Contents) -> Result<Self> {
        let bytes = serde_json::to_vec(contents).map_err(|error| Failure::bug(format!("serialise index: {error}")))?;
        if bytes.len() as u64 > limits::MANIFEST_BYTES_MAX {
            let max = limits::MANIFEST_BYTES_MAX;
            return Err(Failure::user(format!("the list becomes larger than {max} bytes, which no registry takes")));
        }
        Blobs::open(paths)?.put(&bytes)?;
        self.index = Descriptor::of(OCI_INDEX, &bytes);
        self.sources.retain(|digest, _| contents.manifests.iter().any(|entry| entry.digest == *digest));
        self.changed = jiff::Timestamp::now();
        paths::make_private(&paths.lists())?;
        let record = serde_json::to_vec(&self).map_err(|error| Failure::bug(format!("serialise list: {error}")))?;
        blobs::replace(&paths.staging(), &path(paths, &self.reference), &record)?;
        Ok(self)
    }
}

/// Keeps others from changing lists meanwhile; let go when dropped.
pub fn lock(paths: &Paths) -> Result<File> {
    let path = paths.lists_lock();
    let doing = || format!("lock \"{}\"", path.display());
    // Read-write, since NFS maps flock(2) to a lock that needs it.
    let lock = File::options().read(true).write(true).create(true).truncate(false).open(&path).doing(doing)?;
    lock.lock().doing(doing)?;
    Ok(lock)
}

fn path(paths: &Paths, reference: &Reference) -> PathBuf {
    paths.lists().join(tags::file_name(reference))
}

/// The list of exactly this name.
pub fn get(paths: &Paths, reference: &Reference) -> Result<Option<List>> {
    read(path(paths, reference))
}

/// Removes a list; `false` if there was none. Its images stay if a tag or
/// another list needs them.
pub fn remove(paths: &Paths, reference: &Reference) -> Result<bool> {
    tags::remove_file(path(paths, reference)).doing(|| format!("remove list \"{}\"", reference.familiar()))
}

/// All lists, by name.
pub fn all(paths: &Paths) -> Result<Vec<List>> {
    let dir = paths.lists();
    let doing = || format!("list \"{}\"", dir.display());
    let entries = match std::fs::read_dir(&dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Failure::from(error).doing(doing())),
    };
    let mut lists = Vec::new();
    for entry in entries {
        lists.extend(read(entry.doing(doing)?.path())?);
    }
    lists.sort_by(|a, b| a.reference.cmp(&b.reference));
    Ok(lists)
}

fn read(path: PathBuf) -> Result<Option<List>> {
    let doing = || format!("read list \"{}\"", path.display());
    let bytes = match limits::read_file(&path, limits::RECORD_BYTES_MAX) {
        Err(failure) if failure.is_errno(libc::ENOENT) => return Ok(None),
        result => result.doing(doing)?,
    };
    let list: List = serde_json::from_slice(&bytes)
        .map_err(|error| Failure::host(format!("it is damaged: {error}")))
        .hint(|| format!("remove {} and make the list again", path.display()))
        .doing(doing)?;
    if list.version != VERSION {
        let failure = Failure::host(format!("it has version {}; this kelp knows {VERSION}", list.version));
        return Err(failure.doing(doing()).hint("use the kelp that wrote it, or a newer one"));
    }
    Ok(Some(list))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::manifest::Document;

    fn entry(bytes: &[u8], architecture: &str) -> Entry {
        let manifest = Descriptor::of(crate::image::descriptor::OCI_MANIFEST, bytes);
        Entry::new(&manifest, Platform::parse(architecture).unwrap())
    }

    #[test]
    fn lists_are_kept_and_found() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::new(dir.path().join("data"), dir.path().join("run"));
        assert_eq!(all(&paths).unwrap(), []);
        let reference = Reference::parse_local("web:1").unwrap();
        let mut contents = Contents::default();
        contents.insert(entry(b"arm", "arm64"));
        contents.insert(entry(b"amd", "amd64"));
        contents.insert(Entry { annotations: [("a".to_owned(), "b".to_owned())].into(), ..entry(b"arm", "arm64") });
        let mut list = List::new(reference.clone());
        for bytes in [&b"arm"[..], b"gone"] {
            list.sources.insert(Digest::of(bytes), Reference::parse("quay.io/a/b").unwrap());
        }
        let list = list.keep(&paths, &contents).unwrap();
        assert_eq!(list.sources.len(), 1, "what is not in the list has no source");
        assert_eq!(get(&paths, &reference).unwrap(), Some(list.clone()));
        assert_eq!(all(&paths).unwrap(), std::slice::from_ref(&list));
        let blobs = Blobs::open(&paths).unwrap();
        assert_eq!(list.contents(&blobs).unwrap(), contents);
        let Document::Index(index) = Document::parse(&list.bytes(&blobs).unwrap(), Some(OCI_INDEX)).unwrap() else {
            panic!("no index")
        };
        assert_eq!((index.manifests.len(), index.manifests[0].annotations.len()), (2, 1));
        assert!(remove(&paths, &reference).unwrap() && !remove(&paths, &reference).unwrap());
    }

    #[test]
    fn the_index_is_written_as_the_specification_has_it() {
        let mut contents = Contents::default();
        let mut windows = entry(b"", "windows/amd64");
        windows.platform.os_version = Some("10.0.17763".to_owned());
        windows.platform.os_features = vec!["win32k".to_owned()];
        contents.insert(windows);
        let text = serde_json::to_string(&contents).unwrap();
        assert_eq!(
            text,
            concat!(
                r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{"#,
                r#""mediaType":"application/vnd.oci.image.manifest.v1+json","#,
                r#""digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","size":0,"#,
                r#""platform":{"architecture":"amd64","os":"windows","os.version":"10.0.17763","os.features":["win32k"]}}]}"#
            )
        );
    }

    #[test]
    fn a_damaged_list_says_which_file_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::new(dir.path().join("data"), dir.path().join("run"));
        let reference = Reference::parse_local("web").unwrap();
        List::new(reference.clone()).keep(&paths, &Contents::default()).unwrap();
        let file = path(&paths, &reference);
        let future = std::fs::read_to_string(&file).unwrap().replace("\"version\":1", "\"version\":2");
        std::fs::write(&file, future).unwrap();
        assert!(all(&paths).unwrap_err().to_string().contains("version 2"));
        std::fs::write(&file, "{").unwrap();
        assert!(all(&paths).unwrap_err().to_string().contains("web%3Alatest"));
    }
}
