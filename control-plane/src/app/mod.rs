//! Use cases: authorise, change, tell the workflow. No HTTP types, no SQL.

mod approvals;
mod audit;
mod audit_settings;
mod caller;
mod calls;
mod cast;
mod check_policy;
pub mod checks;
pub(crate) mod erase_audit;
mod error;
mod executors;
mod files;
mod hand_over;
mod idempotency;
mod live;
mod propose_rule;
mod put_policy;
mod recall;
mod review_audit;
mod sessions;
mod simulate_policy;
mod submit_exec;
mod submit_turn;
mod tenants;
mod tokens;
mod usage;
mod webhooks;

pub use approvals::{DecideApproval, Verdict};
pub use audit::{Batch, Export};
pub use audit_settings::{Active, Retention};
pub use caller::Caller;
pub use cast::Cast;
pub use check_policy::{CheckCommand, Checked, Explained};
pub use error::AppError;
pub use executors::Reporter;
pub use hand_over::MAX_AHEAD;
pub use live::{InputTaken, SendInput};
pub use propose_rule::Proposed;
pub use put_policy::PutPolicy;
pub use review_audit::{CreateReview, Figures};
pub use sessions::CreateSession;
pub use simulate_policy::{Example, Flip, SimulatePolicy, Simulation};
pub(crate) use submit_exec::explain_waiting;
pub use submit_exec::{SubmitExec, SubmittedExec};
pub use tenants::CreatedTenant;
pub use tokens::{CreateToken, CreatedToken};
pub use webhooks::CreatedWebhook;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Mutex, Semaphore};

use crate::calls::Switchboard;
use crate::checkpoints::Checkpointer;
use crate::dispatch::Dispatcher;
use crate::hub::Hub;
use crate::judging::Engines;
use crate::keys::Keys;
use crate::metrics::Metrics;
use crate::rates::Rates;
use crate::store::Store;
use crate::strangers::Strangers;
use crate::streams::Streams;
use crate::tenant_keys::TenantKeys;
use crate::tokens::Verifier;
use crate::webhooks::Webhooks;
use crate::worker::Authorizer;

/// What was missing at some moment.
pub struct Readiness {
    /// When.
    pub at: Instant,
    /// One sentence each.
    pub missing: Vec<String>,
}

/// Everything that a request needs.
#[derive(Clone)]
pub struct App {
    /// The database.
    pub store: Store,
    /// The way to workflows.
    pub dispatcher: Arc<Dispatcher>,
    /// Wakes waiters.
    pub hub: Arc<Hub>,
    /// Secrets.
    pub keys: Arc<Keys>,
    /// Tenants' payload keys.
    pub tenant_keys: Arc<TenantKeys>,
    /// Policies ready to decide.
    pub engines: Arc<Engines>,
    /// Decides about execs ahead of their workflow.
    pub authorizer: Arc<Authorizer>,
    /// One permit for each decision of that kind under way.
    pub ahead: Arc<Semaphore>,
    /// The way to executors.
    pub calls: Arc<Switchboard>,
    /// Seconds without a word after which an executor is given up.
    pub gone_after_s: f64,
    /// Signs the audit log.
    pub checkpointer: Arc<Checkpointer>,
    /// Checks tokens.
    pub verifier: Arc<Verifier>,
    /// Calls tenants' servers.
    pub webhooks: Arc<Webhooks>,
    /// Counts answers.
    pub metrics: Arc<Metrics>,
    /// Counts requests.
    pub rates: Arc<Rates>,
    /// Counts requests without a good token.
    pub strangers: Arc<Strangers>,
    /// What was missing when somebody last asked.
    pub readiness: Arc<Mutex<Option<Readiness>>>,
    /// Counts event streams, and ends them.
    pub streams: Arc<Streams>,
    /// How long a reader of a stream may take for one event.
    pub stall: Duration,
    /// What executors are told of Temporal.
    pub temporal: crate::config::TemporalConfig,
}
