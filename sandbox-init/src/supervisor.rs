//! The loop of PID 1: one thread, one `poll`, everything that runs.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::convert::Infallible;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use domain::ids::{ExecId, SandboxId};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::Pid;
use protocol::init::{FromInit, MAX_CHUNK_BYTES, ToInit, VERSION};

use crate::exec::Exec;
use crate::link::{Broken, Link};
use crate::process::{self, Reaped};
use crate::tree;

/// How often PID 1 looks for an executor while there is none.
const RECONNECT: Duration = Duration::from_millis(25);
/// Pipes of finished commands that are kept open for processes they left behind.
const MAX_LEFTOVER_PIPES: usize = 64;
/// How often those are emptied: a process left behind that never stops writing waits in between,
/// and PID 1 does not run after it.
const LEFTOVER_PAUSE: Duration = Duration::from_millis(10);

/// See the module.
pub(crate) struct Supervisor {
    sandbox_id: SandboxId,
    boot_id: u64,
    socket: PathBuf,
    signals: SignalFd,
    link: Option<Link>,
    execs: BTreeMap<ExecId, Exec>,
    /// Every exec that was ever started here: none is started twice.
    started: BTreeSet<ExecId>,
    /// Every shepherd that lives, of forgotten execs too: PID 1 has no other children.
    shepherds: BTreeSet<Pid>,
    leftover_pipes: VecDeque<OwnedFd>,
    /// Until when the leftover pipes are left alone.
    leftovers_rest_until: Option<Instant>,
}

impl Supervisor {
    /// Sets up the loop; SIGCHLD must be blocked already.
    pub(crate) fn new(sandbox_id: SandboxId, boot_id: u64, socket: &Path) -> nix::Result<Self> {
        let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
        Ok(Self {
            sandbox_id,
            boot_id,
            socket: socket.to_owned(),
            signals: SignalFd::with_flags(&SigSet::from(Signal::SIGCHLD), flags)?,
            link: None,
            execs: BTreeMap::new(),
            started: BTreeSet::new(),
            shepherds: BTreeSet::new(),
            leftover_pipes: VecDeque::new(),
            leftovers_rest_until: None,
        })
    }

    /// Runs until the container is stopped.
    ///
    /// # Errors
    /// When the kernel refuses to poll, which leaves nothing to do but to end the sandbox.
    pub(crate) fn run(mut self) -> nix::Result<Infallible> {
        loop {
            self.connect();
            self.send_frames();
            let ready = self.wait()?;
            let now = Instant::now();
            while matches!(self.signals.read_signal(), Ok(Some(_))) {}
            self.read_output(&ready, now);
            self.reap(now);
            for exec in self.execs.values_mut() {
                exec.tick(now);
                exec.feed();
            }
            self.discard_leftovers(&ready, now);
            self.receive(now);
        }
    }

    fn connect(&mut self) {
        if self.link.is_some() {
            return;
        }
        let Some(mut link) = Link::connect(&self.socket) else { return };
        let hello = FromInit::Hello {
            version: VERSION,
            sandbox_id: self.sandbox_id,
            boot_id: self.boot_id,
        };
        self.link = link.send(&hello).is_ok().then_some(link);
    }

    /// Queues what there is to say, and writes what the executor takes.
    fn send_frames(&mut self) {
        let Some(link) = &mut self.link else { return };
        let mut outcome = Ok(());
        'queue: for exec in self.execs.values_mut() {
            while link.has_room() {
                let Some(frame) = exec.next_frame() else { continue 'queue };
                outcome = outcome.and(link.send(&frame));
            }
        }
        if outcome.and_then(|()| link.flush()).is_err() {
            self.link = None;
        }
    }

    /// Waits for something to do. Gives the numbers of the descriptors that can be read.
    fn wait(&self) -> nix::Result<Vec<i32>> {
        let mut fds = vec![PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
        if let Some(link) = &self.link {
            let write = if link.has_outgoing() { PollFlags::POLLOUT } else { PollFlags::empty() };
            fds.push(PollFd::new(link.fd(), PollFlags::POLLIN | write));
        }
        for exec in self.execs.values() {
            fds.extend(exec.readable().map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
            fds.extend(exec.writable().map(|fd| PollFd::new(fd, PollFlags::POLLOUT)));
        }
        let now = Instant::now();
        if self.leftovers_rest_until.is_none_or(|until| until <= now) {
            let leftovers = self.leftover_pipes.iter();
            fds.extend(leftovers.map(|fd| PollFd::new(fd.as_fd(), PollFlags::POLLIN)));
        }
        match poll(&mut fds, self.timeout(now)) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error),
        }
        let readable = |fd: &PollFd<'_>| fd.any().unwrap_or(true);
        Ok(fds.iter().filter(|fd| readable(fd)).map(|fd| fd.as_fd().as_raw_fd()).collect())
    }

    fn timeout(&self, now: Instant) -> PollTimeout {
        let due = self.execs.values().filter_map(Exec::due);
        let due = due.chain(self.leftovers_rest_until.filter(|until| *until > now)).min();
        let until_due = due.map(|due| due.saturating_duration_since(now));
        let reconnect = self.link.is_none().then_some(RECONNECT);
        match until_due.into_iter().chain(reconnect).min() {
            None => PollTimeout::NONE,
            // Rounded up, so that the loop does not spin through the last millisecond.
            Some(wait) => PollTimeout::try_from(wait.as_millis() + 1).unwrap_or(PollTimeout::MAX),
        }
    }

    fn read_output(&mut self, ready: &[i32], now: Instant) {
        for exec in self.execs.values_mut() {
            for fd in ready {
                exec.read_fd(*fd, now);
            }
            exec.drain_if_ended();
        }
    }

    fn reap(&mut self, now: Instant) {
        while let Some(Reaped { pid, killed }) = process::reap() {
            if self.shepherds.remove(&pid) && killed {
                // Commands cannot do that, but the kernel can, when memory runs out. What it kept
                // has come to us, where nobody could tell it apart.
                tree::kill_strays(&self.shepherds);
            }
            if let Some(exec) = self.execs.values_mut().find(|exec| exec.has_shepherd(pid)) {
                exec.shepherd_ended(now);
                exec.drain_if_ended();
            }
        }
    }

    fn receive(&mut self, now: Instant) {
        let Some(link) = &mut self.link else { return };
        let frames = match link.receive() {
            Ok(frames) => frames,
            Err(Broken) => {
                self.link = None;
                return;
            }
        };
        for frame in frames {
            if let Some(answer) = self.handle(frame, now)
                && let Some(link) = &mut self.link
                && link.send(&answer).is_err()
            {
                self.link = None;
            }
        }
    }

    fn handle(&mut self, frame: ToInit, now: Instant) -> Option<FromInit> {
        match frame {
            ToInit::Start(start) => {
                let exec_id = start.exec_id;
                if self.started.contains(&exec_id) {
                    return Some(self.attach(exec_id, [0, 0]));
                }
                Some(match Exec::start(start, now) {
                    Ok(exec) => {
                        self.started.insert(exec_id);
                        self.shepherds.insert(exec.shepherd());
                        self.execs.insert(exec_id, exec);
                        FromInit::Started { exec_id, again: false }
                    }
                    Err(why) => FromInit::Failed { exec_id, why },
                })
            }
            ToInit::Attach { exec_id, have } => Some(self.attach(exec_id, have)),
            ToInit::Welcome { .. }
            | ToInit::Stdin { .. }
            | ToInit::Signal { .. }
            | ToInit::Resize { .. } => None,
            ToInit::Ack { exec_id, stream, offset } => {
                if let Some(exec) = self.execs.get_mut(&exec_id) {
                    exec.acknowledge(stream, offset);
                    exec.drain_if_ended();
                }
                None
            }
            ToInit::Cancel { exec_id } => {
                if let Some(exec) = self.execs.get_mut(&exec_id) {
                    exec.cancel(now);
                }
                None
            }
            ToInit::Forget { exec_id } => {
                if let Some(exec) = self.execs.remove(&exec_id) {
                    self.leftover_pipes.extend(exec.into_pipes());
                }
                while self.leftover_pipes.len() > MAX_LEFTOVER_PIPES {
                    self.leftover_pipes.pop_front();
                }
                None
            }
        }
    }

    fn attach(&mut self, exec_id: ExecId, have: [u64; 2]) -> FromInit {
        match self.execs.get_mut(&exec_id) {
            Some(exec) => {
                exec.resume_from(have);
                FromInit::Started { exec_id, again: true }
            }
            None => FromInit::Unknown { exec_id },
        }
    }

    /// Reads and drops what processes write whose command is over; closes what has ended.
    fn discard_leftovers(&mut self, ready: &[i32], now: Instant) {
        let mut chunk = [0; MAX_CHUNK_BYTES];
        self.leftover_pipes.retain(|pipe| {
            if !ready.contains(&pipe.as_raw_fd()) {
                return true;
            }
            self.leftovers_rest_until = Some(now + LEFTOVER_PAUSE);
            match nix::unistd::read(pipe, &mut chunk) {
                Ok(0) => false,
                Ok(_) | Err(Errno::EAGAIN | Errno::EINTR) => true,
                Err(_) => false,
            }
        });
    }
}
