//! One call of a program: what goes in, what comes out, and no waiting for ever.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread::JoinHandle;
use std::time::Instant;

use nix::sys::signal::Signal;
use nix::unistd::Pid;

use super::PATIENCE;

/// A program that is about to be called, with nothing inherited.
pub struct Call {
    /// For what is not offered here.
    pub command: Command,
    input: Vec<u8>,
}

/// What became of it.
#[derive(Debug)]
pub struct Output {
    /// Exit status; 128+n for a signal.
    pub code: i32,
    /// Standard output, byte for byte.
    pub bytes: Vec<u8>,
    /// The same as text.
    pub stdout: String,
    /// Standard error as text.
    pub stderr: String,
}

impl Call {
    pub(super) fn new(program: &Path) -> Self {
        let mut command = Command::new(program);
        command.env_clear().stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Self { command, input: Vec::new() }
    }

    /// Adds arguments.
    pub fn args(&mut self, arguments: &[&str]) -> &mut Self {
        self.command.args(arguments);
        self
    }

    /// Sets a variable.
    pub fn env(&mut self, name: &str, value: impl AsRef<OsStr>) -> &mut Self {
        self.command.env(name, value);
        self
    }

    /// Gives it bytes to read.
    pub fn input(&mut self, bytes: impl Into<Vec<u8>>) -> &mut Self {
        self.input = bytes.into();
        self
    }

    /// Starts it; its standard input stays open until [`Running::wait`].
    pub fn start(&mut self) -> Running {
        let mut child = self.command.spawn().unwrap();
        let stdout = child.stdout.take().map(BufReader::new);
        let stderr = child.stderr.take().map(|mut stderr| {
            std::thread::spawn(move || {
                let mut text = Vec::new();
                stderr.read_to_end(&mut text).ok();
                text
            })
        });
        Running { child, stdout, stderr }
    }

    /// Runs it to its end.
    pub fn output(&mut self) -> Output {
        let mut running = self.start();
        let (input, stdin) = (std::mem::take(&mut self.input), running.child.stdin.take());
        let writer = std::thread::spawn(move || {
            if let Some(mut stdin) = stdin {
                // It may not want to read all of it.
                stdin.write_all(&input).ok();
            }
        });
        let output = running.wait();
        writer.join().unwrap();
        output
    }

    /// Its exit status.
    pub fn code(&mut self) -> i32 {
        self.output().code
    }

    /// Its standard output; it must succeed.
    #[track_caller]
    pub fn succeed(&mut self) -> String {
        let output = self.output();
        assert_eq!(output.code, 0, "{:?} failed: {}{}", self.command, output.stdout, output.stderr);
        output.stdout
    }

    /// Its standard error; it must fail with `code` and without a panic.
    #[track_caller]
    pub fn fail(&mut self, code: i32) -> String {
        let output = self.output();
        assert_eq!(output.code, code, "{:?} ended so: {}{}", self.command, output.stdout, output.stderr);
        assert!(!output.stderr.contains("panicked"), "{}", output.stderr);
        output.stderr
    }

    /// The same, and every one of `words` is in what it says.
    #[track_caller]
    pub fn refuse(&mut self, code: i32, words: &[&str]) {
        let said = self.fail(code);
        for word in words {
            assert!(said.contains(word), "{:?} says:\n{said}without: {word}", self.command);
        }
    }
}

/// A program under way. Killed when dropped.
pub struct Running {
    /// The process.
    pub child: Child,
    stdout: Option<BufReader<ChildStdout>>,
    stderr: Option<JoinHandle<Vec<u8>>>,
}

impl Running {
    /// The next line it prints, without its end; empty at the end.
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        if let Some(stdout) = &mut self.stdout {
            stdout.read_line(&mut line).unwrap();
        }
        line.trim_end().to_owned()
    }

    /// Its pid.
    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        nix::sys::signal::kill(Pid::from_raw(self.pid()), signal).unwrap();
    }

    /// Closes its standard input, reads what is left and waits for its end.
    pub fn wait(&mut self) -> Output {
        drop(self.child.stdin.take());
        let stdout = self.stdout.take();
        let reader = std::thread::spawn(move || {
            let mut bytes = Vec::new();
            if let Some(mut stdout) = stdout {
                stdout.read_to_end(&mut bytes).ok();
            }
            bytes
        });
        let start = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            if start.elapsed() > PATIENCE {
                self.child.kill().ok();
                panic!("it does not end within {PATIENCE:?}");
            }
            std::thread::sleep(std::time::Duration::from_millis(2));
        };
        let bytes = reader.join().unwrap();
        let stderr = self.stderr.take().map(|thread| thread.join().unwrap()).unwrap_or_default();
        use std::os::unix::process::ExitStatusExt;
        Output {
            code: status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default()),
            stdout: String::from_utf8_lossy(&bytes).into_owned(),
            bytes,
            stderr: String::from_utf8_lossy(&stderr).into_owned(),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
