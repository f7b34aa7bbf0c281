//! What the tests stand on: a sealed home, a way to call kelp, the probe's
//! view of a container, images from nothing.

mod call;
pub mod image;
mod inside;
pub mod needs;
pub mod pseudo_terminal;

#[path = "../../support/proxy.rs"]
pub mod proxy;
#[path = "../../support/registry.rs"]
pub mod registry;
#[path = "../../support/tls.rs"]
pub mod tls;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

pub use call::{Call, Output, Running};
pub use inside::Inside;

/// How long anything may take that should be quick.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// kelp's data, runtime directory and a root file system with the probe, for
/// one test. Nothing is left of it when it is dropped.
pub struct Home {
    directory: tempfile::TempDir,
}

impl Home {
    /// A new one, in a short path: sockets have at most 108 bytes.
    pub fn new() -> Self {
        let uid = nix::unistd::getuid();
        assert!(!uid.is_root(), "kelp is for ordinary users, and so are its tests: call tests/run, not cargo test");
        let parent = std::env::var_os("KELP_TEST_DIR").map_or_else(|| PathBuf::from("/tmp"), PathBuf::from);
        let directory = tempfile::Builder::new().prefix("kt").tempdir_in(parent).unwrap();
        // Ids of the container that are not the user's come through here.
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let home = Self { directory };
        fs::create_dir(home.path("home")).unwrap();
        make_root(&home.rootfs());
        home
    }

    /// A path of this home.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A new directory of this home.
    pub fn make_dir(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(&path).unwrap();
        path
    }

    /// A root file system that holds the probe, /etc/passwd and /etc/group.
    pub fn rootfs(&self) -> PathBuf {
        self.path("rootfs")
    }

    /// Where kelp keeps what lasts.
    pub fn data(&self) -> PathBuf {
        self.path("data")
    }

    /// Where kelp keeps what does not.
    pub fn run_dir(&self) -> PathBuf {
        self.path("run")
    }

    /// Where kelp keeps what containers need only while they live.
    pub fn containers_run(&self) -> PathBuf {
        kelp::paths::Paths::new(self.data(), self.run_dir()).containers_run()
    }

    /// kelp with these arguments.
    pub fn kelp(&self, arguments: &[&str]) -> Call {
        self.call(&kelp_binary(), arguments)
    }

    /// Another program with kelp's environment.
    pub fn call(&self, program: &Path, arguments: &[&str]) -> Call {
        let mut call = Call::new(program);
        call.args(arguments);
        call.env("HOME", self.path("home")).env("PATH", "/usr/bin:/bin").env("LANG", "C.UTF-8");
        call.env("KELP_DATA", self.data()).env("KELP_RUN", self.run_dir());
        call
    }

    /// `kelp run --rm OPTIONS --rootfs ROOTFS /probe WORDS`.
    pub fn run(&self, options: &[&str], words: &[&str]) -> Call {
        self.run_kept(&[&["--rm"], options].concat(), words)
    }

    /// The same without `--rm`.
    pub fn run_kept(&self, options: &[&str], words: &[&str]) -> Call {
        let rootfs = self.rootfs();
        let mut call = self.kelp(&["run"]);
        call.args(options).args(&["--rootfs", rootfs.to_str().unwrap(), "/probe"]).args(words);
        call
    }

    /// What a container with these options looks like from within.
    pub fn inside(&self, options: &[&str]) -> Inside {
        Inside::read(&self.run(options, &["inside"]).succeed())
    }

    /// Lines that the probe prints in a container with these options.
    pub fn lines(&self, options: &[&str], words: &[&str]) -> Vec<String> {
        self.run(options, words).succeed().lines().map(str::to_owned).collect()
    }

    /// A container in the background of the test: its first line of output
    /// read, its record written.
    pub fn start(&self, options: &[&str], words: &[&str]) -> Running {
        let before = self.running();
        let mut running = self.run_kept(options, words).start();
        let first = running.line();
        assert!(!first.is_empty(), "nothing came of {options:?} {words:?}: {}", running.wait().stderr);
        assert!(eventually(|| self.running() > before), "it does not show in kelp ps");
        running
    }

    fn running(&self) -> usize {
        self.containers().iter().filter(|container| container["state"] == "running").count()
    }

    /// `ps -a --format json`.
    pub fn containers(&self) -> Vec<serde_json::Value> {
        serde_json::from_str(&self.kelp(&["ps", "-a", "--format", "json"]).succeed()).unwrap()
    }

    /// Names of what is in a directory of kelp's data.
    pub fn entries(&self, name: &str) -> Vec<String> {
        let entries = fs::read_dir(self.data().join(name)).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    }

    /// Pids of this home's processes in the base user namespace.
    pub fn holders(&self) -> Vec<i32> {
        let entries = fs::read_dir(self.run_dir().join("holders")).into_iter().flatten().flatten();
        let pid = |name: &str| name.split('.').next()?.parse().ok();
        entries.filter_map(|entry| pid(entry.file_name().to_str()?)).collect()
    }

    /// The supervisor of the container called `name`, from its record.
    pub fn supervisor(&self, name: &str) -> i32 {
        let containers = self.containers();
        let found = containers.iter().find(|container| container["name"] == name).unwrap();
        i32::try_from(found["supervisor"]["pid"].as_i64().unwrap()).unwrap()
    }

    /// Lets kelp delete what belongs to subordinate ids, then ends what lingers.
    fn clean(&self) -> Result<(), String> {
        let trash = self.data().join("trash");
        fs::create_dir_all(&trash).map_err(|error| error.to_string())?;
        for (place, name) in ["containers", "layers", "volumes", "staging"].into_iter().enumerate() {
            fs::rename(self.data().join(name), trash.join(format!("test-{place}"))).ok();
        }
        // The name does not exist; emptying the trash comes with every removal.
        self.kelp(&["rm", "no-such-container"]).output();
        let gone = eventually(|| self.entries("trash").is_empty());
        for pid in self.holders() {
            nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).ok();
        }
        if gone { Ok(()) } else { Err(format!("the trash still holds {:?}", self.entries("trash"))) }
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let cleaned = if self.data().exists() { self.clean() } else { Ok(()) };
        if !std::thread::panicking() {
            assert_eq!(cleaned, Ok(()), "kelp left something that it cannot delete");
        }
    }
}

/// The binary under test.
pub fn kelp_binary() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_kelp"))
}

/// The static probe, which cargo builds beside the tests.
pub fn probe_binary() -> PathBuf {
    let path = kelp_binary().parent().unwrap().join("examples/probe");
    assert!(path.exists(), "{} is missing: cargo build --example probe", path.display());
    path
}

fn make_root(root: &Path) {
    for directory in ["etc", "tmp", "home/web", "data"] {
        fs::create_dir_all(root.join(directory)).unwrap();
    }
    fs::copy(probe_binary(), root.join("probe")).unwrap();
    for (name, content) in image::ACCOUNTS {
        fs::write(root.join(name), content).unwrap();
    }
    fs::set_permissions(root.join("tmp"), fs::Permissions::from_mode(0o1777)).unwrap();
}

/// Waits until `condition` holds; false when it does not in time.
pub fn eventually(condition: impl Fn() -> bool) -> bool {
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        if condition() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    false
}

/// Whether a process exists, zombies not counted.
pub fn is_running(pid: i32) -> bool {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    text.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}
