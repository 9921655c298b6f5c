//! Executors: enrolment, and what they report while a command runs.

use domain::access::Operation;
use domain::exec::ExecEvent;
use domain::ids::{ExecId, ExecutorId, TenantId};
use protocol::binary::Binary;
use protocol::enrolment::{
    EnrolRequest, Enrolment, Loss, LossReason, executor_queue, tenant_queue,
};
use protocol::exec::{ToolOutcome, ToolReply};
use protocol::init::Stream;
use serde_json::json;
use time::OffsetDateTime;

use super::{App, AppError, Caller};
use crate::outcome::reply;
use crate::store::{EventKind, Exec, Executor, Scope};

/// Executors of one tenant that were heard of within a day.
const MAX_EXECUTORS: i64 = 200;
/// Longest text that an executor says of itself, in bytes; a digest has 71.
const MAX_TEXT_BYTES: usize = 256;
/// First user id for tenants' commands; the tenant's number comes on top.
const SANDBOX_UID_BASE: u32 = 10_000;

/// Which start of which executor speaks.
#[derive(Debug, Clone, Copy)]
pub struct Reporter {
    /// The executor.
    pub executor_id: ExecutorId,
    /// Its epoch, from its enrolment.
    pub epoch: u64,
}

impl App {
    /// Registers an executor and gives it what it needs for its own tenant.
    ///
    /// # Errors
    /// When the caller is no executor.
    pub async fn enrol(
        &self,
        caller: &Caller,
        request: &EnrolRequest,
    ) -> Result<Enrolment, AppError> {
        check_text(&request.version, "version")?;
        check_text(&request.host, "host")?;
        check_text(&request.image_digest, "image_digest")?;
        let mut scope = caller.open(self, Operation::Execute).await?;
        let tenant = scope.get_own_tenant().await.map_err(AppError::of("tenant"))?;
        if scope.count_other_executors(request.executor_id).await? >= MAX_EXECUTORS {
            let message = format!("{MAX_EXECUTORS} executors enrolled within a day; use fewer");
            return Err(AppError::TooMany { code: "too_many_executors", message });
        }
        let epoch = scope.upsert_executor(request).await?;
        let detail = json!({
            "version": request.version, "host": request.host, "image_digest": request.image_digest,
        });
        let entry = caller.entry("executor.enrol", request.executor_id.to_string(), detail);
        scope.append_audit(entry);
        scope.commit().await?;
        let payload_key =
            self.keys.unwrap(tenant.id, &tenant.payload_key).map_err(AppError::internal)?;
        Ok(Enrolment {
            tenant_id: tenant.id,
            epoch: epoch.unsigned_abs(),
            task_queues: vec![
                executor_queue(&tenant.name, request.executor_id),
                tenant_queue(&tenant.name),
            ],
            tenant_name: tenant.name,
            sandbox_uid: SANDBOX_UID_BASE + tenant.number.unsigned_abs(),
            temporal_address: self.temporal.temporal_address.clone(),
            temporal_namespace: self.temporal.temporal_namespace.clone(),
            grant_key: Binary(self.keys.grants.signer().public.to_vec()),
            payload_key: Binary(payload_key.expose().to_vec()),
        })
    }

    /// The executors of the caller's tenant.
    ///
    /// # Errors
    /// When the caller may not read.
    pub async fn list_executors(
        &self,
        caller: &Caller,
        after: Option<ExecutorId>,
        limit: i64,
    ) -> Result<Vec<Executor>, AppError> {
        Ok(caller.open(self, Operation::ReadWork).await?.list_executors(after, limit).await?)
    }

    /// Whether an executor that holds a connection is still the one to hold it. An open connection
    /// is no sign of life: the kernel keeps it for a process that hangs.
    ///
    /// # Errors
    /// [`AppError::Fenced`] when a later start of it has enrolled.
    pub async fn check_executor(
        &self,
        caller: &Caller,
        reporter: Reporter,
    ) -> Result<(), AppError> {
        let mut scope = caller.open(self, Operation::Execute).await?;
        match scope.is_current_executor(reporter.executor_id, reporter.epoch).await? {
            true => Ok(()),
            false => Err(AppError::Fenced),
        }
    }

    /// Notes that an executor is there.
    ///
    /// # Errors
    /// [`AppError::Fenced`] when a later start of it has enrolled.
    pub async fn touch_executor(
        &self,
        caller: &Caller,
        reporter: Reporter,
    ) -> Result<TenantId, AppError> {
        let tenant_id = caller.authorize(Operation::Execute)?;
        let mut scope = self.store.tenant(tenant_id).await?;
        if !scope.touch_executor(reporter.executor_id, reporter.epoch).await? {
            return Err(AppError::Fenced);
        }
        scope.commit().await?;
        Ok(tenant_id)
    }

    /// A transaction on an exec that the reporter may speak of.
    async fn open_reported(
        &self,
        caller: &Caller,
        reporter: Reporter,
        exec_id: ExecId,
    ) -> Result<(Scope, Exec), AppError> {
        let mut scope = caller.open(self, Operation::Execute).await?;
        let exec = scope.lock_exec(exec_id).await.map_err(AppError::of("exec"))?;
        if !scope.is_home_of(exec_id, reporter.executor_id, reporter.epoch).await? {
            let current = scope.touch_executor(reporter.executor_id, reporter.epoch).await?;
            // The session may have been moved away from an executor that is well.
            return Err(if current { AppError::Moved } else { AppError::Fenced });
        }
        Ok((scope, exec))
    }

    /// An executor tells directly how an exec ended, so that nobody has to wait for the workflow,
    /// which hears the same.
    ///
    /// # Errors
    /// When the caller is no executor, is fenced, or there is no such exec.
    pub async fn report_result(
        &self,
        caller: &Caller,
        reporter: Reporter,
        exec_id: ExecId,
        reply: &ToolReply,
    ) -> Result<(), AppError> {
        let tenant_id = caller.authorize(Operation::Execute)?;
        let key = self.tenant_keys.get(tenant_id).await.map_err(AppError::internal)?.payload_key;
        let (mut scope, exec) = self.open_reported(caller, reporter, exec_id).await?;
        if exec.state.is_terminal() {
            return Ok(());
        }
        // What was never started, and what cannot be read, is for the workflow to judge.
        let report = reply::open(&key, tenant_id, &exec, reply);
        let Some(report) = report.filter(|report| {
            matches!(report.outcome, ToolOutcome::Finished(_))
                && report.executor_id == reporter.executor_id
        }) else {
            return Err(AppError::invalid("invalid_report", "only a finished exec is reported"));
        };
        reply::apply(&mut scope, &exec, Some(report)).await.map_err(AppError::internal)?;
        Ok(scope.commit().await?)
    }

    /// An executor started a command that takes a while.
    ///
    /// # Errors
    /// When the caller is no executor, is fenced, or there is no such exec.
    pub async fn report_started(
        &self,
        caller: &Caller,
        reporter: Reporter,
        exec_id: ExecId,
        started_at_ms: u64,
    ) -> Result<(), AppError> {
        let (mut scope, exec) = self.open_reported(caller, reporter, exec_id).await?;
        if exec.started_at.is_some() || exec.state.apply(ExecEvent::Start).is_err() {
            return Ok(());
        }
        let nanos = i128::from(started_at_ms) * 1_000_000;
        let started_at = OffsetDateTime::from_unix_timestamp_nanos(nanos)
            .map_err(|_| AppError::invalid("invalid_time", "started_at_ms is out of range"))?;
        scope.start_exec(exec_id, started_at).await?;
        let data = json!({ "exec_id": exec_id });
        scope.append_event(exec.session_id, EventKind::ExecRunning, data).await?;
        Ok(scope.commit().await?)
    }

    /// An executor hands over output of a command. Bytes that are there already are skipped.
    ///
    /// Returns how much of the stream is stored now.
    ///
    /// # Errors
    /// When the caller is no executor or there is no such exec.
    pub async fn append_output(
        &self,
        caller: &Caller,
        reporter: Reporter,
        exec_id: ExecId,
        stream: Stream,
        offset: u64,
        bytes: &[u8],
    ) -> Result<u64, AppError> {
        let (mut scope, exec) = self.open_reported(caller, reporter, exec_id).await?;
        let stored = scope.append_output(exec_id, stream, offset, bytes).await?;
        if stored > domain::limits::MAX_OUTPUT_BYTES {
            return Err(AppError::TooLarge {
                code: "output_too_large",
                message: "the stream is longer than what is stored of one".into(),
            });
        }
        let data = json!({ "exec_id": exec_id, "stream": stream.as_str(), "total": stored });
        scope.append_event(exec.session_id, EventKind::ExecOutput, data).await?;
        scope.commit().await?;
        Ok(stored)
    }

    /// An executor tells that the rest of a command's output will never come: it is on record, and
    /// whoever follows the output hears of it. A repetition changes nothing.
    ///
    /// # Errors
    /// When the caller is no executor, is fenced, or there is no such exec.
    pub async fn lose_output(
        &self,
        caller: &Caller,
        reporter: Reporter,
        exec_id: ExecId,
        stream: Stream,
        reason: LossReason,
    ) -> Result<(), AppError> {
        let (mut scope, exec) = self.open_reported(caller, reporter, exec_id).await?;
        if exec.lost[stream.index()].is_some() {
            return Ok(());
        }
        let from = scope.count_output(exec_id, stream).await?;
        scope.lose_output(exec_id, stream, Loss { from, reason }).await?;
        let (name, why) = (stream.as_str(), reason.as_str());
        let detail = json!({ "stream": name, "from": from, "reason": why });
        let (action, object) = ("exec.output_lost", exec_id.to_string());
        scope.append_audit(caller.session_entry(action, object, exec.session_id, detail));
        let data = json!({ "exec_id": exec_id, "stream": name, "total": from, "lost": why });
        scope.append_event(exec.session_id, EventKind::ExecOutput, data).await?;
        Ok(scope.commit().await?)
    }
}

/// What an executor says of itself is shown to people: short, and printable.
fn check_text(text: &str, name: &'static str) -> Result<(), AppError> {
    if text.len() <= MAX_TEXT_BYTES && !text.chars().any(char::is_control) {
        return Ok(());
    }
    let message = format!("{name} must be at most {MAX_TEXT_BYTES} printable bytes");
    Err(AppError::invalid("invalid_executor", message))
}
