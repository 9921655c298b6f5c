//! The terminal in front of us: raw while a command has one of its own, and how large it is.

use std::io::{self, IsTerminal};
use std::os::fd::AsFd;

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

use crate::client::TerminalSize;

/// What a command gets when there is no terminal here.
const DEFAULT_SIZE: TerminalSize = TerminalSize { rows: 24, cols: 80 };
/// What a server takes at most.
const MAX_SIDE: u16 = 1000;

/// A terminal that passes on every key. Dropping it makes it as it was.
pub(crate) struct RawMode<F: AsFd> {
    terminal: F,
    before: Termios,
}

impl<F: AsFd> RawMode<F> {
    /// Makes a terminal raw.
    ///
    /// # Errors
    /// When it is none.
    pub(crate) fn enter(terminal: F) -> io::Result<Self> {
        let before = tcgetattr(&terminal)?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(&terminal, OptionalActions::Now, &raw)?;
        Ok(Self { terminal, before })
    }
}

impl<F: AsFd> Drop for RawMode<F> {
    fn drop(&mut self) {
        // A terminal that is gone needs no restoring.
        let _ = tcsetattr(&self.terminal, OptionalActions::Now, &self.before);
    }
}

/// Whether stdin is a terminal.
pub(crate) fn has_keyboard() -> bool {
    io::stdin().is_terminal()
}

/// The size of the terminal on stdout or stdin, as a server takes it.
pub(crate) fn size() -> TerminalSize {
    let found = tcgetwinsize(io::stdout()).or_else(|_| tcgetwinsize(io::stdin()));
    found.map_or(DEFAULT_SIZE, |found| checked(found.ws_row, found.ws_col))
}

/// Some terminals say that they have no rows.
fn checked(rows: u16, cols: u16) -> TerminalSize {
    let side = |found: u16, default| if found == 0 { default } else { found.min(MAX_SIDE) };
    TerminalSize { rows: side(rows, DEFAULT_SIZE.rows), cols: side(cols, DEFAULT_SIZE.cols) }
}

#[cfg(test)]
mod tests {
    use nix::pty::openpty;
    use rustix::termios::LocalModes;

    use super::*;

    #[test]
    fn the_terminal_is_as_before_also_after_a_panic() {
        let pty = openpty(None, None).expect("a terminal");
        let canonical = || {
            let modes = tcgetattr(&pty.slave).expect("attributes").local_modes;
            modes.contains(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG)
        };
        assert!(canonical());
        let raw = RawMode::enter(pty.slave.as_fd()).expect("raw");
        assert!(!canonical());
        drop(raw);
        assert!(canonical());
        let outcome = std::panic::catch_unwind(|| {
            let _raw = RawMode::enter(pty.slave.as_fd()).expect("raw");
            panic!("on the way");
        });
        assert!(outcome.is_err() && canonical());
    }

    #[test]
    fn a_size_is_one_that_the_server_takes() {
        assert_eq!(checked(0, 0), DEFAULT_SIZE);
        assert_eq!(checked(50, 2000), TerminalSize { rows: 50, cols: 1000 });
    }
}
