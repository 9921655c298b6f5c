//! `sandbox-init` alone: a container like a sandbox with this program in the executor's place, so
//! that nothing else works meanwhile. From the first byte of the request to the word of its end. A
//! shell takes its time with or without it, so a program without one is measured too, and the shell
//! without it.

use std::fs::Permissions;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use domain::ids::ExecId;
use protocol::frame::{FrameBuffer, encode};
use protocol::init::{Abilities, FromInit, Start, Stdin, ToInit, VERSION};
use serde_json::json;

use crate::bench::{Bench, Plain};
use crate::report::Row;
use crate::stats::Samples;

const GOAL_MS: f64 = 2.0;
const PATIENCE: Duration = Duration::from_secs(20);
const PROGRAM: [&str; 1] = ["/bin/true"];
const SHELL: [&str; 5] = ["/bin/bash", "--noprofile", "--norc", "-c", "true"];
const UID: u32 = 10_007;
const READ_BYTES: usize = 64 << 10;
const SANDBOX_ID: &str = "sbx_00000000000000000000000000000001";

/// Measures it.
pub(crate) async fn measure(bench: &Bench) -> Result<Vec<Row>> {
    let program = bench.sandbox_init.as_deref().context("--sandbox-init is not given")?;
    let folder = Folder::new()?;
    let listener = UnixListener::bind(folder.0.join("executor.sock"))?;
    let container = start(bench, program, &folder.0)?;
    let mut init = Init::accept(&listener)?;
    let mut times = [const { Vec::new() }; 3];
    for round in 0..bench.sizes.warm_up + bench.sizes.warm {
        let took =
            [init.run(2 * round, &PROGRAM)?, init.run(2 * round + 1, &SHELL)?, bare(&SHELL)?];
        if round >= bench.sizes.warm_up {
            times.iter_mut().zip(took).for_each(|(times, took)| times.push(took));
        }
    }
    drop(container);
    let [program, shell, bare] = times.map(Samples::times);
    let met = program.p50() <= GOAL_MS;
    Ok(vec![
        Row::new("`true` through `sandbox-init` alone", "ms", program)
            .goal(format!("≤ {GOAL_MS} ms p50"), met),
        Row::new("  `bash -c true`, the same", "ms", shell).beside("without it", &bare),
        Row::new("  baseline: `bash -c true`, started on the host", "ms", bare),
    ])
}

/// From the start of a program to its end, without any sandbox.
fn bare(argv: &[&str]) -> Result<Duration> {
    let mut command = Command::new(argv[0]);
    command.args(&argv[1..]).env_clear().stdin(Stdio::null());
    let begin = Instant::now();
    let status = command.status().context("no shell")?;
    ensure!(status.success(), "`true` ended as {status}");
    Ok(begin.elapsed())
}

fn start<'a>(bench: &'a Bench, program: &Path, folder: &Path) -> Result<Plain<'a>> {
    let program = program.canonicalize().context("no sandbox-init")?;
    let bind = |from: &Path, to: &str| json!({"Type": "bind", "Source": from, "Target": to, "ReadOnly": true});
    let wish = json!({
        "Image": bench.image,
        "Entrypoint": ["/.bulkhead/init"],
        "User": "0:0",
        "Env": [format!("BULKHEAD_SANDBOX_ID={SANDBOX_ID}")],
        "HostConfig": {
            "NetworkMode": "none",
            "ReadonlyRootfs": true,
            "CapDrop": ["ALL"],
            "CapAdd": ["SETUID", "SETGID", "KILL", "SETPCAP"],
            "SecurityOpt": ["no-new-privileges:true"],
            "PidsLimit": 128,
            "Memory": 512 << 20,
            "MemorySwap": 512 << 20,
            "NanoCpus": 1_000_000_000,
            "LogConfig": {"Type": "none"},
            "Tmpfs": {"/work": format!("rw,exec,size=64m,uid={UID},mode=0755"), "/tmp": ""},
            "Mounts": [bind(folder, "/.bulkhead/ctl"), bind(&program, "/.bulkhead/init")],
        },
    });
    bench.started_container(&wish)
}

/// A folder for the socket; it goes with this.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Result<Self> {
        let path = std::env::temp_dir().join(format!("bh-bench-{}", std::process::id()));
        std::fs::create_dir(&path).with_context(|| format!("cannot make {}", path.display()))?;
        std::fs::set_permissions(&path, Permissions::from_mode(0o700))?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Its connection.
struct Init {
    socket: UnixStream,
    buffer: FrameBuffer,
}

impl Init {
    fn accept(listener: &UnixListener) -> Result<Self> {
        listener.set_nonblocking(true)?;
        let deadline = Instant::now() + PATIENCE;
        let socket = loop {
            match listener.accept() {
                Ok((socket, _)) => break socket,
                Err(problem) if problem.kind() == std::io::ErrorKind::WouldBlock => {
                    ensure!(Instant::now() < deadline, "sandbox-init does not connect");
                    std::thread::sleep(Duration::from_millis(5));
                }
                Err(problem) => return Err(problem.into()),
            }
        };
        socket.set_nonblocking(false)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        let mut init = Self { socket, buffer: FrameBuffer::default() };
        let FromInit::Hello { version: VERSION, .. } = init.hear()? else {
            bail!("sandbox-init speaks another version");
        };
        init.say(&ToInit::Welcome { version: VERSION, epoch: 1, abilities: Abilities::default() })?;
        Ok(init)
    }

    fn run(&mut self, number: u32, argv: &[&str]) -> Result<Duration> {
        let exec_id: ExecId = format!("exe_{number:032x}").parse().context("no id of an exec")?;
        let argv: Vec<_> = argv.iter().map(|word| (*word).to_owned()).collect();
        let start = Start {
            exec_id,
            argv,
            env: vec!["PATH=/usr/bin:/bin".into()],
            cwd: "/work".into(),
            stdin: Stdin::Closed,
            terminal: None,
            uid: UID,
            rlimits: Vec::new(),
            timeout_ms: 10_000,
            grace_ms: 1000,
        };
        let begin = Instant::now();
        self.say(&ToInit::Start(start))?;
        loop {
            match self.hear()? {
                FromInit::Exited { exit, .. } => {
                    let took = begin.elapsed();
                    ensure!(exit.code == Some(0), "`true` ended as {exit:?}");
                    self.say(&ToInit::Forget { exec_id })?;
                    return Ok(took);
                }
                FromInit::Started { .. } => {}
                other => bail!("sandbox-init says {other:?}"),
            }
        }
    }

    fn say(&mut self, frame: &ToInit) -> Result<()> {
        let mut bytes = Vec::new();
        encode(frame, &mut bytes)?;
        Ok(self.socket.write_all(&bytes)?)
    }

    fn hear(&mut self) -> Result<FromInit> {
        loop {
            if let Some(frame) = self.buffer.take()? {
                return Ok(frame);
            }
            let mut chunk = [0; READ_BYTES];
            let read = self.socket.read(&mut chunk).context("sandbox-init is silent")?;
            ensure!(read > 0, "sandbox-init has closed the connection");
            self.buffer.tail().extend_from_slice(&chunk[..read]);
        }
    }
}
