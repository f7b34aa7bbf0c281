//! `--change` of import and commit: Dockerfile instructions that change an
//! image's config and nothing else (Dockerfile reference; docker's
//! `validCommitCommands`).
//!
//! Written as in a Dockerfile, or `INSTRUCTION=VALUE` as podman also takes it.

use super::words;
use super::{Healthcheck, ImageConfig, RunConfig};
use crate::error::{Context, Failure, Result};
use crate::image::quote::quoted;

/// The PATH of a container whose image has none (docker's and runc's).
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What a wrong instruction is compared with.
const INSTRUCTIONS: [&str; 12] = [
    "CMD",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "HEALTHCHECK",
    "LABEL",
    "ONBUILD",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

/// Applies instructions in their order. The config is checked as one that is
/// read: what is kept can be used.
///
/// An ENTRYPOINT takes the arguments away that the image's own CMD had for the
/// former one, unless a CMD is among the changes (docker's rule).
pub fn apply(config: &mut ImageConfig, changes: &[String]) -> Result<()> {
    let mut has_cmd = false;
    for change in changes {
        let (instruction, rest) = parse(change).doing(|| format!("apply change {}", quoted(change)))?;
        has_cmd |= instruction == "CMD";
        one(&mut config.config, instruction, rest).doing(|| format!("apply change {}", quoted(change)))?;
        if instruction == "ENTRYPOINT" && !has_cmd {
            config.config.cmd.clear();
        }
    }
    config.check().map_err(|failure| failure.kind(crate::error::Kind::Usage))
}

/// The instruction, in capitals, and what follows it.
fn parse(change: &str) -> Result<(&'static str, &str)> {
    let change = change.trim();
    let end = change.find(|letter: char| letter.is_whitespace() || letter == '=').unwrap_or(change.len());
    let (word, rest) = change.split_at(end);
    let upper = word.to_ascii_uppercase();
    let Some(instruction) = INSTRUCTIONS.into_iter().find(|name| *name == upper) else {
        return Err(Failure::usage(format!("instruction {} cannot be used here", quoted(word)))
            .did_you_mean(&upper, INSTRUCTIONS)
            .hint(format!("these can: {}", INSTRUCTIONS.join(", "))));
    };
    let rest = rest.strip_prefix('=').unwrap_or(rest).trim();
    if rest.is_empty() {
        return Err(Failure::usage(format!("{instruction} has no arguments")));
    }
    Ok((instruction, rest))
}

fn one(run: &mut RunConfig, instruction: &str, rest: &str) -> Result<()> {
    let environment = run.env.clone();
    let variable = |name: &str| {
        let mut entries = environment.iter().filter_map(|entry| entry.split_once('='));
        let set = entries.find(|(other, _)| *other == name).map(|(_, value)| value);
        // What a container without a PATH gets, so that PATH=$PATH:/x adds to it.
        set.or((name == "PATH").then_some(DEFAULT_PATH)).map(str::to_owned)
    };
    let expand = |text: &str| words::expand(text, &variable);
    match instruction {
        "CMD" => run.cmd = command(&run.shell, rest)?,
        "ENTRYPOINT" => run.entrypoint = command(&run.shell, rest)?,
        "SHELL" => run.shell = list(rest).ok_or_else(|| Failure::usage("SHELL wants a list: [\"sh\", \"-c\"]"))?,
        "USER" => run.user = expand(rest)?,
        "WORKDIR" => run.working_dir = directory(&run.working_dir, &expand(rest)?),
        "STOPSIGNAL" => run.stop_signal = Some(signal(&expand(rest)?)?),
        "EXPOSE" => {
            for word in words::split(rest)? {
                run.exposed_ports.extend(ports(&expand(&word)?)?);
            }
        }
        "VOLUME" => {
            for path in list(rest).map_or_else(|| words::split(rest), Ok)? {
                run.volumes.insert(volume(&expand(&path)?)?);
            }
        }
        "ENV" => {
            for (name, value) in pairs(rest)? {
                set(&mut run.env, &expand(&name)?, &expand(&value)?);
            }
        }
        "LABEL" => {
            for (name, value) in pairs(rest)? {
                run.labels.insert(expand(&name)?, expand(&value)?);
            }
        }
        "HEALTHCHECK" => run.healthcheck = Some(healthcheck(&run.shell, rest)?),
        "ONBUILD" => run.on_build.push(trigger(rest)?),
        other => return Err(Failure::bug(format!("instruction {other} without an action"))),
    }
    Ok(())
}

/// A JSON list of texts; `None` if it is none.
fn list(text: &str) -> Option<Vec<String>> {
    serde_json::from_str(text).ok()
}

/// The exec form, a JSON list, or the shell form.
fn command(shell: &[String], text: &str) -> Result<Vec<String>> {
    if let Some(words) = list(text) {
        return Ok(words);
    }
    // docker takes a list that is no JSON for a line of the shell, and the
    // program is not found when it is run.
    if text.starts_with('[') && text.ends_with(']') {
        return Err(
            Failure::usage("the list is not valid JSON").hint("words stand between double quotes: [\"sh\", \"-c\"]")
        );
    }
    let shell = if shell.is_empty() { vec!["/bin/sh".to_owned(), "-c".to_owned()] } else { shell.to_vec() };
    Ok(shell.into_iter().chain([text.to_owned()]).collect())
}

/// `path`, from `current` if it is relative, without dots.
fn directory(current: &str, path: &str) -> String {
    let whole = if path.starts_with('/') { path.to_owned() } else { format!("{current}/{path}") };
    let mut parts: Vec<&str> = Vec::new();
    for part in whole.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// As written, if there is such a signal.
fn signal(text: &str) -> Result<String> {
    use nix::sys::signal::Signal;
    let upper = text.to_ascii_uppercase();
    let name = if upper.starts_with("SIG") { upper } else { format!("SIG{upper}") };
    let is_known = match text.parse::<i32>() {
        Ok(number) => (1..=libc::SIGRTMAX()).contains(&number),
        // Real-time signals are named from either end: SIGRTMIN+3 stops systemd.
        Err(_) => name.parse::<Signal>().is_ok() || name.starts_with("SIGRTMIN") || name.starts_with("SIGRTMAX"),
    };
    if is_known {
        return Ok(text.to_owned());
    }
    Err(Failure::usage(format!("there is no signal {}", quoted(text)))
        .did_you_mean(&name, Signal::iterator().map(Signal::as_str)))
}

/// `80`, `53/udp`, `8000-8009/tcp`, each port with its protocol.
fn ports(text: &str) -> Result<Vec<String>> {
    let wrong = || Failure::usage(format!("{} is not PORT[-PORT][/tcp|udp|sctp]", quoted(text)));
    let (range, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = protocol.to_ascii_lowercase();
    if !["tcp", "udp", "sctp"].contains(&protocol.as_str()) {
        return Err(wrong());
    }
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    let port = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0).ok_or_else(wrong);
    let (first, last) = (port(first)?, port(last)?);
    if first > last {
        return Err(wrong());
    }
    Ok((first..=last).map(|port| format!("{port}/{protocol}")).collect())
}

fn volume(path: &str) -> Result<String> {
    if path.starts_with('/') {
        return Ok(path.to_owned());
    }
    Err(Failure::usage(format!("the volume {} is not an absolute path", quoted(path))))
}

/// `name=value ...`, or the old form `name value`; not expanded yet.
fn pairs(text: &str) -> Result<Vec<(String, String)>> {
    let words = words::split(text)?;
    if let Some(first) = words.first().filter(|first| !first.contains('=')) {
        let value = text.get(first.len()..).map(str::trim).filter(|value| !value.is_empty());
        let value = value.ok_or_else(|| Failure::usage("a value is missing"))?;
        return Ok(vec![(first.clone(), value.to_owned())]);
    }
    let pair = |word: &String| match word.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(Failure::usage(format!("{} is not name=value", quoted(word)))),
    };
    words.iter().map(pair).collect()
}

fn set(environment: &mut Vec<String>, name: &str, value: &str) {
    let entry = format!("{name}={value}");
    let is_of_name = |other: &&mut String| other.split_once('=').is_some_and(|(other, _)| other == name);
    match environment.iter_mut().find(is_of_name) {
        Some(place) => *place = entry,
        None => environment.push(entry),
    }
}

/// `NONE`, or `[--interval=T] ... CMD command`.
fn healthcheck(shell: &[String], text: &str) -> Result<Healthcheck> {
    let mut check = Healthcheck::default();
    let mut rest = text;
    while let Some(flag) = rest.strip_prefix("--") {
        let (flag, after) = flag.split_once(char::is_whitespace).unwrap_or((flag, ""));
        let (name, value) = flag.split_once('=').unwrap_or((flag, ""));
        match name {
            "interval" => check.interval = nanoseconds(value)?,
            "timeout" => check.timeout = nanoseconds(value)?,
            "start-period" => check.start_period = nanoseconds(value)?,
            "start-interval" => check.start_interval = nanoseconds(value)?,
            "retries" => {
                let count = value.parse().ok().filter(|count: &i64| *count > 0);
                check.retries = count.ok_or_else(|| Failure::usage("--retries wants a number above 0"))?;
            }
            other => {
                let known = ["interval", "timeout", "start-period", "start-interval", "retries"];
                return Err(Failure::usage(format!("HEALTHCHECK has no option {}", quoted(&format!("--{other}"))))
                    .did_you_mean(other, known));
            }
        }
        rest = after.trim_start();
    }
    let (kind, command) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    let command = command.trim();
    check.test = match kind.to_ascii_uppercase().as_str() {
        "NONE" if command.is_empty() && rest.len() == text.len() => vec!["NONE".to_owned()],
        "CMD" if !command.is_empty() => match list(command) {
            Some(words) => std::iter::once("CMD".to_owned()).chain(words).collect(),
            None if shell.is_empty() => vec!["CMD-SHELL".to_owned(), command.to_owned()],
            None => [&["CMD".to_owned()], shell, &[command.to_owned()]].concat(),
        },
        _ => return Err(Failure::usage("HEALTHCHECK wants NONE, or options and CMD with a command")),
    };
    Ok(check)
}

/// A time as Go writes it: `1m30s`, `500ms`.
fn nanoseconds(text: &str) -> Result<i64> {
    let wrong = || Failure::usage(format!("{} is not a time such as 30s or 1m30s", quoted(text)));
    let time: jiff::SignedDuration = text.parse().map_err(|_| wrong())?;
    // Docker's least time is a millisecond.
    i64::try_from(time.as_nanos()).ok().filter(|time| *time >= 1_000_000).ok_or_else(wrong)
}

/// An instruction for a later build, kept as it is written.
fn trigger(text: &str) -> Result<String> {
    let word = text.split(char::is_whitespace).next().unwrap_or_default();
    match word.to_ascii_uppercase().as_str() {
        "ONBUILD" | "FROM" | "MAINTAINER" => Err(Failure::usage(format!("{} cannot follow ONBUILD", quoted(word)))),
        _ => Ok(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image() -> ImageConfig {
        let mut config = ImageConfig::default();
        config.rootfs.kind = "layers".to_owned();
        config
    }

    fn changed(config: &mut ImageConfig, changes: &[&str]) -> Result<()> {
        apply(config, &changes.iter().map(|change| (*change).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn changes_read_like_a_dockerfile() {
        let mut config = image();
        changed(&mut config, &["ENV PATH=$PATH:/x"]).unwrap();
        assert_eq!(config.config.env, [format!("PATH={DEFAULT_PATH}:/x")]);
        config.config.env = vec!["PATH=/bin".to_owned(), "A=0".to_owned()];
        let changes = [
            "CMD [\"sh\", \"-l\"]",
            "entrypoint echo hi",
            "ENV A=1 B=\"two words\" PATH=$PATH:/x C=$A",
            "ENV D three  more",
            "ENV=E=podman",
            "EXPOSE 80 53/udp 8000-8001",
            "LABEL x=y \"a b\"='c d'",
            "USER  me ",
            "VOLUME [\"/a\", \"/b\"]",
            "VOLUME /c /d",
            "WORKDIR /srv/./x/..",
            "WORKDIR www",
            "STOPSIGNAL SIGINT",
            "HEALTHCHECK --interval=1m30s --retries=2 CMD curl -f x",
            "ONBUILD RUN make",
        ];
        changed(&mut config, &changes).unwrap();
        let run = &config.config;
        assert_eq!(run.cmd, ["sh", "-l"]);
        assert_eq!(run.entrypoint, ["/bin/sh", "-c", "echo hi"]);
        assert_eq!(run.env, ["PATH=/bin:/x", "A=1", "B=two words", "C=0", "D=three  more", "E=podman"]);
        let exposed: Vec<&String> = run.exposed_ports.iter().collect();
        assert_eq!(exposed, ["53/udp", "80/tcp", "8000/tcp", "8001/tcp"]);
        assert_eq!(run.labels["a b"], "c d");
        assert_eq!((&*run.user, &*run.working_dir, run.volumes.len()), ("me", "/srv/www", 4));
        let check = run.healthcheck.as_ref().unwrap();
        assert_eq!((check.interval, check.retries), (90_000_000_000, 2));
        assert_eq!(check.test, ["CMD-SHELL", "curl -f x"]);
        assert_eq!(run.on_build, ["RUN make"]);
    }

    #[test]
    fn an_entrypoint_drops_the_former_ones_arguments() {
        let mut config = image();
        config.config.cmd = vec!["old".to_owned()];
        changed(&mut config, &["ENTRYPOINT [\"x\"]"]).unwrap();
        assert!(config.config.cmd.is_empty());
        changed(&mut config, &["CMD [\"a\"]", "ENTRYPOINT [\"x\"]"]).unwrap();
        assert_eq!(config.config.cmd, ["a"]);
        changed(&mut config, &["SHELL [\"/bin/bash\", \"-c\"]", "CMD echo $HOME"]).unwrap();
        assert_eq!(config.config.cmd, ["/bin/bash", "-c", "echo $HOME"]);
        changed(&mut config, &["HEALTHCHECK NONE"]).unwrap();
        assert_eq!(config.config.healthcheck.unwrap().test, ["NONE"]);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let fails = |change: &str| changed(&mut image(), &[change]).unwrap_err();
        assert!(fails("RUN x").hints[0].starts_with("these can: CMD, "));
        assert_eq!(fails("ENTRPOINT x").hints[0], "did you mean \"ENTRYPOINT\"?");
        for change in [
            "",
            "CMD",
            "CMD=",
            "COPY a b",
            "ENV A",
            "ENV =1",
            "ENV A=it's",
            "LABEL 'x",
            "CMD [x]",
            "SHELL sh",
            "EXPOSE 0",
            "EXPOSE 80/icmp",
            "EXPOSE 9-8",
            "EXPOSE x",
            "VOLUME data",
            "STOPSIGNAL SIGNO",
            "STOPSIGNAL 65",
            "HEALTHCHECK CMD",
            "HEALTHCHECK --interval=x CMD a",
            "HEALTHCHECK --every=1s CMD a",
            "HEALTHCHECK --retries=0 CMD a",
            "HEALTHCHECK --retries=1 NONE",
            "ONBUILD FROM x",
        ] {
            assert_eq!(fails(change).kind, crate::error::Kind::Usage, "{change}");
        }
    }
}
