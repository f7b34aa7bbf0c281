//! Tags: which image a name stands for. One JSON file each, replaced by rename.
//!
//! An image exists as long as a tag points to it; one without a name (an
//! import without a tag) is kept by a tag file without a reference. A file's
//! name is made from the reference and back; where that would be longer than
//! a file name may be, it is the reference's digest.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::blobs;
use super::descriptor::Descriptor;
use super::digest::Digest;
use super::reference::Reference;
use crate::error::{Context, Failure, Result};
use crate::limits;
use crate::paths::{self, ImageStore, Paths};

/// The version of [`Tag`] on disk.
const VERSION: u32 = 1;

/// File names end at 255 bytes (NAME_MAX); some file systems that encrypt
/// names (eCryptfs) stop at 143.
const FILE_NAME_BYTES_MAX: usize = 140;

/// What a name stands for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tag {
    version: u32,
    /// The name; none for an image that nobody named.
    pub reference: Option<Reference>,
    /// The image's manifest.
    pub manifest: Descriptor,
    /// Its config's digest: the image's id.
    pub config: Digest,
    /// What the registry's name stood for: the manifest or an index around it;
    /// an OCI archive hands it on. `None` for an image that came from no
    /// registry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Digest>,
    /// When this tag was set.
    #[serde(with = "rfc3339")]
    pub tagged: jiff::Timestamp,
    /// The read-only store that lists it (stores.rs); none for a tag of our
    /// own, and those alone are on disk here.
    #[serde(skip)]
    pub store: Option<ImageStore>,
}

impl Tag {
    /// A tag set now.
    pub fn new(reference: Option<Reference>, manifest: Descriptor, config: Digest) -> Self {
        let tagged = jiff::Timestamp::now();
        Self { version: VERSION, reference, manifest, config, source: None, tagged, store: None }
    }

    /// The same, pulled as `source`.
    #[must_use]
    pub fn pulled_as(mut self, source: Digest) -> Self {
        self.source = Some(source);
        self
    }

    /// The same image with its layers packed otherwise.
    #[must_use]
    pub fn packed_as(mut self, manifest: Descriptor) -> Self {
        self.manifest = manifest;
        self
    }
}

/// Times in records, as RFC 3339.
pub(super) mod rfc3339 {
    use serde::{Deserialize, Deserializer, Serializer};

    pub(in crate::image) fn serialize<S: Serializer>(time: &jiff::Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(time)
    }

    pub(in crate::image) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<jiff::Timestamp, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Sets a tag, replacing one of the same name. The image that loses its last
/// name by that is kept without one, as docker does.
pub fn set(paths: &Paths, tag: &Tag) -> Result<()> {
    paths::make_private(&paths.tags())?;
    paths::make_private(&paths.staging())?;
    // One that is damaged may be the one that is replaced.
    let (others, _) = list_readable(paths)?;
    let is_named = |config: &Digest| {
        let mut named = others.iter().filter(|other| other.reference.is_some() && other.config == *config);
        named.any(|other| other.reference != tag.reference)
    };
    if tag.reference.is_none() && is_named(&tag.config) {
        return Ok(());
    }
    let replaced = others.iter().find(|other| other.reference.is_some() && other.reference == tag.reference);
    if let Some(replaced) = replaced.filter(|replaced| replaced.config != tag.config && !is_named(&replaced.config)) {
        write(paths, &Tag { reference: None, ..replaced.clone() })?;
    }
    write(paths, tag)?;
    if tag.reference.is_some() {
        // The name keeps it from now on.
        remove_untagged(paths, &tag.config)?;
    }
    Ok(())
}

fn write(paths: &Paths, tag: &Tag) -> Result<()> {
    let bytes = serde_json::to_vec(tag).map_err(|error| Failure::bug(format!("serialise tag: {error}")))?;
    blobs::replace(&paths.staging(), &path_of(paths, tag), &bytes)
}

fn path_of(paths: &Paths, tag: &Tag) -> PathBuf {
    paths.tags().join(match &tag.reference {
        Some(reference) => file_name(reference),
        None => format!("untagged.{}", tag.config.hex()),
    })
}

/// The tag of exactly this name.
pub fn get(paths: &Paths, reference: &Reference) -> Result<Option<Tag>> {
    read(paths.tags().join(file_name(reference)))
}

/// Removes the tag of this name; `false` if there was none.
pub fn remove(paths: &Paths, reference: &Reference) -> Result<bool> {
    remove_file(paths.tags().join(file_name(reference)))
}

/// Removes the tag that keeps an image without a name.
pub fn remove_untagged(paths: &Paths, config: &Digest) -> Result<bool> {
    remove_file(paths.tags().join(format!("untagged.{}", config.hex())))
}

/// Whether `tag` still stands as it was read: what it needs may be missing
/// only if it does not. Nobody takes blobs away from a read-only store.
pub fn is_current(paths: &Paths, tag: &Tag) -> bool {
    tag.store.is_some() || read(path_of(paths, tag)).is_ok_and(|now| now.as_ref() == Some(tag))
}

/// Takes all `names` from their image; the last one leaves it behind without a
/// name. The names are tags as they were read.
pub fn untag(paths: &Paths, names: &[&Tag]) -> Result<()> {
    let (all, _) = list_readable(paths)?;
    let stays = |tag: &&Tag| all.iter().any(|other| other.config == tag.config && !names.contains(&other));
    if let Some(last) = names.iter().find(|tag| !stays(tag)) {
        write(paths, &Tag { reference: None, ..(*last).clone() })?;
    }
    for reference in names.iter().filter_map(|tag| tag.reference.as_ref()) {
        remove(paths, reference)?;
    }
    Ok(())
}

/// All tags, by name; those without one come first. One that cannot be read is
/// a failure: what it needs is not known.
pub fn list(paths: &Paths) -> Result<Vec<Tag>> {
    let (tags, damaged) = list_readable(paths)?;
    damaged.into_iter().next().map_or(Ok(tags), |damaged| Err(damaged.failure))
}

/// A tag that cannot be read.
#[derive(Debug)]
pub struct Damaged {
    /// Its file.
    pub file: PathBuf,
    /// The name that the file's name stands for.
    pub reference: Option<Reference>,
    /// Why.
    pub failure: Failure,
}

/// The same, with those that cannot be read beside them.
pub fn list_readable(paths: &Paths) -> Result<(Vec<Tag>, Vec<Damaged>)> {
    let dir = paths.tags();
    let doing = || format!("list tags in \"{}\"", dir.display());
    let entries = match std::fs::read_dir(&dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Default::default()),
        Err(error) => return Err(Failure::from(error).doing(doing())),
    };
    let (mut tags, mut damaged) = (Vec::new(), Vec::new());
    for entry in entries {
        let file = entry.doing(doing)?.path();
        match read(file.clone()) {
            Ok(tag) => tags.extend(tag),
            Err(failure) => {
                let reference = file.file_name().and_then(|name| reference_of(name.to_str()?));
                damaged.push(Damaged { file, reference, failure });
            }
        }
    }
    tags.sort_by(|a, b| a.reference.cmp(&b.reference));
    Ok((tags, damaged))
}

fn read(path: PathBuf) -> Result<Option<Tag>> {
    let doing = || format!("read tag \"{}\"", path.display());
    let bytes = match limits::read_file(&path, limits::TAG_BYTES_MAX) {
        Err(failure) if failure.is_errno(libc::ENOENT) => return Ok(None),
        result => result.doing(doing)?,
    };
    let tag: Tag = serde_json::from_slice(&bytes)
        .map_err(|error| Failure::host(format!("it is damaged: {error}")))
        .hint(|| format!("remove {} and pull or load the image again", path.display()))
        .doing(doing)?;
    if tag.version != VERSION {
        let failure = Failure::host(format!("it has version {}; this kelp knows {VERSION}", tag.version));
        return Err(failure.doing(doing()).hint("use the kelp that wrote it, or a newer one"));
    }
    Ok(Some(tag))
}

pub(super) fn remove_file(path: PathBuf) -> Result<bool> {
    match std::fs::remove_file(&path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Failure::from(error).doing(format!("remove tag \"{}\"", path.display()))),
    }
}

/// The file of a reference: its canonical form with `/`, `:` and other
/// characters outside of `[A-Za-z0-9._-]` percent-encoded (RFC 3986, 2.1).
pub(super) fn file_name(reference: &Reference) -> String {
    let canonical = reference.to_string();
    let encode = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'_' | b'-' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    };
    let encoded: String = canonical.bytes().map(encode).collect();
    // No reference encodes to this form: its first slash would be a %2F.
    if encoded.len() > FILE_NAME_BYTES_MAX {
        format!("long.{}", Digest::of(canonical.as_bytes()).hex())
    } else {
        encoded
    }
}

/// The reference that a file is named after, if its name is not too long.
fn reference_of(name: &str) -> Option<Reference> {
    let mut bytes = Vec::new();
    let mut parts = name.split('%');
    bytes.extend(parts.next()?.bytes());
    for part in parts {
        let (digits, rest) = part.split_at_checked(2)?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        bytes.extend(rest.bytes());
    }
    let reference = Reference::parse(std::str::from_utf8(&bytes).ok()?).ok()?;
    (file_name(&reference) == name).then_some(reference)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn paths(dir: &tempfile::TempDir) -> Paths {
        Paths::new(dir.path().join("data"), dir.path().join("run"))
    }

    fn tag(name: &str) -> Tag {
        let manifest = Descriptor::of(crate::image::descriptor::OCI_MANIFEST, name.as_bytes());
        Tag::new(Some(Reference::parse(name).unwrap()), manifest, Digest::of(name.as_bytes()))
    }

    #[test]
    fn an_image_that_loses_its_name_stays() {
        let dir = tempfile::tempdir().unwrap();
        let paths = paths(&dir);
        let named = |name: &str, of: &Tag| Tag { reference: Some(Reference::parse(name).unwrap()), ..of.clone() };
        let (old, new) = (tag("old"), tag("new"));
        set(&paths, &named("web", &old)).unwrap();
        set(&paths, &named("web", &new)).unwrap();
        let configs =
            |paths| list(paths).unwrap().iter().map(|tag| (tag.reference.is_some(), tag.config)).collect::<Vec<_>>();
        assert_eq!(configs(&paths), [(false, old.config), (true, new.config)]);
        // A name takes it back; a place without one is not needed beside it.
        set(&paths, &named("web", &old)).unwrap();
        set(&paths, &Tag { reference: None, ..old.clone() }).unwrap();
        assert_eq!(configs(&paths), [(false, new.config), (true, old.config)]);
        set(&paths, &named("web2", &old)).unwrap();
        set(&paths, &named("web", &old)).unwrap();
        assert_eq!(list(&paths).unwrap().len(), 3);
    }

    #[test]
    fn sets_lists_and_removes() {
        let dir = tempfile::tempdir().unwrap();
        let paths = paths(&dir);
        assert_eq!(list(&paths).unwrap(), []);
        let (web, db) = (tag("web"), tag("localhost:5000/db:1").pulled_as(Digest::of(b"index")));
        let unnamed = Tag { reference: None, ..tag("x") };
        for tag in [&web, &db, &unnamed, &web] {
            set(&paths, tag).unwrap();
        }
        assert_eq!(list(&paths).unwrap(), [unnamed.clone(), web.clone(), db.clone()]);
        assert_eq!(get(&paths, db.reference.as_ref().unwrap()).unwrap(), Some(db));
        assert!(remove(&paths, web.reference.as_ref().unwrap()).unwrap());
        assert!(!remove(&paths, web.reference.as_ref().unwrap()).unwrap());
        assert!(remove_untagged(&paths, &unnamed.config).unwrap());
        assert_eq!(list(&paths).unwrap().len(), 1);
        assert_eq!(std::fs::read_dir(paths.staging()).unwrap().count(), 0);
    }

    #[test]
    fn an_image_without_names_stays() {
        let dir = tempfile::tempdir().unwrap();
        let paths = paths(&dir);
        let one = tag("one");
        let two = Tag { reference: Some(Reference::parse("two").unwrap()), ..one.clone() };
        set(&paths, &one).unwrap();
        set(&paths, &two).unwrap();
        assert!(is_current(&paths, &one));
        untag(&paths, &[&one]).unwrap();
        assert!(!is_current(&paths, &one));
        assert_eq!(list(&paths).unwrap(), std::slice::from_ref(&two));
        untag(&paths, &[&two]).unwrap();
        assert_eq!(list(&paths).unwrap(), [Tag { reference: None, ..two }]);
    }

    #[test]
    fn file_names_are_safe_and_short() {
        let name = |text: &str| file_name(&Reference::parse(text).unwrap());
        assert_eq!(name("alpine"), "docker.io%2Flibrary%2Falpine%3Alatest");
        let long = format!("{}:{}", "a".repeat(200), "t".repeat(128));
        assert!(name(&long).starts_with("long.") && name(&long).len() == 69);
    }

    #[test]
    fn says_which_file_is_damaged() {
        let dir = tempfile::tempdir().unwrap();
        let paths = paths(&dir);
        set(&paths, &tag("web")).unwrap();
        let file = paths.tags().join("docker.io%2Flibrary%2Fweb%3Alatest");
        std::fs::write(&file, "{").unwrap();
        let failure = list(&paths).unwrap_err();
        assert!(failure.to_string().contains("web%3Alatest"), "{failure}");
        let future = serde_json::to_string(&tag("web")).unwrap().replace("\"version\":1", "\"version\":2");
        std::fs::write(&file, future).unwrap();
        assert!(list(&paths).unwrap_err().to_string().contains("version 2"));
        write(&paths, &tag("other")).unwrap();
        let (tags, damaged) = list_readable(&paths).unwrap();
        assert_eq!((tags.len(), damaged.len()), (1, 1));
        assert_eq!(damaged[0].reference, tag("web").reference);
        // Setting it again repairs it.
        set(&paths, &tag("web")).unwrap();
        assert_eq!(list(&paths).unwrap().len(), 2);
    }

    proptest! {
        #[test]
        fn file_names_tell_references_apart(a in "[a-z]{1,3}(/[a-z]{1,3}){0,2}(:[a-z]{1,2})?", b in "[a-z]{1,3}(/[a-z]{1,3}){0,2}(:[a-z]{1,2})?") {
            let (a, b) = (Reference::parse(&a).unwrap(), Reference::parse(&b).unwrap());
            prop_assert_eq!(file_name(&a) == file_name(&b), a == b);
            prop_assert_eq!(reference_of(&file_name(&a)), Some(a));
        }
    }
}
