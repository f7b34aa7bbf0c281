//! `commit`: an image from a container: the layers of its image and one more
//! with what it changed.
//!
//! The container is read as it is, running or not, and not paused for it. Its
//! layer is written plain: a push compresses it once with all cores
//! (docs/design/0002-push.md), and a commit is not slowed by it.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;

use super::pack::{self, Files};
use super::transfer;
use crate::container::events::{self, Action};
use crate::container::record::Record;
use crate::container::store;
use crate::error::{Context, Failure, Kind, Result};
use crate::image::blobs::Blobs;
use crate::image::compression::Compression;
use crate::image::config::change;
use crate::image::derived::{Derived, Step};
use crate::image::descriptor::Descriptor;
use crate::image::digest::Digest;
use crate::image::garbage;
use crate::image::lookup;
use crate::image::platform::Platform;
use crate::image::reference::Reference;
use crate::image::registry::Progress;
use crate::image::tags::{self, Tag};
use crate::kernel::process;
use crate::paths::Paths;
use crate::process::base::Base;
use crate::storage::pack::{Form, Options, Summary};

/// What the image shall be.
#[derive(Debug, Clone, Default)]
pub struct CommitOptions {
    /// Its name.
    pub reference: Option<Reference>,
    /// Who made it.
    pub author: Option<String>,
    /// A remark for its history.
    pub message: Option<String>,
    /// Dockerfile instructions for its config ([`change::apply`]).
    pub changes: Vec<String>,
    /// The time of the image, and the latest that a file of it may have;
    /// seconds since 1970 (SOURCE_DATE_EPOCH). `None` is now.
    pub date_s: Option<i64>,
}

/// A new image.
#[derive(Debug)]
pub struct Committed {
    /// Its id.
    pub id: Digest,
    /// One line each.
    pub notices: Vec<String>,
}

/// How the progress is named.
const PACKING: &str = "pack layer";

/// Makes an image of the container called `name`.
pub fn commit(paths: &Paths, name: &str, options: &CommitOptions, progress: &dyn Progress) -> Result<Committed> {
    let container = store::find(paths, name)?;
    let doing = || format!("commit container \"{name}\"");
    let record = &container.record;
    let files = Files::of(paths, &container).doing(doing)?;
    let created = match options.date_s {
        Some(date) => jiff::Timestamp::from_second(date).map_err(|error| Failure::usage(error.to_string()))?,
        None => jiff::Timestamp::now(),
    };
    // From here on nobody collects what the image is made of.
    let _guard = garbage::hold(paths)?;
    let blobs = Blobs::open(paths)?;
    let mut derived = begin(paths, &blobs, record).doing(doing)?;
    // Before the layer, which may be large: a slip is told at once.
    change::apply(&mut derived.config, &options.changes)?;
    let (layer, summary) = write_layer(paths, &blobs, &files, record, options.date_s, progress).doing(doing)?;
    pack::check_still_there(paths, &container).doing(doing)?;
    derived
        .add(Step {
            created,
            created_by: record.config.cmd.join(" "),
            author: options.author.clone(),
            comment: options.message.clone(),
            layer,
        })
        .doing(doing)?;
    let (manifest, id) = derived.store(&blobs).doing(doing)?;
    tags::set(paths, &Tag::new(options.reference.clone(), manifest.clone(), id))?;
    let (image, name) = (id.to_string(), options.reference.as_ref().map(ToString::to_string).unwrap_or_default());
    let comment = options.message.as_deref().unwrap_or_default();
    events::tell(paths, record, Action::Commit { image: &image, name: &name, comment });
    let mut notices = pack::notices(&summary);
    // Unpacked now, so that its first run is as fast as the second. That it
    // could not be does not take the image away.
    match transfer::unpack(paths, &manifest, progress) {
        Ok(found) => notices.extend(found),
        Err(failure) => notices.push(format!("the image is here but not unpacked: {failure}")),
    }
    Ok(Committed { id, notices })
}

/// The image that the container was made from, to run as the container does;
/// nothing for one that runs on a directory.
fn begin(paths: &Paths, blobs: &Blobs, record: &Record) -> Result<Derived> {
    let run = record.config.clone();
    if record.image_id.is_empty() {
        return Ok(Derived::from_scratch(&Platform::host(), run));
    }
    let image = lookup::find(paths, &record.image_id).map_err(|failure| match failure.kind {
        Kind::NotFound => Failure::user(format!("its image \"{}\" was removed", record.image))
            .hint(format!("kelp pull {} brings its layers back, if the name still stands for them", record.image))
            .hint("kelp export writes all files of the container without them"),
        _ => failure,
    })?;
    for layer in &image.manifest.layers {
        if !blobs.has(layer)? {
            return Err(Failure::user(format!("layer {} of its image is not in the store", layer.digest.short()))
                .hint(format!("kelp pull {}", record.image)));
        }
    }
    Ok(Derived::from(&image.manifest, &image.config, run))
}

type Layer = Option<(Descriptor, Digest)>;

/// Packs what the container changed into a blob, hashed as it comes. `None` if
/// there is nothing. A container on a directory changed all of it.
fn write_layer(
    paths: &Paths,
    blobs: &Blobs,
    files: &Files,
    record: &Record,
    newest_s: Option<i64>,
    progress: &dyn Progress,
) -> Result<(Layer, Summary)> {
    let old = if record.image_id.is_empty() { Vec::new() } else { files.lowers.clone() };
    let passed_over = files.mount_points.iter().cloned().collect();
    let options = Options { newest_s, passed_over, ..Options::of(Form::Layer) };
    let (reading, writing) = process::pipe()?;
    // A smaller pipe is only slower.
    process::grow_pipe(writing.as_fd(), PIPE_BYTES).ok();
    let mut base = Base::find(paths)?;
    progress.start(PACKING, 0);
    let ids = (&files.id_map, files.id_map_key.as_str());
    let packing = pack::start(&mut base, ids, (&files.stack(), &old), options, writing.as_fd())?;
    drop(writing);
    let mut blob = blobs.writer(None, None)?;
    let copied = copy(&mut File::from(reading), &mut blob, progress);
    // Where it is we who stopped, the stage knows of no more than a broken pipe.
    copied.doing(|| "write layer")?;
    let summary = packing.finish()?;
    progress.done(PACKING);
    if summary.entries == 0 {
        return Ok((None, summary));
    }
    let (digest, size) = blob.finish()?;
    Ok((Some((Descriptor::new(Compression::None.layer_media_type(), digest, size), digest)), summary))
}

/// What users may have in a pipe (/proc/sys/fs/pipe-max-size).
const PIPE_BYTES: i32 = 1 << 20;

fn copy(from: &mut impl Read, to: &mut impl Write, progress: &dyn Progress) -> Result<()> {
    let mut buffer = vec![0; PIPE_BYTES as usize];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => {
                to.write_all(buffer.get(..count).unwrap_or_default())?;
                progress.advance(PACKING, count as u64);
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
}
