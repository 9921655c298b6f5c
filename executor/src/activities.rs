//! The activities `tool_exec` and `close_sandbox`: heartbeats, and what cancellation means. What
//! an exec is, the executor knows.

#![allow(missing_docs)] // the macro makes constants without any

use std::sync::Arc;
use std::time::Duration;

use protocol::exec::{ToolReply, ToolRequest};
use protocol::session::CloseSandbox;
use temporalio_client::tonic;
use temporalio_common::error::ApplicationFailure;
use temporalio_common::protos::temporal::api::workflowservice::v1::RecordActivityTaskHeartbeatRequest;
use temporalio_macros::activities;
use temporalio_sdk::activities::{ActivityContext, ActivityError};
use tokio::time::{Instant, interval_at};
use tokio_util::sync::CancellationToken;
use traces::{Attribute, Kind, Span};

use crate::executor::Executor;

/// A client's wish to cancel comes back with a heartbeat, so this bounds how late it is heard.
const HEARTBEAT: Duration = Duration::from_millis(300);
const ASK_TIMEOUT: Duration = Duration::from_secs(5);

/// An attempt ends without an answer. Temporal hands the exec out again.
#[derive(Debug, thiserror::Error)]
enum AttemptError {
    #[error("the executor stops; the command runs on and the next attempt joins it")]
    Stopping,
    #[error("this attempt is over; the command runs on and the next attempt joins it")]
    Stale,
    #[error("the request is for another tenant")]
    OtherTenant,
    #[error("another start of this executor has taken over")]
    Fenced,
}

/// Implements `workflow::activities::Tools`.
pub struct Tools {
    executor: Arc<Executor>,
    /// Set before the worker shuts down, which cancels activities too.
    stopping: CancellationToken,
}

impl Tools {
    /// Activities on top of an executor.
    pub fn new(executor: Arc<Executor>, stopping: CancellationToken) -> Self {
        Self { executor, stopping }
    }
}

#[activities]
impl Tools {
    /// Runs one granted command and gives its one true result.
    #[activity(name = "tool_exec")]
    pub async fn tool_exec(
        self: Arc<Self>,
        ctx: ActivityContext,
        request: ToolRequest,
    ) -> Result<ToolReply, ActivityError> {
        let mut span = Span::below(request.traceparent.as_deref(), "tool_exec", Kind::Consumer);
        span.set(Attribute::exec(request.exec_id));
        let cancel = CancellationToken::new();
        let exec = self.executor.exec(&request, &cancel);
        tokio::pin!(exec);
        let mut heartbeat = interval_at(Instant::now() + HEARTBEAT, HEARTBEAT);
        loop {
            tokio::select! {
                biased;
                reply = &mut exec => return reply.map_err(retry),
                () = self.stopping.cancelled() => return Err(retry(AttemptError::Stopping)),
                () = ctx.cancelled(), if !cancel.is_cancelled() => {
                    if !is_called_off(&ctx).await {
                        return Err(retry(AttemptError::Stale));
                    }
                    cancel.cancel();
                }
                _ = heartbeat.tick() => ctx.record_heartbeat(()).await?,
            }
        }
    }

    /// Removes a session's sandbox.
    #[activity(name = "close_sandbox")]
    pub async fn close_sandbox(
        self: Arc<Self>,
        _ctx: ActivityContext,
        close: CloseSandbox,
    ) -> Result<(), ActivityError> {
        if close.tenant_id != self.executor.tenant_id() {
            let error = ApplicationFailure::non_retryable(AttemptError::OtherTenant);
            return Err(ActivityError::application(error));
        }
        if self.executor.is_fenced() {
            return Err(retry(AttemptError::Fenced));
        }
        self.executor.close(close.session_id).await.map_err(retry)
    }
}

/// The SDK reports a lost heartbeat, an attempt that timed out and a client's wish by the same
/// token. Only the server can tell them apart, and a hiccup must not end anybody's command.
async fn is_called_off(ctx: &ActivityContext) -> bool {
    let request = RecordActivityTaskHeartbeatRequest {
        task_token: ctx.info().task_token.clone(),
        namespace: ctx.info().namespace.clone(),
        ..RecordActivityTaskHeartbeatRequest::default()
    };
    let mut service = ctx.client().connection().workflow_service();
    let call = service.record_activity_task_heartbeat(tonic::Request::new(request));
    match tokio::time::timeout(ASK_TIMEOUT, call).await {
        Ok(Ok(answer)) => answer.into_inner().cancel_requested,
        Ok(Err(_)) | Err(_) => false,
    }
}

fn retry(error: impl std::error::Error + Send + Sync + 'static) -> ActivityError {
    ActivityError::application(ApplicationFailure::new(error))
}
