//! Token servers: a token for a name and password, for an identity token, or
//! for nobody in particular (distribution's token authentication and OAuth2
//! specifications).

use super::address::Url;
use super::credentials::Credentials;
use super::error::Error;
use super::session::Purpose;
use super::transport::{Authorization, Connections, Form, Reply, Request};
use crate::limits;

/// How we introduce ourselves (OAuth2 `client_id`).
const CLIENT: &str = "kelp";

/// A token to ask for. The caller has checked that `realm` may be told who we
/// are.
pub(super) struct TokenRequest<'a> {
    /// The registry as the user wrote it.
    pub(super) registry: &'a str,
    /// The token server.
    pub(super) realm: Url,
    /// What the token server should call the registry.
    pub(super) service: Option<&'a str>,
    pub(super) purpose: Purpose<'a>,
    pub(super) credentials: Option<&'a Credentials>,
    /// Whether an identity token would be welcome, to keep in place of the password.
    pub(super) wants_identity: bool,
}

/// What a token server gives.
pub(super) struct Token {
    pub(super) authorization: Authorization,
    /// OAuth2's `refresh_token`: good for more tokens.
    pub(super) identity: Option<String>,
}

/// Asks for a token.
pub(super) fn fetch(connections: &Connections, request: &TokenRequest<'_>) -> Result<Token, Error> {
    let identity = request.credentials.and_then(Credentials::identity_token);
    let reply = match identity {
        Some(_) => connections.send(&by_post(request))?,
        None => {
            let reply = connections.send(&by_get(request))?;
            // Some servers speak OAuth2 only.
            let is_post_worthwhile = matches!(reply.status, 404 | 405) && request.credentials.is_some();
            if is_post_worthwhile { connections.send(&by_post(request))? } else { reply }
        }
    };
    let registry = request.registry;
    match reply.status {
        200 => {}
        // A token server says 400 for a wrong password, too (RFC 6749, 5.2).
        400 => return Err(unauthorized(reply, registry, request.purpose.what, request.credentials.is_some())),
        401 | 403 => return Err(refusal(reply, registry, request.purpose.what, request.credentials.is_some())),
        _ => return Err(refusal(reply, registry, "a token", request.credentials.is_some())),
    }
    let body = reply
        .read(limits::TOKEN_BYTES_MAX)
        .map_err(|error| Error::Refused(format!("the token server of {registry} sent no whole answer: {error}")))?;
    read_token(&body).ok_or_else(|| Error::Refused(format!("the token server of {registry} sent no token")))
}

/// The token specification's request: name and password, if any, as `Basic`.
fn by_get(request: &TokenRequest<'_>) -> Request<'static> {
    let mut parameters: Vec<(&str, &str)> =
        request.purpose.scopes.iter().map(|scope| ("scope", scope.as_str())).collect();
    parameters.extend(request.service.map(|service| ("service", service)));
    if let Some(credentials) = request.credentials {
        parameters.push(("account", credentials.name()));
    }
    if request.wants_identity {
        parameters.extend([("client_id", CLIENT), ("offline_token", "true")]);
    }
    let mut sent = Request::document(request.realm.clone().with_query(&parameters), &[]);
    sent.authorization = request.credentials.and_then(Credentials::basic);
    sent
}

/// OAuth2's request: the secret is in the body.
fn by_post(request: &TokenRequest<'_>) -> Request<'static> {
    let mut form = Form::default();
    form.push("client_id", CLIENT);
    if let Some(service) = request.service {
        form.push("service", service);
    }
    if !request.purpose.scopes.is_empty() {
        form.push("scope", &request.purpose.scopes.join(" "));
    }
    if let Some(credentials) = request.credentials {
        credentials.fill_in(&mut form);
    }
    if request.wants_identity {
        form.push("access_type", "offline");
    }
    let mut sent = Request::document(request.realm.clone(), &[]);
    sent.method = ureq::http::Method::POST;
    sent.form = Some(form);
    sent
}

/// What an answer that is no success means.
pub(super) fn refusal(reply: Reply, registry: &str, what: &str, with_credentials: bool) -> Error {
    let (registry, what) = (registry.to_owned(), what.to_owned());
    match reply.status {
        401 | 403 => unauthorized(reply, &registry, &what, with_credentials),
        404 => Error::NotFound { registry, what },
        status @ (429 | 503) => Error::Busy { registry, status, detail: reply.detail() },
        status => Error::Status { registry, what, status, detail: reply.detail() },
    }
}

fn unauthorized(reply: Reply, registry: &str, what: &str, with_credentials: bool) -> Error {
    let (registry, what) = (registry.to_owned(), what.to_owned());
    Error::Unauthorized { registry, what, with_credentials, detail: reply.detail() }
}

/// A token server calls it `token` or, as OAuth has it, `access_token`.
fn read_token(body: &[u8]) -> Option<Token> {
    let body: serde_json::Value = serde_json::from_slice(body).ok()?;
    let text = |key: &str| body.get(key)?.as_str().filter(|text| !text.is_empty());
    let token = text("token").or_else(|| text("access_token"))?;
    let legal = token.bytes().all(|byte| byte.is_ascii_graphic());
    let authorization = legal.then(|| Authorization::bearer(token))?;
    Some(Token { authorization, identity: text("refresh_token").map(str::to_owned) })
}
