//! Logging in to registries and out again.

use std::path::{Path, PathBuf};

use crate::error::{Context, Failure, Result};
use crate::image::reference::Reference;
use crate::image::registry::{self, Credentials, Found, Logins, Options, Place, Registries, Transport};
use crate::limits;

/// What a login is for: a registry, or the part of one below a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    /// Host, with a port if one was given.
    pub registry: String,
    /// The same, and perhaps a namespace or repository of it.
    pub name: String,
}

impl Scope {
    /// What `text` names: `HOST[:PORT][/NAME...]`, with or without
    /// `https://`; without a text, the registry of short names.
    pub fn parse(text: Option<&str>) -> Result<Self> {
        let Some(text) = text else {
            let registry = Registries::of_this_user()?.of_short_names().to_owned();
            return Ok(Self { name: registry.clone(), registry });
        };
        if text.starts_with("http://") {
            return Err(Failure::usage(format!("\"{text}\" names a protocol without encryption"))
                .hint("name the registry alone and give --plain-http"));
        }
        let bare = match text.strip_prefix("https://") {
            // As docker has it: https://index.docker.io/v1/
            Some(bare) => bare.split('/').next().unwrap_or_default(),
            None => text.trim_end_matches('/'),
        };
        let invalid = || {
            Failure::usage(format!("\"{}\" is not a registry", text.escape_debug()))
                .hint("name its host, as in quay.io or localhost:5000, perhaps with a namespace: quay.io/team")
        };
        // Any image of it will do to have it parsed.
        let image = format!("{bare}/image");
        let is_full = Reference::parse_short(&image).is_ok_and(|short| short.is_none());
        let reference = Reference::parse(&image).ok().filter(|_| is_full).ok_or_else(invalid)?;
        let registry = reference.registry().to_owned();
        let name = match bare.split_once('/') {
            Some((_, path)) => format!("{registry}/{path}"),
            None => registry.clone(),
        };
        Ok(Self { registry, name })
    }
}

/// Where and how to log in.
#[derive(Debug, Clone)]
pub struct Request {
    /// What for.
    pub scope: Scope,
    /// Talk without TLS to a registry that is not on this machine.
    pub plain_http: bool,
    /// The file of credentials that was named (`--authfile`).
    pub auth_file: Option<PathBuf>,
}

/// A login that succeeded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoggedIn {
    /// Where the credentials are now.
    pub place: Place,
    /// False where the registry lets in everybody, so that nothing is proved.
    pub was_checked: bool,
}

/// The login that would be used now.
pub fn current(scope: &Scope, auth_file: Option<&Path>) -> Result<Option<Found>> {
    Logins::of_this_user(auth_file).find(&scope.name)
}

/// Shows `credentials` to the registry and keeps them if they are accepted.
pub fn log_in(request: &Request, credentials: &Credentials) -> Result<LoggedIn> {
    let accepted = accepted(request, credentials)?;
    let logins = Logins::of_this_user(request.auth_file.as_deref());
    let place = logins
        .store(&request.scope.name, &accepted.credentials)
        .doing(|| format!("log in to {}", request.scope.name))?;
    Ok(LoggedIn { place, was_checked: accepted.was_checked })
}

/// Shows `credentials` to the registry.
pub fn check(request: &Request, credentials: &Credentials) -> Result<()> {
    accepted(request, credentials).map(drop)
}

fn accepted(request: &Request, credentials: &Credentials) -> Result<registry::Accepted> {
    let doing = || format!("log in to {}", request.scope.name);
    let registry = &request.scope.registry;
    let transport = match request.plain_http {
        true => Transport::Plain,
        false => Registries::of_this_user()?.transport(registry)?,
    };
    registry::login(registry, transport, credentials, &Options::of_this_user()?).doing(doing)
}

/// A name and a password as a person gave them.
pub fn credentials(name: &str, password: &str) -> Result<Credentials> {
    for (what, text) in [("name", name), ("password", password)] {
        if text.is_empty() {
            return Err(Failure::usage(format!("the {what} is empty")));
        }
        if text.len() > limits::PASSWORD_BYTES_MAX {
            return Err(Failure::usage(format!("the {what} is longer than {} bytes", limits::PASSWORD_BYTES_MAX)));
        }
        if text.chars().any(char::is_control) {
            return Err(Failure::usage(format!("the {what} has a control character in it")));
        }
    }
    if name.contains(':') {
        // RFC 7617, 2: it would end the name.
        return Err(Failure::usage("the name has a colon in it"));
    }
    Ok(Credentials::new(name, password))
}

/// What a logout did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoggedOut {
    /// What for.
    pub name: String,
    /// Where something was removed; nowhere if there was nothing.
    pub places: Vec<Place>,
    /// The login that is left and is not kelp's to remove.
    pub left: Option<PathBuf>,
}

/// Forgets what is kept for `scope`.
pub fn log_out(scope: &Scope, auth_file: Option<&Path>) -> Result<LoggedOut> {
    forget(&Logins::of_this_user(auth_file), &scope.name)
}

/// Forgets everything that is kept.
pub fn log_out_of_all(auth_file: Option<&Path>) -> Result<Vec<LoggedOut>> {
    let logins = Logins::of_this_user(auth_file);
    logins.names()?.iter().map(|name| forget(&logins, name)).collect()
}

fn forget(logins: &Logins, name: &str) -> Result<LoggedOut> {
    let places = logins.erase(name).doing(|| format!("log out of {name}"))?;
    let left = logins.find(name)?.map(|found| found.file);
    Ok(LoggedOut { name: name.to_owned(), places, left })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registries_are_understood_as_docker_and_podman_write_them() {
        let check = |text: &str, registry: &str, name: &str| {
            let scope = Scope::parse(Some(text)).unwrap();
            assert_eq!((scope.registry.as_str(), scope.name.as_str()), (registry, name), "{text}");
        };
        check("quay.io", "quay.io", "quay.io");
        check("Quay.IO/", "quay.io", "quay.io");
        check("https://quay.io/v2/", "quay.io", "quay.io");
        check("https://index.docker.io/v1/", "docker.io", "docker.io");
        check("docker.io", "docker.io", "docker.io");
        check("docker.io/team", "docker.io", "docker.io/team");
        check("localhost:5000", "localhost:5000", "localhost:5000");
        check("[::1]:5000/a/b", "[::1]:5000", "[::1]:5000/a/b");
        for bad in ["", "team", "team/app", "http://quay.io", "quay.io/A", "quay.io/a:1", "a b", "ftp://quay.io"] {
            assert!(Scope::parse(Some(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn names_and_passwords_are_checked() {
        assert!(credentials("me", "p:w").is_ok());
        for (name, password) in [("", "pw"), ("me", ""), ("m:e", "pw"), ("me", "p\nw"), ("m\u{1b}", "pw")] {
            assert!(credentials(name, password).is_err(), "{name:?} {password:?}");
        }
    }
}
