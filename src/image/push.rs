//! Pushing: an image from the store into a registry.
//!
//! ```text
//!   plan       which documents and blobs; what has to be compressed
//!   config     first: whoever may not push learns it before the work
//!   layers     compressed, then sent, some at a time
//!   manifest   last, under its tag: an image that is visible is whole
//! ```
//!
//! Documents and blobs go as they are stored, byte for byte, so what was
//! pulled has the same digest everywhere. The exception are layers that are
//! plain because an archive or a commit left them so: they are packed, and the
//! image gets a manifest that says so. Its config, diff ids and id stay.

use std::collections::{BTreeMap, BTreeSet};

use super::blobs::Blobs;
use super::compression::Compression;
use super::config::ImageConfig;
use super::descriptor::{Descriptor, OCI_CONFIG, OCI_INDEX, OCI_MANIFEST};
use super::digest::Digest;
use super::lists::List;
use super::lookup;
use super::manifest::{Document, Manifest};
use super::packing::{Form, Packer};
use super::parallel;
use super::platform::Platform;
use super::quote::quoted;
use super::reference::{LOCAL_REGISTRY, Reference};
use super::registry::{self, Client, Endpoint, Options, Progress, Uploaded};
use super::tags::{self, Tag};
use crate::error::{Context, Failure, Kind, Result};
use crate::limits;
use crate::paths::Paths;

/// One image as it is in the store.
#[derive(Debug, Clone)]
pub struct Item {
    /// Its manifest.
    pub descriptor: Descriptor,
    manifest: Manifest,
    config: ImageConfig,
}

impl Item {
    /// The image of this manifest, its documents verified.
    pub fn read(blobs: &Blobs, descriptor: &Descriptor) -> Result<Self> {
        let (manifest, config) = lookup::documents(blobs, descriptor)?;
        Ok(Self { descriptor: descriptor.clone(), manifest, config })
    }

    /// What it runs on.
    pub fn platform(&self) -> Platform {
        self.config.platform()
    }

    /// Whether all of it is here.
    fn is_whole(&self, blobs: &Blobs) -> Result<bool> {
        let mut parts = self.manifest.layers.iter().chain([&self.manifest.config]);
        parts.try_fold(true, |whole, part| Ok(whole && blobs.has(part)?))
    }
}

/// What is pushed.
#[derive(Debug, Clone)]
enum Content {
    Image(Box<Item>),
    Index(StoredIndex),
}

/// Which layers are packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Packing {
    /// None.
    Keep,
    /// Those that are plain.
    Plain(Form),
    /// Those that have another form.
    All(Form),
}

/// What is going to be sent, and where to.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Where to.
    pub destination: Reference,
    content: Content,
    packing: Packing,
}

/// What became of it.
#[derive(Debug, Clone)]
pub struct Pushed {
    /// The name it has there.
    pub reference: Reference,
    /// What the name stands for.
    pub root: Descriptor,
    /// The layers by their diff ids, each once, lowest first.
    pub layers: Vec<(Digest, Uploaded)>,
    /// Blobs of the store that a packed form has replaced.
    pub replaced: BTreeSet<Digest>,
}

/// Decides what is pushed for `tag`. An index goes as a whole where the store
/// has all of it; else, or with `platform`, one image does.
pub fn plan(
    paths: &Paths,
    tag: &Tag,
    destination: Reference,
    platform: Option<&Platform>,
    form: Option<Form>,
) -> Result<Plan> {
    refuse_local(&destination)?;
    let blobs = Blobs::open(paths)?;
    let index = tag.source.map(|source| StoredIndex::read(&blobs, source)).transpose()?.flatten();
    let content = match (platform, index) {
        (None, Some(index)) if form.is_none() && index.is_whole(&blobs)? => Content::Index(index),
        (Some(platform), Some(index)) => Content::Image(Box::new(choose(platform, index.images)?)),
        (Some(platform), None) => Content::Image(Box::new(choose(platform, vec![Item::read(&blobs, &tag.manifest)?])?)),
        (None, _) => Content::Image(Box::new(Item::read(&blobs, &tag.manifest)?)),
    };
    let packing = form.map_or_else(|| Packing::unasked(paths, tag), |form| Ok(Packing::All(form)))?;
    Ok(Plan { destination, content, packing })
}

/// Names of this machine's own images lead nowhere.
fn refuse_local(destination: &Reference) -> Result<()> {
    if destination.registry() != LOCAL_REGISTRY {
        return Ok(());
    }
    let shown = quoted(&destination.familiar());
    Err(Failure::user(format!("{shown} is a name for images of this machine, not of a registry"))
        .hint("say where to, as in quay.io/team/app:1, behind the name of the image")
        .hint("a registry on this machine is named with its port, as localhost:5000/NAME"))
}

impl Packing {
    /// What came from a registry has the form that it has there; what is in a
    /// read-only store is not ours to change.
    fn unasked(paths: &Paths, tag: &Tag) -> Result<Self> {
        if tag.store.is_some() {
            return Ok(Self::Keep);
        }
        let is_from_registry = |other: &Tag| other.manifest.digest == tag.manifest.digest && other.source.is_some();
        let (all, _) = tags::list_readable(paths)?;
        Ok(if all.iter().any(is_from_registry) { Self::Keep } else { Self::Plain(Form::default()) })
    }

    /// The form that a layer is to get, if it has another.
    fn of(self, blobs: &Blobs, layer: &Descriptor, diff_id: &Digest) -> Result<Option<Form>> {
        // A blob with its diff id's digest is the plain tar itself.
        let is_plain = layer.digest == *diff_id;
        Ok(match self {
            Self::Keep => None,
            Self::Plain(form) => is_plain.then_some(form),
            Self::All(form) if is_plain => (form.compression() != Compression::None).then_some(form),
            Self::All(form) => {
                let (compression, _) = Compression::sniff(blobs.file(&layer.digest)?)?;
                (compression != form.compression()).then_some(form)
            }
        })
    }
}

/// The image as a push of `tag` would send it: with layers packed that are
/// plain, and kept so. Also what that has replaced.
pub fn packed(paths: &Paths, tag: &Tag, progress: &dyn Progress) -> Result<(Item, BTreeSet<Digest>)> {
    let blobs = Blobs::open(paths)?;
    let image = Item::read(&blobs, &tag.manifest)?;
    let packing = Packing::unasked(paths, tag)?;
    let packer = Packer::default();
    let mut packed = BTreeMap::new();
    for (descriptor, diff_id) in image.manifest.layers.iter().zip(&image.config.rootfs.diff_ids) {
        if let Some(form) = packing.of(&blobs, descriptor, diff_id)?
            && !packed.contains_key(diff_id)
        {
            packed.insert(*diff_id, pack(&packer, &blobs, descriptor, diff_id, form, progress)?);
        }
    }
    let (root, bytes) = document(&blobs, &image, &packed)?;
    let replaced = remember(paths, &image, &root, &bytes, None)?;
    Ok((Item::read(&blobs, &root)?, replaced))
}

fn pack(
    packer: &Packer,
    blobs: &Blobs,
    layer: &Descriptor,
    diff_id: &Digest,
    form: Form,
    progress: &dyn Progress,
) -> Result<Descriptor> {
    let id = format!("compress {}", diff_id.short());
    progress.start(&id, layer.size);
    let packed = packer.pack(blobs, layer, diff_id, form, &|bytes| progress.advance(&id, bytes))?;
    progress.done(&id);
    Ok(packed)
}

/// The image for `platform` among those that are here.
fn choose(platform: &Platform, images: Vec<Item>) -> Result<Item> {
    let described = |image: &Item| Descriptor { platform: Some(image.platform()), ..image.descriptor.clone() };
    let chosen = platform.select(&images.iter().map(described).collect::<Vec<_>>())?.digest;
    let chosen = images.into_iter().find(|image| image.descriptor.digest == chosen);
    chosen.ok_or_else(|| Failure::bug("an image was chosen that is not there"))
}

/// An index in the store.
#[derive(Debug, Clone)]
pub(super) struct StoredIndex {
    /// It and those within it, innermost first.
    indexes: Vec<Descriptor>,
    /// The images whose documents are here.
    images: Vec<Item>,
    /// Entries are missing, or are none that we know.
    has_gaps: bool,
}

impl StoredIndex {
    /// What is here of the index at `digest`; `None` if that is none, or gone.
    pub(super) fn read(blobs: &Blobs, digest: Digest) -> Result<Option<Self>> {
        let mut index = Self { indexes: Vec::new(), images: Vec::new(), has_gaps: false };
        index.add(blobs, &digest, None, limits::INDEX_DEPTH_MAX)?;
        Ok((!index.indexes.is_empty()).then_some(index))
    }

    fn add(&mut self, blobs: &Blobs, digest: &Digest, entry: Option<&Descriptor>, depth: usize) -> Result<()> {
        if blobs.size(digest)?.is_none() || depth == 0 {
            self.has_gaps = true;
            return Ok(());
        }
        let bytes = blobs.read_verified(digest, limits::MANIFEST_BYTES_MAX)?;
        let declared = entry.map(|entry| entry.media_type.as_str());
        match (Document::parse(&bytes, declared), entry) {
            (Ok(Document::Manifest(_)), Some(entry)) => match Item::read(blobs, entry) {
                Ok(item) => self.images.push(item),
                Err(_) => self.has_gaps = true,
            },
            (Ok(Document::Index(index)), _) => {
                for entry in &index.manifests {
                    self.add(blobs, &entry.digest, Some(entry), depth - 1)?;
                }
                let media_type = index.media_type.as_deref().or(declared).unwrap_or(OCI_INDEX);
                self.indexes.push(Descriptor::of(media_type, &bytes));
            }
            (Ok(Document::Manifest(_)), None) => {}
            (Err(_), _) => self.has_gaps = true,
        }
        Ok(())
    }

    /// Whether all of it is here, to the last layer.
    fn is_whole(&self, blobs: &Blobs) -> Result<bool> {
        let mut images = self.images.iter();
        Ok(!self.has_gaps && images.try_fold(true, |whole, image| Ok::<_, Failure>(whole && image.is_whole(blobs)?))?)
    }
}

/// One layer on its way.
struct Layer<'a> {
    image: &'a Item,
    descriptor: &'a Descriptor,
    diff_id: &'a Digest,
    packing: Option<Form>,
}

/// Sends what was planned. The caller keeps collections away meanwhile
/// ([`super::garbage::hold`]).
pub fn send(
    paths: &Paths,
    plan: &Plan,
    endpoint: &Endpoint,
    options: &Options,
    progress: &dyn Progress,
) -> Result<Pushed> {
    let client = Client::new(endpoint, options)?.pushing();
    transfer(paths, plan, client, progress).doing(|| format!("push {}", quoted(&plan.destination.familiar())))
}

fn transfer(paths: &Paths, plan: &Plan, client: Client, progress: &dyn Progress) -> Result<Pushed> {
    let blobs = Blobs::open(paths)?;
    let neighbours = neighbours(paths, &plan.destination)?;
    let sender = Sender { client, blobs, neighbours, progress, fetch: None };
    let images = match &plan.content {
        Content::Image(image) => std::slice::from_ref(image.as_ref()),
        Content::Index(index) => &index.images,
    };
    for image in images {
        sender.send_blob(image, &image.manifest.config, &registry::Silent)?;
    }
    let sent = sender.send_layers(images, plan.packing)?;
    let layers = distinct(images.iter().flat_map(|image| &image.config.rootfs.diff_ids))
        .filter_map(|diff_id| sent.iter().find(|(sent, ..)| sent == diff_id))
        .map(|(diff_id, _, uploaded)| (*diff_id, uploaded.clone()))
        .collect();
    let packed: BTreeMap<Digest, Descriptor> =
        sent.into_iter().map(|(diff_id, descriptor, _)| (diff_id, descriptor)).collect();
    let (root, replaced) = match &plan.content {
        Content::Image(image) => {
            let (root, bytes) = document(&sender.blobs, image, &packed)?;
            check_name(&plan.destination, &root.digest)?;
            sender.client.push_manifest(&name(&plan.destination, &root.digest), &root.media_type, &bytes)?;
            let replaced = match plan.packing {
                // Only what was decided without the user changes the store.
                Packing::All(_) => BTreeSet::new(),
                Packing::Keep | Packing::Plain(_) => remember(paths, image, &root, &bytes, Some(&plan.destination))?,
            };
            (root, replaced)
        }
        Content::Index(index) => {
            sender.send_index(&plan.destination, index)?;
            let root = index.indexes.last().ok_or_else(|| Failure::bug("an index without itself"))?;
            (root.clone(), BTreeSet::new())
        }
    };
    Ok(Pushed { reference: plan.destination.clone(), root, layers, replaced })
}

fn distinct<'a>(digests: impl Iterator<Item = &'a Digest>) -> impl Iterator<Item = &'a Digest> {
    let mut seen = BTreeSet::new();
    digests.filter(move |digest| seen.insert(**digest))
}

/// The tag under which a manifest is stored, or its digest.
fn name(destination: &Reference, digest: &Digest) -> String {
    destination.tag().map_or_else(|| digest.to_string(), str::to_owned)
}

/// A name with a digest is a promise.
fn check_name(destination: &Reference, digest: &Digest) -> Result<()> {
    match destination.digest() {
        Some(named) if named != digest => {
            Err(Failure::user(format!("the image has digest {digest}, not the one in the name"))
                .hint("leave the digest out of the name to push to"))
        }
        _ => Ok(()),
    }
}

/// The manifest to send: as it is stored, unless a layer was packed.
fn document(blobs: &Blobs, image: &Item, packed: &BTreeMap<Digest, Descriptor>) -> Result<(Descriptor, Vec<u8>)> {
    let stored = &image.manifest.layers;
    let layers: Vec<Descriptor> = stored
        .iter()
        .zip(&image.config.rootfs.diff_ids)
        .map(|(layer, diff_id)| packed.get(diff_id).unwrap_or(layer).clone())
        .collect();
    if layers == *stored {
        let bytes = blobs.read_verified(&image.descriptor.digest, limits::MANIFEST_BYTES_MAX)?;
        return Ok((image.descriptor.clone(), bytes));
    }
    let config = Descriptor { media_type: OCI_CONFIG.to_owned(), ..image.manifest.config.clone() };
    let layers = layers.into_iter().map(|layer| as_oci(blobs, layer)).collect::<Result<_>>()?;
    let mut manifest = Manifest::new(config, layers);
    manifest.annotations.clone_from(&image.manifest.annotations);
    let bytes = manifest.to_bytes()?;
    Ok((Descriptor::of(OCI_MANIFEST, &bytes), bytes))
}

/// A layer that stays, in a manifest that becomes OCI's.
fn as_oci(blobs: &Blobs, layer: Descriptor) -> Result<Descriptor> {
    if layer.media_type.starts_with("application/vnd.oci.") {
        return Ok(layer);
    }
    let (compression, _) = Compression::sniff(blobs.file(&layer.digest)?)?;
    Ok(Descriptor { media_type: compression.layer_media_type().to_owned(), ..layer })
}

/// Packed layers are kept in place of the plain ones: the next push sends the
/// same bytes, and the store is smaller. `pushed` is the name that the registry
/// has it under now. Returns what nobody needs for this image any more.
fn remember(
    paths: &Paths,
    image: &Item,
    root: &Descriptor,
    bytes: &[u8],
    pushed: Option<&Reference>,
) -> Result<BTreeSet<Digest>> {
    let mut replaced = BTreeSet::new();
    let is_packed = root.digest != image.descriptor.digest;
    if is_packed {
        Blobs::open(paths)?.put(bytes)?;
        replaced.extend(image.manifest.layers.iter().map(|layer| layer.digest).chain([image.descriptor.digest]));
    }
    let (all, _) = tags::list_readable(paths)?;
    for tag in all.into_iter().filter(|tag| tag.manifest.digest == image.descriptor.digest) {
        let is_pushed = pushed.is_some() && tag.reference.as_ref() == pushed;
        let tag = tag.packed_as(root.clone());
        match is_pushed {
            true => tags::set(paths, &tag.pulled_as(root.digest))?,
            false if is_packed => tags::set(paths, &tag)?,
            false => {}
        }
    }
    Ok(replaced)
}

/// Repositories of the destination's registry that have blobs of ours, by
/// what images were pulled from there or pushed there.
fn neighbours(paths: &Paths, destination: &Reference) -> Result<BTreeMap<Digest, String>> {
    let blobs = Blobs::open(paths)?;
    let mut repositories = BTreeSet::new();
    let mut neighbours = BTreeMap::new();
    // A damaged tag is no reason not to push another image.
    let (all, _) = tags::list_readable(paths)?;
    for tag in all.iter().filter(|tag| tag.source.is_some()) {
        let Some(reference) = &tag.reference else { continue };
        let is_neighbour =
            reference.registry() == destination.registry() && reference.repository() != destination.repository();
        if !is_neighbour
            || (repositories.len() >= limits::MOUNT_SOURCES_MAX && !repositories.contains(reference.repository()))
        {
            continue;
        }
        let bytes = blobs.read_verified(&tag.manifest.digest, limits::MANIFEST_BYTES_MAX);
        let document = bytes.and_then(|bytes| Document::parse(&bytes, Some(&tag.manifest.media_type)));
        if let Ok(Document::Manifest(manifest)) = document {
            repositories.insert(reference.repository().to_owned());
            let parts = manifest.layers.iter().chain([&manifest.config]);
            neighbours.extend(parts.map(|part| (part.digest, reference.repository().to_owned())));
        }
    }
    Ok(neighbours)
}

/// Brings a blob of an image, known by its manifest, into the store.
pub type Fetch<'a> = &'a (dyn Fn(&Digest, &Descriptor) -> Result<()> + Sync);

/// What sending needs.
struct Sender<'a> {
    client: Client,
    blobs: Blobs,
    neighbours: BTreeMap<Digest, String>,
    progress: &'a dyn Progress,
    fetch: Option<Fetch<'a>>,
}

impl Sender<'_> {
    fn send_blob(&self, image: &Item, blob: &Descriptor, progress: &dyn Progress) -> Result<Uploaded> {
        let source = self.neighbours.get(&blob.digest).map(String::as_str);
        let open = || match (self.blobs.file(&blob.digest), self.fetch) {
            (Err(missing), Some(fetch)) if missing.kind == Kind::NotFound => {
                fetch(&image.descriptor.digest, blob)?;
                self.blobs.file(&blob.digest)
            }
            (found, _) => found,
        };
        Ok(self.client.push_blob(blob, &open, source, progress)?)
    }

    /// Packs and sends layers, each once: its diff id, what it is there, and
    /// how it came there.
    fn send_layers(&self, images: &[Item], packing: Packing) -> Result<Vec<(Digest, Descriptor, Uploaded)>> {
        let mut seen = BTreeSet::new();
        let mut jobs = Vec::new();
        for image in images {
            for (descriptor, diff_id) in image.manifest.layers.iter().zip(&image.config.rootfs.diff_ids) {
                if seen.insert(descriptor.digest) {
                    let packing = packing.of(&self.blobs, descriptor, diff_id)?;
                    jobs.push(Layer { image, descriptor, diff_id, packing });
                }
            }
        }
        let packer = Packer::default();
        parallel::each(&jobs, limits::UPLOADS_MAX, |layer| {
            let packed = match layer.packing {
                Some(form) => pack(&packer, &self.blobs, layer.descriptor, layer.diff_id, form, self.progress)?,
                None => layer.descriptor.clone(),
            };
            let uploaded = self.send_blob(layer.image, &packed, self.progress)?;
            Ok((*layer.diff_id, packed, uploaded))
        })
    }

    /// Sends an image as it is, under its digest, unless it is there.
    fn send_image(&self, image: &Item) -> Result<()> {
        if self.client.has_manifest(&image.descriptor)? {
            return Ok(());
        }
        self.send_blob(image, &image.manifest.config, &registry::Silent)?;
        self.send_layers(std::slice::from_ref(image), Packing::Keep)?;
        let bytes = self.blobs.read_verified(&image.descriptor.digest, limits::MANIFEST_BYTES_MAX)?;
        let name = image.descriptor.digest.to_string();
        Ok(self.client.push_manifest(&name, &image.descriptor.media_type, &bytes)?)
    }

    /// Sends the manifests of an index by digest, then what is around them.
    fn send_index(&self, destination: &Reference, index: &StoredIndex) -> Result<()> {
        let root = index.indexes.last().map(|root| root.digest);
        for descriptor in index.images.iter().map(|image| &image.descriptor).chain(&index.indexes) {
            let bytes = self.blobs.read_verified(&descriptor.digest, limits::MANIFEST_BYTES_MAX)?;
            let is_root = root == Some(descriptor.digest);
            if is_root {
                check_name(destination, &descriptor.digest)?;
            }
            let name = if is_root { name(destination, &descriptor.digest) } else { descriptor.digest.to_string() };
            self.client.push_manifest(&name, &descriptor.media_type, &bytes)?;
        }
        Ok(())
    }
}

/// Sends a list, and before it its images unless `only_index`. What is not in
/// the store is mounted from where it was found, or brought by `fetch`.
pub fn send_list(
    paths: &Paths,
    list: &List,
    destination: &Reference,
    only_index: bool,
    (endpoint, options): (&Endpoint, &Options),
    fetch: Fetch<'_>,
    progress: &dyn Progress,
) -> Result<Descriptor> {
    refuse_local(destination)?;
    let blobs = Blobs::open(paths)?;
    let client = Client::new(endpoint, options)?.pushing();
    let contents = list.contents(&blobs)?;
    let neighbours = neighbours(paths, destination)?;
    let mut sender = Sender { client, blobs, neighbours, progress, fetch: Some(fetch) };
    for entry in contents.manifests.iter().filter(|_| !only_index) {
        let image = Item::read(&sender.blobs, &entry.descriptor())?;
        let source = list.sources.get(&entry.digest).filter(|source| source.registry() == destination.registry());
        if let Some(source) = source.filter(|source| source.repository() != destination.repository()) {
            let parts = image.manifest.layers.iter().chain([&image.manifest.config]);
            sender.neighbours.extend(parts.map(|part| (part.digest, source.repository().to_owned())));
        }
        sender.send_image(&image)?;
    }
    check_name(destination, &list.index.digest)?;
    let bytes = list.bytes(&sender.blobs)?;
    sender.client.push_manifest(&name(destination, &list.index.digest), &list.index.media_type, &bytes)?;
    Ok(list.index.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::archive::{self, ImportOptions};
    use crate::image::registry::fake::{Fault, Registry};
    use crate::image::registry::tests::pull;
    use crate::image::registry::{Route, Silent, Timeouts, Transport};
    use serde_json::json;
    use std::time::Duration;

    struct Home {
        paths: Paths,
        _dir: tempfile::TempDir,
    }

    fn home() -> Home {
        let dir = tempfile::tempdir().unwrap();
        Home { paths: Paths::new(dir.path().join("data"), dir.path().join("run")), _dir: dir }
    }

    fn options() -> Options {
        let wait = Duration::from_secs(5);
        let timeouts = Timeouts { connect: wait, idle: wait, document: wait, retry: Duration::from_millis(2) };
        Options { timeouts, ..Options::default() }
    }

    fn reference(registry: &Registry, name: &str) -> Reference {
        Reference::parse(&format!("{}/{name}", registry.host())).unwrap()
    }

    fn endpoint(reference: &Reference) -> Endpoint {
        Endpoint::of(reference, Transport::Auto, None)
    }

    impl Home {
        fn tag(&self, name: &str) -> Tag {
            lookup::find_tag(&self.paths, name).unwrap()
        }

        /// An image of one layer that is kept plain.
        fn import(&self, name: &str) -> Tag {
            let reference = Reference::parse_local(name).unwrap();
            let options = ImportOptions {
                reference: Some(reference.clone()),
                message: None,
                changes: Vec::new(),
                platform: Platform::host(),
            };
            let image = archive::import(&self.paths, &mut [0; 10_240].as_slice(), &options).unwrap();
            archive::keep(&self.paths, &image).unwrap();
            self.tag(&reference.to_string())
        }

        fn plan(&self, tag: &Tag, to: Reference, form: Option<Form>) -> Plan {
            plan(&self.paths, tag, to, None, form).unwrap()
        }

        fn push(&self, tag: &Tag, to: Reference) -> Pushed {
            self.send(&self.plan(tag, to, None)).unwrap()
        }

        fn send(&self, plan: &Plan) -> Result<Pushed> {
            send(&self.paths, plan, &endpoint(&plan.destination), &options(), &Silent)
        }
    }

    /// Serves an image for `architecture` with one plain layer; its descriptor.
    fn serve(registry: &Registry, name: &str, architecture: &str, layer: &[u8]) -> Descriptor {
        let config = json!({"os": "linux", "architecture": architecture,
            "rootfs": {"type": "layers", "diff_ids": [Digest::of(layer)]}});
        // Spaces that nobody's serialiser would write.
        let config = format!(" {config} ");
        for blob in [config.as_bytes(), layer] {
            registry.put_blob(&Digest::of(blob).to_string(), blob);
        }
        let manifest = json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST,
            "config": Descriptor::of(OCI_CONFIG, config.as_bytes()),
            "layers": [Descriptor::of("application/vnd.oci.image.layer.v1.tar", layer)]});
        let manifest = format!("{manifest}\n\n");
        let descriptor = Descriptor::of(OCI_MANIFEST, manifest.as_bytes());
        registry.put_manifest(name, "1", &descriptor.digest.to_string(), OCI_MANIFEST, manifest.as_bytes());
        let platform = Platform::parse(architecture).unwrap();
        Descriptor { platform: Some(platform), ..descriptor }
    }

    fn fetch(home: &Home, registry: &Registry, name: &str, platform: &str) -> Tag {
        let reference = reference(registry, name);
        let platform = Platform::parse(platform).unwrap();
        pull(&home.paths, &reference, &platform, &Route::direct(endpoint(&reference)), &options()).unwrap();
        home.tag(&reference.to_string())
    }

    #[test]
    fn what_was_pulled_keeps_its_bytes() {
        let (home, from, to) = (home(), Registry::start(), Registry::start());
        let served = serve(&from, "web", "amd64", b"layer");
        let tag = fetch(&home, &from, "web:1", "amd64");
        let pushed = home.push(&tag, reference(&to, "other/web:2"));
        assert_eq!((pushed.root.digest, pushed.root.size), (served.digest, served.size));
        assert_eq!(to.manifest("other/web", "2"), from.manifest("web", "1"));
        assert_eq!(pushed.layers, [(Digest::of(b"layer"), Uploaded::Sent)]);
        assert_eq!(home.tag(&tag.reference.clone().unwrap().to_string()), tag, "the store is as it was");
        let lines = to.lines("");
        assert!(lines.last().unwrap().starts_with("PUT /v2/other/web/manifests/2"), "{lines:?}");
    }

    #[test]
    fn plain_layers_of_our_own_are_packed_once() {
        let (home, registry) = (home(), Registry::start());
        let old = home.import("mine");
        let to = reference(&registry, "web:1");
        let named = Tag::new(Some(to.clone()), old.manifest.clone(), old.config);
        tags::set(&home.paths, &named).unwrap();
        let pushed = home.push(&old, to.clone());
        let (media_type, bytes) = registry.manifest("web", "1").unwrap();
        let Document::Manifest(manifest) = Document::parse(&bytes, Some(&media_type)).unwrap() else { panic!("index") };
        assert_eq!(manifest.layers[0].media_type, "application/vnd.oci.image.layer.v1.tar+gzip");
        assert_eq!((manifest.config.digest, Digest::of(&bytes)), (old.config, pushed.root.digest));
        assert!(pushed.layers[0].0 != manifest.layers[0].digest, "told by diff id");
        // Both names have the packed form now; one was pushed.
        let (mine, web) = (home.tag("mine"), home.tag(&to.to_string()));
        assert_eq!((mine.manifest.digest, web.manifest.digest), (pushed.root.digest, pushed.root.digest));
        assert_eq!((mine.source, web.source), (None, Some(pushed.root.digest)));
        assert!(pushed.replaced.contains(&old.manifest.digest) && pushed.replaced.len() == 2);
        let again = home.push(&mine, reference(&registry, "other:1"));
        assert_eq!((again.root.digest, again.replaced.len()), (pushed.root.digest, 0));
        assert_eq!(again.layers[0].1, Uploaded::Mounted("web".to_owned()));
    }

    #[test]
    fn a_form_that_was_asked_for_is_for_this_push_alone() {
        let (home, registry) = (home(), Registry::start());
        let tag = home.import("mine");
        for (compression, suffix) in
            [(Compression::Zstd, "+zstd"), (Compression::None, ""), (Compression::Gzip, "+gzip")]
        {
            let form = Form::new(compression, None).unwrap();
            let plan = home.plan(&tag, reference(&registry, "web:1"), Some(form));
            home.send(&plan).unwrap();
            let (_, bytes) = registry.manifest("web", "1").unwrap();
            let Document::Manifest(manifest) = Document::parse(&bytes, None).unwrap() else { panic!("index") };
            assert_eq!(manifest.layers[0].media_type, format!("application/vnd.oci.image.layer.v1.tar{suffix}"));
            assert_eq!(home.tag("mine"), tag);
        }
    }

    #[test]
    fn dockers_manifest_becomes_ocis_where_a_layer_changes() {
        let (home, registry) = (home(), Registry::start());
        let (gzip, plain) = (Form::default(), b"layer".as_slice());
        let blobs = Blobs::open(&home.paths).unwrap();
        blobs.put(plain).unwrap();
        let layer = Descriptor::of("application/vnd.docker.image.rootfs.diff.tar.gzip", plain);
        let packed = Packer::default().pack(&blobs, &layer, &layer.digest, gzip, &|_| {}).unwrap();
        let packed = Descriptor { media_type: layer.media_type.clone(), ..packed };
        let other = Descriptor { digest: blobs.put(b"other").unwrap(), ..layer.clone() };
        let config = json!({"os": "linux", "architecture": "amd64",
            "rootfs": {"type": "layers", "diff_ids": [layer.digest, other.digest]}})
        .to_string();
        blobs.put(config.as_bytes()).unwrap();
        let docker = "application/vnd.docker.distribution.manifest.v2+json";
        let manifest = json!({"schemaVersion": 2, "mediaType": docker, "layers": [packed, other],
            "config": Descriptor::of("application/vnd.docker.container.image.v1+json", config.as_bytes())})
        .to_string();
        blobs.put(manifest.as_bytes()).unwrap();
        let tag = Tag::new(None, Descriptor::of(docker, manifest.as_bytes()), Digest::of(config.as_bytes()));
        home.push(&tag, reference(&registry, "web:1"));
        let (media_type, bytes) = registry.manifest("web", "1").unwrap();
        assert_eq!(media_type, OCI_MANIFEST);
        let Document::Manifest(manifest) = Document::parse(&bytes, None).unwrap() else { panic!("index") };
        assert_eq!((manifest.layers[0].digest, manifest.config.media_type.as_str()), (packed.digest, OCI_CONFIG));
        assert!(manifest.layers.iter().all(|layer| layer.media_type.ends_with("v1.tar+gzip")), "{manifest:?}");
    }

    #[test]
    fn an_index_goes_as_a_whole_or_not_at_all() {
        let (home, from, to) = (home(), Registry::start(), Registry::start());
        let (arm, amd) = (serve(&from, "web", "arm64", b"arm"), serve(&from, "web", "amd64", b"amd"));
        let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [arm, amd]}).to_string();
        let digest = Digest::of(index.as_bytes());
        from.put_manifest("web", "1", &digest.to_string(), OCI_INDEX, index.as_bytes());
        let tag = fetch(&home, &from, "web:1", "amd64");
        assert_eq!(home.push(&tag, reference(&to, "web:one")).root.digest, amd.digest);
        fetch(&home, &from, "web:1", "arm64");
        let tag = fetch(&home, &from, "web:1", "amd64");
        let pushed = home.push(&tag, reference(&to, "web:all"));
        assert_eq!((pushed.root.digest, pushed.layers.len()), (digest, 2));
        assert_eq!(to.manifest("web", "all"), Some((OCI_INDEX.to_owned(), index.into_bytes())));
        assert_eq!(to.manifest("web", &arm.digest.to_string()), from.manifest("web", &arm.digest.to_string()));
        let platform = Platform::parse("arm64").unwrap();
        let one = plan(&home.paths, &tag, reference(&to, "web:arm"), Some(&platform), None).unwrap();
        assert_eq!(home.send(&one).unwrap().root.digest, arm.digest);
        let other = Platform::parse("s390x").unwrap();
        let failure = plan(&home.paths, &tag, reference(&to, "web:x"), Some(&other), None).unwrap_err();
        assert!(failure.to_string().contains("no image for platform linux/s390x"), "{failure}");
    }

    #[test]
    fn names_are_promises() {
        let (home, registry) = (home(), Registry::start());
        let tag = home.import("mine");
        let refused = plan(&home.paths, &tag, Reference::parse_local("mine").unwrap(), None, None).unwrap_err();
        assert!(refused.to_string().contains("not of a registry"), "{refused}");
        let wrong = reference(&registry, "web").at(Digest::of(b"other"));
        let failure = home.send(&home.plan(&tag, wrong, None)).unwrap_err();
        assert!(failure.to_string().contains("not the one in the name"), "{failure}");
        let pushed = home.push(&tag, reference(&registry, "web:1"));
        let right = reference(&registry, "web").at(pushed.root.digest);
        home.push(&home.tag("mine"), right);
        assert!(registry.lines("PUT").last().unwrap().ends_with(&pushed.root.digest.to_string()));
    }

    #[test]
    fn a_failure_leaves_no_name_behind() {
        let (home, registry) = (home(), Registry::start());
        let tag = home.import("mine");
        registry.fault("PUT /v2/web/blobs/", Fault::Status(403, vec![]), 1);
        let plan = home.plan(&tag, reference(&registry, "web:1"), None);
        let failure = home.send(&plan).unwrap_err();
        assert!(failure.sentence().starts_with("cannot push "), "{failure}");
        assert_eq!(registry.manifest("web", "1"), None);
        assert_eq!(home.tag("mine"), tag);
        assert_eq!(std::fs::read_dir(home.paths.staging()).unwrap().count(), 0);
    }
}
