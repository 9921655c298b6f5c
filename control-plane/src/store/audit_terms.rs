//! The terms by which an audit event is found: its words, which have no colon, and the values of some
//! of its fields.

use std::collections::BTreeSet;

use audit::{Detail, Event};
use serde_json::Value;

/// Longest word that is found.
const MAX_WORD_CHARS: usize = 64;
/// Most words that one event is found under: a long script is found by its beginning.
const MAX_WORDS: usize = 100;

/// Where the data of an event names the programs that it is about.
const PROGRAMS: &str = "programs";

/// Everything that finds `event`. What is erased with its detail and what is not differ by their
/// prefixes, which the database's `erase_audit_details` goes by.
pub(super) fn of_event(event: &Event) -> BTreeSet<String> {
    let mut terms = BTreeSet::new();
    for rule in event.decision.iter().flat_map(|decision| &decision.rules) {
        terms.insert(of_rule(rule));
    }
    terms.insert(of_field("action", &event.action));
    terms.insert(of_field("object", &event.object));
    terms.insert(of_field("outcome", &event.outcome));
    terms.extend(event.decision.iter().map(|it| of_field("decision", &it.outcome)));
    let mut words = BTreeSet::new();
    if let Some(Detail { actor, reasons, data, .. }) = &event.detail {
        terms.insert(of_field("actor", actor));
        collect_words(actor, &mut words);
        reasons.iter().for_each(|reason| collect_words(reason, &mut words));
        if let Ok(data) = serde_json::from_str(data) {
            terms.extend(programs(&data).map(of_program));
            collect_from_json(&data, &mut words);
        }
    }
    terms.extend(words);
    terms
}

/// The data of an event about these programs: under its hash, like everything that it is found by.
pub(super) fn with_programs(mut data: Value, programs: Vec<String>) -> Value {
    let programs: Vec<String> = programs.into_iter().filter(|name| !name.is_empty()).collect();
    if let (Some(fields), false) = (data.as_object_mut(), programs.is_empty()) {
        fields.insert(PROGRAMS.into(), programs.into());
    }
    data
}

fn programs(data: &Value) -> impl Iterator<Item = &str> {
    data.get(PROGRAMS).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
}

/// The term of the value of one of an event's fields. Long values share theirs.
pub(super) fn of_field(field: &str, value: &str) -> String {
    format!("{field}:{}", shortened(value))
}

/// The term of a rule's id.
pub(super) fn of_rule(rule: &str) -> String {
    of_field("rule", rule)
}

/// The term of a program's name.
pub(super) fn of_program(program: &str) -> String {
    of_field("program", program)
}

/// The words of a text that somebody looks for; an event must have all of them.
pub(super) fn of_query(text: &str) -> Vec<String> {
    let mut words = BTreeSet::new();
    collect_words(text, &mut words);
    words.into_iter().collect()
}

fn shortened(text: &str) -> String {
    text.chars().take(MAX_WORD_CHARS).collect()
}

fn collect_words(text: &str, words: &mut BTreeSet<String>) {
    for word in text.split(|c: char| !c.is_alphanumeric() && c != '_') {
        if words.len() >= MAX_WORDS {
            return;
        }
        if !word.is_empty() {
            words.insert(shortened(&word.to_lowercase()));
        }
    }
}

/// Texts only: keys are ours, and numbers are filtered by other means.
fn collect_from_json(value: &Value, words: &mut BTreeSet<String>) {
    match value {
        Value::String(text) => collect_words(text, words),
        Value::Array(items) => items.iter().for_each(|item| collect_from_json(item, words)),
        Value::Object(fields) => {
            fields.values().for_each(|value| collect_from_json(value, words));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn programs_are_found_where_the_hash_covers_them() {
        let data = with_programs(json!({ "command": "ls" }), vec!["ls".into(), String::new()]);
        assert_eq!(data, json!({ "command": "ls", "programs": ["ls"] }));
        assert_eq!(programs(&data).collect::<Vec<_>>(), ["ls"]);
        assert_eq!(with_programs(json!({}), Vec::new()), json!({}));
        assert_eq!(programs(&json!({ "programs": 7 })).next(), None);
    }

    #[test]
    fn words_are_found_whatever_stands_around_them() {
        assert_eq!(
            of_query("cat /etc/PASSWD|grep -v 'root:'"),
            ["cat", "etc", "grep", "passwd", "root", "v"]
        );
        assert_eq!(of_query(" ... "), [""; 0]);
        let long = "x".repeat(100);
        assert_eq!(of_query(&long), [long[..MAX_WORD_CHARS].to_owned()]);
        let many: String = (0..500).map(|n| format!("w{n} ")).collect();
        assert_eq!(of_query(&many).len(), MAX_WORDS);
    }
}
