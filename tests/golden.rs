//! Plans, held as they are: request + image + id map + host facts → SandboxSpec.
//!
//! `INSTA_UPDATE=always cargo test --test golden` writes new snapshots; review
//! them as code.

use std::path::{Path, PathBuf};

use kelp::container::record::{Mounted, Record, Status};
use kelp::container::restart::RestartPolicy;
use kelp::engine::inspect::{Facts, of_container};
use kelp::engine::list::Sizes;
use kelp::engine::options::namespaces::{Choice, UserChoice};
use kelp::engine::options::network;
use kelp::engine::options::resources::{self, Mode, Resources, Typed};
use kelp::engine::options::volumes_from::ImageVolumes;
use kelp::engine::options::{device, mount, security, tmpfs, volume};
use kelp::engine::plan::{self, HostFacts, Input};
use kelp::engine::request::{Pull, RootSource, RunRequest, Stored};
use kelp::host::cgroup::{Cgroup, CgroupVersion, UserSystemd};
use kelp::host::machine::Machine;
use kelp::image::config::RunConfig;
use kelp::network::lease::{Leases, Subnets, Wish};
use kelp::network::terms::HostAddress;
use kelp::process::identity::Identity;
use kelp::process::idmap::{Extent, IdMap};
use kelp::sandbox::cgroup::limits::{Bound, Disk};
use kelp::sandbox::cgroup::placement::{Cgroups, Parent};
use kelp::sandbox::rlimits;
use kelp::sandbox::spec::{Attributes, ContainerPath, HostPath, Mount, Namespace, Root, Source};

fn request() -> RunRequest {
    RunRequest {
        source: RootSource::Image("alpine".to_owned()),
        command: vec!["true".to_owned()],
        entrypoint: None,
        interactive: false,
        terminal: false,
        init: false,
        read_only: false,
        variables: Vec::new(),
        user: None,
        groups: Vec::new(),
        hostname: None,
        name: None,
        auto_remove: true,
        labels: Vec::new(),
        id_file: None,
        pid: Choice::Private,
        ipc: Choice::Private,
        uts: Choice::Private,
        network: network::Mode::Unsaid,
        network_options: network::Options::default(),
        cgroup: Choice::Private,
        cgroups: Cgroups::Usual,
        cgroup_parent: None,
        user_namespace: UserChoice::Default,
        time_offsets: None,
        mounts: Vec::new(),
        volumes_from: Vec::new(),
        image_volumes: ImageVolumes::Anonymous,
        devices: Vec::new(),
        shm_bytes: None,
        directory: None,
        limits: Vec::new(),
        resources: Default::default(),
        sysctls: Vec::new(),
        capabilities_added: Vec::new(),
        capabilities_dropped: Vec::new(),
        security: security::Security::default(),
        stop_signal: None,
        platform: None,
        pull: Pull::Missing,
        health: None,
        log: None,
        restart: Default::default(),
        stop_timeout_s: None,
    }
}

fn full_map() -> IdMap {
    let extents =
        vec![Extent { inside: 0, outside: 1001, count: 1 }, Extent { inside: 1, outside: 100_000, count: 65_536 }];
    IdMap { uids: extents.clone(), gids: extents }
}

/// A login on a host where an admin has delegated nothing more than systemd does by itself.
fn login() -> Cgroup {
    let slice = Path::new("/sys/fs/cgroup/user.slice/user-1001.slice");
    Cgroup {
        version: CgroupVersion::V2,
        path: Some("/user.slice/user-1001.slice/session-2.scope".into()),
        directory: Some(slice.join("session-2.scope")),
        controllers: ["cpu", "memory", "pids"].map(str::to_owned).to_vec(),
        manager: Some(UserSystemd {
            socket: "/run/user/1001/bus".into(),
            directory: slice.join("user@1001.service"),
            controllers: ["cpu", "pids"].map(str::to_owned).to_vec(),
            lacks: Vec::new(),
        }),
        ..Cgroup::default()
    }
}

/// The plan as JSON, or its refusal; the filter as its length.
fn planned(request: &RunRequest, image: &RunConfig, base_map: &IdMap) -> serde_json::Value {
    let root = Root {
        lowers: vec![HostPath("/layers/top".into()), HostPath("/layers/bottom".into())],
        upper: HostPath("/containers/ID/upper".into()),
        work: HostPath("/containers/ID/work".into()),
        volatile: request.auto_remove,
        read_only: request.read_only,
    };
    let host = HostFacts {
        hosts: "127.0.0.1 localhost\n10.0.0.1 host\n".to_owned(),
        resolv_conf: "nameserver 10.0.0.53\n".to_owned(),
        has_mqueue: true,
        no_tun: None,
        no_network_namespaces: None,
        cgroup: login(),
        machine: Machine {
            processors: "0-3".to_owned(),
            nodes: "0".to_owned(),
            processes_max: 4096,
            counts_by_namespace: true,
        },
    };
    let chosen = kelp::engine::network::choose(&request.network, &host).expect("this host gives all");
    let stored = Stored::new(request, Path::new("/home/alice"), None).expect("a request without a root directory");
    let spec = plan::plan(Input {
        request: &stored.request,
        mounts: &stored.request.mounts,
        image,
        id: "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
        base_map,
        caller: (1001, 1001),
        root: (root, Vec::new()),
        run_directory: Path::new("/run/kelp/containers/ID"),
        joined: &|_, _| Ok(Namespace::Join(Identity { pid: 4242, start_time: 77 })),
        volumes: &|name| Ok(HostPath(PathBuf::from("/volumes").join(name.unwrap_or("anonymous")).join("data"))),
        disks: &|_| Ok(Disk { major: 8, minor: 16 }),
        profile: None,
        host: &host,
        network: &chosen.mode,
        is_kept: true,
    });
    match spec {
        Ok(spec) => {
            let length = spec.process.seccomp.as_ref().map(|filter| filter.0.len());
            let mut json = serde_json::to_value(&spec).expect("a spec is plain data");
            json["process"]["seccomp"] = length.map(|length| format!("{length} instructions")).into();
            json
        }
        Err(failure) => serde_json::json!({ "refused": failure.to_string(), "hints": failure.hints }),
    }
}

fn check(name: &str, request: &RunRequest, image: &RunConfig, base_map: &IdMap) {
    insta::with_settings!({ snapshot_path => "golden", prepend_module_to_snapshot => false }, {
        insta::assert_json_snapshot!(name, planned(request, image, base_map));
    });
}

#[test]
fn nothing_asked_for() {
    check("default", &request(), &RunConfig::default(), &full_map());
}

#[test]
fn what_an_image_may_say() {
    let image = RunConfig {
        user: "www-data".to_owned(),
        env: vec!["PATH=/opt/bin".to_owned(), "MODE=image".to_owned()],
        entrypoint: vec!["/entry".to_owned()],
        cmd: vec!["serve".to_owned()],
        working_dir: "/srv".to_owned(),
        labels: [("io.kelp.security".to_owned(), "none".to_owned())].into(),
        ..RunConfig::default()
    };
    check("image", &RunRequest { command: Vec::new(), ..request() }, &image, &full_map());
}

#[test]
fn as_little_as_possible() {
    let options = ["no-new-privileges", "mask=/etc/shadow"].map(str::to_owned);
    let hardened = RunRequest {
        read_only: true,
        mounts: vec![tmpfs::parse("/tmp:size=1m").expect("legal")],
        capabilities_dropped: vec!["ALL".to_owned()],
        security: security::parse(&options).expect("legal"),
        user: Some("1000:1000".to_owned()),
        ..request()
    };
    check("hardened", &hardened, &RunConfig::default(), &full_map());
}

#[test]
fn as_much_of_the_host_as_possible() {
    let shared = RunRequest {
        pid: Choice::Host,
        ipc: Choice::Host,
        uts: Choice::Host,
        network: network::Mode::Host,
        cgroup: Choice::Host,
        ..request()
    };
    check("host", &shared, &RunConfig::default(), &full_map());
}

#[test]
fn namespaces_of_another_container() {
    let other = || Choice::Container("web".to_owned());
    let joined = RunRequest {
        pid: other(),
        ipc: other(),
        uts: other(),
        network: network::Mode::Container("web".to_owned()),
        ..request()
    };
    check("joined", &joined, &RunConfig::default(), &full_map());
}

#[test]
fn no_network_but_names() {
    let hosts = vec![("db".to_owned(), HostAddress::Ip("192.0.2.7".parse().expect("an address")))];
    let network_options = network::Options { hosts, ..network::Options::default() };
    let none = RunRequest { network: network::Mode::None, network_options, ..request() };
    check("no-network", &none, &RunConfig::default(), &full_map());
}

#[test]
fn volumes_and_devices_under_my_own_id() {
    let mounted = RunRequest {
        user_namespace: UserChoice::KeepId { uid: None, gid: None },
        terminal: true,
        mounts: vec![
            volume::parse("data:/var/lib/data").expect("legal"),
            volume::parse("./src:/src:ro").expect("legal"),
            mount::parse("type=bind,source=/mnt/a,target=/a/b/c,bind-propagation=rslave").expect("legal"),
        ],
        devices: vec![device::parse("/dev/fuse").expect("legal")],
        ..request()
    };
    check("mounts", &mounted, &RunConfig::default(), &full_map());
}

#[test]
fn with_a_single_id() {
    check("single", &request(), &RunConfig::default(), &IdMap::single(1001, 1001));
    let keep = RunRequest { user_namespace: UserChoice::KeepId { uid: None, gid: None }, ..request() };
    check("single-keep-id", &keep, &RunConfig::default(), &IdMap::single(1001, 1001));
}

#[test]
fn refusals() {
    let over_proc = RunRequest { mounts: vec![volume::parse("/a:/proc/self").expect("legal")], ..request() };
    check("refused-proc", &over_proc, &RunConfig::default(), &full_map());
    let nothing = RunRequest { command: Vec::new(), ..request() };
    check("refused-no-command", &nothing, &RunConfig::default(), &full_map());
}

fn limited() -> Resources {
    let typed = Typed {
        memory: Some("64m".to_owned()),
        cpus: Some("1.5".to_owned()),
        cpu_shares: Some("512".to_owned()),
        cpuset_cpus: Some("0,2-3".to_owned()),
        pids_limit: Some("100".to_owned()),
        read_bps: vec!["/dev/sdb:1mb".to_owned()],
        conf: vec!["memory.oom.group=1".to_owned()],
        oom_score_adj: Some("500".to_owned()),
        ..Typed::default()
    };
    resources::parse(&typed).expect("legal")
}

/// A cgroup of a container that may make others in it, below a slice of the user's.
#[test]
fn a_cgroup_that_can_be_written() {
    let security = security::parse(&["writable-cgroups".to_owned()]).expect("options");
    let parent = Some(Parent::Slice("batch.slice".to_owned()));
    let asked = RunRequest { security, cgroup_parent: parent, ..request() };
    check("writable-cgroup", &asked, &RunConfig::default(), &full_map());
    let asked = RunRequest { cgroup: Choice::Host, ..asked };
    check("refused-writable-cgroup", &asked, &RunConfig::default(), &full_map());
}

#[test]
fn no_cgroup() {
    let disabled = |resources| RunRequest { cgroups: Cgroups::Disabled, resources, ..request() };
    check("disabled-cgroup", &disabled(Resources::default()), &RunConfig::default(), &full_map());
    let resources = Resources { pids: Some(Bound::At(7)), ..Resources::default() };
    check("refused-disabled-cgroup", &disabled(resources), &RunConfig::default(), &full_map());
}

#[test]
fn limits_that_hold() {
    let request = RunRequest {
        resources: Resources { pids: Some(Bound::At(7)), cpu_weight: Some(9), ..Resources::default() },
        ..request()
    };
    check("limits", &request, &RunConfig::default(), &full_map());
}

#[test]
fn limits_that_do_not_hold() {
    check("refused-limits", &RunRequest { resources: limited(), ..request() }, &RunConfig::default(), &full_map());
    let resources = Resources { mode: Mode::BestEffort, ..limited() };
    check("best-effort", &RunRequest { resources, ..request() }, &RunConfig::default(), &full_map());
    let many = Resources { nano_cpus: Some(5_000_000_000), ..Resources::default() };
    check("refused-cpus", &RunRequest { resources: many, ..request() }, &RunConfig::default(), &full_map());
}

/// A request that asks for nearly all there is.
fn demanding() -> RunRequest {
    RunRequest {
        hostname: Some("db".to_owned()),
        groups: vec!["audio".to_owned()],
        pid: Choice::Host,
        ipc: Choice::Container("other".to_owned()),
        user_namespace: UserChoice::KeepId { uid: Some(1000), gid: None },
        mounts: vec![
            volume::parse("/srv:/srv:ro").expect("a bind"),
            volume::parse("pg:/var/db").expect("a volume"),
            mount::parse("type=bind,src=/etc,dst=/conf,ro").expect("a mount"),
            tmpfs::parse("/tmp:size=1m").expect("a tmpfs"),
        ],
        devices: vec![device::parse("/dev/fuse:rw").expect("a device")],
        limits: vec![rlimits::parse("nofile=1024:-1").expect("a limit")],
        resources: limited(),
        sysctls: vec!["net.ipv4.ip_forward=1".to_owned()],
        capabilities_added: vec!["NET_ADMIN".to_owned()],
        capabilities_dropped: vec!["ALL".to_owned()],
        security: security::parse(&["no-new-privileges".to_owned(), "mask=/secret".to_owned()]).expect("options"),
        restart: RestartPolicy::OnFailure { max: Some(3) },
        ..request()
    }
}

/// The record of a running container that was made of it.
fn recorded(asked: &RunRequest) -> Record {
    let mut record = Record::new("0123456789abcdef".repeat(4), "db".to_owned());
    record.created_ns = 1_767_366_245_000_000_000;
    record.image = "postgres:17".to_owned();
    record.image_id = format!("sha256:{}", "ab".repeat(32));
    record.command = vec!["/entry".to_owned(), "postgres".to_owned()];
    record.restart = asked.restart;
    record.restarts = 2;
    record.network = "default".to_owned();
    record.lease = Leases::new(Subnets::choose(&[])).take(&Wish::default()).ok();
    record.stop_signal = Some("SIGINT".to_owned());
    record.stop_timeout_s = Some(30);
    record.config = RunConfig {
        env: vec!["PATH=/bin".to_owned()],
        entrypoint: vec!["/entry".to_owned()],
        cmd: vec!["postgres".to_owned()],
        exposed_ports: ["5432/tcp".to_owned()].into(),
        volumes: ["/var/db".to_owned()].into(),
        working_dir: "/".to_owned(),
        labels: [("role".to_owned(), "db".to_owned())].into(),
        ..RunConfig::default()
    };
    let mounted = |volume: Option<&str>, path: &str, target: &str, read_only: bool| Mounted {
        volume: volume.map(str::to_owned),
        mount: Mount {
            target: ContainerPath::new(target),
            source: Source::Bind { path: HostPath(path.into()), recursive: true, propagation: None },
            attributes: Attributes { read_only, ..Attributes::default() },
        },
    };
    record.mounts =
        vec![mounted(None, "/srv", "/srv", true), mounted(Some("pg"), "/kelp/volumes/pg/data", "/var/db", false)];
    record.status = Status::Running {
        supervisor: Identity { pid: 4241, start_time: 76 },
        payload: Identity { pid: 4242, start_time: 77 },
        started_ns: 1_767_366_246_000_000_001,
        paused: false,
        health: None,
    };
    record
}

#[test]
fn a_container_as_docker_describes_it() {
    let asked = demanding();
    let document = of_container(&Facts {
        record: &recorded(&asked),
        request: Some(&asked),
        directory: Path::new("/kelp/containers/ID"),
        run_directory: Path::new("/run/kelp/containers/ID"),
        lowers: &["/kelp/layers/top".into(), "/kelp/layers/base".into()],
        health: &kelp::container::health::Log::default(),
        spent: None,
        sizes: Some(Sizes { own: 12_000, all: 5_400_000 }),
    });
    insta::with_settings!({ snapshot_path => "golden", prepend_module_to_snapshot => false }, {
        insta::assert_json_snapshot!("inspect-container", document);
    });
}
