//! The bearer token of a request becomes its caller. Nothing else in a request names a tenant.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{ConnectInfo, FromRequestParts};
use axum::http::header;
use axum::http::request::Parts;
use domain::access::Role;

use super::ApiError;
use super::rates::Seen;
use super::rules;
use super::traced::Traced;
use crate::app::{App, AppError, Caller};
use crate::tokens::TokenError;

const REVOKED: &str =
    "this token was revoked; an owner of the tenant makes new ones (`bulkhead tokens create`)";
const NOT_VALID: &str = "this token is not valid: malformed, of another installation, or expired; \
                         an owner of the tenant makes new ones (`bulkhead tokens create`)";

impl FromRequestParts<App> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let mut headers = parts.headers.get_all(header::AUTHORIZATION).iter();
        let first = headers
            .next()
            .ok_or(AppError::Unauthorized("send a token: `Authorization: Bearer bh_…`"))?;
        // Whoever stands between may have looked at the other one.
        if headers.next().is_some() {
            return Err(AppError::Unauthorized("there must be one Authorization header").into());
        }
        let secret = first.to_str().ok().and_then(|value| value.strip_prefix("Bearer ")).ok_or(
            AppError::Unauthorized("the Authorization header must read `Bearer` and a token"),
        )?;
        let (claims, pass) = app.verifier.verify(secret).map_err(|error| match error {
            TokenError::Unknown => {
                AppError::DatabaseUnavailable(crate::store::StoreError::Inconsistent("revocations"))
            }
            TokenError::Revoked => AppError::Unauthorized(REVOKED),
            _ => AppError::Unauthorized(NOT_VALID),
        })?;
        let seen = parts.extensions.get::<Seen>().cloned().unwrap_or_default();
        seen.note(match claims.role {
            // What an executor reports happened anyway: it does not use up its tenant's requests.
            Role::Executor => app.rates.take_executor(claims.sub),
            _ => app.rates.take(claims.sub, claims.tenant),
        })?;
        // Before anything of the request is looked at: the description says who may.
        let rule = rules::of(&parts.method, &parts.extensions);
        if !rule.and_then(|rule| rule.needed).is_some_and(|needed| claims.role.allows(needed)) {
            let role = claims.role.as_str();
            return Err(AppError::Forbidden(format!("the role {role} may not do this")).into());
        }
        let traced = parts.extensions.get::<Traced>();
        if let Some(traced) = traced {
            // Asked once per request; a second caller would be the same one.
            let _ = traced.caller.set((claims.role, claims.tenant));
        }
        let trace = traced.map(|traced| Arc::clone(&traced.traceparent));
        let address = parts
            .extensions
            .get::<ConnectInfo<SocketAddr>>()
            .map(|ConnectInfo(address)| address.ip().to_string());
        Ok(Self::new(claims, pass, address, trace))
    }
}
