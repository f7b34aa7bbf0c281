//! From what was asked for to what can be started: image, layers, volumes and
//! files are found or made, then the plan.
//!
//! A container's first start and all later ones come through here. Later ones
//! plan anew from what was asked for then ([`Stored`]), on what the host is
//! now, but on the same image, the same volumes and the same files.

use std::fs;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::fetch::{self, Owner};
use super::network::{self, Chosen};
use super::options::environment;
use super::options::health;
use super::options::mount::What;
use super::options::namespaces::Choice;
use super::options::network::{Mode, Options};
use super::options::security::Seccomp;
use super::pack;
use super::plan::{self, HostFacts, Input};
use super::request::{RootSource, RunRequest, Stored};
use super::rootfs;
use super::unpack;
use super::volumes::{self, Askers, Wanted};
use crate::container::attach::Observer;
use crate::container::control::Join;
use crate::container::namespaces;
use crate::container::record::{Files, Record, Status};
use crate::container::store::{self, Container};
use crate::error::{Context, Failure, Result};
use crate::host::machine::Machine;
use crate::host::{self, Cgroup};
use crate::image::blobs::Blobs;
use crate::image::config::{ImageConfig, RunConfig};
use crate::image::digest::Digest;
use crate::image::registry::Progress;
use crate::limits;
use crate::network::resolv_conf;
use crate::paths::Paths;
use crate::process::base::Base;
use crate::process::idmap::IdMap;
use crate::sandbox::cgroup::limits::Disk;
use crate::sandbox::cgroup::placement::Parent;
use crate::sandbox::enforcement::Enforced;
use crate::sandbox::spec::{HostPath, Mount, Namespace, Root, SandboxSpec, Source, Step};
use crate::storage::volumes::VolumeName;

/// Whether directories are made and layers unpacked, or only named.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Effort {
    Make,
    Name,
}

/// The plan of a container, without making or starting anything.
pub(super) fn dry_run(
    paths: &Paths,
    request: &RunRequest,
    is_kept: bool,
    progress: &dyn Progress,
) -> Result<SandboxSpec> {
    let mut base = Base::find(paths)?;
    let container =
        Container { directory: paths.containers().join("ID"), record: Record::new("ID".to_owned(), String::new()) };
    let stored = stored(request)?;
    let prepared = Prepared::of(paths, &stored, &mut base, &container, Effort::Name, progress)?;
    let wanted = prepared.wanted(paths, &stored.request, &container.record, &|| Ok("ANONYMOUS".to_owned()))?;
    prepared.plan(paths, &stored, &base, "ID", &wanted, is_kept)
}

/// The request as it is kept for later starts.
pub(super) fn stored(request: &RunRequest) -> Result<Stored> {
    let profile = match &request.security.seccomp {
        Seccomp::File(path) => {
            let doing = || format!("read \"{}\"", path.display());
            let bytes = read_bounded(path).doing(doing)?;
            Some(String::from_utf8(bytes).map_err(|_| Failure::user("it is not UTF-8")).doing(doing)?)
        }
        _ => None,
    };
    let directory = match request.mounts.is_empty() {
        true => PathBuf::new(),
        false => std::env::current_dir().doing(|| "find the working directory")?,
    };
    Stored::new(request, &directory, profile)
}

/// What the plan needs and the request only names.
struct Prepared {
    image: RunConfig,
    image_name: String,
    image_id: String,
    root: (Root, Vec<Step>),
    host: HostFacts,
    network: Chosen,
}

/// A start, ready to be handed to a supervisor.
pub(super) struct Planned {
    /// What is started.
    pub(super) spec: SandboxSpec,
    /// The record, as it is to be.
    pub(super) record: Record,
    /// What it is to have of the network.
    pub(super) network: Option<Join>,
}

impl Prepared {
    fn of(
        paths: &Paths,
        stored: &Stored,
        base: &mut Base,
        container: &Container,
        effort: Effort,
        progress: &dyn Progress,
    ) -> Result<Self> {
        let request = &stored.request;
        let host = host_facts(request);
        let network = network::choose(&request.network, &host)?;
        let (volatile, read_only) = (request.auto_remove, request.read_only);
        let text = match &request.source {
            RootSource::Directory(rootfs) => {
                let root = rootfs::of_directory(rootfs, &container.directory, volatile, read_only, effort)?;
                let image_name = rootfs.display().to_string();
                let (image, image_id) = (RunConfig::default(), String::new());
                return Ok(Self { image, image_name, image_id, root, host, network });
            }
            RootSource::Image(text) => text,
        };
        let (id, config, lowers) = match container.record.image_id.is_empty() {
            true => fetched(paths, text, request, base, effort, progress)?,
            false => kept(paths, &container.record, request, base)?,
        };
        let lowers = lowers.into_iter().map(HostPath).collect();
        let mut root = (root_of(lowers, &container.directory, volatile, read_only), Vec::new());
        if effort == Effort::Make && super::embedded::is_embedded(paths, &id, &config) {
            let file = HostPath(paths.container_run(&container.record.id).join("host.json"));
            root.1.push(super::host_view::step(file, base, &root.0)?);
        }
        Ok(Self { image: config.config, image_name: text.clone(), image_id: id.to_string(), root, host, network })
    }

    /// The mounts of the user, of other containers and of the image.
    fn wanted(
        &self,
        paths: &Paths,
        request: &RunRequest,
        before: &Record,
        name: &dyn Fn() -> Result<String>,
    ) -> Result<Wanted> {
        let askers = Askers {
            mounts: &request.mounts,
            volumes_from: &request.volumes_from,
            image: &self.image,
            image_volumes: request.image_volumes,
            before,
        };
        volumes::wanted(&askers, &|name| Ok(store::find(paths, name)?.record), name)
    }

    fn plan(
        &self,
        paths: &Paths,
        stored: &Stored,
        base: &Base,
        id: &str,
        wanted: &Wanted,
        is_kept: bool,
    ) -> Result<SandboxSpec> {
        let run_directory = paths.container_run(id);
        plan::plan(Input {
            request: &stored.request,
            mounts: &wanted.mounts,
            image: &self.image,
            id,
            base_map: &base.map,
            caller: caller(),
            root: self.root.clone(),
            run_directory: &run_directory,
            joined: &|name, kind| namespace_of(paths, name, kind),
            volumes: &|name| volumes::place(paths, name),
            disks: &|path| host::machine::disk(path).map(|(major, minor)| Disk { major, minor }),
            profile: stored.profile.as_deref().map(str::as_bytes),
            host: &self.host,
            network: &self.network.mode,
            is_kept,
        })
    }
}

type Found = (Digest, ImageConfig, Vec<PathBuf>);

/// The image that was asked for, brought here if it must be.
fn fetched(
    paths: &Paths,
    text: &str,
    request: &RunRequest,
    base: &mut Base,
    effort: Effort,
    progress: &dyn Progress,
) -> Result<Found> {
    let id_map = plan::id_map(&request.user_namespace, &base.map, caller())?;
    let mut owner = Owner { base: &mut *base, id_map: id_map.clone() };
    let image = fetch::get(paths, text, request.platform.as_ref(), request.pull, &mut owner, progress)?;
    let lowers = match effort {
        Effort::Make => unpack::layers(paths, base, &id_map, &image, progress)?,
        Effort::Name => unpack::layer_paths(paths, base, &id_map, &image)?,
    };
    Ok((image.id, image.config, lowers))
}

/// The image that the container was made of, whatever its name stands for by
/// now: its config and layers stay as long as the container does.
fn kept(paths: &Paths, record: &Record, request: &RunRequest, base: &Base) -> Result<Found> {
    let id: Digest = record.image_id.parse().map_err(|_| Failure::bug("a container without an image"))?;
    let id_map = plan::id_map(&request.user_namespace, &base.map, caller())?;
    let key = base.map.compose(&id_map).key();
    if record.files.as_ref().is_some_and(|files| files.id_map_key != key) {
        return Err(pack::other_ids());
    }
    let config = Blobs::open(paths)?.read_verified(&id, limits::CONFIG_BYTES_MAX)?;
    let lowers = pack::lowers(paths, record, &key)?;
    Ok((id, ImageConfig::parse(&config)?, lowers))
}

/// Makes all that `container` needs to be started, and plans the start. The
/// caller holds its lock. With `is_kept` it goes on without the caller. The
/// record is returned as it is to be.
pub(super) fn prepare(
    paths: &Paths,
    stored: &Stored,
    base: &mut Base,
    container: &Container,
    is_kept: bool,
    progress: &dyn Progress,
    observer: &mut dyn Observer,
) -> Result<Planned> {
    let request = &stored.request;
    let mut record = container.record.clone();
    let prepared = Prepared::of(paths, stored, base, container, Effort::Make, progress)?;
    let run_directory = paths.container_run(&record.id);
    fs::create_dir_all(&run_directory).doing(|| format!("make {}", run_directory.display()))?;
    let name = || Ok(VolumeName::random()?.as_str().to_owned());
    let wanted = prepared.wanted(paths, request, &record, &name)?;
    let spec = prepared.plan(paths, stored, base, &record.id, &wanted, is_kept)?;
    tell_of_degradations(request, &spec, observer);
    if let Some(notice) = &prepared.network.notice {
        observer.notice(notice);
    }
    if let Some(notice) = network::discarded(&prepared.network.mode, &request.network_options) {
        observer.notice(&notice);
    }
    make_missing_sources(request)?;
    write_contents(&spec)?;
    record.image = prepared.image_name;
    record.image_id = prepared.image_id;
    record.network = prepared.network.mode.docker_word();
    record.config = config(request, &prepared.image)?;
    record.files = Some(files(request, &base.map, &spec)?);
    record.command = spec.process.arguments.clone();
    record.labels = request.labels.clone();
    record.auto_remove = request.auto_remove;
    record.terminal = request.terminal;
    record.interactive = request.interactive;
    record.stop_signal = request.stop_signal.clone().or(prepared.image.stop_signal);
    record.stop_timeout_s = request.stop_timeout_s;
    if container.record.files.is_none() {
        // Else it may have been changed since (`update`).
        record.restart = request.restart;
    }
    record.log = request.log.clone().unwrap_or_default();
    record.enforced = spec.enforced.clone();
    record.restarts = 0;
    record.stopped_by_user = false;
    record.mounts = volumes::mounted(&wanted, &spec);
    let content = volumes::Content { layers: &spec.root.lowers, id_map: &spec.id_map };
    let guard = volumes::make(paths, base, &record.id, &wanted, &content, request.auto_remove)?;
    record.anonymous_volumes = wanted.anonymous;
    if guard.is_some() {
        // From here on they are seen to be used.
        Record { unfinished: container.record.files.is_none(), ..record.clone() }.save(&container.directory)?;
    }
    let network = network::join(&prepared.network.mode, &request.network_options, &record.config)?;
    Ok(Planned { spec, record, network })
}

/// The image's config with what was asked for over it, as docker keeps it for
/// each container: what a commit starts from. What every container gets
/// anyway (HOSTNAME, TERM, a PATH) is not in it.
fn config(request: &RunRequest, image: &RunConfig) -> Result<RunConfig> {
    let mut config = image.clone();
    config.env = environment::apply(&image.env, &request.variables)?;
    if let Some(entrypoint) = &request.entrypoint {
        // It takes the image's arguments away, as it does for this run.
        config.entrypoint = Some(entrypoint.clone()).filter(|program| !program.is_empty()).into_iter().collect();
        config.cmd.clear();
    }
    if !request.command.is_empty() {
        config.cmd.clone_from(&request.command);
    }
    if let Some(user) = &request.user {
        config.user.clone_from(user);
    }
    if let Some(directory) = &request.directory {
        config.working_dir.clone_from(directory);
    }
    if let Some(signal) = &request.stop_signal {
        config.stop_signal = Some(signal.clone());
    }
    config.healthcheck = health::merge(request.health.as_ref(), image.healthcheck.as_ref())?;
    let Options { publish, expose, .. } = &request.network_options;
    let ports = publish.iter().map(|publish| publish.port).chain(expose.iter().copied());
    config.exposed_ports.extend(ports.map(|port| port.to_string()));
    config.labels.extend(request.labels.iter().cloned());
    let anonymous = request.mounts.iter().filter(|mount| matches!(mount.what, What::Volume { name: None, .. }));
    config.volumes.extend(anonymous.map(|mount| mount.target.to_string()));
    Ok(config)
}

/// What it takes to read the container's files later on.
fn files(request: &RunRequest, base: &IdMap, spec: &SandboxSpec) -> Result<Files> {
    let rootfs = match &request.source {
        RootSource::Image(_) => None,
        RootSource::Directory(directory) => {
            Some(fs::canonicalize(directory).doing(|| format!("find \"{}\"", directory.display()))?)
        }
    };
    let all_mounts = || {
        spec.steps.iter().filter_map(|step| match step {
            Step::Mount(mount) => Some(mount),
            _ => None,
        })
    };
    let mut mount_points: Vec<String> = Vec::new();
    for Mount { target, .. } in all_mounts() {
        // What is mounted in another mount is not in the container's files.
        if !mount_points.iter().any(|above| target.as_path().starts_with(above)) {
            mount_points.push(target.to_string());
        }
    }
    // Not what every container gets of the kernel's.
    let is_kept = |mount: &&Mount| {
        let is_own = ["/dev", "/proc", "/sys"].iter().any(|tree| mount.target.as_path().starts_with(tree));
        matches!(mount.source, Source::Bind { .. } | Source::Overlay(_)) && !is_own
    };
    let mounts = all_mounts().filter(is_kept).cloned().collect();
    let (id_map, id_map_key) = (spec.id_map.clone(), base.compose(&spec.id_map).key());
    Ok(Files { rootfs, id_map, id_map_key, mount_points, mounts, read_only: spec.root.read_only })
}

fn root_of(lowers: Vec<HostPath>, directory: &Path, volatile: bool, read_only: bool) -> Root {
    let (upper, work) = (HostPath(directory.join("upper")), HostPath(directory.join("work")));
    Root { lowers, upper, work, volatile, read_only }
}

fn caller() -> (u32, u32) {
    (nix::unistd::getuid().as_raw(), nix::unistd::getgid().as_raw())
}

/// A namespace of a running container, by its kind in /proc/PID/ns. If it is
/// the host's, it is shared with the host and not joined.
fn namespace_of(paths: &Paths, name: &str, kind: &str) -> Result<Namespace> {
    let record = store::find(paths, name)?.record;
    let Status::Running { payload, .. } = record.status else {
        let failure = Failure::user(format!("container \"{name}\" is not running"));
        return Err(failure.hint(super::lifecycle::way_to_run(&record)));
    };
    let entry = namespaces::of(&record).into_iter().find(|entry| entry.kind == kind);
    match entry {
        Some(entry) if entry.shared_with_host => Ok(Namespace::Host),
        Some(_) => Ok(Namespace::Join(payload)),
        None => Err(Failure::user(format!("container \"{name}\" has just ended"))),
    }
}

/// `-v` makes a missing host directory, as Docker does; `--mount` refuses it.
fn make_missing_sources(request: &RunRequest) -> Result<()> {
    for mount in &request.mounts {
        if let What::Bind { source, create, .. } = &mount.what {
            let path = source;
            match fs::metadata(path) {
                Err(_) if path.is_symlink() && !path.exists() => {
                    let cause = "it is a symbolic link that leads nowhere";
                    return Err(Failure::user(cause).doing(format!("use \"{}\" as a volume", path.display())));
                }
                Err(error) if error.kind() == std::io::ErrorKind::NotFound && *create => {
                    fs::create_dir_all(path).doing(|| format!("make \"{}\"", path.display()))?;
                }
                result => result.map(drop).doing(|| format!("use \"{}\" as a volume", path.display()))?,
            }
        }
    }
    Ok(())
}

/// Control groups, as a container of this request may use them.
pub(super) fn cgroups(request: &RunRequest) -> Cgroup {
    match &request.cgroup_parent {
        Some(Parent::Path(path)) => host::cgroup::look().only_below(path),
        _ => host::cgroup::look(),
    }
}

fn tell_of_degradations(request: &RunRequest, spec: &SandboxSpec, observer: &mut dyn Observer) {
    spec.enforced.iter().filter_map(Enforced::notice).for_each(|notice| observer.notice(&notice));
    for device in &request.devices {
        if let Some(rights) = &device.narrowed {
            observer.notice(&format!(
                "device \"{}\": rights \"{rights}\" cannot be enforced without root; the node's own mode decides",
                device.host.display()
            ));
        }
    }
    if request.mounts.iter().any(|mount| mount.relabel) && fs::metadata("/sys/fs/selinux/enforce").is_ok() {
        observer.notice("z and Z have no effect: kelp does not relabel for SELinux");
    }
}

fn host_facts(request: &RunRequest) -> HostFacts {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let may_have_own = matches!(request.network, Mode::Unsaid | Mode::Default);
    let may_share = matches!(request.network, Mode::Unsaid | Mode::Host);
    HostFacts {
        hosts: if may_share { read("/etc/hosts") } else { String::new() },
        resolv_conf: if may_share || may_have_own { resolv_conf::read() } else { String::new() },
        no_tun: if may_have_own { host::no_tun() } else { None },
        no_network_namespaces: if may_have_own { host::no_network_namespaces() } else { None },
        cgroup: cgroups(request),
        machine: if request.resources.that_limit().is_empty() { Machine::default() } else { Machine::look() },
        has_mqueue: request.ipc == Choice::Host && fs::metadata("/dev/mqueue").is_ok_and(|status| status.is_dir()),
    }
}

/// Writes the small files that the container will find in /etc.
fn write_contents(spec: &SandboxSpec) -> Result<()> {
    for step in &spec.steps {
        if let Step::Mount(Mount { source: Source::Content { path, content }, .. }) = step {
            let doing = || format!("write {}", path.as_path().display());
            fs::write(path.as_path(), content).doing(doing)?;
            // Every user in the container reads them, whatever the caller's umask is.
            fs::set_permissions(path.as_path(), fs::Permissions::from_mode(0o644)).doing(doing)?;
        }
    }
    Ok(())
}

fn read_bounded(path: &Path) -> Result<Vec<u8>> {
    use std::io::Read;
    let mut bytes = Vec::new();
    // O_NONBLOCK: a fifo must not hang us.
    let file = fs::File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(Failure::user("it is not a regular file"));
    }
    file.take(limits::USER_FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limits::USER_FILE_BYTES_MAX {
        return Err(Failure::user(format!("it is larger than {} bytes", limits::USER_FILE_BYTES_MAX)));
    }
    Ok(bytes)
}
