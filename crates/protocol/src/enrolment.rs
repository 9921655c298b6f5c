//! What an executor says of itself when it starts, and what it gets for it.

use domain::ids::{ExecutorId, TenantId};
use serde::{Deserialize, Serialize};

use crate::binary::Binary;

/// Body of `POST /v1/executors`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct EnrolRequest {
    /// The executor's own id, kept in its data folder over restarts.
    pub executor_id: ExecutorId,
    /// Version of its program.
    pub version: String,
    /// Name of its host.
    pub host: String,
    /// The default image on that host, by digest.
    pub image_digest: String,
    /// How well it isolates, from 0 to 3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub isolation_tier: Option<u8>,
    /// Processors of its host, for all sandboxes together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity: Option<u32>,
}

/// Answer to [`EnrolRequest`]: everything that an executor needs, for its own tenant only.
#[derive(Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Enrolment {
    /// The tenant that it works for.
    pub tenant_id: TenantId,
    /// The tenant's name, which is part of the queue's.
    pub tenant_name: String,
    /// The uid that the tenant's commands run under.
    pub sandbox_uid: u32,
    /// Where Temporal is.
    pub temporal_address: String,
    /// Temporal's namespace.
    pub temporal_namespace: String,
    /// Grows with every enrolment of this executor. What an earlier epoch says is refused.
    pub epoch: u64,
    /// The queues to poll: the executor's own, and the one that the tenant's executors share.
    pub task_queues: Vec<String>,
    /// Ed25519 public key that grants are checked with, 32 bytes.
    pub grant_key: Binary,
    /// The tenant's payload key, 32 bytes. A secret.
    pub payload_key: Binary,
}

/// The queue that a tenant's executors share.
pub fn tenant_queue(tenant_name: &str) -> String {
    format!("tool-exec/{tenant_name}")
}

/// The queue of one executor, to which its own sandboxes' commands go.
pub fn executor_queue(tenant_name: &str, executor_id: ExecutorId) -> String {
    format!("{}/{executor_id}", tenant_queue(tenant_name))
}

/// Body of `POST /v1/executors/execs/{id}/started`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct StartedReport {
    /// When the process was started, in milliseconds since the epoch.
    pub started_at_ms: u64,
}

/// Body of `POST /v1/executors/execs/{id}/lost`: the rest of a stream will never be brought.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LossReport {
    /// `stdout` or `stderr`.
    pub stream: String,
    /// Why.
    pub reason: LossReason,
}

/// Why the rest of a command's output will never be stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum LossReason {
    /// What the executor had kept of it cannot be read any more.
    Unreadable,
    /// The control plane refused it for longer than the executor keeps it.
    Refused,
    /// The session was moved away from the executor that has it.
    Moved,
}

impl LossReason {
    /// The name used in headers, events and tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unreadable => "unreadable",
            Self::Refused => "refused",
            Self::Moved => "moved",
        }
    }
}

/// What is missing of a stream for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Loss {
    /// Bytes before it, which are stored.
    pub from: u64,
    /// Why.
    pub reason: LossReason,
}
