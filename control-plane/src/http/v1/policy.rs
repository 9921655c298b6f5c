//! `/v1/policy`: the tenant's policy, its versions, and what a policy says.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use domain::access::Operation;
use domain::ids::SessionId;
use policy::{Approvers, Decision, Explanation, Fact, Outcome, Parse};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::ToSchema;

use crate::app::{App, AppError, Caller, CheckCommand, PutPolicy, SimulatePolicy, Simulation};
use crate::http::ApiError;
use crate::http::json::{Body, Params};
use crate::http::page::{Page, checked_limit};
use crate::store::{Policy, PolicyVersion};

/// How far back a simulation looks when nobody says otherwise.
const DEFAULT_SINCE: &str = "30d";

/// Query string of `GET /v1/policy`.
#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ShowParams {
    version: Option<i64>,
}

/// Body of `PUT /v1/policy`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = PutPolicy)]
pub struct Put {
    text: String,
    /// The version that it is a change of.
    expected_version: Option<i64>,
}

/// A policy as callers see it.
#[derive(Serialize, ToSchema)]
#[schema(as = Policy)]
pub struct View {
    /// 0 is the shipped default.
    version: i64,
    text: String,
    author: String,
    #[serde(with = "time::serde::rfc3339::option")]
    created_at: Option<OffsetDateTime>,
}

impl From<Policy> for View {
    fn from(policy: Policy) -> Self {
        Self {
            created_at: (policy.version > 0).then_some(policy.created_at),
            version: policy.version,
            text: policy.text,
            author: policy.author,
        }
    }
}

/// A version in the list.
#[derive(Serialize, ToSchema)]
#[schema(as = PolicyVersion)]
pub struct VersionView {
    version: i64,
    author: String,
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    bytes: i32,
}

impl From<PolicyVersion> for VersionView {
    fn from(version: PolicyVersion) -> Self {
        let PolicyVersion { version, author, created_at, bytes } = version;
        Self { version, author, created_at, bytes }
    }
}

/// Shows a version, the active one by default.
#[utoipa::path(
    get, path = "/policy", operation_id = "get_policy", tag = "policy",
    security(("token" = ["read_policy"])),
    params(ShowParams),
    responses((status = 200, body = View)),
)]
pub async fn show(
    State(app): State<App>,
    caller: Caller,
    Params(params): Params<ShowParams>,
) -> Result<Json<View>, ApiError> {
    Ok(Json(app.get_policy(&caller, params.version).await?.into()))
}

/// Puts a version.
#[utoipa::path(
    put, path = "/policy", operation_id = "put_policy", tag = "policy",
    security(("token" = ["write_policy"])),
    request_body = Put,
    responses((status = 200, body = View)),
)]
pub async fn put(
    State(app): State<App>,
    caller: Caller,
    Body(body): Body<Put>,
) -> Result<Json<View>, ApiError> {
    let request = PutPolicy { text: body.text, expected_version: body.expected_version };
    Ok(Json(app.put_policy(&caller, &request).await?.into()))
}

/// Query string of `GET /v1/policy/versions`.
#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListParams {
    cursor: Option<i64>,
    limit: Option<i64>,
}

/// Lists versions, newest first.
#[utoipa::path(
    get, path = "/policy/versions", operation_id = "list_policy_versions", tag = "policy",
    security(("token" = ["read_policy"])),
    params(ListParams),
    responses((status = 200, body = Page<VersionView>)),
)]
pub async fn versions(
    State(app): State<App>,
    caller: Caller,
    Params(params): Params<ListParams>,
) -> Result<Json<Page<VersionView>>, ApiError> {
    let limit = checked_limit(params.limit)?;
    let mut scope = caller.open(&app, Operation::ReadPolicy).await?;
    let versions = scope.list_policies(params.cursor, limit).await.map_err(AppError::from)?;
    let views = versions.into_iter().map(VersionView::from).collect();
    Ok(Json(Page::new(views, limit, |view: &VersionView| view.version.to_string())))
}

/// Body of `POST /v1/policy/check` and `POST /v1/policy/explain`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = CheckCommand)]
pub struct Check {
    command: String,
    cwd: Option<String>,
    #[serde(default)]
    env: BTreeMap<String, String>,
    role: Option<String>,
    token: Option<String>,
    session_id: Option<SessionId>,
    environment: Option<String>,
    /// A policy to judge by instead of the active one.
    policy: Option<String>,
}

impl From<Check> for CheckCommand {
    fn from(check: Check) -> Self {
        Self {
            command: check.command,
            cwd: check.cwd,
            has_env: !check.env.is_empty(),
            role: check.role,
            token: check.token,
            session_id: check.session_id,
            environment: check.environment,
            policy: check.policy,
        }
    }
}

/// What a policy says about a command.
#[derive(Serialize, ToSchema)]
#[schema(as = CheckedCommand)]
pub struct CheckView {
    decision: Outcome,
    rules: Vec<String>,
    reasons: Vec<String>,
    facts: Vec<Fact>,
    approvers: Approvers,
    /// Absent for a draft.
    policy_version: Option<i64>,
}

fn check_view(decision: Decision, policy_version: Option<i64>) -> CheckView {
    CheckView {
        decision: decision.outcome,
        rules: decision.rules,
        reasons: decision.reasons,
        facts: decision.facts,
        approvers: decision.approvers,
        policy_version,
    }
}

/// Decides about a command without running it.
#[utoipa::path(
    post, path = "/policy/check", operation_id = "check_policy", tag = "policy",
    security(("token" = ["read_policy"])),
    request_body = Check,
    responses((status = 200, body = CheckView)),
)]
pub async fn check(
    State(app): State<App>,
    caller: Caller,
    Body(body): Body<Check>,
) -> Result<Json<CheckView>, ApiError> {
    let checked = app.check_command(&caller, body.into()).await?;
    Ok(Json(check_view(checked.decision, checked.policy_version)))
}

/// A decision with everything that led to it.
#[derive(Serialize, ToSchema)]
#[schema(as = ExplainedCommand)]
pub struct ExplainView {
    #[serde(flatten)]
    decision: CheckView,
    /// How it was read.
    parse: Parse,
    /// What is known of each command that it runs, in the order of `facts`.
    grammar: Vec<Option<String>>,
    /// All of it for people.
    text: String,
}

/// Decides about a command and says why.
#[utoipa::path(
    post, path = "/policy/explain", operation_id = "explain_policy", tag = "policy",
    security(("token" = ["read_policy"])),
    request_body = Check,
    responses((status = 200, body = ExplainView)),
)]
pub async fn explain(
    State(app): State<App>,
    caller: Caller,
    Body(body): Body<Check>,
) -> Result<Json<ExplainView>, ApiError> {
    let explained = app.explain_command(&caller, body.into()).await?;
    let text = explained.explanation.to_string();
    let Explanation { parse, grammar, decision, .. } = explained.explanation;
    let decision = check_view(decision, explained.policy_version);
    Ok(Json(ExplainView { decision, parse, grammar, text }))
}

/// Body of `POST /v1/policy/simulate`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = SimulatePolicy)]
pub struct Simulate {
    text: String,
    since: Option<String>,
}

/// Says what a draft would have decided on the commands of the past.
#[utoipa::path(
    post, path = "/policy/simulate", operation_id = "simulate_policy", tag = "policy",
    security(("token" = ["read_policy"])),
    request_body = Simulate,
    responses((status = 200, body = Simulation)),
)]
pub async fn simulate(
    State(app): State<App>,
    caller: Caller,
    Body(body): Body<Simulate>,
) -> Result<Json<Simulation>, ApiError> {
    let since = checked_since(body.since.as_deref().unwrap_or(DEFAULT_SINCE))?;
    let request = SimulatePolicy { text: body.text, since };
    Ok(Json(app.simulate_policy(&caller, &request).await?))
}

/// A time, or how long ago: `30d`, `12h`, `45m`.
fn checked_since(text: &str) -> Result<OffsetDateTime, ApiError> {
    let format = &time::format_description::well_known::Rfc3339;
    let found = OffsetDateTime::parse(text, format).ok().or_else(|| ago(text));
    found.ok_or_else(|| {
        let detail = "since must be a time such as 2026-01-31T00:00:00Z, or how long ago, such as \
                      30d, 12h or 45m";
        ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_since", detail)
    })
}

fn ago(text: &str) -> Option<OffsetDateTime> {
    let unit_at = text.char_indices().last()?.0;
    let number: u32 = text[..unit_at].parse().ok()?;
    let seconds = match &text[unit_at..] {
        "d" => 86_400,
        "h" => 3600,
        "m" => 60,
        "s" => 1,
        _ => return None,
    };
    let duration = time::Duration::seconds(i64::from(number).checked_mul(seconds)?);
    OffsetDateTime::now_utc().checked_sub(duration)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn since_is_a_time_or_how_long_ago() {
        for good in ["30d", "1h", "5m", "10s", "2026-01-31T00:00:00Z"] {
            assert!(checked_since(good).is_ok(), "{good}");
        }
        for bad in ["", "d", "30", "-1d", "30 d", "1w", "999999999999d", "ä", "4294967295d"] {
            assert!(checked_since(bad).is_err(), "{bad}");
        }
    }
}
