//! The subset of Starlark that Codex rule files use: calls with named arguments, strings and lists.

use super::ImportError;

/// One call, such as `prefix_rule(pattern=["git"], decision="allow")`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Call {
    pub(super) line: usize,
    pub(super) name: String,
    pub(super) arguments: Vec<(String, Value)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    Text(String),
    List(Vec<Value>),
}

/// Deepest nesting of lists.
const MAX_DEPTH: usize = 8;

pub(super) fn parse(text: &str) -> Result<Vec<Call>, ImportError> {
    let mut scan = Scan { text, at: 0 };
    let mut calls = Vec::new();
    scan.skip();
    while !scan.rest().is_empty() {
        calls.push(scan.call()?);
        scan.skip();
    }
    Ok(calls)
}

struct Scan<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scan<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn line(&self) -> usize {
        self.text[..self.at].matches('\n').count() + 1
    }

    fn fail<T>(&self, message: impl Into<String>) -> Result<T, ImportError> {
        Err(ImportError { line: self.line(), message: message.into() })
    }

    /// Skips blanks, newlines and comments.
    fn skip(&mut self) {
        loop {
            let rest = self.rest();
            let blank = rest.len() - rest.trim_start_matches([' ', '\t', '\r', '\n']).len();
            let comment = match rest[blank..].starts_with('#') {
                true => rest[blank..].find('\n').unwrap_or(rest.len() - blank),
                false => 0,
            };
            self.at += blank + comment;
            if blank + comment == 0 {
                return;
            }
        }
    }

    fn take(&mut self, c: char) -> bool {
        self.skip();
        let seen = self.rest().starts_with(c);
        if seen {
            self.at += c.len_utf8();
        }
        seen
    }

    fn expect(&mut self, c: char) -> Result<(), ImportError> {
        if self.take(c) { Ok(()) } else { self.fail(format!("`{c}` is missing here")) }
    }

    fn name(&mut self) -> Result<String, ImportError> {
        self.skip();
        let rest = self.rest();
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
        if end == 0 {
            return self.fail("only calls with named arguments, strings and lists are read");
        }
        self.at += end;
        Ok(rest[..end].to_owned())
    }

    fn call(&mut self) -> Result<Call, ImportError> {
        let line = self.line();
        let name = self.name()?;
        self.expect('(')?;
        let mut arguments: Vec<(String, Value)> = Vec::new();
        while !self.take(')') {
            let key = self.name()?;
            self.expect('=')?;
            let value = self.value(0)?;
            if arguments.iter().any(|(known, _)| *known == key) {
                return self.fail(format!("`{key}` is given twice"));
            }
            arguments.push((key, value));
            if !self.take(',') {
                self.expect(')')?;
                break;
            }
        }
        Ok(Call { line, name, arguments })
    }

    fn value(&mut self, depth: usize) -> Result<Value, ImportError> {
        if depth > MAX_DEPTH {
            return self.fail("lists are nested too deeply");
        }
        if self.take('[') {
            let mut items = Vec::new();
            while !self.take(']') {
                items.push(self.value(depth + 1)?);
                if !self.take(',') {
                    self.expect(']')?;
                    break;
                }
            }
            return Ok(Value::List(items));
        }
        for quote in ['"', '\''] {
            if self.take(quote) {
                return self.string(quote).map(Value::Text);
            }
        }
        self.fail("a string or a list belongs here")
    }

    fn string(&mut self, quote: char) -> Result<String, ImportError> {
        let mut text = String::new();
        let mut chars = self.rest().char_indices();
        while let Some((at, c)) = chars.next() {
            match c {
                c if c == quote => {
                    self.at += at + 1;
                    return Ok(text);
                }
                '\n' => break,
                '\\' => match chars.next() {
                    Some((_, 'n')) => text.push('\n'),
                    Some((_, 't')) => text.push('\t'),
                    Some((_, c @ ('\\' | '"' | '\''))) => text.push(c),
                    _ => return self.fail("a string has an escape that is not read"),
                },
                c => text.push(c),
            }
        }
        self.fail("a string is not closed")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_read() {
        let calls = parse("# a\nf(a=\"x\", b=['y', [\"z\\n\",],],)\n\ng()").unwrap();
        assert_eq!((calls[0].line, calls[0].name.as_str()), (2, "f"));
        assert_eq!(calls[0].arguments[0], ("a".into(), Value::Text("x".into())));
        let z = Value::List(vec![Value::Text("z\n".into())]);
        assert_eq!(calls[0].arguments[1].1, Value::List(vec![Value::Text("y".into()), z]));
        assert_eq!((calls[1].line, calls[1].name.as_str()), (4, "g"));
    }

    #[test]
    fn anything_else_is_an_error_with_its_line() {
        for text in [
            "x = 1",
            "f(\"a\")",
            "f(a=1)",
            "f(a=\"x\"",
            "f(a=\"x)",
            "f(a=[\"x\")",
            "load(\"x\", \"y\")",
            "def f():\n  pass",
            "f(a=\"\\q\")",
            "f(a=x)",
            "f(a=\"1\", a=\"2\")",
            "f(a=\"x\" \"y\")",
            "é",
        ] {
            assert_eq!(parse(&format!("\n{text}")).unwrap_err().line, 2, "{text}");
        }
        assert!(parse(&format!("f(a={})", "[".repeat(100_000))).is_err());
    }
}
