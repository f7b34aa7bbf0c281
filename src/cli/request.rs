//! What `run` and `create` are asked for: their arguments, as one request.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use super::resources::{self, ResourceArguments, StartArguments};
use crate::container::log::Config;
use crate::container::restart::RestartPolicy;
use crate::engine::options::environment::Variable;
use crate::engine::options::{
    cgroup, device, environment, health, hostname, label, log, mount, name, namespaces, network, restart, security,
    size, stop_signal, time_offset, tmpfs, volume, volumes_from,
};
use crate::engine::request::{Pull, RootSource, RunRequest};
use crate::error::{Context, Failure, Result};
use crate::image::config::Healthcheck;
use crate::image::platform::Platform;
use crate::limits;
use crate::sandbox::rlimits;

/// Arguments that describe a container.
#[derive(Debug, Args)]
pub(super) struct RequestArguments {
    /// The image (unless --rootfs is given), then the command and its arguments
    #[arg(trailing_var_arg = true, value_name = "IMAGE [COMMAND] [ARG...]")]
    words: Vec<String>,
    /// Keep standard input open
    #[arg(short, long)]
    interactive: bool,
    /// Give the container a terminal
    #[arg(short, long)]
    tty: bool,
    /// Remove the container when it ends
    #[arg(long)]
    rm: bool,
    /// Name the container
    #[arg(long)]
    name: Option<String>,
    /// Print help
    // Not with -h, which is the host name's as in docker and podman.
    #[arg(long, action = clap::ArgAction::Help)]
    help: Option<bool>,
    /// Use a directory as the root file system, under an overlay; / works too
    #[arg(long, value_name = "DIR")]
    rootfs: Option<PathBuf>,
    #[command(flatten)]
    life: LifeArguments,
    #[command(flatten)]
    health: HealthArguments,
    #[command(flatten)]
    process: ProcessArguments,
    #[command(flatten)]
    mounts: MountArguments,
    #[command(flatten)]
    resources: ResourceArguments,
    #[command(flatten)]
    resources_at_start: StartArguments,
    #[command(flatten)]
    isolation: IsolationArguments,
    #[command(flatten)]
    network: NetworkArguments,
    #[command(flatten)]
    image: ImageArguments,
}

/// How it ends, and what then.
#[derive(Debug, Args)]
#[command(next_help_heading = "Life")]
struct LifeArguments {
    /// Start it again when it ends: no, on-failure[:MAX], always or unless-stopped
    #[arg(long, value_name = "POLICY", default_value = "no")]
    restart: String,
    /// Where its log goes: json-file, journald or none
    #[arg(long, value_name = "DRIVER")]
    log_driver: Option<String>,
    /// How its log is kept, such as max-size=10m
    #[arg(long, value_name = "NAME=VALUE")]
    log_opt: Vec<String>,
    /// The signal that asks the program to end
    #[arg(long, value_name = "SIGNAL")]
    stop_signal: Option<String>,
    /// Seconds that a stop waits before it kills; -1 waits for ever
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true)]
    stop_timeout: Option<i64>,
}

/// Whether it is well.
#[derive(Debug, Args)]
#[command(next_help_heading = "Health")]
struct HealthArguments {
    /// What says by its exit status whether it is well: a line for a shell, or a JSON list
    #[arg(long, value_name = "COMMAND")]
    health_cmd: Option<String>,
    /// Time between two checks (30s)
    #[arg(long, value_name = "TIME")]
    health_interval: Option<String>,
    /// Time that a check may take (30s)
    #[arg(long, value_name = "TIME")]
    health_timeout: Option<String>,
    /// Time in which failures do not count (0s)
    #[arg(long, value_name = "TIME")]
    health_start_period: Option<String>,
    /// Time between two checks in the start period (5s)
    #[arg(long, value_name = "TIME")]
    health_start_interval: Option<String>,
    /// Failures in a row until it is unhealthy (3)
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    health_retries: Option<i64>,
    /// Ask nothing, whatever the image says
    #[arg(long)]
    no_healthcheck: bool,
}

/// What runs, and as whom.
#[derive(Debug, Args)]
#[command(next_help_heading = "Process")]
struct ProcessArguments {
    /// Set a variable; NAME alone takes the value from here
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    env: Vec<String>,
    /// Read variables from a file
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,
    /// Run as this user, by name or number of the image
    #[arg(short, long, value_name = "USER[:GROUP]")]
    user: Option<String>,
    /// Add a group, by name or number of the image
    #[arg(long, value_name = "GROUP")]
    group_add: Vec<String>,
    /// Start in this directory
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<String>,
    /// Run this instead of the image's entrypoint
    #[arg(long, value_name = "PROGRAM")]
    entrypoint: Option<String>,
    /// Run a small init as pid 1 that forwards signals and reaps processes
    #[arg(long)]
    init: bool,
    /// Set a resource limit
    #[arg(long, value_name = "NAME=SOFT[:HARD]")]
    ulimit: Vec<String>,
    /// Set a label
    #[arg(short, long, value_name = "KEY[=VALUE]")]
    label: Vec<String>,
    /// Read labels from a file
    #[arg(long, value_name = "FILE")]
    label_file: Vec<PathBuf>,
    /// Write the container's id to a new file
    #[arg(long, value_name = "FILE")]
    cidfile: Option<PathBuf>,
}

/// What is put into the root file system.
#[derive(Debug, Args)]
#[command(next_help_heading = "Files")]
struct MountArguments {
    /// Mount a host path or a named volume
    #[arg(short, long, value_name = "[SOURCE:]TARGET[:OPTIONS]")]
    volume: Vec<String>,
    /// Mount a file system, in key=value form
    #[arg(long, value_name = "type=TYPE,...")]
    mount: Vec<String>,
    /// Mount what another container has of volumes and host paths
    #[arg(long, value_name = "CONTAINER[:ro]")]
    volumes_from: Vec<String>,
    /// What becomes of the image's VOLUMEs: anonymous, tmpfs or ignore
    #[arg(long, value_name = "MODE", default_value = "anonymous")]
    image_volume: String,
    /// Mount memory
    #[arg(long, value_name = "TARGET[:OPTIONS]")]
    tmpfs: Vec<String>,
    /// Give access to a device of the host
    #[arg(long, value_name = "HOST[:TARGET[:RIGHTS]]")]
    device: Vec<String>,
    /// Size of /dev/shm (64m if not given)
    #[arg(long, value_name = "SIZE")]
    shm_size: Option<String>,
    /// Make the root file system read-only
    #[arg(long)]
    read_only: bool,
}

/// Namespaces, capabilities, filters.
#[derive(Debug, Args)]
#[command(next_help_heading = "Isolation")]
struct IsolationArguments {
    /// Host name in the container
    #[arg(short = 'h', long)]
    hostname: Option<String>,
    /// User namespace: host, keep-id[:uid=UID,gid=GID] or nomap
    #[arg(long, value_name = "MODE", default_value = "host")]
    userns: String,
    /// Pid namespace: private, host or container:NAME
    #[arg(long, value_name = "MODE", default_value = "private")]
    pid: String,
    /// IPC namespace: private, host, none or container:NAME
    #[arg(long, value_name = "MODE", default_value = "private")]
    ipc: String,
    /// UTS namespace: private, host or container:NAME
    #[arg(long, value_name = "MODE", default_value = "private")]
    uts: String,
    /// Cgroup namespace: private, host or container:NAME
    #[arg(long, value_name = "MODE", default_value = "private")]
    cgroupns: String,
    /// Whether it has a cgroup of its own: enabled or disabled (where one can be had)
    #[arg(long, value_name = "MODE")]
    cgroups: Option<String>,
    /// Make its cgroup in this one, which is delegated to you, or in a slice of your systemd
    #[arg(long, value_name = "PATH|NAME.slice")]
    cgroup_parent: Option<String>,
    /// Move a clock of the container's time namespace
    #[arg(long, value_name = "monotonic=SECONDS|boottime=SECONDS", allow_hyphen_values = true)]
    time_offset: Vec<String>,
    /// Add a capability
    #[arg(long, value_name = "CAPABILITY")]
    cap_add: Vec<String>,
    /// Drop a capability
    #[arg(long, value_name = "CAPABILITY")]
    cap_drop: Vec<String>,
    /// Security: no-new-privileges, seccomp=FILE|unconfined, mask=PATH, unmask=ALL|PATH, writable-cgroups
    #[arg(long, value_name = "OPTION")]
    security_opt: Vec<String>,
    /// Set a kernel parameter of the container's namespaces
    #[arg(long, value_name = "NAME=VALUE")]
    sysctl: Vec<String>,
}

/// What it reaches, and by which names.
#[derive(Debug, Args)]
#[command(next_help_heading = "Network")]
struct NetworkArguments {
    /// Network: default, host, none or container:NAME
    #[arg(long, visible_alias = "net", value_name = "MODE")]
    network: Option<String>,
    /// Ask this server for names instead of the host's
    #[arg(long, value_name = "ADDRESS")]
    dns: Vec<String>,
    /// Look short names up in this domain; . for none
    #[arg(long, value_name = "DOMAIN")]
    dns_search: Vec<String>,
    /// Set an option of resolv.conf, such as ndots:2
    #[arg(long, visible_alias = "dns-opt", value_name = "OPTION")]
    dns_option: Vec<String>,
    /// Give a name an address; host-gateway is the host's
    #[arg(long, value_name = "NAME:ADDRESS")]
    add_host: Vec<String>,
    /// Have this address
    #[arg(long, value_name = "IPV4")]
    ip: Option<String>,
    /// Have this address
    #[arg(long, value_name = "IPV6")]
    ip6: Option<String>,
    /// Reach what listens on the host's loopback, or only these ports of it
    #[arg(long, value_name = "PORT,...", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    allow_host_loopback: Option<String>,
    /// What it reaches outside: all or none
    #[arg(long, value_name = "WHAT")]
    egress: Option<String>,
    /// Have the container's port reached at one of the host's; a free one if none is named
    #[arg(short, long, value_name = "[[IP:]HOST:]PORT[/udp]")]
    publish: Vec<String>,
    /// Do so with all ports that the image exposes
    #[arg(short = 'P', long)]
    publish_all: bool,
    /// Say that it listens at this port
    #[arg(long, value_name = "PORT[/udp]")]
    expose: Vec<String>,
}

/// Which image, and when to fetch it.
#[derive(Debug, Args)]
#[command(next_help_heading = "Image")]
struct ImageArguments {
    /// Use the image for this platform
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    platform: Option<String>,
    /// When to fetch the image
    #[arg(long, value_enum, default_value_t = PullWhen::Missing)]
    pull: PullWhen,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum PullWhen {
    Always,
    Missing,
    Never,
}

/// What was typed, as one request.
pub(super) fn request(arguments: RequestArguments) -> Result<RunRequest> {
    let RequestArguments {
        words,
        interactive,
        tty,
        rm,
        name,
        rootfs,
        life,
        health,
        process,
        mounts,
        resources,
        resources_at_start,
        isolation,
        network,
        image,
        ..
    } = arguments;
    let (network, network_options) = network_of(&network)?;
    let resources = resources::resources(resources, Some(resources_at_start))?;
    resources.check()?;
    let (source, command) = source(rootfs, words)?;
    Ok(RunRequest {
        source,
        command,
        entrypoint: process.entrypoint.clone(),
        interactive,
        terminal: tty,
        init: process.init,
        read_only: mounts.read_only,
        variables: variables(&process.env_file, &process.env)?,
        user: process.user.clone(),
        groups: process.group_add.clone(),
        hostname: isolation.hostname.as_deref().map(hostname::parse).transpose()?,
        name: name.as_deref().map(name::parse).transpose()?,
        auto_remove: rm,
        labels: labels(&process)?,
        id_file: process.cidfile.clone(),
        pid: namespaces::pid(&isolation.pid)?,
        ipc: namespaces::ipc(&isolation.ipc)?,
        uts: namespaces::uts(&isolation.uts)?,
        network,
        network_options,
        cgroup: namespaces::cgroup(&isolation.cgroupns)?,
        cgroups: isolation.cgroups.as_deref().map(cgroup::parse).transpose()?.unwrap_or_default(),
        cgroup_parent: isolation.cgroup_parent.as_deref().map(cgroup::parse_parent).transpose()?,
        user_namespace: namespaces::user(&isolation.userns)?,
        time_offsets: time_offset::parse(&isolation.time_offset)?,
        mounts: parsed_mounts(&mounts)?,
        volumes_from: each(&mounts.volumes_from, volumes_from::parse)?,
        image_volumes: volumes_from::parse_image_volumes(&mounts.image_volume)?,
        devices: each(&mounts.device, device::parse)?,
        shm_bytes: mounts.shm_size.as_deref().map(size::parse).transpose().doing(|| "use --shm-size")?,
        directory: process.workdir,
        limits: each(&process.ulimit, rlimits::parse)?,
        resources,
        sysctls: isolation.sysctl,
        capabilities_added: isolation.cap_add,
        capabilities_dropped: isolation.cap_drop,
        security: security::parse(&isolation.security_opt)?,
        restart: restart_policy(&life, rm)?,
        health: health_check(&health)?,
        log: log(&life)?,
        stop_timeout_s: life.stop_timeout,
        stop_signal: life.stop_signal.as_deref().map(stop_signal::parse).transpose()?,
        platform: image.platform.as_deref().map(Platform::parse).transpose()?,
        pull: image.pull.into(),
    })
}

fn network_of(arguments: &NetworkArguments) -> Result<(network::Mode, network::Options)> {
    let mode = arguments.network.as_deref().map_or(Ok(network::Mode::Unsaid), network::mode)?;
    let options = network::parse(
        &mode,
        &network::Typed {
            dns: &arguments.dns,
            dns_search: &arguments.dns_search,
            dns_options: &arguments.dns_option,
            hosts: &arguments.add_host,
            ipv4: arguments.ip.as_deref(),
            ipv6: arguments.ip6.as_deref(),
            host_loopback: arguments.allow_host_loopback.as_deref(),
            egress: arguments.egress.as_deref(),
            publish: &arguments.publish,
            publish_all: arguments.publish_all,
            expose: &arguments.expose,
        },
    )?;
    Ok((mode, options))
}

impl From<PullWhen> for Pull {
    fn from(when: PullWhen) -> Self {
        match when {
            PullWhen::Always => Self::Always,
            PullWhen::Missing => Self::Missing,
            PullWhen::Never => Self::Never,
        }
    }
}

fn restart_policy(life: &LifeArguments, rm: bool) -> Result<RestartPolicy> {
    let restart = restart::parse(&life.restart)?;
    if rm && restart != RestartPolicy::No {
        return Err(Failure::usage("--rm and --restart exclude each other"));
    }
    Ok(restart)
}

/// With `--rootfs` all words are the command, else the first is the image.
fn source(rootfs: Option<PathBuf>, words: Vec<String>) -> Result<(RootSource, Vec<String>)> {
    if let Some(directory) = rootfs {
        return Ok((RootSource::Directory(directory), words));
    }
    let mut words = words.into_iter();
    let Some(image) = words.next() else {
        return Err(Failure::usage("no image given").hint("kelp run hello is a good first one; see kelp run --help"));
    };
    Ok((RootSource::Image(image), words.collect()))
}

/// `None` where nothing was said of it.
fn health_check(arguments: &HealthArguments) -> Result<Option<Healthcheck>> {
    health::parse(&health::Typed {
        command: arguments.health_cmd.as_deref(),
        interval: arguments.health_interval.as_deref(),
        timeout: arguments.health_timeout.as_deref(),
        start_period: arguments.health_start_period.as_deref(),
        start_interval: arguments.health_start_interval.as_deref(),
        retries: arguments.health_retries,
        none: arguments.no_healthcheck,
    })
}

fn log(life: &LifeArguments) -> Result<Option<Config>> {
    let is_said = life.log_driver.is_some() || !life.log_opt.is_empty();
    is_said.then(|| log::parse(life.log_driver.as_deref(), &life.log_opt)).transpose()
}

fn each<T>(texts: &[String], parse: impl Fn(&str) -> Result<T>) -> Result<Vec<T>> {
    texts.iter().map(|text| parse(text)).collect()
}

fn parsed_mounts(arguments: &MountArguments) -> Result<Vec<mount::Mount>> {
    let mut mounts = each(&arguments.volume, volume::parse)?;
    mounts.extend(each(&arguments.mount, mount::parse)?);
    mounts.extend(each(&arguments.tmpfs, tmpfs::parse)?);
    Ok(mounts)
}

/// Files first, so that what is on the command line wins, as with Docker.
pub(super) fn variables(files: &[PathBuf], words: &[String]) -> Result<Vec<Variable>> {
    let caller = |name: &str| std::env::var(name).ok();
    let mut variables = Vec::new();
    for path in files {
        let bytes = read_bounded(path)?;
        variables.extend(environment::parse_file(&bytes, caller).doing(|| format!("read \"{}\"", path.display()))?);
    }
    for text in words {
        variables.push(environment::parse(text, caller)?);
    }
    Ok(variables)
}

fn labels(arguments: &ProcessArguments) -> Result<Vec<(String, String)>> {
    let mut labels = Vec::new();
    for path in &arguments.label_file {
        labels.extend(label::parse_file(&read_bounded(path)?).doing(|| format!("read \"{}\"", path.display()))?);
    }
    for text in &arguments.label {
        labels.push(label::parse(text)?);
    }
    Ok(labels)
}

fn read_bounded(path: &Path) -> Result<Vec<u8>> {
    limits::read_file(path, limits::USER_FILE_BYTES_MAX).doing(|| format!("read \"{}\"", path.display()))
}

#[cfg(test)]
mod tests {
    use clap::FromArgMatches;

    use super::*;
    use crate::engine::command_line;

    fn read(words: &[String]) -> RunRequest {
        let command =
            RequestArguments::augment_args(clap::Command::new("run").no_binary_name(true).disable_help_flag(true));
        let matches = command.try_get_matches_from(words).unwrap();
        request(RequestArguments::from_arg_matches(&matches).unwrap()).unwrap()
    }

    /// `words` and what they are written as give the same request.
    fn check(words: &[&str]) {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        let request = read(&words);
        let again = read(&command_line::words(&request).unwrap());
        assert_eq!(serde_json::to_value(&again).unwrap(), serde_json::to_value(&request).unwrap(), "{words:?}");
    }

    #[test]
    fn a_request_is_written_as_the_command_line_that_asks_for_it() {
        check(&["image"]);
        check(&["image", "--", "sh", "-c", "echo $A"]);
        check(&["--rootfs=/", "--", "-x", "y"]);
        check(&["-it", "--entrypoint=", "--init", "-e", "A=b=c", "-e", "E=", "-u", "1:2", "--group-add=5", "image"]);
        check(&["-w", "/tmp", "--ulimit=nofile=64:128", "--ulimit=core=-1", "-l", "a", "-l", "b=c d", "image", "-x"]);
        check(&["--stop-signal=SIGINT", "--stop-timeout=-1", "--hostname=h", "--pid=host", "--ipc=none", "image"]);
        check(&["--uts=host", "--network=host", "--cgroupns=container:web", "--userns=keep-id:uid=1,gid=2", "image"]);
        check(&["--userns=keep-id", "--pid=container:a1", "--time-offset=boottime=-5", "image"]);
        check(&["--userns=nomap", "--cap-add=NET_ADMIN", "--cap-drop=ALL", "--sysctl=net.ipv4.ip_forward=1", "image"]);
        check(&["--security-opt=no-new-privileges", "--security-opt=seccomp=/a b", "--security-opt=mask=/a:/b", "i"]);
        check(&["--security-opt=unmask=ALL", "--security-opt=seccomp=unconfined", "--pull=always", "image"]);
        check(&["--security-opt=unmask=/proc/kcore", "--platform=linux/arm/v7", "--pull=never", "image"]);
        check(&["--log-driver=journald", "--log-opt=tag={{.ID}}", "--log-opt=env=A,B", "image"]);
        check(&["--log-opt=max-size=1m", "image"]);
        check(&["--no-healthcheck", "image"]);
        check(&["--health-cmd=a || b", "--health-interval=1m30s", "--health-timeout=5ms", "image"]);
        check(&["--health-cmd=[\"a\",\"b\"]", "--health-start-period=1s", "--health-retries=4", "image"]);
        check(&["--health-start-interval=1s", "image"]);
        check(&["--volumes-from=a:ro", "--volumes-from=b", "--image-volume=tmpfs", "image"]);
        check(&["--read-only", "--shm-size=64m", "--device=/dev/fuse", "--device=/dev/a:/dev/b:r", "image"]);
    }

    #[test]
    fn resources_are_written_as_they_were_asked_for() {
        check(&["-m", "64m", "--memory-swap=-1", "--memory-reservation=6m", "--memory-high=60m", "image"]);
        check(&["--memory=0", "--memory-swap=0", "--cpus=0", "--pids-limit=-1", "image"]);
        check(&["--cpus=1.05", "-c", "512", "--cpuset-cpus=0-1", "--cpuset-mems=0", "--pids-limit=9", "image"]);
        check(&["--cpus=12", "--cpu-weight=7", "image"]);
        check(&["--cpu-quota=-1", "--cpu-period=5000", "--cpu-shares=0", "image"]);
        check(&["--blkio-weight=10", "--blkio-weight-device=/dev/a:20", "--oom-score-adj=-5", "image"]);
        check(&["--device-read-bps=/dev/a:1m", "--device-write-bps=/dev/b:c:0", "--limits=best-effort", "image"]);
        check(&[
            "--device-read-iops=/dev/a:5",
            "--device-write-iops=/dev/a:6",
            "--cgroup-conf=memory.oom.group=1",
            "i",
        ]);
    }

    #[test]
    fn mounts_are_written_as_they_were_asked_for() {
        for mount in [
            "-v/data",
            "-vdb:/data",
            "-vdb:/data:ro,nocopy,noexec,z",
            "-v/a b:/c:ro",
            "-v/a:/b:bind,rshared,nosuid,nodev",
            "--mount=type=bind,\"source=/a,b:c\"\"d\",target=/e:f,readonly,bind-nonrecursive,bind-propagation=slave",
            "--mount=type=volume,target=/a,volume-nocopy",
            "--mount=source=db,target=/a:b,ro",
            "--mount=type=tmpfs,target=/a,tmpfs-size=64m,tmpfs-mode=700",
            "--mount=type=tmpfs,target=/a:b,tmpfs-size=64m",
            "--tmpfs=/a",
            "--tmpfs=/a:rw,exec,suid,dev,uid=5,gid=6,mode=755,size=4096",
        ] {
            check(&[mount, "image"]);
        }
    }
}
