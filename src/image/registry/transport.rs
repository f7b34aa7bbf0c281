//! Requests and answers: one HTTP request with redirects, retries and
//! timeouts.
//!
//! Redirects are followed here and not by the HTTP library, because the rule
//! is ours: `Authorization` goes to the origin it is for and nowhere else
//! (CVE-2020-15157 and its kin), and a stranger leads us neither to plain
//! HTTP nor to our own loopback. It knows nothing of repositories.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use base64::Engine;
use rustls::pki_types::CertificateDer;
use ureq::http::{self, HeaderMap, Method, header};
use ureq::unversioned::resolver::DefaultResolver;
use ureq::unversioned::transport::{ConnectProxyConnector, Connector, SocksConnector, TcpConnector};

use super::address::{Origin, Url, push_encoded};
use super::certificates::Certificates;
use super::error::{self, Error};
use super::proxy::{self, Proxies};
use super::tls::TlsConnector;
use crate::error::Failure;
use crate::image::quote::quoted;
use crate::limits;

/// How long to wait for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// For a connection, the TLS handshake included.
    pub connect: Duration,
    /// For the next bytes of an answer.
    pub idle: Duration,
    /// For the whole of a document (manifest, token); layers have no such limit.
    pub document: Duration,
    /// Before the second try; doubled for each one after.
    pub retry: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(30),
            idle: Duration::from_secs(60),
            document: Duration::from_secs(120),
            retry: Duration::from_secs(1),
        }
    }
}

/// How to talk to registries, whichever they are.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// How long to wait.
    pub timeouts: Timeouts,
    /// By whom to go.
    pub proxies: Proxies,
    /// Whom to believe beside those whom the host believes.
    pub certificates: Certificates,
}

impl Options {
    /// As this user's environment and files have it.
    pub fn of_this_user() -> crate::error::Result<Self> {
        Ok(Self {
            timeouts: Timeouts::default(),
            proxies: Proxies::of_this_user()?,
            certificates: Certificates::of_this_user(),
        })
    }
}

/// The value of an `Authorization` header. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Authorization(String);

impl Authorization {
    /// A name and a password (RFC 7617).
    pub(super) fn basic(name: &str, password: &str) -> Self {
        let text = format!("{name}:{password}");
        Self(format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(text)))
    }

    /// A token (RFC 6750); of visible ASCII only.
    pub(super) fn bearer(token: &str) -> Self {
        Self(format!("Bearer {token}"))
    }
}

impl fmt::Debug for Authorization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Authorization(..)")
    }
}

/// Fields to POST (`application/x-www-form-urlencoded`), secrets among them.
/// Never printed.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Form(String);

impl Form {
    pub(super) fn push(&mut self, name: &str, value: &str) {
        if !self.0.is_empty() {
            self.0.push('&');
        }
        self.0.push_str(name);
        self.0.push('=');
        push_encoded(&mut self.0, value);
    }
}

impl fmt::Debug for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Form(..)")
    }
}

/// What to ask for.
#[derive(Clone)]
pub(super) struct Request<'a> {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) accept: &'a [&'a str],
    /// For the origin of `url` only.
    pub(super) authorization: Option<Authorization>,
    /// Skip so many bytes, if the server can.
    pub(super) from: u64,
    /// The whole answer has to arrive within [`Timeouts::document`].
    pub(super) is_document: bool,
    /// POST this, and nothing else. For the origin of `url` only.
    pub(super) form: Option<Form>,
    /// What is sent along.
    pub(super) payload: Option<Payload<'a>>,
}

/// What a request carries. It can be read again for another try.
#[derive(Clone, Copy)]
pub(super) struct Payload<'a> {
    pub(super) content: Content<'a>,
    pub(super) media_type: &'a str,
    /// It is a chunk that begins so many bytes into the whole.
    pub(super) offset: Option<u64>,
}

/// The bytes of a payload.
#[derive(Clone, Copy)]
pub(super) enum Content<'a> {
    Bytes(&'a [u8]),
    /// So many bytes of a file; `sent` is told as they go.
    Part {
        file: &'a File,
        from: u64,
        length: u64,
        sent: &'a dyn Fn(u64),
    },
}

impl Content<'_> {
    fn length(&self) -> u64 {
        match self {
            Content::Bytes(bytes) => bytes.len() as u64,
            Content::Part { length, .. } => *length,
        }
    }
}

/// Reads a payload from its beginning to its end.
struct PayloadReader<'a> {
    content: Content<'a>,
    position: u64,
}

impl Read for PayloadReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = match self.content {
            Content::Bytes(bytes) => {
                let rest = usize::try_from(self.position).ok().and_then(|start| bytes.get(start..));
                rest.unwrap_or_default().read(buffer)?
            }
            Content::Part { file, from, length, sent } => {
                let room = usize::try_from(length - self.position).unwrap_or(usize::MAX).min(buffer.len());
                let count = file.read_at(buffer.get_mut(..room).unwrap_or_default(), from + self.position)?;
                if count == 0 && room > 0 {
                    return Err(io::Error::other("the file is shorter than it was"));
                }
                sent(count as u64);
                count
            }
        };
        self.position += count as u64;
        Ok(count)
    }
}

impl<'a> Request<'a> {
    /// Asks for a document.
    pub(super) fn document(url: Url, accept: &'a [&'a str]) -> Self {
        Self {
            method: Method::GET,
            url,
            accept,
            authorization: None,
            from: 0,
            is_document: true,
            form: None,
            payload: None,
        }
    }

    /// Sends `content`.
    pub(super) fn sending(method: Method, url: Url, media_type: &'a str, content: Content<'a>) -> Self {
        let payload = Some(Payload { content, media_type, offset: None });
        Self { method, payload, is_document: false, ..Self::document(url, &[]) }
    }
}

/// An answer; the body is still on its way.
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    /// Who answered, redirects followed.
    pub(super) origin: Origin,
    body: ureq::Body,
}

impl Reply {
    pub(super) fn header(&self, name: header::HeaderName) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The announced length of the body.
    pub(super) fn length(&self) -> Option<u64> {
        self.body.content_length()
    }

    /// The body as a stream. ureq checks Content-Length: a short body is an
    /// error, not an end.
    pub(super) fn into_body(self) -> impl Read {
        self.body.into_with_config().limit(u64::MAX).reader()
    }

    /// The whole body, of at most `max` bytes.
    pub(super) fn read(self, max: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.into_body().take(max.saturating_add(1)).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > max {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("the answer is larger than {max} bytes")));
        }
        Ok(bytes)
    }

    /// The registry's own words about an error.
    pub(super) fn detail(self) -> String {
        self.read(limits::TOKEN_BYTES_MAX).map(|body| error::detail(&body)).unwrap_or_default()
    }
}

/// The connections to one registry and to where it sends us.
pub(super) struct Connections {
    options: Options,
    /// One for each origin. Nothing is locked after it.
    agents: Mutex<Vec<(Origin, ureq::Agent)>>,
    /// The certificates that this host believes, read at need: it takes
    /// milliseconds.
    roots: OnceLock<Roots>,
    /// Somebody on the way does not know `Expect`.
    takes_no_expect: AtomicBool,
}

struct Roots {
    certificates: Arc<Vec<CertificateDer<'static>>>,
    /// Why one of them could not be read, if it was so.
    unreadable: Option<String>,
}

impl Connections {
    pub(super) fn new(options: &Options) -> Self {
        Self {
            options: options.clone(),
            agents: Mutex::new(Vec::new()),
            roots: OnceLock::new(),
            takes_no_expect: AtomicBool::new(false),
        }
    }

    /// Sends a request once. Transient trouble is for the caller to judge.
    pub(super) fn send_once(&self, request: &Request<'_>) -> Result<Reply, Failed> {
        self.follow(request)
    }

    /// Sends a request, as often as it takes, and returns the answer of any
    /// status that waiting will not change.
    pub(super) fn send(&self, request: &Request<'_>) -> Result<Reply, Error> {
        self.send_or_try(request, limits::REQUEST_TRIES_MAX)
    }

    /// The same, but where nobody answers, once is enough.
    pub(super) fn try_send(&self, request: &Request<'_>) -> Result<Reply, Error> {
        self.send_or_try(request, 1)
    }

    fn send_or_try(&self, request: &Request<'_>, silent_tries_max: u32) -> Result<Reply, Error> {
        let mut tries = 1;
        loop {
            let last = tries >= limits::REQUEST_TRIES_MAX;
            let wait = match self.follow(request) {
                Ok(reply) if is_transient(reply.status) && !last => match retry_after(&reply.headers) {
                    Some(wait) if wait > Duration::from_millis(limits::RETRY_WAIT_MS_MAX) => return Ok(reply),
                    Some(wait) => wait,
                    None => self.backoff(tries),
                },
                Ok(reply) => return Ok(reply),
                Err(Failed::Transient(_)) if tries < silent_tries_max => self.backoff(tries),
                Err(Failed::Transient(error) | Failed::Final(error)) => return Err(error),
            };
            std::thread::sleep(wait);
            tries += 1;
        }
    }

    /// The pause before try number `tries + 1`.
    pub(super) fn backoff(&self, tries: u32) -> Duration {
        let wait = self.options.timeouts.retry.saturating_mul(1 << tries.saturating_sub(1).min(10));
        wait.min(Duration::from_millis(limits::RETRY_WAIT_MS_MAX))
    }

    fn follow(&self, request: &Request<'_>) -> Result<Reply, Failed> {
        let mut url = request.url.clone();
        for _ in 0..=limits::REDIRECTS_MAX {
            let mut reply = self.once(request, &url)?;
            if reply.status == 417 && !self.takes_no_expect.swap(true, Ordering::Relaxed) {
                reply = self.once(request, &url)?;
            }
            if !matches!(reply.status, 301 | 302 | 303 | 307 | 308) {
                return Ok(reply);
            }
            let refuse = |why: &str| Failed::Final(Error::Refused(format!("{} {why}", request.url.origin)));
            let location = reply.header(header::LOCATION).ok_or_else(|| refuse("redirects to nowhere"))?;
            let next = url.join(location).map_err(Failed::Final)?;
            if !request.url.origin.may_send_to(&next.origin) {
                return Err(refuse(&format!("redirects to {}, which is not allowed", next.origin)));
            }
            // 301 to 303 make a GET of a POST (RFC 9110, 15.4); what is posted
            // here are secrets, which stay where they were sent.
            let keeps_form = matches!(reply.status, 307 | 308) && next.origin == request.url.origin;
            if request.form.is_some() && !keeps_form {
                return Err(refuse(&format!("redirects a request with secrets to {}", next.origin)));
            }
            // Nothing would be stored.
            if request.payload.is_some() && !matches!(reply.status, 307 | 308) {
                return Err(refuse("redirects what is sent to it"));
            }
            url = next;
        }
        Err(Failed::Final(Error::Refused(format!("{} redirects without end", request.url.origin))))
    }

    fn once(&self, request: &Request<'_>, url: &Url) -> Result<Reply, Failed> {
        let agent = self.agent(&url.origin).map_err(|failure| Failed::Final(failure.into()))?;
        let mut builder = http::Request::builder().method(request.method.clone()).uri(url.to_string());
        if !request.accept.is_empty() {
            builder = builder.header(header::ACCEPT, request.accept.join(", "));
        }
        // What we verify is the bytes as stored; a transfer encoding of the
        // content would only be undone again.
        builder = builder.header(header::ACCEPT_ENCODING, "identity");
        if request.from > 0 {
            builder = builder.header(header::RANGE, format!("bytes={}-", request.from));
        }
        if let Some(Authorization(value)) = request.authorization.as_ref().filter(|_| url.origin == request.url.origin)
        {
            builder = builder.header(header::AUTHORIZATION, value);
        }
        let refused = |error| Failed::Final(Error::Refused(format!("build request: {error}")));
        let answer = match (&request.form, &request.payload) {
            (Some(Form(fields)), _) => {
                let builder = builder.header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
                self.run(&agent, request, builder.body(fields.as_str()).map_err(refused)?, &url.origin)?
            }
            (None, Some(payload)) => {
                let builder = self.with_payload(builder, payload);
                let mut reader = PayloadReader { content: payload.content, position: 0 };
                let body = ureq::SendBody::from_reader(&mut reader);
                self.run(&agent, request, builder.body(body).map_err(refused)?, &url.origin)?
            }
            (None, None) => self.run(&agent, request, builder.body(()).map_err(refused)?, &url.origin)?,
        };
        let (parts, body) = answer.into_parts();
        let encoding = parts.headers.get(header::CONTENT_ENCODING).map(|value| value.as_bytes());
        if encoding.is_some_and(|encoding| !encoding.is_empty() && encoding != b"identity") {
            let message = format!("{} sends encoded content that nobody asked for", url.origin);
            return Err(Failed::Final(Error::Refused(message)));
        }
        Ok(Reply { status: parts.status.as_u16(), headers: parts.headers, origin: url.origin.clone(), body })
    }

    fn run<B: ureq::AsSendBody>(
        &self,
        agent: &ureq::Agent,
        request: &Request<'_>,
        call: http::Request<B>,
        origin: &Origin,
    ) -> Result<http::Response<ureq::Body>, Failed> {
        let mut call = agent.configure_request(call);
        if request.is_document {
            call = call.timeout_global(Some(self.options.timeouts.document));
        }
        if request.payload.is_some() {
            call = call.timeout_per_read(Some(self.options.timeouts.idle.saturating_mul(limits::COMMIT_PATIENCE)));
        }
        agent.run(call.build()).map_err(|error| self.unreachable(origin, error))
    }

    /// The headers that announce a payload.
    fn with_payload(&self, builder: http::request::Builder, payload: &Payload<'_>) -> http::request::Builder {
        let length = payload.content.length();
        let mut builder =
            builder.header(header::CONTENT_LENGTH, length).header(header::CONTENT_TYPE, payload.media_type);
        if let Some(offset) = payload.offset {
            // Not as in RFC 9110: no unit, no total (distribution spec, "Pushing a blob in chunks").
            let last = (offset + length).saturating_sub(1);
            builder = builder.header(header::CONTENT_RANGE, format!("{offset}-{last}"));
        }
        if length > limits::EXPECT_BYTES_MIN && !self.takes_no_expect.load(Ordering::Relaxed) {
            // Who will refuse says so before the bytes are sent, not by
            // closing the connection in their midst (RFC 9110, 10.1.1).
            builder = builder.header(header::EXPECT, "100-continue");
        }
        builder
    }

    fn agent(&self, origin: &Origin) -> Result<ureq::Agent, Failure> {
        let mut agents = self.agents.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, agent)) = agents.iter().find(|(known, _)| known == origin) {
            return Ok(agent.clone());
        }
        let config = self.config().proxy(self.options.proxies.of(origin).cloned()).build();
        let agent = match origin.is_tls {
            true => {
                let own = self.options.certificates.of(origin)?;
                let Roots { certificates, unreadable } = self.roots();
                let tls = TlsConnector::new(origin, certificates, own).map_err(|failure| match unreadable {
                    Some(why) => failure.hint(format!("one of them cannot be read: {why}")),
                    None => failure,
                })?;
                let way = ().chain(SocksConnector::default()).chain(ConnectProxyConnector::default());
                let connector = way.chain(TcpConnector::default()).chain(tls);
                ureq::Agent::with_parts(config, connector, DefaultResolver::default())
            }
            false => config.into(),
        };
        agents.push((origin.clone(), agent.clone()));
        Ok(agent)
    }

    /// The authorities that this host believes; SSL_CERT_FILE and
    /// SSL_CERT_DIR take their place.
    fn roots(&self) -> &Roots {
        self.roots.get_or_init(|| {
            let native = rustls_native_certs::load_native_certs();
            Roots { unreadable: native.errors.first().map(ToString::to_string), certificates: Arc::new(native.certs) }
        })
    }

    /// A certificate that could not be read may be the one that is missed; a
    /// proxy on the way may be what is out of reach.
    fn unreachable(&self, origin: &Origin, error: ureq::Error) -> Failed {
        let unreadable = self.roots.get().and_then(|roots| roots.unreadable.as_ref());
        let by_proxy = |cause: &mut String| {
            if let Some(proxy) = self.options.proxies.of(origin) {
                cause.push_str(&format!("; the way is by proxy {}", proxy::shown(proxy)));
            }
        };
        match (unreachable_host(origin, error), unreadable) {
            (Failed::Final(Error::Untrusted { host, mut cause, hint }), Some(why)) if cause == UNKNOWN_ISSUER => {
                cause.push_str(&format!("; one of this host's certificates cannot be read: {why}"));
                Failed::Final(Error::Untrusted { host, cause, hint })
            }
            (Failed::Final(Error::Unreachable { host, mut cause, hint }), _) => {
                by_proxy(&mut cause);
                Failed::Final(Error::Unreachable { host, cause, hint })
            }
            (Failed::Transient(Error::Unreachable { host, mut cause, hint }), _) => {
                by_proxy(&mut cause);
                Failed::Transient(Error::Unreachable { host, cause, hint })
            }
            (failed, _) => failed,
        }
    }

    fn config(&self) -> ureq::config::ConfigBuilder<ureq::typestate::AgentScope> {
        ureq::Agent::config_builder()
            .user_agent(concat!("kelp/", env!("CARGO_PKG_VERSION")))
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_connect(Some(self.options.timeouts.connect))
            .timeout_resolve(Some(self.options.timeouts.connect))
            .timeout_per_read(Some(self.options.timeouts.idle))
            .timeout_per_write(Some(self.options.timeouts.idle))
            .max_idle_connections_per_host(limits::DOWNLOADS_MAX.max(limits::UPLOADS_MAX))
    }
}

const UNKNOWN_ISSUER: &str = "its certificate is signed by an authority that this host does not know";

/// Why there is no answer.
pub(super) enum Failed {
    /// Worth another try.
    Transient(Error),
    Final(Error),
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self::Final(error)
    }
}

/// Whether an I/O error in the middle of things may not happen again.
pub(super) fn is_worth_retrying(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, TimedOut, UnexpectedEof};
    matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | TimedOut | UnexpectedEof)
        || error.get_ref().is_some_and(|inner| matches!(inner.downcast_ref(), Some(ureq::Error::Timeout(_))))
}

fn unreachable_host(origin: &Origin, error: ureq::Error) -> Failed {
    let host = format!("{}:{}", origin.host, origin.port);
    let with = |cause: String, hint| Error::Unreachable { host: host.clone(), cause, hint };
    match error {
        ureq::Error::Io(error) if is_worth_retrying(&error) => {
            Failed::Transient(with(Failure::from(error).to_string(), None))
        }
        ureq::Error::Rustls(error) => Failed::Final(tls_failure(&host, &error)),
        // During the handshake it comes wrapped.
        ureq::Error::Io(error) if error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>()) => {
            match error.get_ref().and_then(|inner| inner.downcast_ref()) {
                Some(error) => Failed::Final(tls_failure(&host, error)),
                None => Failed::Final(with(error.to_string(), None)),
            }
        }
        ureq::Error::Io(error) => Failed::Final(with(Failure::from(error).to_string(), None)),
        ureq::Error::Timeout(what) => Failed::Transient(with(format!("no answer in time ({what})"), None)),
        ureq::Error::ConnectProxyFailed(answer) => {
            let hint = answer
                .contains("407")
                .then_some("give name and password in HTTPS_PROXY: http://NAME:PASSWORD@HOST:PORT");
            Failed::Final(with(format!("the proxy refuses: {}", quoted(&answer)), hint))
        }
        ureq::Error::HostNotFound => Failed::Final(with("the host name is not known".to_owned(), None)),
        ureq::Error::Protocol(error) => {
            Failed::Final(Error::Refused(format!("{host} does not speak HTTP: {}", quoted(&error.to_string()))))
        }
        other => Failed::Final(with(other.to_string(), None)),
    }
}

/// What is wrong with the other side's TLS, in words.
fn tls_failure(host: &str, error: &rustls::Error) -> Error {
    use rustls::{CertificateError, Error as Tls};
    let (cause, hint) = match error {
        Tls::InvalidCertificate(CertificateError::UnknownIssuer) => (
            UNKNOWN_ISSUER.to_owned(),
            "if the authority is your own, put its certificate into ~/.config/containers/certs.d/HOST:PORT/ca.crt",
        ),
        Tls::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => {
            ("its certificate has expired".to_owned(), "check the clock of this host")
        }
        Tls::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => ("its certificate is for another name".to_owned(), "use the name that the certificate is for"),
        Tls::InvalidCertificate(_) => (error.to_string(), "ask whoever runs it for a valid certificate"),
        other => {
            let cause = format!("no TLS: {other}");
            return Error::Unreachable { host: host.to_owned(), cause, hint: Some("it may speak plain HTTP only") };
        }
    };
    Error::Untrusted { host: host.to_owned(), cause, hint }
}

/// Whether an answer of this status may be another one a little later.
pub(super) fn is_transient(status: u16) -> bool {
    matches!(status, 408 | 429 | 500 | 502 | 503 | 504)
}

/// `Retry-After`: seconds or a date (RFC 9110, 10.2.3).
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse::<u32>() {
        return Some(Duration::from_secs(seconds.into()));
    }
    let until = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
    Some(Duration::try_from(until.duration_since(jiff::Timestamp::now())).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let check = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::RETRY_AFTER, text.parse().unwrap());
            retry_after(&headers)
        };
        assert_eq!(check("7"), Some(Duration::from_secs(7)));
        assert_eq!(check("Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::ZERO));
        assert!(check("Wed, 21 Oct 2099 07:28:00 GMT").unwrap() > Duration::from_secs(1_000_000));
        assert_eq!(check("soon"), None);
    }

    #[test]
    fn pauses_grow_and_end() {
        let connections = Connections::new(&Options::default());
        assert_eq!(connections.backoff(1), Duration::from_secs(1));
        assert_eq!(connections.backoff(3), Duration::from_secs(4));
        assert_eq!(connections.backoff(40), Duration::from_millis(limits::RETRY_WAIT_MS_MAX));
    }
}
