//! The unpack stage: a process of its own that parses what came from outside.
//!
//! ```text
//!      command                          unpack stage              worker
//!  1   Request                   ->
//!  2   Layer(blob, directory,
//!            perhaps a bell)      ->     (once a layer)
//!  3                                    clone, write id map  ->   unpack all
//!  4                             <-     Unpacked(diff id, …)  <-  (once a layer)
//!  5                             <-     EOF               | Failed(Failure)
//! ```
//!
//! The worker is root of a user namespace with the container's own id map, in
//! namespaces of its own without network, mounts or other processes in sight;
//! its root directory is an empty one; it has only the few capabilities that
//! unpacking takes. It reaches the layers' directories by descriptor alone.
//!
//! A blob that is still being downloaded is read as it grows; its bell rings
//! when there is more (stream.rs). Nothing is written out to the disk here:
//! the command has that done once for all layers and blobs.

use std::collections::VecDeque;
use std::fs::File;
use std::ops::RangeInclusive;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Mutex;

use serde::{Deserialize, Serialize};

use super::stream::Growing;
use super::{Options, Owners, Summary, apply_blob};
use crate::error::{Context, Failure, Result};
use crate::kernel::clone::{Child, Side, clone3};
use crate::kernel::{capability, file, mount, process};
use crate::process::channel::Channel;
use crate::process::idmap::IdMap;
use crate::process::stage;
use crate::process::worker::killed;

/// What is to be unpacked.
#[derive(Debug, Serialize, Deserialize)]
pub struct Request {
    /// The layers' ids onto the base namespace's.
    pub id_map: IdMap,
    /// How many [`Layer`] messages follow.
    pub layers: usize,
}

/// One layer; its blob, the empty directory for it and, if the blob still
/// grows, the bell come along.
#[derive(Debug, Serialize, Deserialize)]
pub struct Layer {
    /// The diff id the config promises, as hex.
    pub diff_id: String,
    /// Length of the blob in bytes, which it has or will have.
    pub size: u64,
}

/// What the stage says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FromUnpack {
    /// One layer is whole.
    Unpacked {
        /// Which, by its place in the request.
        index: usize,
        /// What was made.
        summary: Summary,
    },
    /// It went wrong; nothing may be published.
    Failed(Failure),
}

struct Work {
    index: usize,
    diff_id: String,
    blob: Growing,
    directory: OwnedFd,
}

/// CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_FOWNER, CAP_FSETID, CAP_MKNOD, CAP_SETFCAP
/// (capabilities(7)).
const CAPABILITIES: u64 = 1 | 1 << 1 | 1 << 3 | 1 << 4 | 1 << 27 | 1 << 31;

/// Layers unpacked at once: as many as there are cores, within these. Each has
/// a thread that inflates, one that hashes and one that writes; one layer alone
/// leaves cores idle whenever it waits for the network.
const PARALLEL: RangeInclusive<usize> = 2..=4;

/// The stage's whole life.
pub fn main() -> Result<()> {
    let channel = stage::take_channel()?;
    process::set_name(c"kelp-unpack")?;
    process::set_no_new_privileges()?;
    let result = receive(&channel).and_then(|received| match received {
        Some((request, work)) => start_worker(&channel, &request, work),
        None => Ok(()),
    });
    if let Err(failure) = result {
        // A command that is gone needs no answer.
        channel.send(&FromUnpack::Failed(failure), &[]).ok();
    }
    Ok(())
}

fn receive(channel: &Channel) -> Result<Option<(Request, VecDeque<Work>)>> {
    let Some(received) = channel.receive::<Request>()? else { return Ok(None) };
    let request = received.message;
    let (uid, gid) = request.id_map.root();
    let mut work = VecDeque::new();
    for index in 0..request.layers {
        let Some(received) = channel.receive::<Layer>()? else { return Ok(None) };
        let mut descriptors = received.descriptors.into_iter();
        let (Some(blob), Some(directory)) = (descriptors.next(), descriptors.next()) else {
            return Err(Failure::bug("a layer without its descriptors"));
        };
        if (uid, gid) != (0, 0) {
            file::set_owner(directory.as_fd(), uid, gid)?;
        }
        let Layer { diff_id, size } = received.message;
        let blob = Growing::new(blob.into(), size, descriptors.next().map(File::from));
        work.push_back(Work { index, diff_id, blob, directory });
    }
    Ok(Some((request, work)))
}

/// Clones the worker, gives it its id map and waits for its end.
fn start_worker(channel: &Channel, request: &Request, work: VecDeque<Work>) -> Result<()> {
    let flags = libc::CLONE_NEWUSER
        | libc::CLONE_NEWNS
        | libc::CLONE_NEWPID
        | libc::CLONE_NEWNET
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWUTS;
    let (ours, theirs) = Channel::pair()?;
    match clone3(flags as u64).map_err(crate::host::explain_namespaces)? {
        Side::Child => {
            drop(ours);
            if let Err(failure) = unpack_all(channel, &theirs, request, work) {
                channel.send(&FromUnpack::Failed(failure), &[]).ok();
            }
            process::exit_now(0)
        }
        Side::Parent(Child { pid, pidfd }) => {
            drop((theirs, work));
            request.id_map.write_for(pid)?;
            ours.send(&(), &[])?;
            match process::wait_pidfd(pidfd.as_fd())? {
                process::Exit::Code(_) => Ok(()),
                process::Exit::Signal(signal) => Err(killed("unpacks", signal)),
            }
        }
    }
}

fn unpack_all(channel: &Channel, parent: &Channel, request: &Request, work: VecDeque<Work>) -> Result<()> {
    process::set_parent_death_signal(libc::SIGKILL)?;
    if parent.receive::<()>()?.is_none() {
        return Ok(());
    }
    let single = request.id_map.is_single();
    process::become_user(0, 0, (!single).then_some(&[][..]))?;
    nix::sys::stat::umask(nix::sys::stat::Mode::empty());
    confine().doing(|| "confine the process that unpacks")?;
    let owners = if single { Owners::CallerOnly } else { Owners::AsRecorded };
    let queue = Mutex::new(work);
    let (queue, options, channel) = (&queue, &Options::new(owners), &Mutex::new(channel));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let parallel = cores.clamp(*PARALLEL.start(), *PARALLEL.end());
    std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..parallel).map(|_| scope.spawn(move || unpack_from(queue, options, channel))).collect();
        threads.into_iter().try_for_each(|thread| match thread.join() {
            Ok(result) => result,
            Err(_) => Err(Failure::bug("a thread that unpacks panicked")),
        })
    })
}

/// Takes layers until none is left.
fn unpack_from(queue: &Mutex<VecDeque<Work>>, options: &Options, channel: &Mutex<&Channel>) -> Result<()> {
    let panicked = || Failure::bug("a thread that unpacks panicked");
    loop {
        let next = queue.lock().map_err(|_| panicked())?.pop_front();
        let Some(Work { index, diff_id, blob, directory }) = next else { return Ok(()) };
        let short = diff_id.get(..12).unwrap_or(&diff_id).to_owned();
        let (found, summary) = apply_blob(blob, directory.as_fd(), options).doing(|| format!("layer {short}"))?;
        if found != diff_id {
            return Err(Failure::user(format!(
                "layer {short}: its content has the diff id {found}, not the one promised"
            ))
            .hint("the image is damaged or was tampered with: fetch it again"));
        }
        let message = FromUnpack::Unpacked { index, summary };
        channel.lock().map_err(|_| panicked())?.send(&message, &[])?;
    }
}

/// An empty root, few capabilities: no path of the host can be reached, even
/// if the parser could be fooled.
fn confine() -> Result<()> {
    let context = mount::Context::new(c"tmpfs")?;
    let empty = context.mount(mount::RDONLY | mount::NOSUID | mount::NODEV | mount::NOEXEC)?;
    let here = crate::kernel::open::open_dir(std::path::Path::new("/tmp"))?;
    mount::attach(empty.as_fd(), here.as_fd(), "/tmp")?;
    nix::unistd::fchdir(empty.as_fd()).map_err(std::io::Error::from)?;
    mount::pivot_to_cwd()?;
    mount::detach_cwd()?;
    for number in (0..64).take_while(|number| capability::known(*number)) {
        if CAPABILITIES & (1 << number) == 0 {
            capability::drop_bounding(number)?;
        }
    }
    Ok(capability::set(CAPABILITIES, CAPABILITIES, 0)?)
}
