//! What a name means out there: which image it is, where that is to be had,
//! and as whom.

use crate::error::Result;
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
    let reference = registries.reference(text)?;
    let route = registries.route(&reference, transport(plain_http), login)?;
    Ok(Remote { reference, route, options: Options::of_this_user()? })
}

/// Where `reference` is sent to.
pub fn destination(reference: &Reference, plain_http: bool) -> Result<(Endpoint, Options)> {
    let endpoint = Registries::of_this_user()?.destination(reference, transport(plain_http), login)?;
    Ok((endpoint, Options::of_this_user()?))
}

fn transport(plain_http: bool) -> Transport {
    if plain_http { Transport::Plain } else { Transport::Auto }
}

fn login(name: &str) -> Result<Option<Credentials>> {
    Ok(Logins::of_this_user(None).find(name)?.map(|found| found.credentials))
}
