//! What a registry may answer that a caller tells apart.

use crate::error::{Failure, Kind};
use crate::image::quote::quoted;

/// Why a registry did not give what was asked for.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It wants to know who we are, or does not believe us.
    #[error("{registry} refused access to {what}{detail}")]
    Unauthorized {
        /// The registry as the user wrote it.
        registry: String,
        /// What was asked for.
        what: String,
        /// Whether a name and password were sent.
        with_credentials: bool,
        /// The registry's own words.
        detail: String,
    },
    /// It does not have it.
    #[error("{registry} has no {what}")]
    NotFound {
        /// The registry as the user wrote it.
        registry: String,
        /// What was asked for.
        what: String,
    },
    /// It kept asking us to wait.
    #[error("{registry} is busy or limits requests (status {status}){detail}")]
    Busy {
        /// The registry as the user wrote it.
        registry: String,
        /// 429 or 503.
        status: u16,
        /// The registry's own words.
        detail: String,
    },
    /// Any other status.
    #[error("{registry} answered status {status} to the request for {what}{detail}")]
    Status {
        /// The registry as the user wrote it.
        registry: String,
        /// What was asked for.
        what: String,
        /// The HTTP status.
        status: u16,
        /// The registry's own words.
        detail: String,
    },
    /// No connection, or it broke off and would not come back.
    #[error("cannot reach {host}: {cause}")]
    Unreachable {
        /// Who was called.
        host: String,
        /// What happened.
        cause: String,
        /// One action that may help.
        hint: Option<&'static str>,
    },
    /// Somebody answers who cannot prove to be the registry.
    #[error("cannot trust {host}: {cause}")]
    Untrusted {
        /// Who was called.
        host: String,
        /// What is wrong with the certificate.
        cause: String,
        /// One action that may help.
        hint: &'static str,
    },
    /// An answer that breaks the protocol or one of our rules.
    #[error("{0}")]
    Refused(String),
    /// We were told to stop, because something else failed.
    #[error("stopped")]
    Stopped,
    /// Our side.
    #[error("{0}")]
    Local(Failure),
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        Self::Local(failure)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        match error {
            Error::Local(failure) => failure,
            Error::Unauthorized { with_credentials: true, registry, .. } => {
                Self::user(message).hint(format!("check name and password for {registry}, and what they allow"))
            }
            Error::Unauthorized { registry, .. } => {
                Self::user(message).hint(format!("the image may not exist, or it needs a login: kelp login {registry}"))
            }
            Error::NotFound { .. } => Self::new(Kind::NotFound, message).hint("check the spelling of name and tag"),
            Error::Busy { status: 429, .. } => {
                Self::host(message).hint("wait a while; registries often allow more to those who log in")
            }
            Error::Busy { .. } | Error::Status { status: 500.., .. } => Self::host(message).hint("try again later"),
            Error::Status { status: 400, .. } => {
                Self::host(message).hint("it may be something else than a registry, or want HTTPS")
            }
            Error::Status { .. } => Self::host(message),
            Error::Unreachable { hint, .. } => {
                let failure = Self::host(message);
                match hint {
                    Some(hint) => failure.hint(hint),
                    None => failure.hint("check the name, the network and HTTPS_PROXY"),
                }
            }
            Error::Untrusted { hint, .. } => Self::host(message).hint(hint),
            Error::Refused(_) | Error::Stopped => Self::host(message),
        }
    }
}

/// The words of an error body (distribution spec, "Error Codes"), as ` ("...")`.
pub(super) fn detail(body: &[u8]) -> String {
    let Ok(body) = serde_json::from_slice::<serde_json::Value>(body) else { return String::new() };
    let first = body.pointer("/errors/0/message").or_else(|| body.get("details")).or_else(|| body.get("message"));
    match first.and_then(serde_json::Value::as_str) {
        Some(message) if !message.is_empty() => format!(" ({})", quoted(message)),
        _ => String::new(),
    }
}
