//! `kelp run`: what the program is given, what it gives back, and what is
//! kept of it.

use std::io::Write;

use nix::sys::signal::Signal;

use super::harness::{Home, eventually, is_running};

/// Bytes without a pattern, the same in each run.
fn noise(count: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    (0..count).map(|_| next()).collect()
}

#[test]
fn the_environment_is_exactly_what_was_asked_for() {
    let home = Home::new();
    let mut call =
        home.run(&["--hostname", "box", "-e", "A=1 2", "-e", "GIVEN", "-e", "UNSET", "-e", "E="], &["inside"]);
    let inside = super::harness::Inside::read(&call.env("GIVEN", "x").env("SECRET", "y").succeed());
    let mut variables = inside.list("env");
    variables.sort_unstable();
    let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    assert_eq!(variables, ["A=1 2", "E=", "GIVEN=x", "HOME=/root", "HOSTNAME=box", path]);
}

#[test]
fn variables_come_from_files_too() {
    let home = Home::new();
    let file = home.path("variables");
    std::fs::write(&file, "# a comment\nA=file\nB=file\n").unwrap();
    let inside = home.inside(&["--env-file", file.to_str().unwrap(), "-e", "B=flag"]);
    assert!(inside.list("env").contains(&"A=file") && inside.list("env").contains(&"B=flag"));
}

#[test]
fn arguments_arrive_as_they_are() {
    let home = Home::new();
    let words = ["echo", "a b", "", "--rm", "-x", "$HOME", "é", "*"];
    assert_eq!(home.run(&[], &words).succeed(), "a b  --rm -x $HOME é *\n");
    let inside = super::harness::Inside::read(&home.run(&[], &["inside", "+"]).succeed());
    assert_eq!(inside.list("argv"), ["/probe", "inside", "+"]);
}

#[test]
fn a_mebibyte_goes_in_and_comes_out_byte_for_byte() {
    let home = Home::new();
    let bytes = noise(1 << 20);
    let output = home.run(&["-i"], &["cat"]).input(bytes.clone()).output();
    assert_eq!(output.code, 0, "{}", output.stderr);
    assert!(output.bytes == bytes, "{} bytes came back", output.bytes.len());
    assert_eq!(output.stderr, "");
}

#[test]
fn without_interactive_the_input_is_empty() {
    let home = Home::new();
    let output = home.run(&[], &["cat", "+", "link", "/proc/self/fd/0"]).input("secret").output();
    assert_eq!((output.code, output.stdout.as_str()), (0, "/dev/null\n"));
}

#[test]
fn the_two_outputs_stay_apart() {
    let home = Home::new();
    let output = home.run(&[], &["echo", "out", "+", "error", "err"]).output();
    assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("out\n", "err\n"));
}

#[test]
fn output_can_be_a_file_or_nobody() {
    let home = Home::new();
    let path = home.path("output");
    let mut call = home.run(&[], &["echo", "hello"]);
    call.command.stdout(std::fs::File::create(&path).unwrap());
    assert_eq!(call.code(), 0);
    assert_eq!(std::fs::read_to_string(path).unwrap(), "hello\n");
}

#[test]
fn signals_reach_the_program() {
    let home = Home::new();
    for (signal, name) in [(Signal::SIGTERM, "SIGTERM"), (Signal::SIGHUP, "SIGHUP"), (Signal::SIGUSR1, "SIGUSR1")] {
        for init in [&[][..], &["--init"]] {
            let mut running = home.start(init, &["signals"]);
            running.signal(signal);
            let output = running.wait();
            assert_eq!((output.code, output.stdout.trim()), (40, name), "{init:?}");
        }
    }
}

#[test]
fn signals_reach_a_program_of_another_user_through_init() {
    let home = Home::new();
    let mut running = home.start(&["--init", "--user", "web"], &["signals"]);
    running.signal(Signal::SIGTERM);
    assert_eq!(running.wait().code, 40);
}

#[test]
fn a_program_that_ignores_three_interrupts_is_killed() {
    let home = Home::new();
    let mut running = home.start(&[], &["stubborn"]);
    for _ in 0..2 {
        running.signal(Signal::SIGINT);
        assert_eq!(running.line(), "SIGINT");
    }
    running.signal(Signal::SIGINT);
    assert_eq!(running.wait().code, 137);
}

#[test]
fn init_reaps_and_is_pid_1() {
    let home = Home::new();
    assert_eq!(home.lines(&["--init"], &["orphan"]), ["zombies 0"]);
    let inside = home.inside(&["--init"]);
    assert_eq!((inside.number("pid"), inside.number("parent")), (2, 1));
    let inside = home.inside(&[]);
    assert_eq!((inside.number("pid"), inside.number("parent")), (1, 0));
}

#[test]
fn the_working_directory_is_made_and_entered() {
    let home = Home::new();
    assert_eq!(home.inside(&[]).text("cwd"), "/");
    assert_eq!(home.inside(&["-w", "/home/web"]).text("cwd"), "/home/web");
    assert_eq!(home.inside(&["-w", "/new/../new/deep"]).text("cwd"), "/new/deep");
    home.run(&["-w", "relative"], &[]).refuse(125, &["relative", "absolute"]);
    home.run(&["-w", "/probe"], &[]).refuse(125, &["/probe"]);
}

#[test]
fn what_is_removed_at_the_end_leaves_nothing() {
    let home = Home::new();
    assert_eq!(home.run(&["--name", "short"], &["exit", "3"]).code(), 3);
    assert_eq!(home.entries("containers"), [""; 0]);
    assert_eq!(home.entries("names"), [""; 0]);
    assert!(eventually(|| home.entries("trash").is_empty()));
    let left = std::fs::read_dir(home.containers_run()).map_or(0, Iterator::count);
    assert_eq!(left, 0, "files of the runtime directory stay");
}

#[test]
fn what_is_kept_can_be_listed_and_removed() {
    let home = Home::new();
    assert_eq!(home.run_kept(&["--name", "one", "-l", "a=b", "--label", "c"], &["exit", "3"]).code(), 3);
    let containers = home.containers();
    assert_eq!(containers.len(), 1);
    assert_eq!(containers[0]["name"], "one");
    assert_eq!(containers[0]["state"], "exited");
    assert_eq!(containers[0]["code"], 3);
    let labels = containers[0]["labels"].to_string();
    assert!(labels.contains("\"a\"") && labels.contains("\"b\"") && labels.contains("\"c\""), "{labels}");
    assert_eq!(home.kelp(&["ps", "-q"]).succeed(), "");
    let table = home.kelp(&["ps", "-a"]).succeed();
    assert!(table.starts_with("CONTAINER ID") && table.contains("Exited (3)"), "{table}");
    assert_eq!(home.kelp(&["rm", "one"]).succeed(), "one\n");
    assert_eq!(home.containers().len(), 0);
}

/// It was said to be "being started" while its supervisor was about to end.
#[test]
fn what_has_ended_can_be_removed_at_once() {
    let home = Home::new();
    for _ in 0..20 {
        home.run_kept(&["--name", "one"], &["exit", "0"]).succeed();
        home.kelp(&["rm", "one"]).succeed();
    }
}

#[test]
fn a_container_is_found_by_the_start_of_its_id() {
    let home = Home::new();
    home.run_kept(&["--name", "one"], &["exit", "0"]).succeed();
    let id = home.containers()[0]["id"].as_str().unwrap().to_owned();
    assert_eq!(id.len(), 64);
    home.kelp(&["rm", &id[..6]]).succeed();
    home.kelp(&["rm", &id[..6]]).refuse(1, &["no container"]);
}

#[test]
fn a_name_belongs_to_one_container() {
    let home = Home::new();
    let mut first = home.start(&["--name", "web"], &["signals"]);
    home.run(&["--name", "web"], &["exit", "0"]).refuse(125, &["the name \"web\" is taken", "kelp rm web"]);
    home.kelp(&["rm", "web"]).refuse(1, &["is running", "--force"]);
    assert_eq!(home.kelp(&["rm", "-f", "web"]).succeed(), "web\n");
    assert_eq!(first.wait().code, 137);
    assert_eq!(home.run(&["--name", "web"], &["exit", "0"]).code(), 0);
}

#[test]
fn a_running_container_is_listed_with_what_it_runs() {
    let home = Home::new();
    let mut running = home.start(&["--name", "web"], &["signals"]);
    let containers = home.containers();
    assert_eq!(containers[0]["state"], "running");
    let payload = i32::try_from(containers[0]["payload"]["pid"].as_i64().unwrap()).unwrap();
    assert!(is_running(payload));
    assert!(home.kelp(&["ps"]).succeed().contains("/probe signals"));
    running.signal(Signal::SIGTERM);
    running.wait();
    assert!(!is_running(payload));
}

#[test]
fn the_id_is_written_to_a_new_file_only() {
    let home = Home::new();
    let file = home.path("id");
    let file = file.to_str().unwrap();
    home.run_kept(&["--cidfile", file], &["exit", "0"]).succeed();
    assert_eq!(std::fs::read_to_string(file).unwrap(), home.containers()[0]["id"].as_str().unwrap());
    home.run(&["--cidfile", file], &["exit", "0"]).refuse(125, &[file]);
    assert_eq!(home.containers().len(), 1);
}

#[test]
fn limits_are_set() {
    let home = Home::new();
    let inside = home.inside(&["--ulimit", "nofile=100:200", "--ulimit", "core=0"]);
    assert_eq!(inside.0["limits"]["Max open files"], "100 200");
    assert_eq!(inside.0["limits"]["Max core file size"], "0 0");
}

#[test]
fn a_dry_run_prints_the_plan_and_starts_nothing() {
    let home = Home::new();
    let plan = home.run(&["--dry-run", "--hostname", "box"], &["exit", "9"]).succeed();
    let plan: serde_json::Value = serde_json::from_str(&plan).unwrap();
    assert_eq!(plan["hostname"], "box");
    assert_eq!(plan["process"]["arguments"], serde_json::json!(["/probe", "exit", "9"]));
    assert_eq!(home.entries("containers"), [""; 0]);
}

#[test]
fn the_hosts_own_root_can_be_used() {
    let home = Home::new();
    let mut call =
        home.kelp(&["run", "--rm", "--rootfs", "/", "sh", "-c", "id -u; echo x > /usr/kelp-was-here; ls /usr"]);
    let said = call.succeed();
    assert!(said.starts_with("0\n") && said.contains("kelp-was-here"), "{said}");
    assert!(!std::path::Path::new("/usr/kelp-was-here").exists());
}

#[test]
fn a_root_directory_stays_as_it_is() {
    let home = Home::new();
    assert_eq!(home.lines(&[], &["write", "/etc/new", "x", "+", "write", "/etc/group", "y"]), ["ok", "ok"]);
    assert!(!home.rootfs().join("etc/new").exists());
    assert!(std::fs::read_to_string(home.rootfs().join("etc/group")).unwrap().starts_with("root:"));
}

#[test]
fn what_is_typed_after_the_start_arrives() {
    let home = Home::new();
    let mut running = home.start(&["-i"], &["echo", "ready", "+", "line"]);
    running.child.stdin.as_mut().unwrap().write_all(b"hello\n").unwrap();
    assert_eq!(running.line(), "got \"hello\\n\"");
    assert_eq!(running.wait().code, 0);
}

/// The first start makes the base user namespace under a lock; it was held
/// until that container ended.
#[test]
fn the_first_container_holds_no_lock_against_others() {
    let home = Home::new();
    let running = home.start(&[], &["signals"]);
    let lock = std::fs::File::options().read(true).write(true).open(home.run_dir().join("base.lock")).unwrap();
    assert!(lock.try_lock().is_ok());
    drop(running);
}
