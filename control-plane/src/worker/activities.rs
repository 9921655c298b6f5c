//! The activities under the names that the workflow calls them by.
#![allow(missing_docs)] // constants made by the macro carry no docs

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use protocol::session::{
    Authorized, ExecRef, ModelRequest, ModelStep, RecordRequest, Recorded, SessionRef,
};
use temporalio_macros::activities;
use temporalio_sdk::activities::{ActivityContext, ActivityError};

use super::{Activities, retry};

#[activities]
impl Activities {
    #[activity(name = "authorize")]
    pub async fn authorize_activity(
        self: Arc<Self>,
        _: ActivityContext,
        exec: ExecRef,
    ) -> Result<Authorized, ActivityError> {
        self.authorize(exec).await.map_err(retry)
    }

    #[activity(name = "record")]
    pub async fn record_activity(
        self: Arc<Self>,
        _: ActivityContext,
        request: RecordRequest,
    ) -> Result<Recorded, ActivityError> {
        self.record(request).await.map_err(retry)
    }

    #[activity(name = "find_sandbox")]
    pub async fn find_sandbox_activity(
        self: Arc<Self>,
        _: ActivityContext,
        session: SessionRef,
    ) -> Result<Option<String>, ActivityError> {
        self.find_sandbox(session).await.map_err(retry)
    }

    #[activity(name = "model_call")]
    pub async fn model_call_activity(
        self: Arc<Self>,
        context: ActivityContext,
        request: ModelRequest,
    ) -> Result<ModelStep, ActivityError> {
        let step = tokio::select! {
            step = self.model_call(request, context.cancelled()) => step.map_err(retry)?,
            never = beat(&context) => match never {},
        };
        step.ok_or_else(ActivityError::cancelled)
    }
}

/// Tells Temporal once a second that the attempt is alive.
async fn beat(context: &ActivityContext) -> Infallible {
    loop {
        if let Err(error) = context.record_heartbeat(()).await {
            tracing::warn!(%error, "heartbeat failed");
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}
