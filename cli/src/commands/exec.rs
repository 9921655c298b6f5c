//! `bulkhead exec`: one command in a sandbox, as if it ran here.

use std::pin::pin;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use crate::arguments::{assignment, duration};
use crate::client::{Client, Exec, ExecRequest, NewSession};
use crate::connection::{Caller, Connection};
use crate::follow::ExecFollower;
use crate::terminal::{self, RawMode};
use crate::{console, exit, input, quoting};

/// Long enough for the answer to a short command to be in the first reply, short enough for a
/// long one to start streaming.
const FIRST_WAIT_MS: u64 = 200;
/// How long a cancelled command may take to say so.
const CANCEL_LIMIT: Duration = Duration::from_secs(10);

/// Arguments of `bulkhead exec`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Run in this session; without it, a session of its own that is closed afterwards.
    #[arg(long, value_name = "ID")]
    pub session: Option<String>,
    /// Working directory in the sandbox.
    #[arg(long, value_name = "PATH")]
    pub cwd: Option<String>,
    /// An additional variable.
    #[arg(long, value_name = "KEY=VALUE", value_parser = assignment)]
    pub env: Vec<(String, String)>,
    /// How long it may run, such as 30s.
    #[arg(long, value_parser = duration)]
    pub timeout: Option<Duration>,
    /// A repeat with the same key finds the first exec instead of running again.
    #[arg(long, value_name = "KEY", requires = "session")]
    pub idempotency_key: Option<String>,
    /// Pass our stdin on to the command; without it nothing is read from ours.
    #[arg(short = 'i', long)]
    pub stdin: bool,
    /// Give the command a terminal, and the keys of ours.
    #[arg(short = 't', long, conflicts_with_all = ["background", "json"])]
    pub tty: bool,
    /// Start it and print its id; `bulkhead execs` does the rest.
    #[arg(long)]
    pub background: bool,
    /// The command: one word is a script for bash, several are a program with its arguments.
    #[arg(required = true, last = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}

impl Arguments {
    fn request(&self) -> ExecRequest {
        ExecRequest {
            command: quoting::script_from(&self.command),
            cwd: self.cwd.clone(),
            env: self.env.iter().cloned().collect(),
            timeout_ms: self.timeout.map(|timeout| timeout.as_millis() as u64),
            // Whoever sends input must not be waited for.
            wait_ms: Some(if self.is_interactive() { 0 } else { FIRST_WAIT_MS }),
            background: self.background,
            stdin_open: self.is_interactive(),
            tty: self.tty.then(terminal::size),
        }
    }

    fn is_interactive(&self) -> bool {
        self.stdin || self.tty
    }
}

/// Runs the command; its exit code is ours.
///
/// # Errors
/// When Bulkhead could not run it.
pub async fn run(connection: Connection, arguments: Arguments) -> Result<u8> {
    let client = connection.client(Caller::Agent)?;
    let own_session = match &arguments.session {
        Some(_) => None,
        None => Some(client.create_session(&NewSession::default()).await?.session_id),
    };
    let session_id = own_session.as_ref().or(arguments.session.as_ref());
    let session_id = session_id.context("no session")?;
    let outcome = start(&client, session_id, &arguments, connection.json).await;
    let stays = arguments.background && outcome.is_ok();
    if let Some(session_id) = own_session.as_ref().filter(|_| stays) {
        console::say(format_args!("it runs in session {session_id}, which stays open"));
    } else if let Some(session_id) = &own_session
        && let Err(problem) = client.close_session(session_id).await
    {
        console::say(format_args!("session {session_id} could not be closed: {problem}"));
    }
    let exec = outcome?;
    match (connection.json, arguments.background) {
        (true, _) => console::print_json(&exec)?,
        (false, true) => console::print(&exec.exec_id)?,
        (false, false) => {}
    }
    // One that was only started has not failed yet, unless it never will start.
    let only_started = arguments.background && !exec.state.is_terminal();
    Ok(if only_started { 0 } else { exit::code_of(&exec) })
}

async fn start(
    client: &Client,
    session_id: &str,
    arguments: &Arguments,
    json: bool,
) -> Result<Exec> {
    let key = arguments.idempotency_key.as_deref();
    let exec = client.create_exec(session_id, &arguments.request(), key).await?;
    if arguments.background {
        return Ok(exec);
    }
    let exec_id = exec.exec_id.clone();
    let mut follower = ExecFollower::new(client, exec, !json);
    let mut interruption = pin!(interrupted());
    // Restored when this function is left, however that is.
    let mut raw = (arguments.tty && terminal::has_keyboard())
        .then(|| RawMode::enter(std::io::stdin()).context("cannot use this terminal"))
        .transpose()?;
    let exec = tokio::select! {
        end = follower.follow() => end?,
        problem = converse(client, &exec_id, arguments) => return Err(problem),
        signal = &mut interruption => {
            signal?;
            drop(raw.take());
            cancel(client, &mut follower).await?
        }
    };
    drop(raw.take());
    if let Some(reason) = reason_of(&exec) {
        console::say(reason);
    }
    Ok(exec)
}

/// Passes on what is typed, and the size of our window; comes back only with a problem.
async fn converse(client: &Client, exec_id: &str, arguments: &Arguments) -> anyhow::Error {
    let reads = arguments.stdin || (arguments.tty && terminal::has_keyboard());
    let typed = async {
        if reads {
            input::forward(client, exec_id, 0, tokio::io::stdin(), true).await?;
        } else if arguments.tty {
            input::forward(client, exec_id, 0, tokio::io::empty(), true).await?;
        }
        std::future::pending::<Result<()>>().await
    };
    let resized = async {
        if arguments.tty {
            follow_size(client, exec_id).await?;
        }
        std::future::pending::<Result<()>>().await
    };
    let outcome = tokio::select! { it = typed => it, it = resized => it };
    outcome.err().unwrap_or_else(|| anyhow::anyhow!("stdin ended unexpectedly"))
}

async fn follow_size(client: &Client, exec_id: &str) -> Result<()> {
    let mut changes = signal(SignalKind::window_change())?;
    while changes.recv().await.is_some() {
        // The next change corrects what this one could not; a command that has not begun or is
        // over has no window to change.
        let _ = client.resize_exec(exec_id, terminal::size()).await;
    }
    Ok(())
}

/// Waits until somebody wants us to stop.
async fn interrupted() -> Result<()> {
    let (mut terminate, mut hang_up) =
        (signal(SignalKind::terminate())?, signal(SignalKind::hangup())?);
    tokio::select! {
        pressed = tokio::signal::ctrl_c() => pressed?,
        _ = terminate.recv() => {}
        _ = hang_up.recv() => {}
    }
    Ok(())
}

async fn cancel(client: &Client, follower: &mut ExecFollower<'_>) -> Result<Exec> {
    console::say("cancelling");
    client.cancel_exec(&follower.exec().exec_id).await?;
    let end = tokio::time::timeout(CANCEL_LIMIT, follower.follow()).await;
    end.context("the command did not end after it was cancelled")?
}

/// What the exit code alone would not tell a person.
pub(super) fn reason_of(exec: &Exec) -> Option<String> {
    use domain::exec::ExecState as State;
    let reasons = exec.decision.as_ref().map(|decision| decision.reasons.join("; "));
    let why = reasons.filter(|text| !text.is_empty()).map(|text| format!(": {text}"));
    match exec.state {
        State::Denied => {
            let error = error_of(exec).map(|error| format!(": {error}"));
            Some(format!("denied{}", error.or(why).unwrap_or_default()))
        }
        State::TimedOut => Some("timed out".into()),
        State::Killed => Some("killed by its sandbox's limits".into()),
        State::Cancelled => Some(match error_of(exec) {
            Some(error) => format!("did not run: {error}"),
            None => "cancelled".into(),
        }),
        State::Lost => Some("lost: its sandbox is gone; the command may have run in part".into()),
        State::PendingApproval | State::Queued | State::Running | State::Exited => None,
    }
}

/// Why the exec never started, in the control plane's words.
fn error_of(exec: &Exec) -> Option<&str> {
    exec.rest.get("error")?.get("message")?.as_str()
}
