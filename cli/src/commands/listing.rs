//! Fetching all pages of a list and printing them as lines of JSON or as a table.

use anyhow::Result;
use serde_json::Value;

use crate::client::{Client, ClientError, Page};
use crate::console;

/// Rows fetched at most: a list for people, not an export.
const MAX_ITEMS: usize = 10_000;

/// All items of the list at `path`, over its pages.
///
/// # Errors
/// As [`Client::get`].
pub(super) async fn fetch(client: &Client, path: &str) -> Result<Vec<Value>, ClientError> {
    let mut items = Vec::new();
    let mut cursor: Option<String> = None;
    loop {
        let page: Page<Value> = client.get(&with_cursor(path, cursor.as_deref())).await?;
        items.extend(page.items);
        let next = page.next_cursor.as_ref().and_then(text_of);
        // A server that repeats itself must not keep us here.
        if next.is_none() || next == cursor || items.len() >= MAX_ITEMS {
            return Ok(items);
        }
        cursor = next;
    }
}

fn with_cursor(path: &str, cursor: Option<&str>) -> String {
    let Some(cursor) = cursor else { return path.to_owned() };
    let glue = if path.contains('?') { '&' } else { '?' };
    format!("{path}{glue}cursor={cursor}")
}

fn text_of(cursor: &Value) -> Option<String> {
    match cursor {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// Prints items: every field as JSON, or the named ones as a table.
pub(super) fn print(items: &[Value], json: bool, columns: &[&str]) -> Result<()> {
    if json {
        return Ok(items.iter().try_for_each(console::print_json)?);
    }
    let row = |item: &Value| columns.iter().map(|name| cell(item, name)).collect();
    Ok(console::print_table(columns, &items.iter().map(row).collect::<Vec<_>>())?)
}

/// Prints one document: as JSON, or a field a line.
pub(super) fn print_one(document: &Value, json: bool) -> Result<()> {
    if json {
        return Ok(console::print_json(document)?);
    }
    for name in document.as_object().into_iter().flat_map(|fields| fields.keys()) {
        console::print(format_args!("{name}: {}", console::printable(&cell(document, name))))?;
    }
    Ok(())
}

fn cell(item: &Value, name: &str) -> String {
    match &item[name] {
        Value::Null => "-".into(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cursor_joins_the_query() {
        assert_eq!(with_cursor("/v1/sessions", None), "/v1/sessions");
        assert_eq!(with_cursor("/v1/sessions", Some("x")), "/v1/sessions?cursor=x");
        assert_eq!(
            with_cursor("/v1/audit/events?limit=5", Some("9")),
            "/v1/audit/events?limit=5&cursor=9"
        );
    }
}
