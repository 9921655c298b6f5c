//! `bulkhead policy explain`: the parse, the facts and the rules, offline with a file or from the
//! active policy.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use policy::{CommandRequest, Subject};
use serde_json::{Value, json};

use super::{INVALID, load};
use crate::connection::{Caller, Connection};
use crate::{console, quoting};

/// Arguments of `bulkhead policy explain`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Judge by this file, offline; without it, by the tenant's active policy.
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Where the command would run.
    #[arg(long, value_name = "PATH", default_value = "/work")]
    cwd: String,
    /// Role of the token that would ask.
    #[arg(long = "for-role", value_name = "ROLE", default_value = "agent")]
    for_role: String,
    /// What the session would be for, such as production.
    #[arg(long, value_name = "NAME")]
    environment: Option<String>,
    /// The session that it would run in; not with a file.
    #[arg(long, value_name = "ID", conflicts_with = "policy")]
    session: Option<String>,
    /// The command: one word is a script for bash, several are a program with its arguments.
    #[arg(required = true, last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

pub(super) async fn run(connection: &Connection, arguments: Arguments) -> Result<u8> {
    let command = quoting::script_from(&arguments.command);
    if arguments.policy.is_some() {
        return offline(connection.json, &arguments, &command);
    }
    let client = connection.client(Caller::Reviewer)?;
    let mut body = json!({ "command": command, "cwd": arguments.cwd, "role": arguments.for_role });
    if let Some(environment) = &arguments.environment {
        body["environment"] = environment.as_str().into();
    }
    if let Some(session) = &arguments.session {
        body["session_id"] = session.as_str().into();
    }
    let answer: Value = client.post("/v1/policy/explain", &body).await?;
    if connection.json {
        console::print_json(&answer)?;
    } else {
        print(answer["text"].as_str().unwrap_or_default())?;
    }
    Ok(0)
}

fn offline(json: bool, arguments: &Arguments, command: &str) -> Result<u8> {
    let Some(engine) = load(arguments.policy.as_deref())? else { return Ok(INVALID) };
    let subject = Subject {
        role: &arguments.for_role,
        environment: arguments.environment.as_deref().unwrap_or_default(),
        ..Subject::default()
    };
    let explanation = engine.explain(&CommandRequest {
        command,
        cwd: &arguments.cwd,
        git_hardened: true,
        paths_refused: false,
        subject,
        ..CommandRequest::default()
    });
    if json {
        console::print_json(&explanation)?;
    } else {
        print(&explanation.to_string())?;
    }
    Ok(0)
}

fn print(text: &str) -> Result<()> {
    Ok(text.lines().try_for_each(|line| console::print(console::printable(line)))?)
}
