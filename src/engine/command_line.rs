//! A request as the command line that asks for it: what `kelp run` is given in
//! a unit of systemd, for example.
//!
//! Each option is one word (`--NAME=VALUE`), so that no value can be taken for
//! an option. Reading the words gives the same request again; what belongs to
//! one container alone (its name, the file for its id) and what somebody else
//! does for it (removal, restarts) is left to the caller.

use std::path::Path;

use super::options::mount::{Mount, What};
use super::options::namespaces::{Choice, UserChoice};
use super::options::network::{Mode, Options, host_text};
use super::options::resources::{self, Resources};
use super::options::security::{Seccomp, Security, Unmask};
use super::options::volumes_from::ImageVolumes;
use super::request::{Pull, RootSource, RunRequest};
use crate::error::{Context, Failure, Result};
use crate::image::config::Healthcheck;
use crate::network::egress::{Loopback, Outside};
use crate::sandbox::cgroup::limits::Bound;
use crate::sandbox::cgroup::placement::{Cgroups, Parent};
use crate::sandbox::rlimits;
use crate::sandbox::spec::{Attributes, ContainerPath, Propagation};

/// The words after `kelp run`.
pub fn words(request: &RunRequest) -> Result<Vec<String>> {
    let mut words = Words::default();
    words.process(request);
    words.life(request);
    words.isolation(request);
    words.security(&request.security)?;
    words.resources(&request.resources)?;
    for mount in &request.mounts {
        let doing = || format!("write the mount at {} as an option", mount.target);
        words.0.push(text_of_mount(mount).doing(doing)?);
    }
    for device in &request.devices {
        let (host, rights) = (utf8(&device.host)?, device.narrowed.as_deref().unwrap_or("rwm"));
        words.option("device", format!("{host}:{}:{rights}", device.container));
    }
    words.switch("read-only", request.read_only);
    words.some("shm-size", &request.shm_bytes);
    words.some("platform", &request.platform);
    for lender in &request.volumes_from {
        words.option("volumes-from", format!("{}{}", lender.container, if lender.read_only { ":ro" } else { "" }));
    }
    match request.image_volumes {
        ImageVolumes::Anonymous => {}
        ImageVolumes::Tmpfs => words.option("image-volume", "tmpfs"),
        ImageVolumes::Ignore => words.option("image-volume", "ignore"),
    }
    match request.pull {
        Pull::Missing => {}
        Pull::Always => words.option("pull", "always"),
        Pull::Never => words.option("pull", "never"),
    }
    let mut rest = request.command.clone();
    match &request.source {
        RootSource::Directory(directory) => words.option("rootfs", utf8(directory)?),
        RootSource::Image(image) => rest.insert(0, image.clone()),
    }
    if rest.first().is_some_and(|first| first.starts_with('-')) {
        words.0.push("--".to_owned());
    }
    words.0.extend(rest);
    Ok(words.0)
}

/// Names each field, so that a new one cannot be forgotten above. The caller's
/// are `name`, `auto_remove`, `restart` and `id_file`.
#[rustfmt::skip]
const _: fn(RunRequest) = |RunRequest {
    source: _, command: _, entrypoint: _, interactive: _, terminal: _, init: _, read_only: _, variables: _, user: _,
    groups: _, hostname: _, name: _, auto_remove: _, labels: _, id_file: _, pid: _, ipc: _, uts: _, network: _,
    cgroup: _, cgroups: _, cgroup_parent: _, user_namespace: _, time_offsets: _, mounts: _, volumes_from: _,
    image_volumes: _, devices: _, shm_bytes: _, directory: _, limits: _, resources: _, sysctls: _,
    capabilities_added: _, capabilities_dropped: _, security: _, network_options: _,
    stop_signal: _, platform: _, pull: _, restart: _, stop_timeout_s: _, health: _, log: _,
}| {};

#[derive(Default)]
struct Words(Vec<String>);

impl Words {
    fn option(&mut self, name: &str, value: impl AsRef<str>) {
        self.0.push(format!("--{name}={}", value.as_ref()));
    }

    fn switch(&mut self, name: &str, is_on: bool) {
        if is_on {
            self.0.push(format!("--{name}"));
        }
    }

    fn some<T: ToString>(&mut self, name: &str, value: &Option<T>) {
        if let Some(value) = value {
            self.option(name, value.to_string());
        }
    }

    fn each(&mut self, name: &str, values: &[String]) {
        values.iter().for_each(|value| self.option(name, value));
    }

    fn process(&mut self, request: &RunRequest) {
        self.switch("interactive", request.interactive);
        self.switch("tty", request.terminal);
        self.some("entrypoint", &request.entrypoint);
        self.switch("init", request.init);
        for variable in &request.variables {
            let value = variable.value.iter().map(|value| format!("={value}")).collect::<String>();
            self.option("env", format!("{}{value}", variable.name));
        }
        self.some("user", &request.user);
        self.each("group-add", &request.groups);
        self.some("workdir", &request.directory);
        for limit in &request.limits {
            self.option("ulimit", rlimits::text(*limit));
        }
        for (key, value) in &request.labels {
            self.option("label", format!("{key}={value}"));
        }
    }

    fn life(&mut self, request: &RunRequest) {
        self.some("stop-signal", &request.stop_signal);
        self.some("stop-timeout", &request.stop_timeout_s);
        if let Some(health) = &request.health {
            self.health(health);
        }
        if let Some(log) = &request.log {
            self.option("log-driver", log.driver.name());
            log.options.iter().for_each(|(key, value)| self.option("log-opt", format!("{key}={value}")));
        }
    }

    fn health(&mut self, check: &Healthcheck) {
        let words: Vec<&str> = check.test.iter().map(String::as_str).collect();
        match words.as_slice() {
            [] => {}
            ["NONE"] => self.switch("no-healthcheck", true),
            ["CMD-SHELL", line] => self.option("health-cmd", line),
            [_, words @ ..] => self.option("health-cmd", serde_json::json!(words).to_string()),
        }
        for (name, nanoseconds) in [
            ("health-interval", check.interval),
            ("health-timeout", check.timeout),
            ("health-start-period", check.start_period),
            ("health-start-interval", check.start_interval),
        ] {
            if nanoseconds != 0 {
                self.option(name, format!("{nanoseconds}ns"));
            }
        }
        if check.retries != 0 {
            self.option("health-retries", check.retries.to_string());
        }
    }

    fn isolation(&mut self, request: &RunRequest) {
        self.some("hostname", &request.hostname);
        for (name, choice, usual) in [
            ("pid", &request.pid, Choice::Private),
            ("ipc", &request.ipc, Choice::Private),
            ("uts", &request.uts, Choice::Private),
            ("cgroupns", &request.cgroup, Choice::Private),
        ] {
            match choice {
                choice if *choice == usual => {}
                Choice::Private => self.option(name, "private"),
                Choice::Host => self.option(name, "host"),
                Choice::None => self.option(name, "none"),
                Choice::Container(other) => self.option(name, format!("container:{other}")),
            }
        }
        self.network(&request.network, &request.network_options);
        match request.cgroups {
            Cgroups::Usual => {}
            Cgroups::Enabled => self.option("cgroups", "enabled"),
            Cgroups::Disabled => self.option("cgroups", "disabled"),
        }
        match &request.cgroup_parent {
            None => {}
            Some(Parent::Slice(slice)) => self.option("cgroup-parent", slice),
            Some(Parent::Path(path)) => self.option("cgroup-parent", path.display().to_string()),
        }
        match &request.user_namespace {
            UserChoice::Default => {}
            UserChoice::KeepId { uid, gid } => {
                let ids = [("uid", uid), ("gid", gid)];
                let ids: Vec<String> = ids.iter().filter_map(|(key, id)| id.map(|id| format!("{key}={id}"))).collect();
                let colon = if ids.is_empty() { "" } else { ":" };
                self.option("userns", format!("keep-id{colon}{}", ids.join(",")));
            }
            UserChoice::NoMap => self.option("userns", "nomap"),
        }
        if let Some(offsets) = request.time_offsets {
            self.option("time-offset", format!("monotonic={}", offsets.monotonic_s));
            self.option("time-offset", format!("boottime={}", offsets.boottime_s));
        }
        self.each("cap-add", &request.capabilities_added);
        self.each("cap-drop", &request.capabilities_dropped);
        self.each("sysctl", &request.sysctls);
    }

    fn network(&mut self, mode: &Mode, options: &Options) {
        if *mode != Mode::Unsaid {
            self.option("network", mode.docker_word());
        }
        let Options { dns, dns_search, dns_options, hosts, ipv4, ipv6, host_loopback, egress, .. } = options;
        let Options { publish, publish_all, expose, .. } = options;
        publish.iter().for_each(|port| self.option("publish", port.to_string()));
        self.switch("publish-all", *publish_all);
        expose.iter().for_each(|port| self.option("expose", port.to_string()));
        dns.iter().for_each(|server| self.option("dns", server.to_string()));
        match dns_search.as_deref() {
            None => {}
            Some([]) => self.option("dns-search", "."),
            Some(domains) => self.each("dns-search", domains),
        }
        self.each("dns-option", dns_options);
        hosts.iter().for_each(|host| self.option("add-host", host_text(host)));
        self.some("ip", ipv4);
        self.some("ip6", ipv6);
        match host_loopback {
            Loopback::Closed => {}
            Loopback::Open => self.switch("allow-host-loopback", true),
            Loopback::Ports(ports) => {
                let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
                self.option("allow-host-loopback", ports.join(","));
            }
        }
        if *egress == Outside::None {
            self.option("egress", "none");
        }
    }

    fn resources(&mut self, resources: &Resources) -> Result<()> {
        let Resources { mode, conf, .. } = resources;
        for (name, bound) in [
            ("memory", resources.memory),
            ("memory-reservation", resources.memory_reservation),
            ("memory-swap", resources.memory_swap),
            ("memory-high", resources.memory_high),
            ("cpu-quota", resources.cpu_quota_us),
            ("pids-limit", resources.pids),
        ] {
            self.some(name, &bound.map(word_of_bound));
        }
        self.some("cpus", &resources.nano_cpus.map(|nano| format!("{}.{:09}", nano / NANO, nano % NANO)));
        self.some("cpu-shares", &resources.cpu_shares);
        self.some("cpu-weight", &resources.cpu_weight);
        self.some("cpu-period", &resources.cpu_period_us);
        self.some("cpuset-cpus", &resources.cpuset_cpus);
        self.some("cpuset-mems", &resources.cpuset_mems);
        self.some("blkio-weight", &resources.blkio_weight);
        self.some("oom-score-adj", &resources.oom_score_adj);
        for (path, weight) in &resources.blkio_weight_devices {
            self.option("blkio-weight-device", format!("{}:{weight}", utf8(path)?));
        }
        for (name, rates) in [
            ("device-read-bps", &resources.read_bps),
            ("device-write-bps", &resources.write_bps),
            ("device-read-iops", &resources.read_iops),
            ("device-write-iops", &resources.write_iops),
        ] {
            for (path, bound) in rates {
                self.option(name, format!("{}:{}", utf8(path)?, word_of_bound(*bound)));
            }
        }
        conf.iter().for_each(|(file, value)| self.option("cgroup-conf", format!("{file}={value}")));
        if *mode == resources::Mode::BestEffort {
            self.option("limits", "best-effort");
        }
        Ok(())
    }

    fn security(&mut self, security: &Security) -> Result<()> {
        let Security { no_new_privileges, seccomp, mask, unmask, writable_cgroups } = security;
        if *no_new_privileges {
            self.option("security-opt", "no-new-privileges");
        }
        if *writable_cgroups {
            self.option("security-opt", "writable-cgroups=true");
        }
        match seccomp {
            Seccomp::Default => {}
            Seccomp::Unconfined => self.option("security-opt", "seccomp=unconfined"),
            Seccomp::File(path) => self.option("security-opt", format!("seccomp={}", utf8(path)?)),
        }
        let paths = |name: &str, paths: &[ContainerPath]| -> Vec<String> {
            paths.iter().map(|path| format!("{name}={path}")).collect()
        };
        self.each("security-opt", &paths("mask", mask));
        match unmask {
            Unmask::None => {}
            Unmask::All => self.option("security-opt", "unmask=ALL"),
            Unmask::Paths(list) => self.each("security-opt", &paths("unmask", list)),
        }
        Ok(())
    }
}

/// Billionths of a processor in one.
const NANO: u64 = 1_000_000_000;

/// As the options take it: -1 is no limit.
fn word_of_bound(bound: Bound) -> String {
    bound.number().map_or_else(|| "-1".to_owned(), |number| number.to_string())
}

fn utf8(path: &Path) -> Result<&str> {
    path.to_str().ok_or_else(|| Failure::user(format!("\"{}\" is not UTF-8", path.display())))
}

/// `--volume` and `--tmpfs` know attributes that `--mount` does not; `--mount`
/// takes paths with colons.
fn text_of_mount(mount: &Mount) -> Result<String> {
    let at = utf8(mount.target.as_path())?;
    if let What::Bind { source, create: false, recursive, propagation } = &mount.what {
        let mut fields = vec!["type=bind".to_owned(), format!("source={}", utf8(source)?)];
        fields.extend((!recursive).then(|| "bind-nonrecursive".to_owned()));
        fields.extend(propagation.map(|kind| format!("bind-propagation={}", word_of(kind))));
        return Ok(text_of_fields(fields, at, mount.attributes));
    }
    if at.contains(':') {
        return text_with_colons(mount, at);
    }
    let Attributes { read_only, no_suid, no_dev, no_exec } = mount.attributes;
    if let What::Tmpfs { size_bytes, mode, owner } = &mount.what {
        let word = |is_set: bool, no: &'static str, yes: &'static str| if is_set { no } else { yes };
        let mut words = vec![
            word(read_only, "ro", "rw").to_owned(),
            word(no_suid, "nosuid", "suid").to_owned(),
            word(no_dev, "nodev", "dev").to_owned(),
            word(no_exec, "noexec", "exec").to_owned(),
            format!("mode={mode:o}"),
        ];
        words.extend(size_bytes.map(|bytes| format!("size={bytes}")));
        words.extend(owner.map(|(uid, gid)| format!("uid={uid},gid={gid}")));
        return Ok(format!("--tmpfs={at}:{}", words.join(",")));
    }
    let flags = [(read_only, "ro"), (no_suid, "nosuid"), (no_dev, "nodev"), (no_exec, "noexec"), (mount.relabel, "z")];
    let mut words: Vec<&str> = flags.iter().filter(|(is_set, _)| *is_set).map(|(_, word)| *word).collect();
    let source = match &mount.what {
        What::Bind { source, recursive, propagation, .. } => {
            words.extend((!recursive).then_some("bind"));
            words.extend(propagation.map(word_of));
            let source = utf8(source)?;
            if source.contains(':') {
                return Err(Failure::user(format!("there is a colon in \"{source}\"")));
            }
            Some(source)
        }
        What::Volume { name, copy } => {
            words.extend((!copy).then_some("nocopy"));
            name.as_deref()
        }
        What::Tmpfs { .. } => None,
    };
    match source {
        Some(source) if words.is_empty() => Ok(format!("--volume={source}:{at}")),
        Some(source) => Ok(format!("--volume={source}:{at}:{}", words.join(","))),
        None if words.is_empty() => Ok(format!("--volume={at}")),
        None => {
            let mut fields = vec!["type=volume".to_owned()];
            fields.extend(words.contains(&"nocopy").then(|| "volume-nocopy".to_owned()));
            Ok(text_of_fields(fields, at, mount.attributes))
        }
    }
}

/// What came from `--mount`, since nothing else takes such a target.
fn text_with_colons(mount: &Mount, at: &str) -> Result<String> {
    let fields = match &mount.what {
        What::Bind { .. } => return Err(Failure::user("there is a colon in it")),
        What::Volume { name, copy } => {
            let mut fields = vec!["type=volume".to_owned()];
            fields.extend(name.iter().map(|name| format!("source={name}")));
            fields.extend((!copy).then(|| "volume-nocopy".to_owned()));
            fields
        }
        What::Tmpfs { size_bytes, mode, .. } => {
            let mut fields = vec!["type=tmpfs".to_owned(), format!("tmpfs-mode={mode:o}")];
            fields.extend(size_bytes.map(|bytes| format!("tmpfs-size={bytes}")));
            fields
        }
    };
    Ok(text_of_fields(fields, at, mount.attributes))
}

/// `--mount`, a line of CSV (RFC 4180).
fn text_of_fields(mut fields: Vec<String>, at: &str, attributes: Attributes) -> String {
    fields.push(format!("target={at}"));
    fields.extend(attributes.read_only.then(|| "readonly".to_owned()));
    let quoted = |field: &String| match field.contains([',', '"']) {
        true => format!("\"{}\"", field.replace('"', "\"\"")),
        false => field.clone(),
    };
    format!("--mount={}", fields.iter().map(quoted).collect::<Vec<_>>().join(","))
}

fn word_of(propagation: Propagation) -> &'static str {
    match propagation {
        Propagation::Private => "private",
        Propagation::Slave => "slave",
        Propagation::Shared => "shared",
    }
}
