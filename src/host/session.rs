//! Whether the end of the user's session would take a container along, where
//! systemd-logind looks after sessions.
//!
//! It is found without asking logind: what decides are the cgroup that its
//! supervisor is in, a file that stands for lingering, and logind's settings
//! (loginctl(1), logind.conf(5), sd_booted(3)). Where that does not say it for
//! sure, nothing is said.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::limits;

/// What makes lingering a fact: logind writes it, everybody can see it.
const LINGERING: &str = "/var/lib/systemd/linger";

/// Where the user's own directory for sockets is, which goes with the last session.
const RUNTIME: &str = "/run/user";

/// Where logind's settings are, the first before the others.
const SETTINGS: [&str; 4] = ["/etc/systemd", "/run/systemd", "/usr/local/lib/systemd", "/usr/lib/systemd"];

/// Where in systemd's tree of cgroups a process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// In a login session's scope.
    Session,
    /// Below the user's own systemd, which ends with the last session.
    Manager,
    /// In a service of the system's, for example.
    Elsewhere,
}

/// One line for who starts a container that is to go on; `run` is kelp's
/// runtime directory, `cgroups` the text of /proc/PID/cgroup of its supervisor.
/// `None` where nothing is known to be in its way.
pub fn warning(run: &Path, cgroups: &str) -> Option<String> {
    if !Path::new("/run/systemd/system").is_dir() {
        return None;
    }
    let place = place(cgroups);
    if place == Place::Elsewhere {
        return None;
    }
    let uid = nix::unistd::getuid();
    let user = name(&read(Path::new(&format!("/run/systemd/users/{uid}")))?)?;
    let lingers = Path::new(LINGERING).join(&user).exists();
    let is_killed = place == Place::Session && Settings::of_this_host().kills(&user);
    let loses_sockets = run.starts_with(Path::new(RUNTIME).join(uid.to_string()));
    sentence(place, lingers, is_killed, loses_sockets).map(str::to_owned)
}

fn sentence(place: Place, lingers: bool, is_killed: bool, loses_sockets: bool) -> Option<&'static str> {
    match place {
        // Lingering keeps the user's systemd, not what is in a session's scope.
        Place::Session if is_killed => Some(
            "it ends with this session (KillUserProcesses of logind is on); \
             after loginctl enable-linger, systemd-run --user --scope kelp ... lets it go on",
        ),
        Place::Session if !lingers && loses_sockets => Some(
            "after your last session it goes on, but its sockets in XDG_RUNTIME_DIR are deleted and kelp will not \
             reach it (lingering is off); loginctl enable-linger keeps them",
        ),
        Place::Manager if !lingers => {
            Some("it ends with your last session (lingering is off); loginctl enable-linger lets it go on")
        }
        _ => None,
    }
}

/// `text` is /proc/PID/cgroup. The systemd tree is v2's, or a named v1 hierarchy.
fn place(text: &str) -> Place {
    let of_systemd = |line: &&str| matches!(line.split(':').nth(1), Some("" | "name=systemd"));
    for path in text.lines().filter(of_systemd).filter_map(|line| line.splitn(3, ':').nth(2)) {
        for part in path.split('/') {
            if part.starts_with("user@") && part.ends_with(".service") {
                return Place::Manager;
            }
            if part.starts_with("session-") && part.ends_with(".scope") {
                return Place::Session;
            }
        }
    }
    Place::Elsewhere
}

/// The user's name in logind's own record of the user.
fn name(text: &str) -> Option<String> {
    let name = text.lines().find_map(|line| line.strip_prefix("NAME="))?;
    (!name.is_empty() && !name.contains('/')).then(|| name.to_owned())
}

fn read(path: &Path) -> Option<String> {
    String::from_utf8(limits::read_file(path, limits::USER_FILE_BYTES_MAX).ok()?).ok()
}

/// What logind is told about the ends of sessions.
#[derive(Debug, Default, PartialEq, Eq)]
struct Settings {
    kills: bool,
    only: Vec<String>,
    /// `None` is only root.
    except: Option<Vec<String>>,
}

impl Settings {
    fn of_this_host() -> Self {
        let mut settings = Self::default();
        let main = SETTINGS.iter().find_map(|directory| read(&Path::new(directory).join("logind.conf")));
        settings.take(&main.unwrap_or_default());
        // Of two drop-ins of one name, the first directory's counts.
        let mut drop_ins = BTreeMap::<_, PathBuf>::new();
        for directory in SETTINGS {
            let entries = fs::read_dir(Path::new(directory).join("logind.conf.d")).into_iter().flatten().flatten();
            for entry in entries.filter(|entry| entry.path().extension().is_some_and(|kind| kind == "conf")) {
                drop_ins.entry(entry.file_name()).or_insert_with(|| entry.path());
            }
        }
        drop_ins.values().filter_map(|path| read(path)).for_each(|text| settings.take(&text));
        settings
    }

    /// Takes one file over what others said. A setting that is commented out
    /// says what this systemd was built with.
    fn take(&mut self, text: &str) {
        let words = |value: &str| value.split_ascii_whitespace().map(str::to_owned).collect::<Vec<_>>();
        for line in text.lines() {
            let Some((key, value)) = line.split_once('=') else { continue };
            match (key.trim(), value.trim()) {
                ("KillUserProcesses" | "#KillUserProcesses", value) => {
                    self.kills = matches!(value.to_ascii_lowercase().as_str(), "1" | "yes" | "y" | "true" | "t" | "on");
                }
                ("KillOnlyUsers", value) => self.only = words(value),
                ("KillExcludeUsers", value) => self.except = Some(words(value)),
                _ => {}
            }
        }
    }

    fn kills(&self, user: &str) -> bool {
        let is_in = |list: &[String]| list.iter().any(|name| name == user);
        let is_excepted = self.except.as_ref().map_or(user == "root", |except| is_in(except));
        !is_excepted && if self.only.is_empty() { self.kills } else { is_in(&self.only) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_found_in_all_kinds_of_trees() {
        for (text, expected) in [
            ("0::/user.slice/user-1000.slice/session-3.scope\n", Place::Session),
            ("0::/user.slice/user-1000.slice/user@1000.service/app.slice/run-1.scope\n", Place::Manager),
            ("3:cpu:/x\n1:name=systemd:/user.slice/user-1000.slice/session-c2.scope\n0::/\n", Place::Session),
            ("0::/system.slice/cron.service\n", Place::Elsewhere),
            ("2:cpu:/session-1.scope\n0::/\n", Place::Elsewhere),
            ("", Place::Elsewhere),
        ] {
            assert_eq!(place(text), expected, "{text}");
        }
    }

    #[test]
    fn warns_only_where_something_ends() {
        let check = |place, lingers, is_killed, loses_sockets, start: Option<&str>| {
            let said = sentence(place, lingers, is_killed, loses_sockets);
            assert_eq!(said.map(|said| said.starts_with(start.unwrap_or("?"))), start.map(|_| true), "{said:?}");
        };
        check(Place::Elsewhere, false, false, true, None);
        check(Place::Manager, true, false, true, None);
        check(Place::Manager, false, false, false, Some("it ends with your last session"));
        check(Place::Session, true, false, true, None);
        check(Place::Session, true, true, true, Some("it ends with this session"));
        check(Place::Session, false, false, true, Some("after your last session it goes on"));
        check(Place::Session, false, false, false, None);
    }

    #[test]
    fn logind_is_understood() {
        let of = |texts: &[&str]| {
            let mut settings = Settings::default();
            texts.iter().for_each(|text| settings.take(text));
            settings
        };
        assert!(!of(&["[Login]\n#KillUserProcesses=no\n"]).kills("ann"));
        assert!(of(&["[Login]\n#KillUserProcesses=yes\n"]).kills("ann"));
        assert!(!of(&["#KillUserProcesses=yes\nKillUserProcesses=no\n"]).kills("ann"));
        assert!(of(&["KillUserProcesses=no\n", "KillUserProcesses = true\n"]).kills("ann"));
        assert!(!of(&["KillUserProcesses=yes\n"]).kills("root"));
        assert!(of(&["KillUserProcesses=yes\nKillExcludeUsers=\n"]).kills("root"));
        assert!(!of(&["KillUserProcesses=yes\nKillExcludeUsers=ann bob\n"]).kills("bob"));
        assert!(of(&["KillOnlyUsers=ann\n"]).kills("ann"));
        assert!(!of(&["KillUserProcesses=yes\nKillOnlyUsers=ann\n"]).kills("bob"));
        assert_eq!(name("UID=1\nNAME=ann\n").as_deref(), Some("ann"));
        assert_eq!(name("NAME=../x\n"), None);
    }
}
