//! Reads an answer's items: text for people, calls for the sandbox, and calls that make no sense.

use domain::limits::MAX_CALLS_PER_ANSWER;
use protocol::exec::ExecKind;
use protocol::tools::{ToolCall, ToolCallError};
use serde::Deserialize;
use serde_json::Value;

use crate::app::checks;

/// What a tool other than the shell may take, in milliseconds.
const TOOL_TIMEOUT_MS: u64 = 30_000;

/// An answer, taken apart.
#[derive(Debug, Default)]
pub struct Answer {
    /// The items as they came; the next call sends them back.
    pub items: Vec<Value>,
    /// What the model says.
    pub text: String,
    /// What it wants run.
    pub calls: Vec<ModelToolCall>,
    /// Calls that cannot be carried out, by call id, with the reason.
    pub refused: Vec<(String, String)>,
}

/// A call that can be carried out.
#[derive(Debug, PartialEq, Eq)]
pub struct ModelToolCall {
    /// The model's id for it.
    pub call_id: String,
    /// What `command` is.
    pub kind: ExecKind,
    /// Script for `bash -c`, or the text of another tool's call.
    pub command: String,
    /// Absolute path.
    pub workdir: String,
    /// Milliseconds it may run.
    pub timeout_ms: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Arguments {
    command: String,
    workdir: Option<String>,
    timeout_ms: Option<f64>,
}

/// Takes an answer's items apart.
pub fn read_answer(items: Vec<Value>) -> Answer {
    let mut answer = Answer::default();
    for item in &items {
        match item["type"].as_str().unwrap_or_default() {
            "message" => answer.text.push_str(&message_text(item)),
            "function_call" | "custom_tool_call" => {
                let call_id = item["call_id"].as_str().unwrap_or_default().to_owned();
                match read_call(item, &call_id) {
                    Ok(_) if answer.calls.len() >= MAX_CALLS_PER_ANSWER => {
                        let why = format!("at most {MAX_CALLS_PER_ANSWER} calls in one answer");
                        answer.refused.push((call_id, why));
                    }
                    Ok(call) => answer.calls.push(call),
                    Err(why) => answer.refused.push((call_id, why)),
                }
            }
            _ => {}
        }
    }
    answer.items = items;
    answer
}

fn message_text(item: &Value) -> String {
    let parts = item["content"].as_array().map(Vec::as_slice).unwrap_or_default();
    parts.iter().filter_map(|part| part["text"].as_str()).collect()
}

fn read_call(item: &Value, call_id: &str) -> Result<ModelToolCall, String> {
    let name = item["name"].as_str().unwrap_or_default();
    let text = item["arguments"].as_str().unwrap_or_default();
    // A custom tool's input is its text as it stands.
    let freeform = item["input"].as_str().filter(|_| item["type"] == "custom_tool_call");
    match (name, freeform) {
        ("shell", None) => read_shell(call_id, text),
        ("apply_patch", Some(patch)) => {
            tool(call_id, &ToolCall::ApplyPatch { patch: patch.into() })
        }
        (_, Some(_)) => Err(format!("unsupported call: there is no custom tool {name:?}")),
        (_, None) => match ToolCall::from_arguments(name, text) {
            Ok(call) => tool(call_id, &call),
            Err(ToolCallError::UnknownTool) => {
                Err(format!("unsupported call: there is no tool {name:?}"))
            }
            Err(error) => Err(format!("the call of `{name}` is malformed: {error}")),
        },
    }
}

fn tool(call_id: &str, call: &ToolCall) -> Result<ModelToolCall, String> {
    let command = call.to_text();
    checks::check_command(&command).map_err(|error| error.to_string())?;
    Ok(ModelToolCall {
        call_id: call_id.to_owned(),
        kind: ExecKind::Tool,
        command,
        workdir: "/work".into(),
        timeout_ms: Some(TOOL_TIMEOUT_MS),
    })
}

fn read_shell(call_id: &str, text: &str) -> Result<ModelToolCall, String> {
    let arguments: Arguments = serde_json::from_str(text)
        .map_err(|error| format!("the arguments of `shell` are malformed: {error}"))?;
    checks::check_command(&arguments.command).map_err(|error| error.to_string())?;
    let workdir = match arguments.workdir.as_deref() {
        None | Some("" | ".") => "/work".to_owned(),
        Some(path) if path.starts_with('/') => path.to_owned(),
        Some(path) => format!("/work/{path}"),
    };
    checks::check_cwd(&workdir).map_err(|error| error.to_string())?;
    Ok(ModelToolCall {
        call_id: call_id.to_owned(),
        kind: ExecKind::Shell,
        command: arguments.command,
        workdir,
        timeout_ms: arguments.timeout_ms.filter(|ms| *ms >= 1.0).map(|ms| ms as u64),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn call(name: &str, arguments: &str) -> Value {
        json!({ "type": "function_call", "call_id": "c1", "name": name, "arguments": arguments })
    }

    #[test]
    fn text_and_calls_are_told_apart() {
        let message = json!({
            "type": "message",
            "content": [{ "type": "output_text", "text": "Let me look." }],
        });
        let answer = read_answer(vec![message, call("shell", r#"{"command":"ls","workdir":"a"}"#)]);
        assert_eq!(answer.text, "Let me look.");
        assert_eq!(answer.calls[0].workdir, "/work/a");
        assert_eq!(answer.items.len(), 2);
    }

    #[test]
    fn tools_become_commands_of_their_own_kind() {
        let patch = "*** Begin Patch\n*** Delete File: a\n*** End Patch";
        let custom = json!({
            "type": "custom_tool_call", "call_id": "c2", "name": "apply_patch", "input": patch,
        });
        let read = call("read_file", r#"{"file_path":"a.txt"}"#);
        let answer = read_answer(vec![custom, read]);
        let texts: Vec<&str> = answer.calls.iter().map(|call| call.command.as_str()).collect();
        let expected =
            [format!("apply_patch\n{patch}"), r#"read_file {"file_path":"a.txt"}"#.into()];
        assert_eq!(texts, expected);
        assert!(answer.calls.iter().all(|call| call.kind == ExecKind::Tool));
    }

    #[test]
    fn malformed_calls_are_answered_not_run() {
        for (name, arguments) in [
            ("shell", "{"),
            ("shell", r#"{"cmd":"ls"}"#),
            ("shell", r#"{"command":""}"#),
            ("shell", "{\"command\":\"a\\u0000\"}"),
            ("rm", r#"{"command":"ls"}"#),
            ("read_file", r#"{"path":"a"}"#),
        ] {
            let answer = read_answer(vec![call(name, arguments)]);
            assert!(answer.calls.is_empty(), "{arguments}");
            assert_eq!(answer.refused[0].0, "c1");
        }
        let huge = format!(r#"{{"command":"{}"}}"#, "x".repeat(70_000));
        assert_eq!(read_answer(vec![call("shell", &huge)]).refused.len(), 1);
    }
}
