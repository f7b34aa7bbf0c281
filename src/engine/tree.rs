//! Layers and the images that stand on them, as a tree: images that begin
//! with the same layers share a trunk.

use super::inventory::{Item, LayerSizes};
use crate::image::digest::Digest;

/// A layer, the images that end with it and the layers that stand on it.
#[derive(Debug, PartialEq, Eq)]
pub struct Branch {
    /// Its diff id.
    pub layer: Digest,
    /// Bytes of content (inventory.rs, "Sizes").
    pub size: u64,
    /// Names of images whose topmost layer it is; ids of those without a name.
    pub images: Vec<String>,
    /// What stands on it.
    pub above: Vec<Branch>,
}

/// One layer of one image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shared {
    /// Its diff id.
    pub layer: Digest,
    /// Its blob.
    pub blob: Digest,
    /// Bytes of content (inventory.rs, "Sizes").
    pub size: u64,
    /// Bytes of its blob.
    pub packed: u64,
    /// Whether it is unpacked.
    pub is_unpacked: bool,
    /// The other images that have it, wherever in them.
    pub shared_with: Vec<String>,
}

/// The tree of `images`.
pub fn grow<'a>(images: impl IntoIterator<Item = &'a Item>, sizes: &LayerSizes) -> Vec<Branch> {
    let mut roots = Vec::new();
    for image in images {
        let mut branches: &mut Vec<Branch> = &mut roots;
        let mut layers = image.layers().peekable();
        while let Some((blob, layer)) = layers.next() {
            let place = branches.iter().position(|branch| branch.layer == *layer).unwrap_or_else(|| {
                let size = sizes.of(blob, layer);
                branches.push(Branch { layer: *layer, size, images: Vec::new(), above: Vec::new() });
                branches.len() - 1
            });
            let Some(branch) = branches.get_mut(place) else { break };
            if layers.peek().is_none() {
                branch.images.extend(names(image));
            }
            branches = &mut branch.above;
        }
    }
    roots
}

/// The layers of `image`, lowest first, and who else of `all` has them.
pub fn layers(image: &Item, all: &[Item], sizes: &LayerSizes) -> Vec<Shared> {
    let others = |layer: &Digest| {
        let have = |other: &&Item| other.id != image.id && other.layers().any(|(_, id)| id == layer);
        all.iter().filter(have).flat_map(names).collect()
    };
    let shared = |(blob, layer): (&crate::image::Descriptor, &Digest)| Shared {
        layer: *layer,
        blob: blob.digest,
        size: sizes.of(blob, layer),
        packed: blob.size,
        is_unpacked: sizes.unpacked(layer).is_some(),
        shared_with: others(layer),
    };
    image.layers().map(shared).collect()
}

/// All names of an image, or its id.
pub fn names(image: &Item) -> Vec<String> {
    let names: Vec<String> = image.references().map(crate::image::Reference::familiar).collect();
    if names.is_empty() { vec![image.id.short()] } else { names }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::inventory::Sizes;
    use crate::image::config::ImageConfig;
    use crate::image::descriptor::{Descriptor, OCI_CONFIG, OCI_MANIFEST};
    use crate::image::manifest::Manifest;
    use crate::image::reference::Reference;
    use crate::image::tags::Tag;

    /// An image of layers that are named by single letters.
    fn image(name: &str, layers: &str) -> Item {
        let blob = |letter: char| Descriptor::of("layer", letter.to_string().as_bytes());
        let mut config = ImageConfig::default();
        config.rootfs.diff_ids = layers.chars().map(|letter| blob(letter).digest).collect();
        let manifest = Manifest::new(Descriptor::of(OCI_CONFIG, b""), layers.chars().map(blob).collect());
        let id = Digest::of(name.as_bytes());
        let reference = Some(Reference::parse(name).unwrap());
        let tags = vec![Tag::new(reference, Descriptor::of(OCI_MANIFEST, b""), id)];
        Item { id, tags, documents: Ok((manifest, config)), sizes: Sizes::default() }
    }

    /// The tree as text: `a(web)[b(db)]`.
    fn drawn(branches: &[Branch]) -> String {
        let letter = |layer: &Digest| ('a'..='z').find(|letter| Digest::of(letter.to_string().as_bytes()) == *layer);
        let draw = |branch: &Branch| {
            let names: String =
                branch.images.iter().map(|name| format!("({})", name.trim_end_matches(":latest"))).collect();
            let above = drawn(&branch.above);
            let above = if above.is_empty() { above } else { format!("[{above}]") };
            format!("{}{names}{above}", letter(&branch.layer).unwrap())
        };
        branches.iter().map(draw).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn images_share_a_trunk() {
        let images =
            [image("base", "ab"), image("web", "abc"), image("db", "abd"), image("other", "ca"), image("same", "ab")];
        let tree = grow(&images, &LayerSizes::default());
        assert_eq!(drawn(&tree), "a[b(base)(same)[c(web) d(db)]] c[a(other)]");
        let layers = layers(&images[1], &images, &LayerSizes::default());
        let shared: Vec<usize> = layers.iter().map(|layer| layer.shared_with.len()).collect();
        assert_eq!(shared, [4, 3, 1]);
        assert!(grow(&[image("empty", "")], &LayerSizes::default()).is_empty());
    }
}
