//! `kelp exec`: programs beside a container's own.

use std::fs;

use nix::sys::signal::Signal;

use super::harness::needs::{needs, works};
use super::harness::pseudo_terminal::Terminal;
use super::harness::{Call, Home, Inside, Running, eventually};

const KINDS: [&str; 8] = ["user", "mnt", "pid", "ipc", "uts", "net", "cgroup", "time"];

/// A container called `box` that runs until it is killed.
fn start(home: &Home, options: &[&str]) -> Running {
    home.start(&[&["--name", "box"], options].concat(), &["echo", "ready", "+", "forever"])
}

/// `kelp exec OPTIONS box /probe WORDS`.
fn exec(home: &Home, options: &[&str], words: &[&str]) -> Call {
    let mut call = home.kelp(&["exec"]);
    call.args(options).args(&["box", "/probe"]).args(words);
    call
}

fn inside(home: &Home, options: &[&str]) -> Inside {
    Inside::read(&exec(home, options, &["inside"]).succeed())
}

fn lines(home: &Home, options: &[&str], words: &[&str]) -> Vec<String> {
    exec(home, options, words).succeed().lines().map(str::to_owned).collect()
}

/// The pid of the container's first process.
fn payload(home: &Home) -> i32 {
    let containers = home.containers();
    let found = containers.iter().find(|container| container["name"] == "box").unwrap();
    i32::try_from(found["payload"]["pid"].as_i64().unwrap()).unwrap()
}

/// The namespaces of a process of the host's.
fn namespaces_of(pid: i32) -> Vec<u64> {
    let inode = |kind: &&str| {
        let link = fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap();
        link.to_str().unwrap().split_once('[').unwrap().1.trim_end_matches(']').parse().unwrap()
    };
    KINDS.iter().map(inode).collect()
}

#[track_caller]
fn shares_all_namespaces(home: &Home) {
    let inside = inside(home, &[]);
    assert_eq!(KINDS.map(|kind| inside.namespace(kind)).to_vec(), namespaces_of(payload(home)));
}

#[test]
fn it_is_where_the_container_is_and_may_do_what_that_may() {
    let home = Home::new();
    let _running = start(&home, &["--ulimit", "nofile=100:200", "-w", "/data"]);
    shares_all_namespaces(&home);
    let inside = inside(&home, &[]);
    assert_eq!(inside.capabilities(), [0, 0xa804_25fb, 0xa804_25fb, 0xa804_25fb, 0]);
    assert_eq!((inside.status("Seccomp"), inside.status("NoNewPrivs")), ("2", "0"));
    assert_eq!(inside.0["limits"]["Max open files"], "100 200");
    assert_eq!((inside.text("cwd"), inside.text("death_signal")), ("/data", "SIGKILL"));
    assert_eq!((inside.number("parent"), inside.status("Uid")), (0, "0 0 0 0"));
    assert_eq!(inside.status("Groups"), "0 44");
    let open: Vec<&String> = inside.0["descriptors"].as_object().unwrap().keys().collect();
    assert_eq!(open, ["0", "1", "2"], "{}", inside.0["descriptors"]);
}

#[test]
fn restrictions_of_the_container_are_its_own() {
    let home = Home::new();
    let options = ["--security-opt", "no-new-privileges", "--cap-drop", "ALL", "--cap-add", "CHOWN", "--read-only"];
    let _running = start(&home, &options);
    let inside = inside(&home, &[]);
    assert_eq!(inside.capabilities(), [0, 1, 1, 1, 0]);
    assert_eq!((inside.status("Seccomp"), inside.status("NoNewPrivs")), ("2", "1"));
    let words = ["write", "/data/x", "1", "+", "syscall", "bpf", "+", "read", "/proc/interrupts"];
    assert_eq!(lines(&home, &[], &words), ["error: EROFS", "EPERM", ""]);
}

#[test]
fn namespaces_that_are_the_hosts_or_anothers_are_met() {
    let home = Home::new();
    let hosts = ["--pid", "host", "--network", "host", "--ipc", "host", "--uts", "host", "--cgroupns", "host"];
    let mut first = start(&home, &hosts);
    shares_all_namespaces(&home);
    home.kelp(&["rm", "-f", "box"]).succeed();
    first.wait();
    let _other = home.start(&["--name", "other"], &["echo", "ready", "+", "forever"]);
    let joined = ["--pid", "container:other", "--network", "container:other", "--ipc", "container:other"];
    let _running = start(&home, &joined);
    shares_all_namespaces(&home);
}

#[test]
fn clocks_are_the_containers() {
    let home = Home::new();
    let _running = start(&home, &["--time-offset", "boottime=100000"]);
    shares_all_namespaces(&home);
    let here = nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME).unwrap().tv_sec();
    assert!((100_000..100_060).contains(&(inside(&home, &[]).number("boottime_s") - here)));
}

#[test]
fn the_environment_is_the_containers_and_what_was_asked_for() {
    let home = Home::new();
    let _running = start(&home, &["-e", "A=1", "-e", "B=2", "-e", "C=3", "--hostname", "here"]);
    let file = home.path("variables");
    fs::write(&file, "A=file\nD=file\nFROM_CALLER\n").unwrap();
    let options = ["--env-file", file.to_str().unwrap(), "-e", "D=word", "-e", "C"];
    let said = exec(&home, &options, &["inside"]).env("FROM_CALLER", "yes").succeed();
    let inside = Inside::read(&said);
    let mut env = inside.list("env");
    env.sort_unstable();
    let path = env.iter().find(|line| line.starts_with("PATH=")).copied().unwrap();
    assert_eq!(env, ["A=file", "B=2", "D=word", "FROM_CALLER=yes", "HOME=/root", "HOSTNAME=here", path]);
}

#[test]
fn users_are_those_of_the_container() {
    let home = Home::new();
    let _running = start(&home, &["-u", "web", "--group-add", "99"]);
    let identity = |options: &[&str]| {
        let inside = inside(&home, options);
        format!("{} {} {}", inside.status("Uid"), inside.status("Gid"), inside.status("Groups"))
    };
    assert_eq!(identity(&[]), "1000 1000 1000 1000 1000 1000 1000 1000 29 44 99 1000");
    assert_eq!(identity(&["-u", "0"]), "0 0 0 0 0 0 0 0 0 44 99");
    assert_eq!(identity(&["--user", "77:88"]), "77 77 77 77 88 88 88 88 88 99");
    assert_eq!(inside(&home, &[]).capabilities(), [0, 0, 0, 0xa804_25fb, 0]);
    assert!(inside(&home, &["-u", "web:staff"]).list("env").contains(&"HOME=/home/web"));
    // Not those of the image: the container has changed its own.
    let words = ["write", "/etc/passwd", "new:x:5:6::/:\n"];
    assert_eq!(lines(&home, &["-u", "0"], &words), ["ok"]);
    assert!(identity(&["-u", "new"]).starts_with("5 5 5 5 6"));
    exec(&home, &["-u", "nobody"], &[]).refuse(125, &["no user \"nobody\"", "/etc/passwd"]);
    exec(&home, &["-u", "99999999"], &[]).refuse(125, &["99999999"]);
}

#[test]
fn one_id_is_enough() {
    needs!(works("/usr/bin/unshare", &["-Ur", "true"]), "unshare -Ur does not work here");
    let home = Home::new();
    let (rootfs, kelp) = (home.rootfs(), super::harness::kelp_binary());
    let script = "\"$0\" run --rm --name box --rootfs \"$1\" /probe signals & \
         until \"$0\" exec box /probe inside 2>/dev/null; do sleep 0.05; done; \
         \"$0\" exec box /probe chown /etc/group 5 5; \"$0\" exec -t box /probe link /proc/self/fd/0; \
         \"$0\" exec -u 5 box /probe; echo $?; kill %1; wait";
    let words = ["-Ur", "/bin/bash", "-c", script, kelp.to_str().unwrap(), rootfs.to_str().unwrap()];
    let output = home.call(std::path::Path::new("/usr/bin/unshare"), &words).output();
    let said: Vec<&str> = output.stdout.lines().filter(|line| !matches!(*line, "ready" | "SIGTERM")).collect();
    let inside = Inside::read(said.first().unwrap());
    assert!(inside.list("uid_map")[0].starts_with("0 0 1"), "{}", inside.0["uid_map"]);
    assert_eq!(said[1..], ["ok", "/dev/pts/0", "125"], "{}", output.stderr);
    assert!(output.stderr.contains("only your own id is mapped"), "{}", output.stderr);
}

#[test]
fn the_working_directory_can_be_chosen_but_is_not_made() {
    let home = Home::new();
    let _running = start(&home, &[]);
    assert_eq!(inside(&home, &["-w", "/home/web"]).text("cwd"), "/home/web");
    exec(&home, &["-w", "/nowhere"], &[]).refuse(127, &["/nowhere"]);
    exec(&home, &["-w", "/etc/passwd"], &[]).refuse(127, &["/etc/passwd"]);
    exec(&home, &["-w", "data"], &[]).refuse(125, &["not an absolute path"]);
}

#[test]
fn exit_statuses_are_dockers() {
    let home = Home::new();
    let mut running = start(&home, &[]);
    assert_eq!(exec(&home, &[], &["exit", "7"]).code(), 7);
    assert_eq!(exec(&home, &[], &["raise", "9"]).code(), 137);
    home.kelp(&["exec", "box", "nothing"]).refuse(127, &["no program \"nothing\""]);
    home.kelp(&["exec", "box", "/etc/passwd"]).refuse(126, &["/etc/passwd"]);
    home.kelp(&["exec", "-d", "box", "nothing"]).refuse(127, &["no program \"nothing\""]);
    home.kelp(&["exec", "box"]).refuse(125, &["COMMAND"]);
    home.kelp(&["exec", "--nothing", "box", "x"]).refuse(125, &["--nothing"]);
    home.kelp(&["exec", "--privileged", "box", "x"]).refuse(125, &["--privileged", "rights"]);
    home.kelp(&["exec", "other", "x"]).refuse(1, &["other"]);
    home.kelp(&["kill", "box"]).succeed();
    assert_eq!(running.wait().code, 137);
    exec(&home, &[], &[]).refuse(1, &["container \"box\" is not running"]);
    let id = home.containers()[0]["id"].as_str().unwrap().to_owned();
    home.kelp(&["container", "exec", &id, "/probe"]).refuse(1, &["is not running"]);
}

#[test]
fn a_paused_container_runs_nothing() {
    let home = Home::new();
    let _running = start(&home, &[]);
    home.kelp(&["pause", "box"]).succeed();
    exec(&home, &[], &[]).refuse(1, &["is paused", "kelp unpause box"]);
    home.kelp(&["unpause", "box"]).succeed();
    assert_eq!(lines(&home, &[], &["echo", "a"]), ["a"]);
}

#[test]
fn streams_are_the_callers() {
    let home = Home::new();
    let _running = start(&home, &[]);
    let output = exec(&home, &["-i"], &["cat", "+", "error", "e"]).input("in\n").output();
    assert_eq!((output.code, output.stdout.as_str(), output.stderr.as_str()), (0, "in\n", "e\n"));
    assert_eq!(exec(&home, &[], &["cat"]).input("in\n").succeed(), "", "without -i there is nothing to read");
    let long = "0123456789\n".repeat(50_000);
    assert!(exec(&home, &["-i"], &["cat"]).input(long.as_str()).succeed() == long);
}

#[test]
fn files_go_through_pipes_and_directories_nowhere() {
    let home = Home::new();
    let _running = start(&home, &[]);
    let (from, to) = (home.path("from"), home.path("to"));
    let long = "0123456789\n".repeat(50_000);
    fs::write(&from, &long).unwrap();
    let open = || fs::File::create(&to).unwrap();
    let mut call = exec(&home, &["-i"], &["cat"]);
    call.command.stdin(fs::File::open(&from).unwrap()).stdout(open());
    assert_eq!(call.code(), 0);
    assert!(fs::read_to_string(&to).unwrap() == long);
    let mut call = exec(&home, &["-i"], &["link", "/proc/self/fd/0", "+", "link", "/proc/self/fd/1"]);
    call.command.stdin(fs::File::open(&from).unwrap()).stdout(open());
    assert_eq!(call.code(), 0);
    let said = fs::read_to_string(&to).unwrap();
    assert!(said.lines().count() == 2 && said.lines().all(|line| line.starts_with("pipe:")), "{said}");
    let mut call = exec(&home, &["-i"], &["list", "."]);
    call.command.stdin(fs::File::open("/").unwrap());
    call.refuse(125, &["standard input is a directory"]);
}

#[test]
fn a_terminal_of_its_own() {
    let home = Home::new();
    let _running = start(&home, &["-w", "/data"]);
    let mut terminal = Terminal::start(&mut exec(&home, &["-it"], &["sizes"]), 101, 33);
    terminal.expect("size 101x33");
    assert!(eventually(|| terminal.is_raw()));
    terminal.resize(55, 11);
    terminal.expect("size 55x11");
    terminal.type_in("\r");
    assert_eq!(terminal.running.wait().code, 0);
    assert!(!terminal.is_raw());
    let said = exec(&home, &["-t", "-u", "web"], &["link", "/proc/self/fd/0", "+", "stat", "/dev/pts/0"]).succeed();
    let said: Vec<&str> = said.lines().collect();
    assert_eq!(said.first(), Some(&"/dev/pts/0"));
    assert!(said.get(1).is_some_and(|line| line.starts_with("1000:1000 20620 ")), "it is the user's: {said:?}");
    assert!(inside(&home, &["-t"]).list("env").contains(&"TERM=xterm"));
}

#[test]
fn keys_reach_the_program() {
    let home = Home::new();
    let _running = start(&home, &[]);
    let mut terminal = Terminal::start(&mut exec(&home, &["-it"], &["signals"]), 80, 24);
    terminal.expect("ready");
    terminal.type_in("\x03");
    terminal.expect("SIGINT");
    assert_eq!(terminal.running.wait().code, 40);
    let mut terminal =
        Terminal::start(&mut exec(&home, &["-it"], &["echo", "ready", "+", "cat", "+", "exit", "3"]), 80, 24);
    terminal.expect("ready");
    terminal.type_in("hello\r");
    terminal.expect("hello\r\nhello\r\n");
    terminal.type_in("\x04");
    assert_eq!(terminal.running.wait().code, 3);
}

#[test]
fn much_output_through_a_terminal_is_whole() {
    let home = Home::new();
    fs::write(home.rootfs().join("data/long"), "0123456789\n".repeat(20_000)).unwrap();
    let _running = start(&home, &[]);
    let said = exec(&home, &["-t"], &["read", "/data/long"]).succeed();
    assert_eq!(said.matches("0123456789\r\n").count(), 20_000);
}

#[test]
fn keys_that_detach_leave_the_program_running() {
    let home = Home::new();
    let _running = start(&home, &[]);
    for (options, keys) in [(&["-it"][..], "\x10\x11"), (&["-it", "--detach-keys", "ctrl-x,y"], "\x18y")] {
        let mut terminal = Terminal::start(&mut exec(&home, options, &["echo", "ready", "+", "forever"]), 80, 24);
        terminal.expect("ready");
        assert!(eventually(|| terminal.is_raw()));
        terminal.type_in(keys);
        assert_eq!(terminal.running.wait().code, 0);
    }
    assert_eq!(processes(&home), 3);
}

/// How many processes the container has.
fn processes(home: &Home) -> usize {
    inside(home, &[]).0["processes"].as_object().unwrap().len() - 1
}

#[test]
fn detached_it_is_left_to_itself() {
    let home = Home::new();
    let _running = start(&home, &[]);
    for options in [&["-d"][..], &["-dt"], &["--detach", "-i"]] {
        assert_eq!(exec(&home, options, &["echo", "a", "+", "forever"]).succeed(), "");
    }
    assert_eq!(processes(&home), 4);
    assert_eq!(exec(&home, &["-d"], &["write", "/data/mark", "x"]).succeed(), "");
    assert!(eventually(|| lines(&home, &[], &["read", "/data/mark"]) == ["x"]));
}

#[test]
fn signals_go_to_the_program() {
    let home = Home::new();
    let _running = start(&home, &[]);
    for (signal, name) in [(Signal::SIGTERM, "SIGTERM"), (Signal::SIGINT, "SIGINT"), (Signal::SIGUSR1, "SIGUSR1")] {
        let mut call = exec(&home, &[], &["signals"]).start();
        assert_eq!(call.line(), "ready");
        call.signal(signal);
        assert_eq!(call.line(), name);
        assert_eq!(call.wait().code, 40);
    }
}

#[test]
fn a_command_that_is_killed_leaves_its_program_running() {
    let home = Home::new();
    let _running = start(&home, &[]);
    let mut call = exec(&home, &[], &["echo", "ready", "+", "forever"]).start();
    assert_eq!(call.line(), "ready");
    call.signal(Signal::SIGKILL);
    // Not for the end of its output, which the program still has.
    call.child.wait().unwrap();
    let mut terminal = Terminal::start(&mut exec(&home, &["-it"], &["echo", "ready", "+", "forever"]), 80, 24);
    terminal.expect("ready");
    terminal.running.signal(Signal::SIGKILL);
    terminal.running.wait();
    assert_eq!(processes(&home), 3);
}

#[test]
fn a_terminal_that_nobody_reads_is_hung_up() {
    let home = Home::new();
    let _running = start(&home, &[]);
    let mut call = exec(&home, &["-t"], &["echo", "ready", "+", "sizes"]);
    let (read, write) = nix::unistd::pipe().unwrap();
    call.command.stdout(write);
    drop(read);
    assert_eq!(call.output().code, 129, "SIGHUP");
    assert_eq!(processes(&home), 1);
}

#[test]
fn all_of_it_ends_with_the_container() {
    let home = Home::new();
    for options in [&[][..], &["--pid", "host"], &["--init"]] {
        let mut running = start(&home, options);
        let mut call = exec(&home, &[], &["echo", "ready", "+", "forever"]).start();
        let mut terminal = Terminal::start(&mut exec(&home, &["-it"], &["echo", "ready", "+", "forever"]), 80, 24);
        assert_eq!(call.line(), "ready");
        terminal.expect("ready");
        home.kelp(&["kill", "box"]).succeed();
        let output = running.wait();
        assert_eq!(output.code, 137, "{options:?}: {}", output.stderr);
        assert_eq!(call.wait().code, 137, "{options:?}");
        assert_eq!(terminal.running.wait().code, 137, "{options:?}");
        home.kelp(&["rm", "box"]).succeed();
    }
}

#[test]
fn it_dies_with_the_supervisor() {
    let home = Home::new();
    let mut running = start(&home, &["--pid", "host"]);
    let mut call = exec(&home, &[], &["inside", "+", "forever"]).start();
    let pid = i32::try_from(Inside::read(&call.line()).number("pid")).unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(home.supervisor("box")), Signal::SIGKILL).unwrap();
    assert!(eventually(|| !super::harness::is_running(pid)));
    let output = call.wait();
    assert_eq!(output.code, 125);
    assert!(output.stderr.contains("supervisor"), "{}", output.stderr);
    running.wait();
}

#[test]
fn a_hundred_at_once() {
    let home = Home::new();
    let _running = start(&home, &[]);
    let mut calls: Vec<Running> =
        (0..100).map(|number| exec(&home, &[], &["echo", &number.to_string(), "+", "exit", "5"]).start()).collect();
    for (number, call) in calls.iter_mut().enumerate() {
        let output = call.wait();
        assert_eq!((output.code, output.stdout.trim()), (5, number.to_string().as_str()), "{}", output.stderr);
    }
    assert_eq!(processes(&home), 1);
}

#[test]
fn a_container_that_is_stopping_never_hangs_it() {
    let home = Home::new();
    for round in 0..8 {
        let mut running = start(&home, &[]);
        let pid = nix::unistd::Pid::from_raw(payload(&home));
        let mut calls: Vec<Running> = (0..6).map(|_| exec(&home, &[], &["sleep", "1"]).start()).collect();
        std::thread::sleep(std::time::Duration::from_millis(round));
        nix::sys::signal::kill(pid, Signal::SIGKILL).unwrap();
        calls.extend((0..6).map(|_| exec(&home, &[], &["sleep", "1"]).start()));
        assert_eq!(running.wait().code, 137);
        for call in &mut calls {
            let output = call.wait();
            let words = ["is not running", "is stopping", "no container", "has ended"];
            let is_told = words.iter().any(|word| output.stderr.contains(word));
            assert!(matches!(output.code, 0 | 137) || is_told, "{} {}", output.code, output.stderr);
        }
        home.kelp(&["rm", "box"]).succeed();
    }
}

#[test]
fn hostile_accounts_cost_an_error() {
    let home = Home::new();
    let _running = start(&home, &[]);
    let hostile: [(&[&str], &str); 4] = [
        (&["fifo", "/etc/passwd"], "is not a regular file of a sane size"),
        (&["grow", "/etc/passwd", "8000000000"], "is not a regular file of a sane size"),
        (&["mkdir", "/etc/passwd"], "is not a regular file of a sane size"),
        (&["symlink", "/proc/1/root/etc/group", "/etc/passwd"], "no user \"web\""),
    ];
    let mut said = Vec::new();
    for (make, cause) in hostile {
        // Done by a program that was there before: nobody can come in while it is so.
        let words =
            [&["remove", "/etc/passwd", "+"], make, &["+", "line", "+", "remove", "/etc/passwd"], RESTORE].concat();
        let mut insider = exec(&home, &["-i"], &words).start();
        assert_eq!((insider.line().as_str(), insider.line().as_str()), ("ok", "ok"), "{make:?}");
        exec(&home, &["-u", "web"], &[]).refuse(125, &[cause]);
        said.push(insider.wait().code);
        assert_eq!(inside(&home, &["-u", "web"]).status("Gid"), "1000 1000 1000 1000");
    }
    assert_eq!(said, [0; 4]);
}

const RESTORE: &[&str] = &["+", "write", "/etc/passwd", "web:x:1000:1000:Web:/home/web:/probe\n"];

#[test]
fn magic_links_lead_nowhere() {
    let home = Home::new();
    let _running = start(&home, &[]);
    let words = ["symlink", "/proc/self/fd/3", "/data/link", "+", "symlink", "/../../../../../../tmp", "/data/up"];
    assert_eq!(lines(&home, &[], &words), ["ok", "ok"]);
    for directory in ["/proc/self/fd/3", "/proc/self/cwd", "/proc/1/root", "/data/link"] {
        exec(&home, &["-w", directory], &[]).refuse(126, &["enter working directory"]);
    }
    assert_eq!(inside(&home, &["-w", "/data/up"]).text("cwd"), "/tmp");
}

#[test]
fn a_terminal_is_of_a_devpts_or_none() {
    let home = Home::new();
    let rights = ["--cap-add", "SYS_ADMIN", "--security-opt", "seccomp=unconfined"];
    let _running = start(&home, &rights);
    let words = ["mount-memory", "/dev/pts", "+", "write", "/dev/pts/ptmx", "x"];
    assert_eq!(lines(&home, &[], &words), ["ok", "ok"]);
    exec(&home, &["-t"], &[]).refuse(125, &["/dev/pts in the container is not a devpts"]);
}

/// Makes the accounts long to read, so that there is time between a program's
/// process and the program.
fn delay_programs(home: &Home) {
    let accounts = "x:x:5:5::/:\n".repeat(100_000) + "root:x:0:0::/:\n";
    fs::write(home.rootfs().join("etc/passwd"), accounts).unwrap();
}

#[test]
fn a_process_that_is_stopped_before_it_executes_holds_nobody_up() {
    let home = Home::new();
    delay_programs(&home);
    let mut running = home.start(&["--name", "box"], &["hold", "+", "forever"]);
    let mut held = exec(&home, &[], &["echo"]).start();
    assert_eq!(running.line(), "held");
    assert_eq!(lines(&home, &[], &["echo", "a"]), ["a"]);
    held.signal(Signal::SIGTERM);
    assert_eq!(lines(&home, &[], &["echo", "b"]), ["b"]);
    home.kelp(&["kill", "box"]).succeed();
    assert_eq!((running.wait().code, held.wait().code), (137, 137));
}

#[test]
fn nothing_of_kelp_can_be_had_by_those_inside() {
    let home = Home::new();
    delay_programs(&home);
    let rights = ["--name", "box", "--cap-add", "ALL", "--security-opt", "seccomp=unconfined"];
    let mut running = home.start(&rights, &["intrude", "5"]);
    // Not all are met before they have ended.
    for _ in 0..400 {
        if running.child.try_wait().unwrap().is_some() {
            break;
        }
        exec(&home, &[], &["echo"]).output();
    }
    let said = running.wait().stdout;
    let met: Vec<&str> = said.lines().filter_map(|line| line.strip_prefix("kelp-supervisor ")).collect();
    assert!(!met.is_empty(), "none was met before it had executed: {said}");
    for had in met {
        assert!(had.split(' ').all(|one| matches!(one, "EACCES" | "EPERM" | "ENOENT")), "{had}");
    }
}
