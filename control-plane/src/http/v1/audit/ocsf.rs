//! Audit events as OCSF (<https://schema.ocsf.io>), class API Activity, for security tools.

use serde_json::{Value, json};

use super::view::View;

const CATEGORY: u32 = 6;
const CLASS: u32 = 6003;
const INFORMATIONAL: u32 = 1;

/// The line of an event.
pub(super) fn line(view: &View) -> String {
    let activity = activity(&view.action);
    let (status, status_id) = status(&view.outcome);
    let milliseconds = view.time.unix_timestamp_nanos() / 1_000_000;
    let event = json!({
        "category_uid": CATEGORY,
        "class_uid": CLASS,
        "activity_id": activity,
        "type_uid": CLASS * 100 + activity,
        "time": i64::try_from(milliseconds).unwrap_or_default(),
        "severity_id": INFORMATIONAL,
        "status": status,
        "status_id": status_id,
        "status_detail": view.outcome,
        "metadata": {
            "version": "1.5.0",
            "product": { "name": "Bulkhead", "vendor_name": "Bulkhead" },
            "uid": view.hash,
            "sequence": view.seq,
        },
        "actor": {
            "user": { "name": view.actor, "uid": view.token_id, "type": view.role },
            "session": view.session_id.as_ref().map(|id| json!({ "uid": id })),
        },
        "src_endpoint": { "ip": view.address },
        "api": { "operation": view.action },
        "resources": [{ "uid": view.object }],
        "unmapped": {
            "exec_id": view.exec_id,
            "decision": view.decision,
            "reasons": view.reasons,
            "sandbox": view.sandbox,
            "stdout_sha256": view.stdout_sha256,
            "stderr_sha256": view.stderr_sha256,
            "detail": view.detail,
            "erased": view.erased,
        },
    });
    without_nulls(event).to_string() + "\n"
}

/// Create, read, update, delete, or other.
fn activity(action: &str) -> u32 {
    match action.rsplit('.').next().unwrap_or_default() {
        "create" | "enrol" | "put" | "review" => 1,
        "get" | "export" | "list" => 2,
        "decide" | "authorize" | "finish" | "close" | "closed" | "cancel" | "interrupt" => 3,
        "delete" | "revoke" => 4,
        _ => 99,
    }
}

fn status(outcome: &str) -> (&'static str, u32) {
    match outcome {
        "denied" | "deny" | "refused" | "lost" | "killed" | "timed_out" | "cancelled" => {
            ("Failure", 2)
        }
        _ => ("Success", 1),
    }
}

/// OCSF leaves out what is not known.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let known = fields.into_iter().filter(|(_, value)| !value.is_null());
            Value::Object(known.map(|(name, value)| (name, without_nulls(value))).collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(without_nulls).collect()),
        other => other,
    }
}
