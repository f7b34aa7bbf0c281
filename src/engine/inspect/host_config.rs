//! What was asked for, as docker has it in `HostConfig` (moby
//! api/types/container, HostConfig).

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::container::word;

use crate::container::record::Record;
use crate::container::restart::RestartPolicy;
use crate::engine::base_steps::{MASKED, READ_ONLY};
use crate::engine::options::mount::{Mount, What};
use crate::engine::options::namespaces::{Choice, UserChoice};
use crate::engine::options::network::{Options, host_text};
use crate::engine::options::resources::Resources;
use crate::engine::options::security::{Seccomp, Security, Unmask};
use crate::engine::plan::SHM_BYTES;
use crate::engine::request::RunRequest;
use crate::network::publish::ports::Publish;
use crate::sandbox::cgroup::limits::Bound;
use crate::sandbox::cgroup::placement::{Cgroups, Parent};
use crate::sandbox::rlimits;

/// The document; of a container whose request is not known, what its record
/// tells.
pub(super) fn document(record: &Record, request: Option<&RunRequest>) -> Value {
    let max = match record.restart {
        RestartPolicy::OnFailure { max } => max.unwrap_or(0),
        _ => 0,
    };
    let mut document = json!({
        "NetworkMode": record.network,
        "PortBindings": {},
        "Dns": [],
        "DnsOptions": [],
        "DnsSearch": [],
        "ExtraHosts": Value::Null,
        "RestartPolicy": {"Name": record.restart.name(), "MaximumRetryCount": max},
        "AutoRemove": record.auto_remove,
        "LogConfig": {"Type": record.log.driver.name(), "Config": record.log.options},
        "VolumeDriver": "",
        "Links": Value::Null,
        "Privileged": false,
        "PublishAllPorts": false,
        "Runtime": "kelp",
        "OomKillDisable": Value::Null,
        "CpuRealtimePeriod": 0,
        "CpuRealtimeRuntime": 0,
        "MemorySwappiness": Value::Null,
        "Cgroup": "",
        "CgroupParent": "",
        "DeviceCgroupRules": Value::Null,
        "DeviceRequests": Value::Null,
        "StorageOpt": Value::Null,
        "Isolation": "",
        "Annotations": Value::Null,
    });
    if let Some(fields) = document.as_object_mut() {
        fields.extend(resources(request.map(|request| &request.resources).unwrap_or(&Resources::default())));
    }
    if let (Some(request), Some(fields)) = (request, document.as_object_mut()) {
        fields.extend(asked(request));
        fields.extend(names(&request.network_options));
        fields.extend(ports(&request.network_options));
        fields.extend(mounts(&request.mounts));
        fields.extend(confinement(&request.security));
    }
    document
}

/// What was asked to be published.
fn ports(options: &Options) -> Map<String, Value> {
    let mut bindings: Map<String, Value> = Map::new();
    for Publish { port, address, host } in &options.publish {
        let text = |text: Option<String>| text.unwrap_or_default();
        let one = json!({
            "HostIp": text(address.map(|address| address.to_string())),
            "HostPort": text(host.map(|host| host.to_string())),
        });
        let entry = bindings.entry(port.to_string()).or_insert_with(|| json!([]));
        entry.as_array_mut().into_iter().for_each(|array| array.push(one.clone()));
    }
    [("PortBindings", Value::Object(bindings)), ("PublishAllPorts", json!(options.publish_all))]
        .map(|(name, value)| (name.to_owned(), value))
        .into_iter()
        .collect()
}

fn asked(request: &RunRequest) -> Map<String, Value> {
    let list = |list: &[String]| if list.is_empty() { Value::Null } else { json!(list) };
    let id_file = request.id_file.as_ref().map(|path| path.display().to_string()).unwrap_or_default();
    let sysctls: Map<String, Value> = request
        .sysctls
        .iter()
        .filter_map(|text| text.split_once('='))
        .map(|(name, value)| (name.trim().to_owned(), json!(value)))
        .collect();
    let ulimit = |(number, soft, hard): &(u32, u64, u64)| {
        // Docker's unlimited is -1.
        let value = |value: u64| i64::try_from(value).unwrap_or(-1);
        json!({"Name": rlimits::name(*number), "Soft": value(*soft), "Hard": value(*hard)})
    };
    let devices = request.devices.iter().map(|device| {
        json!({
            "PathOnHost": device.host.display().to_string(),
            "PathInContainer": device.container.to_string(),
            "CgroupPermissions": device.narrowed.as_deref().unwrap_or("rwm"),
        })
    });
    let lenders: Vec<String> = request
        .volumes_from
        .iter()
        .map(|lender| format!("{}{}", lender.container, if lender.read_only { ":ro" } else { "" }))
        .collect();
    let fields = json!({
        "ContainerIDFile": id_file,
        "VolumesFrom": list(&lenders),
        "CapAdd": list(&request.capabilities_added),
        "CapDrop": list(&request.capabilities_dropped),
        "CgroupParent": match &request.cgroup_parent {
            None => String::new(),
            Some(Parent::Slice(slice)) => slice.clone(),
            Some(Parent::Path(path)) => path.display().to_string(),
        },
        // podman's.
        "Cgroups": match request.cgroups {
            Cgroups::Usual => "default",
            Cgroups::Enabled => "enabled",
            Cgroups::Disabled => "disabled",
        },
        "CgroupnsMode": request.cgroup.docker_word(),
        "GroupAdd": list(&request.groups),
        "IpcMode": request.ipc.docker_word(),
        "PidMode": unless_private(&request.pid),
        "UTSMode": unless_private(&request.uts),
        "UsernsMode": user_namespace(&request.user_namespace),
        "ReadonlyRootfs": request.read_only,
        "ShmSize": if request.ipc == Choice::Private { request.shm_bytes.unwrap_or(SHM_BYTES) } else { 0 },
        "Sysctls": sysctls,
        "Devices": devices.collect::<Vec<_>>(),
        "Ulimits": request.limits.iter().map(ulimit).collect::<Vec<_>>(),
        "Init": request.init,
    });
    match fields {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

/// What it is told of names.
fn names(options: &Options) -> Map<String, Value> {
    let hosts: Vec<String> = options.hosts.iter().map(host_text).collect();
    let fields = json!({
        "Dns": options.dns,
        "DnsOptions": options.dns_options,
        "DnsSearch": options.dns_search.as_deref().unwrap_or_default(),
        "ExtraHosts": if hosts.is_empty() { Value::Null } else { json!(hosts) },
    });
    match fields {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

/// Docker's fields, and those of podman and the kernel that docker lacks.
fn resources(resources: &Resources) -> Map<String, Value> {
    let number = |number: Option<u64>| number.unwrap_or(0);
    // No limit is 0 where docker's default is none, and -1 where 0 means the default.
    let bytes = |bound: Option<Bound>| bound.and_then(Bound::number).unwrap_or(0);
    let or_minus_one = |bound: Bound| bound.number().map_or(json!(-1), |number| json!(number));
    let swap = match (resources.memory.and_then(Bound::number), resources.memory_swap) {
        (_, Some(swap)) => or_minus_one(swap),
        (Some(memory), None) => json!(memory.saturating_mul(2)),
        (None, None) => json!(0),
    };
    let rates = |rates: &[(PathBuf, Bound)]| -> Vec<Value> {
        let rate =
            |(path, bound): &(PathBuf, Bound)| json!({"Path": path.display().to_string(), "Rate": bytes(Some(*bound))});
        rates.iter().map(rate).collect()
    };
    let weights = resources.blkio_weight_devices.iter();
    let weights = weights.map(|(path, weight)| json!({"Path": path.display().to_string(), "Weight": weight}));
    let conf: Map<String, Value> = resources.conf.iter().map(|(file, value)| (file.clone(), json!(value))).collect();
    let fields = json!({
        "OomScoreAdj": resources.oom_score_adj.unwrap_or(0),
        "CpuShares": number(resources.cpu_shares),
        "CpuWeight": number(resources.cpu_weight),
        "CpuPeriod": number(resources.cpu_period_us),
        "CpuQuota": resources.cpu_quota_us.map_or(json!(0), or_minus_one),
        "NanoCpus": number(resources.nano_cpus),
        "CpusetCpus": resources.cpuset_cpus.as_deref().unwrap_or_default(),
        "CpusetMems": resources.cpuset_mems.as_deref().unwrap_or_default(),
        "Memory": bytes(resources.memory),
        "MemoryHigh": bytes(resources.memory_high),
        "MemoryReservation": bytes(resources.memory_reservation),
        "MemorySwap": swap,
        "PidsLimit": resources.pids.map(or_minus_one),
        "BlkioWeight": number(resources.blkio_weight),
        "BlkioWeightDevice": weights.collect::<Vec<_>>(),
        "BlkioDeviceReadBps": rates(&resources.read_bps),
        "BlkioDeviceWriteBps": rates(&resources.write_bps),
        "BlkioDeviceReadIOps": rates(&resources.read_iops),
        "BlkioDeviceWriteIOps": rates(&resources.write_iops),
        "CgroupConf": if conf.is_empty() { Value::Null } else { Value::Object(conf) },
    });
    match fields {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

/// Docker leaves the word for a namespace of the container's own out.
fn unless_private(choice: &Choice) -> String {
    match choice {
        Choice::Private => String::new(),
        other => other.docker_word(),
    }
}

/// As it is typed.
fn user_namespace(choice: &UserChoice) -> String {
    match choice {
        UserChoice::Default => String::new(),
        UserChoice::NoMap => "nomap".to_owned(),
        UserChoice::KeepId { uid, gid } => {
            let number = |key: &str, id: &Option<u32>| id.map(|id| format!("{key}={id}"));
            let numbers: Vec<String> = [number("uid", uid), number("gid", gid)].into_iter().flatten().collect();
            if numbers.is_empty() { "keep-id".to_owned() } else { format!("keep-id:{}", numbers.join(",")) }
        }
    }
}

/// `Binds` are those of `--volume`, `Mounts` those of `--mount`, as far as the
/// two can be told apart.
fn mounts(all: &[Mount]) -> Map<String, Value> {
    let (mut binds, mut mounts, mut tmpfs) = (Vec::new(), Vec::new(), Map::new());
    for Mount { target, what, attributes, .. } in all {
        let read_only = attributes.read_only;
        let mode = if read_only { ":ro" } else { "" };
        match what {
            What::Bind { source, create: true, .. } => binds.push(format!("{}:{target}{mode}", source.display())),
            What::Bind { source, propagation, .. } => mounts.push(json!({
                "Type": "bind",
                "Source": source.display().to_string(),
                "Target": target.to_string(),
                "ReadOnly": read_only,
                "BindOptions": {"Propagation": word(*propagation)},
            })),
            What::Volume { name: Some(name), .. } => binds.push(format!("{name}:{target}{mode}")),
            What::Volume { name: None, .. } => {
                mounts.push(json!({"Type": "volume", "Target": target.to_string(), "ReadOnly": read_only}));
            }
            What::Tmpfs { size_bytes, mode, .. } => {
                let size = size_bytes.map(|bytes| format!(",size={bytes}")).unwrap_or_default();
                let text = format!("{}mode={mode:o}{size}", if read_only { "ro," } else { "" });
                tmpfs.insert(target.to_string(), json!(text));
            }
        }
    }
    let list = |list: Vec<Value>| if list.is_empty() { Value::Null } else { Value::Array(list) };
    let mut fields = Map::new();
    fields.insert("Binds".to_owned(), list(binds.into_iter().map(Value::String).collect()));
    fields.insert("Mounts".to_owned(), list(mounts));
    fields.insert("Tmpfs".to_owned(), if tmpfs.is_empty() { Value::Null } else { Value::Object(tmpfs) });
    fields
}

fn confinement(security: &Security) -> Map<String, Value> {
    let mut options: Vec<String> = Vec::new();
    options.extend(security.no_new_privileges.then(|| "no-new-privileges".to_owned()));
    options.extend(security.writable_cgroups.then(|| "writable-cgroups=true".to_owned()));
    match &security.seccomp {
        Seccomp::Default => {}
        Seccomp::Unconfined => options.push("seccomp=unconfined".to_owned()),
        Seccomp::File(path) => options.push(format!("seccomp={}", path.display())),
    }
    options.extend(security.mask.iter().map(|path| format!("mask={path}")));
    let is_kept = |path: &&str| match &security.unmask {
        Unmask::None => true,
        Unmask::Paths(paths) => !paths.iter().any(|other| other.as_path() == Path::new(path)),
        Unmask::All => false,
    };
    match &security.unmask {
        Unmask::None => {}
        Unmask::Paths(paths) => options.extend(paths.iter().map(|path| format!("unmask={path}"))),
        Unmask::All => options.push("unmask=ALL".to_owned()),
    }
    let added = security.mask.iter().map(ToString::to_string);
    let masked: Vec<String> = MASKED.iter().copied().filter(is_kept).map(str::to_owned).chain(added).collect();
    let read_only: Vec<&str> = READ_ONLY.iter().copied().filter(is_kept).collect();
    let mut fields = Map::new();
    fields.insert("SecurityOpt".to_owned(), if options.is_empty() { Value::Null } else { json!(options) });
    fields.insert("MaskedPaths".to_owned(), json!(masked));
    fields.insert("ReadonlyPaths".to_owned(), json!(read_only));
    fields
}
