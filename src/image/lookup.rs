//! Finding an image in the store by what a person typed: a name, a name at a
//! digest, an id or the start of one.

use std::collections::BTreeSet;

use super::blobs::Blobs;
use super::config::ImageConfig;
use super::descriptor::Descriptor;
use super::digest::Digest;
use super::manifest::{Document, Manifest};
use super::platform::Platform;
use super::quote::quoted;
use super::reference::Reference;
use super::registry::Registries;
use super::stores;
use super::tags::{self, Tag};
use crate::error::{Context, Failure, Result};
use crate::limits;
use crate::paths::Paths;

/// The shortest start of an id that is looked up: shorter ones are more
/// likely a slip than an id.
const ID_DIGITS_MIN: usize = 4;

/// How often an image is looked for that goes while it is being read.
const TRIES: usize = 100;

/// An image that is here, its documents verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredImage {
    /// All names of it.
    pub references: Vec<Reference>,
    /// The names at the digests under which it was pulled (docker's RepoDigests).
    pub sources: Vec<Reference>,
    /// The manifest's descriptor.
    pub descriptor: Descriptor,
    /// The manifest.
    pub manifest: Manifest,
    /// The image's id: the digest of its config.
    pub id: Digest,
    /// The config.
    pub config: ImageConfig,
}

impl StoredImage {
    /// The layers with their diff ids, lowest first.
    pub fn layers(&self) -> impl Iterator<Item = (&Descriptor, &Digest)> {
        self.manifest.layers.iter().zip(&self.config.rootfs.diff_ids)
    }

    /// Bytes the image's blobs take, as stored.
    pub fn size(&self) -> u64 {
        let blobs = self.manifest.layers.iter().map(|layer| layer.size);
        blobs.fold(self.descriptor.size.saturating_add(self.manifest.config.size), u64::saturating_add)
    }
}

/// The image that `text` names.
pub fn find(paths: &Paths, text: &str) -> Result<StoredImage> {
    for _ in 0..TRIES {
        let tag = find_tag(paths, text)?;
        match load(paths, &tag) {
            // Removed or replaced since the tag was read: look again.
            Err(_) if !tags::is_current(paths, &tag) => {}
            result => return result.doing(|| format!("read image {}", quoted(text))),
        }
    }
    Err(Failure::host("it is replaced again and again while it is being read")
        .doing(format!("read image {}", quoted(text))))
}

/// The tag that `text` names; for an id, one of the image's tags. Our own store
/// goes before the read-only ones, which are asked in their order.
pub fn find_tag(paths: &Paths, text: &str) -> Result<Tag> {
    find_tag_for(paths, text, &Platform::host())
}

/// The same; of an index in a read-only store, the image for `platform`.
pub fn find_tag_for(paths: &Paths, text: &str, platform: &Platform) -> Result<Tag> {
    let digits = text.strip_prefix("sha256:").unwrap_or(text);
    let is_id = (ID_DIGITS_MIN..=64).contains(&digits.len())
        && digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    // A full id is nothing else; a short one may be a name too, which wins.
    let named = if is_id && (digits.len() == 64 || digits != text) { Vec::new() } else { candidates(text)? };
    for reference in &named {
        if let Some(tag) = tags::get(paths, reference)? {
            return Ok(tag);
        }
    }
    let (all, damaged) = tags::list_readable(paths)?;
    for reference in &named {
        if let Some(tag) = reference.digest().and_then(|digest| at_digest(&all, reference, digest)) {
            return Ok(tag.clone());
        }
    }
    if is_id && let Some(tag) = by_id(&all, digits)? {
        return Ok(tag.clone());
    }
    let mut names: Vec<Reference> = all.into_iter().filter_map(|tag| tag.reference).collect();
    if !paths.image_stores.is_empty() {
        let blobs = Blobs::open(paths)?;
        for store in &paths.image_stores {
            if let Some(tag) = stores::find_named(store, &blobs, &named, platform)? {
                return Ok(tag);
            }
            if is_id && let Some(tag) = by_id(&stores::list(store, &blobs, platform)?.0, digits)? {
                return Ok(tag.clone());
            }
            names.extend(stores::names(store)?);
        }
    }
    let failure = not_found(&names, text);
    Err(match damaged.is_empty() {
        true => failure,
        false => failure.hint("some names cannot be read: kelp system check tells which"),
    })
}

/// As [`find_tag`], for what is to be changed: an image of a read-only store is
/// refused.
pub fn find_own_tag(paths: &Paths, text: &str) -> Result<Tag> {
    let tag = find_tag(paths, text)?;
    match &tag.store {
        None => Ok(tag),
        Some(store) => {
            let store = store.path().display();
            Err(Failure::user(format!("image {} is in the read-only store \"{store}\"", quoted(text)))
                .hint("whoever writes that store changes it there; kelp only reads from it"))
        }
    }
}

/// What `text` may mean in the store, in order: a name without a registry is
/// first one of our own, then what it means to a pull, then one of docker.io's,
/// whose names are shown without their registry.
pub fn candidates(text: &str) -> Result<Vec<Reference>> {
    let mut names = Reference::local_candidates(text)?;
    if names.len() > 1 {
        let meant = Registries::of_this_user()?.reference(text)?;
        if !names.contains(&meant) {
            names.insert(1, meant);
        }
    }
    Ok(names)
}

/// Whether `text` is the name in `tag`, and not the id of its image.
pub fn is_name_of(text: &str, tag: &Tag) -> bool {
    let Some(reference) = &tag.reference else { return false };
    candidates(text).is_ok_and(|candidates| {
        candidates.iter().any(|candidate| {
            candidate == reference || (candidate.digest().is_some() && candidate.name() == reference.name())
        })
    })
}

/// `name@digest` for an image that was pulled by tag.
fn at_digest<'a>(all: &'a [Tag], wanted: &Reference, digest: &Digest) -> Option<&'a Tag> {
    all.iter().find(|tag| {
        let of_name = tag.reference.as_ref().is_some_and(|reference| reference.name() == wanted.name());
        of_name && (tag.manifest.digest == *digest || tag.source.as_ref() == Some(digest))
    })
}

fn by_id<'a>(all: &'a [Tag], digits: &str) -> Result<Option<&'a Tag>> {
    let matching: Vec<&Tag> = all.iter().filter(|tag| tag.config.hex().starts_with(digits)).collect();
    let ids: BTreeSet<Digest> = matching.iter().map(|tag| tag.config).collect();
    if ids.len() > 1 {
        let named = |id: &Digest| {
            let name = matching.iter().find(|tag| tag.config == *id).and_then(|tag| tag.reference.as_ref());
            let name = name.map(|name| format!(" ({})", name.familiar())).unwrap_or_default();
            format!("{}{name}", id.short())
        };
        let list: Vec<String> = ids.iter().take(10).map(named).collect();
        return Err(Failure::user(format!("image id {} is ambiguous", quoted(digits)))
            .hint(format!("it may be one of {}", list.join(", "))));
    }
    Ok(matching.first().copied())
}

fn not_found(all: &[Reference], text: &str) -> Failure {
    let failure = Failure::not_found(format!("there is no image {}", quoted(text)));
    // Compared with every way to write a name: whoever forgets the registry is
    // told the whole of it.
    let spellings = |reference: &Reference| {
        let repository = reference.repository();
        let tagged = format!("{repository}:{}", reference.tag().unwrap_or_default());
        [reference.familiar(), reference.familiar_name(), reference.to_string(), repository.to_owned(), tagged]
    };
    let names: Vec<(String, String)> = all
        .iter()
        .flat_map(|reference| spellings(reference).map(|spelling| (spelling, reference.familiar())))
        .collect();
    let pairs = names.iter().map(|(spelling, name)| (spelling.as_str(), name.as_str()));
    let failure = failure.did_you_mean_by_spelling(text, pairs);
    match failure.hints.is_empty() {
        true => failure.hint("kelp images lists what is here; kelp pull fetches an image"),
        false => failure,
    }
}

/// The image a tag stands for, every byte verified.
pub fn load(paths: &Paths, tag: &Tag) -> Result<StoredImage> {
    let blobs = Blobs::open(paths)?;
    let (manifest, config) = documents(&blobs, &tag.manifest)?;
    let mut references = BTreeSet::new();
    let mut sources = BTreeSet::new();
    let listed = tag.store.is_some().then(|| tag.clone());
    let (own, _) = tags::list_readable(paths)?;
    for other in own.iter().chain(&listed).filter(|other| other.config == tag.config) {
        if let (Some(reference), Some(source)) = (&other.reference, other.source) {
            sources.insert(reference.at(source));
        }
        references.extend(other.reference.clone());
    }
    Ok(StoredImage {
        references: references.into_iter().collect(),
        sources: sources.into_iter().collect(),
        descriptor: tag.manifest.clone(),
        id: manifest.config.digest,
        manifest,
        config,
    })
}

/// Manifest and config behind a manifest's descriptor, verified and matched.
pub fn documents(blobs: &Blobs, descriptor: &Descriptor) -> Result<(Manifest, ImageConfig)> {
    let bytes = blobs.read_verified(&descriptor.digest, limits::MANIFEST_BYTES_MAX)?;
    let Document::Manifest(manifest) = Document::parse(&bytes, Some(&descriptor.media_type))? else {
        return Err(Failure::user(format!("{} is an index, not an image", descriptor.digest)));
    };
    let config = ImageConfig::parse(&blobs.read_verified(&manifest.config.digest, limits::CONFIG_BYTES_MAX)?)?;
    config.check_layers(&manifest)?;
    Ok((manifest, config))
}

/// Every image with all its names, each once, in the order of its first name.
/// Two manifests with one config (packed differently) are one image.
pub fn images(paths: &Paths) -> Result<Vec<(Vec<Reference>, Tag)>> {
    let mut images: Vec<(Vec<Reference>, Tag)> = Vec::new();
    for tag in tags::list(paths)? {
        match images.iter_mut().find(|(_, image)| image.config == tag.config) {
            Some((references, _)) => references.extend(tag.reference),
            None => images.push((tag.reference.clone().into_iter().collect(), tag)),
        }
    }
    Ok(images)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::descriptor::{OCI_CONFIG, OCI_MANIFEST};
    use crate::image::digest::Digest;

    struct Home {
        paths: Paths,
        _dir: tempfile::TempDir,
    }

    fn home() -> Home {
        let dir = tempfile::tempdir().unwrap();
        Home { paths: Paths::new(dir.path().join("data"), dir.path().join("run")), _dir: dir }
    }

    /// An image without layers; `author` tells one from the other.
    fn keep(home: &Home, name: &str, author: &str) -> Tag {
        let blobs = Blobs::open(&home.paths).unwrap();
        let mut config = ImageConfig { author: Some(author.to_owned()), ..ImageConfig::default() };
        config.rootfs.kind = "layers".to_owned();
        let config = config.to_bytes().unwrap();
        let manifest = Manifest::new(Descriptor::of(OCI_CONFIG, &config), Vec::new()).to_bytes().unwrap();
        blobs.put(&config).unwrap();
        blobs.put(&manifest).unwrap();
        let reference = Reference::parse(name).unwrap();
        let tag = Tag::new(Some(reference), Descriptor::of(OCI_MANIFEST, &manifest), Digest::of(&config));
        let tag = tag.pulled_as(Digest::of(name.as_bytes()));
        tags::set(&home.paths, &tag).unwrap();
        tag
    }

    #[test]
    fn finds_by_name_digest_and_id() {
        let home = home();
        let web = keep(&home, "web", "a");
        keep(&home, "other", "b");
        let id = web.config.hex();
        let by_manifest = format!("web@{}", web.manifest.digest);
        let by_source = format!("web@{}", Digest::of(b"web"));
        for text in [
            "web",
            "web:latest",
            "docker.io/library/web",
            &id,
            &id[..12],
            &id[..5],
            &format!("sha256:{id}"),
            &by_manifest,
            &by_source,
        ] {
            let image = find(&home.paths, text).unwrap();
            assert_eq!(image.id, web.config, "{text}");
            assert_eq!(image.references, [Reference::parse("web").unwrap()]);
        }
        // Our own image goes before docker.io's of the same name.
        let own = keep(&home, "localhost/web", "c");
        assert_eq!(find(&home.paths, "web").unwrap().id, own.config);
        assert_eq!(find(&home.paths, "docker.io/web").unwrap().id, web.config);
        assert_eq!(images(&home.paths).unwrap().len(), 3);
    }

    #[test]
    fn one_image_may_have_many_names() {
        let home = home();
        keep(&home, "web:1", "a");
        keep(&home, "web:2", "a");
        let image = find(&home.paths, "web:2").unwrap();
        assert_eq!(image.references.len(), 2);
        assert_eq!(image.sources.len(), 2);
        assert_eq!(images(&home.paths).unwrap().len(), 1);
        let id = image.id.hex();
        assert_eq!(find(&home.paths, &id[..8]).unwrap().id, image.id);
    }

    #[test]
    fn a_short_id_of_two_images_is_refused() {
        let home = home();
        // Two images whose ids start alike do not turn up by trying four
        // digits; tags are enough for the search.
        for (name, last) in [("a", '1'), ("b", '2')] {
            let config = Digest::from_hex(&format!("{}{last}", "ab".repeat(32).split_at(63).0)).unwrap();
            let tag = Tag::new(Some(Reference::parse(name).unwrap()), Descriptor::of(OCI_MANIFEST, b""), config);
            tags::set(&home.paths, &tag).unwrap();
        }
        let failure = find(&home.paths, "abab").unwrap_err();
        assert_eq!(failure.to_string(), "image id \"abab\" is ambiguous");
        assert_eq!(failure.hints, ["it may be one of abababababab (a:latest), abababababab (b:latest)"]);
    }

    #[test]
    fn suggests_what_is_alike() {
        let home = home();
        keep(&home, "alpine:3.20", "a");
        let hints = |text: &str| find(&home.paths, text).unwrap_err().hints;
        assert_eq!(hints("alpnie"), ["did you mean \"alpine:3.20\"?"]);
        assert_eq!(hints("alpine:3.21"), ["did you mean \"alpine:3.20\"?"]);
        keep(&home, "quay.io/team/web:1", "b");
        assert_eq!(hints("team/web"), ["did you mean \"quay.io/team/web:1\"?"]);
        keep(&home, "localhost/db", "b");
        assert_eq!(hints("xyz"), ["kelp images lists what is here; kelp pull fetches an image"]);
        assert_eq!(hints("dbb"), ["did you mean \"localhost/db:latest\"?"]);
        assert!(hints("zzz")[0].contains("kelp pull"));
        assert_eq!(find(&home.paths, "zzz").unwrap_err().kind, crate::error::Kind::NotFound);
    }

    #[test]
    fn tampered_documents_are_noticed() {
        let home = home();
        let tag = keep(&home, "web", "a");
        std::fs::write(home.paths.blobs().join(tag.config.hex()), "{}").unwrap();
        assert!(find(&home.paths, "web").unwrap_err().to_string().contains("damaged"));
    }
}
