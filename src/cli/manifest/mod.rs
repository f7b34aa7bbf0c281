//! `kelp manifest …`: lists of images for several platforms.

pub(super) mod add;
pub(super) mod annotate;
pub(super) mod create;
pub(super) mod inspect;
pub(super) mod ls;
pub(super) mod push;
pub(super) mod rm;

use clap::Args;

use crate::engine::manifest::Attributes;

/// What is said of an image in a list.
#[derive(Debug, Args)]
pub(super) struct Platform {
    /// The operating system it is for
    #[arg(long, value_name = "OS")]
    os: Option<String>,
    /// The architecture it is for
    #[arg(long, value_name = "ARCHITECTURE")]
    arch: Option<String>,
    /// The architecture's variant, e.g. v7
    #[arg(long, value_name = "VARIANT")]
    variant: Option<String>,
    /// The operating system's version
    #[arg(long, value_name = "VERSION")]
    os_version: Option<String>,
    /// What the operating system has to offer
    #[arg(long, value_name = "FEATURE", value_delimiter = ',')]
    os_features: Vec<String>,
    /// What the processor has to offer
    #[arg(long, value_name = "FEATURE", value_delimiter = ',')]
    features: Vec<String>,
    /// A remark about it
    #[arg(long = "annotation", value_name = "KEY=VALUE")]
    annotations: Vec<String>,
}

impl From<Platform> for Attributes {
    fn from(platform: Platform) -> Self {
        let Platform { os, arch: architecture, variant, os_version, os_features, features, annotations } = platform;
        Self { os, architecture, variant, os_version, os_features, features, annotations }
    }
}
