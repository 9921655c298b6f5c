//! Begins a trace with every request that a role may make, but for those of executors, whose work
//! is in the traces of the execs that it is for. What a client says of traces is not believed: one
//! tenant must not write into the trace of another.

use std::sync::{Arc, OnceLock};

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use domain::access::{Operation, Role};
use domain::ids::TenantId;
use traces::{Attribute, Kind, Span};

use super::rules;

/// The trace of a request, and who turned out to make it.
#[derive(Clone)]
pub(super) struct Traced {
    /// For what comes after.
    pub(super) traceparent: Arc<str>,
    /// Set by the extractor of the caller.
    pub(super) caller: Arc<OnceLock<(Role, Option<TenantId>)>>,
}

/// See the module.
pub(super) async fn trace(mut request: Request, next: Next) -> Response {
    let rule = rules::of(request.method(), request.extensions());
    let is_ours = |needed: Operation| needed != Operation::Execute;
    let Some(rule) = rule.filter(|rule| rule.needed.is_some_and(is_ours)) else {
        return next.run(request).await;
    };
    let mut span = Span::root(rule.name.as_str(), Kind::Server);
    let Some(traceparent) = span.traceparent() else { return next.run(request).await };
    let traced = Traced { traceparent: traceparent.into(), caller: Arc::default() };
    request.extensions_mut().insert(traced.clone());
    span.set(Attribute::method(rule.method));
    span.set(Attribute::route(&rule.route));
    let response = next.run(request).await;
    if let Some((role, tenant)) = traced.caller.get() {
        span.set(Attribute::role(role.as_str()));
        if let Some(tenant) = tenant {
            span.set(Attribute::tenant(tenant));
        }
    }
    span.set(Attribute::status(response.status().as_u16()));
    if response.status().is_server_error() {
        span.fail();
    }
    response
}
