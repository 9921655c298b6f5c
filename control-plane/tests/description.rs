//! The API's description and the matrix of roles and operations, as committed under `docs/`.
//!
//! With `BULKHEAD_UPDATE=1` the files are written anew instead; the change is then seen in review.
#![allow(clippy::expect_used, missing_docs)]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use control_plane::http::{DESCRIPTION, needed, operations};
use domain::access::Role;
use serde_json::Value;

fn assert_committed(name: &str, now: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(name);
    if std::env::var_os("BULKHEAD_UPDATE").is_some() {
        std::fs::write(&path, now).expect("docs can be written");
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    let differs = committed.lines().zip(now.lines()).position(|(old, new)| old != new);
    assert!(
        committed == now,
        "docs/{name} is out of date from line {:?} on; look at it with BULKHEAD_UPDATE=1 \
         cargo test -p control-plane --test description",
        differs.map(|line| line + 1)
    );
}

#[test]
fn the_description_is_the_committed_one() {
    let value = serde_json::to_value(&*DESCRIPTION).expect("serialises");
    let mut text = serde_json::to_string_pretty(&value).expect("serialises");
    text.push('\n');
    assert_committed("openapi.json", &text);
}

#[test]
fn who_may_do_what_is_the_committed_matrix() {
    let mut text = format!("{:<7}{:<42}", "", "");
    Role::ALL.iter().for_each(|role| write!(text, " {:<8}", role.as_str()).expect("writes"));
    let mut text = format!("{}\n", text.trim_end());
    for (path, item) in &DESCRIPTION.paths.paths {
        for (method, operation) in operations(item) {
            write!(text, "{method:<7}{path:<42}").expect("writes");
            let mut line = String::new();
            for role in Role::ALL {
                let mark = match needed(operation) {
                    None => "anyone",
                    Some(needed) if role.allows(needed) => "yes",
                    Some(_) => ".",
                };
                write!(line, " {mark:<8}").expect("writes");
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
    }
    assert_committed("access.txt", &text);
}

#[test]
fn every_operation_says_what_it_takes_or_that_anybody_may() {
    let open = ["get_health", "get_readiness", "get_openapi", "get_keys", "get_metrics"];
    let mut ids = BTreeSet::new();
    for (path, item) in &DESCRIPTION.paths.paths {
        for (method, operation) in operations(item) {
            let id = operation.operation_id.clone().expect("an id");
            let takes = needed(operation).is_some();
            assert!(takes != open.contains(&id.as_str()), "{method} {path}: {id}");
            assert!(ids.insert(id.clone()), "{id} is there twice");
        }
    }
}

/// Visits every value of a document with its place.
fn visit(place: &str, value: &Value, look: &mut impl FnMut(&str, &Value)) {
    look(place, value);
    match value {
        Value::Object(fields) => {
            fields.iter().for_each(|(name, value)| visit(&format!("{place}/{name}"), value, look));
        }
        Value::Array(items) => {
            let items = items.iter().enumerate();
            items.for_each(|(index, value)| visit(&format!("{place}/{index}"), value, look));
        }
        _ => {}
    }
}

#[test]
fn every_reference_leads_somewhere() {
    let api = serde_json::to_value(&*DESCRIPTION).expect("serialises");
    let mut count = 0;
    visit("", &api, &mut |place, value| {
        let Some(Value::String(reference)) = value.get("$ref") else { return };
        let target = reference.strip_prefix('#').expect("within the document");
        assert!(api.pointer(target).is_some(), "{place}: {reference}");
        count += 1;
    });
    assert!(count > 100, "{count}");
}

#[test]
fn every_body_has_a_type() {
    let api = serde_json::to_value(&*DESCRIPTION).expect("serialises");
    let mut count = 0;
    for (path, item) in api["paths"].as_object().expect("paths") {
        if path == "/openapi.json" {
            continue;
        }
        visit(path, item, &mut |place, value| {
            let Some(schema) = value.pointer("/application~1json/schema") else { return };
            assert!(schema != &serde_json::json!({}), "{place} is anything at all");
            count += 1;
        });
    }
    assert!(count > 50, "{count}");
}
