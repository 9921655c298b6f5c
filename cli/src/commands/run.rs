//! `bulkhead run`: one turn of the agent; its answer on stdout, its doings on stderr.

use std::time::Duration;

use anyhow::Result;
use clap::Args;
use serde_json::json;
use tokio::time::{sleep, timeout};

use crate::client::{Client, Event, NewSession, Turn};
use crate::connection::{Caller, Connection};
use crate::console;

const POLL: Duration = Duration::from_secs(2);

/// Arguments of `bulkhead run`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Continue this session; without it, a new one, which stays for more.
    #[arg(long, value_name = "ID")]
    pub session: Option<String>,
    /// What the agent is asked to do.
    pub prompt: String,
}

/// Runs the command; 0 only if the turn completed.
///
/// # Errors
/// When the control plane refuses or cannot be reached.
pub async fn run(connection: Connection, arguments: Arguments) -> Result<u8> {
    let client = connection.client(Caller::Agent)?;
    let session_id = match arguments.session {
        Some(id) => id,
        None => client.create_session(&NewSession::default()).await?.session_id,
    };
    console::say(format_args!("session {session_id}"));
    let path = format!("/v1/sessions/{session_id}/turns");
    let turn: Turn = client.post(&path, &json!({"input": arguments.prompt})).await?;
    let turn = tokio::select! {
        end = follow(&client, turn.clone()) => end?,
        signal = tokio::signal::ctrl_c() => {
            signal?;
            console::say("interrupting");
            let _: serde_json::Value =
                client.post(&format!("/v1/sessions/{session_id}/interrupt"), &json!({})).await?;
            client.get_turn(&turn.turn_id).await?
        }
    };
    print(&turn, connection.json)?;
    Ok(if turn.state == "completed" { 0 } else { 1 })
}

fn print(turn: &Turn, json: bool) -> Result<()> {
    if json {
        console::print_json(&json!({
            "session_id": turn.session_id,
            "turn_id": turn.turn_id,
            "state": turn.state,
            "answer": turn.answer,
        }))?;
    } else if let Some(answer) = &turn.answer {
        console::print(answer)?;
    }
    if turn.state != "completed" {
        let why = turn.error.as_ref().map(|error| format!(": {error}")).unwrap_or_default();
        console::say(format_args!("the turn {}{why}", turn.state));
    }
    Ok(())
}

/// Follows the session until the turn is over; a poll stands in for events that do not come.
async fn follow(client: &Client, mut turn: Turn) -> Result<Turn> {
    let mut events = client.events(&turn.session_id, 0);
    let mut ours = false;
    while !turn.is_terminal() {
        match timeout(POLL, events.next()).await {
            Ok(Ok(event)) => {
                // What the session did in earlier turns comes first and is none of our business.
                ours |= event.text("turn_id") == turn.turn_id;
                if ours {
                    tell(client, &event).await;
                }
                if event.kind != "turn.finished" || !ours {
                    continue;
                }
            }
            Ok(Err(problem)) if !problem.is_transient() => return Err(problem.into()),
            Ok(Err(_)) => sleep(POLL).await,
            Err(_) => {}
        }
        match client.get_turn(&turn.turn_id).await {
            Ok(now) => turn = now,
            Err(problem) if problem.is_transient() => sleep(POLL).await,
            Err(problem) => return Err(problem.into()),
        }
    }
    Ok(turn)
}

/// Shows what the agent does. It is no part of the answer, so its own failures are passed over.
async fn tell(client: &Client, event: &Event) {
    let exec_id = event.text("exec_id");
    match event.kind.as_str() {
        "exec.created" => {
            if let Ok(exec) = client.get_exec(exec_id).await {
                console::narrate(format_args!("  $ {}", console::printable(&exec.command)));
            }
        }
        "exec.pending_approval" => {
            let id = event.text("approval_id");
            console::narrate(format_args!("    waits: bulkhead approvals approve {id}"));
        }
        "exec.finished" => {
            let code = event.data.get("exit_code").and_then(|code| code.as_i64());
            let code = code.map(|code| format!(", exit code {code}")).unwrap_or_default();
            console::narrate(format_args!("    {}{code}", event.text("state")));
        }
        _ => {}
    }
}
