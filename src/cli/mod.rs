//! The command line: one file a verb. Each parses its own arguments, calls one
//! engine function and prints what that returns.
//!
//! Dispatch is by hand: the first word picks the verb and only that verb's
//! arguments are built (0.08 ms; a tree of all verbs costs 0.9 ms a call, and
//! starting a container is a matter of milliseconds). The whole tree is built
//! for help, completions and man pages alone.
//!
//! Architecture invariant: nothing here decides about containers or images.

pub mod output;
pub mod tour;

mod attach;
mod check;
mod commit;
mod completion;
mod container_exists;
mod container_inspect;
mod container_prune;
mod cp;
mod create;
mod df;
mod diff;
mod events;
mod exec;
mod exists;
mod export;
mod format;
mod generate_systemd;
mod healthcheck_run;
mod history;
mod image_inspect;
mod image_mount;
mod image_prune;
mod image_tree;
mod image_unmount;
mod image_verify;
mod images;
mod import;
mod info;
mod inspect;
mod kill;
mod load;
mod login;
mod logout;
mod logs;
mod man;
mod manifest;
mod network;
mod ns;
mod openmetrics;
mod pause;
mod port;
mod progress;
mod prompt;
mod ps;
mod pull;
mod push;
mod refused;
mod registry;
mod rename;
mod request;
mod resources;
mod restart;
mod rm;
mod rmi;
mod run;
mod save;
mod search;
mod start;
mod stats;
mod stop;
mod switches;
mod system_prune;
mod tag;
#[doc(hidden)]
pub mod template;
mod top;
mod units;
mod unpause;
mod untag;
mod update;
mod usage;
mod verbs;
mod version;
mod volume;
mod wait;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{ArgMatches, Command};

use crate::error::{Context, Failure, Kind, Result};
use crate::paths::{self, ImageStore, Paths};
use crate::settings::Settings;
use verbs::{OWN_FAILURE, Verb};

/// What every verb is given.
pub struct Session {
    /// The user's directories.
    pub paths: Paths,
    /// Print what each step of a start costs (`--debug`).
    pub debug: bool,
}

/// Options before the verb.
#[derive(Default)]
struct Global {
    debug: bool,
    /// `--image-store`, as typed.
    image_stores: Vec<String>,
}

/// Verbs about kelp itself: they look at nothing of the user's, whose
/// directories may be missing or closed.
const WITHOUT_DIRECTORIES: &[&str] = &["completion", "man", "version"];

/// Verbs that look at no image, and so at no settings.
const WITHOUT_SETTINGS: &[&str] = &[
    "attach",
    "container cp",
    "container exec",
    "container exists",
    "container inspect",
    "container logs",
    "container prune",
    "cp",
    "events",
    "exec",
    "generate systemd",
    "healthcheck run",
    "kill",
    "login",
    "logout",
    "logs",
    "ns",
    "pause",
    "port",
    "ps",
    "rename",
    "rm",
    "stats",
    "stop",
    "top",
    "system events",
    "unpause",
    "update",
    "volume create",
    "volume exists",
    "volume export",
    "volume import",
    "volume inspect",
    "volume ls",
    "volume prune",
    "volume rm",
    "wait",
];

/// The whole command: from arguments to exit status.
pub fn main(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let mut arguments = arguments.peekable();
    let mut global = Global::default();
    while let Some(option) = arguments.next_if(is_global) {
        match option.to_str().and_then(|option| option.split_once('=')) {
            Some((_, store)) => global.image_stores.push(store.to_owned()),
            None if option == "--image-store" => match arguments.next() {
                Some(store) => global.image_stores.push(store.to_string_lossy().into_owned()),
                None => {
                    output::failure(&Failure::usage("--image-store wants ro:DIRECTORY, or none"));
                    return ExitCode::from(OWN_FAILURE);
                }
            },
            None => global.debug = true,
        }
    }
    let Some(first) = arguments.next() else {
        output::help(&verbs::tree().render_help());
        return ExitCode::from(OWN_FAILURE);
    };
    match first.to_str() {
        Some("--version" | "-V") => {
            output::line(concat!("kelp ", env!("CARGO_PKG_VERSION")));
            ExitCode::SUCCESS
        }
        Some("--help" | "-h" | "help") => help(arguments),
        Some(name) if verbs::is_group(name) => run_grouped(name, arguments, &global),
        Some(name) => match verbs::find(name) {
            Some(verb) => run_verb(verb, arguments.collect(), &global),
            None => unknown(name),
        },
        None => unknown(&first.to_string_lossy()),
    }
}

/// Does the same with each of `names`; goes on behind one with which it cannot
/// be done. Returns the exit status.
fn each(names: &[String], mut act: impl FnMut(&str) -> Result<()>) -> i32 {
    let mut code = 0;
    for name in names {
        if let Err(failure) = act(name) {
            output::failure(&failure);
            code = 1;
        }
    }
    code
}

/// The same for something that need not be there.
fn named_if_done(name: &str, result: Result<()>, ignore: bool) -> Result<()> {
    match result {
        Err(failure) if ignore && failure.kind == Kind::NotFound => return Ok(()),
        result => result?,
    }
    output::line(name);
    Ok(())
}

/// Says what would end a container that is to go on behind the command.
fn warn_of_session(session: &Session, name: &str) {
    if let Some(warning) = crate::engine::lifecycle::session_warning(&session.paths, name) {
        output::notice(&warning);
    }
}

fn is_global(argument: &OsString) -> bool {
    let Some(argument) = argument.to_str() else { return false };
    matches!(argument, "--debug" | "-D" | "--image-store") || argument.starts_with("--image-store=")
}

/// `kelp GROUP VERB …`.
fn run_grouped(group: &str, mut arguments: impl Iterator<Item = OsString>, global: &Global) -> ExitCode {
    let Some(word) = arguments.next() else {
        output::help(&verbs::group(group).render_help());
        return ExitCode::from(OWN_FAILURE);
    };
    match word.to_string_lossy().as_ref() {
        "--help" | "-h" => help(std::iter::once(group.into())),
        "help" => help(std::iter::once(group.into()).chain(arguments)),
        word => {
            let name = format!("{group} {word}");
            match verbs::find(&name) {
                Some(verb) => run_verb(verb, arguments.collect(), global),
                None => unknown(&name),
            }
        }
    }
}

/// Help about the verb or group that `words` name, or about everything.
fn help(words: impl Iterator<Item = OsString>) -> ExitCode {
    let words: Vec<String> = words.take(2).map(|word| word.to_string_lossy().into_owned()).collect();
    let verb = verbs::find(&words.join(" ")).or_else(|| verbs::find(words.first()?));
    match (verb, words.first()) {
        (Some(verb), _) => output::help(&verb.command().render_long_help()),
        (None, Some(group)) if verbs::is_group(group) => output::help(&verbs::group(group).render_help()),
        (None, _) => output::help(&verbs::tree().render_help()),
    }
    ExitCode::SUCCESS
}

fn unknown(name: &str) -> ExitCode {
    let failure = refused::command(name).unwrap_or_else(|| {
        let groups = verbs::group_names().filter(|_| !name.contains(' '));
        Failure::usage(format!("no command \"{name}\""))
            .did_you_mean(name, verbs::ALL.iter().map(|verb| verb.name).chain(groups))
            .hint(match name.split_once(' ') {
                Some((group, _)) => format!("kelp {group} --help lists its commands"),
                None => "kelp --help lists the commands".to_owned(),
            })
    });
    output::failure(&failure);
    ExitCode::from(OWN_FAILURE)
}

fn run_verb(verb: &'static Verb, arguments: Vec<OsString>, global: &Global) -> ExitCode {
    let asks_briefly = arguments.iter().all(|word| word != "--help");
    let words = std::iter::once(OsString::from(format!("kelp {}", verb.name))).chain(arguments);
    let matches = match switches::with_values(verb.command()).try_get_matches_from(words) {
        Ok(matches) => matches,
        Err(error) if !error.use_stderr() => {
            // Of the verb as it was declared: values of switches are not worth a word.
            let mut command = verb.command();
            output::help(&if asks_briefly { command.render_help() } else { command.render_long_help() });
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            output::failure(&usage::failure(&error, verb.name));
            return ExitCode::from(OWN_FAILURE);
        }
    };
    match execute(verb, &matches, global) {
        Ok(code) => ExitCode::from(code as u8),
        Err(failure) => {
            output::failure(&failure);
            ExitCode::from(status(verb, failure.kind))
        }
    }
}

fn execute(verb: &Verb, matches: &ArgMatches, global: &Global) -> Result<i32> {
    if WITHOUT_DIRECTORIES.contains(&verb.name) {
        let nowhere = Paths::new(PathBuf::new(), PathBuf::new());
        return (verb.run)(matches, &Session { paths: nowhere, debug: global.debug });
    }
    let mut paths = Paths::of_this_user()?;
    if !WITHOUT_SETTINGS.contains(&verb.name) {
        let settings = Settings::read(&paths::settings_files()?)?;
        paths.keeps_blobs = settings.keep_blobs;
        paths.image_stores = image_stores(global, settings)?;
    }
    (verb.run)(matches, &Session { paths, debug: global.debug })
}

/// The stores of the command line, of the environment and of the settings, in
/// this order; `none` leaves out the latter two.
fn image_stores(global: &Global, settings: Settings) -> Result<Vec<ImageStore>> {
    let typed = global.image_stores.iter().filter(|text| *text != "none");
    let mut stores: Vec<ImageStore> =
        typed.map(|text| ImageStore::parse(text)).collect::<Result<_>>().doing(|| "use --image-store")?;
    if global.image_stores.iter().all(|text| text != "none") {
        stores.extend(paths::image_stores_of_environment()?);
        stores.extend(settings.image_stores);
    }
    let mut seen = BTreeSet::new();
    stores.retain(|store| seen.insert(store.path().to_owned()));
    Ok(stores)
}

/// The exit status of a failure. A command line that makes no sense is 125:
/// docker ends so for a wrong flag of any verb, podman for all that is wrong.
fn status(verb: &Verb, kind: Kind) -> u8 {
    match kind {
        Kind::NotExecutable => 126,
        Kind::NoSuchProgram => 127,
        Kind::Bug => 70,
        Kind::Usage => OWN_FAILURE,
        Kind::User | Kind::NotFound | Kind::Host => verb.failure_status,
    }
}

/// A command with kelp's settings, for one verb or for the tree.
fn base_command(name: &'static str, about: &'static str) -> Command {
    // As docker's: of an option given twice, the last one counts.
    Command::new(name).about(about).disable_version_flag(true).disable_help_subcommand(true).args_override_self(true)
}
