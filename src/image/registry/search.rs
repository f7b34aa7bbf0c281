//! Search: docker.io's, which other registries offer too (`GET /v1/search` of
//! the first registry API; nothing newer exists), and where there is none, the
//! list of a registry's repositories, searched here.

use serde::Deserialize;

use super::address::Transport;
use super::credentials::Credentials;
use super::error::Error;
use super::listing;
use super::session::{Purpose, Session};
use super::transport::{Options, Request};
use crate::image::descriptor::null_is_default;
use crate::image::reference::DEFAULT_REGISTRY;
use crate::limits;

/// Where docker.io is searched.
const DOCKER_INDEX: &str = "index.docker.io";

/// A repository that was found.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct FoundRepository {
    /// Its name within the registry; docker.io leaves `library/` out.
    pub name: String,
    /// What its owner says of it. Any text.
    #[serde(default, deserialize_with = "null_is_default")]
    pub description: String,
    /// How many people like it.
    #[serde(default, rename = "star_count")]
    pub stars: u64,
    /// Whether the registry itself vouches for it.
    #[serde(default)]
    pub is_official: bool,
}

#[derive(Deserialize)]
struct Answer {
    #[serde(deserialize_with = "null_is_default")]
    results: Vec<FoundRepository>,
}

/// Repositories of `registry` that have to do with `term`, best first, at most
/// `count`.
pub fn search(
    registry: &str,
    transport: Transport,
    credentials: Option<Credentials>,
    options: &Options,
    term: &str,
    count: usize,
) -> Result<Vec<FoundRepository>, Error> {
    let is_docker = registry == DEFAULT_REGISTRY;
    // What everybody may see is enough there.
    let (host, credentials) = if is_docker { (DOCKER_INDEX, None) } else { (registry, credentials) };
    let session = Session::new(host, transport, credentials, options)?;
    let number = count.to_string();
    let url = session.url("/v1/search").with_query(&[("q", term), ("n", &number)]);
    let purpose = Purpose { what: "a search", scopes: &[] };
    let request = Request::document(url, &["application/json"]);
    let reply = if is_docker { session.checked(&request, purpose)? } else { session.send(&request, purpose)? };
    let answer = match reply.status {
        200 => reply.read(limits::LIST_PAGE_BYTES_MAX).ok().and_then(|body| serde_json::from_slice(&body).ok()),
        _ => None,
    };
    match answer {
        Some(Answer { results }) => Ok(results.into_iter().take(count).collect()),
        None if is_docker => Err(Error::Refused(format!("{registry} sends no search results that can be read"))),
        None => among_all(&session, term, count),
    }
}

/// Looks through all repositories there are.
fn among_all(session: &Session, term: &str, count: usize) -> Result<Vec<FoundRepository>, Error> {
    let all = listing::repositories(session).map_err(|error| match error {
        Error::NotFound { registry, .. } | Error::Status { registry, status: 405 | 501, .. } => {
            Error::Refused(format!("{registry} offers no search, and no list of repositories"))
        }
        other => other,
    })?;
    let term = term.to_lowercase();
    let matching = all.into_iter().filter(|name| name.to_lowercase().contains(&term));
    let found = |name| FoundRepository { name, description: String::new(), stars: 0, is_official: false };
    Ok(matching.take(count).map(found).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Failure;
    use crate::image::registry::fake::{Fault, Registry};

    fn find(registry: &Registry, term: &str, count: usize) -> Result<Vec<FoundRepository>, Error> {
        search(&registry.host(), Transport::Auto, None, &Options::default(), term, count)
    }

    fn names(found: Vec<FoundRepository>) -> Vec<String> {
        found.into_iter().map(|found| found.name).collect()
    }

    #[test]
    fn the_first_api_is_asked_first() {
        let registry = Registry::start();
        let results = r#"{"num_results":2,"results":[{"name":"a/web","star_count":7,"is_official":true,
            "description":null,"is_trusted":false},{"name":"b/web"}],"page":1}"#;
        registry.fault("GET /v1/search?q=web%20x&n=2", Fault::Answer(200, results.to_owned()), 2);
        let found = find(&registry, "web x", 2).unwrap();
        let first =
            FoundRepository { name: "a/web".to_owned(), description: String::new(), stars: 7, is_official: true };
        assert_eq!((found.len(), &found[0]), (2, &first));
        // More than was asked for is too much.
        assert_eq!(names(find(&registry, "web x", 2).unwrap()).len(), 2);
    }

    #[test]
    fn a_list_of_repositories_will_do() {
        let registry = Registry::start();
        registry.set_list("_catalog", &["repositories", "base/os", "team/Web", "web/old", "zoo"], 2);
        assert_eq!(names(find(&registry, "web", 9).unwrap()), ["team/Web", "web/old"]);
        assert_eq!(names(find(&registry, "web", 1).unwrap()), ["team/Web"]);
        // A web site in front answers everything with a page.
        registry.fault("GET /v1/search", Fault::Answer(200, "<html>".to_owned()), 1);
        assert_eq!(names(find(&registry, "zoo", 9).unwrap()), ["zoo"]);
    }

    #[test]
    fn no_search_is_a_clear_no() {
        let registry = Registry::start();
        let failure = Failure::from(find(&registry, "web", 9).unwrap_err());
        assert!(failure.to_string().contains("offers no search, and no list of repositories"), "{failure}");
        registry.require_token("t0ken", Some(("me", "secret")));
        let failure = Failure::from(find(&registry, "web", 9).unwrap_err());
        assert!(failure.hints.iter().any(|hint| hint.contains("kelp login")), "{failure:?}");
    }
}
