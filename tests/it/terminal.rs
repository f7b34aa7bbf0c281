//! `-t`: a terminal of the container's own, joined to the caller's.

use std::time::Duration;

use nix::sys::signal::Signal;

use super::harness::pseudo_terminal::Terminal;
use super::harness::{Home, eventually};

#[test]
fn what_is_typed_is_echoed_and_read() {
    let home = Home::new();
    let mut terminal = Terminal::start(&mut home.run(&["-it"], &["echo", "ready", "+", "line"]), 80, 24);
    terminal.expect("ready");
    terminal.type_in("hello\r");
    terminal.expect("hello\r\n");
    terminal.expect("got \"hello\\n\"");
    assert_eq!(terminal.running.wait().code, 0);
}

#[test]
fn the_size_arrives_and_follows() {
    let home = Home::new();
    let mut terminal = Terminal::start(&mut home.run(&["-it"], &["sizes"]), 101, 33);
    terminal.expect("size 101x33");
    assert!(terminal.seen().starts_with("size 101x33"), "it is there from the beginning: {:?}", terminal.seen());
    terminal.resize(55, 11);
    terminal.expect("size 55x11");
    terminal.type_in("\r");
    assert_eq!(terminal.running.wait().code, 0);
}

#[test]
fn the_callers_terminal_is_raw_while_it_runs_and_as_before_at_the_end() {
    let home = Home::new();
    for last in ["exit 5", "raise 9"] {
        let words: Vec<&str> = ["echo ready + line +", last].iter().flat_map(|part| part.split(' ')).collect();
        let mut terminal = Terminal::start(&mut home.run(&["-it", "--init"], &words), 80, 24);
        terminal.expect("ready");
        assert!(eventually(|| terminal.is_raw()));
        terminal.type_in("\r");
        terminal.running.wait();
        assert!(!terminal.is_raw(), "after {last}");
    }
}

#[test]
fn the_callers_terminal_is_as_before_when_the_container_is_killed() {
    let home = Home::new();
    let mut terminal =
        Terminal::start(&mut home.run(&["-it", "--name", "box"], &["echo", "ready", "+", "forever"]), 80, 24);
    terminal.expect("ready");
    assert!(eventually(|| terminal.is_raw()));
    // The program may speak before its supervisor has written the record.
    assert!(eventually(|| !home.containers().is_empty()));
    home.kelp(&["rm", "-f", "box"]).succeed();
    assert_eq!(terminal.running.wait().code, 137);
    assert!(!terminal.is_raw());
}

#[test]
fn control_c_is_the_programs() {
    let home = Home::new();
    let mut terminal = Terminal::start(&mut home.run(&["-it"], &["signals"]), 80, 24);
    terminal.expect("ready");
    terminal.type_in("\x03");
    terminal.expect("SIGINT");
    assert_eq!(terminal.running.wait().code, 40);
}

#[test]
fn control_d_ends_the_input() {
    let home = Home::new();
    let mut terminal =
        Terminal::start(&mut home.run(&["-it"], &["echo", "ready", "+", "cat", "+", "exit", "3"]), 80, 24);
    terminal.expect("ready");
    terminal.type_in("\x04");
    assert_eq!(terminal.running.wait().code, 3);
}

#[test]
fn hanging_up_ends_the_container() {
    let home = Home::new();
    let mut terminal =
        Terminal::start(&mut home.run(&["-it", "--name", "box"], &["echo", "ready", "+", "forever"]), 80, 24);
    terminal.expect("ready");
    terminal.running.signal(Signal::SIGKILL);
    terminal.running.wait();
    assert!(eventually(|| home.containers().is_empty()), "{:?}", home.containers());
}

#[test]
fn a_terminal_without_input_needs_none_outside() {
    let home = Home::new();
    let output = home.run(&["-t"], &["echo", "a", "+", "link", "/proc/self/fd/0"]).output();
    assert_eq!((output.code, output.stdout.as_str()), (0, "a\r\n/dev/pts/0\r\n"));
    let inside = home.inside(&["-t"]);
    assert!(inside.list("env").contains(&"TERM=xterm"));
    assert!(inside.mount("/dev/console").is_some());
}

#[test]
fn much_output_through_a_terminal_is_whole() {
    let home = Home::new();
    std::fs::write(home.rootfs().join("data/long"), "0123456789\n".repeat(20_000)).unwrap();
    let said = home.run(&["-t"], &["read", "/data/long"]).succeed();
    assert_eq!(said.matches("0123456789\r\n").count(), 20_000);
    std::thread::sleep(Duration::ZERO);
}
