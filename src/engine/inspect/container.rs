//! All about a container (moby api/types/container, InspectResponse).
//!
//! What kelp has nothing of is empty, not left out: scripts ask for it. What
//! would be a lie is left out: there is no `MergedDir` while nothing is mounted.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::host_config;
use crate::container::health::{Check, Health, Log, State};
use crate::container::log::{self, Driver};
use crate::container::record::{Mounted, Record, Status};
use crate::container::spent::Spent;
use crate::engine::list::Sizes;
use crate::engine::options::namespaces::Choice;
use crate::engine::request::RunRequest;
use crate::network::lease::Lease;
use crate::network::publish::ports::Bound;
use crate::sandbox::enforcement::Enforced;
use crate::sandbox::spec::{Propagation, Source};

/// A time that is not known, as Go prints it.
const NEVER: &str = "0001-01-01T00:00:00Z";

/// The storage driver: overlayfs over directories.
const DRIVER: &str = "overlay";

/// What there is to know of a container.
pub struct Facts<'a> {
    /// Its record.
    pub record: &'a Record,
    /// What was asked for; an older kelp did not write it down.
    pub request: Option<&'a RunRequest>,
    /// `containers/ID`.
    pub directory: &'a Path,
    /// Where its generated files are while it lives.
    pub run_directory: &'a Path,
    /// The directories below its own changes, topmost first.
    pub lowers: &'a [PathBuf],
    /// Its last health checks.
    pub health: &'a Log,
    /// What it has taken, as far as that is known; of one that runs, until now.
    pub spent: Option<Spent>,
    /// What it takes, if that was asked for.
    pub sizes: Option<Sizes>,
}

/// The document.
pub fn document(facts: &Facts<'_>) -> Value {
    let Facts { record, .. } = facts;
    let file = |name: &str| match record.status.is_live() {
        true => facts.run_directory.join(name).display().to_string(),
        false => String::new(),
    };
    let log_path = match record.log.driver {
        Driver::JsonFile { .. } => log::path(facts.directory, &record.id).display().to_string(),
        _ => String::new(),
    };
    json!({
        "Id": record.id,
        "Created": time(record.created_ns),
        "Path": record.command.first().map_or("", String::as_str),
        "Args": record.command.get(1..).unwrap_or_default(),
        "State": state(record, facts),
        "Image": record.image_id,
        "ResolvConfPath": file("resolv.conf"),
        "HostnamePath": file("hostname"),
        "HostsPath": file("hosts"),
        "LogPath": log_path,
        "Name": format!("/{}", record.name),
        "RestartCount": record.restarts,
        "Driver": DRIVER,
        "Platform": "linux",
        "MountLabel": "",
        "ProcessLabel": "",
        "AppArmorProfile": "",
        "ExecIDs": Value::Null,
        "Limits": record.enforced.iter().map(limit).collect::<Vec<_>>(),
        "HostConfig": host_config::document(record, facts.request),
        "GraphDriver": graph_driver(facts),
        "Mounts": record.mounts.iter().map(mounted).collect::<Vec<_>>(),
        "Config": config(facts),
        "NetworkSettings": network(record),
        "SizeRw": facts.sizes.map(|sizes| sizes.own),
        "SizeRootFs": facts.sizes.map(|sizes| sizes.all),
    })
}

fn state(record: &Record, facts: &Facts<'_>) -> Value {
    let (status, unstarted) = (&record.status, record.start_failure.as_ref());
    let (pid, code, started, finished) = match status {
        Status::Created => (0, unstarted.map_or(0, |failure| failure.code), NEVER.to_owned(), NEVER.to_owned()),
        Status::Running { payload, started_ns, .. } => (payload.pid, 0, time(*started_ns), NEVER.to_owned()),
        Status::Restarting { code, started_ns, finished_ns, .. }
        | Status::Exited { code, started_ns, finished_ns, .. } => (0, *code, time(*started_ns), time(*finished_ns)),
    };
    let error = match status {
        Status::Exited { error: Some(error), .. } => error,
        _ => unstarted.map_or("", |failure| &failure.error),
    };
    json!({
        "Status": status.word(),
        "Running": status.is_live(),
        "Paused": matches!(status, Status::Running { paused: true, .. }),
        "Restarting": matches!(status, Status::Restarting { .. }),
        "OOMKilled": record.oom.is_some(),
        "Dead": false,
        "Pid": pid,
        // podman's.
        "CgroupPath": record.cgroup.as_ref().map(|path| path.display().to_string()).unwrap_or_default(),
        "ExitCode": code,
        "Error": error,
        "StartedAt": started,
        "FinishedAt": finished,
        "Health": health(record, facts.health),
        // Neither docker nor podman has these two.
        "OOMReason": record.out_of_memory(code).unwrap_or_default(),
        "Resources": facts.spent.as_ref().map(resources),
    })
}

/// What it has taken. What nobody knows is null.
fn resources(spent: &Spent) -> Value {
    json!({
        "CPUNanoseconds": spent.cpu_ns,
        "CPUUserNanoseconds": spent.cpu_user_ns,
        "CPUThrottledNanoseconds": spent.throttled_ns,
        "MemoryPeakBytes": spent.memory_peak_bytes,
        "LargestProcessBytes": spent.largest_process_bytes,
        "OOMKills": spent.oom_kills,
        "PidsPeak": spent.tasks_peak,
        "BlockReadBytes": spent.block_read_bytes,
        "BlockWrittenBytes": spent.block_written_bytes,
    })
}

/// None where nobody asks, or has asked yet. One that does not run is not well.
fn health(record: &Record, log: &Log) -> Option<Value> {
    Check::of(&record.config)?;
    let health = match &record.status {
        Status::Created => return None,
        status => status.health().unwrap_or(Health { state: State::Unhealthy, streak: 0 }),
    };
    let attempts = log.attempts.iter().map(|attempt| {
        json!({
            "Start": time(attempt.started_ns),
            "End": time(attempt.ended_ns),
            "ExitCode": attempt.code,
            "Output": attempt.output,
        })
    });
    Some(json!({
        "Status": health.state.word(),
        "FailingStreak": health.streak,
        "Log": attempts.collect::<Vec<_>>(),
    }))
}

/// One limit, what holds of it, and how. Docker has nothing like it.
fn limit(limit: &Enforced) -> Value {
    json!({
        "Limit": limit.limit,
        "Asked": limit.asked,
        "Effective": limit.effective,
        "How": limit.how(),
    })
}

fn graph_driver(facts: &Facts<'_>) -> Value {
    let lowers: Vec<String> = facts.lowers.iter().map(|lower| lower.display().to_string()).collect();
    let mut data = Map::new();
    data.insert("LowerDir".to_owned(), json!(lowers.join(":")));
    data.insert("UpperDir".to_owned(), json!(facts.directory.join("upper").display().to_string()));
    data.insert("WorkDir".to_owned(), json!(facts.directory.join("work").display().to_string()));
    if let Status::Running { payload, .. } = &facts.record.status {
        // It is mounted in the container's own mount namespace.
        data.insert("MergedDir".to_owned(), json!(format!("/proc/{}/root", payload.pid)));
    }
    json!({"Name": DRIVER, "Data": data})
}

fn mounted(mounted: &Mounted) -> Value {
    let Mounted { volume, mount } = mounted;
    let (source, propagation) = match &mount.source {
        Source::Bind { path, propagation, .. } => (path.as_path().display().to_string(), propagation),
        _ => (String::new(), &None),
    };
    let (target, is_writable) = (mount.target.to_string(), !mount.attributes.read_only);
    // All of them in both: a template that goes over the mounts asks each for its name.
    let (kind, name, driver, propagation) = match volume {
        Some(name) => ("volume", name.as_str(), "local", ""),
        None => ("bind", "", "", word(*propagation)),
    };
    json!({
        "Type": kind, "Name": name, "Source": source, "Destination": target, "Driver": driver,
        "Mode": "", "RW": is_writable, "Propagation": propagation,
    })
}

/// Docker's word for a propagation.
pub(super) fn word(propagation: Option<Propagation>) -> &'static str {
    match propagation {
        None | Some(Propagation::Private) => "rprivate",
        Some(Propagation::Slave) => "rslave",
        Some(Propagation::Shared) => "rshared",
    }
}

fn config(facts: &Facts<'_>) -> Value {
    let Facts { record, request, .. } = facts;
    let config = &record.config;
    let keys = |names: &std::collections::BTreeSet<String>| -> Value {
        let map: Map<String, Value> = names.iter().map(|name| (name.clone(), json!({}))).collect();
        if map.is_empty() { Value::Null } else { Value::Object(map) }
    };
    let words = |words: &[String]| if words.is_empty() { Value::Null } else { json!(words) };
    let hostname = match request {
        Some(request) if request.uts != Choice::Private => "",
        Some(RunRequest { hostname: Some(name), .. }) => name,
        _ => record.short_id(),
    };
    json!({
        "Hostname": hostname,
        "Domainname": "",
        "User": config.user,
        "AttachStdin": false,
        "AttachStdout": false,
        "AttachStderr": false,
        "Tty": record.terminal,
        "OpenStdin": record.interactive,
        "StdinOnce": false,
        "Env": config.env,
        // A record of an older kelp has only the whole command.
        "Cmd": if config.cmd.is_empty() && config.entrypoint.is_empty() { words(&record.command) } else { words(&config.cmd) },
        "Image": record.image,
        "Volumes": keys(&config.volumes),
        "WorkingDir": config.working_dir,
        "Entrypoint": words(&config.entrypoint),
        "OnBuild": Value::Null,
        "Labels": *record.all_labels(),
        "MacAddress": "",
        "ExposedPorts": keys(&config.exposed_ports),
        "StopSignal": record.stop_signal.as_deref().unwrap_or("SIGTERM"),
        "StopTimeout": record.stop_timeout_s,
        "Healthcheck": config.healthcheck,
        "Shell": words(&config.shell),
    })
}

/// Addresses are those of the one network it is in. There is no hardware
/// address: its device carries IP, not Ethernet.
fn network(record: &Record) -> Value {
    let mut networks = Map::new();
    let lease = record.lease.as_ref().filter(|_| record.status.is_live());
    let endpoint = endpoint(lease);
    if matches!(record.network.as_str(), "default" | "none" | "host") {
        networks.insert(record.network.clone(), endpoint.clone());
    }
    let key = match &record.status {
        Status::Running { payload, .. } => format!("/proc/{}/ns/net", payload.pid),
        _ => String::new(),
    };
    let mut settings = json!({
        "Bridge": "",
        "SandboxID": "",
        "SandboxKey": key,
        "Ports": ports(record),
        "Networks": networks,
    });
    // Docker repeats those of the default network here.
    for field in ADDRESSES {
        settings[field] = endpoint[field].clone();
    }
    settings
}

/// What its ports are reached by, of one that runs; those that are not
/// published have none.
fn ports(record: &Record) -> Value {
    let mut all: Map<String, Value> = Map::new();
    if !record.status.is_live() || record.lease.is_none() {
        return Value::Object(all);
    }
    all.extend(record.config.exposed_ports.iter().map(|port| (port.clone(), Value::Null)));
    for Bound { port, host } in record.published() {
        let entry = all.entry(port.to_string()).or_insert(Value::Null);
        let one = json!({"HostIp": host.ip().to_string(), "HostPort": host.port().to_string()});
        match entry.as_array_mut() {
            Some(array) => array.push(one),
            None => *entry = json!([one]),
        }
    }
    Value::Object(all)
}

/// What `NetworkSettings` has of its default network.
const ADDRESSES: [&str; 8] = [
    "EndpointID",
    "Gateway",
    "GlobalIPv6Address",
    "GlobalIPv6PrefixLen",
    "IPAddress",
    "IPPrefixLen",
    "IPv6Gateway",
    "MacAddress",
];

fn endpoint(lease: Option<&Lease>) -> Value {
    let text = |of: &dyn Fn(&Lease) -> String| lease.map(of).unwrap_or_default();
    let number = |of: &dyn Fn(&Lease) -> u8| lease.map_or(0, of);
    json!({
        "IPAMConfig": Value::Null,
        "Links": Value::Null,
        "Aliases": Value::Null,
        "MacAddress": "",
        "NetworkID": "",
        "EndpointID": "",
        "Gateway": text(&|lease| lease.subnets.gateway4().to_string()),
        "IPAddress": text(&|lease| lease.ipv4.to_string()),
        "IPPrefixLen": number(&|lease| lease.subnets.ipv4.prefix_len()),
        "IPv6Gateway": text(&|lease| lease.subnets.gateway6().to_string()),
        "GlobalIPv6Address": text(&|lease| lease.ipv6.to_string()),
        "GlobalIPv6PrefixLen": number(&|lease| lease.subnets.ipv6.prefix_len()),
        "DNSNames": Value::Null,
    })
}

fn time(nanoseconds: i64) -> String {
    jiff::Timestamp::from_nanosecond(nanoseconds.into()).map_or_else(|_| NEVER.to_owned(), |time| time.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::oom::{Killer, OutOfMemory};
    use crate::process::identity::Identity;

    fn of(record: &Record) -> Value {
        document(&Facts {
            record,
            request: None,
            directory: Path::new("/data/containers/ID"),
            run_directory: Path::new("/run/containers/ID"),
            lowers: &["/top".into(), "/base".into()],
            health: &Log::default(),
            spent: None,
            sizes: None,
        })
    }

    #[test]
    fn a_container_that_an_older_kelp_made_is_described_all_the_same() {
        let mut record = Record::new("ab".repeat(32), "web".to_owned());
        record.created_ns = 0;
        record.command = vec!["sh".to_owned(), "-c".to_owned(), "true".to_owned()];
        record.labels = vec![("a".to_owned(), "b".to_owned())];
        record.status = Status::Exited { code: 3, started_ns: 0, finished_ns: 60_000_000_000, error: None };
        let value = of(&record);
        assert_eq!(value["Created"], "1970-01-01T00:00:00Z");
        assert_eq!((&value["Path"], &value["Args"]), (&json!("sh"), &json!(["-c", "true"])));
        assert_eq!((&value["Name"], &value["Config"]["Labels"]), (&json!("/web"), &json!({"a": "b"})));
        assert_eq!(value["Config"]["Cmd"], json!(["sh", "-c", "true"]));
        assert_eq!(value["State"]["ExitCode"], 3);
        assert_eq!(value["State"]["FinishedAt"], "1970-01-01T00:01:00Z");
        assert_eq!(value["State"]["Running"], false);
        assert_eq!(value["GraphDriver"]["Data"]["LowerDir"], "/top:/base");
        assert_eq!(value["GraphDriver"]["Data"].get("MergedDir"), None);
        assert_eq!((value.get("SizeRw"), &value["Config"]["StopSignal"]), (Some(&Value::Null), &json!("SIGTERM")));
        // What scripts ask for first: {{if .State.Health}}.
        assert_eq!(value["State"].get("Health"), Some(&Value::Null));
        assert_eq!(value["Config"].get("Healthcheck"), Some(&Value::Null));
    }

    #[test]
    fn what_runs_can_be_looked_into() {
        let mut record = Record::new("ab".repeat(32), "web".to_owned());
        let own = Identity::of(nix::unistd::getpid().as_raw()).unwrap();
        record.network = "host".to_owned();
        record.status = Status::Running { supervisor: own, payload: own, started_ns: 0, paused: true, health: None };
        let value = of(&record);
        assert_eq!(value["GraphDriver"]["Data"]["MergedDir"], format!("/proc/{}/root", own.pid));
        assert_eq!(value["HostsPath"], "/run/containers/ID/hosts");
        assert_eq!((&value["State"]["Running"], &value["State"]["Paused"]), (&json!(true), &json!(true)));
        assert!(value["NetworkSettings"]["Networks"]["host"].is_object());
    }

    #[test]
    fn why_it_was_killed_is_there() {
        let mut record = Record::new("ab".repeat(32), "web".to_owned());
        assert_eq!(
            (&of(&record)["State"]["OOMKilled"], &of(&record)["State"]["OOMReason"]),
            (&json!(false), &json!(""))
        );
        record.oom = Some(OutOfMemory { by: Killer::Kernel, limit_bytes: Some(64 << 20), kills: 1 });
        let mut ended = |code, stopped_by_user| {
            record.stopped_by_user = stopped_by_user;
            record.status = Status::Exited { code, started_ns: 0, finished_ns: 0, error: None };
            let state = of(&record)["State"].take();
            assert_eq!(state["OOMKilled"], true);
            state["OOMReason"].as_str().unwrap().to_owned()
        };
        assert_eq!(ended(137, false), "the kernel killed it: out of memory at its limit of 64 MiB");
        // That was somebody else.
        assert_eq!(ended(137, true), "the kernel killed a process of it: out of memory at its limit of 64 MiB");
        assert_eq!(ended(0, false), ended(137, true));
    }

    #[test]
    fn what_it_took_is_there() {
        let spent = Spent { cpu_ns: Some(5), memory_peak_bytes: Some(7), ..Spent::default() };
        let value = resources(&spent);
        assert_eq!((&value["CPUNanoseconds"], &value["MemoryPeakBytes"]), (&json!(5), &json!(7)));
        assert_eq!(value.get("PidsPeak"), Some(&Value::Null));
    }
}
