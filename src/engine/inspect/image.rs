//! All about an image (moby api/types/image, InspectResponse).

use serde_json::{Map, Value, json};

use crate::engine::inventory::Sizes;
use crate::image::lookup::StoredImage;
use crate::image::reference::Reference;

/// The document. Layers are directories of one mapping of ids each, so there
/// is no `GraphDriver`.
pub fn document(image: &StoredImage, sizes: &Sizes) -> Value {
    let config = &image.config;
    let names = |references: &[Reference]| references.iter().map(Reference::familiar).collect::<Vec<_>>();
    let tagged: Vec<Reference> = image.references.iter().filter(|name| name.tag().is_some()).cloned().collect();
    json!({
        "Id": image.id.to_string(),
        "RepoTags": names(&tagged),
        "RepoDigests": names(&image.sources),
        "Parent": "",
        "Comment": config.history.last().and_then(|step| step.comment.clone()).unwrap_or_default(),
        "Created": config.created,
        "Author": config.author.clone().unwrap_or_default(),
        "Architecture": config.architecture,
        "Variant": config.variant.as_deref().unwrap_or_default(),
        "Os": config.os,
        "Size": sizes.size,
        "Config": run_config(image),
        "RootFS": {"Type": config.rootfs.kind, "Layers": config.rootfs.diff_ids},
        "Descriptor": image.descriptor,
        // Podman's places for what is above and in Config.
        "Digest": image.descriptor.digest,
        "Labels": config.config.labels,
    })
}

/// The author's defaults; what is usually asked for is there even when empty.
fn run_config(image: &StoredImage) -> Value {
    let mut fields = Map::new();
    for (name, value) in [
        ("User", json!("")),
        ("Env", Value::Null),
        ("Cmd", Value::Null),
        ("Entrypoint", Value::Null),
        ("WorkingDir", json!("")),
        ("Labels", Value::Null),
        ("Volumes", Value::Null),
        ("ExposedPorts", Value::Null),
        ("Healthcheck", Value::Null),
        ("StopSignal", json!("")),
        ("Shell", Value::Null),
        ("OnBuild", Value::Null),
    ] {
        fields.insert(name.to_owned(), value);
    }
    if let Ok(Value::Object(set)) = serde_json::to_value(&image.config.config) {
        fields.extend(set);
    }
    Value::Object(fields)
}
