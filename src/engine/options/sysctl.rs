//! Kernel parameters: `--sysctl NAME=VALUE`.
//!
//! Only what belongs to a namespace of the container: anything else would be a
//! setting of the host's. The name becomes a path below /proc/sys, so what it
//! may be made of is narrow.

use crate::error::{Failure, Result};

/// Longest name and longest value taken, in bytes: /proc/sys takes a page.
const BYTES_MAX: usize = 4096;

/// Which namespaces are the container's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Private {
    /// System V IPC and message queues.
    pub ipc: bool,
    /// Network.
    pub network: bool,
}

/// Reads one parameter into name, with dots, and value.
pub fn parse(text: &str, private: Private) -> Result<(String, String)> {
    read(text, private).map_err(|failure| failure.doing(format!("use --sysctl \"{text}\"")))
}

fn read(text: &str, private: Private) -> Result<(String, String)> {
    let Some((name, value)) = text.split_once('=') else {
        return Err(Failure::usage("it must be NAME=VALUE"));
    };
    let name = name.trim();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if name.is_empty() || !name.bytes().all(plain) || name.split('.').any(str::is_empty) {
        return Err(Failure::usage("a name is words with dots between them, such as net.core.somaxconn"));
    }
    if value.contains(['\0', '\n']) || text.len() > BYTES_MAX {
        return Err(Failure::usage("the value must be one line"));
    }
    let (own, namespace) = if belongs_to_ipc(name) {
        (private.ipc, "IPC")
    } else if name.starts_with("net.") {
        (private.network, "network")
    } else if name == "kernel.hostname" || name == "kernel.domainname" {
        return Err(Failure::usage("it is not set as a kernel parameter").hint("use --hostname"));
    } else {
        return Err(Failure::usage(format!(
            "\"{name}\" belongs to the whole host, not to a container; only net.*, fs.mqueue.*, kernel.shm*, \
             kernel.msg* and kernel.sem can be set"
        )));
    };
    if !own {
        return Err(Failure::usage(format!("it needs a private {namespace} namespace, and the container has none")));
    }
    Ok((name.to_owned(), value.to_owned()))
}

/// Those of sysctl(2)'s tree that ipc_namespaces(7) lists.
fn belongs_to_ipc(name: &str) -> bool {
    let queue = name.strip_prefix("fs.mqueue.");
    let kernel = name.strip_prefix("kernel.").filter(|rest| !rest.contains('.'));
    let of_kernel = |rest: &str| rest == "sem" || rest.starts_with("shm") || rest.starts_with("msg");
    queue.is_some_and(|rest| !rest.contains('.')) || kernel.is_some_and(of_kernel)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<(&str, &str), &str>) {
        let result = parse(text, Private { ipc: true, network: false });
        let result = result.map_err(|failure| failure.to_string());
        let result = result.as_ref().map(|(name, value)| (name.as_str(), value.as_str()));
        let expected = expected.map_err(|cause| format!("use --sysctl \"{text}\": {cause}"));
        assert_eq!(result.map_err(Clone::clone), expected);
    }

    #[test]
    fn takes_what_belongs_to_a_namespace() {
        check("kernel.shmmax=65536", Ok(("kernel.shmmax", "65536")));
        check("kernel.sem=1 2 3 4", Ok(("kernel.sem", "1 2 3 4")));
        check("fs.mqueue.msg_max=10", Ok(("fs.mqueue.msg_max", "10")));
        check("net.core.somaxconn=1", Err("it needs a private network namespace, and the container has none"));
        check("kernel.hostname=x", Err("it is not set as a kernel parameter"));
    }

    #[test]
    fn refuses_what_is_the_hosts_or_not_a_name() {
        let name = "a name is words with dots between them, such as net.core.somaxconn";
        for text in ["net/core/x=1", "net..core=1", "=1", "net.=1", ".net=1", "net.é=1"] {
            check(text, Err(name));
        }
        check("net.core.x", Err("it must be NAME=VALUE"));
        check("kernel.sem=1\n2", Err("the value must be one line"));
        for text in ["vm.swappiness=1", "kernel.semi=1", "kernel.core_pattern=1", "kernel.shm.x=1", "fs.mqueue=1"] {
            assert!(parse(text, Private { ipc: true, network: true }).is_err(), "{text}");
        }
    }
}
