//! Images on their way out: pushed to a registry.

use super::{remote, removal};
use crate::container::events::{self, Event};
use crate::error::{Failure, Result};
use crate::image::blobs::Blobs;
use crate::image::garbage::{self, Guard};
use crate::image::lookup;
use crate::image::packing::Form;
use crate::image::platform::Platform;
use crate::image::push::{self, Plan, Pushed};
use crate::image::reference::Reference;
use crate::image::registry::Progress;
use crate::image::tags::{self, Tag};
use crate::paths::Paths;

/// What a user wants pushed.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// The image: a name, or an id where there is a destination.
    pub image: String,
    /// Where to, if not to where its name says.
    pub destination: Option<String>,
    /// All tags of the name instead of one.
    pub all_tags: bool,
    /// Only the image of an index for this platform.
    pub platform: Option<Platform>,
    /// How layers are to be compressed, if not as they are or have to be.
    pub form: Option<Form>,
    /// Talk to a registry without TLS that is not on this machine.
    pub plain_http: bool,
}

/// What is going to be pushed; collections wait while it exists.
pub struct Push {
    /// One for each tag.
    pub plans: Vec<Plan>,
    plain_http: bool,
    guard: Guard,
}

/// Decides what is pushed. Sends nothing.
pub fn plan(paths: &Paths, request: &Request) -> Result<Push> {
    let guard = garbage::hold(paths)?;
    let pairs = match request.all_tags {
        true => all_tags(paths, request)?,
        false => vec![one_tag(paths, request)?],
    };
    let planned = pairs.into_iter().map(|(tag, destination)| {
        push::plan(paths, &tag, destination, request.platform.as_ref(), request.form)
            .map_err(|failure| failure.doing(format!("push \"{}\"", request.image)))
    });
    Ok(Push { plans: planned.collect::<Result<_>>()?, plain_http: request.plain_http, guard })
}

/// Sends one of the plans.
pub fn send(paths: &Paths, push: &Push, plan: &Plan, progress: &dyn Progress) -> Result<Pushed> {
    let (endpoint, options) = remote::destination(&plan.destination, push.plain_http)?;
    let pushed = push::send(paths, plan, &endpoint, &options, progress)?;
    let (id, name) = (plan.destination.familiar(), plan.destination.familiar_name());
    events::write(paths, &[Event::of_image("push", &id, &name)]);
    Ok(pushed)
}

/// Makes room: what packed layers have replaced goes, unless something else
/// needs it.
pub fn finish(paths: &Paths, push: Push, pushed: &[Pushed]) -> Result<()> {
    drop(push.guard);
    let replaced = pushed.iter().flat_map(|pushed| &pushed.replaced).copied().collect();
    removal::collect_replaced(paths, &Blobs::open(paths)?, &replaced)
}

fn one_tag(paths: &Paths, request: &Request) -> Result<(Tag, Reference)> {
    let tag = lookup::find_tag(paths, &request.image)?;
    let named = lookup::candidates(&request.image).unwrap_or_default();
    let destination = match (&request.destination, &tag.reference) {
        (Some(text), _) => remote::parse_destination(text)?,
        (None, Some(reference)) if named.iter().any(|named| named.name() == reference.name()) => reference.clone(),
        (None, _) => {
            return Err(Failure::usage(format!("\"{}\" does not say where to push to", request.image))
                .hint(format!("kelp push {} REGISTRY/NAME[:TAG]", request.image)));
        }
    };
    Ok((tag, destination))
}

fn all_tags(paths: &Paths, request: &Request) -> Result<Vec<(Tag, Reference)>> {
    if let Some(destination) = &request.destination {
        return Err(Failure::usage(format!("--all-tags pushes to where the names say, not to \"{destination}\"")));
    }
    let candidates = lookup::candidates(&request.image)?;
    if !candidates.iter().all(|candidate| remote::is_bare(&request.image, candidate)) {
        return Err(Failure::usage(format!("--all-tags takes a name without a tag, not \"{}\"", request.image)));
    }
    let (all, _) = tags::list_readable(paths)?;
    for candidate in candidates {
        let of_name = |tag: &&Tag| {
            tag.reference.as_ref().is_some_and(|own| own.name() == candidate.name() && own.tag().is_some())
        };
        let found: Vec<(Tag, Reference)> =
            all.iter().filter(of_name).filter_map(|tag| Some((tag.clone(), tag.reference.clone()?))).collect();
        if !found.is_empty() {
            return Ok(found);
        }
    }
    Err(Failure::not_found(format!("there is no image named \"{}\"", request.image))
        .hint("kelp images lists what is here"))
}
