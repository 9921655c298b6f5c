//! What the description of an operation says that a request must keep to: who may, which query
//! parameters there are, and whether there is a body. Looked up by the route that was matched.

use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

use axum::extract::MatchedPath;
use axum::http::{Extensions, Method};
use domain::access::Operation;
use utoipa::openapi::RefOr;
use utoipa::openapi::path::{Operation as Described, ParameterIn};

use super::{DESCRIPTION, openapi};

/// The rules of one operation.
pub(super) struct Rule {
    /// `METHOD route`.
    pub(super) name: String,
    /// The method.
    pub(super) method: &'static str,
    /// The route, as a template.
    pub(super) route: String,
    /// What a role must be allowed; none where anybody may.
    pub(super) needed: Option<Operation>,
    /// Names of its query parameters.
    pub(super) parameters: HashSet<String>,
    /// Whether it takes a body.
    pub(super) has_body: bool,
    /// Whether its body is passed on as it comes, however long that takes.
    pub(super) is_stream: bool,
}

/// Operations whose body is passed on.
const STREAMS: [&str; 3] = ["put_file", "put_workspace", "reply_to_call"];

/// By `METHOD path`.
static RULES: LazyLock<HashMap<String, Rule>> = LazyLock::new(|| {
    let paths = DESCRIPTION.paths.paths.iter();
    paths
        .flat_map(|(path, item)| {
            openapi::operations(item)
                .map(move |(method, operation)| rule(method, path, operation))
                .map(|rule| (rule.name.clone(), rule))
        })
        .collect()
});

fn rule(method: &'static str, path: &str, operation: &Described) -> Rule {
    let parameters = operation.parameters.iter().flatten();
    let parameters = parameters.filter_map(|parameter| match parameter {
        RefOr::T(parameter) if parameter.parameter_in == ParameterIn::Query => {
            Some(parameter.name.clone())
        }
        _ => None,
    });
    Rule {
        name: format!("{method} {path}"),
        method,
        route: path.into(),
        needed: openapi::needed(operation),
        parameters: parameters.collect(),
        has_body: operation.request_body.is_some(),
        is_stream: operation.operation_id.as_deref().is_some_and(|id| STREAMS.contains(&id)),
    }
}

/// The rules of the operation that a request was routed to; none for what is no operation.
pub(super) fn of(method: &Method, extensions: &Extensions) -> Option<&'static Rule> {
    let path = extensions.get::<MatchedPath>()?.as_str().replace("{*", "{");
    // What answers GET answers HEAD.
    let method = if method == Method::HEAD { &Method::GET } else { method };
    RULES.get(&format!("{method} {path}"))
}
