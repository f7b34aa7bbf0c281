//! The last steps before the image's program: who it is, where it starts, what
//! it may do, and execve(2).
//!
//! The order is fixed by what each step takes away: the filter needs
//! CAP_SYS_ADMIN unless no_new_privs is set, the change of user needs
//! CAP_SETUID, and the parent death signal is cleared by both.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use crate::error::{Context, Failure, Kind, Result};
use crate::kernel::{Errno, capability, file, open, process, seccomp};
use crate::limits;
use crate::process::channel::Channel;
use crate::sandbox::mounts;
use crate::sandbox::spec::{ContainerPath, Process};
use crate::sandbox::user::{self, Resolved};

/// Capabilities a kernel may ever know: two words of 32 bits.
const CAPABILITIES: u32 = 64;

/// What [`execute`] needs from the steps before it.
pub struct Ready {
    /// Who the program runs as.
    pub user: Resolved,
    /// The working directory.
    pub directory: OwnedFd,
    /// Only one id is mapped.
    pub single: bool,
}

/// Gives up rights and becomes the program. Returns only a failure.
pub fn execute(process: &Process, ready: Ready, channel: &Channel) -> Failure {
    let confined = confine(process, &ready).and_then(|()| check_supervisor(channel));
    match confined.and_then(|()| arguments(process, &ready.user)) {
        Ok((arguments, environment)) => exec(process, &arguments, &environment),
        Err(failure) => failure,
    }
}

/// Looks the user up in the image's own files.
pub fn find_user(process: &Process, root: BorrowedFd<'_>) -> Result<Resolved> {
    let passwd = read_image_file(root, "etc/passwd")?;
    let group = read_image_file(root, "etc/group")?;
    user::resolve(&process.user, &process.groups, &passwd, &group)
}

/// A small regular file of the image; empty where there is none. O_NONBLOCK:
/// an image's fifo must not hang us.
fn read_image_file(root: BorrowedFd<'_>, path: &str) -> Result<Vec<u8>> {
    use std::io::Read;
    let flags = libc::O_RDONLY | libc::O_NONBLOCK | libc::O_NOCTTY;
    let fd = match open::openat2(root, Path::new(path), flags, 0, open::Resolve::InRoot) {
        Err(error) if matches!(error.errno, Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP | Errno::ENXIO) => {
            return Ok(Vec::new());
        }
        result => result?,
    };
    let status = file::status(fd.as_fd())?;
    if status.st_mode & libc::S_IFMT != libc::S_IFREG || status.st_size as u64 > limits::PASSWD_BYTES_MAX {
        return Err(Failure::user(format!("the image's /{path} is not a regular file of a sane size")));
    }
    let mut bytes = Vec::with_capacity(status.st_size as usize + 1);
    std::fs::File::from(fd).take(limits::PASSWD_BYTES_MAX).read_to_end(&mut bytes).doing(|| format!("read /{path}"))?;
    Ok(bytes)
}

fn confine(process: &Process, ready: &Ready) -> Result<()> {
    let single = ready.single;
    enter_directory(&process.directory, ready.directory.as_fd())?;
    set_limits(&process.limits)?;
    if process.terminal {
        // The program's user owns its terminal, as login(1) would have it.
        file::set_owner(std::io::stdin().as_fd(), ready.user.uid, ready.user.gid).or_else(|error| {
            match error.errno {
                Errno::EINVAL | Errno::EPERM if single => Ok(()),
                _ => Err(error),
            }
        })?;
    }
    drop_bounding(process.capabilities)?;
    if process.no_new_privileges {
        process::set_no_new_privileges()?;
    }
    // With one id, the filter makes setuid(2) look as if it worked: not for us.
    let late_filter = process.no_new_privileges || single;
    if !late_filter {
        install_filter(process)?;
    }
    become_user(&ready.user, single)?;
    if late_filter {
        install_filter(process)?;
    }
    let kept = if ready.user.uid == 0 { process.capabilities } else { 0 };
    capability::set(kept, kept, 0)?;
    process::set_parent_death_signal(libc::SIGKILL)?;
    process::close_on_exec_from(3)?;
    Ok(())
}

/// Opens the working directory and makes it where it is missing. Opened below
/// the root, so a link of the image cannot lead out (CVE-2024-21626).
pub fn make_directory(path: &ContainerPath, root: BorrowedFd<'_>) -> Result<OwnedFd> {
    mounts::make_dirs(root, path, open::Resolve::InRoot)
        .plainly()
        .doing(|| format!("enter working directory \"{path}\""))
}

/// Opens the working directory in a container that runs, where docker makes
/// none: a directory that is not there counts as a program that is not there.
pub fn find_directory(path: &ContainerPath, root: BorrowedFd<'_>) -> Result<OwnedFd> {
    let flags = libc::O_DIRECTORY | libc::O_RDONLY;
    open::openat2(root, path.relative(), flags, 0, open::Resolve::InRoot).map_err(|error| {
        let kind = match error.errno {
            Errno::ENOENT | Errno::ENOTDIR => Kind::NoSuchProgram,
            _ => Kind::NotExecutable,
        };
        Failure::from(error).kind(kind).plainly().doing(format!("enter working directory \"{path}\""))
    })
}

fn enter_directory(path: &ContainerPath, directory: BorrowedFd<'_>) -> Result<()> {
    nix::unistd::fchdir(directory).map_err(std::io::Error::from)?;
    let entered = std::env::current_dir().doing(|| "read the working directory")?;
    if !entered.is_absolute() {
        return Err(Failure::user(format!("working directory \"{path}\" is outside the container")));
    }
    Ok(())
}

/// A supervisor that died before the parent death signal was set (a change of
/// user had cleared it) would leave a program that nobody looks after.
fn check_supervisor(channel: &Channel) -> Result<()> {
    if channel.is_closed() {
        process::exit_now(125);
    }
    Ok(())
}

fn set_limits(limits: &[(u32, u64, u64)]) -> Result<()> {
    for &(resource, soft, hard) in limits {
        process::set_limit(resource, soft, hard).map_err(Failure::from).map_err(|failure| {
            failure.hint("a hard limit above your own cannot be set without root: see ulimit -H -a")
        })?;
    }
    Ok(())
}

/// All five sets are written: a runtime's own must not leak (CVE-2022-29162).
fn drop_bounding(keep: u64) -> Result<()> {
    for number in (0..CAPABILITIES).filter(|number| keep & (1 << number) == 0) {
        match capability::drop_bounding(number) {
            // Beyond the last one this kernel knows.
            Err(error) if error.errno == Errno::EINVAL => break,
            result => result?,
        }
    }
    capability::clear_ambient()?;
    Ok(())
}

/// Becomes the program's user. Root keeps its capabilities until they are set;
/// any other user has none from here on, as with Docker, until it executes a
/// set-user-ID program.
fn become_user(user: &Resolved, single: bool) -> Result<()> {
    // Where only one id is mapped, setgroups(2) is denied and there are no other groups.
    let groups = (!single).then_some(user.groups.as_slice());
    process::become_user(user.uid, user.gid, groups).map_err(|error| explain_user(error.into(), user, single))
}

fn install_filter(process: &Process) -> Result<()> {
    match &process.seccomp {
        Some(filter) => Ok(seccomp::install(&filter.0).doing(|| "install seccomp filter")?),
        None => Ok(()),
    }
}

fn explain_user(failure: Failure, user: &Resolved, single: bool) -> Failure {
    let failure = failure.doing(format!("become user {}:{}", user.uid, user.gid));
    match failure.errno {
        Some(libc::EINVAL) if single => {
            failure.hint("only your own id is mapped on this host, as root; see the notice above, or drop --user")
        }
        Some(libc::EINVAL) => failure.hint("the id is outside the range mapped for you in /etc/subuid and /etc/subgid"),
        _ => failure,
    }
}

type Strings = Vec<CString>;

fn arguments(process: &Process, user: &Resolved) -> Result<(Strings, Strings)> {
    let c_strings = |strings: &[String]| -> Result<Strings> {
        let one = |text: &String| {
            CString::new(text.as_str()).map_err(|_| Failure::user("a NUL byte in an argument or environment variable"))
        };
        strings.iter().map(one).collect()
    };
    let mut environment = c_strings(&process.environment)?;
    if !process.environment.iter().any(|variable| variable.starts_with("HOME=")) {
        environment.extend(CString::new(format!("HOME={}", user.home)));
    }
    Ok((c_strings(&process.arguments)?, environment))
}

/// Tries each candidate, as execvp(3) does: EACCES is remembered, the rest of
/// PATH still searched.
fn exec(process: &Process, arguments: &[CString], environment: &[CString]) -> Failure {
    let Some(program) = process.arguments.first().filter(|program| !program.is_empty()) else {
        return Failure::user("no command given, and the image names none").kind(Kind::NoSuchProgram);
    };
    let mut refused = None;
    for candidate in candidates(program, process) {
        let Ok(path) = CString::new(candidate.as_str()) else { continue };
        let error = process::execve(&path, arguments, environment);
        match error.errno {
            Errno::ENOENT | Errno::ENOTDIR if !Path::new(&candidate).exists() => {}
            _ => {
                refused.get_or_insert((error.errno, candidate));
            }
        }
    }
    explain_exec(program, refused)
}

fn candidates(program: &str, process: &Process) -> Vec<String> {
    if program.contains('/') {
        return vec![program.to_owned()];
    }
    let path = process.environment.iter().find_map(|variable| variable.strip_prefix("PATH=")).unwrap_or_default();
    let directories = path.split(':').map(|directory| if directory.is_empty() { "." } else { directory });
    directories.map(|directory| format!("{directory}/{program}")).collect()
}

fn explain_exec(program: &str, refused: Option<(Errno, String)>) -> Failure {
    let Some((errno, candidate)) = refused else {
        let place = if program.contains('/') { "the container" } else { "the container's PATH" };
        return Failure::new(Kind::NoSuchProgram, format!("no program \"{program}\" in {place}"));
    };
    let failure = Failure::new(Kind::NotExecutable, format!("{} ({errno:?})", errno.desc()))
        .doing(format!("execute \"{candidate}\""));
    match errno {
        Errno::ENOEXEC => {
            failure.hint("it is no program for this machine: is the image of another platform, or #! missing?")
        }
        Errno::ENOENT => failure
            .kind(Kind::NoSuchProgram)
            .hint("the file exists, but the interpreter or loader that it names does not"),
        Errno::EACCES if Path::new(&candidate).is_dir() => failure.hint("it is a directory"),
        Errno::EACCES => failure.hint("it lacks the execute permission for this user, or is on a noexec mount"),
        _ => failure,
    }
}
