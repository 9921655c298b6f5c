//! Votes on approvals, and answers that hold for the rest of a session.

use domain::approval::{ApprovalScope, ApprovalState};
use domain::ids::{ApprovalId, SessionId, TokenId};
use serde::{Deserialize, Serialize};
use sqlx::types::Json;
use time::OffsetDateTime;

use super::error::parsed;
use super::{Approval, RecordedDecision, Scope, StoreError};

/// Somebody's yes.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Vote {
    /// Who, as the audit log names them.
    pub actor: String,
    /// The role of their token.
    pub role: String,
    /// How far it reaches.
    pub scope: ApprovalScope,
    /// When.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
}

/// A vote to be stored.
pub struct NewVote<'a> {
    /// The approval.
    pub approval_id: ApprovalId,
    /// The token that says yes.
    pub token_id: TokenId,
    /// Who, as the audit log names them.
    pub actor: &'a str,
    /// The role of the token.
    pub role: &'a str,
    /// How far it reaches.
    pub scope: ApprovalScope,
}

/// An answer that holds for the rest of a session.
#[derive(Debug, Clone)]
pub struct SessionApproval {
    /// The approval that was answered.
    pub id: ApprovalId,
    /// Who answered.
    pub decided_by: String,
    /// What had been asked.
    pub decision: RecordedDecision,
}

impl Scope {
    /// Stores a vote.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when this token has voted on it before.
    pub async fn insert_vote(&mut self, vote: &NewVote<'_>) -> Result<(), StoreError> {
        let owner = self.owner.clone();
        sqlx::query(
            "INSERT INTO approval_votes (tenant_id, approval_id, token_id, actor, role, scope)
             VALUES ($1, $2, $3, $4, $5, $6)",
        )
        .bind(owner)
        .bind(vote.approval_id.to_string())
        .bind(vote.token_id.to_string())
        .bind(vote.actor)
        .bind(vote.role)
        .bind(vote.scope.as_str())
        .execute(self.connection())
        .await?;
        Ok(())
    }

    /// Settles an approval with the votes that it has got. The answer holds for the session if
    /// everybody said so.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn approve_by_votes(
        &mut self,
        id: ApprovalId,
        votes: &[Vote],
        reason: Option<&str>,
    ) -> Result<Approval, StoreError> {
        let owner = self.owner.clone();
        let actors: Vec<&str> = votes.iter().map(|vote| vote.actor.as_str()).collect();
        let for_session = votes.iter().all(|vote| vote.scope == ApprovalScope::Session);
        let scope = if for_session { ApprovalScope::Session } else { ApprovalScope::Once };
        sqlx::query("UPDATE approvals SET scope = $3 WHERE tenant_id = $1 AND id = $2")
            .bind(owner)
            .bind(id.to_string())
            .bind(scope.as_str())
            .execute(self.connection())
            .await?;
        let who = actors.join(", ");
        self.settle_approval(id, ApprovalState::Approved, Some(&who), reason).await?;
        self.get_approval(id).await
    }

    /// The newest answers that hold for a command in the rest of its session.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn list_session_approvals(
        &mut self,
        session_id: SessionId,
        session_key: &[u8],
    ) -> Result<Vec<SessionApproval>, StoreError> {
        let owner = self.owner.clone();
        let rows: Vec<(String, Option<String>, Json<RecordedDecision>)> = sqlx::query_as(
            "SELECT a.id, a.decided_by, e.decision
             FROM approvals a JOIN execs e ON e.tenant_id = a.tenant_id AND e.id = a.exec_id
             WHERE a.tenant_id = $1 AND a.session_id = $2 AND a.session_key = $3
               AND a.scope = 'session' AND a.state = 'approved' AND e.decision IS NOT NULL
             ORDER BY a.id DESC LIMIT 8",
        )
        .bind(owner)
        .bind(session_id.to_string())
        .bind(session_key)
        .fetch_all(self.connection())
        .await?;
        rows.into_iter()
            .map(|(id, decided_by, decision)| {
                Ok(SessionApproval {
                    id: parsed(id.parse().ok(), "approval id")?,
                    decided_by: decided_by.unwrap_or_else(|| "nobody".into()),
                    decision: decision.0,
                })
            })
            .collect()
    }
}
