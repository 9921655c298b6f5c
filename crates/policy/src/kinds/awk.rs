//! awk programs that only print. Own words, known functions, no redirection, no pipe, no `getline`.
//!
//! Where a `/` could start a pattern or divide is decided only where there is no doubt.

use super::bracket;

type Checked = Result<(), String>;

/// Statements and patterns.
const KEYWORDS: &[&str] = &[
    "BEGIN", "END", "print", "printf", "if", "else", "for", "in", "next", "exit", "delete",
    "while", "do", "break", "continue",
];

/// Functions. `length` needs no parentheses: to some a pattern may follow it, to others it divides.
const FUNCTIONS: &[&str] = &[
    "length", "substr", "index", "split", "sub", "gsub", "match", "tolower", "toupper", "sprintf",
    "int", "sqrt", "log", "exp", "sin", "cos", "atan2",
];

/// Words that some awk knows, and that are therefore no variables. To some, a pattern may follow.
const RESERVED: &[&str] = &[
    "and",
    "asort",
    "asorti",
    "case",
    "close",
    "compl",
    "default",
    "eval",
    "fflush",
    "func",
    "function",
    "gensub",
    "getline",
    "include",
    "isarray",
    "load",
    "lshift",
    "mktime",
    "namespace",
    "nextfile",
    "or",
    "patsplit",
    "rand",
    "return",
    "rshift",
    "srand",
    "strftime",
    "strtonum",
    "switch",
    "system",
    "systime",
    "typeof",
    "xor",
];

/// Variables that awk itself sets.
const VARIABLES: &[&str] =
    &["NR", "NF", "FS", "OFS", "RS", "ORS", "FNR", "FILENAME", "RSTART", "RLENGTH", "SUBSEP"];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Before {
    /// A pattern may stand here.
    Opening,
    /// A value ends here: a `/` divides.
    Value,
    /// It depends on the grammar: a `/` is refused.
    Doubtful,
}

/// Checks a program.
pub(super) fn check(program: &str) -> Checked {
    if program.starts_with('-') || !program.is_ascii() {
        return Err("it reads as an option, or has characters beyond ASCII".into());
    }
    // Whatever the tokens turn out to be, these words are nowhere.
    for word in ["system", "getline", "ENVIRON", "PROCINFO", "@", "fflush", "close", "/inet"] {
        if program.contains(word) {
            return Err(format!("`{word}` reaches beyond the input"));
        }
    }
    Scan { rest: program, before: Before::Opening, printing: false }.run()
}

struct Scan<'a> {
    rest: &'a str,
    before: Before,
    /// Whether a `>` would redirect.
    printing: bool,
}

impl Scan<'_> {
    fn run(mut self) -> Checked {
        while let Some(c) = self.rest.chars().next() {
            match c {
                ' ' => self.skip(1),
                '"' => self.quoted('"', Before::Value)?,
                '/' => self.slash()?,
                'a'..='z' | 'A'..='Z' | '_' => self.word()?,
                '0'..='9' => {
                    let digits = |c: char| c.is_ascii_digit() || c == '.';
                    let end = self.rest.find(|c| !digits(c)).unwrap_or(self.rest.len());
                    self.skip(end);
                    self.before = Before::Value;
                }
                _ => self.operator(c)?,
            }
        }
        Ok(())
    }

    fn skip(&mut self, bytes: usize) {
        self.rest = &self.rest[bytes..];
    }

    fn slash(&mut self) -> Checked {
        match self.before {
            Before::Opening => self.quoted('/', Before::Doubtful),
            Before::Value => {
                self.skip(1);
                self.before = Before::Doubtful;
                Ok(())
            }
            Before::Doubtful => Err("a `/` may divide or start a pattern".into()),
        }
    }

    /// A string or a pattern.
    fn quoted(&mut self, end: char, after: Before) -> Checked {
        let mut at = 1;
        while let Some(c) = self.rest[at..].chars().next() {
            at += c.len_utf8();
            match c {
                '\n' => break,
                // The program has no characters beyond ASCII.
                '\\' => at += 1,
                '[' if end == '/' => at += bracket::length(&self.rest[at..], end, true)?,
                _ if c == end => {
                    self.skip(at);
                    self.before = after;
                    return Ok(());
                }
                _ => {}
            }
            if at >= self.rest.len() {
                break;
            }
        }
        Err("a string or pattern is not closed".into())
    }

    fn word(&mut self) -> Checked {
        let part = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let end = self.rest.find(|c| !part(c)).unwrap_or(self.rest.len());
        let word = &self.rest[..end];
        let keyword = KEYWORDS.contains(&word);
        let own = word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
        let is_call = self.rest[end..].trim_start().starts_with('(');
        let function = FUNCTIONS.contains(&word);
        let known = keyword || function || VARIABLES.contains(&word);
        if !known && (!own || is_call || RESERVED.contains(&word)) {
            return Err(format!("awk's `{word}` is not on the list"));
        }
        if matches!(word, "print" | "printf") {
            self.printing = true;
        }
        self.before = if keyword || function { Before::Doubtful } else { Before::Value };
        self.skip(end);
        Ok(())
    }

    fn operator(&mut self, c: char) -> Checked {
        let two = self.rest.get(..2).unwrap_or_default();
        match two {
            "||" | "&&" | "!~" => {
                self.skip(2);
                self.before = Before::Opening;
                return Ok(());
            }
            ">>" => return Err("`>>` redirects".into()),
            _ => {}
        }
        self.before = match c {
            '{' | '}' | ';' => {
                self.printing = false;
                Before::Opening
            }
            // It may end a statement, or go on with it behind a comma.
            '\n' => Before::Doubtful,
            '(' | ',' | '~' => Before::Opening,
            ']' => Before::Value,
            ')' | '$' | '+' | '-' | '*' | '%' | '^' | '=' | '!' | '<' | '?' | ':' | '[' | '.' => {
                Before::Doubtful
            }
            '>' if !self.printing => Before::Doubtful,
            _ => return Err(format!("awk's `{c}` may redirect, pipe or worse here")),
        };
        self.skip(1);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::check;

    #[test]
    fn printing_is_harmless() {
        for good in [
            "{print}",
            "{print $1}",
            "{print $1, $2}",
            "NR==1",
            "NR>1 {print $2}",
            "/error/ {print}",
            "{s+=$1} END {print s}",
            "BEGIN{FS=\":\"} {print $1}",
            "{print $NF}",
            "!seen[$0]++",
            "$3 > 100 {print $1}",
            "{printf \"%s %d\\n\", $1, $2}",
            "{gsub(/a/,\"b\"); print}",
            "{print length($0)}",
            "END{print NR}",
            "$1 ~ /x/",
            "NR>=5 && NR<=10",
            "{a[$1]+=$2} END{for (k in a) print k, a[k]}",
            "{print $1/1024}",
            "{if ($1 > 5) print $2}",
            "/^[^#]/ {n++} END {print n}",
            "/[[:space:]]$/ {print NR}",
            "length > 80",
            "length($0) > 80 {print FILENAME}",
            "{print NR / 2}",
        ] {
            // A division behind `$1` is plain, behind `)` it is not.
            assert!(check(good).is_ok(), "{good}: {:?}", check(good));
        }
    }

    #[test]
    fn reaching_out_is_not() {
        for bad in [
            "BEGIN{system(\"touch x\")}",
            "{print > \"x\"}",
            "{print >> \"x\"}",
            "{print | \"sh\"}",
            "BEGIN{\"id\" | getline}",
            "{getline < \"/etc/passwd\"}",
            "BEGIN{f=\"sh\";x=\"touch P\"} END{if(0) return /\"/;print x | f;y=/\"/}",
            "BEGIN{f=\"w\"} END{if(0) nextfile /\"/;print x > f;y=/\"/}",
            "{or /x/}",
            "@load \"x\"",
            "@include \"x\"",
            "BEGIN{print ENVIRON[\"A\"]}",
            "{printf \"a\" > \"x\"}",
            "{print |& \"sh\"}",
            "{f=\"system\"; @f()}",
            "BEGIN { print 1 >\"pwned\"}",
            "{print $1 > $2}",
            "-f",
            "{evil($1)}",
            "function f() {}",
            "{x = $1 / y / z(1)}",
            "{print (1) /x/ > \"y\"}",
            "{print \"a",
            "{print /[/]/}",
            "BEGIN{printf(\"a\")>\"x\"}",
            "{print \"a\" \"b\" > \"c\"}",
            "{a = /x/ | \"sh\"}",
            "{if (1) print 1 > 2}",
            "é",
            "BEGIN{print 1|\"sh\"}",
            "{print toupper($1) | \"sh\"}",
            "{print; print > \"f\"}",
            "{print 1\n> \"x\"}",
            "{print 1,\n2 > \"x\"}",
            "{print length /\"/ | \"id; x/ 1\"; y = length /\"/ 1}",
            "{print length / 2}",
            "/[]/]\"/ {print | \"id\"; x = 1 ~ /\"/ }",
            "/[^]/]\"/ {print | \"id\"; x = 1 ~ /\"/ }",
            "/[[:punct:]/]\"/ {print | \"id\"; x = 1 ~ /\"/ }",
            "/[\\][]\"/]/ {print | \"id\"; x = 1 ~ /\"/ }",
            "/a\\",
            "\"a\\",
            "/a",
        ] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }
}
