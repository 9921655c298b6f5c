//! Frames between an executor and `sandbox-init`, over a Unix socket.
//!
//! `sandbox-init` trusts the socket because only the executor can reach it; the executor trusts
//! nothing that comes back beyond its form, because the sandbox is hostile.

use domain::ids::{ExecId, SandboxId};
use serde::{Deserialize, Serialize};

use crate::checks::{Checks, Unfit};
pub use crate::frame::{FrameBuffer, FrameError, MAX_FRAME_BYTES, encode};

/// Largest piece of input in one frame, in bytes.
pub const MAX_CHUNK_BYTES: usize = 64 * 1024;
/// PID 1's program inside a sandbox: what it starts by this name is its own.
pub const INIT_PROGRAM: &str = "/.bulkhead/init";
/// Largest piece of output that `sandbox-init` puts into one frame, in bytes: each costs the executor
/// several changes of threads. It takes whatever fits a frame.
pub const MAX_OUTPUT_CHUNK_BYTES: usize = 256 * 1024;
/// Output of one stream that `sandbox-init` holds until the executor has it, in bytes. When it is
/// full, the command waits.
pub const WINDOW_BYTES: usize = 256 * 1024;
/// What it may hold of a stream whose command is fast, as long as not many are, in bytes: the
/// executor keeps one half while the other one is on its way.
pub const WIDE_WINDOW_BYTES: usize = 1024 * 1024;
/// Version of this protocol; both sides must agree.
pub const VERSION: u32 = 3;
/// Standard input that PID 1 holds for a command that does not read it, in bytes.
pub const STDIN_WINDOW_BYTES: usize = 256 * 1024;

/// One of a command's output streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Stream {
    /// Both streams, in the order used everywhere.
    pub const BOTH: [Self; 2] = [Self::Stdout, Self::Stderr];

    /// Position in arrays of two.
    pub fn index(self) -> usize {
        match self {
            Self::Stdout => 0,
            Self::Stderr => 1,
        }
    }

    /// The name used in tables and URLs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// A command to start.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Start {
    /// Which exec. A second start of the same one only attaches to it.
    pub exec_id: ExecId,
    /// Program and arguments, without NUL bytes.
    pub argv: Vec<String>,
    /// The whole environment, `NAME=value`.
    pub env: Vec<String>,
    /// Where to start.
    pub cwd: String,
    /// Its standard input.
    pub stdin: Stdin,
    /// A terminal of this size instead of pipes: stdout and stderr are then one stream, stdout.
    pub terminal: Option<TerminalSize>,
    /// User and group of the process.
    pub uid: u32,
    /// Limits on top of the container's own.
    pub rlimits: Vec<Rlimit>,
    /// Milliseconds until SIGTERM.
    pub timeout_ms: u64,
    /// Milliseconds from SIGTERM to SIGKILL.
    pub grace_ms: u64,
}

/// What a command reads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stdin {
    /// Nothing: `/dev/null`.
    Closed,
    /// These bytes, and then the end.
    Bytes(#[serde(with = "serde_bytes")] Vec<u8>),
    /// What [`ToInit::Stdin`] brings, until it closes it.
    Open,
}

/// Size of a terminal, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TerminalSize {
    /// Lines.
    pub rows: u16,
    /// Columns.
    pub cols: u16,
}

/// A limit of a command, soft and hard alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Rlimit {
    /// Open files.
    OpenFiles(u64),
    /// Bytes of one file.
    FileBytes(u64),
    /// Seconds of processor time of one process.
    CpuSeconds(u64),
}

/// What the executor tells `sandbox-init`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum ToInit {
    /// The first frame of a connection. A connection whose epoch is lower than one that was seen
    /// before is of an executor that has a successor: it is closed, and nothing it says counts.
    Welcome {
        /// [`VERSION`].
        version: u32,
        /// Grows with every start of the executor.
        epoch: u64,
        /// What else the executor can do.
        abilities: Abilities,
    },
    /// Start a command, or attach to it if it was started before.
    Start(Start),
    /// Attach to a command that was started before; send its output from these offsets.
    Attach {
        /// The exec.
        exec_id: ExecId,
        /// Bytes of each stream that the executor has, by [`Stream::index`].
        have: [u64; 2],
    },
    /// The executor has kept output up to this offset.
    Ack {
        /// The exec.
        exec_id: ExecId,
        /// The stream.
        stream: Stream,
        /// Bytes that the executor has.
        offset: u64,
    },
    /// More input for a command that was started with [`Stdin::Open`]. Bytes that came before are
    /// skipped, by their offset, so that a repetition is harmless. Answered with
    /// [`FromInit::StdinTaken`].
    Stdin {
        /// The exec.
        exec_id: ExecId,
        /// Position of the first byte in all of the input.
        offset: u64,
        /// At most [`MAX_CHUNK_BYTES`] of them.
        #[serde(with = "serde_bytes")]
        bytes: Vec<u8>,
        /// Nothing follows.
        close: bool,
    },
    /// Send a signal to the whole process tree of a command, by number. Answered with
    /// [`FromInit::Signalled`].
    Signal {
        /// The exec.
        exec_id: ExecId,
        /// 1 to 64.
        signal: i32,
    },
    /// Give a command's terminal another size. Not answered.
    Resize {
        /// The exec.
        exec_id: ExecId,
        /// The new size.
        size: TerminalSize,
    },
    /// End a command: SIGTERM, then SIGKILL after its grace, or after `limits::CANCEL_GRACE_MS` if
    /// that is shorter.
    Cancel {
        /// The exec.
        exec_id: ExecId,
    },
    /// The executor has the result; `sandbox-init` may forget the exec's output, not its id.
    Forget {
        /// The exec.
        exec_id: ExecId,
    },
    /// The same as [`ToInit::Start`], if the sandbox passes these checks; nothing is started otherwise.
    StartChecked {
        /// The command.
        start: Start,
        /// What is looked at first.
        checks: Checks,
    },
    /// The window of a stream that [`FromInit::Share`] told of can be read: what follows may come as
    /// [`FromInit::Shared`].
    SeeWindow {
        /// The exec.
        exec_id: ExecId,
        /// The stream.
        stream: Stream,
    },
}

/// What an executor can do that those before it could not. It came behind the other fields of its
/// frame: who does not know it does not see it, and where it is missing there is nothing of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Abilities {
    /// It reads windows that are shared with it ([`FromInit::Share`]).
    pub reads_windows: bool,
}

impl<'de> Deserialize<'de> for Abilities {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self { reads_windows: bool::deserialize(deserializer).unwrap_or_default() })
    }
}

/// How a process ended, as `waitpid` told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// Exit code, unless a signal ended it.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// It was ended because its time was over.
    pub timed_out: bool,
    /// It was ended by [`ToInit::Cancel`].
    pub cancelled: bool,
    /// Milliseconds from start to end.
    pub duration_ms: u64,
    /// Processes that it left behind, which were ended with it.
    pub survivors: u32,
}

/// Why a command could not be started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum StartFailure {
    /// The working directory is missing or not a directory.
    Cwd,
    /// The kernel refused a process: too many of them.
    Resources,
    /// The request itself is malformed.
    Malformed,
    /// The sandbox did not pass a check.
    Unfit(Unfit),
}

/// What `sandbox-init` tells the executor.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum FromInit {
    /// The first frame of a connection.
    Hello {
        /// [`VERSION`].
        version: u32,
        /// The sandbox.
        sandbox_id: SandboxId,
        /// Changes with every start of this PID 1: what it does not know, it never started.
        boot_id: u64,
    },
    /// The command runs, or ran.
    Started {
        /// The exec.
        exec_id: ExecId,
        /// Whether it had been started before this frame's request.
        again: bool,
    },
    /// The command could not be started.
    Failed {
        /// The exec.
        exec_id: ExecId,
        /// Why.
        why: StartFailure,
    },
    /// The exec that the executor wants to attach to was never started here.
    Unknown {
        /// The exec.
        exec_id: ExecId,
    },
    /// A piece of output.
    Output {
        /// The exec.
        exec_id: ExecId,
        /// The stream.
        stream: Stream,
        /// Position of the first byte.
        offset: u64,
        /// The bytes.
        #[serde(with = "serde_bytes")]
        bytes: Vec<u8>,
    },
    /// Answer to [`ToInit::Stdin`].
    StdinTaken {
        /// The exec.
        exec_id: ExecId,
        /// Bytes of input that were taken so far. Fewer than were offered when the command does
        /// not read: offer the rest again after a while.
        offset: u64,
        /// Whether more can come. A command that ended, or closed its input, takes none.
        open: bool,
    },
    /// Answer to [`ToInit::Signal`].
    Signalled {
        /// The exec.
        exec_id: ExecId,
        /// Whether there was a process to send it to.
        delivered: bool,
    },
    /// The command ended and all output that will ever come was sent.
    Exited {
        /// The exec.
        exec_id: ExecId,
        /// How it ended.
        exit: Exit,
        /// Size of each stream, by [`Stream::index`].
        totals: [u64; 2],
    },
    /// Said before [`FromInit::Exited`]: processes of the command live on, whatever is done. They
    /// are stuck in the kernel, and only the end of the container is left.
    Unended {
        /// The exec.
        exec_id: ExecId,
        /// How many, at least one.
        processes: u32,
    },
    /// The window of a stream is memory that both sides see: its descriptor comes with the first byte
    /// of this frame, unless the runtime cannot pass any. Until [`ToInit::SeeWindow`] answers, if it
    /// ever does, output goes on as [`FromInit::Output`]. Said once for a connection.
    Share {
        /// The exec.
        exec_id: ExecId,
        /// The stream.
        stream: Stream,
        /// The memory's inode, by which its descriptor is known.
        inode: u64,
    },
    /// A piece of output, in the window that was shared: the byte at an offset of the stream is at the
    /// remainder of that by [`WIDE_WINDOW_BYTES`]. It stays there until it is acknowledged.
    Shared {
        /// The exec.
        exec_id: ExecId,
        /// The stream.
        stream: Stream,
        /// Position of the first byte.
        offset: u64,
        /// How many bytes.
        length: u32,
    },
}

impl FromInit {
    /// The exec that it is about, if it is about one.
    pub fn exec_id(&self) -> Option<ExecId> {
        match self {
            Self::Hello { .. } => None,
            Self::Started { exec_id, .. }
            | Self::Failed { exec_id, .. }
            | Self::Unknown { exec_id }
            | Self::Output { exec_id, .. }
            | Self::StdinTaken { exec_id, .. }
            | Self::Signalled { exec_id, .. }
            | Self::Unended { exec_id, .. }
            | Self::Share { exec_id, .. }
            | Self::Shared { exec_id, .. }
            | Self::Exited { exec_id, .. } => Some(*exec_id),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first frame of executors before there were abilities.
    #[derive(Serialize, Deserialize)]
    enum Earlier {
        Welcome { version: u32, epoch: u64 },
    }

    fn take<T: serde::de::DeserializeOwned>(buffer: &mut FrameBuffer) -> T {
        buffer.take().expect("well-formed").expect("whole")
    }

    #[test]
    fn abilities_disturb_nobody_who_does_not_know_them() {
        let told = Earlier::Welcome { version: VERSION, epoch: 7 };
        let mut wire = Vec::new();
        encode(&told, &mut wire).expect("fits");
        let reads_windows = Abilities { reads_windows: true };
        let told = ToInit::Welcome { version: VERSION, epoch: 8, abilities: reads_windows };
        encode(&told, &mut wire).expect("fits");
        let mut buffer = FrameBuffer::default();
        buffer.tail().extend_from_slice(&wire);
        let ToInit::Welcome { epoch: 7, abilities, .. } = take(&mut buffer) else {
            panic!("an earlier executor is not understood");
        };
        assert_eq!(abilities, Abilities::default());
        let ToInit::Welcome { epoch: 8, abilities, .. } = take(&mut buffer) else {
            panic!("this executor is not understood");
        };
        assert_eq!(abilities, reads_windows);
        let mut buffer = FrameBuffer::default();
        buffer.tail().extend_from_slice(&wire);
        for wanted in [7, 8] {
            let Earlier::Welcome { version, epoch } = take(&mut buffer);
            assert_eq!((version, epoch), (VERSION, wanted));
        }
    }
}
