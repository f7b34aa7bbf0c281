//! Images on their way out into files: chosen by what people type, written by
//! `image::archive`.

use crate::container::events::{self, Event};
use crate::error::Result;
use crate::image::archive::{self, Chosen, Format, Output};
use crate::image::blobs::Blobs;
use crate::image::garbage;
use crate::image::lookup;
use crate::image::reference::Reference;
use crate::image::registry::Progress;
use crate::paths::Paths;

/// How images are saved.
pub struct SaveOptions<'a> {
    /// The form.
    pub format: Format,
    /// The place.
    pub output: Output<'a>,
    /// The time that all entries of a tar have, in seconds since 1970.
    pub modified_s: u64,
}

/// Saves the images that `images` name. A name is kept, an id brings no name.
pub fn save(paths: &Paths, images: &[String], options: &SaveOptions<'_>, progress: &dyn Progress) -> Result<()> {
    // What is being read is not collected meanwhile.
    let _guard = garbage::hold(paths)?;
    let mut chosen = Vec::new();
    for text in images {
        let tag = lookup::find_tag(paths, text)?;
        let name = tag.reference.clone().filter(|_| lookup::is_name_of(text, &tag));
        chosen.push(Chosen { tag, name });
    }
    archive::save(&Blobs::open(paths)?, &chosen, options.format, &options.output, options.modified_s, progress)?;
    let told = chosen.iter().map(|Chosen { tag, name }| {
        let id = tag.config.to_string();
        Event::of_image("save", &id, &name.as_ref().map_or_else(|| id.clone(), Reference::familiar))
    });
    events::write(paths, &told.collect::<Vec<_>>());
    Ok(())
}
