//! The client: manifests and blobs of one repository at one endpoint
//! (distribution spec, "Pull"); `upload` has the other direction. Who we are
//! there is for `session` to say.

use std::io::{Read, Write};

use ureq::http::header;

use super::address::Url;
use super::error::Error;
use super::route::Endpoint;
use super::session::{Purpose, Session};
use super::transport::{Options, Reply, Request, is_worth_retrying};
use crate::error::Failure;
use crate::image::blobs::{BlobWriter, Blobs};
use crate::image::descriptor::{self, Descriptor};
use crate::image::digest::Digest;
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

    /// Fetches a blob into the store, unless it is there; verified.
    pub fn blob(&self, blob: &Descriptor, blobs: &Blobs, progress: &dyn Progress) -> Result<(), Error> {
        let id = blob.digest.to_string();
        progress.start(&id, blob.size);
        if !blobs.has(blob)? {
            let mut writer = blobs.writer(Some(blob.digest), Some(blob.size))?;
            self.download(blob, &mut writer, progress)?;
            writer.finish().map_err(|failure| failure.doing(format!("receive from {}", self.session.registry)))?;
        }
        progress.done(&id);
        Ok(())
    }

    /// Writes the blob's bytes; a stream that breaks off goes on where it ended.
    fn download(&self, blob: &Descriptor, writer: &mut BlobWriter<'_>, progress: &dyn Progress) -> Result<(), Error> {
        let what = format!("blob {}", blob.digest);
        let id = blob.digest.to_string();
        let url = self.session.url(format!("/v2/{}/blobs/{}", self.repository, blob.digest));
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
                        self.session.registry
                    )));
                }
                writer.restart()?;
                progress.start(&id, blob.size);
            }
            let expected = blob.size - writer.bytes();
            if let Some(length) = reply.length().filter(|length| *length != expected) {
                return Err(Error::Refused(format!(
                    "{} sends {length} bytes of {what} instead of {expected}",
                    self.session.registry
                )));
            }
            match copy(&mut reply.into_body(), writer, &mut |bytes| progress.advance(&id, bytes)) {
                Ok(()) => return Ok(()),
                Err(Broken::Write(failure)) => return Err(failure.into()),
                // It broke after the last byte; the digest is the judge.
                Err(Broken::Read(_)) if blob.size > 0 && writer.bytes() == blob.size => return Ok(()),
                Err(Broken::Read(error)) if is_worth_retrying(&error) && tries < limits::REQUEST_TRIES_MAX => {
                    std::thread::sleep(self.session.connections.backoff(tries));
                    tries += 1;
                }
                Err(Broken::Read(error)) => return Err(self.broken(&what, &error)),
            }
        }
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
