//! `plan`: from what was asked for, what the image says and what the host is
//! like, to a [`SandboxSpec`]. Pure: it looks at nothing but its arguments, so
//! tests hold its output and `--dry-run` prints it.
//!
//! Rule P4: nothing of an image but its command, environment, user, working
//! directory, stop signal and the paths of its volumes gets in here. Labels and
//! annotations do not.

use std::path::Path;

use super::base_steps::{self, Choices, MASKED, READ_ONLY};
use super::limiting::{self, Decision, Surroundings};
use super::network;
use super::options::mount::What;
use super::options::namespaces::{Choice, UserChoice};
use super::options::network::Mode;
use super::options::security::{Seccomp, Unmask};
use super::options::{environment, mount, sysctl};
use super::request::RunRequest;
use crate::error::{Context, Failure, Result};
use crate::host::Cgroup;
use crate::host::machine::Machine;
use crate::image::config::RunConfig;
use crate::image::config::change::DEFAULT_PATH;
use crate::limits;
use crate::process::idmap::{Extent, IdMap};
use crate::sandbox::capabilities;
use crate::sandbox::cgroup::limits::Disk;
use crate::sandbox::cgroup::placement::{self, Wish};
use crate::sandbox::cgroup::{Limits, Placement};
use crate::sandbox::rlimits;
use crate::sandbox::seccomp::Policy;
use crate::sandbox::spec::{
    Attributes, ContainerPath, Filter, HostPath, Mount, Namespace, Namespaces, Process, Root, SandboxSpec, Source, Step,
};

/// Size of /dev/shm where none is asked for, as Docker's.
pub const SHM_BYTES: u64 = 64 << 20;

/// Version of [`SandboxSpec`] that this kelp writes.
const SPEC_VERSION: u32 = 1;

/// What the plan depends on besides the request.
pub struct Input<'a> {
    /// What was asked for.
    pub request: &'a RunRequest,
    /// What is mounted for the user: what the request says, and what
    /// [`volumes`](super::volumes) added.
    pub mounts: &'a [mount::Mount],
    /// The image's defaults; empty for `--rootfs`.
    pub image: &'a RunConfig,
    /// The container's id.
    pub id: &'a str,
    /// The id map of the base namespace.
    pub base_map: &'a IdMap,
    /// The caller's uid and gid.
    pub caller: (u32, u32),
    /// The root file system, and mounts that belong to it.
    pub root: (Root, Vec<Step>),
    /// Where generated files may be put.
    pub run_directory: &'a Path,
    /// A namespace, by its kind in /proc/PID/ns, of a container, by name.
    pub joined: &'a dyn Fn(&str, &str) -> Result<Namespace>,
    /// Data directories of volumes, by name; `None` is an anonymous one.
    pub volumes: &'a dyn Fn(Option<&str>) -> Result<HostPath>,
    /// The disk that a path below /dev stands for.
    pub disks: &'a dyn Fn(&Path) -> Result<Disk>,
    /// The seccomp profile's bytes, where a file was named.
    pub profile: Option<&'a [u8]>,
    /// What is known of the host.
    pub host: &'a HostFacts,
    /// The network, as this host can give it ([`network::choose`]).
    pub network: &'a Mode,
    /// It goes on without the command that starts it.
    pub is_kept: bool,
}

/// What a plan may know of the host.
#[derive(Debug, Clone, Default)]
pub struct HostFacts {
    /// The host's /etc/hosts, for `--network host`.
    pub hosts: String,
    /// The host's /etc/resolv.conf, for `--network host` and the default network.
    pub resolv_conf: String,
    /// Why no tun device can be made, if one is needed.
    pub no_tun: Option<Failure>,
    /// Why no network namespace can be made, if one is needed.
    pub no_network_namespaces: Option<String>,
    /// Whether there is a /dev/mqueue.
    pub has_mqueue: bool,
    /// Control groups; with `--cgroup-parent`, below that.
    pub cgroup: Cgroup,
    /// What limits are about, where there are some.
    pub machine: Machine,
}

/// Plans one container.
pub fn plan(input: Input<'_>) -> Result<SandboxSpec> {
    let request = input.request;
    if input.mounts.len() + request.devices.len() > limits::MOUNTS_MAX {
        return Err(Failure::usage(format!("more than {} mounts and devices", limits::MOUNTS_MAX)));
    }
    let namespaces = namespaces(&input)?;
    let id_map = id_map(&request.user_namespace, input.base_map, input.caller)?;
    let hostname = hostname(&input, &namespaces)?;
    let mut steps = input.root.1.clone();
    steps.extend(base_steps::steps(&Choices {
        namespaces: &namespaces,
        shm_bytes: shm_bytes(&input, &namespaces)?,
        terminal: request.terminal,
        host_mqueue: input.host.has_mqueue,
        writable_cgroups: request.security.writable_cgroups,
    }));
    steps.extend(generated_files(&input, &namespaces, hostname.as_deref()));
    steps.extend(user_mounts(&input)?);
    steps.extend(protections(&input)?);
    let private = sysctl::Private {
        ipc: namespaces.ipc == Namespace::Private,
        network: namespaces.network == Namespace::Private,
    };
    let sysctls = request.sysctls.iter().map(|text| sysctl::parse(text, private)).collect::<Result<_>>()?;
    let fits = |limits: &Limits| placement(request, &input.host.cgroup, limits, input.is_kept).map(drop);
    let around = Surroundings { machine: &input.host.machine, fits: &fits, disk: input.disks };
    let decision = limiting::decide(&request.resources, &around)?;
    let placement = placement(request, &input.host.cgroup, &decision.limits, input.is_kept)?;
    let publishes = !network::published(&request.network_options, input.image)?.is_empty();
    let process = process(&input, hostname.as_deref(), &id_map, &decision)?;
    Ok(SandboxSpec {
        version: SPEC_VERSION,
        id: input.id.to_owned(),
        hostname,
        namespaces,
        link: network::link(input.network, publishes),
        id_map,
        root: input.root.0,
        steps,
        sysctls,
        placement,
        limits: decision.limits,
        substitutes: decision.substitutes,
        enforced: decision.enforced,
        process,
    })
}

fn namespaces(input: &Input<'_>) -> Result<Namespaces> {
    let request = input.request;
    let choose = |choice: &Choice, kind: &str| match choice {
        Choice::Private | Choice::None => Ok(Namespace::Private),
        Choice::Host => Ok(Namespace::Host),
        Choice::Container(name) => {
            (input.joined)(name, kind).doing(|| format!("join the {kind} namespace of \"{name}\""))
        }
    };
    Ok(Namespaces {
        pid: choose(&request.pid, "pid")?,
        ipc: choose(&request.ipc, "ipc")?,
        uts: choose(&request.uts, "uts")?,
        network: match input.network {
            Mode::Unsaid | Mode::Default | Mode::None => Namespace::Private,
            Mode::Host => Namespace::Host,
            Mode::Container(name) => choose(&Choice::Container(name.clone()), "net")?,
        },
        cgroup: choose(&request.cgroup, "cgroup")?,
        time: Some(request.time_offsets.unwrap_or_default()),
    })
}

/// Where the cgroup of a container of this request is made that is limited so.
pub(super) fn placement(request: &RunRequest, facts: &Cgroup, limits: &Limits, is_kept: bool) -> Result<Placement> {
    let is_writable = request.security.writable_cgroups;
    if is_writable && request.cgroup != Choice::Private {
        return Err(Failure::usage(
            "--security-opt writable-cgroups needs a cgroup namespace of the container's own, and --cgroupns shares one",
        ));
    }
    let parent = request.cgroup_parent.as_ref();
    let wish = Wish { cgroups: request.cgroups, parent, limits, is_writable, is_kept };
    placement::decide(facts, &wish)
}

/// The container's ids onto the base namespace's, where 0 is the caller and 1
/// and up are subordinate ids.
pub fn id_map(choice: &UserChoice, base: &IdMap, caller: (u32, u32)) -> Result<IdMap> {
    match choice {
        UserChoice::Default => Ok(base.identity()),
        UserChoice::KeepId { uid, gid } => {
            let (uid, gid) = (uid.unwrap_or(caller.0), gid.unwrap_or(caller.1));
            keep(&base.uids, uid).zip(keep(&base.gids, gid)).map(|(uids, gids)| IdMap { uids, gids }).ok_or_else(|| {
                Failure::host(format!("--userns keep-id needs more than {} mapped ids", uid.max(gid)))
                    .hint("an admin gives you a range in /etc/subuid and /etc/subgid: usermod --add-subuids")
            })
        }
        UserChoice::NoMap if base.is_single() => {
            Err(Failure::host("--userns nomap needs subordinate ids, and you have none in /etc/subuid"))
        }
        UserChoice::NoMap => {
            let all = |extents: &[Extent]| split(&[(0, 1, count(extents) - 1)], extents);
            Ok(IdMap { uids: all(&base.uids), gids: all(&base.gids) })
        }
    }
}

/// `own` inside is the caller; those below and above it are subordinate ids.
fn keep(base: &[Extent], own: u32) -> Option<Vec<Extent>> {
    let all = count(base);
    if own >= all {
        return None;
    }
    // (first id inside, first id of the base namespace, how many)
    let runs = [(0, 1, own), (own, 0, 1), (own + 1, own + 1, all - own - 1)];
    Some(split(&runs, base))
}

/// How many ids the base namespace has: they begin at 0 without a gap.
fn count(extents: &[Extent]) -> u32 {
    extents.iter().map(|extent| extent.count).fold(0, u32::saturating_add)
}

/// Divides runs where the base namespace's extents end: a child's extent must
/// lie within one of its parent's (user_namespaces(7)).
fn split(runs: &[(u32, u32, u32)], base: &[Extent]) -> Vec<Extent> {
    let mut result = Vec::new();
    for &(inside, outside, length) in runs {
        for extent in base {
            let start = outside.max(extent.inside);
            let end = outside.saturating_add(length).min(extent.inside.saturating_add(extent.count));
            if start < end {
                result.push(Extent { inside: inside + (start - outside), outside: start, count: end - start });
            }
        }
    }
    result
}

fn hostname(input: &Input<'_>, namespaces: &Namespaces) -> Result<Option<String>> {
    match (&namespaces.uts, &input.request.hostname) {
        (Namespace::Private, Some(name)) => Ok(Some(name.clone())),
        (Namespace::Private, None) => Ok(Some(input.id.get(..12).unwrap_or(input.id).to_owned())),
        (_, Some(_)) => {
            Err(Failure::usage("--hostname cannot be set in a UTS namespace that is not the container's own"))
        }
        (_, None) => Ok(None),
    }
}

/// The size of a /dev/shm of the container's own, where it gets one.
fn shm_bytes(input: &Input<'_>, namespaces: &Namespaces) -> Result<Option<u64>> {
    let asked = input.request.shm_bytes;
    match namespaces.ipc {
        Namespace::Private if input.request.ipc == Choice::None => refuse_size(asked),
        Namespace::Private => Ok(Some(asked.unwrap_or(SHM_BYTES))),
        _ => refuse_size(asked),
    }
}

fn refuse_size(asked: Option<u64>) -> Result<Option<u64>> {
    match asked {
        None => Ok(None),
        Some(_) => Err(Failure::usage("--shm-size has no effect without a /dev/shm of the container's own")
            .hint("leave out --ipc, or --shm-size")),
    }
}

/// /etc/hosts, /etc/hostname and /etc/resolv.conf, unless the user mounts
/// something there. Who shares a network shares its names too.
fn generated_files(input: &Input<'_>, namespaces: &Namespaces, hostname: Option<&str>) -> Vec<Step> {
    let content =
        |name: &str, content: String| Source::Content { path: HostPath(input.run_directory.join(name)), content };
    let mut files = Vec::new();
    files.extend(hostname.map(|name| ("hostname", content("hostname", format!("{name}\n")))));
    match &namespaces.network {
        Namespace::Join(identity) => {
            files.extend(["hosts", "resolv.conf"].map(|name| (name, Source::Shared(*identity))));
        }
        _ => {
            let (mode, options) = (network_of(input, namespaces), &input.request.network_options);
            let hosts = network::hosts(mode, options, input.host, hostname);
            files.push(("hosts", content("hosts", hosts)));
            files.push(("resolv.conf", content("resolv.conf", network::resolv_conf(mode, options, input.host))));
        }
    }
    let is_free = |target: &ContainerPath| !input.mounts.iter().any(|mount| mount.target == *target);
    files
        .into_iter()
        .map(|(name, source)| (ContainerPath::new(format!("/etc/{name}")), source))
        .filter(|(target, _)| is_free(target))
        .map(|(target, source)| Step::Mount(Mount { target, source, attributes: Attributes::default() }))
        .collect()
}

/// A container that joins one with the host's network has that, too.
fn network_of<'a>(input: &Input<'a>, namespaces: &Namespaces) -> &'a Mode {
    if namespaces.network == Namespace::Host { &Mode::Host } else { input.network }
}

/// Volumes, binds, tmpfs and devices; parents before what is mounted in them.
fn user_mounts(input: &Input<'_>) -> Result<Vec<Step>> {
    let mut mounts = Vec::new();
    for wish in input.mounts {
        let source = source(input, wish).doing(|| format!("mount on {}", wish.target))?;
        check_target(&wish.target)?;
        mounts.push(Mount { target: wish.target.clone(), source, attributes: wish.attributes });
    }
    for device in &input.request.devices {
        check_target(&device.container)?;
        let source = Source::Device { path: HostPath(device.host.clone()) };
        mounts.push(Mount { target: device.container.clone(), source, attributes: Attributes::default() });
    }
    mounts.sort_by_key(|mount| mount.target.as_path().components().count());
    if let Some(pair) = mounts.iter().enumerate().find_map(|(index, mount)| {
        mounts.iter().skip(index + 1).any(|other| other.target == mount.target).then_some(&mount.target)
    }) {
        return Err(Failure::usage(format!("two mounts on {pair}")));
    }
    Ok(mounts.into_iter().map(Step::Mount).collect())
}

/// A mount on /, /dev or /sys would hide what kelp needs there, one below /proc
/// could undo a mask (CVE-2019-19921).
pub(super) fn check_target(target: &ContainerPath) -> Result<()> {
    let whole = ["/", "/dev", "/sys"].iter().any(|tree| target.as_path() == Path::new(tree));
    if whole || target.as_path().starts_with("/proc") {
        return Err(Failure::usage(format!("nothing can be mounted on {target}")));
    }
    Ok(())
}

fn source(input: &Input<'_>, wish: &mount::Mount) -> Result<Source> {
    Ok(match &wish.what {
        What::Bind { source, recursive, propagation, .. } => {
            Source::Bind { path: HostPath(source.clone()), recursive: *recursive, propagation: *propagation }
        }
        What::Volume { name, .. } => {
            Source::Bind { path: (input.volumes)(name.as_deref())?, recursive: true, propagation: None }
        }
        What::Tmpfs { size_bytes, mode, owner } => {
            Source::Tmpfs { size_bytes: *size_bytes, mode: *mode, owner: *owner }
        }
    })
}

/// Masked and read-only paths: the default ones less what the user uncovers,
/// and what the user hides.
fn protections(input: &Input<'_>) -> Result<Vec<Step>> {
    let security = &input.request.security;
    let (masked, read_only) = (MASKED.map(ContainerPath::new), READ_ONLY.map(ContainerPath::new));
    if let Unmask::Paths(paths) = &security.unmask
        && let Some(unknown) = paths.iter().find(|path| !masked.contains(path) && !read_only.contains(path))
    {
        return Err(Failure::usage(format!("unmask={unknown}: it is not masked"))
            .hint(format!("masked are {}", MASKED.join(", ")))
            .hint(format!("read-only are {}", READ_ONLY.join(", "))));
    }
    let stays = |path: &ContainerPath| match &security.unmask {
        Unmask::None => true,
        Unmask::Paths(paths) => !paths.contains(path),
        Unmask::All => false,
    };
    let read_only = read_only.into_iter().filter(stays).map(Step::ReadOnly);
    let masked = masked.into_iter().filter(stays).map(Step::Mask);
    let more = security.mask.iter().cloned().map(Step::Mask);
    Ok(read_only.chain(masked).chain(more).collect())
}

fn process(input: &Input<'_>, hostname: Option<&str>, id_map: &IdMap, decision: &Decision) -> Result<Process> {
    let (request, image) = (input.request, input.image);
    if id_map.is_single() && !request.groups.is_empty() {
        return Err(Failure::host("--group-add needs more ids than the one that is mapped for you")
            .hint("an admin gives you a range in /etc/subuid and /etc/subgid: usermod --add-subuids"));
    }
    let capabilities =
        capabilities::select(capabilities::DEFAULT, &request.capabilities_added, &request.capabilities_dropped)?;
    let directory = request.directory.as_deref().unwrap_or(&image.working_dir);
    if request.directory.as_ref().is_some_and(|directory| !directory.starts_with('/')) {
        return Err(Failure::usage(format!("working directory \"{directory}\" is not an absolute path")));
    }
    Ok(Process {
        arguments: arguments(request, image)?,
        environment: variables(request, image, hostname)?,
        directory: ContainerPath::new(directory),
        user: user(request, image, input.caller),
        groups: request.groups.clone(),
        capabilities,
        no_new_privileges: request.security.no_new_privileges,
        limits: rlimits::with_processes(&request.limits, decision.processes),
        oom_score_adj: request.resources.oom_score_adj,
        seccomp: filter(input, capabilities, id_map)?,
        terminal: request.terminal,
        init: request.init,
    })
}

/// The user asked for, else with keep-id the caller (as Podman), else the
/// image's.
fn user(request: &RunRequest, image: &RunConfig, caller: (u32, u32)) -> String {
    match (&request.user, &request.user_namespace) {
        (Some(user), _) => user.clone(),
        (None, UserChoice::KeepId { uid, gid }) => {
            format!("{}:{}", uid.unwrap_or(caller.0), gid.unwrap_or(caller.1))
        }
        (None, _) => image.user.clone(),
    }
}

/// The image's entrypoint and command, as Docker combines them: an entrypoint
/// given by the user drops the image's command too.
fn arguments(request: &RunRequest, image: &RunConfig) -> Result<Vec<String>> {
    let given = !request.command.is_empty();
    let arguments: Vec<String> = match &request.entrypoint {
        Some(entrypoint) => {
            let program = Some(entrypoint.clone()).filter(|entrypoint| !entrypoint.is_empty());
            program.into_iter().chain(request.command.iter().cloned()).collect()
        }
        None => {
            let command = if given { &request.command } else { &image.cmd };
            image.entrypoint.iter().chain(command).cloned().collect()
        }
    };
    if arguments.is_empty() {
        return Err(Failure::usage("no command given, and the image names none").hint("kelp run IMAGE COMMAND"));
    }
    Ok(arguments)
}

fn variables(request: &RunRequest, image: &RunConfig, hostname: Option<&str>) -> Result<Vec<String>> {
    let mut base = vec![format!("PATH={DEFAULT_PATH}")];
    base.extend(hostname.map(|name| format!("HOSTNAME={name}")));
    if request.terminal {
        base.push("TERM=xterm".to_owned());
    }
    base.extend(image.env.iter().cloned());
    environment::apply(&base, &request.variables)
}

/// The filter; with a single mapped id also the calls that cannot work there
/// and are made to look as if they had.
fn filter(input: &Input<'_>, capabilities: u64, id_map: &IdMap) -> Result<Option<Filter>> {
    let policy = match (&input.request.security.seccomp, input.profile) {
        (Seccomp::Unconfined, _) if !id_map.is_single() => return Ok(None),
        (Seccomp::Unconfined, _) => Policy::unconfined(),
        (Seccomp::File(path), Some(bytes)) => Policy::from_docker_json(bytes, capabilities)
            .doing(|| format!("read seccomp profile \"{}\"", path.display()))?,
        (Seccomp::File(_), None) => return Err(Failure::bug("a seccomp profile was not read")),
        (Seccomp::Default, _) => Policy::default_profile(capabilities),
    };
    let policy = if id_map.is_single() { policy.root_emulation() } else { policy };
    Ok(Some(policy.filter()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base() -> IdMap {
        let extents =
            vec![Extent { inside: 0, outside: 1001, count: 1 }, Extent { inside: 1, outside: 100_000, count: 65_536 }];
        IdMap { uids: extents.clone(), gids: extents }
    }

    fn lines(choice: &UserChoice) -> String {
        IdMap::lines(&id_map(choice, &base(), (1001, 1001)).unwrap().uids)
    }

    #[test]
    fn maps_are_divided_where_the_base_is() {
        assert_eq!(lines(&UserChoice::Default), "0 0 1\n1 1 65536\n");
        assert_eq!(lines(&UserChoice::NoMap), "0 1 65536\n");
        let keep_own = UserChoice::KeepId { uid: None, gid: None };
        assert_eq!(lines(&keep_own), "0 1 1001\n1001 0 1\n1002 1002 64535\n");
        let keep_root = UserChoice::KeepId { uid: Some(0), gid: Some(0) };
        assert_eq!(lines(&keep_root), "0 0 1\n1 1 65536\n");
    }

    #[test]
    fn keep_id_needs_enough_ids() {
        let single = IdMap::single(1001, 1001);
        let choice = UserChoice::KeepId { uid: None, gid: None };
        assert!(id_map(&choice, &single, (1001, 1001)).is_err());
    }
}
