//! One exec from decision to record. Every step is safe to repeat, because the database decides.

use std::time::Duration;

use domain::agenda::Work;
use domain::ids::ExecId;
use protocol::exec::{Intent, ToolReply, ToolRequest};
use protocol::session::{Authorized, ExecRef, Fact, Recorded};
use temporalio_sdk::workflows::select;
use temporalio_sdk::{ActivityExecutionError, CancellableFuture, WorkflowContext};

use crate::activities::{Control, Tools};
use crate::options;
use crate::session::{SessionWorkflow, record};

/// Since then, settling an exec ends when the control plane has given its executor up.
const LOOKS_AGAIN: &str = "settling-looks-again";

type Ctx = WorkflowContext<SessionWorkflow>;

/// Runs `exec_id` as part of `work`. `turn_since` is the number of interrupts at the start of the
/// turn that it belongs to, if it belongs to one.
pub(crate) async fn run(ctx: &Ctx, work: Work, exec_id: ExecId, turn_since: Option<u64>) {
    loop {
        let nudges = ctx.state(|s| s.nudges);
        let exec = ctx.state(|s| ExecRef {
            tenant_id: s.input.tenant_id,
            session_id: s.input.session_id,
            exec_id,
        });
        let authorized =
            ctx.execute_local_activity(Control::authorize, exec, options::control()).await;
        match authorized {
            Ok(Authorized::Settled) => return finish(ctx, exec_id),
            Ok(Authorized::Wait { approval_id, look_again_in_ms }) => {
                let why = if approval_id.is_some() { "exec.asked" } else { "exec.waiting" };
                note(ctx, why, exec_id);
                if !wait_for_nudge(ctx, work, nudges, look_again_in_ms).await {
                    return;
                }
            }
            Ok(Authorized::Run { request, task_queue, timeout_ms }) => {
                note(ctx, "exec.authorized", exec_id);
                ctx.state_mut(|s| s.task_queue = Some(task_queue.clone()));
                let reply = call(ctx, &request, &task_queue, timeout_ms, turn_since).await;
                let reply = match reply {
                    Ok(reply) => Some(reply),
                    Err(_) => settle(ctx, request, task_queue, timeout_ms).await,
                };
                match record(ctx, to_fact(exec_id, reply)).await {
                    Some(Recorded::Retry { after_ms }) => {
                        if !wait_for_nudge(ctx, work, nudges, after_ms).await {
                            return;
                        }
                    }
                    Some(Recorded::Done) => return finish(ctx, exec_id),
                    None => return,
                }
            }
            // For a whole day the database could not be asked: the exec stays as it is on record.
            Err(_) => return,
        }
    }
}

/// Waits until somebody hints at a change, or it is time to look again. No worker is held.
///
/// Returns false when the workflow itself is cancelled.
async fn wait_for_nudge(ctx: &Ctx, work: Work, seen: u64, look_again_in_ms: u64) -> bool {
    ctx.state_mut(|s| s.agenda.park(work));
    let mut alarm = ctx.timer(Duration::from_millis(look_again_in_ms));
    let goes_on = select! {
        waited = ctx.wait_condition(|s| s.nudges != seen) => {
            // Dropping a timer does not cancel it.
            alarm.cancel();
            waited.is_ok()
        }
        _ = alarm => true,
    };
    ctx.state_mut(|s| s.agenda.unpark(work));
    goes_on
}

/// Has the command run. When it is called off, still waits for what its executor says of it.
async fn call(
    ctx: &Ctx,
    request: &ToolRequest,
    task_queue: &str,
    timeout_ms: u64,
    turn_since: Option<u64>,
) -> Result<ToolReply, ActivityExecutionError> {
    let exec_id = request.exec_id;
    let token = ctx.cancellation_token().child_token();
    let timeout = Duration::from_millis(timeout_ms);
    let options = options::tool_exec(task_queue.to_owned(), timeout, token.clone());
    let mut reply = ctx.execute_activity(Tools::tool_exec, request.clone(), options);
    select! {
        reply = reply => reply,
        _ = ctx.wait_condition(|s| {
            s.agenda.is_cancelled(exec_id)
                || turn_since.is_some_and(|since| s.agenda.interrupts() != since)
        }) => {
            token.cancel_with_reason("called off");
            reply.await
        }
    }
}

/// The request was called off, or given up, without an answer: its executor was away. Asks again
/// for the truth, and that the command be ended or never started. Nobody else knows it; but should
/// the executor be gone for good, the control plane writes that down, and nobody waits any longer.
async fn settle(
    ctx: &Ctx,
    request: ToolRequest,
    task_queue: String,
    timeout_ms: u64,
) -> Option<ToolReply> {
    let request = ToolRequest { intent: Intent::Settle, ..request };
    let token = ctx.cancellation_token().child_token();
    let timeout = Duration::from_millis(timeout_ms);
    let options = options::tool_exec(task_queue, timeout, token.clone());
    let exec_id = request.exec_id;
    let mut reply = ctx.execute_activity(Tools::tool_exec, request, options);
    if !ctx.patched(LOOKS_AGAIN) {
        return reply.await.ok();
    }
    loop {
        let nudges = ctx.state(|s| s.nudges);
        if let Some(Recorded::Done) = record(ctx, Fact::Asked { exec_id }).await {
            token.cancel_with_reason("settled elsewhere");
            return reply.await.ok();
        }
        select! {
            reply = &mut reply => return reply.ok(),
            _ = ctx.wait_condition(|s| s.nudges != nudges) => {}
        }
    }
}

fn to_fact(exec_id: ExecId, reply: Option<ToolReply>) -> Fact {
    match reply {
        Some(reply) => Fact::Replied { exec_id, reply: Box::new(reply) },
        None => Fact::Unanswered { exec_id },
    }
}

fn finish(ctx: &Ctx, exec_id: ExecId) {
    note(ctx, "exec.finished", exec_id);
}

fn note(ctx: &Ctx, kind: &str, exec_id: ExecId) {
    ctx.state_mut(|s| s.events.push(kind, exec_id.to_string()));
}
