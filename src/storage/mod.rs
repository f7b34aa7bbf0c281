//! Layers as directories: unpacked once, stacked by the kernel.
//!
//! - [`unpack`] turns a layer's blob into a directory that overlayfs can stack.
//! - [`pack`] turns directories into the tar of a layer again.
//! - [`copy`] knows from where to where files are copied, by docker's rules.
//! - [`census`] counts what is in unpacked layers, [`measure`] how much is in
//!   containers and volumes.
//! - [`layers`] keeps those directories by id mapping and diff id.
//! - [`overlay`] knows what overlayfs asks of a container's directories.
//! - [`volumes`] keeps volumes.
//! - [`fill`] puts files into a new one.
//! - [`sweep`] renames things away and deletes them when there is time.
//!
//! Everything appears by rename(2) from `staging/` and disappears by rename(2)
//! into `trash/`, so no reader ever sees half of anything.
//!
//! Architecture invariant: nothing here knows registries, manifests, sandboxes
//! or processes.

#[cfg(test)]
mod as_root;

mod kernel_tree;

pub mod census;
pub mod copy;
pub mod fill;
pub mod layers;
pub mod measure;
pub mod overlay;
pub mod pack;
pub mod sweep;
pub mod unpack;
pub mod volumes;
