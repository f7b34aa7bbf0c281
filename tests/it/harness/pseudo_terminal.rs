//! A terminal for kelp: the test has the other end.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::sync::{Arc, Mutex};

use nix::pty::{OpenptyResult, Winsize, openpty};
use nix::sys::termios::{LocalFlags, tcgetattr};

use super::{Call, Running, eventually};

/// A terminal with a program on it.
pub struct Terminal {
    master: File,
    slave: OwnedFd,
    seen: Arc<Mutex<Vec<u8>>>,
    /// The program.
    pub running: Running,
}

impl Terminal {
    /// Starts `call` with a controlling terminal of so many columns and rows.
    pub fn start(call: &mut Call, columns: u16, rows: u16) -> Self {
        let size = Winsize { ws_col: columns, ws_row: rows, ws_xpixel: 0, ws_ypixel: 0 };
        let OpenptyResult { master, slave } = openpty(&size, None).unwrap();
        let copy = || slave.try_clone().unwrap();
        call.command.stdin(copy()).stdout(copy()).stderr(copy());
        // SAFETY: between fork and exec `take_terminal` only calls setsid(2) and ioctl(2), which are safe there.
        unsafe { call.command.pre_exec(take_terminal) };
        let running = call.start();
        let master = File::from(master);
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (mut reader, sink) = (master.try_clone().unwrap(), Arc::clone(&seen));
        std::thread::spawn(move || {
            let mut buffer = [0_u8; 4096];
            while let Ok(count @ 1..) = reader.read(&mut buffer) {
                sink.lock().unwrap().extend_from_slice(&buffer[..count]);
            }
        });
        Self { master, slave, seen, running }
    }

    /// All that was printed so far.
    pub fn seen(&self) -> String {
        String::from_utf8_lossy(&self.seen.lock().unwrap()).into_owned()
    }

    /// Waits until `text` was printed.
    #[track_caller]
    pub fn expect(&self, text: &str) {
        assert!(eventually(|| self.seen().contains(text)), "no {text:?} in {:?}", self.seen());
    }

    /// Types.
    pub fn type_in(&mut self, text: &str) {
        self.master.write_all(text.as_bytes()).unwrap();
    }

    /// Changes the window's size, as a terminal emulator does.
    pub fn resize(&self, columns: u16, rows: u16) {
        let size = Winsize { ws_col: columns, ws_row: rows, ws_xpixel: 0, ws_ypixel: 0 };
        // SAFETY: TIOCSWINSZ reads one winsize from the pointer, which is to a live one.
        let result = unsafe { libc::ioctl(self.master.as_raw_fd(), libc::TIOCSWINSZ, &size) };
        assert_eq!(result, 0);
    }

    /// Whether the terminal is in raw mode: no echo, no lines.
    pub fn is_raw(&self) -> bool {
        let modes = tcgetattr(self.slave.as_fd()).unwrap();
        !modes.local_flags.intersects(LocalFlags::ECHO | LocalFlags::ICANON)
    }
}

/// Makes standard input the controlling terminal of a new session.
fn take_terminal() -> std::io::Result<()> {
    nix::unistd::setsid()?;
    // SAFETY: TIOCSCTTY takes a number.
    match unsafe { libc::ioctl(0, libc::TIOCSCTTY, 0) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}
