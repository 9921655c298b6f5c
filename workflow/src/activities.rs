//! The activities that the workflow calls, as declarations. The control plane implements
//! [`Control`], executors implement [`Tools`].
#![allow(clippy::unimplemented, missing_docs)] // declarations have no bodies; the macro drops them

use protocol::exec::{ToolReply, ToolRequest};
use protocol::session::{
    Authorized, CloseSandbox, ExecRef, ModelRequest, ModelStep, RecordRequest, Recorded, SessionRef,
};
use temporalio_macros::activity_definitions;
use temporalio_sdk::activities::ActivityError;

/// Activities of the control plane's worker, on the shared queue.
pub struct Control;

#[activity_definitions]
impl Control {
    #[activity(name = "authorize")]
    pub fn authorize(_: ExecRef) -> Result<Authorized, ActivityError> {
        unimplemented!()
    }

    #[activity(name = "record")]
    pub fn record(_: RecordRequest) -> Result<Recorded, ActivityError> {
        unimplemented!()
    }

    /// The queue of the executor that holds the session's sandbox, if one does.
    #[activity(name = "find_sandbox")]
    pub fn find_sandbox(_: SessionRef) -> Result<Option<String>, ActivityError> {
        unimplemented!()
    }

    #[activity(name = "model_call")]
    pub fn model_call(_: ModelRequest) -> Result<ModelStep, ActivityError> {
        unimplemented!()
    }
}

/// Activities of a tenant's executors, on the tenant's queue.
pub struct Tools;

#[activity_definitions]
impl Tools {
    #[activity(name = "tool_exec")]
    pub fn tool_exec(_: ToolRequest) -> Result<ToolReply, ActivityError> {
        unimplemented!()
    }

    #[activity(name = "close_sandbox")]
    pub fn close_sandbox(_: CloseSandbox) -> Result<(), ActivityError> {
        unimplemented!()
    }
}
