//! A scope of the user's systemd, asked for over D-Bus
//! (org.freedesktop.systemd1(5), systemd.scope(5)): a cgroup that is delegated
//! to the user with the processes in it that are named. It lives as long as
//! they do; nobody has to remove it.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use zbus::Variant;

use super::placement::Placement;
use super::shares::Shares;
use super::{Limits, own};
use crate::error::{Failure, Result};
use crate::host::bus::{self, Bus, Call, Message, SYSTEMD};
use crate::limits as bounds;

/// How many names are tried: the last supervisor of a container lingers in the
/// scope of its earlier run.
const NAMES: u32 = 8;

/// What became of the scope that the placement names.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scoped {
    /// None was asked for.
    #[default]
    Unasked,
    /// The supervisor is in the one of this name.
    Made(String),
    /// There is none, and this is why.
    Refused(String),
}

const START: Call<'_> = Call {
    destination: SYSTEMD,
    path: "/org/freedesktop/systemd1",
    interface: "org.freedesktop.systemd1.Manager",
    member: "StartTransientUnit",
};
const SET: Call<'_> = Call { member: "SetUnitProperties", ..START };
const SIGNALS: &str = "type='signal',sender='org.freedesktop.systemd1',path='/org/freedesktop/systemd1',\
                       interface='org.freedesktop.systemd1.Manager',member='JobRemoved'";
const EXISTS: &str = "org.freedesktop.systemd1.UnitExists";

/// Has the process `pid`, which is to be the supervisor of the container `id`,
/// put into a scope, if the placement names one; systemd is told which of the
/// `limits` are the scope's. A bus that fails or hangs is no failure here: what
/// is to be done without a scope is the supervisor's.
pub fn make(placement: &Placement, limits: &Limits, id: &str, name: &str, pid: i32) -> Scoped {
    let Some(scope) = &placement.scope else { return Scoped::Unasked };
    let patience = match placement.is_required {
        true => bounds::SCOPE_PATIENCE_REQUIRED_MS,
        false => bounds::SCOPE_PATIENCE_MS,
    };
    let deadline = Instant::now() + Duration::from_millis(patience);
    let made = Shares::of(limits).and_then(|shares| {
        let (socket, slice) = (scope.socket.clone(), scope.slice.clone());
        Asked { socket, slice, shares, name: name.to_owned(), pid }.make(id, deadline)
    });
    match made {
        Ok(unit) => Scoped::Made(unit),
        Err(failure) => Scoped::Refused(failure.to_string()),
    }
}

/// Tells the systemd at `socket` that the scope which `cgroup`, the container
/// `id`'s, is in has other shares now: for as long as it is there. It writes them
/// into the scope's cgroup itself.
pub fn tell(socket: &Path, cgroup: &Path, id: &str, shares: &Shares) -> Result<()> {
    let Some(unit) = own::scope_of(cgroup, id) else { return Ok(()) };
    let deadline = Instant::now() + Duration::from_millis(bounds::SCOPE_PATIENCE_REQUIRED_MS);
    let mut bus = Bus::connect(socket)?;
    let call = bus.call(&SET, &(unit, true, shares.properties()))?;
    bus.send(deadline)?;
    loop {
        match bus.next(deadline)? {
            Message::Reply(answered, _) if answered == call => return Ok(()),
            Message::Refused(_, name, said) => return Err(refused(name, said)),
            Message::Reply(..) | Message::Signal(..) => {}
        }
    }
}

/// Whether `cgroup`, the container `id`'s, is in a scope of systemd's.
pub fn is_in_one(cgroup: &Path, id: &str) -> bool {
    own::scope_of(cgroup, id).is_some()
}

struct Asked {
    socket: PathBuf,
    slice: String,
    shares: Shares,
    name: String,
    pid: i32,
}

impl Asked {
    /// Returns the name that it got.
    fn make(&self, id: &str, deadline: Instant) -> Result<String> {
        let mut bus = Bus::connect(&self.socket)?;
        if bus::is_shared(&self.socket) {
            bus.call(&Call { member: "AddMatch", ..bus::BUS }, &(SIGNALS))?;
        }
        for number in 1..=NAMES {
            let unit = own::scope_name(id, number);
            let call = self.start(&mut bus, &unit)?;
            bus.send(deadline)?;
            if wait(&mut bus, call, &unit, deadline)? {
                return Ok(unit);
            }
        }
        Err(Failure::host("all names for it are taken"))
    }

    fn start(&self, bus: &mut Bus, unit: &str) -> Result<u32> {
        let pids = u32::try_from(self.pid).map(|pid| vec![pid]).unwrap_or_default();
        let mut properties: Vec<(&str, Variant<'_>)> = vec![
            ("Description", Variant::from(format!("kelp container {}", self.name))),
            ("Slice", Variant::from(self.slice.as_str())),
            ("PIDs", Variant::from(pids)),
            ("Delegate", Variant::from(true)),
            // The container's own limit is the one that counts.
            ("TasksMax", Variant::from(u64::MAX)),
            ("CollectMode", Variant::from("inactive-or-failed")),
        ];
        properties.extend(self.shares.properties());
        let more: Vec<(&str, Vec<(&str, Variant<'_>)>)> = Vec::new();
        bus.call(&START, &(unit, "fail", properties, more))
    }
}

fn refused(name: String, said: String) -> Failure {
    Failure::host(if said.is_empty() { name } else { said })
}

/// Waits until the job is done; false where there is a unit of this name.
fn wait(bus: &mut Bus, call: u32, unit: &str, deadline: Instant) -> Result<bool> {
    loop {
        match bus.next(deadline)? {
            Message::Refused(answered, name, _) if answered == call && name == EXISTS => return Ok(false),
            Message::Refused(_, name, said) => return Err(refused(name, said)),
            Message::Signal(_, Some((of, result))) if of == unit => {
                return match result.as_str() {
                    "done" => Ok(true),
                    result => Err(Failure::host(format!("systemd's job for {unit} ended with \"{result}\""))),
                };
            }
            Message::Reply(..) | Message::Signal(..) => {}
        }
    }
}
