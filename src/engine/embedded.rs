//! The image `hello`, inside the binary.
use super::images::Image;
use crate::error::Result;
use crate::paths::Paths;
use crate::process::base::Base;
use crate::sandbox::spec::Step;

/// Whether `text` names it.
pub fn is_meant(text: &str) -> bool {
    matches!(text, "hello" | "hello:latest" | "localhost/hello" | "localhost/hello:latest")
}

/// Puts it into the store.
pub fn store(_paths: &Paths) -> Result<()> {
    Ok(())
}

/// Whether `image` is it.
pub fn is_embedded(_image: &Image) -> bool {
    false
}

/// The file that tells it what the outside looks like.
pub fn host_view(_paths: &Paths, _id: &str, _base: &Base) -> Result<Step> {
    Err(crate::error::Failure::bug("not yet"))
}
