//! The stages: what this executable is when it is not the command.
//!
//! A stage is started by [`super::launch`] with its name as argv[0] and its
//! channel on descriptor 3; everything else it needs comes over the channel.

use std::ffi::OsStr;
use std::path::Path;

use super::channel::Channel;
use crate::error::{Failure, Result};
use crate::kernel;

/// The descriptor a stage finds its channel on.
pub const CHANNEL_FD: i32 = 3;

/// One job of its own process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Starts one container and stays with it (container/supervisor).
    Supervisor,
    /// Unpacks layers (storage/unpack).
    Unpack,
    /// Packs layers (storage/pack).
    Pack,
    /// Fills new volumes (storage/fill).
    Fill,
    /// Reads and writes a container's files (container/copy).
    Copy,
    /// Deletes what was thrown away (storage/sweep).
    Sweep,
    /// Looks into unpacked layers (storage/census).
    Census,
    /// Carries the packets of one network (network/process).
    Network,
    /// Becomes a program that sees an image's files (sandbox/view).
    View,
}

impl Stage {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Supervisor,
        Self::Unpack,
        Self::Pack,
        Self::Fill,
        Self::Copy,
        Self::Sweep,
        Self::Census,
        Self::Network,
        Self::View,
    ];

    /// The stage's argv[0], as ps(1) shows it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Supervisor => "kelp-supervisor",
            Self::Unpack => "kelp-unpack",
            Self::Pack => "kelp-pack",
            Self::Fill => "kelp-fill",
            Self::Copy => "kelp-copy",
            Self::Sweep => "kelp-sweep",
            Self::Census => "kelp-census",
            Self::Network => "kelp-network",
            Self::View => "kelp-view",
        }
    }

    /// The stage that argv[0] asks for, if it is one.
    pub fn from_argv0(argv0: &OsStr) -> Option<Self> {
        let name = Path::new(argv0).file_name()?.to_str()?;
        Self::ALL.into_iter().find(|stage| stage.name() == name)
    }
}

/// Takes the channel that [`super::launch`] left for this stage. Called once,
/// first thing; fails where the stage was called by hand.
pub fn take_channel() -> Result<Channel> {
    let socket = kernel::socket::take(CHANNEL_FD)
        .ok_or_else(|| Failure::usage("this is a stage of kelp, not a command").hint("run kelp --help"))?;
    Ok(Channel::new(socket))
}
