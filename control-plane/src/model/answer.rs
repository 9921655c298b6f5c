//! Reads an answer's items: text for people, calls for the sandbox, and calls that make no sense.

use domain::limits::MAX_CALLS_PER_ANSWER;
use serde::Deserialize;
use serde_json::Value;

use crate::app::checks;

/// An answer, taken apart.
#[derive(Debug, Default)]
pub struct Answer {
    /// The items as they came; the next call sends them back.
    pub items: Vec<Value>,
    /// What the model says.
    pub text: String,
    /// What it wants run.
    pub calls: Vec<ShellCall>,
    /// Calls that cannot be carried out, by call id, with the reason.
    pub refused: Vec<(String, String)>,
}

/// A call of the tool `shell`.
#[derive(Debug, PartialEq, Eq)]
pub struct ShellCall {
    /// The model's id for it.
    pub call_id: String,
    /// Script for `bash -c`.
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

fn read_call(item: &Value, call_id: &str) -> Result<ShellCall, String> {
    let name = item["name"].as_str().unwrap_or_default();
    if name != "shell" {
        return Err(format!("unsupported call: there is no tool {name:?}, only `shell`"));
    }
    let text = item["arguments"].as_str().unwrap_or_default();
    let arguments: Arguments = serde_json::from_str(text)
        .map_err(|error| format!("the arguments of `shell` are malformed: {error}"))?;
    checks::check_command(&arguments.command).map_err(|error| error.to_string())?;
    let workdir = match arguments.workdir.as_deref() {
        None | Some("" | ".") => "/work".to_owned(),
        Some(path) if path.starts_with('/') => path.to_owned(),
        Some(path) => format!("/work/{path}"),
    };
    checks::check_cwd(&workdir).map_err(|error| error.to_string())?;
    Ok(ShellCall {
        call_id: call_id.to_owned(),
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
    fn malformed_calls_are_answered_not_run() {
        for (name, arguments) in [
            ("shell", "{"),
            ("shell", r#"{"cmd":"ls"}"#),
            ("shell", r#"{"command":""}"#),
            ("shell", "{\"command\":\"a\\u0000\"}"),
            ("rm", r#"{"command":"ls"}"#),
        ] {
            let answer = read_answer(vec![call(name, arguments)]);
            assert!(answer.calls.is_empty(), "{arguments}");
            assert_eq!(answer.refused[0].0, "c1");
        }
        let huge = format!(r#"{{"command":"{}"}}"#, "x".repeat(70_000));
        assert_eq!(read_answer(vec![call("shell", &huge)]).refused.len(), 1);
    }
}
