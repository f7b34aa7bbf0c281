//! Searching registries for images.

use super::remote;
use crate::error::{Context, Failure, Result};
use crate::image::registry::{self, FoundRepository};

/// The most that one search gives (docker's bound).
pub const RESULTS_MAX: usize = 100;

/// What a user looks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// `TERM`, or `REGISTRY/TERM`.
    pub term: String,
    /// The most results.
    pub limit: usize,
    /// All have to hold.
    pub filters: Vec<Filter>,
    /// Talk to a registry without TLS that is not on this machine.
    pub plain_http: bool,
}

/// What a repository has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filter {
    /// One that the registry vouches for, or one that it does not.
    Official(bool),
    /// Liked by so many at least.
    Stars(u64),
}

impl Filter {
    /// A filter as docker writes it: `is-official=true`, `stars=10`.
    pub fn parse(text: &str) -> Result<Self> {
        let invalid = |why: &str| Failure::usage(format!("filter \"{}\" {why}", text.escape_debug()));
        match text.split_once('=') {
            Some(("is-official", value)) => match value {
                "true" | "1" => Ok(Self::Official(true)),
                "false" | "0" => Ok(Self::Official(false)),
                _ => Err(invalid("is neither true nor false")),
            },
            Some(("stars", value)) => value.parse().map(Self::Stars).map_err(|_| invalid("has no number of stars")),
            _ => Err(invalid("is not known").hint("there are is-official=true|false and stars=NUMBER")),
        }
    }

    fn accepts(self, found: &FoundRepository) -> bool {
        match self {
            Self::Official(wanted) => found.is_official == wanted,
            Self::Stars(least) => found.stars >= least,
        }
    }
}

/// Repositories that have to do with the term, best first, with names that can
/// be pulled.
pub fn search(request: &Request) -> Result<Vec<FoundRepository>> {
    if !(1..=RESULTS_MAX).contains(&request.limit) {
        return Err(Failure::usage(format!("a search gives 1 to {RESULTS_MAX} results, not {}", request.limit)));
    }
    let place = remote::place(&request.term, request.plain_http)?;
    if place.rest.is_empty() {
        return Err(Failure::usage("there is nothing to search for"));
    }
    let doing = || format!("search {} for \"{}\"", place.registry, place.rest);
    let found = registry::search(
        &place.registry,
        place.transport,
        place.credentials,
        &place.options,
        &place.rest,
        request.limit,
    );
    let mut found = found.doing(doing)?;
    found.retain(|found| request.filters.iter().all(|filter| filter.accepts(found)));
    if place.is_named {
        for one in &mut found {
            one.name = format!("{}/{}", place.registry, one.name);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_dockers() {
        let found = |stars, is_official| FoundRepository {
            name: String::new(),
            description: String::new(),
            stars,
            is_official,
        };
        let check =
            |filter: &str, stars, is_official| Filter::parse(filter).unwrap().accepts(&found(stars, is_official));
        assert!(check("is-official=true", 0, true) && !check("is-official=1", 0, false));
        assert!(check("is-official=false", 0, false) && check("stars=3", 3, false) && !check("stars=3", 2, false));
        for bad in ["", "stars", "stars=x", "stars=-1", "is-official=maybe", "is-automated=true"] {
            assert!(Filter::parse(bad).is_err(), "{bad}");
        }
    }
}
