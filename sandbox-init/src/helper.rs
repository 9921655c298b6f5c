//! Our own programs for files and the model's tools, as commands of a sandbox. PID 1's child goes on
//! as one of them: it is root until it has become another user than the tenant, who therefore can
//! neither signal, stop, trace nor slow it, and that user touches files as the tenant.

use std::convert::Infallible;
use std::ffi::{CString, OsString};
use std::os::unix::ffi::OsStringExt as _;

use nix::errno::Errno;
use nix::libc;
use nix::sys::prctl::{set_dumpable, set_keepcaps, set_name};
use nix::sys::signal::{SigHandler, Signal, signal};
use nix::unistd::{Uid, setfsuid, setresuid};
use protocol::init::INIT_PROGRAM;

use crate::launch::close_from;
use crate::{files, tools};

/// Who they are. No command has this user or the one behind it.
const USER: u32 = 65_532;
const CAPABILITY_VERSION_3: u32 = 0x2008_0522;
const CAP_SETUID: u32 = 7;

/// Whether a command is one of them.
pub(crate) fn is_ours(argv: &[String]) -> bool {
    argv.first().is_some_and(|program| program == INIT_PROGRAM)
}

/// Whether it is work on files, which an executor does for a call. No journal knows of it.
pub(crate) fn is_of_a_call(argv: &[String]) -> bool {
    is_ours(argv) && argv.get(1).is_some_and(|role| role == "files")
}

/// Does what the arguments behind the program's name ask for. Gives whether it was done.
pub(crate) fn perform(arguments: &[OsString]) -> bool {
    match arguments {
        [role, rest @ ..] if role == "files" => files::main(rest.first().cloned()),
        [role, ..] if role == "tool" => tools::main(),
        _ => {
            eprintln!("sandbox-init: unknown program");
            false
        }
    }
}

/// Turns this process, which has root's right to change its user and nothing else, into one that
/// has only the files of `user`, who has no power over it. Where the kernel has no such thing (gVisor
/// knows no user for files alone), into one of that user; gives whether it is foreign.
///
/// # Errors
/// When the kernel refuses a step; the process must not go on then.
pub(crate) fn become_foreign(user: Uid) -> nix::Result<bool> {
    let own = if user.as_raw() == USER { USER + 1 } else { USER };
    let own = Uid::from_raw(own);
    set_keepcaps(true)?;
    setresuid(own, own, own)?;
    set_capabilities(1 << CAP_SETUID)?;
    setfsuid(user);
    // It tells nothing but who it was before.
    let foreign = setfsuid(user) == user;
    if !foreign {
        setresuid(user, user, user)?;
    }
    set_capabilities(0)?;
    set_keepcaps(false)?;
    set_dumpable(false)?;
    Ok(foreign)
}

/// Goes on as the program that a command names, to its end.
pub(crate) fn run(argv: &[CString]) -> nix::Result<Infallible> {
    set_name(c"helper")?;
    // SAFETY: no handler of ours is installed. A reader that is gone is an error, as in any program.
    unsafe { signal(Signal::SIGPIPE, SigHandler::SigIgn)? };
    // SAFETY: whatever owned them in PID 1 never runs again in this process. The last one tells PID 1
    // that the program has begun.
    unsafe { close_from(libc::STDERR_FILENO + 1) };
    let argument = |text: &CString| OsString::from_vec(text.as_bytes().to_vec());
    let arguments: Vec<OsString> = argv.iter().skip(1).map(argument).collect();
    std::process::exit(i32::from(!perform(&arguments)))
}

/// Sets what this process may do and may come to do: capabilities of the kernel's first 32.
fn set_capabilities(capabilities: u32) -> nix::Result<()> {
    let header = [CAPABILITY_VERSION_3, 0];
    // Effective, permitted and inheritable ones; then the same of the others.
    let sets = [capabilities, capabilities, 0, 0, 0, 0];
    // SAFETY: both pointers are to locals of the sizes that this version has.
    let result = unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), sets.as_ptr()) };
    Errno::result(result).map(drop)
}
