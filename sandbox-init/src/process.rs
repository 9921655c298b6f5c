//! Starting a command: fork its shepherd, which forks it, drop every privilege, exec. And hardening
//! PID 1 itself.

use std::ffi::CString;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::libc;
use nix::sys::signal::{SigHandler, SigSet, SigmaskHow, Signal, kill, signal, sigprocmask};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{
    ForkResult, Gid, Pid, Uid, chdir, dup2_raw, execve, fork, pipe2, read, setgroups, setresgid,
    setresuid, setsid, write,
};
use protocol::init::{Start, StartFailure, Stdin};

use crate::shepherd;

/// Highest capability number that a kernel may know; unknown ones are skipped.
const MAX_CAPABILITY: i32 = 63;

/// What a command adds to its chance of being killed for want of memory (-1000 to 1000).
const OOM_SCORE: &str = "500";

/// Exit statuses of the child before it has become the command, told over the failure pipe.
const FAILED_CWD: u8 = 1;
const FAILED_OTHER: u8 = 2;

/// A command that was started.
pub(crate) struct Child {
    /// The process that all of the command's processes are below; see [`shepherd`].
    pub(crate) shepherd: Pid,
    /// Reading end of the pipe that tells the command's wait status; reads do not block.
    pub(crate) status: OwnedFd,
    /// Writing end of its standard input, if it gets any.
    pub(crate) stdin: Option<OwnedFd>,
    /// Reading ends of stdout and stderr; reads do not block.
    pub(crate) output: [OwnedFd; 2],
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

/// Starts a command.
///
/// # Errors
/// Says why it could not be started; nothing runs then.
pub(crate) fn spawn(start: &Start) -> Result<Child, StartFailure> {
    let argv = c_strings(&start.argv).filter(|argv| !argv.is_empty());
    let env = c_strings(&start.env);
    let cwd = CString::new(start.cwd.as_str()).ok();
    let (Some(argv), Some(env), Some(cwd)) = (argv, env, cwd) else {
        return Err(StartFailure::Malformed);
    };
    if start.uid == 0 {
        return Err(StartFailure::Malformed);
    }
    let pipe = || pipe2(OFlag::O_CLOEXEC).map_err(|_| StartFailure::Resources);
    let (stdin_read, stdin_write) = pipe()?;
    let (stdout_read, stdout_write) = pipe()?;
    let (stderr_read, stderr_write) = pipe()?;
    let (failure_read, failure_write) = pipe()?;
    let (status_read, status_write) = pipe()?;
    for reader in [&stdout_read, &stderr_read, &status_read] {
        set_nonblocking(reader)?;
    }
    set_nonblocking(&stdin_write)?;

    // SAFETY: PID 1 has one thread, so the child may run any code after the fork.
    match unsafe { fork() } {
        Err(_) => Err(StartFailure::Resources),
        Ok(ForkResult::Child) => {
            let stdio = [&stdin_read, &stdout_write, &stderr_write].map(AsRawFd::as_raw_fd);
            let launch = || become_command(start.uid, &argv, &env, &cwd, stdio);
            let code = match shepherd::run(&status_write, launch) {
                Err(BeforeExec::Cwd) => FAILED_CWD,
                Err(BeforeExec::Other) | Ok(_) => FAILED_OTHER,
            };
            let _ = write(&failure_write, &[code]);
            // SAFETY: ends the child at once; nothing of PID 1's state may run in it.
            unsafe { libc::_exit(127) }
        }
        Ok(ForkResult::Parent { child }) => {
            drop((failure_write, status_write, stdin_read, stdout_write, stderr_write));
            let mut code = [0];
            // Ends with the command's exec, which closes the pipe: about a millisecond.
            match read(&failure_read, &mut code) {
                Ok(0) => Ok(Child {
                    shepherd: child,
                    status: status_read,
                    stdin: (start.stdin != Stdin::Closed).then_some(stdin_write),
                    output: [stdout_read, stderr_read],
                }),
                outcome => {
                    let _ = kill(child, Signal::SIGKILL);
                    let _ = waitpid(child, None);
                    let cwd = outcome.is_ok() && code[0] == FAILED_CWD;
                    Err(if cwd { StartFailure::Cwd } else { StartFailure::Resources })
                }
            }
        }
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

enum BeforeExec {
    Cwd,
    Other,
}

impl From<Errno> for BeforeExec {
    fn from(_: Errno) -> Self {
        Self::Other
    }
}

/// Runs in the child. The order matters: capabilities are given up before the user changes, the
/// folder is entered after, with the command's own rights.
fn become_command(
    uid: u32,
    argv: &[CString],
    env: &[CString],
    cwd: &CString,
    stdio: [RawFd; 3],
) -> Result<std::convert::Infallible, BeforeExec> {
    setsid()?;
    for (target, fd) in stdio.into_iter().enumerate() {
        // SAFETY: descriptors 0 to 2 belong to nobody else in this child.
        let duplicate =
            unsafe { dup2_raw(std::os::fd::BorrowedFd::borrow_raw(fd), target as RawFd)? };
        // Stays open across exec.
        std::mem::forget(duplicate);
    }
    // Best effort: where memory runs out, the kernel takes a command and not PID 1.
    let _ = std::fs::write("/proc/self/oom_score_adj", OOM_SCORE);
    drop_capabilities()?;
    setgroups(&[])?;
    let (user, group) = (Uid::from_raw(uid), Gid::from_raw(uid));
    setresgid(group, group, group)?;
    setresuid(user, user, user)?;
    // Rust programs ignore it, and exec would hand that down: `yes | head` has to end quietly.
    // SAFETY: no handler of ours is installed.
    unsafe { signal(Signal::SIGPIPE, SigHandler::SigDfl)? };
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?;
    chdir(cwd.as_c_str()).map_err(|_| BeforeExec::Cwd)?;
    Ok(execve(&argv[0], argv, env)?)
}

/// Empties the bounding set, so that no program file can give a capability back.
fn drop_capabilities() -> nix::Result<()> {
    for capability in 0..=MAX_CAPABILITY {
        // SAFETY: plain integers go in; the kernel refuses what it does not know.
        let result = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) };
        match Errno::result(result) {
            Ok(_) => {}
            Err(Errno::EINVAL) => break,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn set_nonblocking(fd: &OwnedFd) -> Result<(), StartFailure> {
    use nix::fcntl::{FcntlArg, fcntl};
    fcntl(fd, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).map_err(|_| StartFailure::Resources)?;
    Ok(())
}

fn c_strings(texts: &[String]) -> Option<Vec<CString>> {
    texts.iter().map(|text| CString::new(text.as_str()).ok()).collect()
}
