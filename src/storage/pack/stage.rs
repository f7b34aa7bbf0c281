//! The pack stage: a process of its own that reads what containers wrote.
//!
//! ```text
//!      command                     pack stage                 worker
//!  1   Request(output)      ->
//!  2   Directory(it)        ->     (once a layer, topmost first)
//!  3                               clone, write id map   ->   walk
//!  4   reads the output     <-                           <-   tar or list
//!  5                        <-     Packed(Summary)       <-
//!  6                        <-     EOF                | Failed(Failure)
//! ```
//!
//! The worker (process/worker.rs) has the container's own id map, so owners
//! are read as the container sees them, and one capability, to read what
//! modes would forbid. The output is whole when `Packed` was received.

use std::fs::File;
use std::os::fd::OwnedFd;

use serde::{Deserialize, Serialize};

use super::{Options, Summary, pack};
use crate::error::{Failure, Result};
use crate::kernel::process;
use crate::process::channel::Channel;
use crate::process::idmap::IdMap;
use crate::process::{stage, worker};

/// What is to be packed; where to comes along.
#[derive(Debug, Serialize, Deserialize)]
pub struct Request {
    /// The ids of the files onto the base namespace's.
    pub id_map: IdMap,
    /// How.
    pub options: Options,
    /// How many [`Directory`] messages follow for the new stack.
    pub new: usize,
    /// And then for the old one.
    pub old: usize,
}

/// One layer's directory, which comes along.
#[derive(Debug, Serialize, Deserialize)]
pub struct Directory {}

/// What the stage says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FromPack {
    /// All is written.
    Packed(Summary),
    /// It went wrong; what was written is worth nothing.
    Failed(Failure),
}

/// CAP_DAC_READ_SEARCH (capabilities(7)).
const CAPABILITIES: u64 = 1 << 2;

/// The stage's whole life.
pub fn main() -> Result<()> {
    let channel = stage::take_channel()?;
    process::set_name(c"kelp-pack")?;
    process::set_no_new_privileges()?;
    let result = receive(&channel).and_then(|received| match received {
        Some(work) => start(&channel, work),
        None => Ok(()),
    });
    if let Err(failure) = result {
        // A command that is gone needs no answer.
        channel.send(&FromPack::Failed(failure), &[]).ok();
    }
    Ok(())
}

struct Work {
    request: Request,
    new: Vec<OwnedFd>,
    old: Vec<OwnedFd>,
    output: File,
}

fn receive(channel: &Channel) -> Result<Option<Work>> {
    // An image may have more layers than a process may open files by default.
    process::raise_descriptor_limit()?;
    let Some(received) = channel.receive::<Request>()? else { return Ok(None) };
    let output = received.descriptors.into_iter().next();
    let output = output.ok_or_else(|| Failure::bug("a request to pack without an output"))?.into();
    let request = received.message;
    let (Some(new), Some(old)) = (directories(channel, request.new)?, directories(channel, request.old)?) else {
        return Ok(None);
    };
    Ok(Some(Work { request, new, old, output }))
}

fn directories(channel: &Channel, count: usize) -> Result<Option<Vec<OwnedFd>>> {
    let mut directories = Vec::new();
    for _ in 0..count {
        let Some(received) = channel.receive::<Directory>()? else { return Ok(None) };
        directories.extend(received.descriptors);
    }
    if directories.len() != count {
        return Err(Failure::bug("a layer without its directory"));
    }
    Ok(Some(directories))
}

fn start(channel: &Channel, work: Work) -> Result<()> {
    let Work { request, new, old, output } = work;
    worker::run(&request.id_map, CAPABILITIES, "packs", channel, || {
        let summary = pack(&new, &old, &request.options, output)?;
        channel.send(&FromPack::Packed(summary), &[])
    })
}
