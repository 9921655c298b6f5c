//! Lists come in pages: items, and a cursor for the next page, which is the last item's own id.

use domain::limits::MAX_PAGE;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::ApiError;

/// The query string of a list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct PageParams {
    /// `next_cursor` of the page before.
    pub cursor: Option<String>,
    /// Items per page.
    pub limit: Option<i64>,
}

/// One page of a list.
#[derive(Debug, Serialize, ToSchema)]
pub struct Page<T> {
    items: Vec<T>,
    next_cursor: Option<String>,
}

impl<T> Page<T> {
    /// A page of at most `limit` items; `id` gives an item's place.
    pub fn new(items: Vec<T>, limit: i64, id: impl Fn(&T) -> String) -> Self {
        let is_full = i64::try_from(items.len()).is_ok_and(|count| count == limit);
        let next_cursor = items.last().filter(|_| is_full).map(id);
        Self { items, next_cursor }
    }
}

/// The number of items that a request wants, within bounds.
///
/// # Errors
/// When it is out of bounds.
pub fn checked_limit(limit: Option<i64>) -> Result<i64, ApiError> {
    let limit = limit.unwrap_or(50);
    if (1..=MAX_PAGE).contains(&limit) {
        return Ok(limit);
    }
    let detail = format!("limit must be between 1 and {MAX_PAGE}");
    Err(ApiError::new(axum::http::StatusCode::UNPROCESSABLE_ENTITY, "invalid_limit", detail))
}

/// The cursor of a request as an id.
///
/// # Errors
/// When it is none of ours.
pub fn checked_cursor<T: std::str::FromStr>(
    cursor: Option<&String>,
) -> Result<Option<T>, ApiError> {
    cursor
        .map(|text| {
            text.parse().map_err(|_| {
                let detail = "cursor must be a next_cursor that this list gave";
                ApiError::new(
                    axum::http::StatusCode::UNPROCESSABLE_ENTITY,
                    "invalid_cursor",
                    detail,
                )
            })
        })
        .transpose()
}
