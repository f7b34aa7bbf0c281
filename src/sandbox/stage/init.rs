//! The first process of a container: one linear list of named steps from a
//! fresh clone to execve(2).
//!
//! It is a fork of the supervisor: it may allocate (the supervisor has one
//! thread) and it leaves by execve or _exit, nothing else.

use std::fs;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::sched::CloneFlags;
use serde::{Deserialize, Serialize};

use super::{network, payload, reaper};
use crate::error::{Context, Failure, Result};
use crate::kernel::terminal::Size;
use crate::kernel::{self, file, mount, namespace, open, process, signal, terminal};
use crate::process::channel::Channel;
use crate::process::steps::{self, Steps};
use crate::sandbox::mounts::{self, Outcome, Sources};
use crate::sandbox::root::{self, Opened};
use crate::sandbox::spec::{HostPath, Namespace, SandboxSpec, TimeOffsets};

/// What init says to the supervisor.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FromInit {
    /// One line for the user.
    Notice(String),
    /// The terminal's master comes along.
    Console,
    /// The other end of the network device comes along.
    Link(Marked),
    /// What was done and how long it took.
    Steps(Vec<steps::Step>),
    /// It went wrong; nothing of the image has run.
    Failed(Failure),
}

/// In which families answers to marked connections stay in the container
/// ([`Link::inbound_mark`](crate::sandbox::spec::Link::inbound_mark)).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marked {
    /// IPv4.
    pub ipv4: bool,
    /// IPv6.
    pub ipv6: bool,
}

/// What the supervisor says to init.
#[derive(Debug, Serialize, Deserialize)]
pub enum ToInit {
    /// The id maps are written.
    Mapped,
}

/// Everything init gets from the supervisor besides the spec.
pub struct Handed<'a> {
    /// To the supervisor.
    pub channel: Channel,
    /// Where the root is mounted until it is pivoted to.
    pub mount_point: &'a HostPath,
    /// Sources that came from another container's mount namespace.
    pub sources: Sources,
    /// What the program's standard streams are.
    pub streams: Streams<'a>,
    /// It is in a cgroup of its own, which is to be the root of its cgroup namespace.
    pub makes_cgroup_namespace: bool,
    /// Tell how long each step took.
    pub debug: bool,
}

/// What is not inherited of the standard streams.
#[derive(Clone, Copy)]
pub struct Streams<'a> {
    /// Standard input, where it is not the command's own.
    pub stdin: Option<BorrowedFd<'a>>,
    /// Standard output, where it is not the command's own.
    pub stdout: Option<BorrowedFd<'a>>,
    /// Standard error, where it is not the command's own.
    pub stderr: Option<BorrowedFd<'a>>,
    /// Size of the terminal, if there is one and it is known: the program may
    /// ask as its first act.
    pub size: Option<Size>,
}

/// Runs as the child of the clone. Never returns.
pub fn run(spec: &SandboxSpec, handed: Handed<'_>) -> ! {
    let Handed { channel, mount_point, sources, streams, makes_cgroup_namespace, debug } = handed;
    let entered = enter_cgroup(makes_cgroup_namespace);
    let failure = match entered.and_then(|()| prepare(spec, &channel, mount_point, sources, streams, debug)) {
        Ok(ready) if spec.process.init => reaper::run(&spec.process, ready, channel),
        Ok(ready) => payload::execute(&spec.process, ready, &channel),
        Err(failure) => failure,
    };
    // A supervisor that is gone has nobody to tell; the exit status says it too.
    channel.send(&FromInit::Failed(failure), &[]).ok();
    process::exit_now(125)
}

/// Everything up to the point where only rights are left to be given up.
fn prepare(
    spec: &SandboxSpec,
    channel: &Channel,
    mount_point: &HostPath,
    sources: Sources,
    streams: Streams<'_>,
    debug: bool,
) -> Result<payload::Ready> {
    let mut steps = Steps::new("init");
    process::set_parent_death_signal(libc::SIGKILL)?;
    process::new_session()?;
    signal::reset_all()?;
    // The caller's umask is not the container's: what is made here is for all its users.
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
    steps.run("enter time namespace", || enter_time(spec.namespaces.time))?;
    if spec.namespaces.network == Namespace::Private {
        steps.run("bring up loopback", || Ok(kernel::network::loopback_up()?))?;
    }
    if let Some(link) = &spec.link {
        // Before the host's /dev is out of reach.
        let (device, marked) = steps.run("set up network", || network::set_up(link))?;
        channel.send(&FromInit::Link(marked), &[device.as_fd()])?;
    }
    let mut sources = steps.run("open sources", || {
        let mut all = mounts::open_sources(&spec.steps)?;
        all.extend(sources);
        Ok(all)
    })?;
    let opened = steps.run("open root", || Opened::open(&spec.root))?;
    let mount_point = open::open_dir(mount_point.as_path())?;
    steps.run("wait for id maps", || wait_for_maps(channel))?;
    steps.run("become root", || become_root(spec.id_map.is_single()))?;
    if spec.link.is_some() {
        // The image cannot reach this /proc either (as in `write_sysctls`).
        steps.run("open ping", || network::open_ping(spec.id_map.last_gid()))?;
    }
    let root = steps.run("mount root", || root::mount(&spec.root, &opened))?;
    steps.run("attach root", || Ok(mount::attach(root.as_fd(), mount_point.as_fd(), "/")?))?;
    drop((opened, mount_point));
    let Outcome { terminal, notices } = mounts::apply(&spec.steps, root.as_fd(), &mut sources, &mut steps)?;
    drop(sources);
    if spec.root.read_only {
        steps.run("make root read-only", || Ok(mount::set_attributes(root.as_fd(), mount::RDONLY, 0, false, "/")?))?;
    }
    if !spec.sysctls.is_empty() {
        steps.run("write sysctls", || write_sysctls(&spec.sysctls, &spec.namespaces.pid))?;
    }
    steps.run("pivot root", || pivot(root.as_fd()))?;
    if let Some(hostname) = &spec.hostname {
        steps.run("set host name", || set_hostname(hostname))?;
    }
    steps.run("set standard streams", || match place_streams(terminal, streams)? {
        Some(master) => channel.send(&FromInit::Console, &[master.as_fd()]),
        None => Ok(()),
    })?;
    let user = steps.run("look up user", || payload::find_user(&spec.process, root.as_fd()))?;
    let directory = payload::make_directory(&spec.process.directory, root.as_fd())?;
    for notice in notices {
        channel.send(&FromInit::Notice(notice), &[])?;
    }
    if debug {
        channel.send(&FromInit::Steps(steps.done), &[])?;
    }
    Ok(payload::Ready { user, directory, single: spec.id_map.is_single() })
}

/// Makes a cgroup namespace whose root is the container's own cgroup, where it
/// has one.
fn enter_cgroup(is_wanted: bool) -> Result<()> {
    if is_wanted {
        namespace::unshare(CloneFlags::CLONE_NEWCGROUP)?;
    }
    Ok(())
}

/// clone3(2) gave a namespace without offsets; one with offsets is made here,
/// since they can only be written before any process is in it
/// (time_namespaces(7)).
fn enter_time(offsets: Option<TimeOffsets>) -> Result<()> {
    let Some(TimeOffsets { monotonic_s, boottime_s }) = offsets.filter(|offsets| *offsets != TimeOffsets::default())
    else {
        return Ok(());
    };
    namespace::unshare(CloneFlags::from_bits_retain(libc::CLONE_NEWTIME))?;
    fs::write("/proc/self/timens_offsets", format!("monotonic {monotonic_s} 0\nboottime {boottime_s} 0\n"))
        .doing(|| "write /proc/self/timens_offsets")?;
    let made = fs::File::open("/proc/self/ns/time_for_children").doing(|| "open the new time namespace")?;
    Ok(namespace::setns(made.as_fd(), CloneFlags::from_bits_retain(libc::CLONE_NEWTIME), "time namespace")?)
}

fn wait_for_maps(channel: &Channel) -> Result<()> {
    match channel.receive::<ToInit>()?.map(|received| received.message) {
        Some(ToInit::Mapped) => Ok(()),
        None => Err(Failure::bug("the supervisor ended without a word")),
    }
}

/// Root of the container's own namespace, without the user's groups.
pub(super) fn become_root(single: bool) -> Result<()> {
    // Where only one id is mapped, setgroups(2) is denied for good.
    let groups = (!single).then_some(&[][..]);
    Ok(process::become_user(0, 0, groups)?)
}

/// Makes `root` the root directory; the old one disappears with all its mounts.
fn pivot(root: BorrowedFd<'_>) -> Result<()> {
    nix::unistd::fchdir(root).map_err(std::io::Error::from)?;
    mount::pivot_to_cwd()?;
    // The old root is now stacked on the new one, at the working directory.
    mount::detach_cwd()?;
    Ok(nix::unistd::chdir(c"/").map_err(std::io::Error::from)?)
}

/// Writes below a procfs of kelp's own that nothing of the image can reach
/// (rule P2; CVE-2025-52881). Only the owner of the pid namespace may mount a
/// new one; else it is the host's, which the image cannot reach yet either.
fn write_sysctls(sysctls: &[(String, String)], pid: &Namespace) -> Result<()> {
    let own = match pid {
        Namespace::Private => mount::Context::new(c"proc")?.mount(mount::NOSUID | mount::NODEV | mount::NOEXEC)?,
        _ => mount::clone_tree(open::cwd(), Path::new("/proc"), true)?,
    };
    if file::file_system_magic(own.as_fd())? != libc::PROC_SUPER_MAGIC {
        return Err(Failure::bug("a fresh procfs is not a procfs"));
    }
    for (name, value) in sysctls {
        let path = Path::new("sys").join(name.replace('.', "/"));
        let opened = open::openat2(own.as_fd(), &path, libc::O_WRONLY, 0, open::Resolve::BeneathNoLinks);
        opened
            .map_err(Failure::from)
            .and_then(|fd| Ok(fs::File::from(fd).write_all(value.as_bytes())?))
            .doing(|| format!("set {name} to \"{value}\""))?;
    }
    Ok(())
}

fn set_hostname(name: &str) -> Result<()> {
    Ok(nix::unistd::sethostname(name).map_err(std::io::Error::from)?)
}

/// Standard streams: the terminal's slave, or what was inherited. Returns the
/// terminal's master.
pub(super) fn place_streams(pair: Option<(OwnedFd, OwnedFd)>, streams: Streams<'_>) -> Result<Option<OwnedFd>> {
    if let Some((master, slave)) = pair {
        if let Some(size) = streams.size {
            terminal::resize(slave.as_fd(), size)?;
        }
        terminal::make_controlling(slave.as_fd())?;
        for number in 0..=2 {
            process::place(slave.as_fd(), number)?;
        }
        return Ok(Some(master));
    }
    for (stream, number) in [(streams.stdin, 0), (streams.stdout, 1), (streams.stderr, 2)] {
        if let Some(stream) = stream {
            process::place(stream, number)?;
        }
    }
    Ok(None)
}
