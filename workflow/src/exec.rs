//! One exec from decision to record. Every step is safe to repeat, because the database decides.

use std::time::Duration;

use domain::agenda::Work;
use domain::ids::ExecId;
use protocol::exec::{ToolReply, ToolRequest};
use protocol::session::{Authorized, ExecRef, Fact, Recorded};
use temporalio_sdk::workflows::select;
use temporalio_sdk::{ActivityExecutionError, CancellableFuture, WorkflowContext};

use crate::activities::{Control, Tools};
use crate::jobs::JobEnd;
use crate::options;
use crate::session::{SessionWorkflow, record};

type Ctx = WorkflowContext<SessionWorkflow>;

/// Runs `exec_id` as part of `work`. `turn_since` is the number of interrupts at the start of the
/// turn that it belongs to, if it belongs to one.
pub(crate) async fn run(ctx: &Ctx, work: Work, exec_id: ExecId, turn_since: Option<u64>) -> JobEnd {
    loop {
        let nudges = ctx.state(|s| s.nudges);
        let exec = ExecRef { tenant_id: ctx.state(|s| s.input.tenant_id), exec_id };
        let authorized =
            ctx.execute_local_activity(Control::authorize, exec, options::control()).await;
        match authorized {
            Ok(Authorized::Settled) => return finish(ctx, exec_id),
            Ok(Authorized::Wait { approval_id, look_again_in_ms }) => {
                let why = if approval_id.is_some() { "exec.asked" } else { "exec.waiting" };
                note(ctx, why, exec_id);
                if !wait_for_nudge(ctx, work, nudges, look_again_in_ms).await {
                    return JobEnd::Aborted;
                }
            }
            Ok(Authorized::Run { request, task_queue, timeout_ms }) => {
                note(ctx, "exec.authorized", exec_id);
                ctx.state_mut(|s| s.task_queue = Some(task_queue.clone()));
                let reply = call(ctx, request, task_queue, timeout_ms, turn_since).await;
                let fact = to_fact(exec_id, reply);
                match record(ctx, fact).await {
                    Some(Recorded::Retry { after_ms }) => {
                        if !wait_for_nudge(ctx, work, nudges, after_ms).await {
                            return JobEnd::Aborted;
                        }
                    }
                    Some(Recorded::Done) => return finish(ctx, exec_id),
                    None => return JobEnd::Aborted,
                }
            }
            Err(_) => return JobEnd::Aborted,
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

async fn call(
    ctx: &Ctx,
    request: ToolRequest,
    task_queue: String,
    timeout_ms: u64,
    turn_since: Option<u64>,
) -> Result<ToolReply, ActivityExecutionError> {
    let exec_id = request.exec_id;
    let token = ctx.cancellation_token().child_token();
    let options = options::tool_exec(task_queue, Duration::from_millis(timeout_ms), token.clone());
    let mut reply = ctx.execute_activity(Tools::tool_exec, request, options);
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

fn to_fact(exec_id: ExecId, reply: Result<ToolReply, ActivityExecutionError>) -> Fact {
    match reply {
        Ok(reply) => Fact::Replied { exec_id, reply: Box::new(reply) },
        Err(error) => Fact::Unanswered {
            exec_id,
            cancelled: matches!(error, ActivityExecutionError::Cancelled(_)),
        },
    }
}

fn finish(ctx: &Ctx, exec_id: ExecId) -> JobEnd {
    note(ctx, "exec.finished", exec_id);
    JobEnd::Finished
}

fn note(ctx: &Ctx, kind: &str, exec_id: ExecId) {
    ctx.state_mut(|s| s.events.push(kind, exec_id.to_string()));
}
