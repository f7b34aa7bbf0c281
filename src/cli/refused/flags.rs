//! Flags of docker and podman that kelp has not.

use super::Refused;

const fn row(
    verbs: &'static [&'static str],
    names: &'static [&'static str],
    reason: &'static str,
    instead: &'static str,
) -> Refused {
    Refused { verbs, names, reason, instead }
}

/// What makes containers.
const MAKE: &[&str] = &["run", "create"];
/// What limits containers.
const LIMIT: &[&str] = &["run", "create", "update"];
/// What acts on containers that are named.
const ACT: &[&str] = &["stop", "restart", "kill", "pause", "unpause", "rm"];
/// What talks to registries.
const REGISTRY: &[&str] =
    &["run", "create", "pull", "push", "search", "login", "manifest create", "manifest add", "manifest push"];

const PERSONS: &str = "it is the host's ids that are mapped, all that you have, in one way for all containers";
const SIGNATURES: &str = "signatures of images are neither made nor checked";

/// All of them.
pub(super) const FLAGS: &[Refused] = &[
    // Networks.
    row(
        MAKE,
        &["--no-hosts", "--hosts-file"],
        "the container's /etc/hosts is written for it",
        "-v FILE:/etc/hosts:ro gives it another one, --add-host adds names",
    ),
    row(
        MAKE,
        &["--mac-address"],
        "a container's device carries IP, not Ethernet, so there is no such address",
        "--ip and --ip6 give it addresses",
    ),
    row(
        MAKE,
        &["--link-local-ip", "--network-alias", "--net-alias", "--link"],
        "containers do not see each other on the one network there is yet",
        "--network container:NAME shares another container's",
    ),
    row(MAKE, &["--domainname"], "a host name is all the name that a container has", "--hostname takes dots"),
    row(
        MAKE,
        &["--http-proxy"],
        "variables for proxies are not taken from here by themselves",
        "-e https_proxy passes one on",
    ),
    // Rights.
    row(
        &["run", "create"],
        &["--privileged"],
        "nothing in a container gets more rights than you have",
        "--cap-add ALL, --security-opt seccomp=unconfined, --security-opt unmask=ALL and --device give what there is",
    ),
    row(
        MAKE,
        &["--gpus"],
        "no vendor's programs are run to set a container up",
        "--device gives access to a device, -v to the files of its driver",
    ),
    row(
        MAKE,
        &["--device-cgroup-rule"],
        "rules for devices are root's to make",
        "--device gives access to a device that you have access to",
    ),
    row(
        MAKE,
        &["--uidmap", "--gidmap", "--subuidname", "--subgidname", "--hostuser"],
        PERSONS,
        "--userns keep-id[:uid=UID,gid=GID] says who in the container is you",
    ),
    row(
        MAKE,
        &["--passwd", "--passwd-entry", "--group-entry", "--chrootdirs"],
        "files of the image are left as they are",
        "-v FILE:/etc/passwd:ro puts another one in their place",
    ),
    row(
        MAKE,
        &["--seccomp-policy"],
        "an image does not choose its own filter",
        "--security-opt seccomp=FILE takes one",
    ),
    row(MAKE, &["--use-api-socket"], "there is no daemon whose socket a container could use", ""),
    // Runtimes.
    row(
        MAKE,
        &["--runtime", "--runtime-flag", "--isolation", "--rdt-class", "--intel-rdt-closid", "--personality"],
        "kelp itself is the runtime, by the kernel's own means",
        "",
    ),
    // Resources: cgroup v1's, or nobody's.
    row(
        LIMIT,
        &["--memory-swappiness"],
        "cgroup v2 has no such setting for a single cgroup",
        "--memory-swap limits its swap: with the value of --memory it gets none",
    ),
    row(
        LIMIT,
        &["--oom-kill-disable"],
        "cgroup v2 cannot keep the kernel from killing at a limit of memory",
        "--memory-high slows it down before; --oom-score-adj says whom the kernel kills first",
    ),
    row(
        LIMIT,
        &["--kernel-memory"],
        "cgroup v2 counts the kernel's memory for a container together with its own",
        "--memory limits both",
    ),
    row(
        LIMIT,
        &["--cpu-rt-period", "--cpu-rt-runtime"],
        "cgroup v2 has no time for realtime processes that could be handed out",
        "--ulimit rtprio=N:N lets its programs ask for realtime, as far as you may",
    ),
    row(&["update"], &["--oom-score-adj"], "each process has it from its start", "create the container anew with it"),
    row(
        &["update"],
        &["--limits"],
        "what is done about a limit that cannot hold is decided when a container is made",
        "create the container anew with it",
    ),
    row(
        MAKE,
        &["--conmon-pidfile", "--pidfile"],
        "pids are told, not written to files",
        "kelp inspect -f '{{.State.Pid}}' NAME prints it, while the container runs",
    ),
    row(MAKE, &["--init-path"], "--init runs kelp's own init", ""),
    row(
        MAKE,
        &["--annotation"],
        "annotations are for other runtimes",
        "--label is for people and programs that look at containers",
    ),
    row(
        MAKE,
        &["--systemd"],
        "a container is not set up for a systemd in it",
        "--init reaps processes; kelp generate systemd makes a container a service of your own systemd",
    ),
    row(MAKE, &["--sdnotify"], "a program's word to systemd is not passed on", ""),
    row(
        MAKE,
        &["--storage-opt"],
        "a container's changes are files of yours, in your quota",
        "--tmpfs TARGET:size=SIZE bounds a directory",
    ),
    row(MAKE, &["--volume-driver"], "volumes are directories here: there is no other driver", ""),
    row(
        MAKE,
        &["--read-only-tmpfs"],
        "--read-only makes all read-only but what is mounted",
        "--tmpfs /tmp --tmpfs /run gives it places to write to",
    ),
    row(
        MAKE,
        &["--secret"],
        "secrets are not kept",
        "-v FILE:/run/secrets/NAME:ro gives a container a file that you keep",
    ),
    // Life.
    row(
        MAKE,
        &["-a", "--attach"],
        "streams are not chosen one by one",
        "without --detach all are attached, the input with --interactive; 2>/dev/null drops one",
    ),
    row(
        &["run", "exec"],
        &["--preserve-fds", "--preserve-fd"],
        "no open file goes into a container but its three streams",
        "-v gives it a path",
    ),
    row(
        MAKE,
        &["--replace"],
        "a container is never removed unasked",
        "kelp rm --force --ignore NAME before it does that",
    ),
    row(MAKE, &["--rmi"], "an image stays until it is removed", "kelp rmi IMAGE afterwards does that"),
    row(
        MAKE,
        &["--pod", "--pod-id-file", "--init-ctr", "--infra"],
        "containers are not grouped in pods",
        "--network container:NAME, --pid container:NAME and --ipc container:NAME join another one",
    ),
    row(
        MAKE,
        &["--requires"],
        "containers do not start each other",
        "kelp generate systemd makes services of them, which can",
    ),
    row(MAKE, &["--timeout"], "a container may run as long as it likes", "timeout(1) before its command ends it"),
    row(
        MAKE,
        &[
            "--health-on-failure",
            "--health-log-destination",
            "--health-max-log-count",
            "--health-max-log-size",
            "--health-startup-cmd",
            "--health-startup-interval",
            "--health-startup-retries",
            "--health-startup-success",
            "--health-startup-timeout",
        ],
        "a health check is told of, and nothing follows from it",
        "kelp events --filter event=health_status tells a program of yours; --health-start-period is for slow starts",
    ),
    // The program's surroundings.
    row(
        MAKE,
        &["--env-host", "--env-merge", "--unsetenv", "--unsetenv-all"],
        "variables are given one by one",
        "-e NAME takes a variable from here, --env-file FILE takes many",
    ),
    row(
        MAKE,
        &["--tz"],
        "a container's time zone is its image's",
        "-e TZ=Europe/Vienna sets one, where the image has zones",
    ),
    row(
        MAKE,
        &["--umask"],
        "a program begins with the mask 0022",
        "sh -c 'umask 077; exec PROGRAM' begins with another",
    ),
    // Images and registries.
    row(
        &["run", "create", "pull", "import", "manifest create"],
        &["--arch", "--os", "--variant"],
        "a platform is one word",
        "--platform OS/ARCH[/VARIANT], e.g. linux/arm64/v8",
    ),
    row(
        &["run", "create", "pull", "push", "search", "manifest create", "manifest add", "manifest push"],
        &["--authfile", "--creds"],
        "logins are found by the registry's name",
        "kelp login keeps one; REGISTRY_AUTH_FILE names another file of logins",
    ),
    row(
        REGISTRY,
        &["--cert-dir"],
        "certificates are found by the registry's name",
        "they belong into ~/.config/containers/certs.d/REGISTRY",
    ),
    row(
        MAKE,
        &["--tls-verify"],
        "a registry without a valid certificate is not asked in passing",
        "kelp pull --plain-http talks without TLS; certificates belong into ~/.config/containers/certs.d/REGISTRY",
    ),
    row(&["run", "create", "pull", "push"], &["--disable-content-trust", "--signature-policy"], SIGNATURES, ""),
    row(
        &["push", "manifest push"],
        &[
            "--sign-by",
            "--sign-by-sigstore",
            "--sign-by-sigstore-private-key",
            "--sign-passphrase-file",
            "--remove-signatures",
        ],
        SIGNATURES,
        "",
    ),
    row(
        &["run", "create", "pull", "push"],
        &["--retry", "--retry-delay", "--decryption-key", "--encryption-key", "--encrypt-layer"],
        "what can be tried again is, by itself; images are not encrypted",
        "",
    ),
    row(
        &["push"],
        &["--compress", "--force-compression"],
        "the form of layers has one flag",
        "--compression gzip|zstd|none",
    ),
    row(
        &["push", "manifest push"],
        &["-f", "--format"],
        "documents go as they came, byte for byte, so that digests stay",
        "",
    ),
    row(&["search"], &["--list-tags"], "tags are not listed", "kelp pull --all-tags fetches all of them"),
    row(
        &["search"],
        &["--compatible", "--no-index"],
        "what is found is printed in one way",
        "--format chooses columns",
    ),
    row(&["login"], &["-v", "--verbose"], "there is nothing more to tell", ""),
    row(
        &["save"],
        &["--compress", "--uncompressed"],
        "layers are saved as they are kept",
        "kelp save NAME | zstd compresses the whole",
    ),
    row(&["import"], &["-q", "--quiet"], "it prints the image's id alone", ""),
    row(
        &["commit"],
        &["-f", "--format", "-s", "--squash", "--include-volumes", "--iidfile"],
        "a commit is one layer in OCI's form, without volumes, and prints the image's id",
        "kelp export NAME | kelp import - makes an image of one layer in all",
    ),
    row(
        &["images"],
        &["--history"],
        "an image's earlier names are not kept",
        "kelp history IMAGE shows how it came to be",
    ),
    row(&["images"], &["--tree"], "the list is flat", "kelp image tree shows layers and the images that share them"),
    row(&["image tree"], &["--whatrequires"], "it shows layers from the image down", ""),
    row(&["image prune"], &["--external", "--build-cache"], "nobody else's images and no caches are kept here", ""),
    row(&["system prune"], &["--build", "--external"], "nobody else's containers and no caches are kept here", ""),
    row(
        &["image mount"],
        &["-a", "--all", "--format"],
        "it runs a command among an image's files",
        "kelp image mount IMAGE ls",
    ),
    // Which containers.
    row(
        &[
            "start",
            "stop",
            "restart",
            "kill",
            "pause",
            "unpause",
            "rm",
            "wait",
            "attach",
            "exec",
            "logs",
            "port",
            "top",
            "diff",
            "inspect",
            "stats",
            "container inspect",
        ],
        &["-l", "--latest"],
        "a container is named",
        "$(kelp ps --latest --quiet) names the one that was made last",
    ),
    row(
        ACT,
        &["-a", "--all", "--running"],
        "containers are named",
        "$(kelp ps --quiet) names those that run, $(kelp ps --all --quiet) all",
    ),
    row(ACT, &["--filter"], "containers are named", "$(kelp ps --quiet --filter KEY=VALUE) names those that are so"),
    row(ACT, &["--cidfile"], "containers are named", "$(cat FILE) names the one that kelp run --cidfile wrote down"),
    row(&["port"], &["-a", "--all"], "there are no ports of containers yet", ""),
    row(&["rm"], &["-t", "--time"], "--force kills at once", "kelp stop --time SECONDS NAME asks first"),
    row(&["rm"], &["--depend", "--link"], "no container belongs to another", ""),
    row(&["wait"], &["-i", "--interval"], "it is told of the end, and asks nobody at intervals", ""),
    row(&["start"], &["--checkpoint", "--checkpoint-dir"], "a running program is never written to disk", ""),
    // Lists.
    row(
        &["ps", "images", "volume ls"],
        &["--noheading"],
        "a list has headings where people read it",
        "--format '{{.Names}} {{.Image}}' and --quiet print none",
    ),
    row(
        &["ps", "images"],
        &["--sort"],
        "the newest comes first",
        "sort(1) sorts what --format prints, jq(1) what --format json does",
    ),
    row(&["ps"], &["-w", "--watch"], "a list is printed once", "watch(1) repeats it; kelp events tells what changes"),
    row(&["ps"], &["--ns", "--namespace"], "namespaces have a list of their own", "kelp ns shows them"),
    row(&["ps"], &["-p", "--pod"], "containers are not grouped in pods", ""),
    row(&["ps"], &["--external", "--storage", "--sync"], "what is listed is what is there", ""),
    row(&["logs"], &["--color"], "lines are printed as they were written", "--names tells containers apart"),
    row(&["events"], &["--no-trunc"], "nothing is shortened", ""),
    row(
        &["cp"],
        &["--overwrite"],
        "a file never takes a directory's place, nor a directory a file's",
        "remove it first",
    ),
    // Volumes.
    row(&["volume inspect", "volume rm"], &["-a", "--all"], "volumes are named", "$(kelp volume ls --quiet) names all"),
    row(
        &["volume rm"],
        &["-t", "--time"],
        "what uses it is never stopped",
        "kelp stop --time SECONDS NAME does that first",
    ),
    row(
        &["volume create"],
        &[
            "--scope",
            "--sharing",
            "--topology-preferred",
            "--topology-required",
            "--type",
            "--availability",
            "--group",
            "--limit-bytes",
            "--required-bytes",
            "--secret",
        ],
        "it looks after one machine, not after a cluster",
        "",
    ),
    // Units.
    row(
        &["generate systemd"],
        &[
            "--after",
            "--wants",
            "--requires",
            "-e",
            "--env",
            "--no-header",
            "--pod-prefix",
            "--format",
            "--restart-sec",
            "--start-timeout",
            "--template",
        ],
        "the unit is complete as it is",
        "systemctl --user edit UNIT adds lines to it, and keeps them",
    ),
    row(&["completion"], &["-f", "--file"], "the script is printed", "kelp completion SHELL > FILE writes it"),
];
