//! How an image came to be: the steps that its author wrote down, with the
//! layers that they made.

use super::inventory::LayerSizes;
use crate::error::Result;
use crate::image::digest::Digest;
use crate::image::lookup::{self, StoredImage};
use crate::paths::Paths;

/// One step.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Step {
    /// When, as the author wrote it (RFC 3339).
    pub created: Option<String>,
    /// By which command.
    pub created_by: String,
    /// A remark.
    pub comment: String,
    /// The layer it made, by its diff id.
    pub layer: Option<Digest>,
    /// Bytes of content of that layer (inventory.rs, "Sizes").
    pub size: u64,
}

/// The image that `text` names and its steps, newest first.
pub fn read(paths: &Paths, text: &str) -> Result<(StoredImage, Vec<Step>)> {
    let image = lookup::find(paths, text)?;
    let steps = steps(&image, &LayerSizes::read(paths)?);
    Ok((image, steps))
}

/// The config's history beside the layers. An author may have written less
/// than was done, or more: layers that no step claims are steps without a
/// word, steps without a layer are empty.
fn steps(image: &StoredImage, sizes: &LayerSizes) -> Vec<Step> {
    let mut layers = image.layers();
    let mut steps = Vec::new();
    let mut with_layer = |step: Step, layers: &mut dyn Iterator<Item = (&_, &Digest)>| match layers.next() {
        Some((blob, id)) => steps.push(Step { layer: Some(*id), size: sizes.of(blob, id), ..step }),
        None => steps.push(step),
    };
    for entry in &image.config.history {
        let step = Step {
            created: entry.created.clone(),
            created_by: entry.created_by.clone().unwrap_or_default(),
            comment: entry.comment.clone().unwrap_or_default(),
            ..Step::default()
        };
        if entry.empty_layer {
            with_layer(step, &mut std::iter::empty());
        } else {
            with_layer(step, &mut layers);
        }
    }
    let mut rest = layers.peekable();
    while rest.peek().is_some() {
        with_layer(Step { created: image.config.created.clone(), ..Step::default() }, &mut rest);
    }
    steps.reverse();
    steps
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::config::{History, ImageConfig};
    use crate::image::descriptor::{Descriptor, OCI_CONFIG, OCI_MANIFEST};
    use crate::image::manifest::Manifest;

    /// Commands and sizes, newest first, of an image with these steps (which
    /// are empty where their command begins with `#`) and layers.
    fn check(commands: &[&str], layers: u64, expected: &[(&str, u64)]) {
        let blob = |number: u64| Descriptor { size: number + 1, ..Descriptor::of("layer", &number.to_be_bytes()) };
        let mut config = ImageConfig::default();
        config.rootfs.diff_ids = (0..layers).map(|number| blob(number).digest).collect();
        config.history = commands
            .iter()
            .map(|command| History {
                created_by: Some((*command).to_owned()),
                empty_layer: command.starts_with('#'),
                ..History::default()
            })
            .collect();
        let manifest = Manifest::new(Descriptor::of(OCI_CONFIG, b""), (0..layers).map(blob).collect());
        let descriptor = Descriptor::of(OCI_MANIFEST, b"");
        let id = Digest::of(b"");
        let image = StoredImage { references: Vec::new(), sources: Vec::new(), descriptor, manifest, id, config };
        let found = steps(&image, &LayerSizes::default());
        let found: Vec<(&str, u64)> = found.iter().map(|step| (step.created_by.as_str(), step.size)).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn steps_and_layers_are_matched() {
        check(&["ADD", "#CMD", "RUN"], 2, &[("RUN", 2), ("#CMD", 0), ("ADD", 1)]);
        check(&[], 2, &[("", 2), ("", 1)]);
        check(&["ADD"], 2, &[("", 2), ("ADD", 1)]);
        check(&["ADD", "RUN"], 1, &[("RUN", 0), ("ADD", 1)]);
        check(&["#CMD"], 0, &[("#CMD", 0)]);
    }
}
