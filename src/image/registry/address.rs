//! Addresses: origins and URLs, and which of them we talk to.
//!
//! Credentials belong to an [`Origin`]; whether a request may carry them is
//! the comparison of two. Plain HTTP is for loopback, or for the one registry
//! for which the user asked for it; a stranger may never send us to our own
//! loopback (a request there may have effects).

use std::fmt;
use std::net::IpAddr;

use ureq::http::Uri;

use super::error::Error;
use crate::image::quote::quoted;
use crate::image::reference::DEFAULT_REGISTRY;

/// Where docker.io's registry answers.
pub(super) const DOCKER_REGISTRY_HOST: &str = "registry-1.docker.io";

/// How to talk to a registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Transport {
    /// HTTPS; on loopback plain HTTP, or HTTPS where that is spoken.
    #[default]
    Auto,
    /// HTTPS, or plain HTTP where HTTPS is not spoken (`insecure` in
    /// registries.conf). A certificate that is not good is still an error.
    PlainAllowed,
    /// Plain HTTP: the user's explicit wish.
    Plain,
    /// HTTPS, on loopback too.
    Tls,
}

/// Scheme, host and port.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Origin {
    pub(super) is_tls: bool,
    /// Lower case; IPv6 in brackets.
    pub(super) host: String,
    pub(super) port: u16,
}

impl Origin {
    /// Where a registry, a host with an optional port, most likely answers,
    /// and where else it may.
    pub(super) fn of_registry(registry: &str, transport: Transport) -> Result<(Self, Option<Self>), Error> {
        let authority = if registry == DEFAULT_REGISTRY { DOCKER_REGISTRY_HOST } else { registry };
        let parsed = Url::parse(&format!("https://{authority}/"))?.origin;
        let has_port = authority.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let plain = || Self { is_tls: false, port: if has_port { parsed.port } else { 80 }, ..parsed.clone() };
        Ok(match transport {
            Transport::Plain => (plain(), None),
            Transport::Auto | Transport::PlainAllowed if parsed.is_loopback() && parsed.port != 443 => {
                (plain(), Some(parsed))
            }
            Transport::PlainAllowed => (parsed.clone(), Some(plain())),
            Transport::Auto | Transport::Tls => (parsed, None),
        })
    }

    /// An address of this machine that needs no encryption.
    pub(super) fn is_loopback(&self) -> bool {
        let bare = self.host.trim_start_matches('[').trim_end_matches(']');
        // ::ffff:127.0.0.1 is loopback too.
        let address = bare.parse::<IpAddr>().map(|address| address.to_canonical());
        self.host == "localhost" || address.is_ok_and(|address| address.is_loopback())
    }

    /// Whether this registry may send us to `other` (a redirect, a realm).
    pub(super) fn may_send_to(&self, other: &Self) -> bool {
        if self == other {
            return true;
        }
        if other.is_loopback() {
            return self.is_loopback();
        }
        // A registry without encryption has none to lose by a hop to itself.
        other.is_tls || (!self.is_tls && self.host == other.host)
    }

    /// Whether the user's name and password for this registry may go to the
    /// token server `realm`: the registry itself or a neighbour in its domain
    /// (CVE-2026-65388: a realm anywhere was believed).
    pub(super) fn trusts_realm(&self, realm: &Self) -> bool {
        if self == realm {
            return true;
        }
        if realm.is_tls != self.is_tls && !realm.is_tls {
            return false;
        }
        let is_address = |host: &str| host.starts_with('[') || host.parse::<IpAddr>().is_ok();
        if self.host == realm.host || is_address(&self.host) || is_address(&realm.host) {
            // Another port of the same host may be another user's server: only
            // a certificate says whose it is.
            return self.host == realm.host && realm.is_tls;
        }
        let domain = |host: &str| {
            let labels: Vec<&str> = host.rsplit('.').take(3).collect();
            match labels.as_slice() {
                // co.uk, com.au: anybody's, as one label is elsewhere.
                [top, second, third] if top.len() == 2 && second.len() <= 3 => Some(format!("{third}.{second}.{top}")),
                [top, second] if top.len() == 2 && second.len() <= 3 => None,
                [top, second, ..] => Some(format!("{second}.{top}")),
                _ => None,
            }
        };
        domain(&self.host).is_some_and(|own| domain(&realm.host) == Some(own))
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_tls { "https" } else { "http" };
        write!(f, "{scheme}://{}:{}", self.host, self.port)
    }
}

/// A URL we may call: http or https, no user information, no fragment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Url {
    pub(super) origin: Origin,
    /// Path and query; starts with a slash.
    pub(super) path: String,
}

impl Url {
    pub(super) fn parse(text: &str) -> Result<Self, Error> {
        let invalid = || Error::Refused(format!("{} is not a URL kelp can use", quoted(text)));
        let text = text.split('#').next().unwrap_or_default();
        let uri: Uri = text.parse().map_err(|_| invalid())?;
        let is_tls = match uri.scheme_str().map(str::to_ascii_lowercase).as_deref() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(invalid()),
        };
        let authority = uri.authority().ok_or_else(invalid)?;
        let host = authority.host().to_ascii_lowercase();
        if host.is_empty() || authority.as_str().contains('@') {
            return Err(invalid());
        }
        // `Authority::port` would take a port out of range for none at all.
        let port = match authority.as_str().strip_prefix(authority.host()).ok_or_else(invalid)? {
            "" if is_tls => 443,
            "" => 80,
            port => port
                .strip_prefix(':')
                .and_then(|port| port.parse().ok())
                .filter(|port| *port != 0)
                .ok_or_else(invalid)?,
        };
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        Ok(Self { origin: Origin { is_tls, host, port }, path })
    }

    /// Where `location`, a header of the answer from `self`, leads
    /// (RFC 3986, 4.2: absolute, without scheme, without host, or relative).
    pub(super) fn join(&self, location: &str) -> Result<Self, Error> {
        let scheme = if self.origin.is_tls { "https" } else { "http" };
        // A colon before the first slash ends a scheme; whether it is one we
        // speak is for the parser to say.
        let start = location.split(['/', '?', '#']).next().unwrap_or_default();
        if start.contains(':') {
            return Self::parse(location);
        }
        if location.starts_with("//") {
            return Self::parse(&format!("{scheme}:{location}"));
        }
        let path = match location.strip_prefix('/') {
            Some(rest) => format!("/{rest}"),
            None => {
                let directory = self.path.split('?').next().unwrap_or("/");
                let directory = directory.rsplit_once('/').map_or("", |(directory, _)| directory);
                format!("{directory}/{location}")
            }
        };
        Self::parse(&format!("{}{path}", self.origin))
    }

    /// The same with query parameters added, percent-encoded.
    pub(super) fn with_query(mut self, parameters: &[(&str, &str)]) -> Self {
        for (name, value) in parameters {
            self.path.push(if self.path.contains('?') { '&' } else { '?' });
            self.path.push_str(name);
            self.path.push('=');
            push_encoded(&mut self.path, value);
        }
        self
    }
}

/// Appends `value`, percent-encoded (RFC 3986, 2.1), as queries and forms
/// want it.
pub(super) fn push_encoded(text: &mut String, value: &str) {
    for byte in value.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => text.push(char::from(byte)),
            other => text.push_str(&format!("%{other:02X}")),
        }
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.origin, self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(text: &str) -> Origin {
        Url::parse(text).unwrap().origin
    }

    #[test]
    fn registries_have_addresses() {
        let check = |registry: &str, transport, expected: &str| {
            let (preferred, alternative) = Origin::of_registry(registry, transport).unwrap();
            let both: Vec<String> = std::iter::once(preferred).chain(alternative).map(|it| it.to_string()).collect();
            assert_eq!(both.join(" "), expected);
        };
        check("docker.io", Transport::Auto, "https://registry-1.docker.io:443");
        check("quay.io", Transport::Auto, "https://quay.io:443");
        check("host:5000", Transport::Auto, "https://host:5000");
        check("host:5000", Transport::Plain, "http://host:5000");
        check("host.example", Transport::Plain, "http://host.example:80");
        check("host.example", Transport::PlainAllowed, "https://host.example:443 http://host.example:80");
        check("host:5000", Transport::PlainAllowed, "https://host:5000 http://host:5000");
        check("localhost:5000", Transport::Auto, "http://localhost:5000 https://localhost:5000");
        check("localhost:443", Transport::Auto, "https://localhost:443");
        check("127.1.2.3:5000", Transport::Auto, "http://127.1.2.3:5000 https://127.1.2.3:5000");
        check("[::1]:5000", Transport::PlainAllowed, "http://[::1]:5000 https://[::1]:5000");
        check("localhost:5000", Transport::Tls, "https://localhost:5000");
        check("127.0.0.1.example:5000", Transport::Auto, "https://127.0.0.1.example:5000");
    }

    #[test]
    fn locations_are_resolved() {
        let base = Url::parse("https://a.example/v2/x/blobs/y?z=1").unwrap();
        let check = |location: &str, expected: &str| assert_eq!(base.join(location).unwrap().to_string(), expected);
        check("https://b.example/c", "https://b.example:443/c");
        check("HTTPS://B.example/c#d", "https://b.example:443/c");
        check("//b.example:1/c", "https://b.example:1/c");
        check("/c?d=e", "https://a.example:443/c?d=e");
        check("c", "https://a.example:443/v2/x/blobs/c");
        for bad in ["ftp://b/c", "https://user:secret@b/c", "https:///c", "https://b:0/c", "https://b:99999/", "/a b"] {
            assert!(base.join(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn strangers_do_not_lead_us_home() {
        let remote = origin("https://registry.example/");
        let check = |to: &str, expected: bool| assert_eq!(remote.may_send_to(&origin(to)), expected, "{to}");
        check("https://cdn.example/", true);
        check("http://cdn.example/", false);
        check("http://registry.example/", false);
        check("http://127.0.0.1/", false);
        check("https://127.0.0.1/", false);
        check("http://localhost:8080/", false);
        check("http://[::ffff:127.0.0.1]/", false);
        let local = origin("http://127.0.0.1:5000/");
        assert!(local.may_send_to(&origin("http://localhost:6000/")));
        assert!(!local.may_send_to(&origin("http://cdn.example/")));
    }

    #[test]
    fn passwords_stay_in_the_domain() {
        let check = |registry: &str, realm: &str, expected: bool| {
            assert_eq!(origin(registry).trusts_realm(&origin(realm)), expected, "{registry} {realm}");
        };
        check("https://registry-1.docker.io/", "https://auth.docker.io/token", true);
        check("https://registry.gitlab.com/", "https://gitlab.com/jwt/auth", true);
        check("https://quay.io/", "https://quay.io/v2/auth", true);
        check("https://registry.example.com/", "https://evil.com/", false);
        check("https://registry.example.com/", "http://auth.example.com/", false);
        check("https://10.0.0.1/", "https://1.0.0.1/", false);
        check("https://10.0.0.1:5000/", "https://10.0.0.1:5001/", true);
        check("http://127.0.0.1:5000/", "http://127.0.0.1:5001/", false);
        check("https://a.co.uk/", "https://b.co.uk/", false);
        check("https://registry.a.co.uk/", "https://auth.a.co.uk/", true);
        check("https://host/", "https://other/", false);
    }

    #[test]
    fn queries_are_encoded() {
        let url = Url::parse("https://a/token?x=1").unwrap().with_query(&[("scope", "repository:a/b:pull")]);
        assert_eq!(url.path, "/token?x=1&scope=repository%3Aa%2Fb%3Apull");
    }
}
