//! The offline demo model: a small HTTP server that speaks the Responses API, so that the same
//! client code runs without a key. It says in every answer that it is no real model.

use std::net::SocketAddr;

use axum::Router;
use axum::extract::Json;
use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::post;
use serde_json::{Value, json};

/// What it says when it does not understand.
const HELP: &str = "I am Bulkhead's offline demo model, not a real one: I only understand prompts \
such as: Use shell to run 'echo hello world' and tell me the output. Set OPENAI_API_KEY to talk \
to a real model.";

/// Starts the server on a free port of this machine.
///
/// # Errors
/// When there is no port to be had.
pub async fn start() -> std::io::Result<SocketAddr> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let router = Router::new()
        .route("/v1/responses", post(responses))
        .layer(axum::extract::DefaultBodyLimit::max(64 * 1024 * 1024));
    tokio::spawn(async move { axum::serve(listener, router).await });
    Ok(address)
}

async fn responses(Json(body): Json<Value>) -> impl IntoResponse {
    let input = body["input"].as_array().map(Vec::as_slice).unwrap_or_default();
    let items = answer(input);
    ([(header::CONTENT_TYPE, "text/event-stream")], stream(&items))
}

/// The items that answer a conversation.
fn answer(input: &[Value]) -> Vec<Value> {
    let asked = input.iter().rposition(|item| item["role"] == "user");
    let Some(asked) = asked else { return vec![message(HELP)] };
    let prompt = text_of(&input[asked]);
    let outputs: Vec<&Value> =
        input[asked..].iter().filter(|item| item["type"] == "function_call_output").collect();
    let commands = quoted_commands(&prompt);
    if commands.is_empty() {
        return vec![message(HELP)];
    }
    if outputs.is_empty() {
        return commands
            .iter()
            .enumerate()
            .map(|(index, command)| call(asked, index, command))
            .collect();
    }
    let results: Vec<&str> = outputs.iter().filter_map(|item| item["output"].as_str()).collect();
    message_items(&commands, &results)
}

fn message_items(commands: &[String], results: &[&str]) -> Vec<Value> {
    let listed: Vec<String> = commands.iter().map(|command| format!("`{command}`")).collect();
    vec![message(&format!(
        "This is Bulkhead's offline demo model, not a real one. I ran {} and got:\n{}",
        listed.join(" and "),
        results.join("\n"),
    ))]
}

/// The texts in quotes that follow the word `run`.
fn quoted_commands(prompt: &str) -> Vec<String> {
    let mut commands = Vec::new();
    let mut rest = prompt;
    while let Some(at) = rest.find("run ") {
        rest = rest[at + 4..].trim_start();
        let Some(quote) = rest.chars().next().filter(|c| matches!(c, '\'' | '"' | '`')) else {
            continue;
        };
        let body = &rest[1..];
        // The last quote that is followed by an end or a space closes: commands contain quotes.
        let end = body.match_indices(quote).map(|(end, _)| end).find(|end| {
            let after = body[end + 1..].chars().next();
            after.is_none_or(|c| c.is_whitespace() || matches!(c, '.' | ',' | ';' | '?' | '!'))
        });
        let Some(end) = end else { break };
        commands.push(body[..end].to_owned());
        rest = &body[end + 1..];
    }
    commands
}

fn text_of(item: &Value) -> String {
    let parts = item["content"].as_array().map(Vec::as_slice).unwrap_or_default();
    parts.iter().filter_map(|part| part["text"].as_str()).collect()
}

fn call(turn: usize, index: usize, command: &str) -> Value {
    json!({
        "type": "function_call",
        "id": format!("fc_{turn}_{index}"),
        "call_id": format!("call_{turn}_{index}"),
        "name": "shell",
        "arguments": json!({ "command": command }).to_string(),
        "status": "completed",
    })
}

fn message(text: &str) -> Value {
    json!({
        "type": "message", "id": "msg_0", "role": "assistant", "status": "completed",
        "content": [{ "type": "output_text", "text": text, "annotations": [] }],
    })
}

fn stream(items: &[Value]) -> String {
    let mut frames = vec![json!({
        "type": "response.created", "response": { "id": "resp_demo", "status": "in_progress" },
    })];
    for (index, item) in items.iter().enumerate() {
        frames.push(json!({
            "type": "response.output_item.added", "output_index": index, "item": item,
        }));
        if item["type"] == "message" {
            frames.extend(text_of(item).split_inclusive(' ').map(|word| {
                json!({
                    "type": "response.output_text.delta", "output_index": index, "delta": word,
                })
            }));
        }
        frames.push(json!({
            "type": "response.output_item.done", "output_index": index, "item": item,
        }));
    }
    frames.push(json!({
        "type": "response.completed",
        "response": {
            "id": "resp_demo", "status": "completed", "output": items,
            "usage": { "input_tokens": 0, "output_tokens": 0, "total_tokens": 0 },
        },
    }));
    frames
        .iter()
        .map(|frame| format!("event: {}\ndata: {frame}\n\n", frame["type"].as_str().unwrap_or("")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_found_in_any_quotes() {
        let prompt = "Use shell to run 'echo hello world' and tell me the output.";
        assert_eq!(quoted_commands(prompt), ["echo hello world"]);
        assert_eq!(
            quoted_commands("run `ls -l`, then run \"echo 'a b'\""),
            ["ls -l", "echo 'a b'"]
        );
        assert_eq!(quoted_commands("run 'echo it's fine'"), ["echo it's fine"]);
        assert!(quoted_commands("run away").is_empty());
        assert!(quoted_commands("run 'unclosed").is_empty());
    }

    #[test]
    fn every_answer_says_what_it_is() {
        let user = json!({ "role": "user", "content": [{ "text": "hello" }] });
        assert!(text_of(&answer(&[user])[0]).contains("offline demo model"));
        let user = json!({ "role": "user", "content": [{ "text": "run 'ls'" }] });
        let output = json!({ "type": "function_call_output", "call_id": "c", "output": "a.txt" });
        let items = answer(&[user.clone(), output]);
        assert!(text_of(&items[0]).contains("offline demo model"));
        assert!(text_of(&items[0]).contains("a.txt"));
        assert_eq!(answer(&[user])[0]["type"], "function_call");
    }
}
