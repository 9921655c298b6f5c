//! The query string of look-ups and exports: which events, and how many or in which form.

use axum::http::StatusCode;
use domain::ids::{ExecId, SessionId};
use domain::limits::MAX_COMMAND_BYTES;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::http::ApiError;
use crate::http::page::checked_limit;
use crate::store::AuditFilter;

/// See the module. One type for both, since a query string cannot be of two that each refuse what
/// they do not know.
#[derive(Deserialize, Serialize, Default, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct LookUp {
    /// Give events after this number.
    after: Option<i64>,
    /// `next_cursor` of the page before; the same as `after`.
    cursor: Option<i64>,
    limit: Option<i64>,
    /// Of exports.
    #[param(inline)]
    pub(super) format: Option<Format>,
    /// Of exports: the first event.
    pub(super) from: Option<i64>,
    #[serde(default, with = "time::serde::rfc3339::option")]
    since: Option<OffsetDateTime>,
    #[serde(default, with = "time::serde::rfc3339::option")]
    until: Option<OffsetDateTime>,
    actor: Option<String>,
    action: Option<String>,
    object: Option<String>,
    session_id: Option<SessionId>,
    exec_id: Option<ExecId>,
    outcome: Option<String>,
    decision: Option<String>,
    rule: Option<String>,
    program: Option<String>,
    /// Words, all of which the event must have.
    q: Option<String>,
}

/// The form of an export.
#[derive(Deserialize, Serialize, Default, Clone, Copy, PartialEq, Eq, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Format {
    /// Proves itself.
    #[default]
    Jsonl,
    /// For spreadsheets.
    Csv,
    /// For security tools.
    Ocsf,
}

impl LookUp {
    /// After which event, and how many; for a list.
    pub(super) fn page(&self) -> Result<(i64, i64), ApiError> {
        if self.format.is_some() || self.from.is_some() {
            return Err(refused("format and from belong to /v1/audit/export"));
        }
        Ok((self.cursor.or(self.after).unwrap_or(0), checked_limit(self.limit)?))
    }

    /// The form and the first event; for an export.
    pub(super) fn export(&self) -> Result<(Format, i64), ApiError> {
        if self.after.is_some() || self.cursor.is_some() || self.limit.is_some() {
            return Err(refused("an export has no pages; from says where it begins"));
        }
        Ok((self.format.unwrap_or_default(), self.from.unwrap_or(1)))
    }

    /// Whether it leaves events out.
    pub(super) fn is_filtered(&self) -> bool {
        let others = [
            &self.actor,
            &self.action,
            &self.object,
            &self.outcome,
            &self.decision,
            &self.rule,
            &self.program,
            &self.q,
        ];
        self.since.is_some()
            || self.until.is_some()
            || self.session_id.is_some()
            || self.exec_id.is_some()
            || others.into_iter().any(Option::is_some)
    }

    /// Which events.
    pub(super) fn filter(self) -> Result<AuditFilter, ApiError> {
        let texts = [
            &self.actor,
            &self.action,
            &self.object,
            &self.outcome,
            &self.decision,
            &self.rule,
            &self.program,
            &self.q,
        ];
        let unfit = |text: &&String| text.len() > MAX_COMMAND_BYTES || text.contains('\0');
        if texts.into_iter().flatten().any(|text| unfit(&text)) {
            return Err(refused("a value is too long or has a NUL character"));
        }
        let micros = |time: OffsetDateTime| {
            i64::try_from(time.unix_timestamp_nanos() / 1000).unwrap_or(i64::MAX)
        };
        Ok(AuditFilter {
            since_us: self.since.map(micros),
            until_us: self.until.map(micros),
            actor: self.actor,
            action: self.action,
            object: self.object,
            session_id: self.session_id.map(|id| id.to_string()),
            exec_id: self.exec_id.map(|id| id.to_string()),
            outcome: self.outcome,
            decision: self.decision,
            rule: self.rule,
            program: self.program,
            text: self.q,
        })
    }
}

pub(super) fn refused(detail: &str) -> ApiError {
    ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_query", detail)
}
