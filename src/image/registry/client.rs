//! The client: manifests and blobs of one repository, with whatever
//! authentication the registry asks for (distribution spec, "Pull").
//!
//! Credentials and tokens are bound to this one repository at this one
//! origin. A challenge counts only if the registry itself sent it.

use std::io::{Read, Write};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use ureq::http::header;

use super::address::{Origin, Transport, Url};
use super::challenge::{self, Challenge};
use super::credentials::Credentials;
use super::error::Error;
use super::transport::{Authorization, Connections, Reply, Request, Timeouts, is_worth_retrying};
use crate::error::Failure;
use crate::image::blobs::Blobs;
use crate::image::descriptor::{self, Descriptor};
use crate::image::digest::Digest;
use crate::image::partial::{Complete, Partial, Wrong};
use crate::image::quote::quoted;
use crate::image::reference::Reference;
use crate::limits;

/// How to talk to a registry.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// HTTPS, or plain HTTP where that is allowed.
    pub transport: Transport,
    /// Who we are; `None` is nobody in particular.
    pub credentials: Option<Credentials>,
    /// How long to wait.
    pub timeouts: Timeouts,
}

/// Who wants to know how far a transfer is. Called from several threads.
pub trait Progress: Sync {
    /// Something of `total` bytes begins, or begins again from nothing.
    fn start(&self, id: &str, total: u64);
    /// So many more bytes arrived.
    fn advance(&self, id: &str, bytes: u64);
    /// It is here, whether it was fetched or already was.
    fn done(&self, id: &str);
}

/// Nobody does.
pub struct Silent;

impl Progress for Silent {
    fn start(&self, _: &str, _: u64) {}
    fn advance(&self, _: &str, _: u64) {}
    fn done(&self, _: &str) {}
}

/// Manifests in every form we read.
const ACCEPT: [&str; 4] =
    [descriptor::OCI_INDEX, descriptor::OCI_MANIFEST, descriptor::DOCKER_MANIFEST_LIST, descriptor::DOCKER_MANIFEST];

/// A manifest or index as it was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    /// The bytes; verified if they were asked for by digest.
    pub bytes: Vec<u8>,
    /// Their digest.
    pub digest: Digest,
    /// What the registry says they are.
    pub media_type: Option<String>,
}

/// One repository of one registry.
pub struct Client {
    /// The registry as the user wrote it, for messages.
    registry: String,
    repository: String,
    origin: Origin,
    credentials: Option<Credentials>,
    connections: Connections,
    /// What worked last. Nothing is locked after it.
    authorization: Mutex<Option<Authorization>>,
}

impl Client {
    /// A client for the repository of `reference`. Does not connect yet.
    pub fn new(reference: &Reference, options: &Options) -> Result<Self, Error> {
        Ok(Self {
            registry: reference.registry().to_owned(),
            repository: reference.repository().to_owned(),
            origin: Origin::of_registry(reference.registry(), options.transport)?,
            credentials: options.credentials.clone(),
            connections: Connections::new(options.timeouts),
            authorization: Mutex::new(None),
        })
    }

    /// The manifest or index of `reference`: by digest if it has one, else by
    /// tag.
    pub fn manifest(&self, reference: &Reference) -> Result<Sent, Error> {
        let request = Request::document(self.manifest_url(reference)?, &ACCEPT);
        let what = shown(reference);
        let reply = self.checked(&request, &what)?;
        let told = told_digest(&reply);
        let media_type = reply.header(header::CONTENT_TYPE).map(str::to_owned);
        let length = reply.length();
        let bytes = reply.read(limits::MANIFEST_BYTES_MAX).map_err(|error| self.broken(&what, &error))?;
        let digest = Digest::of(&bytes);
        if length.is_some_and(|length| length != bytes.len() as u64) {
            return Err(Error::Refused(format!("{} sent {what} with another length than announced", self.registry)));
        }
        for expected in reference.digest().into_iter().chain(told.as_ref()) {
            if *expected != digest {
                return Err(Error::Refused(format!(
                    "{} sent other content than it should: {what} has digest {digest}, not {expected}",
                    self.registry
                )));
            }
        }
        Ok(Sent { bytes, digest, media_type })
    }

    /// Fetches a blob into the store, unless it is there; verified. The caller
    /// holds no [`Partial`].
    pub fn blob(&self, blob: &Descriptor, blobs: &Blobs) -> Result<(), Error> {
        let Some(partial) = blobs.wait_for(blob)? else { return Ok(()) };
        let complete = self.fetch(partial, &Silent, &AtomicBool::new(false))?;
        complete.write_out()?;
        Ok(complete.publish(blobs)?)
    }

    /// Fetches what is missing of a blob; verified. Ends with
    /// [`Error::Stopped`] soon after `stop` was set.
    pub fn fetch(&self, mut partial: Partial, progress: &dyn Progress, stop: &AtomicBool) -> Result<Complete, Error> {
        let id = partial.blob().digest.to_string();
        progress.start(&id, partial.blob().size);
        progress.advance(&id, partial.bytes());
        loop {
            match self.download(&mut partial, progress, stop) {
                Ok(()) => {}
                // What was sent is wrong, and no beginning to go on with.
                Err(error @ Error::Refused(_)) => {
                    partial.discard()?;
                    return Err(error);
                }
                Err(error) => return Err(error),
            }
            match partial.complete() {
                Ok(complete) => {
                    progress.done(&id);
                    return Ok(complete);
                }
                Err(wrong) if wrong.partial.resumed() > 0 => {
                    partial = wrong.partial;
                    partial.restart()?;
                    progress.start(&id, partial.blob().size);
                }
                Err(wrong) => {
                    let Wrong { partial, failure } = *wrong;
                    partial.discard()?;
                    return Err(failure.doing(format!("receive from {}", self.registry)).into());
                }
            }
        }
    }

    /// Writes the blob's bytes; a stream that breaks off goes on where it ended.
    fn download(&self, partial: &mut Partial, progress: &dyn Progress, stop: &AtomicBool) -> Result<(), Error> {
        let blob = partial.blob().clone();
        let what = format!("blob {}", blob.digest);
        let id = blob.digest.to_string();
        let mut tries = 1;
        while partial.bytes() < blob.size || blob.size == 0 {
            let mut body = self.ask_for(&blob, partial.bytes(), &what)?;
            match copy(&mut body, partial, stop, &mut |bytes| progress.advance(&id, bytes)) {
                Ok(()) => return Ok(()),
                Err(Broken::Stopped) => return Err(Error::Stopped),
                Err(Broken::Write(error)) if error.kind() == std::io::ErrorKind::FileTooLarge => {
                    return Err(Error::Refused(format!("{} sends more of {what} than announced", self.registry)));
                }
                Err(Broken::Write(error)) => return Err(Failure::from(error).doing(format!("write {what}")).into()),
                Err(Broken::Read(error)) if is_worth_retrying(&error) && tries < limits::REQUEST_TRIES_MAX => {
                    std::thread::sleep(self.connections.backoff(tries));
                    tries += 1;
                }
                Err(Broken::Read(error)) => return Err(self.broken(&what, &error)),
            }
        }
        Ok(())
    }

    /// The blob's bytes behind the first `from`.
    fn ask_for(&self, blob: &Descriptor, from: u64, what: &str) -> Result<impl Read, Error> {
        let url = self.url(&format!("/v2/{}/blobs/{}", self.repository, blob.digest))?;
        let mut request = Request::document(url, &[]);
        (request.is_document, request.from) = (false, from);
        let reply = self.checked(&request, what)?;
        let is_part = reply.status == 206;
        if is_part && !resumes_at(&reply, from) {
            return Err(Error::Refused(format!("{} sent another part of {what} than asked for", self.registry)));
        }
        // A server that cannot resume sends what is here once more.
        let skip = if is_part { 0 } else { from };
        let expected = blob.size - from + skip;
        if let Some(length) = reply.length().filter(|length| *length != expected) {
            return Err(Error::Refused(format!(
                "{} sends {length} bytes of {what} instead of {expected}",
                self.registry
            )));
        }
        Ok(Skipping { body: reply.into_body(), skip })
    }

    /// Sends the request, authenticated as the registry wants it, and passes
    /// only success on.
    fn checked(&self, request: &Request<'_>, what: &str) -> Result<Reply, Error> {
        let reply = self.authenticated(request, what)?;
        let registry = self.registry.clone();
        let what = what.to_owned();
        match reply.status {
            200 | 206 => Ok(reply),
            401 | 403 => {
                let with_credentials = self.credentials.is_some();
                Err(Error::Unauthorized { registry, what, with_credentials, detail: reply.detail() })
            }
            404 => Err(Error::NotFound { registry, what }),
            status @ (429 | 503) => Err(Error::Busy { registry, status, detail: reply.detail() }),
            status => Err(Error::Status { registry, what, status, detail: reply.detail() }),
        }
    }

    fn authenticated(&self, request: &Request<'_>, what: &str) -> Result<Reply, Error> {
        let mut request = request.clone();
        request.authorization = self.known_authorization();
        let reply = self.connections.send(&request)?;
        // A challenge from where a redirect led is none of ours.
        if reply.status != 401 || reply.origin != self.origin {
            return Ok(reply);
        }
        let headers = reply.headers.get_all(header::WWW_AUTHENTICATE);
        let challenges = challenge::parse(headers.iter().filter_map(|value| value.to_str().ok()));
        for challenge in &challenges {
            if let Some(authorization) = self.answer(challenge, what)? {
                request.authorization = Some(authorization.clone());
                let reply = self.connections.send(&request)?;
                if reply.status != 401 {
                    *self.authorization.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(authorization);
                }
                return Ok(reply);
            }
        }
        Ok(reply)
    }

    fn known_authorization(&self) -> Option<Authorization> {
        self.authorization.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    /// What to answer to a challenge, if we can.
    fn answer(&self, challenge: &Challenge, what: &str) -> Result<Option<Authorization>, Error> {
        match challenge {
            Challenge::Basic => Ok(self.credentials.as_ref().map(|credentials| Authorization(credentials.basic()))),
            Challenge::Bearer { realm, service } => self.token(realm, service.as_deref(), what).map(Some),
        }
    }

    /// A token for pulling from our repository, and for nothing else: the
    /// scope is ours, not the challenge's.
    fn token(&self, realm: &str, service: Option<&str>, what: &str) -> Result<Authorization, Error> {
        let url = Url::parse(realm)?;
        if !self.origin.may_send_to(&url.origin) {
            return Err(Error::Refused(format!(
                "{} wants a token from {}, which is not allowed",
                self.registry, url.origin
            )));
        }
        if self.credentials.is_some() && !self.origin.trusts_realm(&url.origin) {
            return Err(Error::Refused(format!(
                "{} wants your password sent to {}, which is not in its domain",
                self.registry, url.origin
            )));
        }
        let scope = format!("repository:{}:pull", self.repository);
        let mut parameters = vec![("scope", scope.as_str())];
        parameters.extend(service.map(|service| ("service", service)));
        let mut request = Request::document(url.with_query(&parameters), &[]);
        request.authorization = self.credentials.as_ref().map(|credentials| Authorization(credentials.basic()));
        let reply = self.connections.send(&request)?;
        let registry = self.registry.clone();
        match reply.status {
            200 => {}
            400 | 401 | 403 => {
                let with_credentials = self.credentials.is_some();
                let what = what.to_owned();
                return Err(Error::Unauthorized { registry, what, with_credentials, detail: reply.detail() });
            }
            status @ (429 | 503) => return Err(Error::Busy { registry, status, detail: reply.detail() }),
            status => {
                let what = "a token".to_owned();
                return Err(Error::Status { registry, what, status, detail: reply.detail() });
            }
        }
        let body = reply.read(limits::TOKEN_BYTES_MAX).map_err(|error| self.broken("a token", &error))?;
        read_token(&body).ok_or_else(|| Error::Refused(format!("the token server of {registry} sent no token")))
    }

    fn url(&self, path: &str) -> Result<Url, Error> {
        Ok(Url { origin: self.origin.clone(), path: path.to_owned() })
    }

    fn manifest_url(&self, reference: &Reference) -> Result<Url, Error> {
        let name = match (reference.digest(), reference.tag()) {
            (Some(digest), _) => digest.to_string(),
            (None, tag) => tag.unwrap_or(crate::image::reference::DEFAULT_TAG).to_owned(),
        };
        self.url(&format!("/v2/{}/manifests/{name}", self.repository))
    }

    /// An answer that broke off for good.
    fn broken(&self, what: &str, error: &std::io::Error) -> Error {
        if error.kind() == std::io::ErrorKind::FileTooLarge {
            return Error::Refused(format!("{} sends too much for {what}: {error}", self.registry));
        }
        let cause = format!("{what} broke off: {error}");
        Error::Unreachable { host: self.registry.clone(), cause, hint: Some("try again; what has arrived is kept") }
    }
}

fn shown(reference: &Reference) -> String {
    format!("image {}", quoted(&reference.familiar()))
}

/// `Docker-Content-Digest`, if it is one we can check.
fn told_digest(reply: &Reply) -> Option<Digest> {
    reply.headers.get("docker-content-digest")?.to_str().ok()?.parse().ok()
}

/// Whether a 206 answer starts at `from` (RFC 9110, 14.4).
fn resumes_at(reply: &Reply, from: u64) -> bool {
    let range = reply.header(header::CONTENT_RANGE).and_then(|range| range.strip_prefix("bytes "));
    range.and_then(|range| range.split('-').next()).and_then(|start| start.parse().ok()) == Some(from)
}

/// A token server calls it `token` or, as OAuth has it, `access_token`.
fn read_token(body: &[u8]) -> Option<Authorization> {
    let body: serde_json::Value = serde_json::from_slice(body).ok()?;
    let token =
        ["token", "access_token"].iter().find_map(|key| body.get(key)?.as_str().filter(|text| !text.is_empty()))?;
    let legal = token.bytes().all(|byte| byte.is_ascii_graphic());
    legal.then(|| Authorization(format!("Bearer {token}")))
}

/// A stream without its first bytes.
struct Skipping<R> {
    body: R,
    skip: u64,
}

impl<R: Read> Read for Skipping<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        while self.skip > 0 {
            let room = buffer.len().min(usize::try_from(self.skip).unwrap_or(usize::MAX));
            match self.body.read(buffer.get_mut(..room).unwrap_or_default())? {
                0 => return Ok(0),
                count => self.skip -= count as u64,
            }
        }
        self.body.read(buffer)
    }
}

enum Broken {
    Read(std::io::Error),
    Write(std::io::Error),
    Stopped,
}

fn copy(
    body: &mut impl Read,
    partial: &mut Partial,
    stop: &AtomicBool,
    arrived: &mut dyn FnMut(u64),
) -> Result<(), Broken> {
    let mut buffer = vec![0; 128 << 10];
    loop {
        let count = match body.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            // It broke after the last byte; the digest is the judge.
            Err(_) if partial.blob().size > 0 && partial.bytes() == partial.blob().size => return Ok(()),
            Err(error) => return Err(Broken::Read(error)),
        };
        let bytes = buffer.get(..count).unwrap_or_default();
        partial.write_all(bytes).map_err(Broken::Write)?;
        arrived(count as u64);
        if stop.load(Ordering::Relaxed) {
            return Err(Broken::Stopped);
        }
    }
}
