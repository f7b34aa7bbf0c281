//! `--restart`: what happens when a container's program ends by itself.

use crate::container::restart::RestartPolicy;
use crate::error::{Failure, Result};

/// Reads `no`, `on-failure[:MAX]`, `always` or `unless-stopped`.
pub fn parse(text: &str) -> Result<RestartPolicy> {
    let (name, max) = text.split_once(':').map_or((text, None), |(name, max)| (name, Some(max)));
    match (name, max) {
        ("" | "no", None) => Ok(RestartPolicy::No),
        ("always", None) => Ok(RestartPolicy::Always),
        ("unless-stopped", None) => Ok(RestartPolicy::UnlessStopped),
        ("on-failure", None) => Ok(RestartPolicy::OnFailure { max: None }),
        ("on-failure", Some(max)) => match max.parse() {
            // As Docker: none is no bound.
            Ok(0) => Ok(RestartPolicy::OnFailure { max: None }),
            Ok(max) => Ok(RestartPolicy::OnFailure { max: Some(max) }),
            Err(_) => Err(Failure::usage(format!("--restart: \"{max}\" is not a number of restarts"))),
        },
        ("no" | "always" | "unless-stopped", Some(_)) => {
            Err(Failure::usage(format!("--restart: only on-failure takes a number, not {name}")))
        }
        _ => Err(Failure::usage(format!("--restart: no policy \"{name}\""))
            .did_you_mean(name, ["no", "on-failure", "always", "unless-stopped"])
            .hint("known are no, on-failure[:MAX], always and unless-stopped")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_policies() {
        for (text, expected) in [
            ("no", Some(RestartPolicy::No)),
            ("always", Some(RestartPolicy::Always)),
            ("unless-stopped", Some(RestartPolicy::UnlessStopped)),
            ("on-failure", Some(RestartPolicy::OnFailure { max: None })),
            ("on-failure:0", Some(RestartPolicy::OnFailure { max: None })),
            ("on-failure:3", Some(RestartPolicy::OnFailure { max: Some(3) })),
            ("on-failure:-1", None),
            ("always:3", None),
            ("allways", None),
        ] {
            assert_eq!(parse(text).ok(), expected, "{text}");
        }
    }
}
