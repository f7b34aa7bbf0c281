//! The seccomp filter: which system calls the payload may make.
//!
//! A profile ([`profile`]: ours in [`default`], the user's by [`docker`]) is
//! turned into instructions by [`bpf`], with the numbers of [`table`]. Nothing
//! here is installed: the payload's stage does that, last.
//!
//! Architecture invariant: a filter is made before a container's process
//! exists, from the profile, the capabilities and the architecture only.

mod bpf;
mod default;
mod docker;
mod profile;
mod table;

use std::borrow::Cow;

use crate::error::{Failure, Result};
use crate::limits::FILTER_INSTRUCTIONS_MAX;
use crate::sandbox::spec::Filter;
use profile::{Architecture, Profile};

/// A profile for one container, before it is instructions.
#[derive(Debug, Clone)]
pub struct Policy {
    profile: Profile,
    capabilities: u64,
}

impl Policy {
    /// What a container gets that asks for nothing else.
    pub fn default_profile(capabilities: u64) -> Self {
        Self { profile: default::PROFILE, capabilities }
    }

    /// Everything allowed; only of use with [`Policy::root_emulation`].
    pub fn unconfined() -> Self {
        Self { profile: default::UNCONFINED, capabilities: 0 }
    }

    /// A profile in Docker's JSON.
    pub fn from_docker_json(json: &[u8], capabilities: u64) -> Result<Self> {
        let machine = docker::Machine { architecture: Architecture::NATIVE, kernel: docker::running_kernel()? };
        Ok(Self { profile: docker::read(json, machine, capabilities)?, capabilities })
    }

    /// The same, with the calls that cannot work where a single id is mapped
    /// (chown, set*id, setgroups, mknod of devices) succeeding without effect.
    #[must_use]
    pub fn root_emulation(mut self) -> Self {
        let rules = self.profile.rules.iter().chain(default::ROOT_EMULATION).cloned().collect();
        self.profile.rules = Cow::Owned(rules);
        self
    }

    /// The instructions, for the architecture that this program runs on.
    pub fn filter(&self) -> Result<Filter> {
        bpf::assemble(&self.profile, Architecture::NATIVE, self.capabilities).map(Filter).map_err(|bpf::TooLong| {
            Failure::user(format!("the seccomp profile needs more than {FILTER_INSTRUCTIONS_MAX} filter instructions"))
        })
    }
}

#[cfg(test)]
mod tests;
