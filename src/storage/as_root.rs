//! Tests that need ids or mounts: run again as root of a user namespace.

/// Whether this is the test `name` (its path below the crate) as uid 0 of a
/// user namespace with a full map and an own mount namespace. Outside of one
/// it is run again inside, and must pass there.
#[track_caller]
pub(super) fn in_namespace(name: &str) -> bool {
    if std::env::var_os("KELP_TEST_IN_NAMESPACE").is_some() {
        return true;
    }
    let output = std::process::Command::new("unshare")
        .args(["--user", "--map-root-user", "--map-auto", "--mount"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", name])
        .env("KELP_TEST_IN_NAMESPACE", "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "as a user with subordinate ids: {text}");
    false
}
