//! `bulkhead exec`: one command in a sandbox, as if it ran here.

use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;

use crate::arguments::{assignment, duration};
use crate::client::{Client, Exec, ExecRequest, NewSession};
use crate::connection::{Caller, Connection};
use crate::follow::ExecFollower;
use crate::{console, exit, quoting};

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
    /// The command: one word is a script for bash, several are a program with its arguments.
    #[arg(required = true, last = true, value_name = "COMMAND")]
    pub command: Vec<String>,
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
    let outcome = run_in(&client, session_id, &arguments, connection.json).await;
    if let Some(session_id) = &own_session
        && let Err(problem) = client.close_session(session_id).await
    {
        console::say(format_args!("session {session_id} could not be closed: {problem}"));
    }
    let exec = outcome?;
    if connection.json {
        console::print_json(&exec)?;
    }
    Ok(exit::code_of(&exec))
}

async fn run_in(
    client: &Client,
    session_id: &str,
    arguments: &Arguments,
    json: bool,
) -> Result<Exec> {
    let request = ExecRequest {
        command: quoting::script_from(&arguments.command),
        cwd: arguments.cwd.clone(),
        env: arguments.env.iter().cloned().collect(),
        timeout_ms: arguments.timeout.map(|timeout| timeout.as_millis() as u64),
        wait_ms: Some(FIRST_WAIT_MS),
    };
    let key = arguments.idempotency_key.as_deref();
    let exec = client.create_exec(session_id, &request, key).await?;
    let mut follower = ExecFollower::new(client, exec, !json);
    let exec = tokio::select! {
        end = follower.follow() => end?,
        signal = tokio::signal::ctrl_c() => {
            signal?;
            cancel(client, &mut follower).await?
        }
    };
    if let Some(reason) = reason_of(&exec) {
        console::say(reason);
    }
    Ok(exec)
}

async fn cancel(client: &Client, follower: &mut ExecFollower<'_>) -> Result<Exec> {
    let path = format!("/v1/execs/{}/cancel", follower.exec().exec_id);
    console::say("cancelling");
    let _: serde_json::Value = client.post(&path, &serde_json::json!({})).await?;
    let end = tokio::time::timeout(CANCEL_LIMIT, follower.follow()).await;
    end.context("the command did not end after it was cancelled")?
}

/// What the exit code alone would not tell a person.
fn reason_of(exec: &Exec) -> Option<String> {
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
