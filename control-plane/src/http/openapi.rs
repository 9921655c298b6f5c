//! The API's description, made from the handlers: what is routed is described, and the reverse.
//!
//! An operation names what it takes in its security scope, a name of
//! [`domain::access::Operation`]; the roles that may do it are worked out from there.

use axum::Json;
use domain::access::{Operation, Role};
use serde_json::json;
use utoipa::openapi::path::Operation as Described;
use utoipa::openapi::response::Response;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{Content, OpenApi, PathItem, Ref, RefOr};
use utoipa::{IntoParams, OpenApi as _, ToSchema};

/// The name of the one way to authenticate.
const SCHEME: &str = "token";

/// What stands around the operations.
#[derive(utoipa::OpenApi)]
#[openapi(
    info(title = "Bulkhead", description = "Runs AI agents' shell commands for many tenants."),
    components(schemas(Problem, Role, domain::ids::CallId))
)]
struct Frame;

/// Any error.
#[derive(ToSchema)]
#[allow(dead_code)] // described here, written by `ApiError`
struct Problem {
    /// `urn:bulkhead:problem:` and the code.
    r#type: String,
    /// The status in words.
    title: String,
    /// The status.
    #[schema(minimum = 400, maximum = 599)]
    status: u16,
    /// Stable name.
    code: String,
    /// What was wrong, and what to do.
    detail: String,
}

/// Bytes as they are.
#[derive(ToSchema)]
#[schema(value_type = String, format = Binary)]
#[allow(dead_code)]
pub struct Raw(Vec<u8>);

/// Makes a repeat harmless.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[allow(dead_code)]
pub struct IdempotencyHeader {
    /// Chosen by the caller; the same key and body have one effect and one answer for a day.
    #[param(rename = "Idempotency-Key", min_length = 1, max_length = 255)]
    idempotency_key: Option<String>,
}

/// Where a stream goes on.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[allow(dead_code)]
pub struct LastEventIdHeader {
    /// The id of the last event that was seen.
    #[param(rename = "Last-Event-ID")]
    last_event_id: Option<i64>,
}

/// Which start of which executor speaks.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[allow(dead_code)]
pub struct ReporterHeaders {
    /// Its id.
    #[param(rename = "bulkhead-executor", value_type = String)]
    executor: String,
    /// Its epoch, from its enrolment.
    #[param(rename = "bulkhead-epoch", value_type = u64)]
    epoch: u64,
}

/// The frame that operations are added to.
pub fn frame() -> OpenApi {
    Frame::openapi()
}

/// Completes a collected description: how to authenticate, who may, what an error looks like.
pub fn complete(mut api: OpenApi) -> OpenApi {
    let mut bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("bh_ JWT");
    bearer = bearer.description(Some("A token; the scope names what its role must be allowed."));
    api.components
        .get_or_insert_default()
        .add_security_scheme(SCHEME, SecurityScheme::Http(bearer.build()));
    // A wildcard of the router is an ordinary parameter to everybody else.
    api.paths.paths = std::mem::take(&mut api.paths.paths)
        .into_iter()
        .map(|(path, item)| (path.replace("{*", "{"), item))
        .collect();
    for operation in api.paths.paths.values_mut().flat_map(operations_mut) {
        complete_operation(operation);
    }
    api
}

fn complete_operation(operation: &mut Described) {
    if let Some(needed) = needed(operation) {
        let roles: Vec<Role> = Role::ALL.into_iter().filter(|role| role.allows(needed)).collect();
        let mut extensions = operation.extensions.take().unwrap_or_default();
        extensions.insert("x-roles".into(), json!(roles));
        operation.extensions = Some(extensions);
    }
    let schema = RefOr::Ref(Ref::from_schema_name("Problem"));
    let problem = Response::builder()
        .description("What was wrong, where, and what to do.")
        .content("application/problem+json", Content::new(Some(schema)))
        .build();
    operation.responses.responses.insert("default".into(), problem.into());
}

/// What an operation takes, by its security scope; none for those that anybody may do.
pub fn needed(operation: &Described) -> Option<Operation> {
    let requirement = operation.security.as_ref()?.first()?;
    let value = serde_json::to_value(requirement).ok()?;
    Operation::from_name(value.get(SCHEME)?.get(0)?.as_str()?)
}

/// The operations of a path with their methods.
pub fn operations(item: &PathItem) -> impl Iterator<Item = (&'static str, &Described)> {
    let all =
        [("GET", &item.get), ("PUT", &item.put), ("POST", &item.post), ("DELETE", &item.delete)];
    all.into_iter().filter_map(|(method, operation)| Some((method, operation.as_ref()?)))
}

fn operations_mut(item: &mut PathItem) -> impl Iterator<Item = &mut Described> {
    [&mut item.get, &mut item.put, &mut item.post, &mut item.delete].into_iter().flatten()
}

/// This description.
#[utoipa::path(
    get, path = "/openapi.json", operation_id = "get_openapi", tag = "operations",
    security(()),
    responses((status = 200, body = serde_json::Value)),
)]
pub async fn document() -> Json<&'static OpenApi> {
    Json(&super::DESCRIPTION)
}
