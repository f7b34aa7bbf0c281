//! Every directory, lock and socket kelp owns.
//!
//! ```text
//! $KELP_DATA, else $XDG_DATA_HOME/kelp, else ~/.local/share/kelp      (0700)
//!   oci-layout                 the store is an OCI image layout
//!   blobs/sha256/HEX           manifests, configs, compressed layers, as received
//!   tags/ENCODED-REFERENCE     a tag: one JSON file, replaced by rename
//!   lists/ENCODED-REFERENCE    a list of images for several platforms, likewise
//!   lists.lock                 held while a list is changed
//!   images.lock                shared while images are brought, exclusive while garbage is collected
//!   layers/IDMAP/HEX/          one layer unpacked for one id mapping, by diff id
//!   containers/ID/             record.json, request.json, health.json, lock; upper, work: of the overlay;
//!                              changes: of --rootfs /
//!                              ID-json.log, .1, …: what it said
//!   names/NAME                 symbolic link to a container's id: unique by symlink(2)
//!   volumes/NAME/              volumes: data, volume.json; new: until a container uses it
//!   volumes.lock               shared while a container is made of volumes, exclusive while they are removed
//!   events/                    what happened: current.jsonl, previous.jsonl (container/events)
//!   embedded.json              which image is the embedded one
//!   staging/                   writes in progress, on the same file system
//!   trash/                     renamed away, deleted when there is time
//! $KELP_RUN, else $XDG_RUNTIME_DIR/kelp, else /tmp/kelp-UID           (0700)
//!   containers/KEY/ID/         while it lives: where its root is mounted, files that are bound into it; control:
//!                              its supervisor's socket. KEY: the data directory's device and inode
//!   networks/NAME/             control: the socket of a network's process; lock: held while it is launched
//!   holders/PID                live processes in the base user namespace: a link to the start time
//!   image/                     empty; where a program of `image mount` sees the image
//!   base.lock                  held while a base user namespace is being made
//!   linger.lock                held by the one lingering supervisor
//! ```

use std::fs::DirBuilder;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Context, Failure, Result};
use crate::limits;

/// Where this user's kelp keeps things. Absolute paths.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Paths {
    /// What must survive a reboot.
    pub data: PathBuf,
    /// What must not: sockets, locks, holders.
    pub run: PathBuf,
    /// Stores of others that images are read from (image/stores.rs), in the
    /// order in which they are asked. Nothing is ever written there.
    #[serde(default)]
    pub image_stores: Vec<ImageStore>,
    /// Whether compressed layers stay once they are unpacked, if they can be
    /// fetched again.
    pub keeps_blobs: bool,
}

/// An OCI image layout, in a directory that others may write to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageStore(PathBuf);

impl ImageStore {
    /// Reads `ro:DIRECTORY`, an absolute path.
    pub fn parse(text: &str) -> Result<Self> {
        let shown = text.escape_debug();
        let Some(path) = text.strip_prefix("ro:") else {
            let failure = Failure::usage(format!("\"{shown}\" is not ro:DIRECTORY"));
            return Err(match text.strip_prefix("rw:") {
                Some(_) => failure.hint("image stores are read, not written; kelp save --format oci-dir adds to one"),
                None => failure.hint("ro:/srv/images, for example"),
            });
        };
        match Path::new(path).is_absolute() {
            true => Ok(Self(PathBuf::from(path))),
            false => Err(Failure::usage(format!("the image store \"{shown}\" is not an absolute path"))),
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

/// The stores that the environment names: `KELP_IMAGE_STORE`, separated by commas.
pub fn image_stores_of_environment() -> Result<Vec<ImageStore>> {
    let Some(text) = std::env::var_os("KELP_IMAGE_STORE").filter(|text| !text.is_empty()) else {
        return Ok(Vec::new());
    };
    text.to_string_lossy().split(',').map(ImageStore::parse).collect::<Result<_>>().doing(|| "read KELP_IMAGE_STORE")
}

/// Where settings are (settings.rs): the user's file before the site's.
pub fn settings_files() -> Result<Vec<PathBuf>> {
    let own = match absolute_variable("XDG_CONFIG_HOME")? {
        Some(path) => Some(path),
        None => home().ok().map(|home| home.join(".config")),
    };
    let own = own.map(|path| path.join("kelp/config.toml"));
    Ok(own.into_iter().chain([PathBuf::from("/etc/kelp/config.toml")]).collect())
}

impl Paths {
    /// Everything below these two directories.
    pub fn new(data: PathBuf, run: PathBuf) -> Self {
        Self { data, run, image_stores: Vec::new(), keeps_blobs: true }
    }

    /// Reads the environment and makes sure that both directories exist, are
    /// ours and are closed to others.
    pub fn of_this_user() -> Result<Self> {
        let data = match absolute_variable("KELP_DATA")? {
            Some(path) => path,
            None => match absolute_variable("XDG_DATA_HOME")? {
                Some(path) => path.join("kelp"),
                None => home()?.join(".local/share/kelp"),
            },
        };
        let run = runtime_dir()?;
        own_dir(&data)
            .doing(|| format!("use data directory \"{}\"", data.display()))
            .hint(|| "set KELP_DATA to a directory of yours on a local disk")?;
        Ok(Self::new(data, run))
    }

    /// Blobs by digest.
    pub fn blobs(&self) -> PathBuf {
        self.data.join("blobs/sha256")
    }

    /// Tags, one file each.
    pub fn tags(&self) -> PathBuf {
        self.data.join("tags")
    }

    /// Lists of images for several platforms, one file each.
    pub fn lists(&self) -> PathBuf {
        self.data.join("lists")
    }

    /// Held while a list is read, changed and written. Taken after
    /// `images_lock`; nothing may be locked after it.
    pub fn lists_lock(&self) -> PathBuf {
        self.data.join("lists.lock")
    }

    /// Shared by whoever brings or renames images, exclusive for whoever
    /// collects blobs and layers that nothing needs (image/garbage.rs). Taken
    /// after a container's own lock and before `base_lock`.
    pub fn images_lock(&self) -> PathBuf {
        self.data.join("images.lock")
    }

    /// Unpacked layers, by id mapping.
    pub fn layers(&self) -> PathBuf {
        self.data.join("layers")
    }

    /// All containers.
    pub fn containers(&self) -> PathBuf {
        self.data.join("containers")
    }

    /// What a container needs only while it lives: where its root is mounted,
    /// generated files, its supervisor's socket.
    pub fn container_run(&self, id: &str) -> PathBuf {
        self.containers_run().join(id)
    }

    /// The same of all containers of this data directory. Several of them may
    /// share one runtime directory, and a copy of one has containers of the
    /// same ids: each is told by its device and inode, which stay what they are
    /// when it is moved or reached by another path.
    pub fn containers_run(&self) -> PathBuf {
        // Before it is made, no container is in it.
        let key = self.data.metadata().map_or((0, 0), |status| (status.dev(), status.ino()));
        self.run.join("containers").join(format!("{:x}-{:x}", key.0, key.1))
    }

    /// Where an earlier kelp had the same of a container, whichever data
    /// directory it was in.
    pub fn earlier_container_run(&self, id: &str) -> PathBuf {
        self.run.join("containers").join(id)
    }

    /// Where a network's process listens; holds the lock that is taken to
    /// launch it, after a container's own; nothing may be locked after it.
    pub fn network_run(&self, name: &str) -> PathBuf {
        self.run.join("networks").join(name)
    }

    /// Where a container's is: of one that an earlier kelp started and that still
    /// lives, in the earlier place.
    pub fn found_container_run(&self, id: &str) -> PathBuf {
        let (own, earlier) = (self.container_run(id), self.earlier_container_run(id));
        if own.exists() || !earlier.exists() { own } else { earlier }
    }

    /// Where a program of `image mount` sees the image, in its own mount
    /// namespace; for all others an empty directory.
    pub fn image_view(&self) -> PathBuf {
        self.run.join("image")
    }

    /// Links from names to container ids.
    pub fn names(&self) -> PathBuf {
        self.data.join("names")
    }

    /// What happened.
    pub fn events(&self) -> PathBuf {
        self.data.join("events")
    }

    /// Named volumes.
    pub fn volumes(&self) -> PathBuf {
        self.data.join("volumes")
    }

    /// Shared by whoever makes a container, from the moment its volumes are
    /// there until its record says that it uses them; exclusive for whoever
    /// removes volumes. Taken after a container's own lock and after a new
    /// volume's; nothing may be locked after it.
    pub fn volumes_lock(&self) -> PathBuf {
        self.data.join("volumes.lock")
    }

    /// Which image is the embedded one (engine/embedded.rs).
    pub fn embedded_record(&self) -> PathBuf {
        self.data.join("embedded.json")
    }

    /// Writes in progress.
    pub fn staging(&self) -> PathBuf {
        self.data.join("staging")
    }

    /// What awaits deletion.
    pub fn trash(&self) -> PathBuf {
        self.data.join("trash")
    }

    /// Live processes in the base user namespace.
    pub fn holders(&self) -> PathBuf {
        self.run.join("holders")
    }

    /// Guards the making of a base user namespace; nothing may be locked after it.
    pub fn base_lock(&self) -> PathBuf {
        self.run.join("base.lock")
    }

    /// Held by the one supervisor that lingers; nothing may be locked after it.
    pub fn linger_lock(&self) -> PathBuf {
        self.run.join("linger.lock")
    }
}

/// The runtime directory. A batch job may have XDG_RUNTIME_DIR unset, missing
/// or somebody else's: each is passed over for a directory in /tmp that is
/// checked to be ours.
fn runtime_dir() -> Result<PathBuf> {
    if let Some(path) = absolute_variable("KELP_RUN")? {
        own_dir(&path).doing(|| format!("use runtime directory \"{}\"", path.display()))?;
        return Ok(path);
    }
    if let Some(base) = absolute_variable("XDG_RUNTIME_DIR").ok().flatten()
        && base.metadata().is_ok_and(|status| status.is_dir() && status.uid() == uid())
    {
        let path = base.join("kelp");
        if own_dir(&path).is_ok() {
            return Ok(path);
        }
    }
    let path = PathBuf::from(format!("/tmp/kelp-{}", uid()));
    own_dir(&path)
        .doing(|| format!("use runtime directory \"{}\"", path.display()))
        .hint(|| "set KELP_RUN to a directory of yours on a local disk")?;
    Ok(path)
}

/// Checks the name of a container or a volume: Docker's rule,
/// `[a-zA-Z0-9][a-zA-Z0-9_.-]+`. It becomes a file name, so it cannot begin
/// with a dot.
pub fn check_name(name: &str) -> Result<()> {
    if name.len() > limits::NAME_BYTES_MAX {
        return Err(Failure::usage(format!("a name is longer than {} bytes", limits::NAME_BYTES_MAX)));
    }
    let mut bytes = name.bytes();
    let starts = bytes.next().is_some_and(|first| first.is_ascii_alphanumeric());
    if starts && name.len() >= 2 && bytes.all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte)) {
        return Ok(());
    }
    Err(Failure::usage(format!(
        "\"{}\" is not a name: two or more letters, digits, \"_\", \".\" and \"-\", beginning with a letter or digit",
        name.escape_debug()
    )))
}

/// Makes a directory of kelp's own, closed to others, and those above it that
/// are missing.
pub fn make_private(path: &Path) -> Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .doing(|| format!("make directory \"{}\"", path.display()))
}

/// Makes `path` where it is missing, then checks that it is a directory, not a
/// link, that we own it and that nobody else can write to it.
fn own_dir(path: &Path) -> Result<()> {
    if let Err(error) = DirBuilder::new().recursive(true).mode(0o700).create(path)
        && error.kind() != std::io::ErrorKind::AlreadyExists
    {
        return Err(Failure::from(error));
    }
    let status = path.symlink_metadata()?;
    if status.is_symlink() && path.starts_with("/tmp") {
        return Err(Failure::host("it is a symbolic link in a directory that others can write to"));
    }
    let status = path.metadata()?;
    if !status.is_dir() {
        return Err(Failure::host("it is not a directory"));
    }
    if status.uid() != uid() {
        return Err(Failure::host(format!("it belongs to uid {}, not to you (uid {})", status.uid(), uid())));
    }
    if status.mode() & 0o077 != 0 {
        // A lock that others can open is one that they can hold.
        return Err(Failure::host(format!("it is open to others (mode {:o})", status.mode() & 0o7777))
            .hint(format!("chmod go-rwx {}", path.display())));
    }
    Ok(())
}

fn absolute_variable(name: &str) -> Result<Option<PathBuf>> {
    match std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from) {
        // The XDG base directory specification has relative values ignored; our own are refused.
        Some(path) if path.is_relative() && name.starts_with("XDG_") => Ok(None),
        Some(path) if path.is_relative() => {
            Err(Failure::usage(format!("{name} must be an absolute path, not \"{}\"", path.display())))
        }
        other => Ok(other),
    }
}

fn home() -> Result<PathBuf> {
    std::env::var_os("HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
        .ok_or_else(|| Failure::host("HOME is not set").hint("set HOME, or KELP_DATA to a directory of yours"))
}

fn uid() -> u32 {
    nix::unistd::getuid().as_raw()
}
