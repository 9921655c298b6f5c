//! sed scripts that only print and change text. A positive list of commands: `w`, `W`, `r`, `R`, `e`
//! and the flags `w` and `e` of `s` read, write or execute and are missing on purpose.

use super::bracket;

type Checked<T> = Result<T, String>;

/// Deepest nesting of `{`.
const MAX_DEPTH: usize = 8;

/// Checks a script.
pub(super) fn check(script: &str) -> Checked<()> {
    if script.starts_with('-') {
        return Err("it reads as an option".into());
    }
    let mut scan = Scan { rest: script };
    let mut depth = 0;
    loop {
        scan.skip(" ;\n");
        if scan.rest.is_empty() {
            return if depth == 0 { Ok(()) } else { Err("a `{` is not closed".into()) };
        }
        if scan.take('}') {
            depth = usize::checked_sub(depth, 1).ok_or("a `}` is not opened")?;
            scan.ends_command()?;
            continue;
        }
        scan.addresses()?;
        match scan.command()? {
            '{' if depth < MAX_DEPTH => depth += 1,
            '{' => return Err("it is nested too deeply".into()),
            _ => scan.ends_command()?,
        }
    }
}

struct Scan<'a> {
    rest: &'a str,
}

impl<'a> Scan<'a> {
    fn next(&mut self) -> Option<char> {
        let mut chars = self.rest.chars();
        let c = chars.next();
        self.rest = chars.as_str();
        c
    }

    fn take(&mut self, c: char) -> bool {
        match self.rest.strip_prefix(c) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn skip(&mut self, any: &str) {
        self.rest = self.rest.trim_start_matches(|c| any.contains(c));
    }

    fn digits(&mut self) -> &'a str {
        let end = self.rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(self.rest.len());
        let (digits, rest) = self.rest.split_at(end);
        self.rest = rest;
        digits
    }

    /// `5`, `$`, `/re/I`, `0~3`, `1,5`, `/a/,+3`, and a `!` behind them.
    fn addresses(&mut self) -> Checked<()> {
        if self.address()? {
            self.skip(" ");
            if self.take(',') {
                self.skip(" ");
                let relative = self.take('+') || self.take('~');
                let found = if relative { !self.digits().is_empty() } else { self.address()? };
                if !found {
                    return Err("a range lacks its end".into());
                }
                self.skip(" ");
            }
            if self.take('!') {
                self.skip(" ");
            }
        }
        Ok(())
    }

    fn address(&mut self) -> Checked<bool> {
        if self.take('$') {
            return Ok(true);
        }
        if !self.digits().is_empty() {
            return match self.take('~') && self.digits().is_empty() {
                true => Err("a step lacks its number".into()),
                false => Ok(true),
            };
        }
        if self.take('/') {
            self.delimited('/')?;
            while self.take('I') || self.take('M') {}
            return Ok(true);
        }
        Ok(false)
    }

    /// Reads one command without what ends it.
    fn command(&mut self) -> Checked<char> {
        let command = self.next().ok_or("an address has no command")?;
        match command {
            '{' | 'p' | 'P' | 'd' | 'D' | 'h' | 'H' | 'g' | 'G' | 'x' | 'n' | 'N' | '=' | 'l' => {}
            'q' | 'Q' => {
                self.digits();
            }
            's' => self.substitute()?,
            'a' | 'i' | 'c' => self.text()?,
            ':' | 'b' | 't' | 'T' => self.label(command == ':')?,
            'y' => {
                let delimiter = self.delimiter()?;
                self.delimited(delimiter)?;
                self.delimited(delimiter)?;
            }
            _ => return Err(format!("sed's `{command}` is not on the list of harmless commands")),
        }
        Ok(command)
    }

    /// `a text`: up to the end of the line it is text, whatever it looks like. Without backslashes, which
    /// could make the next line part of it.
    fn text(&mut self) -> Checked<()> {
        let line = self.rest.split('\n').next().unwrap_or_default();
        if line.trim_start_matches(' ').is_empty() || line.contains('\\') {
            return Err("a text is empty, or has a backslash".into());
        }
        self.rest = &self.rest[line.len()..];
        Ok(())
    }

    /// Letters and digits. To some, a label goes on to the end of the line: less would be run then.
    fn label(&mut self, needed: bool) -> Checked<()> {
        self.skip(" ");
        let end = self.rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let end = end.unwrap_or(self.rest.len());
        self.rest = &self.rest[end..];
        match needed && end == 0 {
            true => Err("a label has no plain name".into()),
            false => Ok(()),
        }
    }

    fn substitute(&mut self) -> Checked<()> {
        let delimiter = self.delimiter()?;
        self.delimited(delimiter)?;
        self.delimited(delimiter)?;
        while let Some(c) = self.rest.chars().next() {
            match c {
                'g' | 'p' | 'i' | 'I' | 'm' | 'M' => drop(self.next()),
                '1'..='9' => drop(self.digits()),
                ' ' | ';' | '\n' | '}' => break,
                _ => return Err(format!("the flag `{c}` of sed's `s` is not on the list")),
            }
        }
        Ok(())
    }

    fn delimiter(&mut self) -> Checked<char> {
        match self.next() {
            Some(c) if "/|,#:@!%+_".contains(c) => Ok(c),
            _ => Err("sed's delimiter is not a plain one".into()),
        }
    }

    /// Reads up to the delimiter. Whether a bracket counts in what replaces differs: it does here.
    fn delimited(&mut self, delimiter: char) -> Checked<()> {
        while let Some(c) = self.next() {
            match c {
                '\n' => return Err("a pattern runs over a line".into()),
                '\\' if self.next().is_none_or(|c| c == '\n') => break,
                '\\' => {}
                _ if c == delimiter => return Ok(()),
                '[' => self.rest = &self.rest[bracket::length(self.rest, delimiter, false)?..],
                _ => {}
            }
        }
        Err("a pattern is not closed".into())
    }

    fn ends_command(&mut self) -> Checked<()> {
        self.skip(" ");
        match self.rest.chars().next() {
            None | Some(';' | '\n' | '}') => Ok(()),
            Some(c) => Err(format!("`{c}` stands behind a command of sed")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::check;

    #[test]
    fn printing_and_changing_text_is_harmless() {
        for good in [
            "1,5p",
            "10p",
            "$p",
            "/re/p",
            "/a/,/b/p",
            "s/a/b/",
            "s/a/b/g",
            "s|/usr|/opt|gp",
            "1d;2d",
            "/x/!d",
            "1{p;q}",
            "s/a/b/;s/c/d/",
            "y/abc/xyz/",
            "0~3p",
            "5,+3p",
            "$!d",
            "=",
            "/a/I p",
            "2q",
            "s/\\//x/",
            "1~2d",
            "{p}",
            "s/[0-9]*/N/3",
            "s/[[:space:]]*$//",
            "/^[^#]/p",
            "s|[^/]*$||",
            "1i header",
            "/foo/a bar; w x",
            "$a  the end",
            "2c ab",
            ":a;N;$!ba;s/\\n/ /g",
            ":a;s/x/y/;ta",
            ":a\nN\n$!{ba}\np",
            "/x/b;p",
            "/x/bend;p;:end",
            "s/^[ \\t]*//",
            "s/[\\s\\w]/x/",
            "/a/,/b/p",
        ] {
            assert!(check(good).is_ok(), "{good}: {:?}", check(good));
        }
    }

    #[test]
    fn writing_reading_and_executing_are_not() {
        for bad in [
            "w pwned",
            "1w pwned",
            "W x",
            "r /etc/passwd",
            "R x",
            "e",
            "1e touch x",
            "s/a/b/e",
            "s/a/b/w x",
            "s/a/b/gw x",
            "s/a/touch x/ge",
            "s/a/b/ e",
            "pw x",
            "p w x",
            "a",
            "a ",
            "i\\",
            "i\\\nx",
            "a x\\\nw y",
            "a x\nw y",
            "1{a x}",
            "F",
            "v",
            ":",
            ": ;w x",
            ":a w x",
            "ba w x",
            "b;w x",
            ":a\nw x",
            "tw x;w x",
            "s/[\\/]/;w x/",
            "s/[\\]]/;w x/",
            "1{w x\n}",
            "/x/w y",
            "s/[/]/e",
            "s/[/]/x/",
            "s\ta\tb\te",
            "s1a1b1e",
            "-i",
            "}",
            "{p",
            "s/a/b",
            "s/a\n/b/",
            "1,p",
            "1~p",
            "\\xax w y",
            "#n",
            "1,5!w x",
            "s/x/y/;w z",
            "z",
            "s/a/b/mw x",
            "y/a/b/w x",
            "s/\\",
            "s/a/[/;w x/",
            "s/[a\\]/w x/",
            "1!w x",
            "$!{w x}",
            "s/[]/]/g;s|/;w x|y|",
            "s/[^]/]/g;s|/;w x|y|",
            "s/[[:alpha:]/]/g;s|/;w x|y|",
            "s/[[.a.]/]/g;s|/;w x|y|",
            "/[]/]/p;s|/;w x|y|",
            "y/[]/]/ab/;s|/;w x|y|",
        ] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn nesting_is_bounded() {
        assert!(check(&"{".repeat(10_000)).is_err());
    }
}
