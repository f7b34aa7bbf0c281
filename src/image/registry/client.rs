//! The client: manifests and blobs of one repository at one endpoint
//! (distribution spec, "Pull"); `upload` has the other direction. Who we are
//! there is for `session` to say.

use std::io::{Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use ureq::http::header;

use super::address::Url;
use super::error::Error;
use super::route::Endpoint;
use super::session::{Purpose, Session};
use super::transport::{Options, Reply, Request, is_worth_retrying};
use crate::error::Failure;
use crate::image::blobs::Blobs;
use crate::image::descriptor::{self, Descriptor};
use crate::image::digest::Digest;
use crate::image::partial::{Complete, Partial, Wrong};
use crate::image::quote::quoted;
use crate::image::reference::Reference;
use crate::limits;

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
    pub(super) session: Session,
    pub(super) repository: String,
    /// What tokens have to allow.
    pub(super) scopes: Vec<String>,
}

impl Client {
    /// A client for pulling from the repository at `endpoint`. Does not
    /// connect yet.
    pub fn new(endpoint: &Endpoint, options: &Options) -> Result<Self, Error> {
        let Endpoint { registry, repository, transport, credentials } = endpoint;
        Ok(Self {
            session: Session::new(registry, *transport, credentials.clone(), options)?,
            repository: repository.clone(),
            scopes: vec![format!("repository:{repository}:pull")],
        })
    }

    /// The same client, that may push too.
    #[must_use]
    pub fn pushing(self) -> Self {
        Self { scopes: vec![format!("repository:{}:pull,push", self.repository)], ..self }
    }

    /// The manifest or index of `reference`: by digest if it has one, else by
    /// tag.
    pub fn manifest(&self, reference: &Reference) -> Result<Sent, Error> {
        let request = Request::document(self.manifest_url(reference), &ACCEPT);
        let what = shown(reference);
        let reply = self.checked(&request, &what)?;
        let told = told_digest(&reply);
        let media_type = reply.header(header::CONTENT_TYPE).map(str::to_owned);
        let length = reply.length();
        let bytes = reply.read(limits::MANIFEST_BYTES_MAX).map_err(|error| self.broken(&what, &error))?;
        let digest = Digest::of(&bytes);
        if length.is_some_and(|length| length != bytes.len() as u64) {
            return Err(Error::Refused(format!(
                "{} sent {what} with another length than announced",
                self.session.registry
            )));
        }
        for expected in reference.digest().into_iter().chain(told.as_ref()) {
            if *expected != digest {
                return Err(Error::Refused(format!(
                    "{} sent other content than it should: {what} has digest {digest}, not {expected}",
                    self.session.registry
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
                    return Err(failure.doing(format!("receive from {}", self.session.registry)).into());
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
                    return Err(Error::Refused(format!(
                        "{} sends more of {what} than announced",
                        self.session.registry
                    )));
                }
                Err(Broken::Write(error)) => return Err(Failure::from(error).doing(format!("write {what}")).into()),
                Err(Broken::Read(error)) if is_worth_retrying(&error) && tries < limits::REQUEST_TRIES_MAX => {
                    std::thread::sleep(self.session.connections.backoff(tries));
                    tries += 1;
                }
                Err(Broken::Read(error)) => return Err(self.broken(&what, &error)),
            }
        }
        Ok(())
    }

    /// The blob's bytes behind the first `from`.
    fn ask_for(&self, blob: &Descriptor, from: u64, what: &str) -> Result<impl Read, Error> {
        let url = self.session.url(format!("/v2/{}/blobs/{}", self.repository, blob.digest));
        let mut request = Request::document(url, &[]);
        (request.is_document, request.from) = (false, from);
        let reply = self.checked(&request, what)?;
        let is_part = reply.status == 206;
        if is_part && !resumes_at(&reply, from) {
            return Err(Error::Refused(format!(
                "{} sent another part of {what} than asked for",
                self.session.registry
            )));
        }
        // A server that cannot resume sends what is here once more.
        let skip = if is_part { 0 } else { from };
        let expected = blob.size - from + skip;
        if let Some(length) = reply.length().filter(|length| *length != expected) {
            return Err(Error::Refused(format!(
                "{} sends {length} bytes of {what} instead of {expected}",
                self.session.registry
            )));
        }
        Ok(Skipping { body: reply.into_body(), skip })
    }

    fn checked(&self, request: &Request<'_>, what: &str) -> Result<Reply, Error> {
        self.session.checked(request, Purpose { what, scopes: &self.scopes })
    }

    fn manifest_url(&self, reference: &Reference) -> Url {
        let name = match (reference.digest(), reference.tag()) {
            (Some(digest), _) => digest.to_string(),
            (None, tag) => tag.unwrap_or(crate::image::reference::DEFAULT_TAG).to_owned(),
        };
        self.session.url(format!("/v2/{}/manifests/{name}", self.repository))
    }

    /// An answer that broke off for good.
    fn broken(&self, what: &str, error: &std::io::Error) -> Error {
        if error.kind() == std::io::ErrorKind::FileTooLarge {
            return Error::Refused(format!("{} sends too much for {what}: {error}", self.session.registry));
        }
        let cause = format!("{what} broke off: {error}");
        Error::Unreachable {
            host: self.session.registry.clone(),
            cause,
            hint: Some("try again; what has arrived is kept"),
        }
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
