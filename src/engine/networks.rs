//! The networks there are: the user's own, the host's, and none.

use crate::error::{Failure, Result};
use crate::network::control::{self, DEFAULT, Description};
use crate::paths::Paths;

/// A network that a container may be in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    /// As `--network` has it.
    pub name: &'static str,
    /// What carries its packets, in docker's words where docker has one.
    pub driver: &'static str,
    /// What its process says; `None` where there is none.
    pub live: Option<Description>,
}

/// Names and drivers: kelp's own process, the host's kernel, nothing.
const ALL: [(&str, &str); 3] = [(DEFAULT, "kelp"), ("host", "host"), ("none", "null")];

/// Names and drivers of all of them.
pub fn list() -> Vec<Network> {
    ALL.into_iter().map(|(name, driver)| Network { name, driver, live: None }).collect()
}

/// The network called `name`, and what its process says.
pub fn find(paths: &Paths, name: &str) -> Result<Network> {
    let name = if name == "bridge" { DEFAULT } else { name };
    let Some((name, driver)) = ALL.into_iter().find(|(known, _)| *known == name) else {
        return Err(Failure::not_found(format!("there is no network \"{}\"", name.escape_debug()))
            .did_you_mean(name, ALL.map(|(known, _)| known)));
    };
    let live = if name == DEFAULT { control::describe(paths, name)? } else { None };
    Ok(Network { name, driver, live })
}
