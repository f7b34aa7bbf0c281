//! Pushing: blobs and manifests into one repository (distribution spec, "Push").
//!
//! ```text
//!   HEAD blob          there already: nothing is sent
//!   POST uploads       with ?mount=&from= where a neighbour has it: 201, done
//!   PUT location       all of it in one piece; most end here
//!     broken, busy     GET location: how much arrived? PATCH from there on, in chunks; PUT the end
//!     413              PATCH in chunks, smaller ones each time; PUT the end
//! ```
//!
//! Registries drop or keep what a broken request brought as they like; only
//! their word for it (`Range`) counts. A location is followed by the rules of
//! a redirect: it gets our credentials only if it is the registry itself.

use std::fs::File;
use std::time::Duration;

use ureq::http::{Method, header};

use super::address::Url;
use super::client::{Client, Progress, told_digest};
use super::error::{self, Error};
use super::session::Purpose;
use super::transport::{Content, Failed, Reply, Request, is_transient, retry_after};
use crate::error::Failure;
use crate::image::blobs;
use crate::image::descriptor::Descriptor;
use crate::image::digest::{Digest, Verifier};
use crate::limits;

/// How a blob came to be in the repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Uploaded {
    /// Its bytes were sent.
    Sent,
    /// It was there.
    WasThere,
    /// The registry took it from this repository of its own.
    Mounted(String),
}

impl Client {
    /// Whether the repository has a blob.
    pub fn has_blob(&self, blob: &Descriptor) -> Result<bool, Error> {
        let url = self.session.url(format!("/v2/{}/blobs/{}", self.repository, blob.digest));
        let request = Request { method: Method::HEAD, ..Request::document(url, &[]) };
        let what = shown(blob);
        let reply = self.push_request(&request, &self.scopes, &what)?;
        match reply.status {
            200..=299 => Ok(true),
            // It may not know HEAD; and an address in a storage, where a
            // redirect led, may be signed for GET alone.
            404 | 405 | 501 => Ok(false),
            _ if reply.origin != *self.session.origin() => Ok(false),
            _ => Err(self.refusal(reply, what)),
        }
    }

    /// Whether the repository has a manifest or index, and with that all it needs.
    pub fn has_manifest(&self, manifest: &Descriptor) -> Result<bool, Error> {
        let url = self.session.url(format!("/v2/{}/manifests/{}", self.repository, manifest.digest));
        let accept = [manifest.media_type.as_str()];
        let request = Request { method: Method::HEAD, ..Request::document(url, &accept) };
        let what = format!("manifest {}", manifest.digest);
        let reply = self.push_request(&request, &self.scopes, &what)?;
        match reply.status {
            200..=299 => Ok(true),
            404 | 405 | 501 => Ok(false),
            _ => Err(self.refusal(reply, what)),
        }
    }

    /// Brings a blob into the repository unless it is there. `source` is a
    /// repository of the same registry that may have it; `open` is asked for
    /// its content if it has to be sent.
    pub fn push_blob(
        &self,
        blob: &Descriptor,
        open: &dyn Fn() -> crate::error::Result<File>,
        source: Option<&str>,
        progress: &dyn Progress,
    ) -> Result<Uploaded, Error> {
        if self.has_blob(blob)? {
            return Ok(Uploaded::WasThere);
        }
        let mounted = match source {
            Some(source) => self.mount(blob, source)?,
            None => None,
        };
        let begun = match (mounted, source) {
            (Some(Begun::Mounted), Some(source)) => return Ok(Uploaded::Mounted(source.to_owned())),
            (Some(Begun::Upload(at)), _) => Some(at),
            _ => None,
        };
        let file = open()?;
        if file.metadata().map_err(Failure::from)?.len() != blob.size {
            return Err(blobs::damaged(&blob.digest).into());
        }
        let begun = begun.map_or_else(|| self.begin(blob), Ok)?;
        let id = blob.digest.to_string();
        progress.start(&id, blob.size);
        Upload { client: self, blob, file: &file, progress, at: begun, offset: 0, chunk: None, is_misplaced: false }
            .run()?;
        progress.done(&id);
        Ok(Uploaded::Sent)
    }

    /// Stores a manifest or index under `name`: a tag, or its digest.
    pub fn push_manifest(&self, name: &str, media_type: &str, bytes: &[u8]) -> Result<(), Error> {
        let url = self.session.url(format!("/v2/{}/manifests/{name}", self.repository));
        let request = Request::sending(Method::PUT, url, media_type, Content::Bytes(bytes));
        let what = format!("manifest {name}");
        let reply = self.push_request(&request, &self.scopes, &what)?;
        match reply.status {
            200..=299 => self.check_stored(&reply, &Digest::of(bytes), &what),
            _ => Err(self.refusal(reply, what)),
        }
    }

    /// Asks for the blob to be taken from a neighbour; `None` if the registry
    /// would not even hear of it.
    fn mount(&self, blob: &Descriptor, source: &str) -> Result<Option<Begun>, Error> {
        let scopes = [&self.scopes[..], &[format!("repository:{source}:pull")]].concat();
        let parameters = [("mount", blob.digest.to_string()), ("from", source.to_owned())];
        let parameters = parameters.each_ref().map(|(name, value)| (*name, value.as_str()));
        let url = self.uploads().with_query(&parameters);
        let request = Request::sending(Method::POST, url, OCTETS, Content::Bytes(&[]));
        let reply = match self.push_request(&request, &scopes, &shown(blob)) {
            Ok(reply) => reply,
            // No token for both repositories: then without the neighbour.
            Err(Error::Denied { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        match reply.status {
            201 => {
                self.check_stored(&reply, &blob.digest, &shown(blob))?;
                Ok(Some(Begun::Mounted))
            }
            202 => Ok(Some(Begun::Upload(self.begun(&request.url, &reply)?))),
            _ => Ok(None),
        }
    }

    fn begin(&self, blob: &Descriptor) -> Result<Location, Error> {
        let request = Request::sending(Method::POST, self.uploads(), OCTETS, Content::Bytes(&[]));
        let what = shown(blob);
        let reply = self.push_request(&request, &self.scopes, &what)?;
        match reply.status {
            202 => self.begun(&request.url, &reply),
            _ => Err(self.refusal(reply, what)),
        }
    }

    fn begun(&self, asked: &Url, reply: &Reply) -> Result<Location, Error> {
        let told = reply.header(header::LOCATION);
        let told = told
            .ok_or_else(|| Error::Refused(format!("{} takes an upload but says not where", self.session.registry)))?;
        let chunk_min = reply.headers.get("oci-chunk-min-length").and_then(|value| value.to_str().ok()?.parse().ok());
        Ok(Location { url: self.location(asked, reply, told)?, chunk_min: chunk_min.unwrap_or(0) })
    }

    /// Where an upload goes on, by the rules of a redirect.
    fn location(&self, asked: &Url, reply: &Reply, told: &str) -> Result<Url, Error> {
        let base = Url { origin: reply.origin.clone(), path: asked.path.clone() };
        let mut url = base.join(told)?;
        // A registry behind a proxy that ends TLS often calls itself plain.
        if self.session.origin().is_tls && !url.origin.is_tls && url.origin.host == self.session.origin().host {
            url.origin = self.session.origin().clone();
        }
        if !self.session.origin().may_send_to(&url.origin) {
            let message =
                format!("{} wants the upload sent to {}, which is not allowed", self.session.registry, url.origin);
            return Err(Error::Refused(message));
        }
        Ok(url)
    }

    fn uploads(&self) -> Url {
        self.session.url(format!("/v2/{}/blobs/uploads/", self.repository))
    }

    /// A request that may be repeated as it is.
    fn push_request(&self, request: &Request<'_>, scopes: &[String], what: &str) -> Result<Reply, Error> {
        self.session.send(request, Purpose { what, scopes }).map_err(|error| self.as_denied(error))
    }

    /// For one who pushes, no access is no access to the repository.
    fn as_denied(&self, error: Error) -> Error {
        match error {
            Error::Unauthorized { registry, with_credentials, detail, .. } => {
                Error::Denied { registry, repository: self.repository.clone(), with_credentials, detail }
            }
            other => other,
        }
    }

    /// What an answer means that is no success.
    fn refusal(&self, reply: Reply, what: String) -> Error {
        let status = reply.status;
        let body = reply.read(limits::TOKEN_BYTES_MAX).unwrap_or_default();
        let (registry, detail) = (self.session.registry.clone(), error::detail(&body));
        match status {
            401 | 403 => {
                let with_credentials = self.session.credentials.is_some();
                Error::Denied { registry, repository: self.repository.clone(), with_credentials, detail }
            }
            404 => Error::NoRepository { registry, repository: self.repository.clone(), detail },
            405 | 501 => Error::ReadOnly { registry, status, detail },
            413 => Error::TooLarge { registry, what, detail },
            507 => Error::Full { registry, detail },
            500..=599 if error::says_full(&body) => Error::Full { registry, detail },
            429 | 503 => Error::Busy { registry, status, detail },
            _ => Error::Status { registry, what, status, detail },
        }
    }

    fn check_stored(&self, reply: &Reply, expected: &Digest, what: &str) -> Result<(), Error> {
        match told_digest(reply) {
            Some(told) if told != *expected => {
                Err(Error::Refused(format!("{} stored {what} as {told}, not as {expected}", self.session.registry)))
            }
            _ => Ok(()),
        }
    }
}

/// Blobs are sent as what they are: bytes.
const OCTETS: &str = "application/octet-stream";

fn shown(blob: &Descriptor) -> String {
    format!("blob {}", blob.digest)
}

/// What came of the wish to upload.
enum Begun {
    Mounted,
    Upload(Location),
}

/// Where an upload is.
struct Location {
    url: Url,
    /// What the registry takes at least in one chunk but the last; bytes.
    chunk_min: u64,
}

/// One blob on its way.
struct Upload<'a> {
    client: &'a Client,
    blob: &'a Descriptor,
    file: &'a File,
    progress: &'a dyn Progress,
    at: Location,
    /// So much has arrived.
    offset: u64,
    /// The size of chunks; `None` sends all in one piece.
    chunk: Option<u64>,
    /// The registry would not have the last chunk at that offset.
    is_misplaced: bool,
}

/// What came of one request.
enum Step {
    Stored,
    Accepted,
    TooLarge(Error),
    /// What arrived is not known. Wait, perhaps as long as the registry says.
    Lost(Option<Duration>, Error),
}

impl Upload<'_> {
    fn run(mut self) -> Result<(), Error> {
        let mut tries = 1;
        loop {
            let (before, wait, error) = match self.step()? {
                Step::Stored => return Ok(()),
                Step::Accepted => {
                    tries = 1;
                    continue;
                }
                Step::TooLarge(error) => {
                    self.chunk = Some(self.smaller_chunk().ok_or(error)?);
                    self.at = self.begin_again()?;
                    continue;
                }
                Step::Lost(wait, error) => (self.offset, wait, error),
            };
            let pause = wait.unwrap_or_else(|| self.client.session.connections.backoff(tries));
            if tries >= limits::REQUEST_TRIES_MAX || pause > Duration::from_millis(limits::RETRY_WAIT_MS_MAX) {
                return Err(self.final_error(error));
            }
            std::thread::sleep(pause);
            self.chunk = Some(self.chunk.unwrap_or(limits::UPLOAD_CHUNK_BYTES).max(self.at.chunk_min));
            if self.resume()? {
                return Ok(());
            }
            tries = if self.offset > before { 1 } else { tries + 1 };
        }
    }

    /// Sends the rest in one piece, the next chunk, or after the last the end.
    fn step(&mut self) -> Result<Step, Error> {
        let rest = self.blob.size - self.offset;
        let length = self.chunk.unwrap_or(rest).min(rest);
        let ends = self.chunk.is_none() || rest == 0;
        let id = self.blob.digest.to_string();
        let sent = |bytes| self.progress.advance(&id, bytes);
        let content = match length {
            0 => Content::Bytes(&[]),
            _ => Content::Part { file: self.file, from: self.offset, length, sent: &sent },
        };
        let mut request = match ends {
            true => Request::sending(Method::PUT, self.at.url.clone().with_query(&[("digest", &id)]), OCTETS, content),
            false => Request::sending(Method::PATCH, self.at.url.clone(), OCTETS, content),
        };
        if let Some(payload) = request.payload.as_mut().filter(|_| !ends) {
            payload.offset = Some(self.offset);
        }
        let what = shown(self.blob);
        let purpose = Purpose { what: &what, scopes: &self.client.scopes };
        let connections = &self.client.session.connections;
        let sent = self.client.session.authorized(&request, purpose, |request| connections.send_once(request));
        let reply = match sent {
            Ok(reply) => reply,
            Err(Failed::Transient(error)) => return Ok(Step::Lost(None, error)),
            Err(Failed::Final(error)) => return Err(self.client.as_denied(error)),
        };
        match reply.status {
            200..=299 if ends => {
                self.client.check_stored(&reply, &self.blob.digest, &what)?;
                Ok(Step::Stored)
            }
            200..=299 => {
                let arrived = received(&reply).unwrap_or(self.offset + length);
                if arrived <= self.offset {
                    let message = format!("{} accepts {what} but keeps nothing of it", self.client.session.registry);
                    return Ok(Step::Lost(None, Error::Refused(message)));
                }
                self.move_to(&request.url, &reply, arrived)?;
                Ok(Step::Accepted)
            }
            413 => Ok(Step::TooLarge(self.client.refusal(reply, what))),
            // 404 and 416: it forgot the upload, or part of it.
            status if is_transient(status) || matches!(status, 404 | 416) => {
                self.is_misplaced = status == 416;
                let wait = retry_after(&reply.headers);
                Ok(Step::Lost(wait, self.client.refusal(reply, what)))
            }
            _ => Err(self.final_error(self.client.refusal(reply, what))),
        }
    }

    /// Finds out how much arrived, or begins again. True if the blob is there
    /// after all: only the answer was lost.
    fn resume(&mut self) -> Result<bool, Error> {
        let request = Request::document(self.at.url.clone(), &[]);
        let reply = self.client.push_request(&request, &self.client.scopes, &shown(self.blob));
        let told = reply.ok().filter(|reply| (200..=299).contains(&reply.status));
        // Where it wants no more is not where it can go on, whatever it says.
        let wrong = std::mem::take(&mut self.is_misplaced).then_some(self.offset);
        let arrived = told.as_ref().and_then(received).filter(|arrived| Some(*arrived) != wrong);
        let arrived = arrived.filter(|arrived| *arrived <= self.blob.size);
        match (told, arrived) {
            (Some(reply), Some(arrived)) => self.move_to(&request.url, &reply, arrived)?,
            _ if self.client.has_blob(self.blob)? => return Ok(true),
            _ => self.at = self.begin_again()?,
        }
        self.progress.start(&self.blob.digest.to_string(), self.blob.size);
        self.progress.advance(&self.blob.digest.to_string(), self.offset);
        Ok(false)
    }

    fn begin_again(&mut self) -> Result<Location, Error> {
        self.offset = 0;
        self.progress.start(&self.blob.digest.to_string(), self.blob.size);
        self.client.begin(self.blob)
    }

    fn move_to(&mut self, asked: &Url, reply: &Reply, arrived: u64) -> Result<(), Error> {
        if arrived > self.blob.size {
            let message =
                format!("{} says it has more of {} than there is", self.client.session.registry, shown(self.blob));
            return Err(Error::Refused(message));
        }
        self.offset = arrived;
        if let Some(told) = reply.header(header::LOCATION) {
            self.at.url = self.client.location(asked, reply, told)?;
        }
        Ok(())
    }

    /// The next size to try after one that was refused.
    fn smaller_chunk(&self) -> Option<u64> {
        let refused = self.chunk.unwrap_or(u64::MAX).min(self.blob.size);
        let smaller = (refused / 4).min(limits::UPLOAD_CHUNK_BYTES);
        (smaller >= limits::UPLOAD_CHUNK_BYTES_MIN.max(self.at.chunk_min)).then_some(smaller)
    }

    /// What is wrong may be our own blob.
    fn final_error(&self, error: Error) -> Error {
        if !matches!(error, Error::Status { status: 400, .. }) {
            return error;
        }
        let read = Verifier::new(self.file).finish(self.blob.size);
        match read.is_ok_and(|(digest, _)| digest != self.blob.digest) {
            true => blobs::damaged(&self.blob.digest).into(),
            false => error,
        }
    }
}

/// How many bytes of an upload have arrived: `Range: 0-LAST`.
fn received(reply: &Reply) -> Option<u64> {
    let range = reply.header(header::RANGE)?;
    let (first, last) = range.trim_start_matches("bytes=").split_once('-')?;
    let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
    // 0-0 is what registries say of an empty upload; if they mean one byte,
    // they say so (416) of the next chunk.
    match (first, last) {
        (0, 0) => Some(0),
        (0, last) => last.checked_add(1),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;
    use crate::image::blobs::Blobs;
    use crate::image::reference::Reference;
    use crate::image::registry::fake::{Fault, Registry, Rules};
    use crate::image::registry::{Credentials, Endpoint, Options, Silent, Timeouts, Transport};
    use crate::paths::Paths;

    struct Store {
        blobs: Blobs,
        dir: tempfile::TempDir,
    }

    fn store() -> Store {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(&Paths::new(dir.path().join("data"), dir.path().join("run"))).unwrap();
        Store { blobs, dir }
    }

    impl Store {
        fn put(&self, bytes: &[u8]) -> Descriptor {
            self.blobs.put(bytes).unwrap();
            Descriptor::of(OCTETS, bytes)
        }
    }

    fn options() -> Options {
        let wait = Duration::from_secs(5);
        let timeouts = Timeouts { connect: wait, idle: wait, document: wait, retry: Duration::from_millis(2) };
        Options { timeouts, ..Options::default() }
    }

    fn client(registry: &Registry, repository: &str, credentials: Option<Credentials>) -> Client {
        let reference = Reference::parse(&format!("{}/{repository}", registry.host())).unwrap();
        Client::new(&Endpoint::of(&reference, Transport::Auto, credentials), &options()).unwrap().pushing()
    }

    fn push(registry: &Registry, store: &Store, blob: &Descriptor) -> Result<Uploaded, Error> {
        push_by(&client(registry, "a/web", None), store, blob, None)
    }

    fn push_by(client: &Client, store: &Store, blob: &Descriptor, source: Option<&str>) -> Result<Uploaded, Error> {
        client.push_blob(blob, &|| store.blobs.file(&blob.digest), source, &Silent)
    }

    fn bytes(length: usize) -> Vec<u8> {
        (0..length).map(|n| (n % 251) as u8).collect()
    }

    /// What arrived is what was sent.
    #[track_caller]
    fn arrives(registry: &Registry, content: &[u8]) {
        let store = store();
        let blob = store.put(content);
        assert_eq!(push(registry, &store, &blob).unwrap(), Uploaded::Sent);
        assert!(registry.blob("a/web", &blob.digest.to_string()).unwrap() == content, "other bytes arrived");
    }

    #[track_caller]
    fn refused(registry: &Registry, why: &str) -> Failure {
        let store = store();
        let failure = Failure::from(push(registry, &store, &store.put(b"layer")).unwrap_err());
        assert!(failure.to_string().contains(why), "{failure}");
        failure
    }

    #[test]
    fn what_is_there_is_not_sent() {
        let (registry, store) = (Registry::start(), store());
        let blob = store.put(b"layer");
        assert_eq!(push(&registry, &store, &blob).unwrap(), Uploaded::Sent);
        assert_eq!(push(&registry, &store, &blob).unwrap(), Uploaded::WasThere);
        let methods: Vec<_> = registry.seen().iter().map(|seen| seen.method.clone()).collect();
        assert_eq!(methods, ["HEAD", "POST", "PUT", "HEAD"]);
        // Even where it is missing here.
        store.blobs.remove(&blob.digest).unwrap();
        assert_eq!(push(&registry, &store, &blob).unwrap(), Uploaded::WasThere);
        let gone = Descriptor::of(OCTETS, b"never seen");
        assert_eq!(Failure::from(push(&registry, &store, &gone).unwrap_err()).kind, Kind::NotFound);
        arrives(&registry, b"");
    }

    #[test]
    fn broken_uploads_go_on_where_they_were() {
        for forgets in [false, true] {
            let registry = Registry::start();
            registry.set_rules(Rules { forgets, ..Rules::default() });
            registry.fault("PUT", Fault::Break(100_000), 1);
            registry.fault("PATCH", Fault::Break(50_000), 1);
            arrives(&registry, &bytes(300_000));
            let ranges: Vec<_> =
                registry.seen().iter().filter_map(|seen| seen.headers.get("content-range").cloned()).collect();
            let expected = if forgets { ["0-299999"; 2] } else { ["100000-299999", "150000-299999"] };
            assert_eq!(ranges, expected, "forgets: {forgets}");
            assert_eq!(registry.lines("POST").len(), 1, "one upload is enough");
        }
    }

    #[test]
    fn a_lost_answer_is_asked_for() {
        let registry = Registry::start();
        // The end arrives, its answer does not.
        registry.fault("PUT", Fault::Swallow, 1);
        arrives(&registry, &bytes(1000));
        assert_eq!(registry.lines("POST").len(), 1);
        registry.fault("PUT", Fault::Break(10), 1);
        registry.fault("PATCH", Fault::Swallow, 1);
        arrives(&registry, &bytes(2000));
    }

    #[test]
    fn an_upload_that_was_forgotten_begins_again() {
        let registry = Registry::start();
        registry.fault("PUT", Fault::Break(10), 1);
        registry.fault("GET /v2/a/web/blobs/uploads/", Fault::Status(404, vec![]), 1);
        arrives(&registry, &bytes(1000));
        assert_eq!(registry.lines("POST").len(), 2);
    }

    #[test]
    fn busy_registries_are_waited_for() {
        let registry = Registry::start();
        registry.fault("POST", Fault::Status(429, vec![("Retry-After", "0".to_owned())]), 2);
        registry.fault("PUT", Fault::Status(503, vec![]), 2);
        registry.fault("PATCH", Fault::Status(500, vec![]), 2);
        arrives(&registry, &bytes(1000));
        registry.fault("PUT", Fault::Status(429, vec![("Retry-After", "86400".to_owned())]), 1);
        refused(&registry, "limits requests (status 429)");
    }

    #[test]
    fn it_ends_where_nothing_arrives() {
        let registry = Registry::start();
        registry.fault("PUT", Fault::Break(0), 99);
        registry.fault("PATCH", Fault::Break(0), 99);
        refused(&registry, "cannot reach 127.0.0.1");
        assert!(registry.seen().len() < 30);
        let registry = Registry::start();
        registry.set_rules(Rules { forgets: true, ..Rules::default() });
        registry.fault("PUT", Fault::Break(1), 1);
        registry.fault("uploads/upload", Fault::Header("Range", "0-0".to_owned()), 99);
        refused(&registry, "127.0.0.1");
        assert!(registry.seen().len() < 30);
        let registry = Registry::start();
        registry.fault("PUT", Fault::Break(1), 1);
        registry.fault("PATCH", Fault::Header("Range", "0-99".to_owned()), 99);
        refused(&registry, "more of blob");
    }

    #[test]
    fn too_large_a_request_is_cut_into_chunks() {
        let registry = Registry::start();
        let content = bytes(9 << 20);
        registry.set_rules(Rules { request_max: Some(3 << 20), ..Rules::default() });
        arrives(&registry, &content);
        let lengths: Vec<_> =
            registry.seen().iter().filter(|seen| seen.method == "PATCH").map(|seen| seen.body.len()).collect();
        assert_eq!(lengths, [9 << 18; 4]);
        // Asked before it was sent: nothing had to be taken back.
        assert!(registry.seen().iter().all(|seen| seen.method != "PUT" || seen.body.is_empty()));

        let registry = Registry::start();
        registry.set_rules(Rules { request_max: Some(3 << 20), chunk_min: 4 << 20, ..Rules::default() });
        let store = store();
        let failure = Failure::from(push(&registry, &store, &store.put(&content)).unwrap_err());
        assert!(failure.to_string().contains("as too large"), "{failure}");
    }

    #[test]
    fn chunks_are_as_long_as_the_registry_wants() {
        let registry = Registry::start();
        registry.set_rules(Rules { chunk_min: 200_000, ..Rules::default() });
        registry.fault("PUT", Fault::Break(5), 1);
        arrives(&registry, &bytes(500_000));
    }

    #[test]
    fn blobs_are_mounted_from_neighbours() {
        let (registry, store) = (Registry::start(), store());
        let blob = store.put(b"layer");
        let neighbour = client(&registry, "b/base", None);
        push_by(&neighbour, &store, &blob, None).unwrap();
        let from = |source| push_by(&client(&registry, "a/web", None), &store, &blob, Some(source)).unwrap();
        // A neighbour that has it not leaves us with an upload that has begun.
        assert_eq!(from("b/other"), Uploaded::Sent);
        assert_eq!(registry.lines("POST /v2/a/web").len(), 1);
        let registry_two = Registry::start();
        registry_two.fault("mount=", Fault::Status(403, vec![]), 1);
        let two = client(&registry_two, "a/web", None);
        assert_eq!(push_by(&two, &store, &blob, Some("b/base")).unwrap(), Uploaded::Sent);
        let web = client(&registry, "c/web", None);
        let mounted = push_by(&web, &store, &blob, Some("b/base")).unwrap();
        assert_eq!(mounted, Uploaded::Mounted("b/base".to_owned()));
        assert_eq!(registry.blob("c/web", &blob.digest.to_string()).unwrap(), b"layer");
    }

    #[test]
    fn tokens_are_for_what_is_done() {
        let (registry, store) = (Registry::start(), store());
        registry.require_token("t0ken", Some(("me", "secret")));
        let pushing = client(&registry, "a/web", Some(Credentials::new("me", "secret")));
        let blob = store.put(b"layer");
        push_by(&pushing, &store, &blob, Some("b/base")).unwrap();
        pushing.push_manifest("latest", "application/json", b"{}").unwrap();
        let tokens = registry.lines("/token");
        let own = "scope=repository%3Aa%2Fweb%3Apull%2Cpush";
        assert_eq!(
            tokens,
            [
                format!("GET /token?{own}&service=test&account=me"),
                format!("GET /token?{own}&scope=repository%3Ab%2Fbase%3Apull&service=test&account=me"),
            ]
        );
        let failure = Failure::from(push(&registry, &store, &store.put(b"other")).unwrap_err());
        assert!(failure.to_string().contains("refused the push to \"a/web\""), "{failure}");
        assert!(failure.hints[0].contains("kelp login 127.0.0.1"), "{failure:?}");
    }

    #[test]
    fn locations_get_no_more_than_redirects() {
        // Another server of this machine: it gets the bytes, not the token.
        let (registry, other) = (Registry::start(), Registry::start());
        registry.require_token("t0ken", None);
        registry.set_rules(Rules { location: Some(format!("http://{}", other.host())), ..Rules::default() });
        other.fault("PUT", Fault::Status(201, vec![]), 1);
        let store = store();
        push(&registry, &store, &store.put(b"layer")).unwrap();
        assert!(other.seen().iter().all(|seen| !seen.headers.contains_key("authorization")), "{:?}", other.seen());
        assert_eq!(other.seen()[0].body, b"layer");
        // A challenge from there is none of ours.
        other.fault("PUT", Fault::Status(401, vec![("WWW-Authenticate", "Basic realm=\"x\"".to_owned())]), 1);
        refused(&registry, "refused the push");
        assert_eq!(other.seen().len(), 2);

        for (location, why) in [
            ("http://registry.example", "which is not allowed"),
            ("http://me:secret@127.0.0.1", "not a URL"),
            ("file:///tmp", "not a URL"),
        ] {
            let registry = Registry::start();
            registry.set_rules(Rules { location: Some(location.to_owned()), ..Rules::default() });
            refused(&registry, why);
            assert_eq!(registry.lines("PUT"), [""; 0]);
        }
        let registry = Registry::start();
        registry.set_rules(Rules { location: Some(String::new()), ..Rules::default() });
        arrives(&registry, b"an absolute URL of its own is fine");
    }

    #[test]
    fn what_is_sent_follows_only_redirects_that_keep_it() {
        let (registry, other) = (Registry::start(), Registry::start());
        registry.fault("PUT", Fault::Redirect(format!("http://{}", other.host())), 1);
        other.fault("PUT", Fault::Status(201, vec![]), 1);
        let store = store();
        push(&registry, &store, &store.put(b"layer")).unwrap();
        assert_eq!(other.seen()[0].body, b"layer");
        let registry = Registry::start();
        registry.fault("POST", Fault::Status(302, vec![("Location", "/elsewhere".to_owned())]), 1);
        refused(&registry, "redirects what is sent");
    }

    #[test]
    fn a_registry_that_stores_something_else_is_caught() {
        let registry = Registry::start();
        let wrong = || Fault::Header("Docker-Content-Digest", Digest::of(b"other").to_string());
        registry.fault("PUT", wrong(), 2);
        refused(&registry, "stored blob");
        let client = client(&registry, "a/web", None);
        let failure = client.push_manifest("1", "application/json", b"{}").unwrap_err().to_string();
        assert!(failure.contains("stored manifest 1 as"), "{failure}");
    }

    #[test]
    fn refusals_say_what_can_be_done() {
        let check = |status: u16, body: &str, why: &str, hint: &str| {
            let registry = Registry::start();
            registry.fault("POST", Fault::Answer(status, body.to_owned()), 99);
            let failure = refused(&registry, why);
            assert!(failure.hints.iter().any(|said| said.contains(hint)), "{failure:?}");
        };
        let denied = r#"{"errors":[{"code":"DENIED","message":"requested access is denied"}]}"#;
        check(403, denied, "refused the push to \"a/web\" (\"requested access is denied\")", "kelp login");
        check(404, "<html>", "has no repository \"a/web\" to push to", "before the first push");
        check(413, "", "as too large", "proxy");
        check(415, "", "status 415", "too old");
        check(507, "", "has no space left", "make room");
        let full = r#"{"errors":[{"code":"UNKNOWN","message":"unknown error","detail":{"DriverName":"filesystem","Enclosed":{"Op":"mkdir","Err":28}}}]}"#;
        check(500, full, "has no space left", "make room");
        check(429, "", "limits requests", "wait a while");
        let registry = Registry::start();
        registry.set_rules(Rules { read_only: true, ..Rules::default() });
        let failure = refused(&registry, "takes no pushes (status 405)");
        assert!(failure.hints[0].contains("mirror"));
    }

    #[test]
    fn official_names_are_dockers() {
        let denied = Error::Denied {
            registry: "docker.io".to_owned(),
            repository: "library/web".to_owned(),
            with_credentials: true,
            detail: String::new(),
        };
        assert!(Failure::from(denied).hints.iter().any(|hint| hint.contains("docker.io/YOU/web")));
    }

    #[test]
    fn our_own_damage_is_not_blamed_on_the_registry() {
        let (registry, store) = (Registry::start(), store());
        let blob = store.put(b"layer");
        std::fs::write(store.dir.path().join("data/blobs/sha256").join(blob.digest.hex()), b"layeR").unwrap();
        registry.fault("PUT", Fault::Status(400, vec![]), 1);
        let failure = push(&registry, &store, &blob).unwrap_err().to_string();
        assert!(failure.contains("is damaged"), "{failure}");
        std::fs::write(store.dir.path().join("data/blobs/sha256").join(blob.digest.hex()), b"lay").unwrap();
        assert!(push(&registry, &store, &blob).unwrap_err().to_string().contains("is damaged"));
    }

    #[test]
    fn a_proxy_that_knows_no_expect_is_humoured() {
        let registry = Registry::start();
        registry.fault("PUT", Fault::Status(417, vec![]), 1);
        arrives(&registry, &bytes(2 << 20));
        let expects: Vec<_> = registry
            .seen()
            .iter()
            .filter(|seen| seen.method == "PUT")
            .map(|seen| seen.headers.contains_key("expect"))
            .collect();
        assert_eq!(expects, [true, false]);
    }
}
