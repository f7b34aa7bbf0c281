//! The verbs, as a table: `--help` lists them in this order.

use clap::{ArgMatches, Args, Command, FromArgMatches};

use super::manifest::{
    add as manifest_add, annotate as manifest_annotate, create as manifest_create, inspect as manifest_inspect,
    ls as manifest_ls, push as manifest_push, rm as manifest_rm,
};
use super::network::{inspect as network_inspect, ls as network_ls};
use super::volume::{
    create as volume_create, exists as volume_exists, export as volume_export, import as volume_import,
    inspect as volume_inspect, ls as volume_ls, prune as volume_prune, rm as volume_rm,
};
use super::{
    Session, attach, base_command, check, commit, completion, container_exists, container_inspect, container_prune, cp,
    create, df, diff, events, exec, exists, export, generate_systemd, healthcheck_run, history, image_inspect,
    image_mount, image_prune, image_tree, image_unmount, image_verify, images, import, info, inspect, kill, load,
    login, logout, logs, man, ns, pause, port, ps, pull, push, rename, restart, rm, rmi, run, save, search, start,
    stats, stop, system_prune, tag, top, unpause, untag, update, version, wait,
};
use crate::error::{EXIT_OWN_FAILURE, Failure, Result};

/// What `run` ends with where its program did not.
pub(super) const OWN_FAILURE: u8 = EXIT_OWN_FAILURE as u8;

/// One verb.
pub(super) struct Verb {
    /// As typed.
    pub(super) name: &'static str,
    about: &'static str,
    augment: fn(Command) -> Command,
    pub(super) run: fn(&ArgMatches, &Session) -> Result<i32>,
    /// Exit status for failures; of a command line that makes no sense it is
    /// [`OWN_FAILURE`] for every verb.
    pub(super) failure_status: u8,
}

/// Ties a verb's arguments and function together.
macro_rules! verb {
    ($name:literal, $about:literal, $module:ident) => {
        verb!($name, $about, $module, 1)
    };
    ($name:literal, $about:literal, $module:ident, $failure:expr) => {
        Verb {
            name: $name,
            about: $about,
            augment: <$module::Arguments as Args>::augment_args,
            run: |matches, session| $module::run(parsed(matches)?, session),
            failure_status: $failure,
        }
    };
}

/// Groups of verbs: `kelp GROUP VERB`.
const GROUPS: &[(&str, &str)] = &[
    ("container", "Work with containers"),
    ("generate", "Write files for other programs"),
    ("healthcheck", "Ask containers whether they are well"),
    ("image", "Work with images"),
    ("manifest", "Make lists of images for several platforms"),
    ("network", "Look at the networks that containers are in"),
    ("volume", "Work with directories that outlive containers"),
    ("system", "Look after what kelp keeps"),
];

/// Other names of verbs in groups: docker's and podman's. The name is that of
/// the table.
const ALIASES: &[(&str, &str)] = &[
    ("container list", "container ls"),
    ("container remove", "container rm"),
    ("image list", "image ls"),
    ("image remove", "image rm"),
    ("image umount", "image unmount"),
    ("network list", "network ls"),
    ("volume list", "volume ls"),
    ("volume remove", "volume rm"),
];

/// All of them. A name of two words is that of a group and a verb in it.
pub(super) const ALL: &[Verb] = &[
    verb!("run", "Run a command in a new container", run, OWN_FAILURE),
    verb!("create", "Make a container and start nothing", create),
    verb!("start", "Start containers that were made before", start),
    verb!("stop", "Ask containers to end, and see to it", stop),
    verb!("restart", "End containers and start them again", restart),
    verb!("kill", "Send containers a signal", kill),
    verb!("pause", "Stop all processes of containers", pause),
    verb!("unpause", "Let paused containers go on", unpause),
    verb!("wait", "Wait until containers have ended", wait),
    verb!("attach", "Stay with a running container", attach),
    verb!("exec", "Run a command in a container that runs", exec),
    verb!("rename", "Call a container otherwise", rename),
    verb!("update", "Change what may change of containers", update),
    verb!("ps", "List containers", ps),
    verb!("logs", "Print what containers said", logs),
    verb!("rm", "Remove containers", rm),
    verb!("stats", "Show what containers use", stats),
    verb!("port", "List the published ports of a container", port),
    verb!("top", "List the processes of a container", top),
    verb!("cp", "Copy files between this machine and containers", cp),
    verb!("events", "Show what happens to containers, images and volumes", events),
    verb!("ns", "List the namespaces of running containers", ns),
    verb!("pull", "Fetch an image from a registry", pull),
    verb!("push", "Send an image to a registry", push),
    verb!("search", "Find images in registries", search),
    verb!("login", "Log in to a registry", login),
    verb!("logout", "Log out of a registry", logout),
    verb!("load", "Load images from an archive", load),
    verb!("save", "Save images to an archive", save),
    verb!("import", "Make an image of a root file system", import),
    verb!("commit", "Make an image of a container", commit),
    verb!("export", "Write all files of a container to a tar", export),
    verb!("diff", "List what a container or an image changed", diff),
    verb!("images", "List images", images),
    verb!("history", "Show how an image came to be", history),
    verb!("tag", "Give an image more names", tag),
    verb!("untag", "Take names from an image, which stays", untag),
    verb!("rmi", "Remove images", rmi),
    verb!("inspect", "Print all about containers, images and volumes as JSON", inspect),
    verb!("container run", "Run a command in a new container", run, OWN_FAILURE),
    verb!("container create", "Make a container and start nothing", create),
    verb!("container start", "Start containers that were made before", start),
    verb!("container stop", "Ask containers to end, and see to it", stop),
    verb!("container restart", "End containers and start them again", restart),
    verb!("container kill", "Send containers a signal", kill),
    verb!("container pause", "Stop all processes of containers", pause),
    verb!("container unpause", "Let paused containers go on", unpause),
    verb!("container wait", "Wait until containers have ended", wait),
    verb!("container attach", "Stay with a running container", attach),
    verb!("container exec", "Run a command in a container that runs", exec),
    verb!("container rename", "Call a container otherwise", rename),
    verb!("container update", "Change what may change of containers", update),
    verb!("container ls", "List containers", ps),
    verb!("container ps", "List containers", ps),
    verb!("container stats", "Show what containers use", stats),
    verb!("container port", "List the published ports of a container", port),
    verb!("container top", "List the processes of a container", top),
    verb!("container logs", "Print what containers said", logs),
    verb!("container rm", "Remove containers", rm),
    verb!("container cp", "Copy files between this machine and containers", cp),
    verb!("container inspect", "Print all about containers as JSON", container_inspect),
    verb!("container exists", "Tell by the exit status whether a container is there", container_exists, OWN_FAILURE),
    verb!("container prune", "Remove all containers that do not run", container_prune),
    verb!("container diff", "List what a container changed", diff),
    verb!("container commit", "Make an image of a container", commit),
    verb!("container export", "Write all files of a container to a tar", export),
    verb!("generate systemd", "Write a unit of systemd for a container", generate_systemd),
    verb!("healthcheck run", "Ask a container now whether it is well", healthcheck_run, OWN_FAILURE),
    verb!("image ls", "List images", images),
    verb!("image search", "Find images in registries", search),
    verb!("image inspect", "Print all about images as JSON", image_inspect),
    verb!("image history", "Show how an image came to be", history),
    verb!("image tree", "Show layers and the images that share them", image_tree),
    verb!("image exists", "Tell by the exit status whether an image is here", exists, OWN_FAILURE),
    verb!("image pull", "Fetch an image from a registry", pull),
    verb!("image push", "Send an image to a registry", push),
    verb!("image load", "Load images from an archive", load),
    verb!("image save", "Save images to an archive", save),
    verb!("image import", "Make an image of a root file system", import),
    verb!("image tag", "Give an image more names", tag),
    verb!("image untag", "Take names from an image, which stays", untag),
    verb!("image diff", "List what an image changed", diff),
    verb!("image rm", "Remove images", rmi),
    verb!("image prune", "Remove images that nobody needs", image_prune),
    verb!("image verify", "Verify images by their digests, and repair them", image_verify),
    verb!("image mount", "Run a command of this machine among an image's files", image_mount, OWN_FAILURE),
    verb!("image unmount", "Say why there is nothing to unmount", image_unmount, OWN_FAILURE),
    verb!("manifest create", "Make a list of images for several platforms", manifest_create),
    verb!("manifest add", "Add an image to a list", manifest_add),
    verb!("manifest annotate", "Change what a list says of an image", manifest_annotate),
    verb!("manifest ls", "Show the lists", manifest_ls),
    verb!("manifest inspect", "Print the document that a name stands for", manifest_inspect),
    verb!("manifest push", "Send a list and its images to a registry", manifest_push),
    verb!("manifest rm", "Remove lists", manifest_rm),
    verb!("network ls", "List networks", network_ls),
    verb!("network inspect", "Print all about networks as JSON", network_inspect),
    verb!("volume create", "Make a volume", volume_create),
    verb!("volume ls", "List volumes", volume_ls),
    verb!("volume inspect", "Print all about volumes as JSON", volume_inspect),
    verb!("volume rm", "Remove volumes", volume_rm),
    verb!("volume prune", "Remove volumes that no container uses", volume_prune),
    verb!("volume exists", "Tell by the exit status whether a volume is there", volume_exists, OWN_FAILURE),
    verb!("volume export", "Write all files of a volume to a tar", volume_export),
    verb!("volume import", "Put files of a tar into an empty volume", volume_import),
    verb!("system df", "Show what everything takes on disk", df),
    verb!("system prune", "Remove all that nobody needs", system_prune),
    verb!("system info", "Show what kelp and its host are like", info),
    verb!("system events", "Show what happens to containers, images and volumes", events),
    verb!("system check", "Verify all that kelp keeps, and repair it", check),
    verb!("info", "Show what kelp and its host are like", info),
    verb!("version", "Print the version", version),
    verb!("man", "Write the manual pages to a directory", man),
    verb!("completion", "Print a shell's completion script", completion),
];

/// The verb called `name`, of one word or two.
pub(super) fn find(name: &str) -> Option<&'static Verb> {
    let name = ALIASES.iter().find(|(alias, _)| *alias == name).map_or(name, |(_, name)| name);
    ALL.iter().find(|verb| verb.name == name)
}

/// Whether `name` is that of a group.
pub(super) fn is_group(name: &str) -> bool {
    GROUPS.iter().any(|(group, _)| *group == name)
}

/// All groups.
pub(super) fn group_names() -> impl Iterator<Item = &'static str> {
    GROUPS.iter().map(|(name, _)| *name)
}

/// The verbs of one group in one tree.
pub(super) fn group(name: &str) -> Command {
    let (name, about) = GROUPS.iter().find(|(group, _)| *group == name).unwrap_or(&("", ""));
    let own = ALL.iter().filter_map(|verb| Some((verb, verb.name.strip_prefix(name)?.strip_prefix(' ')?)));
    own.fold(base_command(name, about).bin_name(format!("kelp {name}")), |group, (verb, short)| {
        let aliases = ALIASES.iter().filter(|(_, of)| *of == verb.name).filter_map(|(alias, _)| alias.split_once(' '));
        group.subcommand(verb.described(short).visible_aliases(aliases.map(|(_, alias)| alias)))
    })
}

impl Verb {
    /// The command line of this verb alone.
    pub(super) fn command(&self) -> Command {
        self.described(self.name).bin_name(format!("kelp {}", self.name))
    }

    /// The doc comment of the arguments, which clap takes for help, is for
    /// readers of the code: what the verb does is said last.
    fn described(&self, name: &'static str) -> Command {
        (self.augment)(base_command(name, self.about)).about(self.about).long_about(None)
    }
}

/// All verbs in one tree.
pub(super) fn tree() -> Command {
    let tree = base_command("kelp", "Rootless containers in one binary")
        .arg(clap::arg!(-D --debug "Print what each step of a start costs"))
        .arg(
            clap::Arg::new("image-store")
                .long("image-store")
                .value_name("ro:DIRECTORY")
                .help("Look for images in this OCI layout as well, before those of the settings; none: in no other")
                .action(clap::ArgAction::Append),
        )
        .arg(clap::arg!(-V --version "Print the version"));
    let tree = ALL
        .iter()
        .filter(|verb| !verb.name.contains(' '))
        .fold(tree, |tree, verb| tree.subcommand(verb.described(verb.name)));
    GROUPS.iter().fold(tree, |tree, (name, _)| tree.subcommand(group(name)))
}

fn parsed<T: FromArgMatches>(matches: &ArgMatches) -> Result<T> {
    T::from_arg_matches(matches).map_err(|error| Failure::usage(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aliases_are_of_verbs_and_are_none() {
        for (alias, name) in ALIASES {
            assert_eq!(find(alias).map(|verb| verb.name), Some(*name), "{alias}");
            assert!(ALL.iter().all(|verb| verb.name != *alias), "{alias}");
        }
        assert!(group("volume").find_subcommand("list").is_some());
    }
}
