//! A container with our PID 1, and connections from it. Docker is real; nothing is skipped when it
//! is missing.

use std::fs::Permissions;
use std::io::{ErrorKind, Read, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use domain::ids::{ExecId, SandboxId};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use protocol::init::{
    Abilities, Exit, FrameBuffer, FromInit, Start, StartFailure, Stdin, Stream, ToInit, VERSION,
    encode,
};
use serde_json::json;
use uuid::Uuid;

/// What attempts on other processes begin with: each prints whether it was refused, and how.
pub const ATTEMPT: &str = r#"
import ctypes, os, signal, socket
libc = ctypes.CDLL(None, use_errno=True)
def refused(name, attempt):
    try:
        attempt()
        print(name, "SUCCEEDED")
    except OSError as error:
        print(name, type(error).__name__)
def trace(pid, request):
    if libc.ptrace(request, pid, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "ptrace")
"#;

/// The user of the commands.
pub const UID: u32 = 10_007;
/// Nothing that is waited for takes longer.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// Milliseconds from SIGTERM to SIGKILL.
pub const GRACE_MS: u64 = 500;

/// A container. It goes with its folder.
pub struct Sandbox {
    folder: PathBuf,
    pub container: String,
    id: SandboxId,
    listener: UnixListener,
}

/// A connection of its PID 1, with these tests as the executor.
pub struct Peer {
    socket: UnixStream,
    buffer: FrameBuffer,
    pub boot_id: u64,
}

/// What came of a command.
#[derive(Debug)]
pub struct Outcome {
    pub exit: Exit,
    pub output: [Vec<u8>; 2],
}

impl Outcome {
    pub fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.output[0]).into_owned()
    }

    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.output[1]).into_owned()
    }
}

impl Sandbox {
    pub fn new() -> Self {
        Self::with(None)
    }

    /// One whose kernel does not have this system call.
    pub fn without(syscall: &str) -> Self {
        Self::with(Some(syscall))
    }

    fn with(missing: Option<&str>) -> Self {
        let program = std::env::var("BULKHEAD_SANDBOX_INIT")
            .expect("BULKHEAD_SANDBOX_INIT names the static sandbox-init to test");
        let image = std::env::var("BULKHEAD_SANDBOX_IMAGE")
            .unwrap_or_else(|_| "bulkhead-sandbox:bookworm".into());
        let id = Uuid::now_v7();
        // Short, because a socket's path has to be; the end of the id is its random part.
        let name = format!("bh-init-{}", &id.simple().to_string()[20..]);
        let folder = PathBuf::from(format!("/tmp/{name}"));
        std::fs::create_dir(&folder).expect("a folder");
        std::fs::set_permissions(&folder, Permissions::from_mode(0o700)).expect("mode");
        let socket = folder.join("executor.sock");
        let listener = UnixListener::bind(&socket).expect("a socket");
        std::fs::set_permissions(&socket, Permissions::from_mode(0o600)).expect("mode");
        let id = SandboxId::from(id);
        let mount =
            |from: &str, to: &str| format!("--mount=type=bind,src={from},dst={to},readonly");
        let filter = folder.join("seccomp.json");
        let rules = missing.map(|syscall| {
            let enosys = json!({ "names": [syscall], "action": "SCMP_ACT_ERRNO", "errnoRet": 38 });
            let rules = json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [enosys] });
            std::fs::write(&filter, rules.to_string()).expect("a filter");
            format!("--security-opt=seccomp={}", filter.display())
        });
        docker(&[
            "run",
            "--detach",
            rules.as_deref().unwrap_or("--security-opt=no-new-privileges"),
            &format!("--name={name}"),
            "--user=0:0",
            "--cap-drop=ALL",
            "--cap-add=SETUID",
            "--cap-add=SETGID",
            "--cap-add=KILL",
            "--cap-add=SETPCAP",
            "--security-opt=no-new-privileges",
            "--network=none",
            "--read-only",
            "--pids-limit=128",
            "--memory=512m",
            "--memory-swap=512m",
            "--ulimit=nofile=1024:1024",
            "--ulimit=core=0:0",
            "--log-driver=none",
            &format!("--tmpfs=/work:rw,nosuid,nodev,exec,size=64m,uid={UID},gid={UID},mode=0755"),
            "--tmpfs=/tmp:rw,nosuid,nodev,noexec,size=64m,mode=1777",
            &mount(&folder.display().to_string(), "/.bulkhead/ctl"),
            &mount(&program, "/.bulkhead/init"),
            &format!("--env=BULKHEAD_SANDBOX_ID={id}"),
            "--entrypoint=/.bulkhead/init",
            &image,
        ]);
        Self { folder, container: name, id, listener }
    }

    /// The next connection of PID 1, which has said who it is. It does not know us yet.
    pub fn accept(&self) -> Peer {
        let mut fds = [PollFd::new(self.listener.as_fd(), PollFlags::POLLIN)];
        let patience = PollTimeout::try_from(PATIENCE).expect("short");
        assert_eq!(poll(&mut fds, patience), Ok(1), "PID 1 does not connect");
        let (socket, _) = self.listener.accept().expect("accepts");
        socket.set_read_timeout(Some(PATIENCE)).expect("timeout");
        socket.set_write_timeout(Some(PATIENCE)).expect("timeout");
        let mut peer = Peer { socket, buffer: FrameBuffer::default(), boot_id: 0 };
        match peer.next() {
            Some(FromInit::Hello { version: VERSION, sandbox_id, boot_id }) => {
                assert_eq!(sandbox_id, self.id);
                peer.boot_id = boot_id;
                peer
            }
            other => panic!("no greeting: {other:?}"),
        }
    }

    /// The next connection, as an executor of this epoch.
    pub fn connect_as(&self, epoch: u64) -> Peer {
        let mut peer = self.accept();
        peer.send(&welcome(VERSION, epoch));
        peer
    }

    /// The next connection, as the first executor.
    pub fn connect(&self) -> Peer {
        self.connect_as(1)
    }

    /// Names of all processes, as the container's root sees them, without the one that looks.
    pub fn processes(&self) -> Vec<String> {
        let names = docker(&["exec", &self.container, "ps", "-e", "-o", "comm="]);
        let names = names.lines().map(|name| name.trim().to_owned());
        names.filter(|name| name != "ps").collect()
    }

    /// Asserts that PID 1 is alone.
    pub fn assert_alone(&self, what: &str) {
        assert_eq!(self.processes().len(), 1, "{what}: {:?}", self.processes());
    }

    /// Processor time that PID 1 has had, in hundredths of a second.
    pub fn ticks(&self) -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.host_pid()));
        let stat = stat.expect("PID 1 lives");
        let fields = stat.rsplit(')').next().expect("fields").split_whitespace();
        fields.skip(11).take(2).map(|field| field.parse::<u64>().expect("ticks")).sum()
    }

    /// PID 1's number outside.
    pub fn host_pid(&self) -> String {
        docker(&["inspect", "--format={{.State.Pid}}", &self.container])
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        let _ = Command::new("docker").args(["rm", "--force", &self.container]).output();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// The first frame of an executor that reads no windows.
pub fn welcome(version: u32, epoch: u64) -> ToInit {
    ToInit::Welcome { version, epoch, abilities: Abilities::default() }
}

/// A command for bash, with a minute of time.
pub fn start(command: &str) -> Start {
    Start {
        exec_id: Uuid::now_v7().into(),
        argv: ["/bin/bash", "--noprofile", "--norc", "-c", command].map(str::to_owned).to_vec(),
        env: ["PATH=/usr/local/bin:/usr/bin:/bin", "HOME=/work", "TERM=xterm"]
            .map(str::to_owned)
            .to_vec(),
        cwd: "/work".into(),
        stdin: Stdin::Closed,
        terminal: None,
        uid: UID,
        rlimits: Vec::new(),
        timeout_ms: 60_000,
        grace_ms: GRACE_MS,
    }
}

impl Peer {
    pub fn send(&mut self, frame: &ToInit) {
        let mut bytes = Vec::new();
        encode(frame, &mut bytes).expect("encodes");
        self.socket.write_all(&bytes).expect("writes");
    }

    /// Sends a frame that the other side may not be there for any more.
    pub fn try_send(&mut self, frame: &ToInit) {
        let mut bytes = Vec::new();
        encode(frame, &mut bytes).expect("encodes");
        let _ = self.socket.write_all(&bytes);
    }

    /// Sends bytes that are no frame.
    pub fn send_garbage(&mut self, bytes: &[u8]) {
        self.socket.write_all(bytes).expect("writes");
    }

    /// The next frame; `None` when PID 1 has closed the connection.
    pub fn next(&mut self) -> Option<FromInit> {
        loop {
            if let Some(frame) = self.buffer.take().expect("a frame") {
                return Some(frame);
            }
            let mut chunk = [0; 64 * 1024];
            match self.socket.read(&mut chunk) {
                Ok(0) => return None,
                Ok(count) => self.buffer.tail().extend_from_slice(&chunk[..count]),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("PID 1 is silent: {error}"),
            }
        }
    }

    /// Asserts that PID 1 closes the connection and says nothing before it.
    pub fn assert_refused(&mut self) {
        let frame = self.next();
        assert!(frame.is_none(), "{frame:?}");
    }

    /// Starts a command.
    pub fn begin(&mut self, start: &Start) -> Running<'_> {
        self.send(&ToInit::Start(start.clone()));
        let mut running = self.follow(start.exec_id);
        running.attached = false;
        running.until("its start", |running| running.attached);
        running
    }

    /// Attaches to a command, of whose stdout this was heard before.
    pub fn attach(&mut self, exec_id: ExecId, stdout: &[u8]) -> Running<'_> {
        self.send(&ToInit::Attach { exec_id, have: [stdout.len() as u64, 0] });
        let mut running = self.follow(exec_id);
        running.attached = false;
        running.output[0] = stdout.to_vec();
        running.until("the answer", |running| running.attached);
        running
    }

    /// Takes part in what is said of a command, from the start of its output.
    pub fn follow(&mut self, exec_id: ExecId) -> Running<'_> {
        Running {
            peer: self,
            exec_id,
            attached: true,
            output: [Vec::new(), Vec::new()],
            taken: None,
            delivered: None,
            exit: None,
        }
    }

    /// Runs a command to its end.
    pub fn run(&mut self, start: &Start) -> Outcome {
        self.begin(start).finish()
    }

    /// Runs a command line to its end.
    pub fn sh(&mut self, command: &str) -> Outcome {
        self.run(&start(command))
    }

    /// Why a command cannot be started.
    pub fn why_not(&mut self, start: &Start) -> StartFailure {
        self.send(&ToInit::Start(start.clone()));
        match self.next() {
            Some(FromInit::Failed { exec_id, why }) if exec_id == start.exec_id => why,
            other => panic!("{other:?}"),
        }
    }
}

/// A command, and what was heard of it. Output is acknowledged as it comes.
pub struct Running<'a> {
    pub peer: &'a mut Peer,
    pub exec_id: ExecId,
    attached: bool,
    pub output: [Vec<u8>; 2],
    pub taken: Option<(u64, bool)>,
    delivered: Option<bool>,
    exit: Option<Exit>,
}

impl Running<'_> {
    /// Hears frames until this holds.
    pub fn until(&mut self, what: &str, holds: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !holds(self) {
            assert!(Instant::now() < deadline, "never: {what}; {:?}", self.stdout());
            self.hear(what);
        }
    }

    fn hear(&mut self, what: &str) {
        let id = self.exec_id;
        match self.peer.next() {
            Some(FromInit::Started { exec_id, .. }) if exec_id == id => self.attached = true,
            // From where an earlier connection had stopped.
            Some(FromInit::Output { .. } | FromInit::Exited { .. }) if !self.attached => {}
            Some(FromInit::Output { exec_id, stream, offset, bytes }) if exec_id == id => {
                let output = &mut self.output[stream.index()];
                let known = output.len() - usize::try_from(offset).expect("small");
                output.extend_from_slice(&bytes[known..]);
                let offset = output.len() as u64;
                self.peer.send(&ToInit::Ack { exec_id, stream, offset });
            }
            Some(FromInit::StdinTaken { exec_id, offset, open }) if exec_id == id => {
                self.taken = Some((offset, open));
            }
            Some(FromInit::Signalled { exec_id, delivered }) if exec_id == id => {
                self.delivered = Some(delivered);
            }
            Some(FromInit::Exited { exec_id, exit, totals }) if exec_id == id => {
                let lengths = Stream::BOTH.map(|stream| self.output[stream.index()].len() as u64);
                assert_eq!(totals, lengths);
                self.exit = Some(exit);
            }
            Some(FromInit::Failed { exec_id, why }) if exec_id == id => panic!("{why:?}"),
            // Of another command.
            Some(_) => {}
            None => panic!("while waiting for {what}: closed"),
        }
    }

    pub fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.output[0]).into_owned()
    }

    /// Hears output until stdout has this in it.
    pub fn until_stdout(&mut self, text: &str) {
        self.until(text, |running| running.stdout().contains(text));
    }

    /// Offers input and gives the answer.
    pub fn offer(&mut self, offset: u64, bytes: &[u8], close: bool) -> (u64, bool) {
        let exec_id = self.exec_id;
        self.taken = None;
        self.peer.send(&ToInit::Stdin { exec_id, offset, bytes: bytes.to_vec(), close });
        self.until("an answer to input", |running| running.taken.is_some());
        self.taken.expect("an answer")
    }

    /// Sends a signal; gives whether there was a process for it.
    pub fn signal(&mut self, signal: i32) -> bool {
        let exec_id = self.exec_id;
        self.delivered = None;
        self.peer.send(&ToInit::Signal { exec_id, signal });
        self.until("an answer to a signal", |running| running.delivered.is_some());
        self.delivered.expect("an answer")
    }

    /// Sends a frame about this command.
    pub fn send(&mut self, frame: &ToInit) {
        self.peer.send(frame);
    }

    /// Hears the end, and has it forgotten.
    pub fn finish(mut self) -> Outcome {
        self.until("its end", |running| running.exit.is_some());
        self.peer.send(&ToInit::Forget { exec_id: self.exec_id });
        Outcome { exit: self.exit.expect("an exit"), output: self.output }
    }
}

/// Runs `docker` and gives what it printed.
pub fn docker(arguments: &[&str]) -> String {
    let output = Command::new("docker").args(arguments).output().expect("docker runs");
    assert!(
        output.status.success(),
        "docker {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}
