//! `bulkhead execs`: the commands of a session, what they wrote, and steering those that run.

use std::time::Duration;

use anyhow::{Result, bail};
use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::{exec, listing};
use crate::arguments::duration;
use crate::client::{Client, ClientError, Exec, Stream, encode};
use crate::connection::{Caller, Connection};
use crate::{console, exit, input};

/// How long one request waits for an exec's end.
const WAIT: Duration = Duration::from_secs(20);
/// Between two looks at a stream that grows, and after a request without an answer.
const PAUSE: Duration = Duration::from_millis(200);
/// How long the control plane may be away while we wait.
const OUTAGE_LIMIT: Duration = Duration::from_secs(120);

/// Arguments of `bulkhead execs`.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(subcommand)]
    action: Action,
}

impl Arguments {
    /// Whether the exit code is the exec's own.
    pub fn is_wait(&self) -> bool {
        matches!(self.action, Action::Wait { .. })
    }
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Execs, newest first.
    List {
        /// Those of this session; of every open session by default.
        #[arg(long, value_name = "ID")]
        session: Option<String>,
        /// Those in this state, such as running or exited.
        #[arg(long)]
        state: Option<String>,
        /// Those in the background.
        #[arg(long)]
        background: bool,
    },
    /// One exec.
    Show {
        /// Its id.
        id: String,
    },
    /// What it wrote, byte for byte.
    Logs {
        /// Its id.
        id: String,
        /// Which of its streams.
        #[arg(long, value_enum, default_value_t = Which::Stdout)]
        stream: Which,
        /// Begins at this byte.
        #[arg(long, default_value_t = 0)]
        offset: u64,
        /// Goes on until it is over.
        #[arg(short, long)]
        follow: bool,
    },
    /// What its terminal showed, as asciicast v2: `bulkhead execs cast ID > x.cast` is for asciinema.
    Cast {
        /// Its id.
        id: String,
    },
    /// Wait for its end and exit as `bulkhead exec` would.
    Wait {
        /// Its id.
        id: String,
        /// How long, such as 30s; without it, as long as it takes.
        #[arg(long, value_parser = duration)]
        timeout: Option<Duration>,
    },
    /// Send a signal to everything that it started.
    Signal {
        /// Its id.
        id: String,
        /// The signal, such as TERM or 15.
        signal: String,
    },
    /// Call it off.
    Cancel {
        /// Its id.
        id: String,
    },
    /// Pass our stdin on to it, and close its own at the end.
    Stdin {
        /// Its id.
        id: String,
        /// Number of the first byte in all of its input: what it has taken before.
        #[arg(long, default_value_t = 0)]
        offset: u64,
        /// Leave its input open for more.
        #[arg(long)]
        keep_open: bool,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Which {
    Stdout,
    Stderr,
}

/// Runs the command.
///
/// # Errors
/// When the control plane refuses or cannot be reached.
pub async fn run(connection: Connection, arguments: Arguments) -> Result<u8> {
    let client = connection.client(Caller::Agent)?;
    let json = connection.json;
    match arguments.action {
        Action::List { session, state, background } => {
            let execs = list(&client, session, state.as_deref(), background).await?;
            let columns = ["exec_id", "session_id", "state", "background", "created_at", "command"];
            listing::print(&execs, json, &columns)?;
        }
        Action::Show { id } => {
            let exec: Value = client.get(&path(&id)).await?;
            listing::print_one(&exec, json)?;
        }
        Action::Logs { id, stream, offset, follow } => {
            let stream = match stream {
                Which::Stdout => Stream::Stdout,
                Which::Stderr => Stream::Stderr,
            };
            logs(&client, &encode(&id), stream, offset, follow).await?;
        }
        Action::Cast { id } => {
            let mut download = client.download(&format!("{}/cast", path(&id))).await?;
            while let Some(piece) = download.next().await? {
                console::write_stream(Stream::Stdout, &piece)?;
            }
        }
        Action::Wait { id, timeout } => {
            let exec = wait(&client, &encode(&id), timeout).await?;
            if json {
                console::print_json(&exec)?;
            }
            if let Some(reason) = exec::reason_of(&exec) {
                console::say(reason);
            }
            return Ok(exit::code_of(&exec));
        }
        Action::Signal { id, signal } => {
            client.signal_exec(&encode(&id), &signal).await?;
            listing::print_one(&json!({"exec_id": id, "signal": signal}), json)?;
        }
        Action::Cancel { id } => {
            let exec = client.cancel_exec(&encode(&id)).await?;
            let state = exec.state.as_str();
            match json {
                true => console::print_json(&exec)?,
                false => listing::print_one(&json!({"exec_id": id, "state": state}), false)?,
            }
        }
        Action::Stdin { id, offset, keep_open } => {
            let stdin = tokio::io::stdin();
            let end = input::forward(&client, &encode(&id), offset, stdin, !keep_open).await?;
            listing::print_one(&json!({"exec_id": id, "offset": end}), json)?;
        }
    }
    Ok(0)
}

fn path(exec_id: &str) -> String {
    format!("/v1/execs/{}", encode(exec_id))
}

async fn list(
    client: &Client,
    session: Option<String>,
    state: Option<&str>,
    background: bool,
) -> Result<Vec<Value>, ClientError> {
    let sessions = match session {
        Some(id) => vec![id],
        None => {
            let mut sessions = listing::fetch(client, "/v1/sessions").await?;
            sessions.retain(|session| session["state"] == "open");
            let id = |session: &Value| session["session_id"].as_str().map(str::to_owned);
            sessions.iter().filter_map(id).collect()
        }
    };
    let mut query = String::from("?limit=200");
    if let Some(state) = state {
        query.push_str(&format!("&state={}", encode(state)));
    }
    if background {
        query.push_str("&background=true");
    }
    let mut execs = Vec::new();
    for session in sessions {
        let path = format!("/v1/sessions/{}/execs{query}", encode(&session));
        execs.extend(listing::fetch(client, &path).await?);
    }
    let created = |exec: &Value| exec["created_at"].as_str().unwrap_or_default().to_owned();
    execs.sort_by_key(|exec| std::cmp::Reverse(created(exec)));
    Ok(execs)
}

async fn logs(
    client: &Client,
    exec_id: &str,
    stream: Stream,
    mut offset: u64,
    follow: bool,
) -> Result<()> {
    let mut answered = Instant::now();
    loop {
        let part = match client.output_part(exec_id, stream, offset).await {
            Ok(part) => part,
            Err(problem) if follow && problem.is_transient() && !is_over(answered) => {
                sleep(PAUSE).await;
                continue;
            }
            Err(problem) => return Err(problem.into()),
        };
        answered = Instant::now();
        // Data of the command, whichever stream it was: ours for data is stdout.
        console::write_stream(Stream::Stdout, &part.bytes)?;
        offset += part.bytes.len() as u64;
        let all = part.bytes.is_empty() || offset >= part.total;
        if let Some(lost) = part.lost.filter(|_| all) {
            bail!("{lost}");
        }
        if all && (part.complete || !follow) {
            return Ok(());
        }
        if all {
            sleep(PAUSE).await;
        }
    }
}

async fn wait(client: &Client, exec_id: &str, timeout: Option<Duration>) -> Result<Exec> {
    let begin = Instant::now();
    let mut answered = begin;
    loop {
        let left = timeout.map(|timeout| timeout.saturating_sub(begin.elapsed()));
        match client.wait_for_exec(exec_id, left.unwrap_or(WAIT).min(WAIT)).await {
            Ok(exec) if exec.state.is_terminal() => return Ok(exec),
            Ok(exec) if left.is_some_and(|left| left.is_zero()) => {
                let state = exec.state.as_str();
                bail!("it is still {state} after the time to wait; it was not called off");
            }
            Ok(_) => answered = Instant::now(),
            Err(problem) if problem.is_transient() && !is_over(answered) => sleep(PAUSE).await,
            Err(problem) => return Err(problem.into()),
        }
    }
}

fn is_over(answered: Instant) -> bool {
    answered.elapsed() > OUTAGE_LIMIT
}
