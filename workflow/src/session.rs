//! `SessionWorkflow`: its state, its signals and query, and the loop that starts work.

#![allow(missing_docs)] // constants made by the workflow macro carry no docs
use domain::agenda::{Agenda, Work};
use domain::ids::{ApprovalId, ExecId, TurnId};
use protocol::session::{
    CloseSandbox, EventLog, EventPage, Fact, RecordRequest, Recorded, SessionInput, SessionRef,
};
use temporalio_macros::{workflow, workflow_methods};
use temporalio_sdk::workflows::select;
use temporalio_sdk::{
    ActivityOptions, ContinueAsNewOptions, SyncWorkflowContext, WorkflowContext,
    WorkflowContextView, WorkflowResult,
};

use crate::activities::{Control, Tools};
use crate::jobs::Jobs;
use crate::{exec, options, turn};

/// Since then, closing asks the control plane where the sandbox is.
const ASKS_WHERE: &str = "closing-asks-where";

/// A durable conversation: one workflow for as long as the session lives.
#[workflow]
#[derive(Clone)]
pub struct SessionWorkflow {
    pub(crate) input: SessionInput,
    pub(crate) agenda: Agenda,
    /// Counts every hint that an approval may have been decided.
    pub(crate) nudges: u64,
    pub(crate) task_queue: Option<String>,
    pub(crate) events: EventLog,
}

#[workflow_methods]
impl SessionWorkflow {
    /// State of a new run, before any signal is seen.
    #[init]
    pub fn new(_: &WorkflowContextView, mut input: SessionInput) -> Self {
        let agenda = Agenda::resume(std::mem::take(&mut input.carried));
        let events = std::mem::take(&mut input.events);
        let task_queue = input.task_queue.take();
        Self { input, agenda, nudges: 0, task_queue, events }
    }

    /// Starts work as it comes and ends when the session does.
    #[run(name = "SessionWorkflow")]
    pub async fn run(ctx: &mut WorkflowContext<Self>) -> WorkflowResult<()> {
        let mut jobs = Jobs::default();
        loop {
            while let Some(work) = ctx.state_mut(|s| s.agenda.start_next()) {
                jobs.start(work, perform(ctx.clone(), work));
            }
            if ctx.state(|s| s.agenda.is_over()) {
                return close(ctx).await;
            }
            if ctx.continue_as_new_suggested() && ctx.state(|s| s.agenda.can_carry_over()) {
                let next = ctx.state(Self::carry_over);
                ctx.continue_as_new(next, ContinueAsNewOptions::default())?;
            }
            select! {
                work = jobs.next_done() => ctx.state_mut(|s| s.agenda.finish(work)),
                stop = ctx.wait_condition(|s| {
                    s.agenda.can_start()
                        || s.agenda.is_over()
                        || (ctx.continue_as_new_suggested() && s.agenda.can_carry_over())
                }) => stop?,
            }
        }
    }

    /// A client posted a turn; what it says stands in the control plane's database.
    #[signal(name = "receive_user_turn")]
    pub fn receive_user_turn(&mut self, _: &mut SyncWorkflowContext<Self>, turn_id: TurnId) {
        self.agenda.offer(Work::Turn(turn_id));
    }

    /// A client posted an exec.
    #[signal(name = "receive_exec")]
    pub fn receive_exec(&mut self, _: &mut SyncWorkflowContext<Self>, exec_id: ExecId) {
        self.agenda.offer(Work::Exec(exec_id));
    }

    /// An approval may have been decided: look again. Carries no decision.
    #[signal(name = "receive_approval")]
    pub fn receive_approval(&mut self, _: &mut SyncWorkflowContext<Self>, approval: ApprovalId) {
        self.events.push("approval.hint", approval.to_string());
        self.nudges += 1;
    }

    /// A client called off one exec.
    #[signal(name = "cancel_exec")]
    pub fn cancel_exec(&mut self, _: &mut SyncWorkflowContext<Self>, exec_id: ExecId) {
        self.agenda.cancel(exec_id);
        self.nudges += 1;
    }

    /// A client interrupted the turn that runs.
    #[signal(name = "interrupt")]
    pub fn interrupt(&mut self, _: &mut SyncWorkflowContext<Self>) {
        self.agenda.interrupt();
        self.nudges += 1;
    }

    /// A client ended the session.
    #[signal(name = "request_shutdown")]
    pub fn request_shutdown(&mut self, _: &mut SyncWorkflowContext<Self>) {
        self.agenda.request_shutdown();
        self.nudges += 1;
    }

    /// Events from `index` on, by ids only, as far as they are kept.
    #[query(name = "get_events_since")]
    pub fn get_events_since(&self, _: &WorkflowContextView, index: u64) -> EventPage {
        self.events.since(index)
    }
}

impl SessionWorkflow {
    fn carry_over(&self) -> SessionInput {
        SessionInput {
            carried: self.agenda.carry_over(),
            task_queue: self.task_queue.clone(),
            events: self.events.clone(),
            ..self.input.clone()
        }
    }
}

async fn perform(ctx: WorkflowContext<SessionWorkflow>, work: Work) {
    match work {
        Work::Exec(exec_id) => exec::run(&ctx, work, exec_id, None).await,
        Work::Turn(turn_id) => turn::run(&ctx, work, turn_id).await,
    }
}

async fn close(ctx: &WorkflowContext<SessionWorkflow>) -> WorkflowResult<()> {
    let (input, mut task_queue) = ctx.state(|s| (s.input.clone(), s.task_queue.clone()));
    if ctx.patched(ASKS_WHERE) {
        // Commands that went ahead and files never told this workflow where they went.
        let session = SessionRef { tenant_id: input.tenant_id, session_id: input.session_id };
        let found = ctx.execute_local_activity(Control::find_sandbox, session, options::control());
        task_queue = found.await.ok().flatten().or(task_queue);
    }
    let what = CloseSandbox { tenant_id: input.tenant_id, session_id: input.session_id };
    let closed = match &task_queue {
        Some(queue) => close_sandbox(ctx, what, options::close_sandbox_soon(queue.clone())).await,
        None => true,
    };
    record(ctx, Fact::SessionClosed).await;
    // The session is over for its clients; the executor may still be away.
    if let Some(queue) = task_queue.filter(|_| !closed) {
        close_sandbox(ctx, what, options::close_sandbox_late(queue)).await;
    }
    Ok(())
}

async fn close_sandbox(
    ctx: &WorkflowContext<SessionWorkflow>,
    what: CloseSandbox,
    options: ActivityOptions,
) -> bool {
    ctx.execute_activity(Tools::close_sandbox, what, options).await.is_ok()
}

/// Writes a fact down; `None` when the control plane could not be reached for a whole day.
pub(crate) async fn record(ctx: &WorkflowContext<SessionWorkflow>, fact: Fact) -> Option<Recorded> {
    let (tenant_id, session_id) = ctx.state(|s| (s.input.tenant_id, s.input.session_id));
    let request = RecordRequest { tenant_id, session_id, fact };
    ctx.execute_local_activity(Control::record, request, options::control()).await.ok()
}
