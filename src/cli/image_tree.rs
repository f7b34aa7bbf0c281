//! `kelp image tree`: layers, what they take and who shares them.

use clap::Args;
use serde_json::{Value, json};

use super::format::DocumentFormat;
use super::{Session, output, units};
use crate::engine::inventory::{self, Inventory, Item, LayerSizes};
use crate::engine::tree::{self, Branch, Shared};
use crate::error::{Failure, Result};
use crate::image::lookup;

/// Arguments of `kelp image tree`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The layers of this image, by name or id, instead of those of all
    #[arg(value_name = "IMAGE")]
    image: Option<String>,
    /// Do not shorten digests
    #[arg(long)]
    no_trunc: bool,
    /// How to print: json, or a Go template for each image
    #[arg(long, value_name = "FORMAT")]
    format: Option<DocumentFormat>,
}

/// Prints the tree, or one image's layers.
pub(super) fn run(arguments: Arguments, session: &Session) -> Result<i32> {
    // The image first: one that is found is in the inventory, or gone again.
    let wanted = arguments.image.as_ref().map(|name| lookup::find_tag(&session.paths, name)).transpose()?;
    let inventory = inventory::read_all(&session.paths)?;
    let sizes = LayerSizes::read(&session.paths)?;
    let chosen: Vec<&Item> = match (&wanted, &arguments.image) {
        (Some(tag), Some(name)) => {
            let image = inventory.images.iter().find(|image| image.id == tag.config);
            vec![image.ok_or_else(|| Failure::not_found(format!("there is no image \"{name}\" any more")))?]
        }
        _ => inventory.images.iter().collect(),
    };
    if let Some(format) = &arguments.format {
        let documents: Vec<Value> = chosen.iter().map(|image| document(image, &inventory, &sizes)).collect();
        format.print(&documents)?;
    } else if wanted.is_some() {
        for image in &chosen {
            print_image(image, &tree::layers(image, &inventory.images, &sizes), arguments.no_trunc);
        }
    } else {
        print_branches(&tree::grow(chosen.iter().copied(), &sizes), "", arguments.no_trunc, true);
        let bare = chosen.iter().filter(|image| image.layers().next().is_none() && image.documents.is_ok());
        bare.for_each(|image| output::line(format!("{} has no layers", tree::names(image).join(", "))));
    }
    for image in chosen {
        if let Err(failure) = &image.documents {
            output::notice(&format!("image \"{}\" is damaged: {failure}", image.shown_name()));
        }
    }
    inventory.damaged.iter().for_each(|failure| output::notice(&failure.sentence()));
    Ok(0)
}

fn print_branches(branches: &[Branch], indent: &str, whole: bool, is_root: bool) {
    for (place, branch) in branches.iter().enumerate() {
        let is_last = place + 1 == branches.len();
        let (joint, below) = match (is_root, is_last) {
            (true, _) => ("", ""),
            (_, true) => ("└── ", "    "),
            (_, false) => ("├── ", "│   "),
        };
        let layer = shown(&branch.layer, whole);
        let names = if branch.images.is_empty() { String::new() } else { format!("   {}", branch.images.join(", ")) };
        output::line(format!("{indent}{joint}{layer}   {:>6}{names}", units::bytes(branch.size)));
        print_branches(&branch.above, &format!("{indent}{below}"), whole, false);
    }
}

fn print_image(image: &Item, layers: &[Shared], whole: bool) {
    output::line(format!("Image ID: {}", shown(&image.id, whole)));
    let names: Vec<String> = image.references().map(|name| name.familiar()).collect();
    output::line(format!("Tags:     [{}]", names.join(" ")));
    let sizes = &image.sizes;
    let (shared, unique) = (units::bytes(sizes.shared), units::bytes(sizes.unique()));
    output::line(format!("Size:     {}, of it {shared} shared and {unique} unique", units::bytes(sizes.size)));
    output::line("Image Layers");
    for (place, layer) in layers.iter().enumerate() {
        let joint = if place + 1 == layers.len() { "└──" } else { "├──" };
        let with = match layer.shared_with.is_empty() {
            true => String::new(),
            false => format!("   shared with {}", layer.shared_with.join(", ")),
        };
        let packed = if layer.is_unpacked { "" } else { " (not unpacked)" };
        let (id, size) = (shown(&layer.layer, whole), units::bytes(layer.size));
        output::line(format!("{joint} {id}   {size:>6}{packed}{with}"));
    }
}

fn shown(digest: &crate::image::Digest, whole: bool) -> String {
    if whole { digest.to_string() } else { digest.short() }
}

fn document(image: &Item, inventory: &Inventory, sizes: &LayerSizes) -> Value {
    let layer = |layer: Shared| {
        json!({
            "layer": layer.layer,
            "blob": layer.blob,
            "size": layer.size,
            "packed_size": layer.packed,
            "unpacked": layer.is_unpacked,
            "shared_with": layer.shared_with,
        })
    };
    json!({
        "id": image.id,
        "names": image.references().map(|name| name.familiar()).collect::<Vec<_>>(),
        "size": image.sizes.size,
        "shared_size": image.sizes.shared,
        "unique_size": image.sizes.unique(),
        "layers": tree::layers(image, &inventory.images, sizes).into_iter().map(layer).collect::<Vec<_>>(),
    })
}
