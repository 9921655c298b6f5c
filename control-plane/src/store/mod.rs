//! The only place with SQL. Nothing is read or written without a scope: a tenant's, or the
//! platform's. Each file owns one family of tables and adds its calls to [`Scope`].

mod approvals;
mod audit_checkpoints;
mod audit_entry;
mod audit_erasure;
mod audit_index;
mod audit_log;
mod audit_reviews;
mod audit_row;
mod audit_rows;
mod audit_samples;
mod audit_search;
mod audit_settings;
mod audit_terms;
mod conversation;
mod error;
mod events;
mod exec_changes;
mod execs;
mod executors;
mod file_calls;
pub mod idempotency;
mod literal;
mod open_execs;
mod outbox;
mod output;
mod policies;
mod quotas;
mod rates;
mod recorded;
mod rings;
mod schema;
mod scope;
mod sessions;
mod tenants;
mod terminals;
mod text;
mod tokens;
mod turns;
mod turnstile;
mod unclosed;
mod votes;
mod webhooks;

pub use approvals::{Approval, NewApproval};
pub use audit_checkpoints::{ChainHead, StoredCheckpoint, StoredProof};
pub use audit_entry::{AuditEntry, Evidence};
pub use audit_erasure::{Erased, ErasureScope};
pub use audit_index::FullBlock;
pub use audit_reviews::{NewReview, Review};
pub use audit_row::AuditRecord;
pub use audit_rows::AuditFilter;
pub use audit_samples::{ReviewFigures, Sample, SampleOrder};
pub use audit_settings::{AuditSetting, AuditSettingKind, NewAuditSetting};
pub use error::StoreError;
pub use events::{EventKind, SessionEvent};
pub use execs::{BY_POLICY, Exec, ExecError, ExecFilter, NewExec, RecordedDecision, StoredStream};
pub use executors::{Executor, Life, Sighting};
pub use file_calls::OpenFileCall;
pub use outbox::{Message, Outgoing};
pub use output::OutputSlice;
pub use policies::{NewPolicy, Policy, PolicyVersion, Scene};
pub use rates::RateCount;
pub use recorded::{RecordedCommand, RecordedPage};
pub use schema::SchemaFault;
pub use scope::{Scope, Who};
pub use sessions::{Moved, NewSession, Session};
pub use tenants::Tenant;
pub use terminals::{Arrival, Resized};
pub use tokens::{NewToken, Token};
pub use turns::{StoredStep, Turn};
pub use unclosed::EndedPage;
pub use votes::{NewVote, SessionApproval, Vote};
pub use webhooks::{DueCall, Webhook};

use std::time::Duration;

use domain::ids::TenantId;
use sqlx::PgPool;
use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};
use turnstile::Turnstile;

/// Channel on which every commit that adds session events is announced, by session id.
pub const EVENTS_CHANNEL: &str = "bulkhead_events";
/// How long a request waits for a connection before the database counts as gone.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(8);

static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("../migrations");

/// The control plane's database.
#[derive(Clone)]
pub struct Store {
    pool: PgPool,
    turnstile: Turnstile,
}

impl Store {
    /// A store that connects when it is first used, so that a process starts without its database.
    ///
    /// # Errors
    /// When `url` is not a Postgres URL.
    pub fn connect_lazily(url: &str, max_connections: u32) -> Result<Self, StoreError> {
        // No wait without an end: a lock, a statement, a transaction that its owner forgot.
        let options: PgConnectOptions = url.parse()?;
        let options = options.options([
            ("lock_timeout", "5s"),
            ("statement_timeout", "15s"),
            ("idle_in_transaction_session_timeout", "20s"),
            // What `literal` relies on, whatever the server's own settings are.
            ("standard_conforming_strings", "on"),
        ]);
        let pool = PgPoolOptions::new()
            .max_connections(max_connections)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            // A dead connection shows at its first use; asking each time costs a round trip.
            .test_before_acquire(false)
            .connect_lazy_with(options);
        Ok(Self { pool, turnstile: Turnstile::default() })
    }

    /// Brings the schema of the database at `url` up to date, however long it takes. Needs the
    /// owner role.
    ///
    /// # Errors
    /// When the database cannot be reached or a migration fails.
    pub async fn migrate(url: &str) -> Result<(), StoreError> {
        let pool = PgPoolOptions::new().max_connections(1).connect(url).await?;
        MIGRATIONS.run(&pool).await.map_err(StoreError::Migrate)
    }

    /// Opens a transaction that sees this tenant and nothing else.
    ///
    /// # Errors
    /// When the database cannot be reached.
    pub async fn tenant(&self, tenant_id: TenantId) -> Result<Scope, StoreError> {
        Scope::open(self, Who::Tenant(tenant_id)).await
    }

    /// Opens a transaction that sees the list of tenants and the platform's own rows.
    ///
    /// # Errors
    /// When the database cannot be reached.
    pub async fn platform(&self) -> Result<Scope, StoreError> {
        Scope::open(self, Who::Platform).await
    }

    /// Opens a transaction on behalf of either.
    ///
    /// # Errors
    /// When the database cannot be reached.
    pub async fn open(&self, who: Who) -> Result<Scope, StoreError> {
        Scope::open(self, who).await
    }

    /// A connection of its own that hears announcements on [`EVENTS_CHANNEL`].
    ///
    /// # Errors
    /// When the database cannot be reached.
    pub async fn listen(&self) -> Result<PgListener, StoreError> {
        let mut listener = PgListener::connect_with(&self.pool).await?;
        listener.listen(EVENTS_CHANNEL).await?;
        Ok(listener)
    }

    /// Connections that are open, and how many of them rest.
    pub fn connections(&self) -> (u32, usize) {
        (self.pool.size(), self.pool.num_idle())
    }

    /// Names what the role that we are connected as may do beyond its duty; empty is right.
    ///
    /// # Errors
    /// When the database cannot be reached.
    pub async fn excess_rights(&self) -> Result<Vec<String>, StoreError> {
        let (superuser, bypass, owner): (bool, bool, bool) = sqlx::query_as(
            "SELECT rolsuper, rolbypassrls,
                    EXISTS (SELECT FROM pg_class
                            WHERE relname = 'tenants' AND pg_has_role(relowner, 'MEMBER'))
             FROM pg_roles WHERE rolname = current_user",
        )
        .fetch_one(&self.pool)
        .await?;
        let rights = [(superuser, "superuser"), (bypass, "BYPASSRLS"), (owner, "table owner")];
        Ok(rights.into_iter().filter(|(has, _)| *has).map(|(_, name)| name.into()).collect())
    }
}
