//! Changes of an exec after it was stored. Whether one is legal is decided by the caller, who holds
//! the row (see [`Scope::lock_exec`]).

use domain::exec::ExecState;
use domain::ids::{ApprovalId, ExecId, ExecutorId, TurnId};
use domain::sandbox::SandboxRef;
use protocol::exec::ExecResult;
use sqlx::types::Json;
use time::OffsetDateTime;

use super::text::clean;
use super::{ExecError, RecordedDecision, Scope, StoreError};

impl Scope {
    /// Writes down a decision together with the state that follows from it.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn set_exec_decision(
        &mut self,
        id: ExecId,
        state: ExecState,
        decision: &RecordedDecision,
        approval_id: Option<ApprovalId>,
    ) -> Result<(), StoreError> {
        let owner = self.owner.clone();
        sqlx::query(
            "UPDATE execs SET state = $3, decision = $4, approval_id = coalesce($5, approval_id),
                    waiting_reason = NULL, decided_at = now()
             WHERE tenant_id = $1 AND id = $2",
        )
        .bind(owner)
        .bind(id.to_string())
        .bind(state.as_str())
        .bind(clean(serde_json::to_value(decision).unwrap_or_default()))
        .bind(approval_id.map(|id| id.to_string()))
        .execute(self.connection())
        .await?;
        Ok(())
    }

    /// Writes down which executor an exec is granted to, once and for all.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn set_exec_executor(
        &mut self,
        id: ExecId,
        executor_id: ExecutorId,
    ) -> Result<(), StoreError> {
        let owner = self.owner.clone();
        sqlx::query(
            "UPDATE execs SET executor_id = $3
             WHERE tenant_id = $1 AND id = $2 AND executor_id IS NULL",
        )
        .bind(owner)
        .bind(id.to_string())
        .bind(executor_id.to_string())
        .execute(self.connection())
        .await?;
        Ok(())
    }

    /// Takes back that an exec was allowed, which certainly was not started: it is decided about anew.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn refuse_unfit(&mut self, id: ExecId, reason: &str) -> Result<(), StoreError> {
        let owner = self.owner.clone();
        sqlx::query(
            "UPDATE execs SET git_refused = $3, decision = NULL WHERE tenant_id = $1 AND id = $2",
        )
        .bind(owner)
        .bind(id.to_string())
        .bind(reason)
        .execute(self.connection())
        .await?;
        Ok(())
    }

    /// Writes down why an exec has not started yet, and that this was said now.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn set_exec_waiting(&mut self, id: ExecId, reason: &str) -> Result<(), StoreError> {
        let owner = self.owner.clone();
        sqlx::query(
            "UPDATE execs SET waiting_reason = $3, waited_at = now()
             WHERE tenant_id = $1 AND id = $2",
        )
        .bind(owner)
        .bind(id.to_string())
        .bind(reason)
        .execute(self.connection())
        .await?;
        Ok(())
    }

    /// Calls off an exec; whether it still can be is decided where it stands.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn request_cancel(&mut self, id: ExecId) -> Result<(), StoreError> {
        let owner = self.owner.clone();
        sqlx::query("UPDATE execs SET cancel_requested = true WHERE tenant_id = $1 AND id = $2")
            .bind(owner)
            .bind(id.to_string())
            .execute(self.connection())
            .await?;
        Ok(())
    }

    /// Calls off an exec that was allowed, because of what policy says now.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn recall_exec(
        &mut self,
        id: ExecId,
        refused: &RecordedDecision,
    ) -> Result<(), StoreError> {
        let owner = self.owner.clone();
        sqlx::query(
            "UPDATE execs SET cancel_requested = true, recalled = $3
             WHERE tenant_id = $1 AND id = $2",
        )
        .bind(owner)
        .bind(id.to_string())
        .bind(clean(serde_json::to_value(refused).unwrap_or_default()))
        .execute(self.connection())
        .await?;
        Ok(())
    }

    /// Calls off every exec of a turn that is not over.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn request_cancel_of_turn(&mut self, turn_id: TurnId) -> Result<(), StoreError> {
        let owner = self.owner.clone();
        sqlx::query(
            "UPDATE execs SET cancel_requested = true
             WHERE tenant_id = $1 AND turn_id = $2 AND finished_at IS NULL",
        )
        .bind(owner)
        .bind(turn_id.to_string())
        .execute(self.connection())
        .await?;
        Ok(())
    }

    /// Marks an exec as running, since then by its executor's clock; never since a time to come.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn start_exec(
        &mut self,
        id: ExecId,
        started_at: OffsetDateTime,
    ) -> Result<(), StoreError> {
        let owner = self.owner.clone();
        sqlx::query(
            "UPDATE execs SET state = 'running', started_at = least($3, now()),
                    waiting_reason = NULL
             WHERE tenant_id = $1 AND id = $2",
        )
        .bind(owner)
        .bind(id.to_string())
        .bind(started_at)
        .execute(self.connection())
        .await?;
        Ok(())
    }

    /// Ends an exec that never started.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn finish_unstarted_exec(
        &mut self,
        id: ExecId,
        state: ExecState,
        error: Option<&ExecError>,
    ) -> Result<(), StoreError> {
        let owner = self.owner.clone();
        sqlx::query(
            "UPDATE execs SET state = $3, error = $4, waiting_reason = NULL, finished_at = now()
             WHERE tenant_id = $1 AND id = $2",
        )
        .bind(owner)
        .bind(id.to_string())
        .bind(state.as_str())
        .bind(error.map(Json))
        .execute(self.connection())
        .await?;
        Ok(())
    }

    /// Ends an exec with its result.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn finish_exec(
        &mut self,
        id: ExecId,
        result: &ExecResult,
        sandbox: Option<SandboxRef>,
    ) -> Result<(), StoreError> {
        let owner = self.owner.clone();
        sqlx::query(
            "UPDATE execs SET state = $3, exit_code = $4, signal = $5, oom_killed = $6,
                    sandbox_id = $7, sandbox_generation = $8, stdout = $9, stderr = $10,
                    started_at = coalesce(
                        started_at, least(to_timestamp($11::double precision / 1000), now())),
                    duration_ms = $12, survivors = $13, waiting_reason = NULL, finished_at = now()
             WHERE tenant_id = $1 AND id = $2",
        )
        .bind(owner)
        .bind(id.to_string())
        .bind(result.outcome.as_str())
        .bind(result.exit_code)
        .bind(result.signal)
        .bind(result.oom_killed)
        .bind(sandbox.map(|sandbox| sandbox.id.to_string()))
        .bind(sandbox.map(|sandbox| i32::try_from(sandbox.generation).unwrap_or(i32::MAX)))
        .bind(Json(&result.stdout))
        .bind(Json(&result.stderr))
        .bind(result.started_at_ms as f64)
        .bind(result.duration_ms as i64)
        .bind(i32::try_from(result.survivors).unwrap_or(i32::MAX))
        .execute(self.connection())
        .await?;
        Ok(())
    }
}
