//! Who we are: a name, and the proof.
//!
//! What is kept of it is the business of `authfile` (files) and `keychain`
//! (programs).

use std::fmt;

use super::transport::{Authorization, Form};

/// Who somebody is, and the proof. The proof is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    name: String,
    secret: Secret,
}

#[derive(Clone, PartialEq, Eq)]
pub(super) enum Secret {
    /// Shown to a registry or a token server.
    Password(String),
    /// OAuth2's refresh token: shown to a token server only.
    IdentityToken(String),
}

impl Credentials {
    /// A user with a password.
    pub fn new(name: impl Into<String>, password: impl Into<String>) -> Self {
        Self { name: name.into(), secret: Secret::Password(password.into()) }
    }

    /// A user with an identity token, which a token server gave in place of
    /// the password.
    pub fn identity(name: impl Into<String>, token: impl Into<String>) -> Self {
        Self { name: name.into(), secret: Secret::IdentityToken(token.into()) }
    }

    /// Who it is; empty where only an identity token is known.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn secret(&self) -> &Secret {
        &self.secret
    }

    /// Name and password for a registry; an identity token is not for one.
    pub(super) fn basic(&self) -> Option<Authorization> {
        match &self.secret {
            Secret::Password(password) => Some(Authorization::basic(&self.name, password)),
            Secret::IdentityToken(_) => None,
        }
    }

    /// What proves it to a token server, if it is no password.
    pub(super) fn identity_token(&self) -> Option<&str> {
        match &self.secret {
            Secret::IdentityToken(token) => Some(token),
            Secret::Password(_) => None,
        }
    }

    /// The fields of an OAuth2 request (distribution's OAuth2 specification).
    pub(super) fn fill_in(&self, form: &mut Form) {
        match &self.secret {
            Secret::Password(password) => {
                form.push("grant_type", "password");
                form.push("username", &self.name);
                form.push("password", password);
            }
            Secret::IdentityToken(token) => {
                form.push("grant_type", "refresh_token");
                form.push("refresh_token", token);
            }
        }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credentials({:?})", self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn are_never_printed() {
        for credentials in [Credentials::new("a", "secret"), Credentials::identity("a", "secret")] {
            assert!(!format!("{credentials:?}").contains("secret"));
            let mut form = Form::default();
            credentials.fill_in(&mut form);
            assert!(!format!("{form:?}").contains("secret"));
        }
        assert_eq!(Credentials::new("a", "b").basic(), Some(Authorization::basic("a", "b")));
        assert_eq!(Credentials::identity("a", "b").basic(), None);
    }
}
