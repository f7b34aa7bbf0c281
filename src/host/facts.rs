//! What this host is like, looked up in one go, and what it does not give.
//!
//! For people who ask: nothing on the way of a start reads this much.
//! [`shortfalls`] is pure. Its ids (`D14`) are stable and the same in every
//! message, doctor included. Those that depend on the user's id range
//! or on a directory are added by who knows them.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::cgroup::{self, Cgroup, CgroupVersion};
use super::{in_seccomp_filter, sysctl};

/// What the host is like.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// Release of the kernel.
    pub kernel: String,
    /// Name of the host.
    pub hostname: String,
    /// Control groups.
    pub cgroup: Cgroup,
    /// Why /dev/net/tun cannot be opened; `None` where it can.
    pub tun_refused: Option<String>,
    /// Sysctls that decide about namespaces, as they are; those that do not exist are left out.
    pub sysctls: Vec<(String, String)>,
    /// Whether kelp itself runs under a seccomp filter.
    pub in_seccomp_filter: bool,
    /// Whether SELinux enforces.
    pub selinux_enforces: bool,
    /// XDG_RUNTIME_DIR, where it is set.
    pub runtime_directory: Option<PathBuf>,
}

/// How much is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Nearly nothing.
    Info,
    /// Something works less well.
    Warn,
    /// Something does not work.
    Fail,
}

/// One thing that this host does not give.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shortfall {
    /// Stable id, `D01` and up.
    pub id: String,
    /// How much is lost.
    pub level: Level,
    /// What is missing.
    pub what: String,
    /// How we know: the file, the sysctl, its value.
    pub why: String,
    /// What is lost by it.
    pub effect: String,
    /// What helps, and who can do it.
    pub remedy: String,
}

/// Sysctls that decide about namespaces.
const SYSCTLS: [&str; 12] = [
    "user/max_user_namespaces",
    "user/max_mnt_namespaces",
    "user/max_pid_namespaces",
    "user/max_ipc_namespaces",
    "user/max_uts_namespaces",
    "user/max_net_namespaces",
    "user/max_cgroup_namespaces",
    "user/max_time_namespaces",
    "kernel/unprivileged_userns_clone",
    "kernel/apparmor_restrict_unprivileged_userns",
    "net/ipv4/ip_unprivileged_port_start",
    "net/ipv4/ping_group_range",
];

/// Looks the host up.
pub fn facts() -> Facts {
    let read = |name: &str| sysctl(name).unwrap_or_default();
    let tun = fs::OpenOptions::new().read(true).write(true).open("/dev/net/tun");
    let value = |name: &&str| Some(((*name).replace('/', "."), sysctl(name)?));
    Facts {
        kernel: read("kernel/osrelease"),
        hostname: read("kernel/hostname"),
        cgroup: cgroup::look(),
        tun_refused: tun.err().map(|error| crate::error::Failure::from(error).to_string()),
        sysctls: SYSCTLS.iter().filter_map(value).collect(),
        in_seccomp_filter: in_seccomp_filter(),
        selinux_enforces: fs::read_to_string("/sys/fs/selinux/enforce").is_ok_and(|value| value.trim() == "1"),
        runtime_directory: std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from),
    }
}

/// What a host with these facts does not give.
pub fn shortfalls(facts: &Facts) -> Vec<Shortfall> {
    let lists = [namespaces(facts), cgroups(facts), others(facts)];
    lists.into_iter().flatten().collect()
}

impl Shortfall {
    /// One of the numbered situations.
    pub fn new(id: &str, level: Level, what: &str) -> Self {
        let [why, effect, remedy] = [String::new(), String::new(), String::new()];
        Self { id: id.to_owned(), level, what: what.to_owned(), why, effect, remedy }
    }

    /// How we know.
    #[must_use]
    pub fn why(mut self, why: impl Into<String>) -> Self {
        self.why = why.into();
        self
    }

    /// What is lost by it.
    #[must_use]
    pub fn effect(mut self, effect: impl Into<String>) -> Self {
        self.effect = effect.into();
        self
    }

    /// What helps.
    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = remedy.into();
        self
    }
}

fn value<'a>(facts: &'a Facts, name: &str) -> Option<&'a str> {
    facts.sysctls.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
}

fn namespaces(facts: &Facts) -> Vec<Shortfall> {
    let mut list = Vec::new();
    for (name, _) in facts.sysctls.iter().filter(|(name, value)| name.ends_with("_namespaces") && value == "0") {
        let kind = name.trim_start_matches("user.max_").trim_end_matches("_namespaces");
        // An own user namespace is what all else hangs on; of the rest, --network host and the like do without.
        let (id, level) = if kind == "user" { ("D06", Level::Fail) } else { ("D11", Level::Warn) };
        list.push(
            Shortfall::new(id, level, &format!("no {kind} namespaces"))
                .why(format!("{name} is 0"))
                .effect("the kernel answers ENOSPC, which is not about disk space")
                .remedy(format!("admin: sysctl {name}=15000")),
        );
    }
    if value(facts, "kernel.unprivileged_userns_clone") == Some("0") {
        list.push(
            Shortfall::new("D07", Level::Fail, "no user namespaces for users")
                .why("kernel.unprivileged_userns_clone is 0")
                .effect("no container can be started")
                .remedy("admin: sysctl kernel.unprivileged_userns_clone=1"),
        );
    }
    if value(facts, "kernel.apparmor_restrict_unprivileged_userns") == Some("1") {
        list.push(
            Shortfall::new("D08", Level::Warn, "AppArmor restricts user namespaces")
                .why("kernel.apparmor_restrict_unprivileged_userns is 1")
                .effect("a kelp binary without an AppArmor profile for its path cannot start containers")
                .remedy("admin: install contrib/apparmor/kelp for the binary's path"),
        );
    }
    if facts.in_seccomp_filter {
        list.push(
            Shortfall::new("D09", Level::Info, "kelp itself runs under a seccomp filter")
                .why("Seccomp is 2 in /proc/self/status, as inside another container")
                .effect("calls that this filter refuses fail in every container too")
                .remedy("start the outer container with --security-opt seccomp=unconfined"),
        );
    }
    list
}

/// Controllers that limits need.
const LIMITING: [&str; 3] = ["memory", "cpu", "pids"];

fn cgroups(facts: &Facts) -> Vec<Shortfall> {
    let cgroup = &facts.cgroup;
    let limits = "limits on memory, cpu and processes cannot hold";
    let how = match cgroup.version {
        CgroupVersion::V2 => None,
        CgroupVersion::Hybrid => Some("cgroup v1 has the controllers (hybrid), and users cannot use them there"),
        CgroupVersion::V1 => Some("only cgroup v1 is mounted, which cannot be handed to users safely"),
        CgroupVersion::None => Some("no cgroup file system is mounted"),
    };
    if let Some(how) = how {
        let missing = Shortfall::new("D14", Level::Warn, "no cgroup v2 controllers").why(how).effect(limits);
        return vec![missing.remedy("admin: boot with systemd.unified_cgroup_hierarchy=1 (cgroup v2 alone)")];
    }
    let own = cgroup.directory.as_deref().unwrap_or(Path::new("/sys/fs/cgroup"));
    // Who gives most; a subtree with others in it gives what is enabled there.
    let manager = cgroup.manager.iter().map(|manager| (&manager.directory, manager.controllers.as_slice()));
    let subtrees = cgroup.subtrees.iter().map(|subtree| (&subtree.directory, subtree.usable()));
    let missing = |controllers: &[String]| {
        LIMITING.into_iter().filter(|wanted| !controllers.iter().any(|name| name == wanted)).collect::<Vec<_>>()
    };
    let best = manager.chain(subtrees).min_by_key(|(_, controllers)| missing(controllers).len());
    let Some((directory, controllers)) = best else {
        return vec![
            Shortfall::new("D15", Level::Warn, "cgroup v2 is not delegated to you")
                .why(format!("{} cannot be written, and no systemd of yours runs", own.display()))
                .effect(limits)
                .remedy("log in by ssh or loginctl enable-linger, which start one; or admin: delegate a cgroup to you"),
        ];
    };
    let missing = missing(controllers).join(", ");
    if missing.is_empty() {
        return Vec::new();
    }
    vec![
        Shortfall::new("D15", Level::Warn, &format!("cgroup controllers missing: {missing}"))
            .why(format!("{} gives \"{}\"", directory.display(), controllers.join(" ")))
            .effect(format!("limits on {missing} cannot hold"))
            .remedy(
                "admin: Delegate=cpu cpuset io memory pids below [Service] in \
                 /etc/systemd/system/user@.service.d/delegate.conf",
            ),
    ]
}

fn others(facts: &Facts) -> Vec<Shortfall> {
    let mut list = Vec::new();
    if let Some(refused) = &facts.tun_refused {
        list.push(
            Shortfall::new("D12", Level::Warn, "no tun device")
                .why(format!("open /dev/net/tun: {refused}"))
                .effect("a private network with a way to the outside cannot be made; --network host works")
                .remedy("admin: modprobe tun; chmod 0666 /dev/net/tun (the kernel checks rights on its own)"),
        );
    }
    if let Some(first) = value(facts, "net.ipv4.ip_unprivileged_port_start").filter(|value| *value != "0") {
        list.push(
            Shortfall::new("D13", Level::Info, &format!("ports below {first} of the host are closed to you"))
                .why(format!("net.ipv4.ip_unprivileged_port_start is {first}"))
                .effect("with --network host, programs cannot listen there")
                .remedy("use a port above, or admin: sysctl net.ipv4.ip_unprivileged_port_start=80"),
        );
    }
    match &facts.runtime_directory {
        Some(path) if path.is_dir() => {}
        path => {
            let why = path.as_ref().map_or_else(
                || "XDG_RUNTIME_DIR is not set".to_owned(),
                |path| format!("XDG_RUNTIME_DIR is \"{}\", which is no directory", path.display()),
            );
            list.push(
                Shortfall::new("D17", Level::Info, "no runtime directory")
                    .why(why)
                    .effect("kelp keeps sockets and locks in /tmp/kelp-UID")
                    .remedy("nothing has to be done; KELP_RUN chooses another place"),
            );
        }
    }
    if let Some(version) = version(&facts.kernel).filter(|version| *version < (5, 12)) {
        list.push(
            Shortfall::new("D22", Level::Warn, &format!("Linux {}.{} is old", version.0, version.1))
                .why("overlayfs in user namespaces came with 5.11, mount_setattr(2) with 5.12")
                .effect("containers may not start")
                .remedy("admin: a kernel of 5.12 or later"),
        );
    }
    if facts.selinux_enforces {
        list.push(
            Shortfall::new("D23", Level::Warn, "SELinux enforces")
                .why("/sys/fs/selinux/enforce is 1")
                .effect("kelp does not relabel volumes: z and Z have no effect")
                .remedy("label a volume yourself: chcon -t container_file_t"),
        );
    }
    list
}

/// `5.14.0-427.el9` → (5, 14).
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse().ok());
    Some((numbers.next()??, numbers.next()??))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::cgroup::{Subtree, UserSystemd};

    fn good() -> Facts {
        Facts {
            kernel: "6.12.1-generic".to_owned(),
            cgroup: Cgroup {
                version: CgroupVersion::V2,
                path: Some("/user.slice".into()),
                directory: Some("/sys/fs/cgroup/user.slice".into()),
                manager: Some(UserSystemd {
                    controllers: ["cpu", "memory", "pids"].map(str::to_owned).to_vec(),
                    ..UserSystemd::default()
                }),
                ..Cgroup::default()
            },
            runtime_directory: Some("/".into()),
            ..Facts::default()
        }
    }

    fn check(change: impl Fn(&mut Facts), expected: &[&str]) {
        let mut facts = good();
        change(&mut facts);
        let ids: Vec<_> = shortfalls(&facts).into_iter().map(|shortfall| shortfall.id).collect();
        assert_eq!(ids, expected);
    }

    #[test]
    fn each_fact_has_its_shortfall() {
        check(|_| {}, &[]);
        check(|facts| facts.cgroup.version = CgroupVersion::Hybrid, &["D14"]);
        check(|facts| facts.cgroup.manager = None, &["D15"]);
        let controllers = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let poor = || Some(UserSystemd { controllers: controllers(&["memory", "pids"]), ..UserSystemd::default() });
        check(|facts| facts.cgroup.manager = poor(), &["D15"]);
        let rich = || vec![Subtree { controllers: controllers(&["cpu", "memory", "pids"]), ..Subtree::default() }];
        let set_rich = |facts: &mut Facts| (facts.cgroup.manager, facts.cgroup.subtrees) = (poor(), rich());
        check(set_rich, &[]);
        check(
            |facts| {
                set_rich(facts);
                facts.cgroup.subtrees[0].others.push("7 (bash)".to_owned());
            },
            &["D15"],
        );
        check(|facts| facts.tun_refused = Some("EACCES".to_owned()), &["D12"]);
        check(|facts| facts.kernel = "4.18.0-513.el8".to_owned(), &["D22"]);
        check(|facts| facts.runtime_directory = None, &["D17"]);
        check(|facts| facts.selinux_enforces = true, &["D23"]);
        let set = |name: &str, value: &str| vec![(name.to_owned(), value.to_owned())];
        check(|facts| facts.sysctls = set("user.max_net_namespaces", "0"), &["D11"]);
        check(|facts| facts.sysctls = set("user.max_user_namespaces", "0"), &["D06"]);
        check(|facts| facts.sysctls = set("user.max_user_namespaces", "100"), &[]);
        check(|facts| facts.sysctls = set("kernel.apparmor_restrict_unprivileged_userns", "1"), &["D08"]);
        check(|facts| facts.sysctls = set("net.ipv4.ip_unprivileged_port_start", "1024"), &["D13"]);
    }

    #[test]
    fn versions_are_read() {
        assert_eq!(version("5.14.0-427.el9"), Some((5, 14)));
        assert_eq!(version("x"), None);
    }

    #[test]
    fn this_host_can_be_looked_at() {
        assert!(!facts().kernel.is_empty());
    }
}
