//! The bearer token of a request becomes its caller. Nothing else in a request names a tenant.

use std::net::SocketAddr;

use axum::extract::{ConnectInfo, FromRequestParts};
use axum::http::header;
use axum::http::request::Parts;
use domain::access::Role;

use super::ApiError;
use super::rates::Seen;
use super::rules;
use crate::app::{App, AppError, Caller};
use crate::tokens::TokenError;

impl FromRequestParts<App> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let secret = parts
            .headers
            .get(header::AUTHORIZATION)
            .ok_or(AppError::Unauthorized("send a token: `Authorization: Bearer bh_…`"))?
            .to_str()
            .ok()
            .and_then(|value| value.strip_prefix("Bearer "))
            .ok_or(AppError::Unauthorized(
                "the Authorization header must read `Bearer` and a token",
            ))?;
        let (claims, pass) = app.verifier.verify(secret).map_err(|error| match error {
            TokenError::Unknown => {
                AppError::DatabaseUnavailable(crate::store::StoreError::Inconsistent("revocations"))
            }
            TokenError::Revoked => AppError::Unauthorized("this token was revoked"),
            _ => AppError::Unauthorized("this token is not valid: malformed, foreign or expired"),
        })?;
        // An executor reports what happened anyway: it is not slowed down.
        if claims.role != Role::Executor {
            let standing = app.rates.take(claims.sub, claims.tenant);
            parts.extensions.get::<Seen>().cloned().unwrap_or_default().note(standing)?;
        }
        // Before anything of the request is looked at: the description says who may.
        let rule = rules::of(&parts.method, &parts.extensions);
        if !rule.and_then(|rule| rule.needed).is_some_and(|needed| claims.role.allows(needed)) {
            let role = claims.role.as_str();
            return Err(AppError::Forbidden(format!("the role {role} may not do this")).into());
        }
        let address = parts
            .extensions
            .get::<ConnectInfo<SocketAddr>>()
            .map(|ConnectInfo(address)| address.ip().to_string());
        Ok(Self::new(claims, pass, address))
    }
}
