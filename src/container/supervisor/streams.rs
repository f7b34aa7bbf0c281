//! The program's standard streams: whose they are, and who gets a copy.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};

use super::super::control::{FromSupervisor, StreamsWanted};
use super::clients::FIRST;
use super::files::{self, Files};
use super::{Stream, Supervisor};
use crate::error::{Context, Failure, Result};
use crate::kernel::file;
use crate::kernel::terminal::Size;
use crate::sandbox::stage::init::Streams;

/// The program's own ends, until it has them. `None` is the command's own.
#[derive(Default)]
pub(super) struct Ends {
    stdin: Option<OwnedFd>,
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
}

impl Ends {
    pub(super) fn streams(&self, size: Option<Size>) -> Streams<'_> {
        Streams {
            stdin: self.stdin.as_ref().map(AsFd::as_fd),
            stdout: self.stdout.as_ref().map(AsFd::as_fd),
            stderr: self.stderr.as_ref().map(AsFd::as_fd),
            size,
        }
    }
}

impl Supervisor {
    /// The program's ends of new streams.
    pub(super) fn make_streams(&mut self) -> Result<Ends> {
        let record = &self.request.record;
        if record.terminal {
            // All three are the terminal, which init makes.
            return Ok(Ends::default());
        }
        let mut ends = Ends::default();
        if self.request.streams == StreamsWanted::Passed {
            let (files, taken) = Files::take(record.interactive)?;
            self.files = files;
            let files::Ends { stdin, stdout, stderr } = taken;
            ends = Ends { stdin, stdout, stderr };
            if !record.interactive {
                ends.stdin = Some(null()?);
            }
            return Ok(ends);
        }
        if record.interactive {
            let (read, write) = files::pipe()?;
            file::set_nonblocking(write.as_fd())?;
            (ends.stdin, self.stdin) = (Some(read), Some(write));
        } else {
            ends.stdin = Some(null()?);
        }
        let (stdout, stderr) = self.output.pipes()?;
        (ends.stdout, ends.stderr) = (Some(stdout), Some(stderr));
        Ok(ends)
    }

    /// Takes over the master of the program's terminal.
    pub(super) fn take_terminal(&mut self, master: OwnedFd) -> Result<()> {
        self.output.add(copy(&master)?, Stream::Stdout)?;
        self.terminal = Some(master);
        Ok(())
    }

    /// Gives the command that started the program what it wants of its streams.
    pub(super) fn share_streams(&mut self) -> Result<()> {
        let StreamsWanted::Attached { stdin } = self.request.streams else { return Ok(()) };
        // Once: a program that is started again has other listeners or none.
        self.request.streams = StreamsWanted::Kept;
        self.attach(FIRST, stdin, self.owner == Some(FIRST))?;
        if stdin {
            // It ends when the command's input does.
            self.stdin = None;
        }
        Ok(())
    }

    /// Gives `client` pipes of its own and, with `stdin`, the way to the
    /// program's standard input.
    pub(super) fn attach(&mut self, client: u64, stdin: bool, is_patient: bool) -> Result<()> {
        if self.request.streams == StreamsWanted::Passed {
            let cause = "its streams are those of the command that runs it";
            return Err(Failure::user(cause)
                .hint("only kelp run --rm without -t does so; --log-driver json-file makes it keep a log as well"));
        }
        let terminal = self.request.record.terminal;
        let mut ends = self.output.tap(client, terminal, is_patient)?;
        match (&self.terminal, &self.stdin) {
            (Some(master), _) => ends.push(copy(master)?),
            (None, Some(write)) if stdin => ends.push(copy(write)?),
            _ => {}
        }
        self.clients.expect_end(client);
        self.clients.tell(client, &FromSupervisor::Streams { terminal }, &ends);
        Ok(())
    }
}

fn copy(fd: &OwnedFd) -> Result<OwnedFd> {
    fd.try_clone().doing(|| "copy a stream")
}

fn null() -> Result<OwnedFd> {
    Ok(File::open("/dev/null").doing(|| "open /dev/null")?.into())
}
