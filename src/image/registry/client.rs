//! The client: manifests and blobs of one repository, with whatever
//! authentication the registry asks for (distribution spec, "Pull").
//! upload.rs has the other direction.
//!
//! Credentials and tokens are bound to this one repository at this one
//! origin. A challenge counts only if the registry itself sent it.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::sync::Mutex;

use ureq::http::header;

use super::address::{Origin, Transport, Url};
use super::challenge::{self, Challenge};
use super::credentials::Credentials;
use super::error::Error;
use super::transport::{Authorization, Connections, Reply, Request, Timeouts, is_worth_retrying};
use crate::error::Failure;
use crate::image::blobs::{BlobWriter, Blobs};
use crate::image::descriptor::{self, Descriptor};
use crate::image::digest::Digest;
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
    pub(super) registry: String,
    pub(super) repository: String,
    pub(super) origin: Origin,
    pub(super) credentials: Option<Credentials>,
    pub(super) connections: Connections,
    /// What we want to do with the repository, in the words of token scopes.
    actions: &'static str,
    /// What worked last, by the scopes it is good for. Nothing is locked
    /// after it.
    authorization: Mutex<BTreeMap<Vec<String>, Authorization>>,
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
            actions: "pull",
            authorization: Mutex::new(BTreeMap::new()),
        })
    }

    /// The same client, that may push too.
    #[must_use]
    pub fn pushing(mut self) -> Self {
        self.actions = "pull,push";
        self
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

    /// Fetches a blob into the store, unless it is there; verified.
    pub fn blob(&self, blob: &Descriptor, blobs: &Blobs, progress: &dyn Progress) -> Result<(), Error> {
        let id = blob.digest.to_string();
        progress.start(&id, blob.size);
        if !blobs.has(blob)? {
            let mut writer = blobs.writer(Some(blob.digest), Some(blob.size))?;
            self.download(blob, &mut writer, progress)?;
            writer.finish().map_err(|failure| failure.doing(format!("receive from {}", self.registry)))?;
        }
        progress.done(&id);
        Ok(())
    }

    /// Writes the blob's bytes; a stream that breaks off goes on where it ended.
    fn download(&self, blob: &Descriptor, writer: &mut BlobWriter<'_>, progress: &dyn Progress) -> Result<(), Error> {
        let what = format!("blob {}", blob.digest);
        let id = blob.digest.to_string();
        let url = self.url(&format!("/v2/{}/blobs/{}", self.repository, blob.digest))?;
        let mut tries = 1;
        loop {
            let mut request = Request::document(url.clone(), &[]);
            request.is_document = false;
            request.from = writer.bytes();
            let reply = self.checked(&request, &what)?;
            let resumes = reply.status == 206 && resumes_at(&reply, request.from);
            if request.from > 0 && !resumes {
                if reply.status == 206 {
                    return Err(Error::Refused(format!(
                        "{} sent another part of {what} than asked for",
                        self.registry
                    )));
                }
                writer.restart()?;
                progress.start(&id, blob.size);
            }
            let expected = blob.size - writer.bytes();
            if let Some(length) = reply.length().filter(|length| *length != expected) {
                return Err(Error::Refused(format!(
                    "{} sends {length} bytes of {what} instead of {expected}",
                    self.registry
                )));
            }
            match copy(&mut reply.into_body(), writer, &mut |bytes| progress.advance(&id, bytes)) {
                Ok(()) => return Ok(()),
                Err(Broken::Write(failure)) => return Err(failure.into()),
                // It broke after the last byte; the digest is the judge.
                Err(Broken::Read(_)) if blob.size > 0 && writer.bytes() == blob.size => return Ok(()),
                Err(Broken::Read(error)) if is_worth_retrying(&error) && tries < limits::REQUEST_TRIES_MAX => {
                    std::thread::sleep(self.connections.backoff(tries));
                    tries += 1;
                }
                Err(Broken::Read(error)) => return Err(self.broken(&what, &error)),
            }
        }
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
        self.authorized(request, &[self.scope()], what, |request| self.connections.send(request))
    }

    /// Our repository and what we do with it, as a token's scope.
    pub(super) fn scope(&self) -> String {
        format!("repository:{}:{}", self.repository, self.actions)
    }

    /// Sends the request with what is good for `scopes`, and once more when
    /// the registry asks who we are.
    pub(super) fn authorized<E: From<Error>>(
        &self,
        request: &Request<'_>,
        scopes: &[String],
        what: &str,
        send: impl Fn(&Request<'_>) -> Result<Reply, E>,
    ) -> Result<Reply, E> {
        let mut request = request.clone();
        let is_own = request.url.origin == self.origin;
        request.authorization = self.known_authorization(scopes).filter(|_| is_own);
        let reply = send(&request)?;
        // A challenge from where a redirect led is none of ours.
        if reply.status != 401 || reply.origin != self.origin || !is_own {
            return Ok(reply);
        }
        let headers = reply.headers.get_all(header::WWW_AUTHENTICATE);
        let challenges = challenge::parse(headers.iter().filter_map(|value| value.to_str().ok()));
        for challenge in &challenges {
            if let Some(authorization) = self.answer(challenge, scopes, what)? {
                request.authorization = Some(authorization.clone());
                let reply = send(&request)?;
                if reply.status != 401 {
                    let mut known = self.authorization.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                    known.insert(scopes.to_vec(), authorization);
                }
                return Ok(reply);
            }
        }
        Ok(reply)
    }

    fn known_authorization(&self, scopes: &[String]) -> Option<Authorization> {
        self.authorization.lock().unwrap_or_else(std::sync::PoisonError::into_inner).get(scopes).cloned()
    }

    /// What to answer to a challenge, if we can.
    fn answer(&self, challenge: &Challenge, scopes: &[String], what: &str) -> Result<Option<Authorization>, Error> {
        match challenge {
            Challenge::Basic => Ok(self.credentials.as_ref().map(|credentials| Authorization(credentials.basic()))),
            Challenge::Bearer { realm, service } => self.token(realm, service.as_deref(), scopes, what).map(Some),
        }
    }

    /// A token for what we are about to do, and for nothing else: the scopes
    /// are ours, not the challenge's.
    fn token(&self, realm: &str, service: Option<&str>, scopes: &[String], what: &str) -> Result<Authorization, Error> {
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
        let mut parameters: Vec<(&str, &str)> = scopes.iter().map(|scope| ("scope", scope.as_str())).collect();
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

    pub(super) fn url(&self, path: &str) -> Result<Url, Error> {
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
pub(super) fn told_digest(reply: &Reply) -> Option<Digest> {
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

enum Broken {
    Read(std::io::Error),
    Write(Failure),
}

fn copy(body: &mut impl Read, writer: &mut BlobWriter<'_>, arrived: &mut dyn FnMut(u64)) -> Result<(), Broken> {
    let mut buffer = vec![0; 128 << 10];
    loop {
        let count = match body.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(Broken::Read(error)),
        };
        let bytes = buffer.get(..count).unwrap_or_default();
        writer.write_all(bytes).map_err(|error| Broken::Write(Failure::from(error).doing("write blob")))?;
        arrived(count as u64);
    }
}
