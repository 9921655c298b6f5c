//! The child's way from a copy of PID 1 to the command: its streams, its privileges, its limits,
//! its folder. Runs in the child only.

use std::convert::Infallible;
use std::ffi::CString;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl, open};
use nix::libc;
use nix::sys::prctl::set_dumpable;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};
use nix::sys::stat::{Mode, SFlag, fstat, major, minor};
use nix::unistd::{
    Gid, Uid, chdir, dup2_raw, execve, pipe2, setgroups, setresgid, setresuid, setsid,
};
use protocol::checks::{Checks, Unfit};
use protocol::init::Rlimit;

use crate::stdio::Theirs;
use crate::{git, helper, named, terminal};

/// Highest capability number that a kernel may know; unknown ones are skipped.
const MAX_CAPABILITY: i32 = 63;
/// What a command adds to its chance of being killed for want of memory (-1000 to 1000).
const OOM_SCORE: &str = "500";
const NULL: &str = "/dev/null";
const NULL_DEVICE: (u64, u64) = (1, 3);
/// More than PID 1 can have open, by the container's `nofile`.
const MAX_FD: RawFd = 1024;
/// Signals have numbers up to this.
const MAX_SIGNAL: libc::c_int = 64;
const SIGNAL_SET_BYTES: usize = 8;

/// A command as the kernel wants it.
pub(crate) struct Program<'a> {
    pub(crate) uid: u32,
    pub(crate) argv: Vec<CString>,
    /// It is one of our own.
    pub(crate) is_helper: bool,
    pub(crate) env: Vec<CString>,
    pub(crate) cwd: CString,
    pub(crate) rlimits: &'a [Rlimit],
    /// What is looked at first.
    pub(crate) checks: &'a Checks,
}

/// What failed on the way.
pub(crate) enum BeforeExec {
    Cwd,
    Unfit(Unfit),
    Other,
}

impl From<Errno> for BeforeExec {
    fn from(_: Errno) -> Self {
        Self::Other
    }
}

/// Turns this process into the command. The order matters: capabilities are given up before the
/// user changes; what is opened by name is opened after, with the command's own rights; repositories
/// and paths are looked at as late as can be, because others may change them; the limits come last,
/// because they would count PID 1's descriptors, which are closed at the very end.
pub(crate) fn become_command(
    program: &Program<'_>,
    stdio: &Theirs,
) -> Result<Infallible, BeforeExec> {
    setsid()?;
    attach(stdio)?;
    // Best effort: where memory runs out, the kernel takes a command and not PID 1.
    let _ = std::fs::write("/proc/self/oom_score_adj", OOM_SCORE);
    drop_capabilities()?;
    setgroups(&[])?;
    let (user, group) = (Uid::from_raw(program.uid), Gid::from_raw(program.uid));
    setresgid(group, group, group)?;
    let goes_on = match program.is_helper {
        true => helper::become_foreign(user)?,
        false => {
            setresuid(user, user, user)?;
            // Whatever the host says of changed users: until it is the command, it has descriptors of
            // PID 1's that no command may see.
            set_dumpable(false)?;
            false
        }
    };
    if matches!(stdio, Theirs::Pipes { stdin: None, .. }) {
        place(nothing()?.as_raw_fd(), libc::STDIN_FILENO)?;
    }
    reset_signals();
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?;
    chdir(program.cwd.as_c_str()).map_err(|_| BeforeExec::Cwd)?;
    git::check(&program.checks.git_folders).map_err(BeforeExec::Unfit)?;
    named::check(&program.checks.paths).map_err(BeforeExec::Unfit)?;
    for limit in program.rlimits {
        lower(*limit)?;
    }
    if goes_on {
        return Ok(helper::run(&program.argv)?);
    }
    Ok(execve(&program.argv[0], &program.argv, &program.env)?)
}

/// Closes every descriptor from `first` on.
///
/// # Safety
/// Whoever owns one of them must not use or close it any more.
pub(crate) unsafe fn close_from(first: RawFd) {
    // SAFETY: the caller's promise.
    let closed = unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, 0) };
    if closed == -1 {
        for fd in first..MAX_FD {
            // SAFETY: as above.
            unsafe { libc::close(fd) };
        }
    }
}

fn attach(stdio: &Theirs) -> nix::Result<()> {
    let sources = match stdio {
        Theirs::Pipes { stdin, stdout, stderr } => [
            stdin.as_ref().map(AsRawFd::as_raw_fd),
            Some(stdout.as_raw_fd()),
            Some(stderr.as_raw_fd()),
        ],
        Theirs::Terminal(slave) => {
            terminal::take_control(slave.as_raw_fd())?;
            [Some(slave.as_raw_fd()); 3]
        }
    };
    for (source, target) in sources.into_iter().zip(0..) {
        if let Some(source) = source {
            place(source, target)?;
        }
    }
    Ok(())
}

/// Makes `target` another number of `source`, which stays open across exec.
fn place(source: RawFd, target: RawFd) -> nix::Result<()> {
    // SAFETY: descriptors 0 to 2 belong to nobody else in this child; the source is open.
    let duplicate = unsafe { dup2_raw(BorrowedFd::borrow_raw(source), target)? };
    std::mem::forget(duplicate);
    Ok(())
}

/// Something to read nothing from: the kernel's null device, or, where the name stands for anything
/// else, an empty pipe.
fn nothing() -> nix::Result<OwnedFd> {
    // It must not wait, should it be a named pipe.
    let flags = OFlag::O_RDONLY | OFlag::O_NOCTTY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    if let Ok(null) = open(NULL, flags | OFlag::O_CLOEXEC, Mode::empty())
        && is_null(&null)
    {
        fcntl(&null, FcntlArg::F_SETFL(OFlag::empty()))?;
        return Ok(null);
    }
    Ok(pipe2(OFlag::O_CLOEXEC)?.0)
}

fn is_null(fd: &OwnedFd) -> bool {
    fstat(fd).is_ok_and(|stat| {
        let kind = SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits());
        kind == SFlag::S_IFCHR && (major(stat.st_rdev), minor(stat.st_rdev)) == NULL_DEVICE
    })
}

/// Sets a limit, soft and hard, but never above what is inherited.
fn lower(limit: Rlimit) -> nix::Result<()> {
    let (resource, value) = match limit {
        Rlimit::OpenFiles(value) => (Resource::RLIMIT_NOFILE, value),
        Rlimit::FileBytes(value) => (Resource::RLIMIT_FSIZE, value),
        Rlimit::CpuSeconds(value) => (Resource::RLIMIT_CPU, value),
    };
    let (_, inherited) = getrlimit(resource)?;
    let value = value.min(inherited);
    setrlimit(resource, value, value)
}

/// Exec hands down what is ignored: by Rust programs SIGPIPE, by whoever started Docker anything.
fn reset_signals() {
    // The kernel's own form, because the C library keeps two signals to itself. All zeros mean the
    // default action; the largest form of any architecture has four words.
    let default = [0_u64; 4];
    for signal in 1..=MAX_SIGNAL {
        // SAFETY: the kernel reads no more than it is given, and writes nothing. It refuses to
        // change SIGKILL and SIGSTOP, which have the default action anyway.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                default.as_ptr(),
                std::ptr::null_mut::<u64>(),
                SIGNAL_SET_BYTES,
            );
        }
    }
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
