//! What an executor's sealed reply means for its exec. A reply that is known changes nothing.

use domain::exec::{ExecOutcome, ExecState};
use domain::ids::TenantId;
use protocol::exec::{NotStarted, ToolOutcome, ToolReply, ToolReport, reply_context};
use protocol::session::Recorded;
use sealing::Key;

use super::{OutcomeError, closing, plausible};
use crate::store::{Exec, ExecError, Scope};

/// Opens a reply. `None` when it was not made with the tenant's key for this exec, or says what
/// cannot be.
pub(crate) fn open(
    key: &Key,
    tenant_id: TenantId,
    exec: &Exec,
    reply: &ToolReply,
) -> Option<ToolReport> {
    match sealing::open(key, tenant_id, &reply_context(exec.id), &reply.report) {
        Ok(report) => match plausible::find_fault(&report) {
            None => Some(report),
            Some(fault) => {
                tracing::error!(exec_id = %exec.id, executor_id = %report.executor_id, fault,
                    "impossible report refused");
                None
            }
        },
        Err(error) => {
            tracing::error!(exec_id = %exec.id, %error, "forged or damaged report refused");
            None
        }
    }
}

/// Writes down what an executor says of an exec that is not over.
pub(crate) async fn apply(
    scope: &mut Scope,
    exec: &Exec,
    report: Option<ToolReport>,
) -> Result<Recorded, OutcomeError> {
    match report {
        Some(ToolReport { outcome: ToolOutcome::NotStarted(why), .. }) => {
            not_started(scope, exec, why).await
        }
        Some(ToolReport { outcome: ToolOutcome::Finished(result), sandbox, .. }) => {
            closing::finish(scope, exec, &result, sandbox).await?;
            Ok(Recorded::Done)
        }
        // Whoever sent it is no executor of the tenant, or one that lies: what became of the
        // command is not known.
        None => {
            let reason = "the report that came back was not its executor's, or cannot be true";
            closing::settle(scope, exec, ExecOutcome::Lost, Some(reason)).await?;
            Ok(Recorded::Done)
        }
    }
}

async fn not_started(
    scope: &mut Scope,
    exec: &Exec,
    why: NotStarted,
) -> Result<Recorded, OutcomeError> {
    if let NotStarted::Unfit(unfit) = why
        && exec.state == ExecState::Queued
        && !exec.cancel_requested
    {
        scope.refuse_unfit(exec.id, unfit.message()).await?;
        return Ok(Recorded::Retry { after_ms: 1 });
    }
    let may_try_again = matches!(
        why,
        NotStarted::GrantExpired
            | NotStarted::SandboxUnavailable
            | NotStarted::SandboxExhausted
            | NotStarted::DiskFull
            | NotStarted::SpoolFull
    );
    if may_try_again && exec.cancel_requested && exec.state != ExecState::Running {
        // Another request for it may be on the way: its executor has to rule that out.
        return Ok(Recorded::Retry { after_ms: 1 });
    }
    if may_try_again {
        if exec.state == ExecState::Running {
            // It was started once, somewhere. It is not started again.
            let reason = "its executor knows nothing of it any more";
            closing::settle(scope, exec, ExecOutcome::Lost, Some(reason)).await?;
            return Ok(Recorded::Done);
        }
        closing::keep_waiting(scope, exec, why.message()).await?;
        return Ok(Recorded::Retry { after_ms: closing::patience_ms(exec) });
    }
    if let Some(recalled) = &exec.recalled
        && exec.state == ExecState::Queued
        && why != NotStarted::GrantRefused
    {
        let reason = recalled.decision.reasons.join("; ");
        scope.set_exec_decision(exec.id, exec.state, recalled, None).await?;
        closing::settle(scope, exec, ExecOutcome::Denied, Some(&reason)).await?;
        return Ok(Recorded::Done);
    }
    let code = match why {
        NotStarted::GrantExpired => "grant_expired",
        NotStarted::GrantRefused => "grant_refused",
        NotStarted::Cancelled => "cancelled",
        NotStarted::ImageMissing => "image_missing",
        NotStarted::CwdMissing => "cwd_missing",
        NotStarted::SandboxUnavailable => "sandbox_unavailable",
        NotStarted::SandboxExhausted => "sandbox_exhausted",
        NotStarted::DiskFull => "disk_full",
        NotStarted::SpoolFull => "spool_full",
        NotStarted::WorkspaceExceedsMemory => "workspace_exceeds_memory",
        NotStarted::Unfit(_) => "sandbox_refused",
    };
    let error = ExecError { code: code.into(), message: why.message().into() };
    closing::settle_with(scope, exec, ExecOutcome::Cancelled, Some(&error)).await?;
    Ok(Recorded::Done)
}
