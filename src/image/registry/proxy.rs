//! Proxies from the environment, by the rules of Go's tools, which docker and
//! podman users know (golang.org/x/net/http/httpproxy).
//!
//! ```text
//!   HTTPS_PROXY, https_proxy    for https
//!   HTTP_PROXY, http_proxy      for http
//!   ALL_PROXY, all_proxy        where the one above is not set (curl's)
//!   NO_PROXY, no_proxy          never for these: *, HOST, .DOMAIN, ADDRESS, ADDRESS/BITS, each with or without :PORT
//! ```
//! A HOST stands for all names below it, too. Our own loopback needs no
//! proxy: a proxy's loopback is another machine's. A proxy is reached by
//! CONNECT, for http too, or by SOCKS. Its password is never printed.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use super::address::Origin;
use crate::error::{Failure, Result};

/// Which proxy is for whom.
#[derive(Clone, Default)]
pub struct Proxies {
    https: Option<ureq::Proxy>,
    http: Option<ureq::Proxy>,
    direct: Vec<Direct>,
}

/// Somebody who is reached without a proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Direct {
    who: Who,
    port: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Who {
    All,
    Network(IpNet),
    /// `.example.com`; and example.com itself, if so.
    Domain(String, bool),
}

impl fmt::Debug for Proxies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Proxies(..)")
    }
}

impl Proxies {
    /// As the environment has them.
    pub fn of_this_user() -> Result<Self> {
        Self::from(|name| std::env::var(name).ok())
    }

    /// As `variable` has them.
    pub fn from(variable: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let either = |name: &str| {
            let names = [name.to_owned(), name.to_ascii_lowercase()];
            names.into_iter().find_map(|name| {
                let value = variable(&name)?.trim().to_owned();
                (!value.is_empty()).then_some((name, value))
            })
        };
        let proxy = |name: &str| either(name).map(|(name, url)| parse(&name, &url)).transpose();
        let all = proxy("ALL_PROXY")?;
        let direct = either("NO_PROXY").map(|(_, list)| list).unwrap_or_default();
        Ok(Self {
            https: proxy("HTTPS_PROXY")?.or_else(|| all.clone()),
            http: proxy("HTTP_PROXY")?.or(all),
            direct: direct.split(',').filter_map(Direct::parse).collect(),
        })
    }

    /// The proxy on the way to `origin`.
    pub(super) fn of(&self, origin: &Origin) -> Option<&ureq::Proxy> {
        if origin.is_loopback() || self.direct.iter().any(|direct| direct.is(origin)) {
            return None;
        }
        if origin.is_tls { self.https.as_ref() } else { self.http.as_ref() }
    }
}

/// A proxy, without who may use it.
pub(super) fn shown(proxy: &ureq::Proxy) -> String {
    format!("{}:{}", proxy.host(), proxy.port())
}

fn parse(name: &str, url: &str) -> Result<ureq::Proxy> {
    // In Go both have the proxy look up names.
    let url = match url.strip_prefix("socks5://") {
        Some(rest) => format!("socks5h://{rest}"),
        None => url.to_owned(),
    };
    // The value may hold a password.
    ureq::Proxy::new(&url).map_err(|_| {
        Failure::usage(format!("{name} is not the address of a proxy"))
            .hint("write http://HOST:PORT, https://HOST:PORT or socks5://HOST:PORT; encode special characters as %XX")
    })
}

impl Direct {
    fn parse(text: &str) -> Option<Self> {
        let text = text.trim().to_ascii_lowercase();
        if text.is_empty() {
            return None;
        }
        if text == "*" {
            return Some(Self { who: Who::All, port: None });
        }
        let bare = text.trim_start_matches('[').trim_end_matches(']');
        if let Some(network) = bare.parse().ok().or_else(|| bare.parse::<IpAddr>().ok().map(IpNet::from)) {
            return Some(Self { who: Who::Network(network), port: None });
        }
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) => (host, Some(port.parse().ok()?)),
            None => (text.as_str(), None),
        };
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let who = match (bare.parse::<IpAddr>(), host.strip_prefix('*').unwrap_or(host)) {
            (Ok(address), _) => Who::Network(IpNet::from(address)),
            (_, domain) if domain.starts_with('.') => Who::Domain(domain.to_owned(), false),
            (_, host) => Who::Domain(format!(".{host}"), true),
        };
        Some(Self { who, port })
    }

    fn is(&self, origin: &Origin) -> bool {
        let host = origin.host.trim_start_matches('[').trim_end_matches(']');
        let is_meant = match &self.who {
            Who::All => true,
            Who::Network(network) => {
                host.parse::<IpAddr>().is_ok_and(|address| network.contains(&address.to_canonical()))
            }
            Who::Domain(domain, and_itself) => {
                host.ends_with(domain.as_str()) || (*and_itself && domain.strip_prefix('.') == Some(host))
            }
        };
        is_meant && self.port.is_none_or(|port| port == origin.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::registry::address::Url;

    fn proxies(variables: &[(&str, &str)]) -> Result<Proxies> {
        Proxies::from(|name| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned()))
    }

    fn of(proxies: &Proxies, url: &str) -> Option<String> {
        proxies.of(&Url::parse(url).unwrap().origin).map(shown)
    }

    #[test]
    fn the_scheme_chooses() {
        let all =
            proxies(&[("ALL_PROXY", "all:1"), ("https_proxy", "http://u:p@tls:2/"), ("HTTP_PROXY", " ")]).unwrap();
        assert_eq!(of(&all, "https://a.example/").as_deref(), Some("tls:2"));
        assert_eq!(of(&all, "http://a.example/").as_deref(), Some("all:1"));
        assert_eq!(of(&all, "https://127.0.0.1:5000/"), None);
        assert_eq!(of(&all, "http://localhost:5000/"), None);
        let upper = proxies(&[("HTTPS_PROXY", "https://upper"), ("https_proxy", "lower")]).unwrap();
        assert_eq!(of(&upper, "https://a.example/").as_deref(), Some("upper:443"));
        assert_eq!(of(&upper, "http://a.example/"), None);
        let socks = proxies(&[("ALL_PROXY", "socks5://s")]).unwrap();
        assert_eq!(socks.https.unwrap().protocol(), ureq::ProxyProtocol::Socks5h);
    }

    #[test]
    fn some_are_reached_directly() {
        let list = "a.example, .b.example,*.c.example,10.0.0.0/8,192.0.2.7, 2001:db8::/32,[2001:db9::1]:5000,d.example:5000,,x:y";
        let proxies = proxies(&[("HTTPS_PROXY", "p"), ("no_proxy", list)]).unwrap();
        let check = |url: &str, is_direct: bool| assert_eq!(of(&proxies, url).is_none(), is_direct, "{url}");
        check("https://a.example/", true);
        check("https://x.y.a.example:5000/", true);
        check("https://xa.example/", false);
        check("https://b.example/", false);
        check("https://x.b.example/", true);
        check("https://c.example/", false);
        check("https://x.c.example/", true);
        check("https://10.200.0.1/", true);
        check("https://11.0.0.1/", false);
        check("https://192.0.2.7:5000/", true);
        check("https://[2001:db8::5]/", true);
        check("https://[2001:db9::1]:5000/", true);
        check("https://[2001:db9::1]/", false);
        check("https://d.example:5000/", true);
        check("https://d.example/", false);
        let none = self::proxies(&[("HTTPS_PROXY", "p"), ("NO_PROXY", "*")]).unwrap();
        assert_eq!(of(&none, "https://a.example/"), None);
    }

    #[test]
    fn passwords_of_proxies_are_not_printed() {
        for bad in ["ftp://me:secret@p", "http://me:secret@", "http://me:secret@[", "http://me:%ffsecret@p"] {
            let failure = proxies(&[("HTTPS_PROXY", bad)]).unwrap_err().to_string();
            assert!(failure.contains("HTTPS_PROXY") && !failure.contains("secret"), "{failure}");
        }
        let good = proxies(&[("HTTPS_PROXY", "http://me:secret@p:1")]).unwrap();
        assert!(!format!("{good:?}").contains("secret"));
    }
}
