//! What happens to a container after it was made: removal, and the deletion
//! of what was removed.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use crate::container::record::Status;
use crate::container::store::{self, Container};
use crate::container::uses;
use crate::error::{Failure, Result};
use crate::kernel::process;
use crate::paths::Paths;
use crate::process::base::Base;
use crate::process::launch;
use crate::process::stage::Stage;

/// How long a killed container may take to be gone.
const KILL_PATIENCE: Duration = Duration::from_secs(10);

/// All containers, newest first. Those whose supervisor was killed are
/// repaired on the way, and what they left is deleted.
/// The failures are those of containers that could not be read.
pub fn list(paths: &Paths) -> Result<(Vec<Container>, Vec<Failure>)> {
    let found = store::list(paths)?;
    store::remove_orphans(paths)?;
    delete_removed(paths)?;
    Ok(found)
}

/// The container called `name`: by name, by id or by the unique start of an id.
pub fn find(paths: &Paths, name: &str) -> Result<Container> {
    store::find(paths, name)
}

/// Removes the container called `name`; one that runs only with `force`. The
/// volumes that nobody named go with it if `volumes` says so, as with docker.
pub fn remove(paths: &Paths, name: &str, force: bool, volumes: bool) -> Result<()> {
    let container = store::find(paths, name)?;
    match &container.record.status {
        Status::Running { .. } if !force => {
            return Err(Failure::user(format!("container \"{name}\" is running")).hint("rm --force kills it first"));
        }
        Status::Running { payload, .. } => {
            if let Some(pidfd) = payload.open() {
                process::pidfd_send_signal(pidfd.as_fd(), libc::SIGKILL)?;
            }
            wait_until_dead(&container, name)?;
            if container.record.auto_remove {
                // Its own supervisor has removed it.
                return Ok(());
            }
        }
        // Its supervisor has written the end down and is about to let go.
        Status::Exited { .. } => wait_until_dead(&container, name)?,
        Status::Created if store::is_alive(&container.directory) => {
            return Err(Failure::user(format!("container \"{name}\" is being started")));
        }
        Status::Created => {}
    }
    let record = &container.record;
    if !volumes {
        uses::keep_own(paths, &record.anonymous_volumes)?;
        return store::remove(paths, &container);
    }
    store::remove(paths, &container)?;
    uses::remove_own(paths, &record.id, &record.anonymous_volumes)
}

/// The supervisor lets go of the lock when it has written the end down.
fn wait_until_dead(container: &Container, name: &str) -> Result<()> {
    let start = Instant::now();
    while store::is_alive(&container.directory) {
        if start.elapsed() > KILL_PATIENCE {
            return Err(Failure::host(format!("container \"{name}\" was killed but does not end")));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}

/// Deletes what was removed, in a stage that maps all of its owners. The
/// stage goes on by itself: nobody has to wait for it.
pub fn delete_removed(paths: &Paths) -> Result<()> {
    let has_some = |path| std::fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_some());
    if !has_some(paths.trash()) && !has_some(paths.staging()) {
        return Ok(());
    }
    let mut base = Base::find(paths)?;
    let launched = launch::launch(Stage::Sweep, &mut base, "", &[])?;
    launched.channel.send(paths, &[])
}
