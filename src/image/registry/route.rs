//! The route to an image: which registries are asked for it, in which order,
//! and as whom.
//!
//! Whoever serves it, the image keeps the name by which the user called it,
//! and is verified by digest as ever.

use super::address::Transport;
use super::client::Client;
use super::credentials::Credentials;
use super::transport::Options;
use crate::error::{Failure, Kind, Result};
use crate::image::reference::Reference;

/// One place that may have an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Host, with a port if one was given.
    pub registry: String,
    /// The name within the registry.
    pub repository: String,
    /// HTTPS, or plain HTTP where that is allowed.
    pub transport: Transport,
    /// Who we are there; `None` is nobody in particular.
    pub credentials: Option<Credentials>,
}

impl Endpoint {
    /// The registry that `reference` itself names.
    pub fn of(reference: &Reference, transport: Transport, credentials: Option<Credentials>) -> Self {
        Self {
            registry: reference.registry().to_owned(),
            repository: reference.repository().to_owned(),
            transport,
            credentials,
        }
    }

    /// Registry and repository.
    fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }
}

/// Where to ask for an image, one after the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Mirrors, in their order.
    pub mirrors: Vec<Endpoint>,
    /// The place of origin, asked last.
    pub location: Endpoint,
}

impl Route {
    /// The way without mirrors.
    pub fn direct(location: Endpoint) -> Self {
        Self { mirrors: Vec::new(), location }
    }

    /// What the first endpoint gives that gives anything. `ask` may be called
    /// for one after the other; what it has put into the store need not be
    /// fetched again. The failure is that of the place of origin.
    pub fn ask<T>(&self, options: &Options, mut ask: impl FnMut(&Client) -> Result<T>) -> Result<T> {
        let mut missed = Vec::new();
        let mut ask = |endpoint| Client::new(endpoint, options).map_err(Failure::from).and_then(|client| ask(&client));
        for mirror in &self.mirrors {
            match ask(mirror) {
                Err(failure) if is_of_the_other_side(&failure) => {
                    missed.push(format!("mirror {} was of no use: {failure}", mirror.name()));
                }
                result => return result,
            }
        }
        ask(&self.location).map_err(|failure| missed.into_iter().fold(failure, Failure::hint))
    }
}

/// Whether another server might do better. A full disk, which has an errno,
/// stays full.
fn is_of_the_other_side(failure: &Failure) -> bool {
    failure.errno.is_none() && failure.kind != Kind::Bug
}
