//! What a host may not have. A test that cannot run says so by name, and
//! tests/run fails when that is not in tests/skips.txt.

use std::io::Write;

/// Writes the skip down and prints it.
pub fn skip(name: &str, reason: &str) {
    println!("SKIP {name}: {reason}");
    if let Some(path) = std::env::var_os("KELP_TEST_SKIPS").filter(|path| !path.is_empty()) {
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
        writeln!(file, "{name}: {reason}").unwrap();
    }
}

/// Leaves the test unless `condition` holds; the reason is for people.
macro_rules! needs {
    ($condition:expr, $reason:expr) => {
        if !$condition {
            let name = std::thread::current().name().unwrap_or("?").replace("::", ".");
            $crate::harness::needs::skip(&name, $reason);
            return;
        }
    };
}
pub(crate) use needs;

/// Whether this program of the host succeeds.
pub fn works(program: &str, arguments: &[&str]) -> bool {
    let mut command = std::process::Command::new(program);
    command.args(arguments).stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
