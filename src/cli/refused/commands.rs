//! Commands of docker and podman that kelp has not.

use super::Refused;

const fn row(names: &'static [&'static str], reason: &'static str, instead: &'static str) -> Refused {
    Refused { verbs: &[], names, reason, instead }
}

/// All of them.
pub(super) const COMMANDS: &[Refused] = &[
    row(
        &["build", "image build", "buildx", "builder", "bake"],
        "it cannot build images from a Dockerfile yet",
        "kelp commit makes an image of a container, kelp import one of a root file system; kelp load takes what other \
         builders make",
    ),
    row(
        &["compose"],
        "there are no networks between containers yet that a compose file would want",
        "kelp run starts its services one by one; --network container:NAME shares a network",
    ),
    row(
        &[
            "network create",
            "network connect",
            "network disconnect",
            "network rm",
            "network prune",
            "network reload",
            "network update",
            "network exists",
        ],
        "there is one network for each user, and networks of one's own making are not there yet",
        "kelp run --network container:NAME shares another container's",
    ),
    row(
        &["pod", "kube", "play", "generate kube"],
        "containers are not grouped in pods",
        "kelp run --network container:NAME --pid container:NAME --ipc container:NAME joins another one",
    ),
    row(
        &["swarm", "service", "stack", "node", "secret", "config"],
        "it looks after one machine, not after a cluster",
        "",
    ),
    row(
        &[
            "context",
            "machine",
            "farm",
            "system connection",
            "system service",
            "system dial-stdio",
            "system migrate",
            "system renumber",
        ],
        "there is no daemon and no virtual machine: every command does its work itself, here",
        "",
    ),
    row(&["plugin", "volume reload"], "there are no plugins: it is one file", ""),
    row(
        &["auto-update", "generate spec", "quadlet"],
        "services are looked after by systemd",
        "kelp generate systemd --new writes a unit that makes its container anew",
    ),
    row(
        &["trust", "image trust", "image sign"],
        "it checks digests, not signatures",
        "name an image by its digest: kelp pull NAME@sha256:DIGEST",
    ),
    row(
        &["checkpoint", "container checkpoint", "container restore"],
        "a running program cannot be written to disk and read back",
        "kelp pause stops it for a while",
    ),
    row(
        &["mount", "container mount", "umount", "unmount", "container unmount", "container umount"],
        "an ordinary user's mounts are seen by the programs that made them alone",
        "kelp cp and kelp export read a container's files; kelp image mount runs a command among an image's",
    ),
    row(
        &["volume mount", "volume unmount", "volume umount"],
        "a volume is a directory already",
        "kelp volume inspect -f '{{.Mountpoint}}' NAME says which",
    ),
    row(
        &["unshare"],
        "there is no namespace to be in outside of containers",
        "kelp run -it --rm --rootfs / sh is a disposable view of this machine; kelp image mount looks into an image",
    ),
    row(
        &["init", "container init", "container cleanup"],
        "a container's mounts are made when it starts and go when it ends",
        "kelp create makes a container, kelp start starts it",
    ),
    row(
        &["container clone"],
        "a container is not copied",
        "kelp commit makes an image of it, from which kelp run starts as many as are wanted",
    ),
    row(&["container runlabel"], "a label of an image is never executed", "kelp image inspect shows labels"),
    row(&["image scp"], "images are not sent through ssh", "kelp save NAME | ssh HOST kelp load does it"),
    row(&["artifact", "model"], "a registry is asked for images only", ""),
    row(
        &["system reset"],
        "nothing removes everything at once",
        "kelp system prune --all --volumes removes all that nobody needs",
    ),
    row(
        &["manifest exists"],
        "there is no such question",
        "kelp manifest inspect NAME ends with 1 where there is no such list",
    ),
    row(
        &["manifest remove"],
        "an image is not taken out of a list",
        "kelp manifest create --amend makes the list anew",
    ),
];
