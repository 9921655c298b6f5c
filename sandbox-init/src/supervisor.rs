//! The loop of PID 1: one thread, one `poll`, everything that runs.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::convert::Infallible;
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use domain::ids::{ExecId, SandboxId};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::Pid;
use protocol::checks::Checks;
use protocol::init::{Abilities, FromInit, Start, ToInit, VERSION};

use crate::exec::Exec;
use crate::link::{Broken, Link};
use crate::process::{self, Reaped};
use crate::started::Started;
use crate::tree;
use crate::turns;
use crate::window::Allowance;

/// How often PID 1 looks for an executor while there is none.
const RECONNECT: Duration = Duration::from_millis(25);
/// How long an executor may take to say who it is.
const WELCOME_TIMEOUT: Duration = Duration::from_secs(5);
/// How long until it is seen whether a kill of strays left any.
const STRAY_PAUSE: Duration = Duration::from_millis(10);
/// How long PID 1 handles what it hears before it looks after everything else.
const LONG: Duration = Duration::from_millis(20);
/// Bytes that one read of the connection asks for.
const READ_BYTES: usize = 64 * 1024;

/// See the module.
pub(crate) struct Supervisor {
    sandbox_id: SandboxId,
    boot_id: u64,
    socket: PathBuf,
    signals: SignalFd,
    link: Option<Link>,
    /// Frames of the link that are still to be handled.
    heard: VecDeque<ToInit>,
    /// Until when the peer has to say who it is; without one, it has.
    welcome_by: Option<Instant>,
    /// When to look for an executor again, while there is none.
    connect_at: Instant,
    /// Highest epoch of an executor so far.
    epoch: u64,
    /// What the last one can do.
    abilities: Abilities,
    execs: BTreeMap<ExecId, Exec>,
    /// The one whose output was sent last.
    served: Option<ExecId>,
    started: Started,
    /// Every shepherd that lives, of forgotten execs too: PID 1 has no other children.
    shepherds: BTreeSet<Pid>,
    /// When to look again for processes that have lost their shepherd, while there may be any.
    strays_at: Option<Instant>,
    /// What the windows of all commands may share.
    allowance: Allowance,
    scratch: Vec<u8>,
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
            heard: VecDeque::new(),
            welcome_by: None,
            connect_at: Instant::now(),
            epoch: 0,
            abilities: Abilities::default(),
            execs: BTreeMap::new(),
            served: None,
            started: Started::default(),
            shepherds: BTreeSet::new(),
            strays_at: None,
            allowance: Allowance::new(),
            scratch: vec![0; READ_BYTES],
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
            for exec in self.execs.values_mut() {
                exec.wake(&ready, now);
            }
            if ready.contains(&self.signals.as_raw_fd()) {
                while matches!(self.signals.read_signal(), Ok(Some(_))) {}
                self.reap(now);
            }
            for exec in self.execs.values_mut() {
                exec.tick(now);
            }
            self.kill_strays(now);
            self.receive(&ready);
            self.drop_what_is_over();
        }
    }

    fn connect(&mut self) {
        let now = Instant::now();
        if self.welcome_by.is_some_and(|by| by <= now) {
            self.disconnect();
        }
        if self.link.is_some() || self.connect_at > now {
            return;
        }
        self.connect_at = now + RECONNECT;
        self.welcome_by = None;
        let Some(mut link) = Link::connect(&self.socket) else { return };
        let hello = FromInit::Hello {
            version: VERSION,
            sandbox_id: self.sandbox_id,
            boot_id: self.boot_id,
        };
        if link.send(&hello).is_ok() {
            self.link = Some(link);
            self.welcome_by = Some(now + WELCOME_TIMEOUT);
        }
    }

    /// What was heard and not handled was never heard: the next connection begins with that.
    fn disconnect(&mut self) {
        self.link = None;
        self.heard.clear();
    }

    /// Writes what there is to say, as far as the executor takes it.
    fn send_frames(&mut self) {
        if self.try_send_frames().is_err() {
            self.disconnect();
        }
    }

    fn try_send_frames(&mut self) -> Result<(), Broken> {
        let Some(link) = &mut self.link else { return Ok(()) };
        let (execs, last) = (&mut self.execs, &mut self.served);
        // Who has not said who it is hears nothing of the commands.
        let is_known = self.welcome_by.is_none();
        link.fill(|link| {
            let say = |exec: &mut Exec| {
                if let Some(output) = exec.next_output() {
                    link.say(&output)?;
                } else if let Some(end) = exec.next_end() {
                    link.send(&end)?;
                } else {
                    return Ok(false);
                }
                Ok(true)
            };
            if is_known { turns::speak(execs, last, say) } else { Ok(false) }
        })
    }

    /// Waits for something to do. Gives the numbers of the descriptors that report something.
    fn wait(&self) -> nix::Result<Vec<i32>> {
        let mut fds = vec![PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
        let write = |wanted| if wanted { PollFlags::POLLOUT } else { PollFlags::empty() };
        if let Some(link) = &self.link {
            fds.push(PollFd::new(link.fd(), PollFlags::POLLIN | write(link.has_outgoing())));
        }
        for exec in self.execs.values() {
            fds.extend(exec.readable().map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
            fds.extend(exec.stdin().map(|(fd, wanted)| PollFd::new(fd, write(wanted))));
        }
        match poll(&mut fds, self.timeout(Instant::now())) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error),
        }
        let reports = |fd: &PollFd<'_>| fd.any().unwrap_or(true);
        Ok(fds.iter().filter(|fd| reports(fd)).map(|fd| fd.as_fd().as_raw_fd()).collect())
    }

    fn timeout(&self, now: Instant) -> PollTimeout {
        if !self.heard.is_empty() {
            return PollTimeout::ZERO;
        }
        let execs = self.execs.values().filter_map(Exec::due);
        let link = if self.link.is_some() { self.welcome_by } else { Some(self.connect_at) };
        match execs.chain(link).chain(self.strays_at).min() {
            None => PollTimeout::NONE,
            Some(due) => {
                let wait = due.saturating_duration_since(now);
                // Rounded up, so that the loop does not spin through the last millisecond.
                PollTimeout::try_from(wait.as_millis() + 1).unwrap_or(PollTimeout::MAX)
            }
        }
    }

    fn reap(&mut self, now: Instant) {
        while let Some(Reaped { pid, killed }) = process::reap() {
            if self.shepherds.remove(&pid) && killed {
                // Commands cannot do that, but the kernel can, when memory runs out. What it kept
                // has come to us, where nobody could tell it apart.
                self.strays_at = Some(now);
            }
            if let Some(exec) = self.execs.values_mut().find(|exec| exec.has_shepherd(pid)) {
                exec.shepherd_ended(now);
                exec.drain_if_ended();
            }
        }
    }

    fn kill_strays(&mut self, now: Instant) {
        if self.strays_at.is_some_and(|at| at <= now) {
            let found = tree::kill_strays(&self.shepherds);
            self.strays_at = found.then_some(now + STRAY_PAUSE);
        }
    }

    fn receive(&mut self, ready: &[i32]) {
        let Some(link) = &mut self.link else { return };
        let mut outcome = Ok(());
        if self.heard.is_empty() && ready.contains(&link.fd().as_raw_fd()) {
            outcome = link.receive(&mut self.scratch).map(|frames| self.heard.extend(frames));
        }
        if outcome.and_then(|()| self.take_frames()).is_err() {
            self.disconnect();
        }
    }

    /// Handles what was heard. After a start that took long, everything else comes first: each of
    /// many could take as long.
    fn take_frames(&mut self) -> Result<(), Broken> {
        let begin = Instant::now();
        loop {
            let now = Instant::now();
            if now - begin > LONG {
                return Ok(());
            }
            let Some(frame) = self.heard.pop_front() else { return Ok(()) };
            if let ToInit::Welcome { version, epoch, abilities } = frame {
                self.welcome(version, epoch, abilities, now)?;
            } else if self.welcome_by.is_none()
                && let Some(answer) = self.handle(frame, now)
                && let Some(link) = &mut self.link
            {
                link.send(&answer)?;
            }
        }
    }

    /// An executor says who it is. One that has a successor is not listened to.
    fn welcome(
        &mut self,
        version: u32,
        epoch: u64,
        abilities: Abilities,
        now: Instant,
    ) -> Result<(), Broken> {
        if version != VERSION || epoch < self.epoch {
            return Err(Broken);
        }
        let another = epoch > self.epoch;
        self.epoch = epoch;
        self.abilities = abilities;
        for exec in self.execs.values_mut() {
            exec.let_share(abilities.reads_windows);
            if another {
                exec.change_executor(now);
            }
        }
        self.welcome_by = None;
        Ok(())
    }

    fn handle(&mut self, frame: ToInit, now: Instant) -> Option<FromInit> {
        match frame {
            ToInit::Start(start) => Some(self.start(start, &Checks::default(), now)),
            ToInit::StartChecked { start, checks } => Some(self.start(start, &checks, now)),
            ToInit::Attach { exec_id, have } => Some(self.attach(exec_id, have)),
            // It was heard by `take_frames`.
            ToInit::Welcome { .. } => None,
            ToInit::Stdin { exec_id, offset, bytes, close } => {
                let exec = self.execs.get_mut(&exec_id);
                let taken = exec.map(|exec| exec.offer(offset, &bytes, close));
                let (offset, open) = taken.unwrap_or((0, false));
                Some(FromInit::StdinTaken { exec_id, offset, open })
            }
            ToInit::Signal { exec_id, signal } => {
                let delivered = self.execs.get(&exec_id).is_some_and(|exec| exec.signal(signal));
                Some(FromInit::Signalled { exec_id, delivered })
            }
            ToInit::Resize { exec_id, size } => {
                if let Some(exec) = self.execs.get(&exec_id) {
                    exec.resize(size);
                }
                None
            }
            ToInit::Ack { exec_id, stream, offset } => {
                if let Some(exec) = self.execs.get_mut(&exec_id) {
                    exec.acknowledge(stream, offset);
                    exec.drain_if_ended();
                }
                None
            }
            ToInit::SeeWindow { exec_id, stream } => {
                if let Some(exec) = self.execs.get_mut(&exec_id) {
                    exec.window_is_seen(stream);
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
                if let Some(exec) = self.execs.get_mut(&exec_id) {
                    exec.forget(now);
                }
                None
            }
        }
    }

    fn start(&mut self, start: Start, checks: &Checks, now: Instant) -> FromInit {
        let exec_id = start.exec_id;
        if self.execs.contains_key(&exec_id) || self.started.contains(exec_id) {
            return self.attach(exec_id, [0, 0]);
        }
        match Exec::start(start, checks, &self.allowance, now) {
            Ok(mut exec) => {
                exec.let_share(self.abilities.reads_windows);
                self.started.insert(exec_id);
                self.shepherds.insert(exec.shepherd());
                self.execs.insert(exec_id, exec);
                FromInit::Started { exec_id, again: false }
            }
            Err(why) => FromInit::Failed { exec_id, why },
        }
    }

    fn attach(&mut self, exec_id: ExecId, have: [u64; 2]) -> FromInit {
        match self.execs.get_mut(&exec_id).filter(|exec| !exec.is_forgotten()) {
            Some(exec) => {
                exec.let_share(self.abilities.reads_windows);
                exec.resume_from(have);
                exec.drain_if_ended();
                FromInit::Started { exec_id, again: true }
            }
            None => FromInit::Unknown { exec_id },
        }
    }

    /// Drops what nobody will ask for. With the last exec go the buffers that it needed.
    fn drop_what_is_over(&mut self) {
        let before = self.execs.len();
        self.execs.retain(|_, exec| !exec.is_over());
        if before > 0 && self.execs.is_empty() {
            if let Some(link) = &mut self.link {
                link.shrink();
            }
            process::release_memory();
        }
    }
}
