//! What a registry may answer that a caller tells apart.

use crate::error::{Failure, Kind};
use crate::image::quote::quoted;
use crate::image::reference::DEFAULT_REGISTRY;

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
    /// We may not push there.
    #[error("{registry} refused the push to {}{detail}", quoted(repository))]
    Denied {
        /// The registry as the user wrote it.
        registry: String,
        /// Where to.
        repository: String,
        /// Whether a name and password were sent.
        with_credentials: bool,
        /// The registry's own words.
        detail: String,
    },
    /// It does not make repositories by itself.
    #[error("{registry} has no repository {} to push to{detail}", quoted(repository))]
    NoRepository {
        /// The registry as the user wrote it.
        registry: String,
        /// Where to.
        repository: String,
        /// The registry's own words.
        detail: String,
    },
    /// Nobody can push there.
    #[error("{registry} takes no pushes (status {status}){detail}")]
    ReadOnly {
        /// The registry as the user wrote it.
        registry: String,
        /// 405 or 501.
        status: u16,
        /// The registry's own words.
        detail: String,
    },
    /// However small the pieces.
    #[error("{registry} refuses {what} as too large{detail}")]
    TooLarge {
        /// The registry as the user wrote it.
        registry: String,
        /// What was sent.
        what: String,
        /// The registry's own words.
        detail: String,
    },
    /// Its disk, or our share of it.
    #[error("{registry} has no space left{detail}")]
    Full {
        /// The registry as the user wrote it.
        registry: String,
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
            Error::Denied { with_credentials: false, registry, repository, .. } => {
                let failure = Self::user(message).hint(format!("log in first: kelp login {registry}"));
                if_official(failure, &registry, &repository)
            }
            Error::Denied { registry, repository, .. } => {
                let failure =
                    Self::user(message).hint(format!("check that your account at {registry} may write there"));
                if_official(failure, &registry, &repository)
            }
            Error::NoRepository { .. } => {
                Self::new(Kind::NotFound, message).hint("some registries want a repository made before the first push")
            }
            Error::ReadOnly { .. } => {
                Self::host(message).hint("it may be a mirror or a cache, or not a registry at all")
            }
            Error::TooLarge { .. } => Self::host(message).hint("the limit may be that of a proxy before the registry"),
            Error::Full { .. } => Self::host(message).hint("whoever runs the registry has to make room"),
            Error::Status { status: 415, .. } => {
                Self::host(message).hint("it may be too old for OCI manifests or zstd layers")
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

/// Names without a namespace are Docker's, whatever account one has.
fn if_official(failure: Failure, registry: &str, repository: &str) -> Failure {
    match repository.strip_prefix("library/").filter(|_| registry == DEFAULT_REGISTRY) {
        Some(name) => failure.hint(format!("push under your own name there: docker.io/YOU/{name}")),
        None => failure,
    }
}

/// Whether an error body tells of a full disk: in words, or as distribution's
/// file system driver does, by errno (28 ENOSPC, 122 EDQUOT).
pub(super) fn says_full(body: &[u8]) -> bool {
    let text = String::from_utf8_lossy(body).to_lowercase();
    ["no space left", "insufficient storage", "quota exceeded", "\"err\":28", "\"err\":122"]
        .iter()
        .any(|words| text.contains(words))
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
