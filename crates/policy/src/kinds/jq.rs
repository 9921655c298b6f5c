//! jq filters that read nothing but their input. A positive list of tokens, formats and functions:
//! what reads the environment, other files or the names of files is missing on purpose, and so are
//! definitions and modules. `~/.jq` may define more functions: their names are not on the list.

/// Words of the grammar.
const KEYWORDS: &[&str] = &[
    "then", "elif", "else", "as", "and", "or", "reduce", "foreach", "try", "catch", "label",
    "break", "null", "true", "false",
];

/// Functions that only compute. `getpath` and `input` are not among them.
const FUNCTIONS: &[&str] = &[
    "IN",
    "INDEX",
    "abs",
    "add",
    "all",
    "any",
    "arrays",
    "ascii",
    "ascii_downcase",
    "ascii_upcase",
    "booleans",
    "bsearch",
    "capture",
    "ceil",
    "combinations",
    "contains",
    "date",
    "dateadd",
    "datesub",
    "del",
    "delpaths",
    "empty",
    "endswith",
    "error",
    "exp",
    "exp10",
    "exp2",
    "explode",
    "fabs",
    "finites",
    "first",
    "flatten",
    "floor",
    "from_entries",
    "fromdate",
    "fromdateiso8601",
    "fromjson",
    "fromstream",
    "gmtime",
    "group_by",
    "gsub",
    "has",
    "implode",
    "in",
    "index",
    "indices",
    "infinite",
    "inside",
    "isempty",
    "isinfinite",
    "isnan",
    "isnormal",
    "isvalid",
    "iterables",
    "join",
    "keys",
    "keys_unsorted",
    "last",
    "leaf_paths",
    "length",
    "limit",
    "log",
    "log10",
    "log2",
    "ltrim",
    "ltrimstr",
    "map",
    "map_values",
    "match",
    "max",
    "max_by",
    "min",
    "min_by",
    "mktime",
    "nan",
    "normals",
    "not",
    "now",
    "nth",
    "nulls",
    "numbers",
    "objects",
    "path",
    "paths",
    "pick",
    "pow",
    "range",
    "recurse",
    "repeat",
    "reverse",
    "rindex",
    "round",
    "rtrim",
    "rtrimstr",
    "scalars",
    "scan",
    "select",
    "setpath",
    "skip",
    "sort",
    "sort_by",
    "split",
    "splits",
    "sqrt",
    "startswith",
    "strftime",
    "strings",
    "strptime",
    "sub",
    "test",
    "to_entries",
    "toarray",
    "todate",
    "todateiso8601",
    "tojson",
    "tonumber",
    "tostream",
    "tostring",
    "transpose",
    "trim",
    "trimstr",
    "trunc",
    "truncate_stream",
    "type",
    "unique",
    "unique_by",
    "until",
    "utf8bytelength",
    "values",
    "walk",
    "while",
    "with_entries",
];

/// Formats of strings.
const FORMATS: &[&str] = &[
    "@text", "@json", "@html", "@uri", "@urid", "@csv", "@tsv", "@sh", "@base64", "@base64d",
    "@base32", "@base32d",
];

/// What a closing character ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Open {
    Parenthesis,
    Bracket,
    Brace,
    /// `\(` inside a string, which goes on behind it.
    Interpolation,
    /// `if`, up to its `end`: commas between them are no object's.
    If,
}

/// Checks a filter.
pub(super) fn check(filter: &str) -> Result<(), String> {
    if filter.starts_with('-') {
        return Err("it reads as an option".into());
    }
    Scan { rest: filter, open: Vec::new(), key: false }.run()
}

struct Scan<'a> {
    rest: &'a str,
    open: Vec<Open>,
    /// Whether a word would be the key of an object.
    key: bool,
}

impl<'a> Scan<'a> {
    fn run(mut self) -> Result<(), String> {
        while let Some(c) = self.rest.chars().next() {
            let key = std::mem::take(&mut self.key);
            match c {
                ' ' | '\n' => {
                    self.skip(1);
                    self.key = key;
                }
                '"' => {
                    self.skip(1);
                    self.string()?;
                }
                '0'..='9' => self.number(),
                '$' => self.variable()?,
                '@' => self.format()?,
                '.' => self.dot(),
                'a'..='z' | 'A'..='Z' | '_' => {
                    let word = self.word();
                    match key {
                        true => self.ends_key()?,
                        false => self.named(word)?,
                    }
                }
                _ => self.operator(c)?,
            }
        }
        match self.open.is_empty() {
            true => Ok(()),
            false => Err("a bracket is not closed".into()),
        }
    }

    fn skip(&mut self, bytes: usize) {
        self.rest = &self.rest[bytes..];
    }

    fn word(&mut self) -> &'a str {
        let part = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let end = self.rest.find(|c| !part(c)).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        word
    }

    fn ends_key(&self) -> Result<(), String> {
        match self.rest.trim_start_matches([' ', '\n']).starts_with([':', ',', '}']) {
            true => Ok(()),
            false => Err("something stands behind the key of an object".into()),
        }
    }

    fn named(&mut self, word: &str) -> Result<(), String> {
        match word {
            "if" => self.open.push(Open::If),
            "end" => return self.close("end"),
            _ if KEYWORDS.contains(&word) || FUNCTIONS.contains(&word) => {}
            _ => return Err(format!("jq's `{word}` is not known to compute only")),
        }
        Ok(())
    }

    /// `1`, `1.5`, `1e-3`.
    fn number(&mut self) {
        let mut before = ' ';
        let part = |c: char| {
            let sign = matches!(c, '+' | '-') && matches!(before, 'e' | 'E');
            before = c;
            c.is_ascii_digit() || matches!(c, '.' | 'e' | 'E') || sign
        };
        let end = self.rest.len() - self.rest.trim_start_matches(part).len();
        self.skip(end);
    }

    /// `$ENV` and what begins with an underscore are variables of jq's own.
    fn variable(&mut self) -> Result<(), String> {
        self.skip(1);
        let name = self.word();
        match name.starts_with(|c: char| c.is_ascii_lowercase()) {
            true => Ok(()),
            false => Err(format!("`${name}` may be a variable of jq's own")),
        }
    }

    fn format(&mut self) -> Result<(), String> {
        let at = self.rest;
        self.skip(1);
        let name = &at[..1 + self.word().len()];
        match FORMATS.contains(&name) {
            true => Ok(()),
            false => Err(format!("jq's `{name}` is not on the list of formats")),
        }
    }

    /// `.`, `..` and `.name`: a name right behind one dot is a field of the input.
    fn dot(&mut self) {
        self.skip(1);
        if self.rest.starts_with('.') {
            self.skip(1);
        } else if self.rest.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
            self.word();
        }
    }

    /// The rest of a string, up to its end or to a filter inside of it.
    fn string(&mut self) -> Result<(), String> {
        let mut chars = self.rest.char_indices();
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => {
                    self.skip(at + 1);
                    return Ok(());
                }
                '\\' => match chars.next() {
                    Some((_, '(')) => {
                        self.skip(at + 2);
                        self.open.push(Open::Interpolation);
                        return Ok(());
                    }
                    Some((_, '"' | '\\' | '/' | 'b' | 'f' | 'n' | 'r' | 't' | 'u')) => {}
                    _ => return Err("a string has an odd escape".into()),
                },
                _ => {}
            }
        }
        Err("a string is not closed".into())
    }

    fn operator(&mut self, c: char) -> Result<(), String> {
        let names_a_module = self.rest.starts_with("::");
        let compares = c != '!' || self.rest.starts_with("!=");
        if names_a_module || !compares || !"()[]{},:;|?/+-*%=!<>".contains(c) {
            return Err(format!("jq's `{c}` is not known here"));
        }
        self.skip(1);
        match c {
            '(' => self.open.push(Open::Parenthesis),
            '[' => self.open.push(Open::Bracket),
            '{' => self.open.push(Open::Brace),
            ')' => return self.close(")"),
            ']' => return self.close("]"),
            '}' => return self.close("}"),
            _ => {}
        }
        // Values of an object have no commas of their own: what follows one is the next key.
        self.key = matches!(c, '{' | ',') && self.open.last() == Some(&Open::Brace);
        Ok(())
    }

    fn close(&mut self, closing: &str) -> Result<(), String> {
        match (closing, self.open.pop()) {
            (")", Some(Open::Interpolation)) => self.string(),
            (")", Some(Open::Parenthesis))
            | ("]", Some(Open::Bracket))
            | ("}", Some(Open::Brace))
            | ("end", Some(Open::If)) => Ok(()),
            _ => Err(format!("a `{closing}` ends nothing")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::check;

    #[test]
    fn only_the_input_is_read() {
        for good in [
            ".",
            ".a.b[0]",
            ".env",
            ".items[] | .env.name",
            "map(select(.x > 1)) | length",
            "keys",
            ".a.\"env\"",
            ".[] | \"\\(.a): \\(.b | map(.c) | join(\"-\"))\"",
            "{a: if .x then 1 else 2 end, env}",
            "{name, env, a: .b, \"c d\": 1, (.k): .v, $x}",
            "{a: {env: 1}, input: .y} | .env",
            ".a as {env: $x, b: [$y]} | $x + $y",
            "reduce .[] as $x (0; . + $x)",
            "if .a then .b elif .c == null then 1 else 1.5e-3 end",
            ".[] | [.a, .b] | @tsv",
            ".. | .name? // empty",
            ".a |= . + 1 | del(.b) | .c //= 3 | .d != 2",
            "try error(\"x\") catch .",
            "label $out | .[] | if . > 1 then ., break $out else . end",
            "\"grüße \\u00e4 \\\"\"",
        ] {
            assert!(check(good).is_ok(), "{good}: {:?}", check(good));
        }
        for bad in [
            "env",
            "$ENV",
            "$ENV.PATH",
            "$ ENV",
            "\"\\(env)\"",
            "\"a\\(\"\\(env)\")\"",
            "import \"a\" as a; .",
            "import \"a\" as $a; .",
            "include \"x\";",
            ". | env",
            "..env",
            ". env",
            "-n",
            "input_filename",
            "[env]",
            "$__prog_args",
            "$__loc__",
            ".a|debug",
            "input",
            "inputs",
            "getpath([\"a\"])",
            "halt_error",
            "stderr",
            "modulemeta",
            "def map(f): env; map(1)",
            "mine",
            "mine(.a)",
            "a::b",
            "a ::b",
            "{a: env}",
            "{(env): 1}",
            "{a: 1, b: input}",
            "{\"\\(env)\": 1}",
            "{a: [1, env]}",
            "{a: if . then 1, env else 2 end}",
            "{a: if . then 1, env, 2 else 3 end}",
            "{a: if . then 1 else 2, env end}",
            "{a: 1, env | .x}",
            "if 1 then 2",
            "1 end",
            "(if 1 then 2) end",
            "{a: (1, env)}",
            ".[env.HOME]",
            ".a as [$x, env] | 1",
            "@mine",
            "# comment",
            "! .a",
            "\"a",
            "\"\\(1",
            "\"\\x\"",
            "(",
            "]",
            "(]",
            "`id`",
            "é",
            "1env",
            "splits(env)",
            "ltrimstr($ENV.A)",
        ] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }
}
