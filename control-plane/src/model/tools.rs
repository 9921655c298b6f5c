//! The tools that a model is offered, as the Responses API describes them.

use serde_json::{Value, json};

/// All of them.
pub(super) fn definitions() -> Vec<Value> {
    vec![shell(), apply_patch(), read_file(), list_dir(), grep_files()]
}

fn function(name: &str, description: &str, properties: Value, required: &[&str]) -> Value {
    json!({
        "type": "function",
        "name": name,
        "description": description,
        "strict": false,
        "parameters": {
            "type": "object",
            "properties": properties,
            "required": required,
            "additionalProperties": false,
        },
    })
}

fn shell() -> Value {
    let properties = json!({
        "command": { "type": "string", "description": "Script for bash -c." },
        "workdir": { "type": "string", "description": "Where to run it; /work if left out." },
        "timeout_ms": { "type": "number", "description": "Milliseconds it may run." },
    });
    let description = "Runs a bash script in the sandbox and returns its output and exit code. \
                       Processes that it leaves behind are ended with it.";
    function("shell", description, properties, &["command"])
}

fn apply_patch() -> Value {
    let properties = json!({
        "input": {
            "type": "string",
            "description": "The patch, from `*** Begin Patch` to `*** End Patch`.",
        },
    });
    let description = "Changes files in the workspace. The patch has one section per file: \
        `*** Add File: path` with lines that begin with `+`, `*** Delete File: path`, or \
        `*** Update File: path` (optionally `*** Move to: path`) with chunks that begin with `@@` \
        and lines that begin with a space (context), `-` (taken out) or `+` (put in).";
    function("apply_patch", description, properties, &["input"])
}

fn read_file() -> Value {
    let properties = json!({
        "file_path": { "type": "string", "description": "The file." },
        "offset": { "type": "number", "description": "First line, from 1." },
        "limit": { "type": "number", "description": "Most lines." },
    });
    function("read_file", "Reads a file with line numbers.", properties, &["file_path"])
}

fn list_dir() -> Value {
    let properties = json!({
        "dir_path": { "type": "string", "description": "The folder." },
        "offset": { "type": "number", "description": "First entry, from 1." },
        "limit": { "type": "number", "description": "Most entries." },
        "depth": { "type": "number", "description": "How deep to go, from 1." },
    });
    function("list_dir", "Lists a folder.", properties, &["dir_path"])
}

fn grep_files() -> Value {
    let properties = json!({
        "pattern": { "type": "string", "description": "A regular expression." },
        "include": { "type": "string", "description": "A glob for file names, such as *.rs." },
        "path": { "type": "string", "description": "Where to look; /work if left out." },
        "limit": { "type": "number", "description": "Most files." },
    });
    let description = "Finds files whose content matches, the last changed first.";
    function("grep_files", description, properties, &["pattern"])
}
