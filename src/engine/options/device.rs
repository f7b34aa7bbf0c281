//! Devices: `--device HOST[:CONTAINER][:PERMISSIONS]`.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::field::{path, target};
use crate::error::{Failure, Result};
use crate::sandbox::spec::ContainerPath;

/// A device node, or a directory of them, of the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Where it is on the host.
    pub host: PathBuf,
    /// Where it will be in the container.
    pub container: ContainerPath,
    /// Permissions that are not `rwm`, in the order r, w, m. An ordinary user
    /// cannot set the device cgroup, so the node's own mode decides and a
    /// notice is due.
    pub narrowed: Option<String>,
}

/// Reads one `--device`.
pub fn parse(text: &str) -> Result<Device> {
    read(text).map_err(|failure| failure.doing(format!("use --device \"{text}\"")))
}

fn read(text: &str) -> Result<Device> {
    let parts: Vec<&str> = text.split(':').collect();
    let (host, container, rights) = match parts.as_slice() {
        [host] => (*host, *host, "rwm"),
        [host, rights] if are_rights(rights) => (*host, *host, *rights),
        [host, container] => (*host, *container, "rwm"),
        [host, container, rights] if are_rights(rights) => (*host, *container, *rights),
        [_, _, rights] => return Err(Failure::usage(format!("permissions \"{rights}\" are not made of r, w and m"))),
        _ => return Err(Failure::usage("it has more than two colons")),
    };
    path(host)?;
    if !host.starts_with('/') {
        if host.contains('=') {
            return Err(Failure::usage("devices by CDI name (VENDOR/CLASS=NAME) are not supported yet"));
        }
        return Err(Failure::usage(format!("the path on the host must be absolute, not \"{host}\"")));
    }
    let narrowed: String = ['r', 'w', 'm'].into_iter().filter(|right| rights.contains(*right)).collect();
    Ok(Device {
        host: PathBuf::from(host),
        container: target(container)?,
        narrowed: Some(narrowed).filter(|rights| rights != "rwm"),
    })
}

/// Each of r, w and m at most once, in any order.
fn are_rights(text: &str) -> bool {
    !text.is_empty()
        && text.chars().all(|right| "rwm".contains(right))
        && ['r', 'w', 'm'].iter().all(|right| text.matches(*right).count() <= 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<(&str, &str, Option<&str>), &str>) {
        let result = parse(text).map_err(|failure| failure.to_string());
        let result =
            result.map(|device| (device.host.display().to_string(), device.container.to_string(), device.narrowed));
        let expected = expected
            .map(|(host, container, rights)| (host.to_owned(), container.to_owned(), rights.map(str::to_owned)));
        assert_eq!(result, expected.map_err(|cause| format!("use --device \"{text}\": {cause}")));
    }

    #[test]
    fn reads_dockers_grammar() {
        check("/dev/fuse", Ok(("/dev/fuse", "/dev/fuse", None)));
        check("/dev/a:/dev/b", Ok(("/dev/a", "/dev/b", None)));
        check("/dev/a:mwr", Ok(("/dev/a", "/dev/a", None)));
        check("/dev/a:/dev/b:wr", Ok(("/dev/a", "/dev/b", Some("rw"))));
    }

    #[test]
    fn refuses_others() {
        check("/dev/a:/dev/b:rx", Err("permissions \"rx\" are not made of r, w and m"));
        check("/dev/a:rr", Err("the path in the container must be absolute, not \"rr\""));
        check("fuse", Err("the path on the host must be absolute, not \"fuse\""));
        check("nvidia.com/gpu=all", Err("devices by CDI name (VENDOR/CLASS=NAME) are not supported yet"));
        check("/a:/b:r:w", Err("it has more than two colons"));
        check("", Err("a path is empty"));
    }
}
