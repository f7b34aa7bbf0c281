//! `--filter KEY=VALUE` of `system prune`, which is for all kinds of things.

use super::container_filter::ContainerFilter;
use super::field;
use super::filter::{ImageFilter, VolumeFilter, known, pair};
use crate::error::{Failure, Result};

/// What all kinds of things have.
const KEYS: [&str; 3] = ["label", "label!", "until"];

/// What must hold of what is removed.
#[derive(Debug, Clone, Default)]
pub struct PruneFilter {
    /// Of containers.
    pub containers: ContainerFilter,
    /// Of images.
    pub images: ImageFilter,
    /// Of volumes, where those are meant.
    pub volumes: Option<VolumeFilter>,
}

impl PruneFilter {
    /// Reads the values of all `--filter` together. Nobody wrote down when a
    /// volume was last of use, so with `volumes` there is no `until`, as with
    /// docker.
    pub fn parse(texts: &[String], volumes: bool) -> Result<Self> {
        for text in texts {
            let (key, _) = pair(text, &KEYS)?;
            match key.as_str() {
                "until" if volumes => {
                    return Err(Failure::usage("the \"until\" filter is not supported with \"--volumes\""));
                }
                key if KEYS.contains(&key) => {}
                key => return Err(field::unknown("filter", key, &KEYS).hint(known(&KEYS))),
            }
        }
        Ok(Self {
            containers: ContainerFilter::parse(texts)?,
            images: ImageFilter::parse(texts)?,
            volumes: volumes.then(|| VolumeFilter::parse_for_prune(texts)).transpose()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_all_have_is_taken() {
        let parse = |text: &str, volumes| PruneFilter::parse(&[text.to_owned()], volumes);
        assert!(parse("until=24h", false).unwrap().images.until.is_some());
        assert!(parse("label!=keep", true).unwrap().volumes.is_some());
        assert!(parse("until=24h", true).unwrap_err().to_string().contains("--volumes"));
        for text in ["name=web", "dangling=true", "until", "until=soon", "labl=x"] {
            assert!(parse(text, false).is_err(), "{text}");
        }
    }
}
