//! What this host gives, and the words for what it does not.
//!
//! Causes are looked up only after something failed, so that a start on a good
//! host pays nothing. A failed command and every notice about the host take
//! their sentence from here.

pub mod bus;
pub mod cgroup;
mod facts;
pub mod machine;
pub mod mountinfo;
pub mod session;
mod unit;

pub use cgroup::{Cgroup, CgroupMount, CgroupVersion, own_cgroup};
pub use facts::{Facts, Level, Shortfall, facts, shortfalls};

use std::fs;

use crate::error::Failure;

/// Explains why a user namespace could not be made or mapped: the kernel's
/// errno says little (ENOSPC is not a full disk), the sysctls say it all.
pub fn explain_user_namespace(error: impl Into<Failure>) -> Failure {
    let failure = error.into().doing("make a user namespace");
    let zero = |name: &str| sysctl(name).as_deref() == Some("0");
    if zero("user/max_user_namespaces") {
        return failure
            .hint("user namespaces are disabled: user.max_user_namespaces is 0; an admin raises it with sysctl");
    }
    if zero("kernel/unprivileged_userns_clone") {
        return failure
            .hint("user namespaces are closed to users: an admin runs sysctl kernel.unprivileged_userns_clone=1");
    }
    if sysctl("kernel/apparmor_restrict_unprivileged_userns").as_deref() == Some("1") {
        return failure.hint(
            "AppArmor restricts user namespaces (kernel.apparmor_restrict_unprivileged_userns is 1): \
             an admin installs contrib/apparmor/kelp for this binary's path, or sets it to 0",
        );
    }
    if in_seccomp_filter() {
        return failure.hint(
            "a seccomp filter is active here, as inside another container: \
             start that one with --security-opt seccomp=unconfined",
        );
    }
    failure
}

/// A sysctl's value, if it can be read.
fn sysctl(name: &str) -> Option<String> {
    fs::read_to_string(format!("/proc/sys/{name}")).ok().map(|value| value.trim().to_owned())
}

fn in_seccomp_filter() -> bool {
    fs::read_to_string("/proc/self/status").is_ok_and(|status| status.lines().any(|line| line == "Seccomp:\t2"))
}

/// Why a container cannot have a network namespace, if it is so.
pub fn no_network_namespaces() -> Option<String> {
    (sysctl("user/max_net_namespaces").as_deref() == Some("0"))
        .then(|| "network namespaces are disabled (user.max_net_namespaces is 0)".to_owned())
}

/// Why no tun device can be made, if it is so.
pub fn no_tun() -> Option<Failure> {
    const PATH: &str = "/dev/net/tun";
    let opened = fs::File::options().read(true).write(true).open(PATH);
    opened.err().map(|error| Failure::from(error).doing(format!("open {PATH}")))
}

/// Explains why no tun device can be made.
pub fn explain_tun(error: impl Into<Failure>) -> Failure {
    error
        .into()
        .doing("make a network device")
        .hint("an admin runs modprobe tun; chmod 0666 /dev/net/tun (the kernel checks rights on its own)")
        .hint("until then --network host shares the host's network, --network none has only a loopback device")
}

/// Explains why a container's namespaces could not be made.
pub fn explain_namespaces(error: impl Into<Failure>) -> Failure {
    let failure = error.into();
    if failure.is_errno(libc::ENOSPC) {
        for kind in ["user", "mnt", "pid", "ipc", "uts", "net", "cgroup", "time"] {
            let name = format!("user/max_{kind}_namespaces");
            if sysctl(&name).as_deref() == Some("0") {
                return failure.doing("make namespaces").hint(format!(
                    "{kind} namespaces are disabled: user.max_{kind}_namespaces is 0 (this is not about disk space)"
                ));
            }
        }
    }
    explain_user_namespace(failure)
}
