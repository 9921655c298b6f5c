//! Postgres stores no NUL character, in text or in jsonb. Commands and models may produce one.

use serde_json::Value;

/// What stands in for a NUL character.
const REPLACEMENT: &str = "\u{fffd}";

/// The text without NUL characters.
pub(super) fn clean_text(text: &str) -> String {
    text.replace('\0', REPLACEMENT)
}

/// The value with no NUL character in any text or name.
pub(super) fn clean(value: Value) -> Value {
    match value {
        Value::String(text) => Value::String(clean_text(&text)),
        Value::Array(items) => Value::Array(items.into_iter().map(clean).collect()),
        Value::Object(fields) => Value::Object(
            fields.into_iter().map(|(name, value)| (clean_text(&name), clean(value))).collect(),
        ),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn no_nul_is_left_anywhere() {
        let dirty = json!({ "a\0": ["x\0y", { "b": "\0" }], "n": 1 });
        assert!(!clean(dirty).to_string().contains("u0000"));
    }
}
