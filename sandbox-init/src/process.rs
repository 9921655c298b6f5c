//! Starting a command: fork its shepherd, which forks it, and hear whether it has become the
//! command. And hardening PID 1 itself.

use std::ffi::CString;
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork, pipe2, read, write};
use protocol::checks::{Checks, Unfit};
use protocol::init::{Start, StartFailure};

use crate::helper;
use crate::launch::{BeforeExec, Program, become_command};
use crate::shepherd;
use crate::stdio::{self, Ours};
use crate::tree;

/// Exit statuses of the child before it has become the command, told over the failure pipe.
const FAILED_CWD: u8 = 1;
const FAILED_OTHER: u8 = 2;
/// How long it is waited for that a child becomes its command.
const START_LIMIT: Duration = Duration::from_secs(2);
/// Milliseconds after which a child may have been stopped by another command.
const LET_GO_ON_MS: u8 = 20;
/// On top of the reason's number.
const FAILED_CHECK: u8 = 16;

/// A command that was started.
pub(crate) struct Child {
    /// The process that all of the command's processes are below; see [`shepherd`].
    pub(crate) shepherd: Pid,
    /// Reading end of the pipe that tells the command's wait status; reads do not block.
    pub(crate) status: OwnedFd,
    /// PID 1's side of its streams.
    pub(crate) stdio: Ours,
}

/// Makes PID 1 unreadable and untraceable for the processes it starts, and blocks the signals
/// that it reads from a descriptor.
pub(crate) fn harden() -> nix::Result<()> {
    nix::sys::prctl::set_dumpable(false)?;
    nix::sys::prctl::set_no_new_privs()?;
    SigSet::from(Signal::SIGCHLD).thread_block()
}

/// A number that differs between two starts of a sandbox.
pub(crate) fn boot_id() -> nix::Result<u64> {
    let mut bytes = [0_u8; 8];
    // SAFETY: the pointer and the length describe `bytes`, which outlives the call.
    let count = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    Errno::result(count)?;
    Ok(u64::from_le_bytes(bytes))
}

/// Gives memory that is free back to the kernel.
pub(crate) fn release_memory() {
    // SAFETY: touches the allocator's own free memory only.
    unsafe { libc::malloc_trim(0) };
}

/// Starts a command, if its sandbox passes `checks`.
///
/// # Errors
/// Says why it could not be started; nothing runs then.
pub(crate) fn spawn(start: &Start, checks: &Checks) -> Result<Child, StartFailure> {
    let program = program(start, checks).ok_or(StartFailure::Malformed)?;
    spawn_program(start, &program).unwrap_or(Err(StartFailure::Resources))
}

fn program<'a>(start: &'a Start, checks: &'a Checks) -> Option<Program<'a>> {
    let argv = c_strings(&start.argv).filter(|argv| !argv.is_empty())?;
    let env = c_strings(&start.env)?;
    let cwd = CString::new(start.cwd.as_str()).ok()?;
    let rlimits = &start.rlimits;
    let is_helper = helper::is_ours(&start.argv);
    let program = Program { uid: start.uid, argv, is_helper, env, cwd, rlimits, checks };
    (start.uid != 0).then_some(program)
}

fn spawn_program(start: &Start, program: &Program<'_>) -> nix::Result<Result<Child, StartFailure>> {
    let (ours, theirs) = stdio::create(start)?;
    let (failure_read, failure_write) = pipe2(OFlag::O_CLOEXEC)?;
    let (status_read, status_write) = stdio::output_pipe()?;
    // SAFETY: PID 1 has one thread, so the child may run any code after the fork.
    match unsafe { fork()? } {
        ForkResult::Child => {
            let launch = || become_command(program, &theirs);
            let code = match shepherd::run(&status_write, launch) {
                Err(BeforeExec::Cwd) => FAILED_CWD,
                Err(BeforeExec::Unfit(unfit)) => FAILED_CHECK + unfit.number(),
                Err(BeforeExec::Other) | Ok(_) => FAILED_OTHER,
            };
            let _ = write(&failure_write, &[code]);
            // SAFETY: ends the child at once; nothing of PID 1's state may run in it.
            unsafe { libc::_exit(127) }
        }
        ForkResult::Parent { child } => {
            drop((failure_write, status_write, theirs));
            let mut code = [0];
            Ok(match hear_failure(child, &failure_read, &mut code) {
                Ok(0) => Ok(Child { shepherd: child, status: status_read, stdio: ours }),
                outcome => {
                    tree::kill_all(child);
                    let _ = kill(child, Signal::SIGKILL);
                    let _ = waitpid(child, None);
                    Err(outcome.map_or(StartFailure::Resources, |_| failure(code[0])))
                }
            })
        }
    }
}

/// Reads what a child says before it has become its command. It ends with the command's exec, or a
/// helper's first step, which closes the pipe: about a millisecond. Other commands of the same user
/// may stop the child on the way to a command; it is let go on. PID 1 does nothing else meanwhile, so
/// after a while it counts as started: its own time will end it, and nobody starts it a second time.
fn hear_failure(child: Pid, pipe: &OwnedFd, code: &mut [u8]) -> nix::Result<usize> {
    let deadline = Instant::now() + START_LIMIT;
    loop {
        let mut pipes = [PollFd::new(pipe.as_fd(), PollFlags::POLLIN)];
        match poll(&mut pipes, PollTimeout::from(LET_GO_ON_MS)) {
            Ok(0) if Instant::now() > deadline => return Ok(0),
            Ok(0) => {
                tree::signal_all(child, libc::SIGCONT);
            }
            Ok(_) => return read(pipe, code),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

fn failure(code: u8) -> StartFailure {
    let unfit = code.checked_sub(FAILED_CHECK).and_then(Unfit::from_number);
    match (code, unfit) {
        (FAILED_CWD, _) => StartFailure::Cwd,
        (_, Some(unfit)) => StartFailure::Unfit(unfit),
        _ => StartFailure::Resources,
    }
}

/// A process that ended.
pub(crate) struct Reaped {
    /// Its number.
    pub(crate) pid: Pid,
    /// Whether a signal ended it.
    pub(crate) killed: bool,
}

/// Reaps one process that ended, whoever's it was: a shepherd, usually.
pub(crate) fn reap() -> Option<Reaped> {
    match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
        Ok(WaitStatus::StillAlive) | Err(_) => None,
        Ok(status) => {
            let killed = matches!(status, WaitStatus::Signaled(..));
            status.pid().map(|pid| Reaped { pid, killed })
        }
    }
}

fn c_strings(texts: &[String]) -> Option<Vec<CString>> {
    texts.iter().map(|text| CString::new(text.as_str()).ok()).collect()
}
