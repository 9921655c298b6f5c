//! Granted commands that are brought by a call, ahead of their workflow: each is begun, and answered
//! at once. Its result goes the short way; the workflow asks for the same exec and joins it, or
//! hears what the journal says.

use std::sync::Arc;

use protocol::calls::CallReply;
use protocol::exec::{Intent, ToolRequest};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use traces::{Attribute, Kind, Span};

use crate::requests::Requests;

/// Commands of calls that run at once. More wait for their workflow, which asks by itself.
const MAX_ORDERS: usize = 256;

/// See the module.
pub(crate) struct Orders {
    places: Arc<Semaphore>,
}

impl Default for Orders {
    fn default() -> Self {
        Self { places: Arc::new(Semaphore::new(MAX_ORDERS)) }
    }
}

impl Orders {
    /// Begins a command. Whether it may run is for the gate to say, as for any request.
    pub(super) fn begin(&self, requests: &Arc<Requests>, request: &ToolRequest) -> CallReply {
        if request.intent != Intent::Run {
            return CallReply::NotRunning;
        }
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            return CallReply::Unavailable("the executor is busy: the workflow will ask".into());
        };
        let (requests, request) = (Arc::clone(requests), request.clone());
        tokio::spawn(async move {
            let _place = place;
            let parent = request.traceparent.as_deref();
            let mut span = Span::below(parent, "run_ahead", Kind::Consumer);
            span.set(Attribute::exec(request.exec_id));
            let never = CancellationToken::new();
            // What the reply says is reported on the way; a refusal is the workflow's to hear.
            if let Err(error) = requests.exec(&request, &never).await {
                tracing::debug!(exec = %request.exec_id, %error, "left to the workflow");
            }
        });
        CallReply::Done
    }
}
