//! A scope of the user's systemd, asked for over D-Bus
//! (org.freedesktop.systemd1(5), systemd.scope(5)): a cgroup that is delegated
//! to the user with the processes in it that are named. It lives as long as
//! they do; nobody has to remove it.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use zbus::Variant;

use super::own;
use super::placement::Placement;
use crate::error::{Failure, Result};
use crate::host::bus::{self, Bus, Call, Message, SYSTEMD};
use crate::limits;

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
const SIGNALS: &str = "type='signal',sender='org.freedesktop.systemd1',path='/org/freedesktop/systemd1',\
                       interface='org.freedesktop.systemd1.Manager',member='JobRemoved'";
const EXISTS: &str = "org.freedesktop.systemd1.UnitExists";

/// Has the process `pid`, which is to be the supervisor of the container `id`,
/// put into a scope, if the placement names one. A bus that fails or hangs is
/// no failure here: what is to be done without a scope is the supervisor's.
pub fn make(placement: &Placement, id: &str, name: &str, pid: i32) -> Scoped {
    let Some(scope) = &placement.scope else { return Scoped::Unasked };
    let patience = match placement.is_required {
        true => limits::SCOPE_PATIENCE_REQUIRED_MS,
        false => limits::SCOPE_PATIENCE_MS,
    };
    let deadline = Instant::now() + Duration::from_millis(patience);
    let asked = Asked { socket: scope.socket.clone(), slice: scope.slice.clone(), name: name.to_owned(), pid };
    match asked.make(id, deadline) {
        Ok(unit) => Scoped::Made(unit),
        Err(failure) => Scoped::Refused(failure.to_string()),
    }
}

struct Asked {
    socket: PathBuf,
    slice: String,
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
        let properties: Vec<(&str, Variant<'_>)> = vec![
            ("Description", Variant::from(format!("kelp container {}", self.name))),
            ("Slice", Variant::from(self.slice.as_str())),
            ("PIDs", Variant::from(pids)),
            ("Delegate", Variant::from(true)),
            // The container's own limit is the one that counts.
            ("TasksMax", Variant::from(u64::MAX)),
            ("CollectMode", Variant::from("inactive-or-failed")),
        ];
        let more: Vec<(&str, Vec<(&str, Variant<'_>)>)> = Vec::new();
        bus.call(&START, &(unit, "fail", properties, more))
    }
}

/// Waits until the job is done; false where there is a unit of this name.
fn wait(bus: &mut Bus, call: u32, unit: &str, deadline: Instant) -> Result<bool> {
    loop {
        match bus.next(deadline)? {
            Message::Refused(answered, name, _) if answered == call && name == EXISTS => return Ok(false),
            Message::Refused(_, name, said) => {
                return Err(Failure::host(if said.is_empty() { name } else { said }));
            }
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
