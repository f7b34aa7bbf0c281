//! What the user's systemd says of a unit that kelp is in.

use std::path::Path;
use std::time::{Duration, Instant};

use super::bus::{Bus, Call, Message, SYSTEMD};
use crate::error::{Failure, Result};
use crate::limits;

/// Whether the unit `name` of the systemd at `socket` delegates its cgroup
/// (systemd.resource-control(5), `Delegate=`); an error where that cannot be
/// told.
pub(super) fn delegates(socket: &Path, name: &str) -> Result<bool> {
    let kind = match name.rsplit_once('.') {
        Some((_, "service")) => "Service",
        Some((_, "scope")) => "Scope",
        _ => return Ok(false),
    };
    let path = format!("/org/freedesktop/systemd1/unit/{}", label(name));
    let call = Call { destination: SYSTEMD, path: &path, interface: "org.freedesktop.DBus.Properties", member: "Get" };
    let deadline = Instant::now() + Duration::from_millis(limits::SCOPE_PATIENCE_MS);
    let mut bus = Bus::connect(socket)?;
    let number = bus.call(&call, &(format!("{SYSTEMD}.{kind}"), "Delegate"))?;
    bus.send(deadline)?;
    loop {
        match bus.next(deadline)? {
            Message::Reply(answered, Some(is_so)) if answered == number => return Ok(is_so),
            Message::Refused(_, name, said) => {
                return Err(Failure::host(if said.is_empty() { name } else { said }));
            }
            Message::Reply(..) | Message::Signal(..) => {}
        }
    }
}

/// The name as part of an object's path (sd_bus_path_encode(3)).
fn label(name: &str) -> String {
    let escape = |(index, byte): (usize, u8)| match byte {
        b'a'..=b'z' | b'A'..=b'Z' => char::from(byte).to_string(),
        b'0'..=b'9' if index > 0 => char::from(byte).to_string(),
        _ => format!("_{byte:02x}"),
    };
    name.bytes().enumerate().map(escape).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_parts_of_paths() {
        assert_eq!(label("kelp-web.service"), "kelp_2dweb_2eservice");
        assert_eq!(label("1a_b.scope"), "_31a_5fb_2escope");
    }
}
