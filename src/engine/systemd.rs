//! A unit of the user's systemd for a container (`kelp generate systemd`).
//!
//! The unit's main process is a command that stays with the container: what
//! the program writes goes to the journal, its exit status is the service's,
//! and the container's own processes are in the service's cgroup. Nothing has
//! to be guessed from a pid file, and no daemon is asked.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use super::{command_line, start};
use crate::container::record::Record;
use crate::container::restart::RestartPolicy;
use crate::container::{signals, store};
use crate::error::{Context, Failure, Kind, Result};
use crate::limits;
use crate::paths::Paths;

/// What is wanted of a unit.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Call the container by its name, not by its id.
    pub by_name: bool,
    /// Make a new container at each start, and remove it at the end.
    pub new: bool,
    /// `Restart=`; `None` is the container's own policy, else `on-failure`.
    pub restart: Option<String>,
    /// Seconds that a stop waits; `None` is the container's own.
    pub stop_timeout_s: Option<i64>,
    /// What the unit's name begins with.
    pub prefix: String,
    /// What stands between that and the container.
    pub separator: String,
    /// kelp's own program, absolute.
    pub program: PathBuf,
    /// Variables that say where kelp keeps things, as they are here.
    pub environment: Vec<(String, String)>,
}

/// A unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    /// `container-NAME.service`.
    pub file_name: String,
    /// The whole text.
    pub text: String,
}

/// What `Restart=` takes (systemd.service(5)).
pub const RESTARTS: &[&str] = &["no", "on-success", "on-failure", "on-abnormal", "on-watchdog", "on-abort", "always"];

/// How much longer than a stop's own patience systemd waits before it kills:
/// what podman's units have.
const STOP_MARGIN_S: i64 = 60;

/// The unit of the container called `name`.
pub fn unit(paths: &Paths, name: &str, wanted: &Wanted) -> Result<Unit> {
    let container = store::find(paths, name)?;
    let doing = || format!("write a unit for container \"{name}\"");
    let command = match wanted.new {
        true => Some(command_line::words(&start::stored(&container).doing(doing)?.request).doing(doing)?),
        false if container.record.auto_remove => {
            let failure = Failure::user("it is removed when it ends");
            return Err(failure.hint("--new makes a new one at each start")).doing(doing);
        }
        false => None,
    };
    of(&container.record, command.as_deref(), &paths.data, wanted).doing(doing)
}

/// The unit of a container with this record; `command` makes another such.
fn of(record: &Record, command: Option<&[String]>, data: &Path, wanted: &Wanted) -> Result<Unit> {
    let called = if wanted.by_name { &record.name } else { &record.id };
    let name = [wanted.prefix.as_str(), called].iter().filter(|part| !part.is_empty()).copied().collect::<Vec<_>>();
    let name = name.join(&wanted.separator);
    check_unit_name(&name)?;
    let program = program(&wanted.program)?;
    // A new container has the old one's name, but not its id.
    let target = if command.is_some() { &record.name } else { called };
    let timeout_s = wanted.stop_timeout_s.or(record.stop_timeout_s).unwrap_or(limits::STOP_TIMEOUT_S);
    let run = |words: &[&str]| words.iter().fold(program.clone(), |line, word| line + " " + &argument(word));
    let mut text = String::new();
    let mut line = |key: &str, value: &str| writeln!(text, "{key}={value}").map_err(|_| Failure::bug("no text"));
    line("[Unit]\nDescription", &format!("kelp container {called}"))?;
    line("Documentation", "man:kelp-generate-systemd(1)")?;
    if let Some(data) = data.to_str().filter(|data| is_plain(data)) {
        line("RequiresMountsFor", data)?;
    }
    line("\n[Service]\nType", "exec")?;
    for (variable, value) in &wanted.environment {
        line("Environment", &quoted(&format!("{variable}={value}").replace('%', "%%"), true))?;
    }
    line("Restart", wanted.restart.as_deref().unwrap_or(restart_of(record.restart)))?;
    let patience = if timeout_s < 0 { "infinity".to_owned() } else { (timeout_s + STOP_MARGIN_S).to_string() };
    line("TimeoutStopSec", &patience)?;
    match command {
        Some(command) => {
            line("ExecStartPre", &run(&["rm", "--force", "--ignore", target]))?;
            let own = format!("--name={target}");
            let words: Vec<&str> =
                ["run", "--rm", &own].into_iter().chain(command.iter().map(String::as_str)).collect();
            line("ExecStart", &run(&words))?;
        }
        None => line("ExecStart", &run(&["start", "--attach", target]))?,
    }
    line("ExecStop", &run(&["stop", "--ignore", "--time", &timeout_s.to_string(), target]))?;
    // A program that ends when it is asked to has not failed.
    let signal = record.stop_signal.as_deref().and_then(signals::number).unwrap_or(libc::SIGTERM);
    line("SuccessExitStatus", &(128 + signal).to_string())?;
    // Only the command is asked: it passes the signal on.
    line("KillMode", "mixed")?;
    line("Delegate", "yes")?;
    line("\n[Install]\nWantedBy", "default.target")?;
    let version = env!("CARGO_PKG_VERSION");
    let header = format!("# {name}.service\n# Written by kelp {version}: kelp generate systemd\n\n");
    Ok(Unit { file_name: format!("{name}.service"), text: header + &text })
}

fn restart_of(policy: RestartPolicy) -> &'static str {
    match policy {
        RestartPolicy::Always | RestartPolicy::UnlessStopped => "always",
        // Podman's default for a unit, too: who wants a service wants it back.
        RestartPolicy::OnFailure { .. } | RestartPolicy::No => "on-failure",
    }
}

/// The legal characters of a unit's name (systemd.unit(5)), but for those that
/// make a template or an escape of it.
fn check_unit_name(name: &str) -> Result<()> {
    // With ".service" (UNIT_NAME_MAX of systemd, 256 with the zero byte).
    const BYTES_MAX: usize = 255 - ".service".len();
    let is_legal = |byte: u8| byte.is_ascii_alphanumeric() || b":-_.".contains(&byte);
    if (1..=BYTES_MAX).contains(&name.len()) && name.bytes().all(is_legal) {
        return Ok(());
    }
    let cause =
        format!("\"{}\" is no name of a unit: letters, digits, \":\", \"-\", \"_\" and \".\"", name.escape_debug());
    Err(Failure::new(Kind::Usage, cause))
}

/// The first word: specifiers count there, variables do not.
fn program(path: &Path) -> Result<String> {
    let text = path.to_str().ok_or_else(|| Failure::user(format!("\"{}\" is not UTF-8", path.display())))?;
    Ok(quoted(&text.replace('%', "%%"), false))
}

/// One word of a command line (systemd.service(5), "Command lines").
fn argument(word: &str) -> String {
    quoted(&word.replace('%', "%%").replace('$', "$$"), false)
}

/// What needs no quotes in any place.
fn is_plain(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-./:=,@+".contains(&byte))
}

/// In double quotes with C's escapes, where it has to be or `always`.
fn quoted(text: &str, always: bool) -> String {
    if !always && !text.is_empty() && text.bytes().all(is_plain_in_word) {
        return text.to_owned();
    }
    let mut quoted = String::from("\"");
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            // U+0080 to U+009F are two bytes, and legal in a unit.
            character if character.is_ascii_control() => quoted.push_str(&format!("\\x{:02x}", u32::from(character))),
            character => quoted.push(character),
        }
    }
    quoted + "\""
}

/// "%%" and "$$" have done their part before.
fn is_plain_in_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"_-./:=,@+%$".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        let mut record = Record::new("ab".repeat(32), "web".to_owned());
        record.stop_signal = Some("SIGINT".to_owned());
        record
    }

    fn wanted() -> Wanted {
        Wanted {
            by_name: true,
            new: false,
            restart: None,
            stop_timeout_s: None,
            prefix: "container".to_owned(),
            separator: "-".to_owned(),
            program: "/usr/local/bin/kelp".into(),
            environment: Vec::new(),
        }
    }

    fn lines(unit: &Unit, key: &str) -> Vec<String> {
        let values = unit.text.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        values.map(str::to_owned).collect()
    }

    #[test]
    fn a_unit_starts_attaches_and_stops() {
        let unit = of(&record(), None, Path::new("/home/u/.local/share/kelp"), &wanted()).unwrap();
        assert_eq!(unit.file_name, "container-web.service");
        let expected = "\
# container-web.service
# Written by kelp VERSION: kelp generate systemd

[Unit]
Description=kelp container web
Documentation=man:kelp-generate-systemd(1)
RequiresMountsFor=/home/u/.local/share/kelp

[Service]
Type=exec
Restart=on-failure
TimeoutStopSec=70
ExecStart=/usr/local/bin/kelp start --attach web
ExecStop=/usr/local/bin/kelp stop --ignore --time 10 web
SuccessExitStatus=130
KillMode=mixed
Delegate=yes

[Install]
WantedBy=default.target
";
        assert_eq!(unit.text, expected.replace("VERSION", env!("CARGO_PKG_VERSION")));
    }

    #[test]
    fn a_new_container_takes_the_place_of_the_old_one() {
        let command = ["--env=A=$HOME 100%", "image", "sh", "-c", "echo \"a;b\"\n;"].map(str::to_owned);
        let wanted = Wanted { by_name: false, new: true, stop_timeout_s: Some(-1), ..wanted() };
        let unit = of(&record(), Some(&command), Path::new("/data dir"), &wanted).unwrap();
        assert_eq!(unit.file_name, format!("container-{}.service", "ab".repeat(32)));
        assert_eq!(lines(&unit, "ExecStartPre"), ["/usr/local/bin/kelp rm --force --ignore web"]);
        assert_eq!(
            lines(&unit, "ExecStart"),
            [r#"/usr/local/bin/kelp run --rm --name=web "--env=A=$$HOME 100%%" image sh -c "echo \"a;b\"\n;""#]
        );
        assert_eq!(lines(&unit, "ExecStop"), ["/usr/local/bin/kelp stop --ignore --time -1 web"]);
        assert_eq!(lines(&unit, "TimeoutStopSec"), ["infinity"]);
        assert!(lines(&unit, "RequiresMountsFor").is_empty());
    }

    #[test]
    fn restart_is_what_is_asked_for_then_the_containers_own() {
        let check = |policy, asked: Option<&str>, expected: &str| {
            let record = Record { restart: policy, ..record() };
            let wanted = Wanted { restart: asked.map(str::to_owned), ..wanted() };
            let unit = of(&record, None, Path::new("/d"), &wanted).unwrap();
            assert_eq!(lines(&unit, "Restart"), [expected]);
        };
        check(RestartPolicy::No, None, "on-failure");
        check(RestartPolicy::UnlessStopped, None, "always");
        check(RestartPolicy::Always, Some("no"), "no");
    }

    #[test]
    fn names_of_units_are_checked() {
        let of = |prefix: &str, separator: &str| {
            let wanted = Wanted { prefix: prefix.to_owned(), separator: separator.to_owned(), ..wanted() };
            of(&record(), None, Path::new("/d"), &wanted).map(|unit| unit.file_name).ok()
        };
        assert_eq!(of("", "-").as_deref(), Some("web.service"));
        assert_eq!(of("pod", "_").as_deref(), Some("pod_web.service"));
        assert_eq!(of("a", "/../"), None);
        assert_eq!(of("a", "@"), None);
        assert_eq!(of(&"x".repeat(250), "-"), None);
    }

    #[test]
    fn words_are_quoted_as_systemd_reads_them() {
        for (word, expected) in [
            ("plain-1.2:/x=y", "plain-1.2:/x=y"),
            ("", "\"\""),
            ("a b", "\"a b\""),
            ("$A%b", "$$A%%b"),
            (";", "\";\""),
            ("it's", "\"it's\""),
            ("\\n\"\u{1b}é", r#""\\n\"\x1bé""#),
            ("~*", "\"~*\""),
        ] {
            assert_eq!(argument(word), expected, "{word}");
        }
        let environment = vec![("KELP_DATA".to_owned(), "/a $b%".to_owned())];
        let unit = of(&record(), None, Path::new("/d"), &Wanted { environment, ..wanted() }).unwrap();
        assert_eq!(lines(&unit, "Environment"), ["\"KELP_DATA=/a $b%%\""]);
        assert_eq!(program(Path::new("/opt/$x %/kelp")).unwrap(), "\"/opt/$x %%/kelp\"");
    }
}
