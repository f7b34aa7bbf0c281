//! Names of images: given and taken away. An image that loses its last name
//! stays, without one; removal.rs removes images.

use crate::container::events::{self, Event};
use crate::error::{Failure, Kind, Result};
use crate::image::blobs::Blobs;
use crate::image::garbage;
use crate::image::lookup;
use crate::image::reference::Reference;
use crate::image::stores;
use crate::image::tags::{self, Tag};
use crate::paths::Paths;

/// Gives the image `source` the names `targets` as well; a name without a
/// registry is one of our own. All names are checked before the first is given.
pub fn tag(paths: &Paths, source: &str, targets: &[String]) -> Result<()> {
    let references = targets.iter().map(|target| own_name(target)).collect::<Result<Vec<_>>>()?;
    let _guard = garbage::hold(paths)?;
    let found = lookup::find_tag(paths, source)?;
    if found.store.is_some() {
        stores::adopt(&Blobs::open(paths)?, &found)?;
    }
    let id = found.config.to_string();
    for reference in references {
        let name = reference.familiar();
        tags::set(paths, &Tag::new(Some(reference), found.manifest.clone(), found.config))?;
        events::write(paths, &[Event::of_image("tag", &id, &name)]);
    }
    Ok(())
}

fn own_name(text: &str) -> Result<Reference> {
    let reference = Reference::parse_local(text)?;
    if reference.digest().is_some() {
        return Err(Failure::usage(format!("the new name \"{text}\" cannot have a digest"))
            .hint("a digest comes from the content; give NAME or NAME:TAG"));
    }
    Ok(reference)
}

/// Takes `names` from the image, or all it has.
pub fn untag(paths: &Paths, image: &str, names: &[String]) -> Result<()> {
    let _guard = garbage::hold(paths)?;
    let found = lookup::find_own_tag(paths, image)?;
    let (all, _) = tags::list_readable(paths)?;
    let own: Vec<&Tag> = all.iter().filter(|tag| tag.config == found.config && tag.reference.is_some()).collect();
    let mut going = Vec::new();
    for name in names {
        let candidates = lookup::candidates(name)?;
        let named = own.iter().find(|tag| tag.reference.as_ref().is_some_and(|name| candidates.contains(name)));
        going.push(*named.ok_or_else(|| {
            let spellings = own.iter().filter_map(|tag| tag.reference.as_ref()).map(Reference::familiar);
            let failure = Failure::new(Kind::NotFound, format!("\"{name}\" is no name of image \"{image}\""));
            failure.did_you_mean(name, spellings.collect::<Vec<_>>().iter().map(String::as_str))
        })?);
    }
    let going = if names.is_empty() { own } else { going };
    tags::untag(paths, &going)?;
    let id = found.config.to_string();
    let names = going.iter().filter_map(|tag| tag.reference.as_ref()).map(Reference::familiar);
    events::write(paths, &names.map(|name| Event::of_image("untag", &id, &name)).collect::<Vec<_>>());
    Ok(())
}
