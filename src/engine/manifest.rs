//! Lists of images for several platforms: made, changed, shown and pushed.

use std::collections::{BTreeMap, BTreeSet};

use super::{remote, removal};
use crate::error::{Context, Failure, Kind, Result};
use crate::image::blobs::Blobs;
use crate::image::descriptor::Descriptor;
use crate::image::digest::Digest;
use crate::image::garbage;
use crate::image::lists::{self, Contents, Entry, EntryPlatform, List};
use crate::image::lookup;
use crate::image::manifest::{Document, Manifest};
use crate::image::platform::Platform;
use crate::image::push::{self, Item};
use crate::image::reference::{LOCAL_REGISTRY, Reference};
use crate::image::registry::{Client, Progress, Sent};
use crate::image::stores;
use crate::limits;
use crate::paths::Paths;

/// How images are found and added.
#[derive(Debug, Clone, Default)]
pub struct Adding {
    /// All images of an index, not the one for this host.
    pub all: bool,
    /// Talk to a registry without TLS that is not on this machine.
    pub plain_http: bool,
    /// What is said of each image in the list.
    pub attributes: Attributes,
}

/// What a user says of an image in a list; what is `None` or empty stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attributes {
    /// `linux`.
    pub os: Option<String>,
    /// `arm64`.
    pub architecture: Option<String>,
    /// `v7`.
    pub variant: Option<String>,
    /// Of the operating system.
    pub os_version: Option<String>,
    /// Of the operating system.
    pub os_features: Vec<String>,
    /// Of the processor.
    pub features: Vec<String>,
    /// `KEY=VALUE`.
    pub annotations: Vec<String>,
}

impl Attributes {
    fn apply(&self, entry: &mut Entry) -> Result<()> {
        let EntryPlatform { architecture, os, os_version, os_features, variant, features } = &mut entry.platform;
        let set = |to: &mut String, from: &Option<String>| from.iter().for_each(|from| to.clone_from(from));
        set(os, &self.os);
        set(architecture, &self.architecture);
        let set = |to: &mut Option<String>, from: &Option<String>| {
            // An empty text takes it away.
            from.iter().for_each(|from| *to = Some(from.clone()).filter(|text| !text.is_empty()));
        };
        set(variant, &self.variant);
        set(os_version, &self.os_version);
        for (to, from) in [(os_features, &self.os_features), (features, &self.features)] {
            if !from.is_empty() {
                to.clone_from(from);
            }
        }
        entry.annotations.extend(annotations(&self.annotations)?);
        Ok(())
    }
}

fn annotations(texts: &[String]) -> Result<BTreeMap<String, String>> {
    let parse = |text: &String| match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(Failure::usage(format!("annotation \"{text}\" is not KEY=VALUE"))),
    };
    texts.iter().map(parse).collect()
}

/// Makes a list called `name` of `images`. One that exists is an error, unless
/// `amend` adds to it.
pub fn create(
    paths: &Paths,
    name: &str,
    images: &[String],
    amend: bool,
    about: &[String],
    adding: &Adding,
    progress: &dyn Progress,
) -> Result<List> {
    let doing = || format!("create list \"{name}\"");
    let reference = Reference::parse_local(name)?;
    if reference.digest().is_some() {
        return Err(Failure::usage(format!("the name \"{name}\" cannot have a digest")).doing(doing()));
    }
    let about = annotations(about)?;
    let refuse_existing = || match lists::get(paths, &reference)? {
        Some(_) if !amend => {
            let failure = Failure::user("it exists").hint("--amend adds to it");
            Err(failure.hint(format!("kelp manifest rm {name} removes it")).doing(doing()))
        }
        existing => Ok(existing),
    };
    // Before images are fetched, and again before the list is written.
    refuse_existing()?;
    let guard = garbage::hold(paths)?;
    let found = images.iter().map(|image| find(paths, image, adding, progress)).collect::<Result<Vec<_>>>();
    let found = found.doing(doing)?;
    let lock = lists::lock(paths)?;
    let mut list = refuse_existing()?.unwrap_or_else(|| List::new(reference.clone()));
    let blobs = Blobs::open(paths)?;
    let mut contents = if list.is_new() { Contents::default() } else { list.contents(&blobs).doing(doing)? };
    contents.annotations.extend(about);
    let mut replaced = BTreeSet::new();
    for found in found {
        replaced.extend(found.replaced);
        insert(&mut list, &mut contents, found.images, &adding.attributes)?;
    }
    let list = list.keep(paths, &contents).doing(doing)?;
    drop((lock, guard));
    removal::collect_replaced(paths, &blobs, &replaced)?;
    Ok(list)
}

/// Adds an image, or all of an index, to a list; returns their manifests.
pub fn add(paths: &Paths, name: &str, image: &str, adding: &Adding, progress: &dyn Progress) -> Result<Vec<Digest>> {
    let doing = || format!("add \"{image}\" to list \"{name}\"");
    find_list(paths, name).doing(doing)?;
    let guard = garbage::hold(paths)?;
    let found = find(paths, image, adding, progress).doing(doing)?;
    let digests = found.images.iter().map(|found| found.entry.digest).collect();
    change(paths, name, |list, contents| insert(list, contents, found.images, &adding.attributes)).doing(doing)?;
    drop(guard);
    removal::collect_replaced(paths, &Blobs::open(paths)?, &found.replaced)?;
    Ok(digests)
}

/// Changes a list while nobody else does. The caller keeps collections away.
fn change(paths: &Paths, name: &str, act: impl FnOnce(&mut List, &mut Contents) -> Result<()>) -> Result<List> {
    let _lock = lists::lock(paths)?;
    let mut list = find_list(paths, name)?;
    let mut contents = list.contents(&Blobs::open(paths)?)?;
    act(&mut list, &mut contents)?;
    list.keep(paths, &contents)
}

fn insert(list: &mut List, contents: &mut Contents, found: Vec<Found>, attributes: &Attributes) -> Result<()> {
    for Found { mut entry, source } in found {
        attributes.apply(&mut entry)?;
        list.sources.extend(source.map(|source| (entry.digest, source)));
        contents.insert(entry);
    }
    Ok(())
}

/// Changes what a list says of one of its images: a digest or a name.
pub fn annotate(paths: &Paths, name: &str, image: &str, attributes: &Attributes) -> Result<()> {
    let doing = || format!("annotate \"{image}\" in list \"{name}\"");
    let _guard = garbage::hold(paths)?;
    let annotated = change(paths, name, |list, contents| {
        let digest = digest_in(paths, list, contents, image)?;
        let mut entries = contents.manifests.iter_mut().filter(|entry| entry.digest == digest);
        entries.try_for_each(|entry| attributes.apply(entry))
    });
    annotated.map(drop).doing(doing)
}

/// The image of a list that `text` means.
fn digest_in(paths: &Paths, list: &List, contents: &Contents, text: &str) -> Result<Digest> {
    let is_in = |digest: &Digest| contents.manifests.iter().any(|entry| entry.digest == *digest);
    let by_name = || {
        let reference = remote::reference(text.strip_prefix("docker://").unwrap_or(text)).ok();
        let digest = reference.as_ref().and_then(|reference| reference.digest().copied());
        let tagged = || lookup::find_tag(paths, text).ok().map(|tag| tag.manifest.digest).filter(is_in);
        let seen = || Some(*list.sources.iter().find(|(_, source)| Some(*source) == reference.as_ref())?.0);
        digest.or_else(tagged).or_else(seen)
    };
    let digest = text.parse::<Digest>().ok().or_else(by_name).filter(is_in);
    digest.ok_or_else(|| {
        let all: Vec<String> = contents.manifests.iter().map(|entry| entry.digest.to_string()).collect();
        let failure = Failure::not_found("it is not in the list");
        if all.is_empty() { failure } else { failure.hint(format!("in it are {}", all.join(", "))) }
    })
}

/// The document that `name` stands for, as it is: a list's index, an image's
/// of this machine's own, or what a registry has.
pub fn inspect(paths: &Paths, name: &str, plain_http: bool) -> Result<Vec<u8>> {
    let doing = || format!("inspect manifest \"{name}\"");
    let blobs = Blobs::open(paths)?;
    let bare = name.strip_prefix("docker://");
    if bare.is_none()
        && let Some(list) = list_named(paths, name)?
    {
        return list.bytes(&blobs).doing(doing);
    }
    let local = lookup::find_tag(paths, name).ok().filter(|_| bare.is_none());
    let is_own = |reference: &Reference| reference.registry() == LOCAL_REGISTRY;
    if let Some(tag) = local.filter(|tag| tag.reference.as_ref().is_none_or(is_own)) {
        return blobs.read_verified(&tag.manifest.digest, limits::MANIFEST_BYTES_MAX).doing(doing);
    }
    let found = remote::find(bare.unwrap_or(name), plain_http).doing(doing)?;
    let sent = found.route.ask(&found.options, |client| Ok(client.manifest(&found.reference)?)).doing(doing)?;
    Document::parse(&sent.bytes, sent.media_type.as_deref()).doing(doing)?;
    Ok(sent.bytes)
}

/// What to push, and where to.
#[derive(Debug, Clone, Default)]
pub struct Pushing {
    /// Where to, if not to where the list's name says.
    pub destination: Option<String>,
    /// The index alone; its images are there.
    pub only_index: bool,
    /// Remove the list afterwards.
    pub purge: bool,
    /// Talk to a registry without TLS that is not on this machine.
    pub plain_http: bool,
}

/// Sends a list with its images to a registry; returns what its name stands
/// for there.
pub fn push(paths: &Paths, name: &str, pushing: &Pushing, progress: &dyn Progress) -> Result<(Reference, Descriptor)> {
    let doing = || format!("push list \"{name}\"");
    let guard = garbage::hold(paths)?;
    let list = find_list(paths, name).doing(doing)?;
    let destination = match &pushing.destination {
        Some(text) => remote::parse_destination(text)?,
        None => list.reference.clone(),
    };
    let (endpoint, options) = remote::destination(&destination, pushing.plain_http)?;
    let fetch = |manifest: &Digest, blob: &Descriptor| fetch(paths, &list, manifest, blob, pushing.plain_http);
    let to = (&endpoint, &options);
    let index = push::send_list(paths, &list, &destination, pushing.only_index, to, &fetch, progress).doing(doing)?;
    drop(guard);
    if pushing.purge {
        removal::remove_list(paths, &list)?;
    }
    Ok((destination, index))
}

/// Brings a blob of an image of the list from where the image was found.
fn fetch(paths: &Paths, list: &List, manifest: &Digest, blob: &Descriptor, plain_http: bool) -> Result<()> {
    let source = list.sources.get(manifest).ok_or_else(|| {
        Failure::not_found(format!("blob {} of image {} is missing", blob.digest, manifest.short()))
            .hint("pull or load the image again, and add it once more")
    })?;
    let found = remote::find(&source.to_string(), plain_http)?;
    let blobs = Blobs::open(paths)?;
    found
        .route
        .ask(&found.options, |client| Ok(client.blob(blob, &blobs)?))
        .doing(|| format!("fetch from \"{}\"", source.familiar()))
}

/// Removes a list.
pub fn remove(paths: &Paths, name: &str) -> Result<List> {
    let list = find_list(paths, name).doing(|| format!("remove list \"{name}\""))?;
    removal::remove_list(paths, &list)?;
    Ok(list)
}

/// A list and what is in it; a failure where that cannot be read.
pub type Listed = (List, Result<Contents>);

/// All lists.
pub fn all(paths: &Paths) -> Result<Vec<Listed>> {
    let blobs = Blobs::open(paths)?;
    let all = lists::all(paths)?.into_iter().map(|list| {
        let contents = list.contents(&blobs);
        (list, contents)
    });
    Ok(all.collect())
}

fn find_list(paths: &Paths, name: &str) -> Result<List> {
    list_named(paths, name)?.ok_or_else(|| {
        Failure::not_found(format!("there is no list \"{name}\"")).hint("kelp manifest ls shows the lists there are")
    })
}

fn list_named(paths: &Paths, name: &str) -> Result<Option<List>> {
    for reference in lookup::candidates(name)? {
        if let Some(list) = lists::get(paths, &reference)? {
            return Ok(Some(list));
        }
    }
    Ok(None)
}

/// Images that were found for a list.
#[derive(Default)]
struct FoundImages {
    images: Vec<Found>,
    /// Blobs that packed ones have taken the place of.
    replaced: BTreeSet<Digest>,
}

struct Found {
    entry: Entry,
    source: Option<Reference>,
}

/// The image that `text` names: of the store, else of a registry. With
/// `docker://`, or for all of an index that a registry has, of a registry.
fn find(paths: &Paths, text: &str, adding: &Adding, progress: &dyn Progress) -> Result<FoundImages> {
    let named = text.strip_prefix("docker://");
    let local = match lookup::find_tag(paths, text) {
        _ if named.is_some() => None,
        Err(failure) if failure.kind == Kind::NotFound => None,
        result => Some(result?),
    };
    let Some(tag) = local.filter(|tag| !(adding.all && tag.source.is_some())) else {
        let images = find_remote(paths, named.unwrap_or(text), adding)?;
        return Ok(FoundImages { images, ..FoundImages::default() });
    };
    if tag.store.is_some() {
        stores::adopt(&Blobs::open(paths)?, &tag)?;
    }
    // What a push would send is what the list has to name.
    let (image, replaced) = push::packed(paths, &tag, progress)?;
    let entry = Entry::new(&image.descriptor, image.platform());
    let source = tag.reference.filter(|_| tag.source.is_some());
    Ok(FoundImages { images: vec![Found { entry, source }], replaced })
}

fn find_remote(paths: &Paths, text: &str, adding: &Adding) -> Result<Vec<Found>> {
    let remote::Remote { reference, route, options } = remote::find(text, adding.plain_http)?;
    let blobs = Blobs::open(paths)?;
    route.ask(&options, |client| {
        let sent = client.manifest(&reference)?;
        let entries = match Document::parse(&sent.bytes, sent.media_type.as_deref())? {
            Document::Manifest(manifest) => vec![keep_documents(&blobs, client, &sent, &manifest)?],
            Document::Index(index) if adding.all => {
                // Attestations and other artifacts are about images, and none.
                let is_image = |entry: &&Descriptor| entry.platform.as_ref().is_none_or(|it| it.os != "unknown");
                let images = index.manifests.iter().filter(is_image);
                images.map(|entry| fetch_entry(&blobs, client, &reference, entry)).collect::<Result<_>>()?
            }
            Document::Index(index) => {
                vec![fetch_entry(&blobs, client, &reference, Platform::host().select(&index.manifests)?)?]
            }
        };
        Ok(entries.into_iter().map(|entry| Found { entry, source: Some(reference.clone()) }).collect())
    })
}

fn fetch_entry(blobs: &Blobs, client: &Client, reference: &Reference, described: &Descriptor) -> Result<Entry> {
    let sent = client.manifest(&reference.at(described.digest))?;
    match Document::parse(&sent.bytes, Some(&described.media_type))? {
        Document::Manifest(manifest) => {
            let mut entry = keep_documents(blobs, client, &sent, &manifest)?;
            if let Some(platform) = &described.platform {
                entry.platform = platform.clone().into();
            }
            entry.annotations.extend(described.annotations.clone());
            Ok(entry)
        }
        Document::Index(_) => Err(Failure::user("an index within an index cannot be in a list")),
    }
}

/// Keeps a manifest and its config; layers stay where they are.
fn keep_documents(blobs: &Blobs, client: &Client, sent: &Sent, manifest: &Manifest) -> Result<Entry> {
    blobs.put(&sent.bytes)?;
    client.blob(&manifest.config, blobs)?;
    let media_type = manifest.media_type.as_deref().unwrap_or(crate::image::descriptor::OCI_MANIFEST);
    let descriptor = Descriptor::of(media_type, &sent.bytes);
    let image = Item::read(blobs, &descriptor)?;
    Ok(Entry::new(&descriptor, image.platform()))
}
