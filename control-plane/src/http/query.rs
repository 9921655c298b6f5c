//! Refuses query parameters that the description of an operation does not know, on every route: a
//! misspelt filter must not answer with everything.

use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

use axum::extract::{MatchedPath, Request};
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use utoipa::openapi::RefOr;
use utoipa::openapi::path::{Operation, ParameterIn};

use super::{ApiError, DESCRIPTION, openapi};

type Names = HashSet<String>;

/// Known names by `METHOD path`.
static KNOWN: LazyLock<HashMap<String, Names>> = LazyLock::new(|| {
    let paths = DESCRIPTION.paths.paths.iter();
    paths
        .flat_map(|(path, item)| {
            openapi::operations(item)
                .map(move |(method, operation)| (format!("{method} {path}"), names(operation)))
        })
        .collect()
});

fn names(operation: &Operation) -> Names {
    let parameters = operation.parameters.iter().flatten();
    parameters
        .filter_map(|parameter| match parameter {
            RefOr::T(parameter) if parameter.parameter_in == ParameterIn::Query => {
                Some(parameter.name.clone())
            }
            _ => None,
        })
        .collect()
}

/// See the module.
pub async fn refuse_unknown(request: Request, next: Next) -> Response {
    match unknown(&request) {
        Some(name) => {
            let detail = format!("this operation has no parameter `{name}`");
            ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_query", detail).into_response()
        }
        None => next.run(request).await,
    }
}

fn unknown(request: &Request) -> Option<String> {
    let query = request.uri().query().filter(|query| !query.is_empty())?;
    let path = request.extensions().get::<MatchedPath>()?.as_str().replace("{*", "{");
    let known = KNOWN.get(&format!("{} {path}", request.method()))?;
    let names = query.split('&').filter(|pair| !pair.is_empty());
    names
        .map(|pair| pair.split('=').next().unwrap_or_default())
        .find(|name| !known.contains(*name))
        .map(|name| name.chars().take(64).collect())
}
