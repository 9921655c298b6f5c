//! Making things that belong to another user. The container has no capability to give anything away
//! later; what is new belongs to the file-system user of its maker.

use nix::unistd::{Uid, setfsuid};

/// Does `make` as this file-system user.
///
/// # Errors
/// What `make` gives, or when PID 1 cannot be hidden again.
pub(crate) fn made_for<T>(uid: Uid, make: impl FnOnce() -> nix::Result<T>) -> nix::Result<T> {
    let own = setfsuid(uid);
    let made = make();
    setfsuid(own);
    // The change may have made PID 1 readable again, by the host's `fs.suid_dumpable`.
    nix::sys::prctl::set_dumpable(false)?;
    made
}
