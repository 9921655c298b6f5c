//! The end of an exec, whichever way: state, closing audit event, event for clients, and the
//! answer that the model gets. One terminal audit event per exec, because it happens here only.

use domain::approval::ApprovalState;
use domain::exec::{ExecEvent, ExecOutcome};
use domain::limits::MAX_MODEL_OUTPUT_BYTES;
use domain::sandbox::SandboxRef;
use policy::Outcome;
use protocol::exec::{ExecResult, StreamSummary};
use serde_json::{Value, json};

use super::OutcomeError;
use crate::store::{AuditEntry, EventKind, Evidence, Exec, ExecError, Moved, Scope};

/// Says why an exec has not started yet, once for each reason. That it is said again tells that its
/// workflow lives.
pub(crate) async fn keep_waiting(
    scope: &mut Scope,
    exec: &Exec,
    reason: &str,
) -> Result<(), OutcomeError> {
    scope.set_exec_waiting(exec.id, reason).await?;
    if exec.waiting_reason.as_deref() == Some(reason) {
        return Ok(());
    }
    let data = json!({ "exec_id": exec.id, "reason": reason });
    Ok(scope.append_event(exec.session_id, EventKind::ExecWaiting, data).await?)
}

/// How long to wait before looking again, in milliseconds: a part of the time waited so far.
pub(crate) fn patience_ms(exec: &Exec) -> u64 {
    let waited = time::OffsetDateTime::now_utc() - exec.created_at;
    u64::try_from(waited.whole_milliseconds() / 4).unwrap_or(0).clamp(1000, 30_000)
}

/// Ends an exec that never ran, or of which nothing is known.
pub(crate) async fn settle(
    scope: &mut Scope,
    exec: &Exec,
    outcome: ExecOutcome,
    reason: Option<&str>,
) -> Result<(), OutcomeError> {
    let error =
        reason.map(|message| ExecError { code: outcome.as_str().into(), message: message.into() });
    settle_with(scope, exec, outcome, error.as_ref()).await
}

/// The same, with an error that has a code of its own.
pub(crate) async fn settle_with(
    scope: &mut Scope,
    exec: &Exec,
    outcome: ExecOutcome,
    error: Option<&ExecError>,
) -> Result<(), OutcomeError> {
    settle_as(scope, exec, outcome, Verdict { part: "worker", outcome: outcome.as_str() }, error)
        .await
}

/// Ends an exec of which nobody told anything for long after its time. The audit log says what is
/// true: `unknown`. Clients see one that was permitted `lost`, any other `cancelled`.
pub(crate) async fn settle_unknown(scope: &mut Scope, exec: &Exec) -> Result<(), OutcomeError> {
    let was_permitted =
        exec.decision.as_ref().is_some_and(|it| it.decision.outcome == Outcome::Allow);
    let (outcome, message) = if was_permitted {
        let message = "nobody told of its end for long after its time; whether it ran is not known";
        (ExecOutcome::Lost, message)
    } else {
        (ExecOutcome::Cancelled, "nobody decided about it for long after its turn; it did not run")
    };
    let error = ExecError { code: "outcome_unknown".into(), message: message.into() };
    settle_as(scope, exec, outcome, UNKNOWN, Some(&error)).await
}

/// Writes the closing audit event of an exec that ended without one: who changed its row did not say
/// what happened.
pub(crate) fn record_unknown(scope: &mut Scope, exec: &Exec) {
    let reason = "it stood as ended without this event";
    let detail = json!({ "reason": reason, "state": exec.state.as_str() });
    scope.append_audit(closing_entry(exec, UNKNOWN, Evidence::default(), detail));
}

/// Who says in the audit log how something ended, and what.
#[derive(Clone, Copy)]
pub(super) struct Verdict {
    pub(super) part: &'static str,
    pub(super) outcome: &'static str,
}

/// Of that whose outcome nobody tells of any more.
pub(super) const UNKNOWN: Verdict = Verdict { part: "reconciler", outcome: "unknown" };

async fn settle_as(
    scope: &mut Scope,
    exec: &Exec,
    outcome: ExecOutcome,
    verdict: Verdict,
    error: Option<&ExecError>,
) -> Result<(), OutcomeError> {
    let state = exec.state.apply(ExecEvent::Finish(outcome))?;
    scope.finish_unstarted_exec(exec.id, state, error).await?;
    if let Some(approval_id) = exec.approval_id {
        let approval = scope.get_approval(approval_id).await?;
        if let Ok(cancelled) = approval.state.settle(ApprovalState::Cancelled) {
            scope.settle_approval(approval_id, cancelled, None, None).await?;
        }
    }
    let reason = error.map(|error| error.message.as_str());
    let detail = json!({ "reason": reason });
    scope.append_audit(closing_entry(exec, verdict, Evidence::default(), detail));
    announce(scope, exec, outcome, None).await?;
    let reason = reason.unwrap_or("no reason was given");
    let text = match outcome {
        ExecOutcome::Lost => format!("Lost: the command may have run in part. {reason}"),
        _ => format!("The command did not run ({}): {reason}", outcome.as_str()),
    };
    answer_model(scope, exec, &text).await
}

/// Ends an exec with its result.
pub(crate) async fn finish(
    scope: &mut Scope,
    exec: &Exec,
    result: &ExecResult,
    sandbox: Option<SandboxRef>,
) -> Result<(), OutcomeError> {
    exec.state.apply(ExecEvent::Finish(result.outcome))?;
    scope.finish_exec(exec.id, result, sandbox).await?;
    scope.add_usage(i64::try_from(result.duration_ms).unwrap_or(i64::MAX), 0, 0).await?;
    for (stream, summary) in
        protocol::init::Stream::BOTH.into_iter().zip([&result.stdout, &result.stderr])
    {
        // A short stream is complete in its summary; a long one comes from the executor's spool.
        if let Some(bytes) = summary.whole().filter(|bytes| !bytes.is_empty()) {
            scope.append_output(exec.id, stream, 0, &bytes).await?;
        }
    }
    let Noticed { replaced, image_digest } = notice_sandbox(scope, exec, sandbox).await?;
    let digest = image_digest.clone();
    if let Some(sandbox) = sandbox.filter(|_| result.unended > 0) {
        let detail = json!({ "sandbox": sandbox, "unended": result.unended });
        announce_replacement(scope, exec, sandbox, digest, detail).await?;
    }
    let detail = json!({
        "exit_code": result.exit_code, "signal": result.signal, "oom_killed": result.oom_killed,
        "duration_ms": result.duration_ms, "survivors": result.survivors,
        "stdout_bytes": result.stdout.bytes_total, "stderr_bytes": result.stderr.bytes_total,
    });
    let evidence = Evidence {
        sandbox,
        image_digest,
        stdout_sha256: Some(result.stdout.sha256.clone()),
        stderr_sha256: Some(result.stderr.sha256.clone()),
        ..Evidence::default()
    };
    let verdict = Verdict { part: "worker", outcome: result.outcome.as_str() };
    scope.append_audit(closing_entry(exec, verdict, evidence, detail));
    announce(scope, exec, result.outcome, result.exit_code).await?;
    let text = match replaced {
        Some(generation) => format!("{}{}", lost_workspace(generation), describe(result)),
        None => describe(result),
    };
    answer_model(scope, exec, &text).await
}

/// What there is to say of the sandbox that an exec ran in.
#[derive(Default)]
struct Noticed {
    /// The new generation, if the session's files are gone.
    replaced: Option<u32>,
    image_digest: Option<String>,
}

/// Keeps where a session's exec ran, and says that its files are gone if `sandbox` is of a later
/// generation than the last one.
async fn notice_sandbox(
    scope: &mut Scope,
    exec: &Exec,
    sandbox: Option<SandboxRef>,
) -> Result<Noticed, OutcomeError> {
    let Some(sandbox) = sandbox else { return Ok(Noticed::default()) };
    let Moved { before, image_digest } =
        scope.set_session_sandbox(exec.session_id, sandbox).await?;
    let Some(before) = before.filter(|before| *before < sandbox.generation) else {
        return Ok(Noticed { replaced: None, image_digest });
    };
    let detail = json!({ "sandbox": sandbox, "before": before });
    announce_replacement(scope, exec, sandbox, image_digest.clone(), detail).await?;
    Ok(Noticed { replaced: Some(sandbox.generation), image_digest })
}

/// Says, on record and to clients, that a sandbox is another one now, or will be.
async fn announce_replacement(
    scope: &mut Scope,
    exec: &Exec,
    sandbox: SandboxRef,
    image_digest: Option<String>,
    detail: Value,
) -> Result<(), OutcomeError> {
    scope.append_audit(AuditEntry {
        session_id: Some(exec.session_id),
        evidence: Evidence { sandbox: Some(sandbox), image_digest, ..Evidence::default() },
        detail: detail.clone(),
        ..AuditEntry::by_part("worker", "sandbox.replaced", sandbox.id)
    });
    Ok(scope.append_event(exec.session_id, EventKind::SandboxReplaced, detail).await?)
}

fn lost_workspace(generation: u32) -> String {
    format!(
        "Note: the workspace was lost and this command ran in a new, empty one \
         (generation {generation}). Files of earlier commands are gone.\n"
    )
}

/// The one closing audit event.
fn closing_entry(exec: &Exec, verdict: Verdict, evidence: Evidence, detail: Value) -> AuditEntry {
    AuditEntry {
        session_id: Some(exec.session_id),
        outcome: verdict.outcome,
        evidence,
        detail,
        ..AuditEntry::by_part(verdict.part, "exec.finish", exec.id)
    }
}

/// Tells clients.
async fn announce(
    scope: &mut Scope,
    exec: &Exec,
    outcome: ExecOutcome,
    exit_code: Option<i32>,
) -> Result<(), OutcomeError> {
    let data = json!({
        "exec_id": exec.id, "state": outcome.as_str(), "exit_code": exit_code,
    });
    Ok(scope.append_event(exec.session_id, EventKind::ExecFinished, data).await?)
}

/// Adds the tool's answer to the conversation, if a model asked for this exec.
async fn answer_model(scope: &mut Scope, exec: &Exec, text: &str) -> Result<(), OutcomeError> {
    let Some(call_id) = &exec.call_id else { return Ok(()) };
    let item = json!({ "type": "function_call_output", "call_id": call_id, "output": text });
    Ok(scope.append_items(exec.session_id, &[item]).await?)
}

/// What the model is told of a result: everything true, nothing long.
fn describe(result: &ExecResult) -> String {
    let end = match (result.outcome, result.exit_code, result.signal) {
        (ExecOutcome::Exited, Some(code), _) => format!("Exit code: {code}"),
        (ExecOutcome::Exited, None, Some(signal)) => format!("Ended by signal {signal}"),
        (ExecOutcome::Killed, ..) if result.oom_killed => {
            "Killed by the kernel: out of memory".into()
        }
        (ExecOutcome::Lost, ..) if result.oom_killed => {
            "Lost: the sandbox ended after memory had run out in it; the command may have run in part and \
             was not repeated. Look at the workspace before you go on."
                .into()
        }
        (ExecOutcome::Lost, ..) => {
            "Lost: the sandbox vanished; the command may have run in part and was not repeated. \
             Look at the workspace before you go on."
                .into()
        }
        (outcome, ..) => format!("State: {}", outcome.as_str()),
    };
    let seconds = result.duration_ms as f64 / 1000.0;
    let mut text = format!("{end}\nWall time: {seconds:.3} seconds\n");
    if result.survivors > 0 {
        let count = result.survivors;
        text.push_str(&format!(
            "{count} processes that it left behind were ended. Run servers with background: true.\n"
        ));
    }
    // Of a lost one, nobody saw what was left of it.
    if result.unended > 0 && result.outcome != ExecOutcome::Lost {
        let count = result.unended;
        text.push_str(&format!(
            "{count} of its processes could not be ended; the next command runs in a new container \
             with the same files.\n"
        ));
    }
    text.push_str("Output:\n");
    text.push_str(&shorten(&result.stdout));
    if result.stderr.bytes_total > 0 {
        text.push_str("\nStandard error:\n");
        text.push_str(&shorten(&result.stderr));
    }
    text
}

fn shorten(stream: &StreamSummary) -> String {
    let half = MAX_MODEL_OUTPUT_BYTES / 4;
    let head = &stream.head.0;
    let tail = &stream.tail.0;
    let total = head.len() + tail.len();
    if !stream.is_truncated() && total <= 2 * half {
        return String::from_utf8_lossy(&[head.as_slice(), tail].concat()).into_owned();
    }
    let first = &head[..head.len().min(half)];
    let rest = [&head[first.len()..], tail].concat();
    let last = &rest[rest.len().saturating_sub(half)..];
    let left_out = stream.bytes_total - (first.len() + last.len()) as u64;
    format!(
        "{}\n[… {left_out} bytes left out …]\n{}",
        String::from_utf8_lossy(first),
        String::from_utf8_lossy(last)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::binary::Binary;

    fn stream(head: usize, tail: usize, total: u64) -> StreamSummary {
        StreamSummary {
            bytes_total: total,
            bytes_stored: total,
            head: Binary(vec![b'h'; head]),
            tail: Binary(vec![b't'; tail]),
            sha256: String::new(),
        }
    }

    #[test]
    fn a_short_stream_is_shown_whole() {
        assert_eq!(shorten(&stream(3, 2, 5)), "hhhtt");
    }

    #[test]
    fn a_long_stream_says_how_much_is_left_out() {
        let text = shorten(&stream(16384, 16384, 100_000));
        assert!(text.contains("[… 83616 bytes left out …]"), "{}", &text[8000..8200]);
        assert!(text.len() < MAX_MODEL_OUTPUT_BYTES);
        assert!(text.starts_with('h') && text.ends_with('t'));
    }
}
