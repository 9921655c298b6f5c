//! The shepherd: one small process per command, between PID 1 and it. Every descendant that loses
//! its parent becomes the shepherd's child, so its descendants are exactly the command's processes,
//! however often they fork and whatever sessions they open. It ends when the last of them has.
//!
//! It runs as root, so that commands can neither signal nor trace it, and owns nothing but the
//! writing end of a pipe, by which it tells PID 1 how the command itself ended. Now and then it looks
//! whether the command keeps PID 1 from its work; see [`crate::stall`].

use std::convert::Infallible;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::time::TimeSpec;
use nix::unistd::{ForkResult, Pid, dup2_raw, fork, write};

use crate::launch::close_from;
use crate::stall::Stall;

/// Bytes by which the command's wait status is told.
pub(crate) const STATUS_BYTES: usize = size_of::<libc::c_int>();

/// The one descriptor that a shepherd has.
const STATUS_FD: RawFd = 0;

/// Turns this process, just forked from PID 1, into the shepherd of a command. `launch` runs in
/// the command's process and comes back only when it fails.
///
/// # Errors
/// When there can be no shepherd, no second process, or no command. Whichever of the processes gets
/// the error has to end.
pub(crate) fn run<E: From<Errno>>(
    status: &OwnedFd,
    launch: impl FnOnce() -> Result<Infallible, E>,
) -> Result<Infallible, E> {
    nix::sys::prctl::set_dumpable(false)?;
    nix::sys::prctl::set_child_subreaper(true)?;
    // SAFETY: this process has one thread, so the child may run any code after the fork.
    match unsafe { fork()? } {
        ForkResult::Child => launch(),
        ForkResult::Parent { child } => {
            keep_only(status)?;
            let _ = nix::sys::prctl::set_name(c"shepherd");
            tend(child.as_raw())
        }
    }
}

/// Closes every descriptor but the status pipe: a forgotten one would keep a command's pipes open.
fn keep_only(status: &OwnedFd) -> nix::Result<()> {
    // SAFETY: descriptor 0 belongs to nobody in this process, and nothing uses it as an input.
    let kept = unsafe { dup2_raw(status, STATUS_FD)? };
    // It is closed by hand.
    std::mem::forget(kept);
    // SAFETY: whoever owned the descriptors never runs again in this process.
    unsafe { close_from(STATUS_FD + 1) };
    Ok(())
}

/// Reaps until no descendant is left. Allocates nothing, unless PID 1 stands still.
fn tend(leader: libc::pid_t) -> ! {
    let mut stall = Stall::new();
    loop {
        // However many processes end: they could be made to keep us from it.
        if stall.is_due() {
            stall.look(Pid::this());
        }
        let mut status: libc::c_int = 0;
        // SAFETY: the pointer is to a local that outlives the call.
        let ended = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) };
        match ended {
            -1 if Errno::last() == Errno::EINTR => {}
            // SAFETY: ends the process at once; nothing of PID 1's state may run in it.
            -1 => unsafe { libc::_exit(0) },
            0 => wait_for_an_end(stall.left()),
            _ if ended == leader => tell(status),
            _ => {}
        }
    }
}

/// Waits until a process ends, so long at most; somebody may have ended before, or only stopped.
/// PID 1 has blocked the signal, and so have we: it stays until it is taken.
fn wait_for_an_end(limit: Duration) {
    let (ends, limit) = (SigSet::from(Signal::SIGCHLD), TimeSpec::from(limit));
    // SAFETY: the pointers are to locals that outlive the call; nothing is to be written.
    unsafe { libc::sigtimedwait(ends.as_ref(), std::ptr::null_mut(), limit.as_ref()) };
}

fn tell(status: libc::c_int) {
    // SAFETY: the descriptor is open until it is closed below, and nobody else has it.
    let pipe = unsafe { BorrowedFd::borrow_raw(STATUS_FD) };
    // Four bytes in an empty pipe are never split. Should PID 1 be gone, so are we.
    let _ = write(pipe, &status.to_ne_bytes());
    // SAFETY: ours, and not used again: a leader's number can only come back after its end.
    unsafe { libc::close(pipe.as_raw_fd()) };
}
