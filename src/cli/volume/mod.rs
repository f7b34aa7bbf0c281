//! `kelp volume …`: directories that outlive containers.

pub(super) mod create;
pub(super) mod exists;
pub(super) mod export;
pub(super) mod import;
pub(super) mod inspect;
pub(super) mod ls;
pub(super) mod prune;
pub(super) mod rm;

use jiff::Timestamp;

use super::{output, units};
use crate::storage::volumes::Volume;

/// When a volume was made, as docker writes it.
fn created(volume: &Volume) -> String {
    let time = i64::try_from(volume.created_s).ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
    time.map(units::rfc3339).unwrap_or_default()
}

/// Tells of volumes whose records cannot be read.
fn warn_of_damage<'a>(volumes: impl IntoIterator<Item = &'a Volume>) {
    for (volume, damage) in volumes.into_iter().filter_map(|volume| Some((volume, volume.damage.as_ref()?))) {
        let name = volume.name.as_str();
        output::notice(&format!("what is known of volume {name} is damaged, its files are not: {damage}"));
    }
}
