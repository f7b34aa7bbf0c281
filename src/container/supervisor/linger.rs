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

use crate::limits;
use crate::paths::Paths;

/// Returns when the process should end: at once, with false, where another one
/// lingers already.
pub(super) fn linger(paths: &Paths) -> bool {
    let Ok(lock) = File::options().create(true).truncate(false).write(true).open(paths.linger_lock()) else {
        return false;
    };
    let now = FileTimes::new().set_modified(SystemTime::now());
    // The one that lingers already sees the new time and stays longer.
    if lock.set_times(now).is_err() || lock.try_lock().is_err() {
        return false;
    }
    let enough = Duration::from_millis(limits::BASE_LINGER_MS);
    loop {
        let used = lock.metadata().and_then(|status| status.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
        // A clock that was set back counts as no time at all.
        let idle = SystemTime::now().duration_since(used).unwrap_or_default();
        match enough.checked_sub(idle) {
            Some(rest) if !rest.is_zero() => sleep(rest),
            _ => return true,
        }
    }
}
