//! One turn: model call, commands, model call, until the model is content or somebody stops it.

use domain::agenda::Work;
use domain::ids::TurnId;
use domain::limits::MAX_TURN_STEPS;
use protocol::session::{Fact, ModelRequest, ModelStep, TurnEnd};
use temporalio_sdk::workflows::{join_all, select};
use temporalio_sdk::{ActivityExecutionError, WorkflowContext};

use crate::activities::Control;
use crate::session::{SessionWorkflow, record};
use crate::{exec, options};

type Ctx = WorkflowContext<SessionWorkflow>;

/// Runs one turn to its end. A turn that was carried over starts with its newest step again, which
/// the control plane answers from its database.
pub(crate) async fn run(ctx: &Ctx, work: Work, turn_id: TurnId) {
    ctx.state_mut(|s| s.events.push("turn.started", turn_id.to_string()));
    let since = ctx.state(|s| s.agenda.interrupts());
    let mut step = 0;
    let end = loop {
        if step >= MAX_TURN_STEPS {
            break Some(TurnEnd::TooManySteps);
        }
        let called_off =
            || ctx.state(|s| s.agenda.interrupts() != since || s.agenda.is_shutting_down());
        if called_off() {
            break Some(TurnEnd::Interrupted);
        }
        let answer = match call_model(ctx, turn_id, step, since).await {
            Ok(answer) => answer,
            Err(_) if called_off() => break Some(TurnEnd::Interrupted),
            Err(_) => break Some(TurnEnd::ModelUnavailable),
        };
        if answer.done {
            break None;
        }
        // The answer may have come while the interrupt was on its way: its commands never run.
        if called_off() {
            break Some(TurnEnd::Interrupted);
        }
        ctx.state_mut(|s| s.agenda.branch(work, answer.execs.len()));
        let execs = answer.execs.iter().map(|exec_id| async {
            exec::run(ctx, work, *exec_id, Some(since)).await;
            ctx.state_mut(|s| s.agenda.end_branch(work));
        });
        join_all(execs).await;
        ctx.state_mut(|s| s.agenda.branch(work, 1));
        step = answer.step + 1;
    };
    if let Some(end) = end {
        record(ctx, Fact::TurnEnded { turn_id, end }).await;
    }
    ctx.state_mut(|s| s.events.push("turn.finished", turn_id.to_string()));
}

async fn call_model(
    ctx: &Ctx,
    turn_id: TurnId,
    step: u32,
    since: u64,
) -> Result<ModelStep, ActivityExecutionError> {
    let request = ctx.state(|s| ModelRequest {
        tenant_id: s.input.tenant_id,
        session_id: s.input.session_id,
        turn_id,
        step,
    });
    let token = ctx.cancellation_token().child_token();
    let mut answer =
        ctx.execute_activity(Control::model_call, request, options::model(token.clone()));
    select! {
        answer = answer => answer,
        _ = ctx.wait_condition(|s| s.agenda.interrupts() != since || s.agenda.is_shutting_down()) => {
            token.cancel_with_reason("called off");
            answer.await
        }
    }
}
