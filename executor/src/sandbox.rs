//! One sandbox: accepts its PID 1, hands its frames to the execs they belong to, and finds out
//! when the container is gone. Knows nothing of what a command is.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use domain::ids::{ExecId, SandboxId};
use domain::sandbox::{SandboxEvent, SandboxRef, SandboxState};
use protocol::init::{Abilities, ToInit, VERSION};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, watch};
use tokio_util::task::AbortOnDropHandle;

use crate::cgroup::Cgroup;
use crate::docker::{Container, Docker};
use crate::frames::{self, Frames, Heard, Inbox};
use crate::hold::Files;
use crate::inventory::Held;
use crate::link::{self, Incoming, LinkError, Reader};
use crate::workspace::{Hold, WorkspaceId};

/// Finished execs that PID 1 is told to forget again after a reconnect.
const MAX_FORGETS: usize = 4096;
/// How soon, and then how often, Docker is asked about a sandbox that is not connected.
const FIRST_LOOK: Duration = Duration::from_millis(20);
const LAST_LOOK: Duration = Duration::from_secs(1);

/// A live connection to PID 1.
#[derive(Clone)]
pub(crate) struct Connection {
    /// Grows with every connection.
    pub(crate) epoch: u64,
    /// The start of PID 1 that is connected.
    pub(crate) boot_id: u64,
    outgoing: mpsc::UnboundedSender<ToInit>,
}

impl Connection {
    /// Sends a frame. Where the connection breaks, the next one starts with an attach anyway.
    pub(crate) fn send(&self, frame: ToInit) {
        let _ = self.outgoing.send(frame);
    }
}

/// Where a sandbox stands, and its connection while it has one.
#[derive(Clone)]
pub(crate) struct Presence {
    pub(crate) state: SandboxState,
    pub(crate) connection: Option<Connection>,
}

impl Presence {
    /// Whether nothing can ever run in it again.
    pub(crate) fn is_gone(&self) -> bool {
        self.state.is_gone()
    }
}

/// A container that was started, for [`Sandbox::new`].
pub(crate) struct Birth {
    pub(crate) id: SandboxId,
    /// Docker's id of the container.
    pub(crate) container: String,
    pub(crate) image_digest: String,
    /// Keeps the sweep away from it.
    pub(crate) held: Held,
    /// What `/work` is, where that outlives the container.
    pub(crate) workspace: Option<Hold>,
    /// How long it has lived already.
    pub(crate) age: Duration,
    /// Execs whose results are safe: PID 1 may forget them.
    pub(crate) finished: Vec<ExecId>,
}

/// See the module. Dropping it ends the connection; the container lives on.
pub(crate) struct Sandbox {
    pub(crate) image_digest: String,
    /// Of its workspace: known when a session has it.
    generation: OnceLock<u32>,
    workspace: Option<Hold>,
    born: Instant,
    usage: Mutex<Usage>,
    pub(crate) files: Files,
    shared: Arc<Shared>,
    _held: Held,
    _keeper: AbortOnDropHandle<()>,
}

/// Who uses a sandbox.
struct Usage {
    leases: usize,
    /// When the last one ended.
    since: Instant,
}

struct Shared {
    id: SandboxId,
    container: String,
    docker: Docker,
    /// Of this start of the executor.
    epoch: u64,
    presence: watch::Sender<Presence>,
    routes: Mutex<HashMap<ExecId, Inbox>>,
    forgets: Mutex<VecDeque<ExecId>>,
    cgroup: OnceLock<Cgroup>,
    /// Docker says of the container that ended that memory had run out in it.
    out_of_memory: AtomicBool,
}

/// The right to use a sandbox: as long as it is there, the container is neither stopped for being
/// idle nor for its age.
pub(crate) struct Lease {
    sandbox: Arc<Sandbox>,
}

impl std::ops::Deref for Lease {
    type Target = Sandbox;

    fn deref(&self) -> &Sandbox {
        &self.sandbox
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut usage = lock(&self.sandbox.usage);
        usage.leases = usage.leases.saturating_sub(1);
        usage.since = Instant::now();
    }
}

impl Sandbox {
    /// Takes over a container that was started and that connects to `listener`.
    pub(crate) fn new(birth: Birth, docker: Docker, epoch: u64, listener: UnixListener) -> Self {
        let presence = Presence { state: SandboxState::Creating, connection: None };
        let now = Instant::now();
        let shared = Arc::new(Shared {
            id: birth.id,
            container: birth.container,
            docker,
            epoch,
            presence: watch::Sender::new(presence),
            routes: Mutex::default(),
            forgets: Mutex::new(birth.finished.into()),
            cgroup: OnceLock::new(),
            out_of_memory: AtomicBool::new(false),
        });
        let keeper = tokio::spawn(keep(Arc::clone(&shared), listener));
        Self {
            image_digest: birth.image_digest,
            generation: OnceLock::new(),
            workspace: birth.workspace,
            born: now.checked_sub(birth.age).unwrap_or(now),
            usage: Mutex::new(Usage { leases: 0, since: now }),
            files: Files::default(),
            shared,
            _held: birth.held,
            _keeper: AbortOnDropHandle::new(keeper),
        }
    }

    /// Tells the number of its PID 1 on the host, for what the kernel counts.
    pub(crate) fn set_pid(&self, pid: i64) {
        if let Some(cgroup) = Cgroup::of_process(pid) {
            if let Err(error) = cgroup.limit_tcp() {
                tracing::warn!(sandbox = %self.id(), %error, "no limit for its sockets' buffers");
            }
            let _ = self.shared.cgroup.set(cgroup);
        }
    }

    /// Gives it to a session, once. Before, nobody may run anything in it.
    pub(crate) fn give(&self, generation: u32) {
        let _ = self.generation.set(generation);
        if self.shared.presence.borrow().state == SandboxState::Pooled {
            self.shared.mark(SandboxEvent::Claim);
        }
    }

    /// Puts it into the pool.
    pub(crate) fn mark_pooled(&self) {
        self.shared.mark(SandboxEvent::Pool);
    }

    pub(crate) fn id(&self) -> SandboxId {
        self.shared.id
    }

    /// Which sandbox this is.
    pub(crate) fn reference(&self) -> SandboxRef {
        SandboxRef { id: self.shared.id, generation: self.generation.get().copied().unwrap_or(0) }
    }

    /// Docker's id of the container.
    pub(crate) fn container(&self) -> &str {
        &self.shared.container
    }

    /// Its workspace, where that outlives the container.
    pub(crate) fn workspace(&self) -> Option<WorkspaceId> {
        self.workspace.as_ref().map(|hold| hold.id)
    }

    /// Uses it. To be called under the lock of the session's slot, which the reaper takes too.
    pub(crate) fn lease(self: &Arc<Self>) -> Lease {
        lock(&self.usage).leases += 1;
        Lease { sandbox: Arc::clone(self) }
    }

    /// Whether its PID 1 was never heard by this life, nothing but one lease would end with it, and
    /// its files would stay: somebody has paused the container, or worse.
    pub(crate) fn is_forsaken(&self) -> bool {
        let silent = self.shared.presence.borrow().state == SandboxState::Creating;
        silent && self.workspace.is_some() && lock(&self.usage).leases <= 1
    }

    /// How long nobody has used it; nothing while somebody does.
    pub(crate) fn idle(&self) -> Option<Duration> {
        let usage = lock(&self.usage);
        (usage.leases == 0).then(|| usage.since.elapsed())
    }

    /// How long the container has lived.
    pub(crate) fn age(&self) -> Duration {
        self.born.elapsed()
    }

    /// Processes of now, PID 1 included, where the kernel tells.
    pub(crate) fn processes(&self) -> Option<u64> {
        self.shared.cgroup.get()?.processes()
    }

    /// Where it stands, now and later.
    pub(crate) fn presence(&self) -> watch::Receiver<Presence> {
        self.shared.presence.subscribe()
    }

    /// Takes part in what PID 1 says of one exec.
    pub(crate) fn listen(&self, exec_id: ExecId) -> Ear {
        let (inbox, frames) = frames::queue();
        lock(&self.shared.routes).insert(exec_id, inbox);
        Ear { exec_id, frames, presence: self.presence(), shared: Arc::clone(&self.shared) }
    }

    /// The result of an exec is safe: PID 1 may forget its output, now or after a reconnect.
    pub(crate) fn forget(&self, exec_id: ExecId) {
        let mut forgets = lock(&self.shared.forgets);
        if forgets.len() == MAX_FORGETS {
            forgets.pop_front();
        }
        forgets.push_back(exec_id);
        if let Some(connection) = &self.shared.presence.borrow().connection {
            connection.send(ToInit::Forget { exec_id });
        }
    }

    /// Out-of-memory kills so far, where the kernel tells.
    pub(crate) fn oom_kills(&self) -> Option<u64> {
        self.shared.cgroup.get()?.oom_kills()
    }

    /// Whether it is gone, and memory had run out in it at some time.
    pub(crate) fn has_run_out_of_memory(&self) -> bool {
        self.shared.out_of_memory.load(Ordering::Relaxed)
    }

    /// We removed it, or are about to.
    pub(crate) fn mark_removed(&self) {
        self.shared.mark(SandboxEvent::Remove);
    }

    /// We removed the container, or are about to; the workspace stays.
    pub(crate) fn mark_stopped(&self) {
        self.shared.mark(SandboxEvent::Stop);
    }
}

/// What one exec hears of its sandbox.
pub(crate) struct Ear {
    exec_id: ExecId,
    pub(crate) frames: Frames,
    pub(crate) presence: watch::Receiver<Presence>,
    shared: Arc<Shared>,
}

impl Ear {
    /// Ends when Docker says that the container is paused, of which it is asked from `begin` on,
    /// every second. What is paused answers nothing and breaks no connection.
    pub(crate) fn wait_for_pause(
        &self,
        begin: tokio::time::Instant,
    ) -> impl Future<Output = ()> + Send + use<> {
        let shared = Arc::clone(&self.shared);
        async move {
            tokio::time::sleep_until(begin).await;
            loop {
                let found = shared.docker.inspect(&shared.container).await;
                if matches!(found, Ok(Container::Paused(_))) {
                    tracing::error!(sandbox = %shared.id, "somebody has paused its container");
                    return;
                }
                tokio::time::sleep(LAST_LOOK).await;
            }
        }
    }
}

impl Drop for Ear {
    fn drop(&mut self) {
        lock(&self.shared.routes).remove(&self.exec_id);
    }
}

impl Shared {
    fn advance(&self, event: SandboxEvent, connection: Option<Connection>) {
        self.presence.send_modify(|presence| match presence.state.apply(event) {
            Ok(state) => *presence = Presence { state, connection },
            Err(error) => {
                tracing::debug!(sandbox = %self.id, %error, "event ignored");
            }
        });
    }

    /// An event that says nothing of the connection.
    fn mark(&self, event: SandboxEvent) {
        self.presence.send_modify(|presence| {
            if let Ok(state) = presence.state.apply(event) {
                presence.state = state;
                if state.is_gone() {
                    presence.connection = None;
                }
            }
        });
    }

    fn attach(&self, connection: Connection) {
        if self.presence.borrow().connection.is_some() {
            self.advance(SandboxEvent::Detach, None);
        }
        let abilities = Abilities { reads_windows: true };
        connection.send(ToInit::Welcome { version: VERSION, epoch: self.epoch, abilities });
        for exec_id in lock(&self.forgets).iter() {
            connection.send(ToInit::Forget { exec_id: *exec_id });
        }
        self.advance(SandboxEvent::Attach, Some(connection));
    }

    fn route(&self, epoch: u64, incoming: Incoming) -> Result<(), LinkError> {
        let Incoming { frame, descriptor } = incoming;
        let Some(exec_id) = frame.exec_id() else { return Ok(()) };
        // An exec that is not interested any more has no route.
        match lock(&self.routes).get(&exec_id) {
            Some(route) => {
                let heard = Heard { epoch, frame, descriptor };
                route.put(heard).map_err(|_| LinkError::TooMuch)
            }
            None => Ok(()),
        }
    }

    /// Whether Docker is sure that the container does not run.
    async fn is_dead(&self) -> bool {
        match self.docker.inspect(&self.container).await {
            Ok(Container::Stopped { out_of_memory }) => {
                self.out_of_memory.store(out_of_memory, Ordering::Relaxed);
                true
            }
            Ok(Container::Missing) => true,
            Ok(Container::Running(_) | Container::Paused(_)) => false,
            Err(error) => {
                tracing::warn!(sandbox = %self.id, %error, "asking Docker again");
                false
            }
        }
    }
}

/// Lives as long as the sandbox: one connection at a time, the newest one counts.
async fn keep(shared: Arc<Shared>, listener: UnixListener) {
    let mut link: Option<AbortOnDropHandle<()>> = None;
    let mut boot: Option<u64> = None;
    let mut epoch = 0;
    let mut look = FIRST_LOOK;
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Some((reader, connection, writer)) = welcome(&shared, accepted, epoch + 1).await
                else { continue };
                if *boot.get_or_insert(connection.boot_id) != connection.boot_id {
                    tracing::warn!(sandbox = %shared.id, "was restarted by somebody");
                    break;
                }
                epoch += 1;
                look = FIRST_LOOK;
                drop(link.take());
                shared.attach(connection);
                link = Some(AbortOnDropHandle::new(tokio::spawn(serve(
                    Arc::clone(&shared), epoch, reader, writer,
                ))));
            }
            () = ended(link.as_mut()) => {
                link = None;
                shared.advance(SandboxEvent::Detach, None);
            }
            () = tokio::time::sleep(look), if link.is_none() => {
                if shared.is_dead().await {
                    tracing::warn!(sandbox = %shared.id, "the container is gone");
                    break;
                }
                look = (look * 2).min(LAST_LOOK);
            }
        }
    }
    shared.advance(SandboxEvent::Vanish, None);
}

type Writer = std::pin::Pin<Box<dyn Future<Output = Result<(), LinkError>> + Send>>;

async fn welcome(
    shared: &Shared,
    accepted: std::io::Result<(UnixStream, tokio::net::unix::SocketAddr)>,
    epoch: u64,
) -> Option<(Reader, Connection, Writer)> {
    let greeted = match accepted {
        Ok((socket, _)) => link::greet(socket, shared.id).await,
        Err(error) => Err(error.into()),
    };
    match greeted {
        Ok((reader, socket, boot_id)) => {
            let (outgoing, frames) = mpsc::unbounded_channel();
            let writer = Box::pin(link::write_frames(socket, frames));
            Some((reader, Connection { epoch, boot_id, outgoing }, writer))
        }
        Err(error) => {
            tracing::warn!(sandbox = %shared.id, %error, "connection refused");
            // A failing accept must not become a busy loop.
            tokio::time::sleep(FIRST_LOOK).await;
            None
        }
    }
}

/// Reading and writing must not wait for each other: a full queue of output would otherwise keep
/// back the acknowledgements that empty it.
async fn serve(shared: Arc<Shared>, epoch: u64, mut reader: Reader, writer: Writer) {
    let read = async {
        loop {
            match reader.next().await {
                Ok(incoming) => {
                    if let Err(error) = shared.route(epoch, incoming) {
                        return error;
                    }
                }
                Err(error) => return error,
            }
        }
    };
    let error = tokio::select! {
        error = read => error,
        written = writer => written.err().unwrap_or(LinkError::Closed),
    };
    tracing::debug!(sandbox = %shared.id, %error, "disconnected");
}

async fn ended(link: Option<&mut AbortOnDropHandle<()>>) {
    match link {
        Some(link) => drop(link.await),
        None => std::future::pending().await,
    }
}

/// A panic elsewhere leaves these maps whole: every change is a single call.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
