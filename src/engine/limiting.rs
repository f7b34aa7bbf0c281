//! The decision what holds a container's limits. Pure.
//!
//! `--limits strict` leaves all of them to the cgroup, and a limit that it
//! cannot hold is a failure. `best-effort` leaves it what it can hold; of the
//! rest,
//!
//! - processors become an affinity,
//! - a number of processes becomes RLIMIT_NPROC, which the kernel counts for
//!   each user of each user namespace (since Linux 5.14),
//! - memory is looked after by the supervisor,
//! - and what is left is not held, and said so. There is no sound way to hold a
//!   quota of processor time from outside: who stops and continues a program by
//!   signals breaks what it does with time, with its children and its terminal.

use std::collections::BTreeSet;
use std::path::Path;

use super::options::resources::{Mode, Resources};
use crate::error::{Context, Failure, Result};
use crate::host::cgroup::OPTIONAL;
use crate::host::machine::{self, Machine};
use crate::sandbox::cgroup::Limits;
use crate::sandbox::cgroup::limits::{Controller, Disk, Entry};
use crate::sandbox::enforcement::{Enforced, Holder, Substitutes};

/// What becomes of the limits.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Decision {
    /// For the cgroup.
    pub limits: Limits,
    /// For the supervisor.
    pub substitutes: Substitutes,
    /// RLIMIT_NPROC of the container's programs.
    pub processes: Option<u64>,
    /// Each, and who holds it.
    pub enforced: Vec<Enforced>,
}

/// What a decision depends on besides the request.
pub struct Surroundings<'a> {
    /// The machine.
    pub machine: &'a Machine,
    /// Whether the cgroup that the container gets can hold these, or why not.
    pub fits: &'a dyn Fn(&Limits) -> Result<()>,
    /// The disk that a path below /dev stands for.
    pub disk: &'a dyn Fn(&Path) -> Result<Disk>,
}

/// Decides for a container that is started.
pub fn decide(resources: &Resources, around: &Surroundings<'_>) -> Result<Decision> {
    let resources = resources.that_limit();
    if resources.is_empty() {
        return Ok(Decision::default());
    }
    resources.check()?;
    check_machine(&resources, around.machine)?;
    let wanted = resources.limits(around.disk)?;
    let limits = match resources.mode {
        Mode::Strict => (around.fits)(&wanted).map(|()| wanted.clone())?,
        Mode::BestEffort => most(&wanted, around.fits),
    };
    let held = limits.entries();
    let mut decision = Decision { limits, ..Decision::default() };
    for entry in wanted.entries() {
        // What nobody asked for goes with what it follows from.
        if wanted.is_implied(&entry.file) {
            continue;
        }
        let (by, effective) = match held.contains(&entry) {
            true => (Holder::Cgroup, Some(entry.value.clone())),
            false => decision.substitute(&entry, &wanted, around.machine),
        };
        let limit = option(&resources, &entry).to_owned();
        decision.enforced.push(Enforced { limit, file: entry.file, asked: entry.value, by, effective });
    }
    Ok(decision)
}

impl Decision {
    /// Holds one limit without a cgroup, if that can be.
    fn substitute(&mut self, entry: &Entry, wanted: &Limits, machine: &Machine) -> (Holder, Option<String>) {
        let bound = |bound: Option<crate::sandbox::cgroup::limits::Bound>| bound.and_then(|bound| bound.number());
        match entry.file.as_str() {
            "cpuset.cpus" => {
                self.substitutes.processors = machine::numbers(&entry.value);
                (Holder::Affinity, Some(entry.value.clone()))
            }
            "memory.max" => {
                self.substitutes.memory_bytes = bound(wanted.memory_max);
                (Holder::Watch, Some(entry.value.clone()))
            }
            "pids.max" if machine.counts_by_namespace => {
                // A hard limit of the caller's cannot be exceeded, and holds anyway.
                self.processes = bound(wanted.pids_max).map(|processes| processes.min(machine.processes_max));
                (Holder::Rlimit, self.processes.map(|processes| processes.to_string()))
            }
            _ => (Holder::Nobody, None),
        }
    }
}

/// As many of `wanted` as fit, controller by controller: of several that do not
/// go together, those whose lack is felt most come first.
pub fn most(wanted: &Limits, fits: &dyn Fn(&Limits) -> Result<()>) -> Limits {
    const ORDER: [Controller; 8] = [
        Controller::Memory,
        Controller::Pids,
        Controller::Cpu,
        Controller::Cpuset,
        Controller::Io,
        Controller::Hugetlb,
        Controller::Misc,
        Controller::Rdma,
    ];
    if fits(wanted).is_ok() {
        return wanted.clone();
    }
    let mut wanted = wanted.clone();
    for file in OPTIONAL {
        let (off, rest) = wanted.split_off(file);
        if fits(&off).is_err() {
            wanted = rest;
        }
    }
    let needed = wanted.controllers();
    let mut held = BTreeSet::new();
    for controller in ORDER.into_iter().filter(|controller| needed.contains(controller)) {
        held.insert(controller);
        if fits(&wanted.only(&held)).is_err() {
            held.remove(&controller);
        }
    }
    wanted.only(&held)
}

/// What the machine lacks altogether is refused whoever is to hold it, as by
/// docker (moby daemon/daemon_unix.go).
pub fn check_machine(resources: &Resources, machine: &Machine) -> Result<()> {
    let processors = machine::numbers(&machine.processors);
    let count = processors.len() as u64;
    if count > 0 && resources.nano_cpus.is_some_and(|nano| nano > count * 1_000_000_000) {
        let cause = format!("range of CPUs is from 0.01 to {count}.00, as there are only {count} CPUs available");
        return Err(Failure::usage(cause)).doing(|| "use --cpus");
    }
    let available = |flag: &str, what: &str, list: &Option<String>, all: &str| {
        let known = machine::numbers(all);
        let asked = machine::numbers(list.as_deref().unwrap_or_default());
        match known.is_empty() || asked.iter().all(|number| known.contains(number)) {
            true => Ok(()),
            false => {
                let list = list.as_deref().unwrap_or_default();
                let cause = format!("requested {what} are not available - requested {list}, available: {all}");
                Err(Failure::usage(cause)).doing(|| format!("use {flag}"))
            }
        }
    };
    available("--cpuset-cpus", "CPUs", &resources.cpuset_cpus, &machine.processors)?;
    available("--cpuset-mems", "memory nodes", &resources.cpuset_mems, &machine.nodes)
}

/// The option as it was typed, where several write the same file.
fn option<'a>(resources: &Resources, entry: &'a Entry) -> &'a str {
    match entry.flag {
        "--cpus" if resources.nano_cpus.is_none() && resources.cpu_quota_us.is_none() => "--cpu-period",
        "--cpus" if resources.nano_cpus.is_none() => "--cpu-quota",
        "--cpu-weight" if resources.cpu_shares.is_some() => "--cpu-shares",
        flag => flag,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::cgroup::limits::Bound;

    fn machine() -> Machine {
        let lists = ("0-3".to_owned(), "0".to_owned());
        Machine { processors: lists.0, nodes: lists.1, processes_max: 1000, counts_by_namespace: true }
    }

    fn all() -> Resources {
        Resources {
            memory: Some(Bound::At(64 << 20)),
            nano_cpus: Some(500_000_000),
            cpu_shares: Some(2),
            cpuset_cpus: Some("0-1".to_owned()),
            pids: Some(Bound::At(5000)),
            mode: Mode::BestEffort,
            ..Resources::default()
        }
    }

    fn decided(resources: &Resources, controllers: &[&str]) -> Result<Decision> {
        let controllers: Vec<String> = controllers.iter().map(|name| (*name).to_owned()).collect();
        let fits = |limits: &Limits| match limits.missing(&controllers).first() {
            None => Ok(()),
            Some(entry) => Err(Failure::host(format!("{} cannot hold", entry.flag))),
        };
        let disk = |_: &Path| Ok(Disk { major: 8, minor: 0 });
        decide(resources, &Surroundings { machine: &machine(), fits: &fits, disk: &disk })
    }

    fn lines(decision: &Decision) -> Vec<String> {
        let line = |one: &Enforced| format!("{} {:?} {}", one.limit, one.by, one.effective.as_deref().unwrap_or("-"));
        decision.enforced.iter().map(line).collect()
    }

    #[test]
    fn strict_is_all_or_nothing() {
        let strict = Resources { mode: Mode::Strict, ..all() };
        assert_eq!(decided(&strict, &["memory"]).unwrap_err().to_string(), "--cpus cannot hold");
        let decision = decided(&strict, &["cpu", "cpuset", "memory", "pids"]).unwrap();
        assert_eq!(decision.limits.files().len(), 6);
        assert!(decision.substitutes.is_empty() && decision.processes.is_none());
        assert!(decision.enforced.iter().all(|one| one.by == Holder::Cgroup && one.notice().is_none()));
    }

    #[test]
    fn best_effort_holds_what_can_be_held() {
        let decision = decided(&all(), &["cpu"]).unwrap();
        assert_eq!(
            lines(&decision),
            [
                "--cpus Cgroup 50000 100000",
                "--cpu-shares Cgroup 1",
                "--cpuset-cpus Affinity 0-1",
                "--memory Watch 67108864",
                "--pids-limit Rlimit 1000",
            ]
        );
        assert_eq!(decision.substitutes, Substitutes { processors: vec![0, 1], memory_bytes: Some(64 << 20) });
        assert_eq!((decision.processes, decision.limits.files().len()), (Some(1000), 2));
        let none = decided(&all(), &[]).unwrap();
        assert!(none.limits.is_empty());
        assert_eq!(
            none.enforced[0].notice().unwrap(),
            "--cpus 50000 100000 is not held: it needs a cgroup with cpu.max"
        );
        assert!(decided(&all(), &["cpu", "cpuset", "memory", "pids"]).unwrap().substitutes.is_empty());
    }

    #[test]
    fn an_old_kernel_counts_all_processes_of_a_user() {
        let fits = |_: &Limits| Err(Failure::host("no"));
        let machine = Machine { counts_by_namespace: false, ..machine() };
        let around = Surroundings { machine: &machine, fits: &fits, disk: &|_| Err(Failure::host("no")) };
        let decision = decide(&all(), &around).unwrap();
        assert!(lines(&decision).contains(&"--pids-limit Nobody -".to_owned()));
        assert_eq!(decision.processes, None);
    }

    #[test]
    fn what_the_machine_lacks_is_refused_in_any_case() {
        for (resources, cause) in [
            (Resources { nano_cpus: Some(4_000_000_001), ..all() }, "range of CPUs is from 0.01 to 4.00"),
            (Resources { cpuset_cpus: Some("0,4".to_owned()), ..all() }, "requested 0,4, available: 0-3"),
            (Resources { cpuset_mems: Some("1".to_owned()), ..all() }, "requested 1, available: 0"),
        ] {
            let said = decided(&resources, &["cpu", "cpuset", "memory", "pids"]).unwrap_err().to_string();
            assert!(said.contains(cause), "{said}");
        }
        assert!(decided(&Resources { nano_cpus: Some(4_000_000_000), ..all() }, &[]).is_ok());
    }

    #[test]
    fn no_limits_need_nothing() {
        let unlimited = Resources { memory: Some(Bound::MAX), nano_cpus: Some(0), ..Resources::default() };
        assert_eq!(decided(&unlimited, &[]).unwrap(), Decision::default());
    }
}
