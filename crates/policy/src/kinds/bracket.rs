//! Bracket expressions in the patterns of sed and awk. Programs differ about where one ends, and with
//! it the pattern: what is in doubt is refused, so that code cannot hide as part of a pattern.

/// How long a bracket expression is, from behind its `[` to and with its `]`. In awk a backslash
/// escapes inside of it, in sed it does not.
pub(super) fn length(text: &str, delimiter: char, escapes: bool) -> Result<usize, String> {
    let body = text.strip_prefix('^').unwrap_or(text);
    if body.starts_with(']') {
        return Err("a bracket begins with `]`".into());
    }
    let mut at = text.len() - body.len();
    let mut has_class = false;
    while let Some(c) = text[at..].chars().next() {
        let behind = &text[at + c.len_utf8()..];
        at += c.len_utf8();
        match c {
            ']' => return Ok(at),
            '\n' => break,
            _ if c == delimiter => return Err("a bracket holds the delimiter".into()),
            '\\' if escapes => match behind.chars().next() {
                None | Some('\n' | '[' | ']') => {
                    return Err("a bracket has a bracket behind a backslash".into());
                }
                Some(escaped) => at += escaped.len_utf8(),
            },
            // `[ \t]`: whether it is a tab or two characters, the bracket ends where it ends.
            '\\' if behind.starts_with(['t', 'n', 'r', 'f', 'v', 's', 'S', 'w', 'W']) => {}
            '\\' => return Err("a bracket has a backslash".into()),
            '[' if behind.starts_with(['.', '=']) => {
                return Err("a bracket names a collating element".into());
            }
            '[' if behind.starts_with(':') => {
                let (name, _) =
                    behind[1..].split_once(":]").ok_or("a class of characters is not closed")?;
                if !name.bytes().all(|byte| byte.is_ascii_lowercase()) {
                    return Err("a bracket names an odd class of characters".into());
                }
                at += name.len() + 3;
                has_class = true;
            }
            // To some, a bracket of its own begins there.
            '[' if has_class => return Err("a bracket holds a bracket behind a class".into()),
            _ => {}
        }
    }
    Err("a bracket is not closed".into())
}

#[cfg(test)]
mod tests {
    use super::length;

    #[test]
    fn it_ends_where_every_program_ends_it() {
        for (text, end) in [
            ("a]", 2),
            ("^a]b", 3),
            ("0-9]*]", 4),
            ("[:space:]]x", 10),
            ("^[:alpha:]_]", 12),
            ("a[b]]", 4),
            ("é]", 3),
        ] {
            assert_eq!(length(text, '/', false), Ok(end), "{text}");
            assert_eq!(length(text, '/', true), Ok(end), "{text}");
        }
        assert_eq!(length("\\/a]", '/', true), Ok(4));
        assert_eq!(length(" \\t\\n]x", '/', false), Ok(6));
        assert_eq!(length("\\\\]", '/', true), Ok(3));
    }

    #[test]
    fn where_programs_differ_it_is_refused() {
        for text in [
            "",
            "]",
            "]a]",
            "^]",
            "^]/]",
            "a",
            "/]",
            "a/]",
            "[:alpha:]/]",
            "[:al/ha:]]",
            "[:]",
            "[:alpha]",
            "[.a.]]",
            "[=a=]]",
            "a\n]",
            "\\]]",
            "\\[a]",
            "\\",
            "\\\n]",
            "[:alpha:][]",
            "[:alpha:]x[^]",
            "^[:alpha:][a]",
        ] {
            assert!(length(text, '/', false).is_err(), "{text:?}");
            assert!(length(text, '/', true).is_err(), "{text:?}");
        }
        assert!(length("\\/a]", '/', false).is_err());
        assert!(length("a|]", '|', true).is_err());
    }
}
