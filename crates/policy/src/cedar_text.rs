//! Cedar's own quoting, for rules that the engine writes.

/// A Cedar string. Control characters are written by number.
pub(crate) fn literal(text: &str) -> String {
    format!("\"{}\"", escape(text, false))
}

/// The inside of a `like` pattern that means this text.
pub(crate) fn like_pattern(text: &str) -> String {
    escape(text, true)
}

fn escape(text: &str, pattern: bool) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '*' if pattern => out.push_str("\\*"),
            c if c.is_control() => out.push_str(&format!("\\u{{{:x}}}", u32::from(c))),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_special_is_escaped() {
        assert_eq!(literal("a\"b\\c\n*"), r#""a\"b\\c\u{a}*""#);
        assert_eq!(like_pattern("a*\""), r#"a\*\""#);
    }
}
