//! OCI documents and where blobs live.
//!
//! A [`reference`] names an image; a registry or an archive answers with a
//! [`manifest`], its [`config`] and layers, which are kept as [`blobs`] under
//! their digests; a tag in [`tags`] makes an image of them. Unpacking layers
//! is the business of `storage`, running them of `sandbox`.
//!
//! Architecture invariants: bytes are verified against their digest before
//! they are parsed; a digest is a type and never a string in a path; a tag is
//! written last, so an image that is visible is complete; nothing here prints.

mod layout;
mod parallel;
pub(crate) mod quote;

pub mod archive;
pub mod blobs;
pub mod compression;
pub mod config;
pub mod derived;
pub mod descriptor;
pub mod digest;
pub mod garbage;
pub mod lists;
pub mod lookup;
pub mod manifest;
pub mod packing;
pub mod partial;
pub mod pattern;
pub mod platform;
pub mod pull;
pub mod push;
pub mod reference;
pub mod registry;
pub mod stores;
pub mod tags;

pub use blobs::Blobs;
pub use compression::Compression;
pub use config::ImageConfig;
pub use descriptor::Descriptor;
pub use digest::Digest;
pub use lookup::StoredImage;
pub use manifest::Manifest;
pub use platform::Platform;
pub use reference::Reference;
