//! The plain subset of bash: simple commands joined by `&&`, `||`, `;`, `|` and newlines, words with
//! quotes, redirections to nowhere. One pass over the text, no recursion, a positive list of bytes.
//!
//! Whatever is outside is refused here with the reason; `opinions` then has to agree with what is left.

use std::ops::Range;

use crate::unclear::{Clear, refuse};

/// Most simple commands in one script.
pub(super) const MAX_COMMANDS: usize = 20;

/// Most words in one script: what the other parsers take for it grows faster than its length.
const MAX_WORDS: usize = 1000;

/// Words that bash gives a meaning of their own where a command name stands.
const KEYWORDS: &[&str] = &[
    "if", "then", "else", "elif", "fi", "for", "while", "until", "do", "done", "case", "esac",
    "select", "function", "time", "coproc", "in",
];

/// How a command is joined to the one before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Joiner {
    And,
    Or,
    Pipe,
    /// `;` or a newline; also the joiner of the first command.
    Sequence,
}

/// One word: where it stands, and what bash makes of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Word {
    pub(crate) span: Range<usize>,
    pub(crate) text: String,
}

/// One simple command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Simple {
    pub(crate) joiner: Joiner,
    pub(crate) words: Vec<Word>,
    /// Where its redirections stand.
    pub(crate) redirects: Vec<Range<usize>>,
}

/// Splits a script into its simple commands.
pub(crate) fn split(text: &str) -> Clear<Vec<Simple>> {
    let mut scan = Scan { text, at: 0, program: String::new() };
    let mut commands: Vec<Simple> = Vec::new();
    let mut current = Simple::after(Joiner::Sequence);
    let mut words = 0;
    loop {
        scan.skip_blanks();
        let Some(byte) = scan.peek() else { break };
        match byte {
            b'\n' if current.is_empty() => scan.at += 1,
            b'\n' | b';' | b'|' | b'&' if !scan.sees("&>") => {
                let joiner = scan.joiner()?;
                let next = Simple::after(joiner);
                commands.push(std::mem::replace(&mut current, next).finished(text)?);
                if commands.len() >= MAX_COMMANDS {
                    scan.nothing_follows()?;
                }
            }
            _ => match scan.redirect()? {
                Some(span) => current.redirects.push(span),
                None if current.redirects.is_empty() => {
                    scan.program =
                        current.words.first().map_or_else(String::new, |w| w.text.clone());
                    current.words.push(scan.word()?);
                    words += 1;
                    if words > MAX_WORDS {
                        return refuse("it has more than 1000 words");
                    }
                }
                None => return refuse("an argument stands behind a redirection"),
            },
        }
    }
    match (current.is_empty(), current.joiner) {
        (false, _) => commands.push(current.finished(text)?),
        (true, Joiner::Sequence) => {}
        (true, _) => return refuse("its last operator has no command behind it"),
    }
    if commands.is_empty() { refuse("it is empty") } else { Ok(commands) }
}

impl Simple {
    fn after(joiner: Joiner) -> Self {
        Self { joiner, words: Vec::new(), redirects: Vec::new() }
    }

    fn is_empty(&self) -> bool {
        self.words.is_empty() && self.redirects.is_empty()
    }

    /// Checks what can only be checked of a whole command.
    fn finished(self, text: &str) -> Clear<Self> {
        let Some(name) = self.words.first() else {
            return refuse("an operator or a redirection has no command");
        };
        let raw = &text[name.span.clone()];
        if raw.contains('=') {
            return refuse("it sets a shell variable");
        }
        if KEYWORDS.contains(&raw) {
            return refuse(format!("`{raw}` is a keyword of the shell"));
        }
        if raw != name.text {
            return refuse("the name of a program is quoted");
        }
        Ok(self)
    }
}

struct Scan<'a> {
    text: &'a str,
    at: usize,
    /// The program that the words belong to: some read as text what others need not.
    program: String,
}

impl Scan<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn sees(&self, prefix: &str) -> bool {
        self.text[self.at..].starts_with(prefix)
    }

    fn take(&mut self, prefix: &str) -> bool {
        let seen = self.sees(prefix);
        if seen {
            self.at += prefix.len();
        }
        seen
    }

    fn skip_blanks(&mut self) {
        while self.take(" ") {}
    }

    fn joiner(&mut self) -> Clear<Joiner> {
        for (text, joiner) in [
            ("&&", Joiner::And),
            ("||", Joiner::Or),
            ("|", Joiner::Pipe),
            (";", Joiner::Sequence),
            ("\n", Joiner::Sequence),
        ] {
            if self.take(text) {
                return Ok(joiner);
            }
        }
        refuse("`&` runs a command in the background")
    }

    /// At the limit, only the blanks and newlines that end a script may follow.
    fn nothing_follows(&self) -> Clear<()> {
        match self.text[self.at..].trim_matches([' ', '\n']).is_empty() {
            true => Ok(()),
            false => refuse("it has more than 20 commands"),
        }
    }

    /// Reads a redirection, if one stands here: to `/dev/null`, or of one stream to another.
    fn redirect(&mut self) -> Clear<Option<Range<usize>>> {
        const HARMLESS: &[&str] = &["2>&1", "1>&2", ">&2", ">&1"];
        const TO_NULL: &[&str] = &["2>>", "2>", "1>>", "1>", "0<", "&>>", "&>", ">>", ">", "<"];
        let start = self.at;
        let digits = self.text[start..].bytes().take_while(u8::is_ascii_digit).count();
        let operator = self.text.as_bytes().get(start + digits).copied();
        if !matches!(operator, Some(b'<' | b'>')) && !self.sees("&>") {
            return Ok(None);
        }
        let mut known = HARMLESS.iter().any(|form| self.take(form));
        if !known && TO_NULL.iter().any(|operator| self.take(operator)) {
            self.skip_blanks();
            known = self.take("/dev/null");
        }
        let ends = self.peek().is_none_or(|byte| b" \n;|&".contains(&byte));
        match known && ends {
            true => Ok(Some(start..self.at)),
            false => refuse("it redirects to or from something other than /dev/null"),
        }
    }

    fn word(&mut self) -> Clear<Word> {
        let start = self.at;
        let mut text = String::new();
        while let Some(byte) = self.peek() {
            match byte {
                b' ' | b'\n' | b';' | b'|' | b'&' => break,
                b'\'' => self.single_quoted(&mut text)?,
                b'"' => self.double_quoted(&mut text)?,
                b'\\' => self.escaped(&mut text)?,
                b'~' if self.program == "git" && self.is_revision() => self.plain('~', &mut text),
                // Alone, these are the words of `test ! -f a` and `[ -f a ]`, and no patterns.
                b'!' if self.is_alone(start)
                    && ["test", "[", "find"].contains(&self.program.as_str()) =>
                {
                    self.plain('!', &mut text);
                }
                b']' if self.is_alone(start) && self.program == "[" => self.plain(']', &mut text),
                b'[' if self.is_alone(start) && self.program.is_empty() => {
                    self.plain('[', &mut text);
                }
                _ if is_plain(byte) => self.plain(char::from(byte), &mut text),
                _ => return refuse(meaning(byte)),
            }
        }
        Ok(Word { span: start..self.at, text })
    }

    /// `HEAD~1`: a tilde means a home only at the start of a word, or behind `=` or `:`.
    fn is_revision(&self) -> bool {
        let before =
            self.text[..self.at].ends_with(|c: char| c.is_ascii_alphanumeric() || c == '^');
        before && self.text[self.at + 1..].starts_with(|c: char| c.is_ascii_digit())
    }

    /// Whether the byte that stands here is a word of its own.
    fn is_alone(&self, start: usize) -> bool {
        let next = self.text.as_bytes().get(self.at + 1);
        self.at == start && next.is_none_or(|byte| b" \n;|&".contains(byte))
    }

    fn plain(&mut self, c: char, text: &mut String) {
        text.push(c);
        self.at += 1;
    }

    fn single_quoted(&mut self, text: &mut String) -> Clear<()> {
        let rest = &self.text[self.at + 1..];
        let Some(end) = rest.find('\'') else {
            return refuse("a quote is not closed");
        };
        text.push_str(&rest[..end]);
        self.at += end + 2;
        Ok(())
    }

    fn double_quoted(&mut self, text: &mut String) -> Clear<()> {
        let mut rest = self.text[self.at + 1..].char_indices();
        while let Some((at, c)) = rest.next() {
            match c {
                '"' => {
                    self.at += at + 2;
                    return Ok(());
                }
                // In front of the closing quote there is nothing that it could expand.
                '$' if self.text[self.at + 1 + at..].starts_with("$\"") => text.push('$'),
                '`' | '$' => return refuse(meaning(c as u8)),
                '\\' => match rest.next() {
                    Some((_, '\n')) => return refuse("a line is continued inside quotes"),
                    Some((_, c @ ('$' | '`' | '"' | '\\'))) => text.push(c),
                    Some((_, c)) => text.extend(['\\', c]),
                    None => break,
                },
                _ => text.push(c),
            }
        }
        refuse("a quote is not closed")
    }

    fn escaped(&mut self, text: &mut String) -> Clear<()> {
        match self.text.as_bytes().get(self.at + 1) {
            Some(byte) if byte.is_ascii_graphic() || *byte == b' ' => {
                text.push(char::from(*byte));
                self.at += 2;
                Ok(())
            }
            _ => refuse("a line is continued with a backslash"),
        }
    }
}

/// Bytes that mean themselves wherever they stand in an unquoted word.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"_-./:,+=@%^".contains(&byte)
}

fn meaning(byte: u8) -> String {
    let what = match byte {
        b'$' => "`$` expands a variable or runs a command",
        b'`' => "a backquote runs a command",
        b'*' | b'?' | b'[' | b']' => "an unquoted pattern stands for files nobody has named yet",
        b'{' | b'}' => "an unquoted brace changes the arguments",
        b'~' => "an unquoted `~` stands for a home folder",
        b'(' | b')' => "a parenthesis starts a subshell, a function or a list",
        b'!' => "an unquoted `!` has a meaning of its own",
        b'#' => "an unquoted `#` may start a comment",
        b'<' | b'>' => "a redirection touches a word",
        _ => "it has a character outside quotes that is not on the list of plain ones",
    };
    what.into()
}
