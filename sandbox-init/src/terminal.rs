//! A terminal for one command: a pair of a master, which is PID 1's, and a slave, which the command
//! gets. Knows the kernel's calls for it, and nothing of commands.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::libc;
use nix::sys::stat::{Mode, SFlag, fstat, major, minor};
use nix::unistd::Uid;
use protocol::init::TerminalSize;

use crate::owner::made_for;

const PTMX: &str = "/dev/ptmx";
const PTMX_DEVICE: (u64, u64) = (5, 2);

/// See the module.
pub(crate) struct Terminal {
    /// What is written here is typed; what is read here was shown. Does not block.
    pub(crate) master: OwnedFd,
    /// The command's side. While somebody has it open, the master reports no end.
    pub(crate) slave: OwnedFd,
}

/// Makes a terminal that belongs to this user, so that its commands can open it by name.
///
/// # Errors
/// When the kernel has no terminal left or `/dev` is not the container's own.
pub(crate) fn create(uid: u32, size: TerminalSize) -> nix::Result<Terminal> {
    let master = open_master(Uid::from_raw(uid))?;
    let stat = fstat(&master)?;
    let is_device =
        SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits()) == SFlag::S_IFCHR;
    if !is_device || (major(stat.st_rdev), minor(stat.st_rdev)) != PTMX_DEVICE {
        return Err(Errno::ENODEV);
    }
    let unlocked: libc::c_int = 0;
    // SAFETY: the pointer is to a local that outlives the call.
    Errno::result(unsafe {
        libc::ioctl(master.as_raw_fd(), libc::TIOCSPTLCK, &raw const unlocked)
    })?;
    let flags = (OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC).bits();
    // SAFETY: plain integers go in; a new descriptor, which is nobody else's, comes out.
    let slave = unsafe {
        let slave = libc::ioctl(master.as_raw_fd(), libc::TIOCGPTPEER, flags);
        OwnedFd::from_raw_fd(Errno::result(slave)?)
    };
    resize(&slave, size)?;
    Ok(Terminal { master, slave })
}

/// The kernel gives a slave to whoever's file-system user opened its master.
fn open_master(uid: Uid) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
    made_for(uid, || open(PTMX, flags, Mode::empty()))
}

/// Gives a terminal another size; the kernel tells the processes in its foreground.
///
/// # Errors
/// When the kernel refuses.
pub(crate) fn resize(slave: &OwnedFd, size: TerminalSize) -> nix::Result<()> {
    let size = libc::winsize { ws_row: size.rows, ws_col: size.cols, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the pointer is to a local that outlives the call.
    Errno::result(unsafe { libc::ioctl(slave.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) })?;
    Ok(())
}

/// Makes a terminal the controlling one of this process, which must have just opened its session.
///
/// # Errors
/// When the kernel refuses.
pub(crate) fn take_control(slave: RawFd) -> nix::Result<()> {
    // SAFETY: plain integers go in.
    Errno::result(unsafe { libc::ioctl(slave, libc::TIOCSCTTY, 0) })?;
    Ok(())
}
