//! The last supervisor stays a while, so that the next start finds the base
//! user namespace mapped: two thirds of a start's time otherwise go into
//! newuidmap and newgidmap.
//!
//! It is a cache, not a daemon: at most one process lingers, it holds nothing
//! of any container, it ends by itself, and killing it costs the next start
//! three milliseconds.

use std::fs::{File, FileTimes};
use std::thread::sleep;
use std::time::{Duration, SystemTime};

use crate::container::store;
use crate::limits;
use crate::paths::Paths;
use crate::storage::sweep;

/// How long after a container's end its remains are deleted: a start that comes
/// right behind is not to meet the deletion in the same directories.
const REST: Duration = Duration::from_millis(100);

/// Returns when the process should end: at once where another one lingers
/// already. The one that lingers does the housekeeping for all.
pub(super) fn linger(paths: &Paths) {
    let Ok(lock) = File::options().create(true).truncate(false).write(true).open(paths.linger_lock()) else {
        return keep_house(paths);
    };
    let now = FileTimes::new().set_modified(SystemTime::now());
    // The one that lingers already sees the new time and stays longer.
    if lock.set_times(now).is_err() || lock.try_lock().is_err() {
        return;
    }
    let enough = Duration::from_millis(limits::BASE_LINGER_MS);
    let mut kept = None;
    loop {
        let used = lock.metadata().and_then(|status| status.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
        // A clock that was set back counts as no time at all.
        let idle = SystemTime::now().duration_since(used).unwrap_or_default();
        if kept != Some(used) {
            sleep(REST);
            keep_house(paths);
            kept = Some(used);
        } else if idle >= enough {
            return;
        } else {
            sleep(REST);
        }
    }
}

/// Deletes what ended containers left. What cannot be deleted now is met again
/// by the next one.
fn keep_house(paths: &Paths) {
    store::remove_orphans(paths).ok();
    sweep::collect_stale(paths, sweep::STALE).ok();
    sweep::empty_trash(paths).ok();
    store::settle(paths);
}
