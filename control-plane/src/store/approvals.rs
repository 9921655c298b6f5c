//! Approvals: open questions to humans. Votes on them are in `votes`.

use domain::approval::{ApprovalScope, ApprovalState};
use domain::ids::{ApprovalId, ExecId, SessionId, TokenId};
use sqlx::types::Json;
use sqlx::{FromRow, QueryBuilder};
use time::OffsetDateTime;

use super::error::parsed;
use super::{RecordedDecision, Scope, StoreError, Vote};

/// What every query of approvals begins with.
const SELECT: &str = "
    SELECT a.id, a.exec_id, a.session_id, a.state, a.order_sha256, a.reasons, a.requested_by,
           a.scope, a.session_key IS NOT NULL AS may_hold_for_session,
           e.kind = 'shell' AS is_shell, e.command, e.cwd,
           ARRAY(SELECT jsonb_object_keys(e.env)) AS env_names, e.stdin, e.stdin_open,
           e.terminal IS NOT NULL AS has_terminal, e.timeout_ms, e.decision, s.image_digest,
           a.created_at, a.expires_at, a.decided_by, a.reason,
           (SELECT coalesce(jsonb_agg(jsonb_build_object(
                       'actor', v.actor, 'role', v.role, 'scope', v.scope,
                       'created_at', v.created_at) ORDER BY v.created_at, v.token_id), '[]')
            FROM approval_votes v
            WHERE v.tenant_id = a.tenant_id AND v.approval_id = a.id) AS votes
    FROM approvals a
    JOIN execs e ON e.tenant_id = a.tenant_id AND e.id = a.exec_id
    JOIN sessions s ON s.tenant_id = a.tenant_id AND s.id = a.session_id";

/// An approval, with what would run.
#[derive(Debug, Clone)]
pub struct Approval {
    /// Its id.
    pub id: ApprovalId,
    /// The exec in question.
    pub exec_id: ExecId,
    /// The exec's session.
    pub session_id: SessionId,
    /// Where it stands.
    pub state: ApprovalState,
    /// Digest of the order that is approved, and of no other.
    pub order_sha256: String,
    /// Why a human is asked.
    pub reasons: Vec<String>,
    /// The token on whose behalf the exec would run.
    pub requested_by: TokenId,
    /// Whether it is a script; a tool's call otherwise.
    pub is_shell: bool,
    /// The command, byte for byte.
    pub command: String,
    /// Where it would run.
    pub cwd: String,
    /// Names of the variables it would get.
    pub env_names: Vec<String>,
    /// What it would read.
    pub stdin: Option<Vec<u8>>,
    /// Whether it would take input while it runs.
    pub stdin_open: bool,
    /// Whether it would get a terminal.
    pub has_terminal: bool,
    /// Milliseconds it might run.
    pub timeout_ms: i64,
    /// The image that its sandbox is made of.
    pub image_digest: Option<String>,
    /// What was decided about the exec: rules, facts, who has to approve.
    pub decision: Option<RecordedDecision>,
    /// Who said yes so far.
    pub votes: Vec<Vote>,
    /// Whether an answer may hold for the rest of the session.
    pub may_hold_for_session: bool,
    /// How far the answer reaches.
    pub scope: ApprovalScope,
    /// When it was asked.
    pub created_at: OffsetDateTime,
    /// When nobody may answer any more.
    pub expires_at: OffsetDateTime,
    /// Who decided.
    pub decided_by: Option<String>,
    /// What they said.
    pub reason: Option<String>,
}

/// An approval to be stored.
pub struct NewApproval<'a> {
    /// Its id.
    pub id: ApprovalId,
    /// The exec in question.
    pub exec_id: ExecId,
    /// The exec's session.
    pub session_id: SessionId,
    /// Digest of the order.
    pub order_sha256: &'a str,
    /// Why a human is asked.
    pub reasons: &'a [String],
    /// The token on whose behalf the exec would run.
    pub requested_by: &'a str,
    /// Seconds until nobody may answer any more.
    pub ttl_s: f64,
    /// What an answer for the rest of the session is found by, if there may be one.
    pub session_key: Option<&'a [u8]>,
}

#[derive(FromRow)]
struct Row {
    id: String,
    exec_id: String,
    session_id: String,
    state: String,
    order_sha256: String,
    reasons: Json<Vec<String>>,
    requested_by: String,
    scope: String,
    may_hold_for_session: bool,
    is_shell: bool,
    command: String,
    cwd: String,
    env_names: Vec<String>,
    stdin: Option<Vec<u8>>,
    stdin_open: bool,
    has_terminal: bool,
    timeout_ms: i64,
    decision: Option<Json<RecordedDecision>>,
    image_digest: Option<String>,
    votes: Json<Vec<Vote>>,
    created_at: OffsetDateTime,
    expires_at: OffsetDateTime,
    decided_by: Option<String>,
    reason: Option<String>,
}

impl TryFrom<Row> for Approval {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        Ok(Self {
            id: parsed(row.id.parse().ok(), "approval id")?,
            exec_id: parsed(row.exec_id.parse().ok(), "approval exec")?,
            session_id: parsed(row.session_id.parse().ok(), "approval session")?,
            state: parsed(ApprovalState::from_name(&row.state), "approval state")?,
            order_sha256: row.order_sha256,
            reasons: row.reasons.0,
            requested_by: parsed(row.requested_by.parse().ok(), "approval requester")?,
            scope: parsed(ApprovalScope::from_name(&row.scope), "approval scope")?,
            may_hold_for_session: row.may_hold_for_session,
            is_shell: row.is_shell,
            command: row.command,
            cwd: row.cwd,
            env_names: row.env_names,
            stdin: row.stdin,
            stdin_open: row.stdin_open,
            has_terminal: row.has_terminal,
            timeout_ms: row.timeout_ms,
            decision: row.decision.map(|json| json.0),
            image_digest: row.image_digest,
            votes: row.votes.0,
            created_at: row.created_at,
            expires_at: row.expires_at,
            decided_by: row.decided_by,
            reason: row.reason,
        })
    }
}

impl Scope {
    /// Stores an approval.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn insert_approval(&mut self, approval: &NewApproval<'_>) -> Result<(), StoreError> {
        let owner = self.owner.clone();
        sqlx::query(
            "INSERT INTO approvals (tenant_id, id, exec_id, session_id, state, order_sha256,
                                    reasons, requested_by, expires_at, session_key)
             VALUES ($1, $2, $3, $4, 'pending', $5, $6, $7, now() + make_interval(secs => $8),
                     $9)",
        )
        .bind(owner)
        .bind(approval.id.to_string())
        .bind(approval.exec_id.to_string())
        .bind(approval.session_id.to_string())
        .bind(approval.order_sha256)
        .bind(Json(approval.reasons))
        .bind(approval.requested_by)
        .bind(approval.ttl_s)
        .bind(approval.session_key)
        .execute(self.connection())
        .await?;
        Ok(())
    }

    /// One approval.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when this scope has no such approval.
    pub async fn get_approval(&mut self, id: ApprovalId) -> Result<Approval, StoreError> {
        let owner = self.owner.clone();
        let row: Row = sqlx::query_as(sqlx::AssertSqlSafe(format!(
            "{SELECT} WHERE a.tenant_id = $1 AND a.id = $2"
        )))
        .bind(owner)
        .bind(id.to_string())
        .fetch_one(self.connection())
        .await?;
        row.try_into()
    }

    /// One approval. Holds its row until the transaction ends: whoever is first decides.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when this scope has no such approval.
    pub async fn lock_approval(&mut self, id: ApprovalId) -> Result<Approval, StoreError> {
        let owner = self.owner.clone();
        // Its exec first, as everywhere: changing an approval twice makes Postgres look there.
        sqlx::query(
            "SELECT FROM execs WHERE tenant_id = $1 AND id =
                 (SELECT exec_id FROM approvals WHERE tenant_id = $1 AND id = $2) FOR UPDATE",
        )
        .bind(&owner)
        .bind(id.to_string())
        .execute(self.connection())
        .await?;
        sqlx::query("SELECT FROM approvals WHERE tenant_id = $1 AND id = $2 FOR UPDATE")
            .bind(owner)
            .bind(id.to_string())
            .execute(self.connection())
            .await?;
        self.get_approval(id).await
    }

    /// Approvals that fit, newest first, older than `before` if given.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn list_approvals(
        &mut self,
        state: Option<ApprovalState>,
        session_id: Option<SessionId>,
        before: Option<ApprovalId>,
        limit: i64,
    ) -> Result<Vec<Approval>, StoreError> {
        let mut query = QueryBuilder::new(SELECT);
        query.push(" WHERE a.tenant_id = ").push_bind(self.owner.clone());
        // Ids sort by the time of their making; all of them are below the default.
        let before = before.map_or_else(|| "aps".to_owned(), |id| id.to_string());
        query.push(" AND a.id < ").push_bind(before);
        if let Some(state) = state {
            query.push(" AND a.state = ").push_bind(state.as_str());
        }
        if let Some(session_id) = session_id {
            query.push(" AND a.session_id = ").push_bind(session_id.to_string());
        }
        query.push(" ORDER BY a.id DESC LIMIT ").push_bind(limit);
        let rows: Vec<Row> = query.build_query_as().fetch_all(self.connection()).await?;
        rows.into_iter().map(Approval::try_from).collect()
    }

    /// Writes down how an approval was settled.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn settle_approval(
        &mut self,
        id: ApprovalId,
        state: ApprovalState,
        decided_by: Option<&str>,
        reason: Option<&str>,
    ) -> Result<(), StoreError> {
        let owner = self.owner.clone();
        sqlx::query(
            "UPDATE approvals SET state = $3, decided_by = $4, reason = $5, decided_at = now()
             WHERE tenant_id = $1 AND id = $2",
        )
        .bind(owner)
        .bind(id.to_string())
        .bind(state.as_str())
        .bind(decided_by)
        .bind(reason)
        .execute(self.connection())
        .await?;
        Ok(())
    }

    /// Writes down why a human is still asked, after another version of the policy said so.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn set_approval_reasons(
        &mut self,
        id: ApprovalId,
        reasons: &[String],
    ) -> Result<(), StoreError> {
        let owner = self.owner.clone();
        sqlx::query("UPDATE approvals SET reasons = $3 WHERE tenant_id = $1 AND id = $2")
            .bind(owner)
            .bind(id.to_string())
            .bind(Json(reasons))
            .execute(self.connection())
            .await?;
        Ok(())
    }
}
