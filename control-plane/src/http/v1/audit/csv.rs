//! Audit events as CSV (RFC 4180), for spreadsheets.

use serde_json::Value;
use time::format_description::well_known::Rfc3339;

use super::view::View;

/// The first line.
pub(super) const HEADER: &str = "seq,time,role,actor,token_id,address,action,object,session_id,\
    exec_id,outcome,decision,rules,policy_version,approver,reasons,sandbox_id,sandbox_generation,\
    image_digest,stdout_sha256,stderr_sha256,detail,erased,detail_sha256,hash\r\n";

/// The line of an event.
pub(super) fn line(view: &View) -> String {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let (decision, sandbox) = (view.decision.as_ref(), view.sandbox.as_ref());
    let detail = match &view.detail {
        Value::Null => String::new(),
        detail => detail.to_string(),
    };
    let cells = [
        view.seq.to_string(),
        view.time.format(&Rfc3339).unwrap_or_default(),
        view.role.clone(),
        text(&view.actor),
        text(&view.token_id),
        text(&view.address),
        view.action.clone(),
        view.object.clone(),
        text(&view.session_id),
        text(&view.exec_id),
        view.outcome.clone(),
        decision.map(|it| it.outcome.clone()).unwrap_or_default(),
        decision.map(|it| it.rules.join(" ")).unwrap_or_default(),
        decision.and_then(|it| it.policy_version).map(|it| it.to_string()).unwrap_or_default(),
        decision.and_then(|it| it.approver.clone()).unwrap_or_default(),
        view.reasons.join("; "),
        sandbox.map(|it| it.id.clone()).unwrap_or_default(),
        sandbox.map(|it| it.generation.to_string()).unwrap_or_default(),
        sandbox.and_then(|it| it.image_digest.clone()).unwrap_or_default(),
        text(&view.stdout_sha256),
        text(&view.stderr_sha256),
        detail,
        view.erased.to_string(),
        view.detail_sha256.clone(),
        view.hash.clone(),
    ];
    cells.map(|cell| quoted(&cell)).join(",") + "\r\n"
}

/// A cell. Spreadsheets run what begins like a formula; an apostrophe makes it text.
fn quoted(cell: &str) -> String {
    let is_formula = cell.starts_with(['=', '+', '-', '@', '\t', '\r']);
    let cell = if is_formula { format!("'{cell}") } else { cell.to_owned() };
    if cell.contains(['"', ',', '\n', '\r']) {
        return format!("\"{}\"", cell.replace('"', "\"\""));
    }
    cell
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_one_cell_and_no_formula() {
        assert_eq!(quoted("plain"), "plain");
        assert_eq!(quoted("a,\"b\"\nc"), "\"a,\"\"b\"\"\nc\"");
        assert_eq!(quoted("=HYPERLINK(\"x\")"), "\"'=HYPERLINK(\"\"x\"\")\"");
        assert_eq!(quoted("-1"), "'-1");
    }
}
