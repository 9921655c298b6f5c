//! An approval as a person reads it before answering: exactly what would run, and why it asks.

use serde_json::Value;

use crate::console::printable;

/// The lines of an approval. Whatever an agent wrote is escaped.
pub(super) fn lines(approval: &Value) -> Vec<String> {
    let mut lines =
        vec![format!("{} ({})", text(approval, "approval_id"), text(approval, "state"))];
    lines.extend(text(approval, "command").lines().map(|line| format!("  $ {}", printable(line))));
    let mut field = |name: &str, value: String| {
        if !value.is_empty() {
            lines.push(format!("{name:<9} {}", printable(&value)));
        }
    };
    field("cwd", text(approval, "cwd"));
    field("env", list(&approval["env_names"]));
    field("stdin", text(&approval["stdin"], "text"));
    field("image", text(approval, "image_digest"));
    field("session", text(approval, "session_id"));
    field("timeout", format!("{} ms", approval["timeout_ms"]));
    field(
        "rules",
        format!("{} (policy version {})", list(&approval["rules"]), approval["policy_version"]),
    );
    field("why", list(&approval["reasons"]));
    field("needs", needs(approval));
    field("answered", text(approval, "decided_by"));
    field("reason", text(approval, "reason"));
    lines.extend(approval["facts"].as_array().into_iter().flatten().map(fact));
    lines
}

fn needs(approval: &Value) -> String {
    let count = approval["approvers"]["count"].as_u64().unwrap_or(1);
    let roles = list(&approval["approvers"]["roles"]);
    let votes = approval["votes"].as_array().map_or(0, Vec::len);
    let among = if roles.is_empty() { roles } else { format!(", among them {roles}") };
    format!("{count} to approve{among}; {votes} did")
}

fn fact(fact: &Value) -> String {
    let effects = list(&fact["effects"]);
    let effects = if effects.is_empty() { "nothing".into() } else { effects };
    let unclear = match text(fact, "unclear") {
        why if why.is_empty() => why,
        why => format!("; not understood: {why}"),
    };
    printable(&format!("  {} may: {effects}{unclear}", text(fact, "line")))
}

fn text(value: &Value, name: &str) -> String {
    value[name].as_str().unwrap_or_default().to_owned()
}

fn list(value: &Value) -> String {
    let items = value.as_array().map(Vec::as_slice).unwrap_or_default();
    items.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn all_that_counts_is_there_and_nothing_moves_the_cursor() {
        let approval = json!({
            "approval_id": "apr_1", "state": "pending", "command": "rm x\u{1b}[2K\nls", "cwd": "/work",
            "env_names": ["A", "B"], "timeout_ms": 5, "rules": ["two"], "policy_version": 3,
            "reasons": ["two people"], "approvers": { "count": 2, "roles": ["owner"] }, "votes": [{}],
            "facts": [{ "line": "rm x", "effects": ["write"], "unclear": null }],
        });
        let text = lines(&approval).join("\n");
        for part in [
            "  $ rm x\\u{1b}[2K\n  $ ls",
            "env       A, B",
            "two (policy version 3)",
            "2 to approve, among them owner; 1 did",
            "rm x may: write",
        ] {
            assert!(text.contains(part), "{part}:\n{text}");
        }
    }
}
