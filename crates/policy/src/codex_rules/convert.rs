//! One rule of a Codex file, as Cedar text.

use super::parse::{Call, Value};
use super::{Import, ImportError, Remark};
use crate::cedar_text::{like_pattern, literal};
use crate::facts::{canonical_line, plain_words};

/// Most ways to read one pattern: alternatives multiply.
const MAX_PREFIXES: usize = 64;

pub(super) fn rule(call: &Call, import: &mut Import) -> Result<(), ImportError> {
    let arguments = Arguments { call };
    match call.name.as_str() {
        "prefix_rule" => prefix_rule(&arguments, import),
        "network_rule" => network_rule(&arguments, import),
        "host_executable" => {
            arguments.only(&["name", "paths"])?;
            let name = arguments.needed_text("name")?;
            for path in arguments.list("paths")? {
                let path = arguments.word(path)?;
                if !path.starts_with('/') || path.rsplit('/').next() != Some(name) {
                    return arguments.fail(format!("`{path}` is no absolute path of `{name}`"));
                }
            }
            let message = format!(
                "`host_executable` for `{name}`: a program named by its path always asks here, by whatever rule"
            );
            import.report.push(Remark { line: call.line, message });
            Ok(())
        }
        other => arguments.fail(format!("`{other}` is no rule")),
    }
}

struct Arguments<'a> {
    call: &'a Call,
}

impl<'a> Arguments<'a> {
    fn fail<T>(&self, message: impl Into<String>) -> Result<T, ImportError> {
        Err(ImportError { line: self.call.line, message: message.into() })
    }

    fn only(&self, known: &[&str]) -> Result<(), ImportError> {
        match self.call.arguments.iter().find(|(name, _)| !known.contains(&name.as_str())) {
            None => Ok(()),
            Some((name, _)) => self.fail(format!("`{}` has no `{name}`", self.call.name)),
        }
    }

    fn find(&self, name: &str) -> Option<&'a Value> {
        self.call.arguments.iter().find(|(known, _)| known == name).map(|(_, value)| value)
    }

    fn text(&self, name: &str) -> Result<Option<&'a str>, ImportError> {
        match self.find(name) {
            None => Ok(None),
            Some(Value::Text(text)) => Ok(Some(text)),
            Some(Value::List(_)) => self.fail(format!("`{name}` is a string")),
        }
    }

    fn needed_text(&self, name: &str) -> Result<&'a str, ImportError> {
        self.text(name)?.map_or_else(|| self.fail(format!("`{name}` is missing")), Ok)
    }

    fn list(&self, name: &str) -> Result<&'a [Value], ImportError> {
        match self.find(name) {
            None => Ok(&[]),
            Some(Value::List(items)) => Ok(items),
            Some(Value::Text(_)) => self.fail(format!("`{name}` is a list")),
        }
    }

    fn justification(&self) -> Result<Option<&'a str>, ImportError> {
        match self.text("justification")? {
            Some(text) if text.trim().is_empty() => self.fail("the justification is empty"),
            text => Ok(text),
        }
    }

    /// `["git", ["status", "log"]]`: at each place one word or one of several.
    fn pattern(&self) -> Result<Vec<Vec<&'a str>>, ImportError> {
        let places = self.list("pattern")?;
        if places.is_empty() {
            return self.fail("the pattern is empty");
        }
        let place = |value: &'a Value| match value {
            Value::Text(word) => Ok(vec![word.as_str()]),
            Value::List(words) if words.is_empty() => {
                self.fail("a place of the pattern has no word")
            }
            Value::List(words) => words.iter().map(|word| self.word(word)).collect(),
        };
        places.iter().map(place).collect()
    }

    fn word(&self, value: &'a Value) -> Result<&'a str, ImportError> {
        match value {
            Value::Text(word) => Ok(word),
            Value::List(_) => self.fail("a word is a string"),
        }
    }

    /// Examples are lists of words, or commands as one would type them.
    fn examples(&self, name: &str) -> Result<Vec<Vec<String>>, ImportError> {
        let example = |value: &'a Value| match value {
            Value::Text(text) if text.contains(['"', '\'', '\\']) => {
                plain_words(text).map_or_else(|| self.fail(format!("`{text}` is not read")), Ok)
            }
            Value::Text(text) => Ok(text.split_whitespace().map(str::to_owned).collect()),
            Value::List(words) => {
                words.iter().map(|word| self.word(word).map(str::to_owned)).collect()
            }
        };
        self.list(name)?.iter().map(example).collect()
    }
}

fn prefix_rule(arguments: &Arguments<'_>, import: &mut Import) -> Result<(), ImportError> {
    arguments.only(&["pattern", "decision", "justification", "match", "not_match"])?;
    let pattern = arguments.pattern()?;
    let justification = arguments.justification()?;
    check_examples(arguments, &pattern)?;
    let (effect, action) = match arguments.text("decision")?.unwrap_or("allow") {
        "allow" => ("permit", "AutoApprove"),
        "prompt" => ("forbid", "AutoApprove"),
        "forbidden" => ("forbid", "Run"),
        other => return arguments.fail(format!("`{other}` is no decision")),
    };
    let line = arguments.call.line;
    let Some(prefixes) = combine(&pattern) else {
        let message =
            "the pattern has too many alternatives; write it as a Cedar rule by hand".into();
        import.report.push(Remark { line, message });
        return Ok(());
    };
    if effect == "permit" {
        let words: Vec<&str> = pattern.iter().map(|place| place[0]).collect();
        let message = format!(
            "`{}` is allowed where it is understood; flags and operands beyond its grammar ask",
            words.join(" ")
        );
        import.report.push(Remark { line, message });
    }
    let conditions: Vec<String> = prefixes.iter().map(|prefix| begins_with(prefix)).collect();
    write_rule(import, line, (effect, action), justification, &conditions.join(" ||\n  "));
    Ok(())
}

/// A line begins with these words: the canonical text of a vector begins with that of its prefix.
fn begins_with(prefix: &[&str]) -> String {
    let line = canonical_line(prefix);
    format!("context.line == {} || context.line like \"{} *\"", literal(&line), like_pattern(&line))
}

fn combine<'a>(pattern: &[Vec<&'a str>]) -> Option<Vec<Vec<&'a str>>> {
    let mut prefixes: Vec<Vec<&str>> = vec![Vec::new()];
    for place in pattern {
        if prefixes.len() * place.len() > MAX_PREFIXES {
            return None;
        }
        prefixes = prefixes
            .iter()
            .flat_map(|prefix| place.iter().map(|word| [prefix.as_slice(), &[*word]].concat()))
            .collect();
    }
    Some(prefixes)
}

fn matches(pattern: &[Vec<&str>], words: &[String]) -> bool {
    words.len() >= pattern.len()
        && pattern.iter().zip(words).all(|(place, word)| place.contains(&word.as_str()))
}

fn check_examples(arguments: &Arguments<'_>, pattern: &[Vec<&str>]) -> Result<(), ImportError> {
    for (name, expected) in [("match", true), ("not_match", false)] {
        for example in arguments.examples(name)? {
            if matches(pattern, &example) != expected {
                let verb = if expected { "does not match" } else { "matches" };
                return arguments
                    .fail(format!("the example `{}` {verb} the pattern", example.join(" ")));
            }
        }
    }
    Ok(())
}

fn network_rule(arguments: &Arguments<'_>, import: &mut Import) -> Result<(), ImportError> {
    arguments.only(&["host", "protocol", "decision", "justification"])?;
    let host = arguments.needed_text("host")?.to_ascii_lowercase();
    let protocol = arguments.needed_text("protocol")?;
    let decision = arguments.text("decision")?.unwrap_or("allow");
    let justification = arguments.justification()?;
    let line = arguments.call.line;
    if host.is_empty() || host.contains(['*', '/', ' ']) {
        return arguments.fail(format!("`{host}` is no host"));
    }
    if !matches!(protocol, "http" | "https" | "socks5_tcp" | "socks5_udp") {
        return arguments.fail(format!("`{protocol}` is no protocol"));
    }
    let plain = host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.".contains(&b));
    let mut remark = |message: String| import.report.push(Remark { line, message });
    if !plain || !matches!(protocol, "http" | "https") {
        remark(format!(
            "`{protocol}` to `{host}` is not carried over: only plain hosts over http and https are"
        ));
        return Ok(());
    }
    remark(format!(
        "`{host}`: the rule is about the host in the command's text; what a running program reaches is up to the sandbox's network"
    ));
    let host_is = format!("context.hosts.contains({})", literal(&host));
    let (rule, condition) = match decision {
        "deny" => (("forbid", "Run"), host_is),
        "prompt" => (("forbid", "AutoApprove"), host_is),
        "allow" => {
            let url = like_pattern(&format!("{protocol}://{host}"));
            let condition = format!(
                "[{}].containsAll(context.hosts) && {host_is} &&\n  [\"network\", \"read\"].containsAll(context.effects) &&\n  \
                 (context.line like \"* {url}*\" || context.line like \"* '{url}*\")",
                literal(&host)
            );
            (("permit", "AutoApprove"), condition)
        }
        other => return arguments.fail(format!("`{other}` is no decision")),
    };
    write_rule(import, line, rule, justification, &condition);
    Ok(())
}

fn write_rule(
    import: &mut Import,
    line: usize,
    (effect, action): (&str, &str),
    justification: Option<&str>,
    condition: &str,
) {
    // Several calls may stand on one line: the count keeps the ids apart.
    let count = import.policy.matches("@id(").count() + 1;
    let reason =
        justification.map_or(String::new(), |text| format!("@reason({})\n", literal(text)));
    import.policy.push_str(&format!(
        "// line {line} of the Codex rules\n@id(\"codex-{count}\")\n{reason}\
         {effect} (principal, action == Action::\"{action}\", resource)\nwhen {{\n  {condition}\n}};\n\n"
    ));
}
