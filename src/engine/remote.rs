//! What a name means out there: which image it is, where that is to be had,
//! and as whom.

use crate::error::{Context, Failure, Result};
use crate::image::reference::Reference;
use crate::image::registry::{Credentials, Endpoint, Logins, Options, Registries, Route, Transport};

/// An image of a registry, and the way to it.
#[derive(Debug, Clone)]
pub struct Remote {
    /// The name the image has, wherever it is fetched from.
    pub reference: Reference,
    /// Where it is fetched from.
    pub route: Route,
    /// How registries are talked to.
    pub options: Options,
}

/// The image that `text` names. `plain_http` allows a registry without TLS
/// that is not on this machine.
pub fn find(text: &str, plain_http: bool) -> Result<Remote> {
    let registries = Registries::of_this_user()?;
    // As podman and skopeo name a registry's images.
    let reference = registries.reference(text.strip_prefix("docker://").unwrap_or(text))?;
    let route = registries.route(&reference, transport(plain_http), login)?;
    Ok(Remote { reference, route, options: Options::of_this_user()? })
}

/// The references of all tags that the repository `text` has.
pub fn tags(text: &str, plain_http: bool) -> Result<Vec<Reference>> {
    let Remote { reference, route, options } = find(text, plain_http)?;
    let doing = || format!("list the tags of \"{}\"", reference.familiar_name());
    let tags = route.ask(&options, |client| Ok(client.tags()?)).doing(doing)?;
    tags.iter().map(|tag| reference.tagged(tag)).collect::<Result<_, _>>().doing(doing)
}

/// The name that `text` is for something out there.
pub fn reference(text: &str) -> Result<Reference> {
    Registries::of_this_user()?.reference(text)
}

/// Podman's transports that are no registry.
const OTHER_TRANSPORTS: [&str; 6] =
    ["dir:", "docker-archive:", "docker-daemon:", "oci:", "oci-archive:", "containers-storage:"];

/// A destination as podman takes it: with or without `docker://`.
pub fn parse_destination(text: &str) -> Result<Reference> {
    if OTHER_TRANSPORTS.iter().any(|transport| text.starts_with(transport)) {
        return Err(Failure::usage(format!("\"{text}\" is no registry"))
            .hint("kelp save writes images to archives and directories"));
    }
    reference(text.strip_prefix("docker://").unwrap_or(text))
}

/// Whether `text` names no tag and no digest.
pub fn is_bare(text: &str, reference: &Reference) -> bool {
    let tag = format!(":{}", reference.tag().unwrap_or_default());
    reference.digest().is_none() && !text.ends_with(&tag)
}

/// Where `reference` is sent to.
pub fn destination(reference: &Reference, plain_http: bool) -> Result<(Endpoint, Options)> {
    let endpoint = Registries::of_this_user()?.destination(reference, transport(plain_http), login)?;
    Ok((endpoint, Options::of_this_user()?))
}

/// A registry, and what a person wrote behind its name.
#[derive(Debug, Clone)]
pub struct Place {
    /// Host, with a port if one was given.
    pub registry: String,
    /// Whether it was named, or is that of short names.
    pub is_named: bool,
    /// All behind it.
    pub rest: String,
    /// HTTPS, or plain HTTP where that is allowed.
    pub transport: Transport,
    /// Who we are there; `None` is nobody in particular.
    pub credentials: Option<Credentials>,
    /// How registries are talked to.
    pub options: Options,
}

/// The registry in `text` and what follows it: `quay.io/fedora`.
pub fn place(text: &str, plain_http: bool) -> Result<Place> {
    let registries = Registries::of_this_user()?;
    let named = text.split_once('/').and_then(|(first, rest)| {
        // Any image of it will do to see whether it is a registry.
        let image = format!("{first}/image");
        let is_full = Reference::parse_short(&image).is_ok_and(|short| short.is_none());
        Some((Reference::parse(&image).ok().filter(|_| is_full)?.registry().to_owned(), rest))
    });
    let is_named = named.is_some();
    let (registry, rest) = named.unwrap_or_else(|| (registries.of_short_names().to_owned(), text));
    let transport = if plain_http { Transport::Plain } else { registries.transport(&registry)? };
    let credentials = login(&registry)?;
    Ok(Place { registry, is_named, rest: rest.to_owned(), transport, credentials, options: Options::of_this_user()? })
}

fn transport(plain_http: bool) -> Transport {
    if plain_http { Transport::Plain } else { Transport::Auto }
}

fn login(name: &str) -> Result<Option<Credentials>> {
    Ok(Logins::of_this_user(None).find(name)?.map(|found| found.credentials))
}
