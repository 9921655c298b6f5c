//! The two sides of a command's standard streams: pipes or a terminal. Makes them; neither reads
//! nor writes.

use std::os::fd::OwnedFd;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::unistd::{Uid, pipe2};
use protocol::init::{Start, Stdin};

use crate::helper;
use crate::owner::made_for;
use crate::stdin::{Input, Sink};
use crate::terminal::{self, Terminal};

/// PID 1's side; nothing of it blocks.
pub(crate) struct Ours {
    pub(crate) stdin: Input,
    /// What stdout and stderr are read from. A terminal has no stderr of its own.
    pub(crate) output: [Option<OwnedFd>; 2],
    /// The slave of its terminal. PID 1 keeps it: a command that closes its own must not look like
    /// one that hung up.
    pub(crate) terminal: Option<OwnedFd>,
}

/// The command's side.
pub(crate) enum Theirs {
    /// Without a `stdin`, it reads `/dev/null`.
    Pipes { stdin: Option<OwnedFd>, stdout: OwnedFd, stderr: OwnedFd },
    /// The slave of a terminal.
    Terminal(OwnedFd),
}

/// Makes both sides for a command.
///
/// # Errors
/// When the kernel has no descriptors or terminals left.
pub(crate) fn create(start: &Start) -> nix::Result<(Ours, Theirs)> {
    match start.terminal {
        Some(size) => {
            let Terminal { master, slave } = terminal::create(start.uid, size)?;
            let stdin = duplicate(&master)?;
            let stdin = match &start.stdin {
                Stdin::Closed => Input::of(stdin, Sink::Terminal, Vec::new()),
                Stdin::Bytes(bytes) => Input::of(stdin, Sink::Terminal, bytes.clone()),
                Stdin::Open => Input::open(stdin, Sink::Terminal),
            };
            let theirs = Theirs::Terminal(duplicate(&slave)?);
            Ok((Ours { stdin, output: [Some(master), None], terminal: Some(slave) }, theirs))
        }
        // Our own program talks to us: what other commands of its user could open, they could forge.
        None if helper::is_ours(&start.argv) => pipes(start),
        // A command may open its streams by name, as in `tee /dev/stderr`.
        None => made_for(Uid::from_raw(start.uid), || pipes(start)),
    }
}

fn pipes(start: &Start) -> nix::Result<(Ours, Theirs)> {
    let (input, stdin) = match &start.stdin {
        Stdin::Closed => (Input::none(), None),
        Stdin::Bytes(bytes) => {
            let (reader, writer) = input_pipe()?;
            (Input::of(writer, Sink::Pipe, bytes.clone()), Some(reader))
        }
        Stdin::Open => {
            let (reader, writer) = input_pipe()?;
            (Input::open(writer, Sink::Pipe), Some(reader))
        }
    };
    let (stdout_reader, stdout) = output_pipe()?;
    let (stderr_reader, stderr) = output_pipe()?;
    let output = [Some(stdout_reader), Some(stderr_reader)];
    let ours = Ours { stdin: input, output, terminal: None };
    Ok((ours, Theirs::Pipes { stdin, stdout, stderr }))
}

fn duplicate(fd: &OwnedFd) -> nix::Result<OwnedFd> {
    fd.try_clone().map_err(|_| nix::errno::Errno::EMFILE)
}

/// A pipe whose writing end does not block.
fn input_pipe() -> nix::Result<(OwnedFd, OwnedFd)> {
    let (reader, writer) = pipe2(OFlag::O_CLOEXEC)?;
    set_nonblocking(&writer)?;
    Ok((reader, writer))
}

/// A pipe whose reading end does not block.
pub(crate) fn output_pipe() -> nix::Result<(OwnedFd, OwnedFd)> {
    let (reader, writer) = pipe2(OFlag::O_CLOEXEC)?;
    set_nonblocking(&reader)?;
    Ok((reader, writer))
}

fn set_nonblocking(fd: &OwnedFd) -> nix::Result<()> {
    fcntl(fd, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).map(drop)
}
