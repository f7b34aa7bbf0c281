//! A session: one registry, asked by one user, with whatever authentication
//! it wants.
//!
//! Credentials and tokens are bound to the registry's own origin. A challenge
//! counts only if the registry itself sent it, and the scope of a token is
//! ours, never the challenge's.

use std::collections::BTreeMap;
use std::sync::{Mutex, OnceLock, PoisonError};

use ureq::http::header;

use super::address::{Origin, Transport, Url};
use super::challenge::{self, Challenge};
use super::credentials::Credentials;
use super::error::Error;
use super::tokens::{self, Token, TokenRequest};
use super::transport::{Authorization, Connections, Options, Reply, Request};

/// What a request is for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Purpose<'a> {
    /// In words, for messages: `image "web"`.
    pub(super) what: &'a str,
    /// What a token has to allow (distribution's token scope documentation).
    pub(super) scopes: &'a [String],
}

/// One registry, as one user sees it.
pub(super) struct Session {
    /// The registry as the user wrote it, for messages.
    pub(super) registry: String,
    /// Where it most likely answers.
    preferred: Origin,
    /// Where else it may.
    alternative: Option<Origin>,
    /// Where it does answer.
    settled: OnceLock<Origin>,
    pub(super) credentials: Option<Credentials>,
    pub(super) connections: Connections,
    /// What worked last, by the scopes it is good for. Nothing is locked
    /// after it.
    authorizations: Mutex<BTreeMap<Vec<String>, Authorization>>,
}

impl Session {
    /// With `registry`, a host with an optional port. Does not connect yet.
    pub(super) fn new(
        registry: &str,
        transport: Transport,
        credentials: Option<Credentials>,
        options: &Options,
    ) -> Result<Self, Error> {
        let (preferred, alternative) = Origin::of_registry(registry, transport)?;
        Ok(Self {
            registry: registry.to_owned(),
            preferred,
            alternative,
            settled: OnceLock::new(),
            credentials,
            connections: Connections::new(options),
            authorizations: Mutex::new(BTreeMap::new()),
        })
    }

    /// Where the registry answers, as far as that is known yet.
    pub(super) fn origin(&self) -> &Origin {
        self.settled.get().unwrap_or(&self.preferred)
    }

    /// The address of `path` at the registry; the path starts with a slash.
    pub(super) fn url(&self, path: impl Into<String>) -> Url {
        Url { origin: self.origin().clone(), path: path.into() }
    }

    /// Sends the request, authenticated as the registry wants it, and passes
    /// only success on.
    pub(super) fn checked(&self, request: &Request<'_>, purpose: Purpose<'_>) -> Result<Reply, Error> {
        let reply = self.send(request, purpose)?;
        match reply.status {
            200..=299 => Ok(reply),
            _ => Err(tokens::refusal(reply, &self.registry, purpose.what, self.credentials.is_some())),
        }
    }

    /// Sends the request, authenticated as the registry wants it; the answer
    /// may be of any status.
    pub(super) fn send(&self, request: &Request<'_>, purpose: Purpose<'_>) -> Result<Reply, Error> {
        self.authorized(request, purpose, |request| self.connections.send(request))
    }

    /// Sends the request as nobody in particular; its origin is where the
    /// registry answers from then on.
    pub(super) fn unauthenticated(&self, request: &mut Request<'_>) -> Result<Reply, Error> {
        match self.settle(request)? {
            Some(reply) => Ok(reply),
            None => self.connections.send(request),
        }
    }

    /// Has `send` carry the request with what is good for the purpose, and
    /// once more when the registry asks who we are.
    pub(super) fn authorized<E: From<Error>>(
        &self,
        request: &Request<'_>,
        purpose: Purpose<'_>,
        send: impl Fn(&Request<'_>) -> Result<Reply, E>,
    ) -> Result<Reply, E> {
        let mut request = request.clone();
        let reply = match self.settle(&mut request)? {
            Some(reply) => reply,
            None => {
                request.authorization =
                    self.known_authorization(purpose.scopes).filter(|_| request.url.origin == *self.origin());
                send(&request)?
            }
        };
        // A challenge from where a redirect led is none of ours.
        if reply.status != 401 || reply.origin != *self.origin() || request.url.origin != *self.origin() {
            return Ok(reply);
        }
        for challenge in challenges(&reply) {
            if let Some(authorization) = self.answer(&challenge, purpose)? {
                request.authorization = Some(authorization.clone());
                let reply = send(&request)?;
                if reply.status != 401 {
                    let mut known = self.authorizations.lock().unwrap_or_else(PoisonError::into_inner);
                    known.insert(purpose.scopes.to_vec(), authorization);
                }
                return Ok(reply);
            }
        }
        Ok(reply)
    }

    /// Where the registry may answer at either of two origins, finds out with
    /// the first request, which carries no credentials.
    fn settle(&self, request: &mut Request<'_>) -> Result<Option<Reply>, Error> {
        let Some(alternative) = self.alternative.as_ref().filter(|_| request.url.origin == self.preferred) else {
            return Ok(None);
        };
        if let Some(origin) = self.settled.get() {
            request.url.origin = origin.clone();
            return Ok(None);
        }
        let mut untrusted = None;
        for origin in [&self.preferred, alternative] {
            request.url.origin = origin.clone();
            match self.connections.try_send(request) {
                Ok(reply) if !may_expect_tls(&reply) => {
                    self.settled.get_or_init(|| origin.clone());
                    return Ok(Some(reply));
                }
                Err(error @ Error::Local(_)) => return Err(error),
                // It does speak TLS, and is not who it should be.
                Err(error @ Error::Untrusted { .. }) => untrusted = Some(error),
                // Another try of plain HTTP may help; TLS will not.
                Err(Error::Unreachable { .. }) if !origin.is_tls => break,
                _ => {}
            }
        }
        request.url.origin = self.preferred.clone();
        untrusted.map_or(Ok(None), Err)
    }

    fn known_authorization(&self, scopes: &[String]) -> Option<Authorization> {
        self.authorizations.lock().unwrap_or_else(PoisonError::into_inner).get(scopes).cloned()
    }

    /// What to answer to a challenge, if we can.
    fn answer(&self, challenge: &Challenge, purpose: Purpose<'_>) -> Result<Option<Authorization>, Error> {
        match challenge {
            Challenge::Basic => Ok(self.credentials.as_ref().and_then(Credentials::basic)),
            Challenge::Bearer { realm, service } => {
                let token = self.token(realm, service.as_deref(), purpose, false)?;
                Ok(Some(token.authorization))
            }
        }
    }

    /// A token for `purpose`, and for nothing else.
    pub(super) fn token(
        &self,
        realm: &str,
        service: Option<&str>,
        purpose: Purpose<'_>,
        wants_identity: bool,
    ) -> Result<Token, Error> {
        let realm = Url::parse(realm)?;
        let (registry, origin) = (&self.registry, self.origin());
        if !origin.may_send_to(&realm.origin) {
            return Err(Error::Refused(format!(
                "{registry} wants a token from {}, which is not allowed",
                realm.origin
            )));
        }
        if self.credentials.is_some() && !origin.trusts_realm(&realm.origin) {
            return Err(Error::Refused(format!(
                "{registry} wants your password sent to {}, which is not in its domain",
                realm.origin
            )));
        }
        let credentials = self.credentials.as_ref();
        let request = TokenRequest { registry, realm, service, purpose, credentials, wants_identity };
        tokens::fetch(&self.connections, &request)
    }
}

/// Whether the answer is what servers say to plain HTTP where they expect TLS:
/// 400 and some text. Registries send JSON, even with a 400.
fn may_expect_tls(reply: &Reply) -> bool {
    let is_json = reply.header(header::CONTENT_TYPE).is_some_and(|kind| kind.starts_with("application/json"));
    reply.status == 400 && !is_json
}

/// The ways to authenticate that an answer offers, strongest first.
pub(super) fn challenges(reply: &Reply) -> Vec<Challenge> {
    let headers = reply.headers.get_all(header::WWW_AUTHENTICATE);
    challenge::parse(headers.iter().filter_map(|value| value.to_str().ok()))
}
