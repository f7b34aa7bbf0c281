//! `kelp info`: kelp and its host at a glance.

use clap::Args;

use super::format::DocumentFormat;
use super::{Session, output, units};
use crate::engine::info::{self, Info};
use crate::error::Result;
use crate::host::Level;
use crate::process::idmap::Extent;

/// Arguments of `kelp info`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// How to print: json, or a Go template such as '{{.ServerVersion}}'
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<DocumentFormat>,
}

/// Prints it.
pub(super) fn run(arguments: Arguments, session: &Session) -> Result<i32> {
    let info = info::look(&session.paths)?;
    match arguments.format {
        None => output::text(lines(&info).join("\n").as_str()),
        Some(DocumentFormat::Json) => output::json(&info)?,
        Some(format) => format.print(&[output::value(&info)?])?,
    }
    Ok(0)
}

/// Docker's text, without a line that would say nothing.
fn lines(info: &Info) -> Vec<String> {
    let mut lines: Vec<String> = vec![
        format!("Containers: {}", info.containers),
        format!(" Running: {}", info.containers_running),
        format!(" Paused: {}", info.containers_paused),
        format!(" Stopped: {}", info.containers_stopped),
        format!("Images: {}", info.images),
        format!("Server Version: {}", info.server_version),
        format!("Storage Driver: {}", info.driver),
        format!(" Backing Filesystem: {}", info.backing_filesystem),
        format!(" Supports overlay: {}", info.supports_overlay),
        format!(" Supports reflink: {}", info.supports_reflink),
    ];
    lines.extend(cgroup(info));
    lines.push("Security Options:".to_owned());
    for option in &info.security_options {
        let (name, rest) = option.trim_start_matches("name=").split_once(',').unwrap_or((option, ""));
        lines.push(format!(" {}", name.trim_start_matches("name=")));
        lines.extend((!rest.is_empty()).then(|| format!("  {}", rest.replacen('=', ": ", 1))));
    }
    lines.extend([
        format!("Id Map: {}", info.id_map_rung),
        format!(" Users: {}", ids(&info.id_map.uids)),
        format!(" Groups: {}", ids(&info.id_map.gids)),
        format!("Kernel Version: {}", info.kernel_version),
        format!("Operating System: {}", info.operating_system),
        format!("OSType: {}", info.os_type),
        format!("Architecture: {}", info.architecture),
        format!("CPUs: {}", info.processors),
        format!("Total Memory: {}", units::binary_bytes(info.mem_total)),
        format!("Name: {}", info.name),
        format!("Data Directory: {}", info.docker_root_dir.display()),
        format!("Runtime Directory: {}", info.runtime_dir.display()),
    ]);
    lines.extend(info.image_stores.iter().map(|store| format!("Image Store: {} (read-only)", store.display())));
    lines.push(format!("Registry: {}", info.registry_of_short_names));
    lines.extend(info.registries_files.iter().map(|file| format!(" Configuration: {}", file.display())));
    for shortfall in &info.shortfalls {
        let word = if shortfall.level == Level::Info { "NOTICE" } else { "WARNING" };
        lines.push(format!("{word}: {} ({}): {}", shortfall.what, shortfall.why, shortfall.effect));
        lines.push(format!(" What helps: {}", shortfall.remedy));
    }
    lines
}

fn cgroup(info: &Info) -> Vec<String> {
    let version = if info.cgroup_version.is_empty() { "none" } else { info.cgroup_version };
    let words = |list: &[String]| if list.is_empty() { "none".to_owned() } else { list.join(" ") };
    vec![
        format!("Cgroup Driver: {}", info.cgroup_driver),
        format!("Cgroup Version: {version}"),
        format!(" Containers: {}", rung_of(info)),
        format!(" Controllers: {}", words(&info.cgroup_controllers)),
        format!(" Own: {}", own(info)),
        format!("  Controllers: {}", words(&info.cgroup.controllers)),
        format!("  Delegated: {}", info.cgroup.is_delegated),
    ]
}

fn rung_of(info: &Info) -> &'static str {
    match info.cgroup_rung {
        "scope" => "a scope of your systemd",
        "subtree" => "below a cgroup that is delegated to you",
        _ => "no cgroup of their own",
    }
}

fn own(info: &Info) -> String {
    info.cgroup.path.as_ref().map_or_else(|| "none".to_owned(), |path| path.display().to_string())
}

/// `0 is 1000, 1-65536 are 100000-165535`.
fn ids(extents: &[Extent]) -> String {
    let last = |first: u32, count: u32| u64::from(first) + u64::from(count.max(1)) - 1;
    let shown = |extent: &Extent| match extent.count {
        1 => format!("{} is {}", extent.inside, extent.outside),
        count => {
            let (inside, outside) = (last(extent.inside, count), last(extent.outside, count));
            format!("{}-{inside} are {}-{outside}", extent.inside, extent.outside)
        }
    };
    extents.iter().map(shown).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_ranges() {
        let extent = |inside, outside, count| Extent { inside, outside, count };
        assert_eq!(ids(&[extent(0, 1000, 1), extent(1, 100_000, 65_536)]), "0 is 1000, 1-65536 are 100000-165535");
        assert_eq!(ids(&[extent(0, u32::MAX, 2)]), "0-1 are 4294967295-4294967296");
    }
}
