//! The same for many things, some at once.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::error::{Failure, Result};

/// `action` for every job, at most `threads` at once; results in the order of
/// the jobs. After a failure no job is
/// begun any more. All threads have ended when it returns: a command with
/// threads forks no stage.
pub(super) fn each<T: Sync, R: Send>(
    jobs: &[T],
    threads: usize,
    action: impl Fn(&T) -> Result<R> + Sync,
) -> Result<Vec<R>> {
    let threads = threads.min(jobs.len());
    let next = AtomicUsize::new(0);
    let done: Mutex<Vec<(usize, Result<R>)>> = Mutex::new(Vec::with_capacity(jobs.len()));
    let work = || {
        loop {
            let place = next.fetch_add(1, Ordering::Relaxed);
            let Some(job) = jobs.get(place) else { return };
            let result = action(job);
            if result.is_err() {
                next.store(jobs.len(), Ordering::Relaxed);
            }
            // A poisoned lock means a panic, and that ends the process (panic = "abort").
            done.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push((place, result));
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(work);
        }
        work();
    });
    let mut done = done.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    done.sort_by_key(|(place, _)| *place);
    let results: Vec<R> = done.into_iter().map(|(_, result)| result).collect::<Result<_>>()?;
    if results.len() == jobs.len() { Ok(results) } else { Err(Failure::bug("a job was left out")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_order_and_stops_at_a_failure() {
        let jobs: Vec<usize> = (0..100).collect();
        assert_eq!(each(&jobs, 4, |job| Ok(job * 2)).unwrap()[50], 100);
        assert_eq!(each(&[0; 0], 4, |_| Ok(())).unwrap(), []);
        for threads in [1, 4] {
            let begun = AtomicUsize::new(0);
            let result: Result<Vec<()>> = each(&jobs, threads, |job| {
                begun.fetch_add(1, Ordering::Relaxed);
                if *job == 3 { Err(Failure::user("three")) } else { Ok(()) }
            });
            assert_eq!(result.unwrap_err().to_string(), "three");
            // With several, how many were begun is a matter of luck.
            assert!(threads > 1 || begun.into_inner() == 4);
        }
    }
}
