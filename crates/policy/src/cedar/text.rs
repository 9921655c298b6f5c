//! The text of a policy file: its single policies, and the tests between them.
//!
//! Each policy is parsed alone, so that every error has a place and every policy its own id.

use super::position::PolicyError;
use crate::decision::Outcome;

/// A piece of the text.
#[derive(Debug, Clone, Copy)]
pub(super) struct Piece<'a> {
    pub(super) offset: usize,
    pub(super) text: &'a str,
}

/// A test that the policy carries: `// test: allow: ls -la`.
#[derive(Debug, Clone)]
pub(super) struct Test<'a> {
    pub(super) offset: usize,
    pub(super) expect: Outcome,
    /// `role=agent`, `environment=production`, `cwd=/work/x`.
    pub(super) settings: Vec<(&'a str, &'a str)>,
    pub(super) command: &'a str,
}

/// Cuts the text behind each `;` that is neither in a string nor in a comment.
pub(super) fn policies(text: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let mut start = None;
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        match c {
            '/' if chars.peek().is_some_and(|(_, next)| *next == '/') => {
                while chars.next_if(|(_, c)| *c != '\n').is_some() {}
                continue;
            }
            c if c.is_whitespace() => continue,
            _ => {}
        }
        let from = *start.get_or_insert(at);
        match c {
            '"' => skip_string(&mut chars),
            ';' => {
                pieces.push(Piece { offset: from, text: &text[from..=at] });
                start = None;
            }
            _ => {}
        }
    }
    pieces.extend(start.map(|from| Piece { offset: from, text: &text[from..] }));
    pieces
}

fn skip_string(chars: &mut std::iter::Peekable<std::str::CharIndices<'_>>) {
    while let Some((_, c)) = chars.next() {
        match c {
            '\\' => drop(chars.next()),
            '"' => return,
            _ => {}
        }
    }
}

/// The text with strings and comments blanked out, byte for byte: what is left is code.
pub(super) fn code(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => skip_string(&mut chars),
            '/' if chars.peek().is_some_and(|(_, next)| *next == '/') => {
                while chars.next_if(|(_, c)| *c != '\n').is_some() {}
            }
            c => code.push(c),
        }
        let end = chars.peek().map_or(text.len(), |(at, _)| *at);
        let blanks = end - at - if code.len() > at { c.len_utf8() } else { 0 };
        code.extend(std::iter::repeat_n(' ', blanks));
    }
    code
}

/// The tests: one comment line each.
pub(super) fn tests(text: &str) -> Result<Vec<Test<'_>>, PolicyError> {
    let mut tests = Vec::new();
    let mut offset = 0;
    for line in text.split_inclusive('\n') {
        let trimmed = line.trim_start();
        let at = offset + line.len() - trimmed.len();
        if let Some(rest) = trimmed.strip_prefix("// test") {
            let rest = rest.trim_end_matches(['\n', '\r']);
            // Words like `// tests` and `// testing` are comments like any other.
            if rest.starts_with([':', ' ', '(']) {
                let test = parse_test(at, rest).ok_or_else(|| {
                    PolicyError::at(
                        text,
                        at,
                        "a test reads `// test: allow: COMMAND`, with ask or deny in the place of allow, \
                         or `// test: deny (role=agent, environment=production, cwd=/work/x): COMMAND`",
                    )
                })?;
                tests.push(test);
            }
        }
        offset += line.len();
    }
    Ok(tests)
}

fn parse_test(offset: usize, rest: &str) -> Option<Test<'_>> {
    let rest = rest.strip_prefix(':')?.trim_start();
    let end = rest.find(|c: char| !c.is_ascii_lowercase())?;
    let expect = Outcome::from_name(&rest[..end])?;
    let rest = rest[end..].trim_start();
    let (settings, rest) = match rest.strip_prefix('(') {
        Some(rest) => rest.split_once(')')?,
        None => ("", rest),
    };
    let command = rest.trim_start().strip_prefix(':')?.trim();
    let settings = settings
        .split(',')
        .map(str::trim)
        .filter(|setting| !setting.is_empty())
        .map(|setting| {
            let (name, value) = setting.split_once('=')?;
            let (name, value) = (name.trim(), value.trim());
            ["role", "environment", "cwd", "session"].contains(&name).then_some((name, value))
        })
        .collect::<Option<Vec<_>>>()?;
    (!command.is_empty()).then_some(Test { offset, expect, settings, command })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_semicolon_in_a_string_or_comment_ends_nothing() {
        let text = "// a; b\n@id(\"a;\\\"b;\") permit (x); // c;\n forbid (y) ; z";
        let pieces: Vec<_> = policies(text).iter().map(|piece| piece.text).collect();
        assert_eq!(pieces, ["@id(\"a;\\\"b;\") permit (x);", "forbid (y) ;", "z"]);
        assert_eq!(policies(text)[1].offset, text.find("forbid").unwrap());
    }

    #[test]
    fn code_keeps_its_places() {
        let text = "a(\"b;(\\\"\") /* // ä(\n;é\"x";
        let code = code(text);
        assert_eq!(code.len(), text.len());
        assert_eq!(code.replace(' ', ""), "a()/*\n;é");
        assert_eq!(code.find(';'), text.rfind(';'));
    }

    #[test]
    fn tests_are_read_with_their_settings() {
        let text = "// test: allow: ls\n  // test: deny (role=agent, cwd=/work/a): git push: x\n// testing";
        let tests = tests(text).unwrap();
        assert_eq!(tests.len(), 2);
        assert_eq!(tests[1].expect, Outcome::Deny);
        assert_eq!(tests[1].settings, [("role", "agent"), ("cwd", "/work/a")]);
        assert_eq!(tests[1].command, "git push: x");
    }

    #[test]
    fn a_test_with_a_slip_is_an_error_with_its_place() {
        for bad in [
            "// test: alow: ls",
            "// test allow: ls",
            "// test: allow:",
            "// test: allow (color=red): ls",
        ] {
            let error = tests(&format!("\n  {bad}")).unwrap_err();
            assert_eq!((error.line, error.column), (2, 3), "{bad}");
        }
    }
}
