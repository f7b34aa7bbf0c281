//! How willingly the kernel kills a program where memory is short
//! (`--oom-score-adj`, proc_pid_oom_score_adj(5)).
//!
//! It is inherited, and a process that cannot be traced cannot set its own. So
//! the supervisor has the program's for the moment of the clone, and its own
//! again afterwards: what it has raised it may lower again, but never below
//! what a privileged process has set.

use std::fs;

use crate::error::{Failure, Result};

const OWN: &str = "/proc/self/oom_score_adj";

/// What the caller had before.
pub(super) struct Own(String);

/// Gives the caller `score` until [`restore`]; nothing for `None`.
pub(super) fn lend(score: Option<i32>) -> Result<Option<Own>> {
    let Some(score) = score else { return Ok(None) };
    let own = fs::read_to_string(OWN)?.trim().to_owned();
    match fs::write(OWN, score.to_string()) {
        Ok(()) => Ok(Some(Own(own))),
        Err(error) => {
            let failure = Failure::from(error).doing(format!("set oom_score_adj to {score}"));
            Err(failure.hint(format!("an ordinary user can only raise it, and here it is {own}")))
        }
    }
}

/// Gives the caller its own again. The child of a clone keeps what was lent.
pub(super) fn restore(own: Option<Own>) {
    if let Some(Own(score)) = own {
        // It was its own a moment ago; with another one it goes on as well.
        fs::write(OWN, score).ok();
    }
}
