//! `run`: a container from a request to its end.
//!
//! The supervisor is started first and comes into the base namespace while the
//! image is looked up and the sandbox planned: the two together are half of a
//! start's time.

use std::cell::RefCell;
use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::PathBuf;

use super::fetch::{self, Owner};
use super::options::environment;
use super::options::mount::What;
use super::options::name;
use super::options::namespaces::Choice;
use super::options::security::Seccomp;
use super::plan::{self, HostFacts, Input};
use super::request::{RootSource, RunRequest};
use super::rootfs;
use super::unpack;
use crate::container::attach::{self, Observer};
use crate::container::namespaces;
use crate::container::record::{Files, Record, Status};
use crate::container::store::{self, Made};
use crate::container::supervisor::{self, ToSupervisor};
use crate::error::{Context, Failure, Result};
use crate::image::config::RunConfig;
use crate::image::registry::Progress;
use crate::kernel::{file, process, terminal};
use crate::limits;
use crate::paths::Paths;
use crate::process::base::Base;
use crate::process::idmap::IdMap;
use crate::process::launch::{self, Launched};
use crate::process::stage::Stage;
use crate::process::steps::Steps;
use crate::sandbox::spec::{HostPath, Mount, Namespace, Root, SandboxSpec, Source, Step};
use crate::storage::volumes::{self, VolumeName};

/// Runs a container in the foreground; returns its exit status.
pub fn run(paths: &Paths, request: &RunRequest, progress: &dyn Progress, observer: &mut dyn Observer) -> Result<i32> {
    let mut steps = Steps::new("command");
    check_streams()?;
    let mut base = Base::find(paths)?;
    steps.mark("find the base namespace");
    let name = request.name.clone().map_or_else(|| free_name(paths), Ok)?;
    let launched = launch::launch(Stage::Supervisor, &mut base, &name, &[])?;
    // Told now: the launch itself may have had to take a lower rung.
    if let Some(notice) = &base.notice {
        observer.notice(notice);
    }
    steps.mark("launch the supervisor");
    let made = make(paths, request, name)?;
    steps.mark("make the container");
    if let Some(path) = &request.id_file
        && let Err(failure) = write_id_file(path, &made.container.record.id)
    {
        abandon(paths, &made)?;
        return Err(failure);
    }
    let prepared = prepare(paths, request, &mut base, &made, progress, observer);
    steps.mark("plan");
    let result = match prepared {
        Ok((spec, record)) => start(paths, request, &launched, made, spec, record, observer),
        Err(failure) => abandon(paths, &made).and(Err(failure)),
    };
    steps.mark("attach until the end");
    observer.steps(&steps.done);
    if let (Err(_), Some(path)) = (&result, &request.id_file) {
        // There is no container of that id.
        fs::remove_file(path).ok();
    }
    result
}

/// The plan of a container, without making or starting anything.
pub fn dry_run(paths: &Paths, request: &RunRequest, progress: &dyn Progress) -> Result<SandboxSpec> {
    let mut base = Base::find(paths)?;
    let directory = paths.containers().join("ID");
    let prepared = Prepared::of(paths, request, &mut base, "ID", &directory, Effort::Name, progress)?;
    let volumes = |name: Option<&str>| match name {
        Some(name) => Ok(HostPath(volumes::data_directory(paths, &VolumeName::parse(name)?))),
        None => Ok(HostPath(paths.volumes().join("ANONYMOUS/data"))),
    };
    prepared.plan(paths, request, &base, "ID", &volumes)
}

/// Whether directories are made and layers unpacked, or only named.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Effort {
    Make,
    Name,
}

/// A directory as a standard stream would be a way out of the container
/// (CVE-2024-21626: /proc/self/fd/0/../..).
fn check_streams() -> Result<()> {
    let (stdin, stdout, stderr) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
    for (stream, name) in [(stdin.as_fd(), "input"), (stdout.as_fd(), "output"), (stderr.as_fd(), "error")] {
        // A closed stream is none.
        let Ok(status) = file::status(stream) else { continue };
        if status.st_mode & libc::S_IFMT == libc::S_IFDIR {
            return Err(Failure::user(format!("standard {name} is a directory")));
        }
    }
    Ok(())
}

/// Makes the container; a random name that another start has just taken is
/// exchanged for the next.
fn make(paths: &Paths, request: &RunRequest, name: String) -> Result<Made> {
    const TRIES: usize = 100;
    let mut made = store::create(paths, &name);
    for _ in 0..TRIES {
        match &made {
            Err(failure) if request.name.is_none() && failure.is_errno(libc::EEXIST) => {
                made = store::create(paths, &free_name(paths)?);
            }
            _ => break,
        }
    }
    made
}

/// A random name that nobody has; with a number once the pairs of words run
/// out (a hundred containers share their 3,600 often enough).
fn free_name(paths: &Paths) -> Result<String> {
    for tries in 0_u64.. {
        let random = u64::from_ne_bytes(process::random()?);
        let words = name::random(random);
        let name = if tries < 3 { words } else { format!("{words}_{}", random % 10_000) };
        if !store::is_name_taken(paths, &name) {
            return Ok(name);
        }
    }
    Err(Failure::bug("no name is free"))
}

/// What the plan needs and the request only names.
struct Prepared {
    image: RunConfig,
    image_name: String,
    image_id: String,
    root: (Root, Vec<Step>),
    profile: Option<Vec<u8>>,
    host: HostFacts,
}

impl Prepared {
    fn of(
        paths: &Paths,
        request: &RunRequest,
        base: &mut Base,
        id: &str,
        directory: &std::path::Path,
        effort: Effort,
        progress: &dyn Progress,
    ) -> Result<Self> {
        let profile = match &request.security.seccomp {
            Seccomp::File(path) => Some(read_bounded(path).doing(|| format!("read \"{}\"", path.display()))?),
            _ => None,
        };
        let host = host_facts(request)?;
        let (volatile, read_only) = (request.auto_remove, request.read_only);
        match &request.source {
            RootSource::Directory(rootfs) => {
                let root = rootfs::of_directory(rootfs, directory, volatile, read_only, effort)?;
                let image_name = rootfs.display().to_string();
                let (image, image_id) = (RunConfig::default(), String::new());
                Ok(Self { image, image_name, image_id, root, profile, host })
            }
            RootSource::Image(text) => {
                let id_map = plan::id_map(&request.user_namespace, &base.map, caller())?;
                let mut owner = Owner { base: &mut *base, id_map: id_map.clone() };
                let image = fetch::get(paths, text, request.platform.as_ref(), request.pull, &mut owner, progress)?;
                let lowers = match effort {
                    Effort::Make => unpack::layers(paths, base, &id_map, &image, progress)?,
                    Effort::Name => unpack::layer_paths(paths, base, &id_map, &image)?,
                };
                let lowers = lowers.into_iter().map(HostPath).collect();
                let mut root = (root_of(lowers, directory, volatile, read_only), Vec::new());
                if effort == Effort::Make && super::embedded::is_embedded(paths, &image) {
                    let file = HostPath(paths.container_run(id).join("host.json"));
                    root.1.push(super::host_view::step(file, base, &root.0)?);
                }
                let (image_name, image_id) = (text.clone(), image.id.to_string());
                Ok(Self { image: image.config.config, image_name, image_id, root, profile, host })
            }
        }
    }

    fn plan(
        &self,
        paths: &Paths,
        request: &RunRequest,
        base: &Base,
        id: &str,
        volumes: &dyn Fn(Option<&str>) -> Result<HostPath>,
    ) -> Result<SandboxSpec> {
        let run_directory = paths.container_run(id);
        plan::plan(Input {
            request,
            image: &self.image,
            id,
            base_map: &base.map,
            caller: caller(),
            root: self.root.clone(),
            run_directory: &run_directory,
            joined: &|name, kind| namespace_of(paths, name, kind),
            volumes,
            profile: self.profile.as_deref(),
            host: &self.host,
        })
    }
}

fn prepare(
    paths: &Paths,
    request: &RunRequest,
    base: &mut Base,
    made: &Made,
    progress: &dyn Progress,
    observer: &mut dyn Observer,
) -> Result<(SandboxSpec, Record)> {
    let id = &made.container.record.id;
    let prepared = Prepared::of(paths, request, base, id, &made.container.directory, Effort::Make, progress)?;
    let run_directory = paths.container_run(id);
    fs::create_dir_all(&run_directory).doing(|| format!("make {}", run_directory.display()))?;
    tell_of_degradations(request, observer);
    let mut record = made.container.record.clone();
    let anonymous = RefCell::new(Vec::new());
    let volumes = |name: Option<&str>| volume(paths, name, id, &mut anonymous.borrow_mut());
    let spec = prepared.plan(paths, request, base, id, &volumes)?;
    record.anonymous_volumes = anonymous.into_inner();
    make_missing_sources(request, &prepared.host)?;
    write_contents(&spec)?;
    record.image = prepared.image_name;
    record.image_id = prepared.image_id;
    record.config = config(request, &prepared.image)?;
    record.files = Some(files(request, &base.map, &spec)?);
    record.command = spec.process.arguments.clone();
    record.labels = request.labels.clone();
    record.auto_remove = request.auto_remove;
    record.stop_signal = request.stop_signal.clone().or(prepared.image.stop_signal);
    Ok((spec, record))
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

fn start(
    paths: &Paths,
    request: &RunRequest,
    launched: &Launched,
    made: Made,
    spec: SandboxSpec,
    record: Record,
    observer: &mut dyn Observer,
) -> Result<i32> {
    let directory = made.container.directory;
    let start = supervisor::Request {
        spec,
        record,
        directory,
        paths: paths.clone(),
        stdin: request.interactive,
        size: terminal::size(std::io::stdin().as_fd()).ok(),
        debug: observer.wants_steps(),
    };
    match launched.channel.send(&ToSupervisor::Start(Box::new(start)), &[made.lock.as_fd()]) {
        // It is gone already; why is what it said last.
        Err(failure) if failure.is_errno(libc::EPIPE) => {}
        result => result?,
    }
    // From here on the supervisor alone holds the container's lock.
    drop(made.lock);
    attach::attach(&launched.channel, request.interactive, observer)
}

fn abandon(paths: &Paths, made: &Made) -> Result<()> {
    let record = &made.container.record;
    store::discard(paths, &made.container.directory, &record.id, Some(&record.name))?;
    store::remove_orphans(paths)
}

fn root_of(lowers: Vec<HostPath>, directory: &std::path::Path, volatile: bool, read_only: bool) -> Root {
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
        return Err(Failure::user(format!("container \"{name}\" is not running")));
    };
    let entry = namespaces::of(&record).into_iter().find(|entry| entry.kind == kind);
    match entry {
        Some(entry) if entry.shared_with_host => Ok(Namespace::Host),
        Some(_) => Ok(Namespace::Join(payload)),
        None => Err(Failure::user(format!("container \"{name}\" has just ended"))),
    }
}

/// The data directory of a named volume, made where it is missing; an
/// anonymous one gets a random name and is marked as container `id`'s.
fn volume(paths: &Paths, name: Option<&str>, id: &str, anonymous: &mut Vec<String>) -> Result<HostPath> {
    if let Some(name) = name {
        return Ok(HostPath(volumes::ensure(paths, &VolumeName::parse(name)?)?.data));
    }
    let bytes = process::random::<32>()?;
    let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let name = VolumeName::parse(&text)?;
    volumes::create(paths, &name, [(volumes::ANONYMOUS_OF.to_owned(), id.to_owned())].into())?;
    anonymous.push(text);
    Ok(HostPath(volumes::data_directory(paths, &name)))
}

/// `-v` makes a missing host directory, as Docker does; `--mount` refuses it.
fn make_missing_sources(request: &RunRequest, host: &HostFacts) -> Result<()> {
    for mount in &request.mounts {
        if let What::Bind { source, create, .. } = &mount.what {
            let path = host.directory.join(source);
            match fs::metadata(&path) {
                Err(_) if path.is_symlink() && !path.exists() => {
                    let cause = "it is a symbolic link that leads nowhere";
                    return Err(Failure::user(cause).doing(format!("use \"{}\" as a volume", path.display())));
                }
                Err(error) if error.kind() == std::io::ErrorKind::NotFound && *create => {
                    fs::create_dir_all(&path).doing(|| format!("make \"{}\"", path.display()))?;
                }
                result => result.map(drop).doing(|| format!("use \"{}\" as a volume", path.display()))?,
            }
        }
    }
    Ok(())
}

fn tell_of_degradations(request: &RunRequest, observer: &mut dyn Observer) {
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

fn host_facts(request: &RunRequest) -> Result<HostFacts> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let shares_network = request.network == Choice::Host;
    let has_binds = !request.mounts.is_empty();
    Ok(HostFacts {
        hosts: if shares_network { read("/etc/hosts") } else { String::new() },
        resolv_conf: if shares_network { read("/etc/resolv.conf") } else { String::new() },
        has_mqueue: request.ipc == Choice::Host && fs::metadata("/dev/mqueue").is_ok_and(|status| status.is_dir()),
        directory: if has_binds {
            std::env::current_dir().doing(|| "find the working directory")?
        } else {
            PathBuf::new()
        },
    })
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

fn write_id_file(path: &std::path::Path, id: &str) -> Result<()> {
    use std::io::Write;
    fs::File::create_new(path)
        .and_then(|mut file| file.write_all(id.as_bytes()))
        .doing(|| format!("write container id to \"{}\"", path.display()))
}

fn read_bounded(path: &std::path::Path) -> Result<Vec<u8>> {
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
