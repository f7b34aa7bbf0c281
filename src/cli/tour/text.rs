//! The tour in words: about a screen or two of at most [`WIDTH`] columns. Pure;
//! colours are taken out again by cli/output.rs where they do not belong.

use std::fmt::Display;

use anstyle::Style;

use super::report::{Clock, Namespace, Report};
use crate::cli::output::{GOOD, HEADING, OPEN, QUIET};
use crate::host::{CgroupVersion, Level};
use crate::process::idmap::{Extent, outside_of};
use crate::sandbox::cgroup::placement;

/// Columns of running text; paths may be longer.
const WIDTH: usize = 92;
/// Where text begins behind a label.
const LABEL: usize = 16;

/// A space that lines are not broken at.
const NO_BREAK: char = '\u{a0}';

/// Lines as they grow.
#[derive(Default)]
struct Page(Vec<String>);

impl Page {
    fn heading(&mut self, text: &str) {
        self.0.push(String::new());
        self.0.push(format!("{HEADING}{text}{HEADING:#}"));
    }

    /// A label, then text that is broken between words and stays indented.
    fn entry(&mut self, label: &str, text: impl Display) {
        let mut label = label;
        for line in wrap(&text.to_string(), WIDTH - LABEL) {
            self.0.push(format!("  {label:<width$}{line}", width = LABEL - 2).trim_end().to_owned());
            label = "";
        }
    }

    /// Text without a label.
    fn text(&mut self, text: impl Display) {
        for line in wrap(&text.to_string(), WIDTH - 2) {
            self.0.push(format!("  {line}"));
        }
    }
}

/// All lines.
pub(super) fn lines(report: &Report) -> Vec<String> {
    let mut page = Page::default();
    greet(&mut page, report);
    namespaces(&mut page, report);
    ids(&mut page, report);
    root(&mut page, report);
    mounts(&mut page, report);
    limits(&mut page, report);
    rights(&mut page, report);
    network(&mut page, report);
    shortfalls(&mut page, report);
    page.heading("Try next");
    page.entry("a shell", "kelp run -it --rm alpine");
    page.entry("your system", "kelp run -it --rm --rootfs / sh    (changes go to an overlay)");
    page.entry("less walls", "kelp run --rm --network host --pid host hello    (see what changes)");
    page.0
}

fn greet(page: &mut Page, report: &Report) {
    let Report { kelp, kernel, .. } = report;
    let Some(why) = &report.host_unknown else {
        page.0.push(format!("{HEADING}Hello from inside a container.{HEADING:#}"));
        page.0.push(format!("kelp {kelp} made it on Linux {kernel}, without root and without a daemon."));
        return;
    };
    let path = crate::engine::host_view::PATH;
    page.0.push(format!("{HEADING}Hello.{HEADING:#} This is the tour of kelp {kelp} on Linux {kernel}, run by hand."));
    page.0.push(format!("{OPEN}kelp told nothing about the outside ({path}: {why}),{OPEN:#}"));
    page.0.push(format!("{OPEN}so this may be a container or the host itself.{OPEN:#}"));
}

fn namespaces(page: &mut Page, report: &Report) {
    page.heading("Namespaces: what the kernel shows this process instead of the host's");
    page.0.push(format!("  {QUIET}{:<8}{:<12}{:<12}whose{QUIET:#}", "kind", "here", "outside"));
    for namespace in &report.namespaces {
        let outside = namespace.outside.map_or_else(|| "?".to_owned(), |inode| inode.to_string());
        let (whose, style): (&str, Style) = match namespace.shared_with_host {
            Some(true) => ("host's", OPEN),
            Some(false) => ("own", GOOD),
            None => ("?", QUIET),
        };
        let Namespace { kind, inode, .. } = namespace;
        let meaning = meaning(namespace, report);
        page.0.push(format!("  {kind:<8}{inode:<12}{outside:<12}{style}{whose:<8}{style:#}{meaning}"));
    }
}

/// One clause for a namespace of its own, another for the host's.
fn meaning(namespace: &Namespace, report: &Report) -> String {
    let hostname = &report.hostname;
    let own = namespace.shared_with_host != Some(true);
    if namespace.shared_with_host.is_none() && namespace.kind == "user" {
        return "ids and rights".to_owned();
    }
    let (visible, pid) = (report.processes.visible, report.processes.pid);
    match (namespace.kind.as_str(), own) {
        ("user", true) => "ids and rights: root here is not root outside".to_owned(),
        ("user", false) => "ids and rights are the host's".to_owned(),
        ("mnt", true) => "the tree of files and what is mounted in it".to_owned(),
        ("mnt", false) => "the host's mounts".to_owned(),
        ("pid", true) => format!("processes: {visible} to be seen; this one is pid {pid}"),
        ("pid", false) => format!("the host's processes can be seen, {visible} of them"),
        ("ipc", true) => "shared memory, semaphores and message queues".to_owned(),
        ("ipc", false) => "the host's shared memory and queues can be reached".to_owned(),
        ("uts", true) => format!("host name: \"{hostname}\"{}", outside_name(report)),
        ("uts", false) => format!("the host's name: \"{hostname}\""),
        ("net", true) => "devices, addresses, routes and ports".to_owned(),
        ("net", false) => "the host's devices, addresses and ports".to_owned(),
        ("cgroup", true) => "the tree of resource groups begins at its own group".to_owned(),
        ("cgroup", false) => "the host's tree of resource groups is visible".to_owned(),
        ("time", true) => clocks(&report.clocks),
        ("time", false) => "the host's clocks".to_owned(),
        _ => String::new(),
    }
}

fn outside_name(report: &Report) -> String {
    report.host.as_ref().map(|host| format!(" here, \"{}\" outside", host.facts.hostname)).unwrap_or_default()
}

fn clocks(clocks: &[Clock]) -> String {
    let moved: Vec<String> = clocks
        .iter()
        .filter(|clock| clock.offset_s != 0)
        .map(|clock| format!("{} {:+} s", clock.name, clock.offset_s))
        .collect();
    if moved.is_empty() { "clocks since boot, not moved".to_owned() } else { format!("clocks: {}", moved.join(", ")) }
}

fn ids(page: &mut Page, report: &Report) {
    let ids = &report.ids;
    page.heading("Ids: who the users here are outside");
    let column = if ids.is_host { "outside" } else { "parent" };
    page.0.push(format!("  {QUIET}{:<8}{:<16}{:<20}count{QUIET:#}", "", "here", column));
    let mut rows = |kind: &str, extents: &[Extent], own: Option<u32>| {
        for extent in extents {
            let here = range(extent.inside, extent.count);
            let outside = range(extent.outside, extent.count);
            let what = match own {
                Some(own) if extent.count == 1 && extent.outside == own => "you",
                Some(_) => "your subordinate ids",
                None => "",
            };
            page.0.push(format!("  {kind:<8}{here:<16}{outside:<20}{:<10}{what}", extent.count).trim_end().to_owned());
        }
    };
    let user = report.host.as_ref().map(|host| host.user);
    if ids.map.uids == ids.map.gids && user.is_none_or(|(uid, gid)| uid == gid) {
        rows("uid,gid", &ids.map.uids, user.map(|user| user.0));
    } else {
        rows("uid", &ids.map.uids, user.map(|user| user.0));
        rows("gid", &ids.map.gids, user.map(|user| user.1));
    }
    let setgroups = if ids.setgroups_allowed { "" } else { "; setgroups(2) is closed" };
    let named = |uid: u32| if uid == 0 { "root".to_owned() } else { format!("uid {uid}") };
    let (here, outside) = (named(ids.uid), outside_of(&ids.map.uids, ids.uid));
    page.text(match (outside, user) {
        (Some(outside), Some((uid, _))) if outside == uid => {
            format!("This program is {here} here, and you (uid {uid}) outside{setgroups}.")
        }
        (Some(outside), Some(_)) => format!("This program is {here} here, and uid {outside} outside{setgroups}."),
        _ => format!("This program is {here} here{setgroups}."),
    });
}

fn range(first: u32, count: u32) -> String {
    match count {
        0 | 1 => first.to_string(),
        _ => format!("{first}-{}", u64::from(first) + u64::from(count) - 1),
    }
}

fn root(page: &mut Page, report: &Report) {
    page.heading("Root file system");
    let Some(root) = &report.root else {
        return page.text("There is no mount on / to be seen.");
    };
    let count = root.layers.len();
    let layers = match count {
        0 => String::new(),
        1 => " of one layer, unpacked once".to_owned(),
        _ => format!(" of {count} layers, each unpacked once"),
    };
    let write = if root.read_only { "read-only" } else { "writable" };
    page.entry("/", format!("{}{layers}; {write}", root.file_system));
    for layer in &root.layers {
        page.entry("layer", layer.display());
    }
    if let Some(upper) = &root.upper {
        page.entry("changes", upper.display());
        let kind = report.host.as_ref().map(|host| format!("on {}; ", host.upper_file_system)).unwrap_or_default();
        page.entry(
            "",
            match root.volatile {
                true => format!("{kind}removed with the container (--rm), so never synced to disk"),
                false => format!("{kind}kept until the container is removed"),
            },
        );
    }
}

fn mounts(page: &mut Page, report: &Report) {
    let mounts = &report.mounts;
    page.heading(&format!("Mounts: {}", mounts.count));
    let mut kinds: Vec<(&str, Vec<String>)> = Vec::new();
    for mount in &mounts.list {
        let target = mount.target.display();
        // A space that does not break, until wrap() has done its work.
        let shown = if mount.read_only { format!("{target}{NO_BREAK}(ro)") } else { target.to_string() };
        let kind = match (mount.source.as_str(), mount.file_system.as_str()) {
            (source, kind) if source == "/" || kind == "overlay" => kind,
            (_, kind) if mount.target.starts_with("/sys") || mount.target.starts_with("/proc") => kind,
            (_, "devtmpfs") => "devices",
            _ => "from outside",
        };
        match kinds.iter_mut().find(|(known, _)| *known == kind) {
            Some((_, targets)) => targets.push(shown),
            None => kinds.push((kind, vec![shown])),
        }
    }
    for (kind, targets) in kinds {
        page.entry(kind, some(&targets));
    }
    let paths = |paths: &[std::path::PathBuf]| paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>();
    if !mounts.masked.is_empty() {
        page.entry("hidden", some(&paths(&mounts.masked)));
    }
    if !mounts.read_only.is_empty() {
        page.entry("read-only", some(&paths(&mounts.read_only)));
    }
}

/// A list that does not flood the page: /proc and /sys of a host may hold hundreds of mounts.
fn some(names: &[String]) -> String {
    const SHOWN: usize = 16;
    let shown = names.get(..SHOWN).unwrap_or(names).join(" ");
    if names.len() > SHOWN { format!("{shown} and {} more", names.len() - SHOWN) } else { shown }
}

fn limits(page: &mut Page, report: &Report) {
    page.heading("Cgroup and limits");
    let cgroup = &report.cgroup;
    let mounted = if cgroup.is_mounted { "" } else { "; no cgroup v2 tree is mounted here" };
    match (&cgroup.path, report.host.as_ref().map(|host| &host.facts.cgroup)) {
        (Some(path), Some(outside)) => {
            let place = outside.path.as_ref().map(|path| format!(", called from {}", path.display()));
            page.entry("cgroup", format!("{path} as seen from here{}{mounted}", place.unwrap_or_default()));
            let version = match outside.version {
                CgroupVersion::V2 => "v2",
                CgroupVersion::Hybrid => "v1 and v2 side by side (hybrid)",
                CgroupVersion::V1 => "v1",
                CgroupVersion::None => "none",
            };
            let placement = placement::usual(outside);
            let place = match placement.rung() {
                "scope" => "containers get a scope of your systemd",
                "subtree" => "containers get one below a cgroup that is delegated to you",
                _ => "none is delegated to you",
            };
            let controllers = match placement.controllers() {
                [] => "no controllers".to_owned(),
                list => format!("controllers {}", list.join(" ")),
            };
            page.entry("host", format!("cgroup {version}, {place}, {controllers}"));
        }
        (Some(path), None) => page.entry("cgroup", format!("{path}{mounted}")),
        (None, _) => page.entry("cgroup", "none"),
    }
    let set: Vec<String> = cgroup
        .limits
        .iter()
        .filter(|(_, value)| !value.starts_with("max"))
        .map(|(name, value)| format!("{name} {value}"))
        .collect();
    page.entry("limits", if set.is_empty() { "none on memory, cpu or processes".to_owned() } else { set.join(", ") });
    let limits: Vec<String> = report
        .limits
        .iter()
        .map(|limit| match limit.soft == limit.hard {
            true => format!("{} {}", limit.name, limit.soft),
            false => format!("{} {} (at most {})", limit.name, limit.soft, limit.hard),
        })
        .collect();
    page.entry("rlimits", limits.join(", "));
}

fn rights(page: &mut Page, report: &Report) {
    page.heading("Rights");
    let short = |names: &[&str]| match names.is_empty() {
        true => "none".to_owned(),
        false => names.iter().map(|name| name.trim_start_matches("CAP_").to_lowercase()).collect::<Vec<_>>().join(" "),
    };
    let capabilities = &report.capabilities;
    let scope = if capabilities.effective.is_empty() { "" } else { " (over this container's own namespaces only)" };
    page.entry("capabilities", format!("{}{scope}", short(&capabilities.effective)));
    if capabilities.bounding != capabilities.effective {
        page.entry("at most", short(&capabilities.bounding));
    }
    let seccomp = &report.seccomp;
    page.entry(
        "seccomp",
        match (seccomp.mode, seccomp.filters) {
            ("filter", 0 | 1) => "a filter refuses system calls that containers do not need".to_owned(),
            ("filter", count) => format!("{count} filters refuse system calls that containers do not need"),
            ("disabled", _) => "no filter: every system call is open".to_owned(),
            (mode, _) => mode.to_owned(),
        },
    );
    page.entry(
        "setuid",
        match seccomp.no_new_privileges {
            true => "programs gain no rights by setuid bits (no_new_privs is set)",
            false => "setuid programs work, within the ids above (no_new_privs is not set)",
        },
    );
}

fn network(page: &mut Page, report: &Report) {
    page.heading("Network");
    let network = &report.network;
    let list = |names: &[String]| if names.is_empty() { "none".to_owned() } else { some(names) };
    page.entry("devices", list(&network.devices));
    page.entry("addresses", list(&network.addresses));
    let shared = report.namespaces.iter().any(|one| one.kind == "net" && one.shared_with_host == Some(true));
    page.entry(
        "reach",
        match (shared, network.has_default_route) {
            (true, _) => "all that the host reaches, the host's own ports on localhost included",
            (false, true) => "the outside, by a default route",
            (false, false) => "only this container itself; --network host shares the host's network",
        },
    );
}

fn shortfalls(page: &mut Page, report: &Report) {
    let Some(host) = &report.host else { return };
    let mut told = host.shortfalls.iter().filter(|one| one.level != Level::Info).peekable();
    page.heading("What this host could not give");
    if told.peek().is_none() {
        page.text("Nothing is missing.");
    }
    for shortfall in told {
        let style = if shortfall.level == Level::Fail { HEADING } else { OPEN };
        page.0.push(format!("  {style}{:<width$}{}{style:#}", shortfall.id, shortfall.what, width = LABEL - 2));
        page.entry("  why", &shortfall.why);
        page.entry("  lost", &shortfall.effect);
        page.entry("  remedy", &shortfall.remedy);
    }
}

/// Breaks text between words; a word that is too long keeps a line of its own.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let line_width = lines.last().map_or(0, |line| line.chars().count());
        if line_width > 0 && line_width + 1 + word.chars().count() > width {
            lines.push(String::new());
        }
        if let Some(line) = lines.last_mut() {
            if line_width > 0 && !line.is_empty() {
                line.push(' ');
            }
            line.push_str(&word.replace(NO_BREAK, " "));
        }
    }
    lines
}
