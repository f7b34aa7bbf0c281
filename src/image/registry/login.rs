//! Logging in: whether a registry accepts a name and password
//! (distribution spec, "Endpoints", end-1; docker's login does the same).
//!
//! Nothing is kept here; that is the business of `credentials`.

use super::address::Transport;
use super::challenge::Challenge;
use super::credentials::Credentials;
use super::error::Error;
use super::session::{Purpose, Session, challenges};
use super::tokens;
use super::transport::{Options, Reply, Request};
use crate::error::Failure;

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// What to keep: the credentials, or the identity token that the token
    /// server gave in place of the password.
    pub credentials: Credentials,
    /// False where the registry lets in everybody, so that nothing is proved.
    pub was_checked: bool,
}

/// Shows `credentials` to `registry`, a host with an optional port.
pub fn login(
    registry: &str,
    transport: Transport,
    credentials: &Credentials,
    options: &Options,
) -> Result<Accepted, Error> {
    let session = Session::new(registry, transport, Some(credentials.clone()), options)?;
    let purpose = Purpose { what: "its API", scopes: &[] };
    let mut request = Request::document(session.url("/v2/"), &[]);
    let reply = session.unauthenticated(&mut request)?;
    match reply.status {
        200 => return Ok(Accepted { credentials: credentials.clone(), was_checked: false }),
        404 => return Err(Error::Refused(format!("{registry} is not a registry: it has no /v2/"))),
        401 if reply.origin == *session.origin() => {}
        _ => return Err(tokens::refusal(reply, registry, purpose.what, true)),
    }
    let offered = challenges(&reply);
    let detail = reply.detail();
    for challenge in offered {
        let (authorization, kept) = match &challenge {
            Challenge::Basic => (credentials.basic(), credentials.clone()),
            Challenge::Bearer { realm, service } => {
                let wants_identity = credentials.identity_token().is_none();
                let token = session
                    .token(realm, service.as_deref(), purpose, wants_identity)
                    .map_err(|error| not_accepted(error, registry))?;
                let identity = token.identity.map(|identity| Credentials::identity(credentials.name(), identity));
                (Some(token.authorization), identity.unwrap_or_else(|| credentials.clone()))
            }
        };
        if authorization.is_some() {
            request.authorization = authorization;
            let reply = session.connections.send(&request)?;
            return judge(reply, registry).map(|()| Accepted { credentials: kept, was_checked: true });
        }
    }
    Err(Error::Refused(format!("{registry} wants to be logged in to in a way that kelp does not know{detail}")))
}

fn judge(reply: Reply, registry: &str) -> Result<(), Error> {
    match reply.status {
        200 => Ok(()),
        _ => Err(not_accepted(tokens::refusal(reply, registry, "its API", true), registry)),
    }
}

fn not_accepted(error: Error, registry: &str) -> Error {
    match error {
        Error::Unauthorized { detail, .. } => {
            Failure::user(format!("{registry} does not accept this name and password{detail}")).into()
        }
        other => other,
    }
}
