//! Lists that come in pages: the tags of a repository, the repositories of a
//! registry (distribution spec, "Content Discovery"; distribution's catalog).
//!
//! The next page is where a `Link` says (RFC 8288), but never at another
//! registry; pages and names are bounded, whatever it says.

use ureq::http::header;

use super::address::Url;
use super::client::Client;
use super::error::Error;
use super::session::{Purpose, Session};
use super::transport::{Reply, Request};
use crate::image::quote::quoted;
use crate::limits;

impl Client {
    /// All tags of the repository, as the registry sorts them.
    pub fn tags(&self) -> Result<Vec<String>, Error> {
        let what = format!("repository {}", quoted(&self.repository));
        let path = format!("/v2/{}/tags/list?n={}", self.repository, limits::LIST_PAGE_NAMES);
        all(&self.session, path, "tags", Purpose { what: &what, scopes: &self.scopes })
    }
}

/// The repositories of a registry that lists them.
pub(super) fn repositories(session: &Session) -> Result<Vec<String>, Error> {
    let path = format!("/v2/_catalog?n={}", limits::LIST_PAGE_NAMES);
    let scopes = ["registry:catalog:*".to_owned()];
    all(session, path, "repositories", Purpose { what: "list of repositories", scopes: &scopes })
}

/// The names under `key` of all pages.
fn all(session: &Session, path: String, key: &str, purpose: Purpose<'_>) -> Result<Vec<String>, Error> {
    let mut names = Vec::new();
    let mut url = session.url(path);
    for _ in 0..limits::LIST_PAGES_MAX {
        let reply = session.checked(&Request::document(url.clone(), &[]), purpose)?;
        let next = next_page(&url, &reply)?;
        names.extend(read(reply, key, session, purpose.what)?);
        if names.len() > limits::LIST_NAMES_MAX {
            let message = format!("{} has more than {} {key}", session.registry, limits::LIST_NAMES_MAX);
            return Err(Error::Refused(message));
        }
        match next {
            Some(next) if next.origin == *session.origin() => url = next,
            Some(next) => {
                let message = format!("{} continues its {key} at {}", session.registry, next.origin);
                return Err(Error::Refused(message));
            }
            None => return Ok(names),
        }
    }
    Err(Error::Refused(format!("{} sends {key} without end", session.registry)))
}

fn read(reply: Reply, key: &str, session: &Session, what: &str) -> Result<Vec<String>, Error> {
    let invalid = |why: String| Error::Refused(format!("{} sends no {what} that can be read: {why}", session.registry));
    let body = reply.read(limits::LIST_PAGE_BYTES_MAX).map_err(|error| invalid(error.to_string()))?;
    let body: serde_json::Value = serde_json::from_slice(&body).map_err(|error| invalid(error.to_string()))?;
    match body.get(key) {
        // Go writes an empty list as null.
        None | Some(serde_json::Value::Null) => Ok(Vec::new()),
        Some(serde_json::Value::Array(names)) => {
            let name = |name: &serde_json::Value| name.as_str().map(str::to_owned);
            names.iter().map(name).collect::<Option<_>>().ok_or_else(|| invalid(format!("{key} that are no texts")))
        }
        Some(_) => Err(invalid(format!("{key} that are no list"))),
    }
}

/// The target of `Link: <...>; rel="next"`.
fn next_page(url: &Url, reply: &Reply) -> Result<Option<Url>, Error> {
    for value in reply.headers.get_all(header::LINK) {
        if let Some(target) = value.to_str().ok().and_then(next_target) {
            return url.join(target).map(Some);
        }
    }
    Ok(None)
}

fn next_target(header: &str) -> Option<&str> {
    let mut rest = header;
    while let Some((_, link)) = rest.split_once('<') {
        let (target, parameters) = link.split_once('>')?;
        // The next link begins at its bracket; a comma may be in a quoted text.
        let own = parameters.split('<').next().unwrap_or_default();
        let is_next = own.split([';', ',']).any(|parameter| {
            let (name, value) = parameter.split_once('=').unwrap_or_default();
            let value = value.trim().trim_matches('"');
            name.trim().eq_ignore_ascii_case("rel")
                && value.split(' ').any(|relation| relation.eq_ignore_ascii_case("next"))
        });
        if is_next {
            return Some(target);
        }
        rest = parameters;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::reference::Reference;
    use crate::image::registry::fake::{Fault, Registry};
    use crate::image::registry::{Endpoint, Options, Transport};
    use proptest::prelude::*;

    fn tags(registry: &Registry) -> Result<Vec<String>, Error> {
        let reference = Reference::parse(&format!("{}/a/web", registry.host())).unwrap();
        Client::new(&Endpoint::of(&reference, Transport::Auto, None), &Options::default()).unwrap().tags()
    }

    fn answer(registry: &Registry, body: &str) -> Result<Vec<String>, Error> {
        registry.fault("tags/list", Fault::Answer(200, body.to_owned()), 1);
        tags(registry)
    }

    #[test]
    fn pages_are_put_together() {
        let registry = Registry::start();
        registry.set_list("a/web/tags/list", &["tags", "1", "2", "3", "4", "5"], 2);
        assert_eq!(tags(&registry).unwrap(), ["1", "2", "3", "4", "5"]);
        assert_eq!(registry.lines("tags/list").len(), 3);
        let none: [&str; 0] = [];
        assert_eq!(answer(&registry, r#"{"name":"a/web","tags":null}"#).unwrap(), none);
    }

    #[test]
    fn lies_end() {
        let registry = Registry::start();
        registry.set_list("a/web/tags/list", &["tags", "1"], 2);
        for body in ["", "[]x", r#"{"tags":5}"#, r#"{"tags":[1]}"#] {
            assert!(answer(&registry, body).unwrap_err().to_string().contains("sends no repository"), "{body}");
        }
        assert!(tags(&Registry::start()).unwrap_err().to_string().contains("has no repository \"a/web\""));
        let link = |to: &str| Fault::Header("Link", format!("<{to}>; rel=\"next\""));
        registry.fault("tags/list", link("https://other.example/v2/a/web/tags/list"), 1);
        assert!(tags(&registry).unwrap_err().to_string().contains("continues its tags at https://other.example"));
        registry.fault("tags/list", link("/v2/a/web/tags/list"), 9999);
        let failure = tags(&registry).unwrap_err().to_string();
        assert!(failure.contains("without end"), "{failure}");
    }

    #[test]
    fn links_are_read_as_the_rfc_has_them() {
        assert_eq!(next_target(r#"</v2/x?last=1&n=2>; rel="next""#), Some("/v2/x?last=1&n=2"));
        assert_eq!(next_target("<a>; rel=prev, <b>;title=\"x,y\"; REL=Next"), Some("b"));
        assert_eq!(next_target("<a>; rel=\"last next\""), Some("a"));
        for none in ["", "<a>", "<a", "next", "<a>; rel=prev"] {
            assert_eq!(next_target(none), None, "{none}");
        }
    }

    proptest! {
        #[test]
        fn always_ends(text in ".{0,100}|[<>;=,a-z \"]{0,100}") {
            next_target(&text);
        }
    }
}
