//! The case file.

use std::collections::BTreeMap;

use serde_json::Value;

const FILE: &str = include_str!("../../cases/hostile.json");

/// All cases by id.
pub fn all() -> BTreeMap<String, Value> {
    let file: Value = serde_json::from_str(FILE).expect("the case file is JSON");
    let cases = file["cases"].as_array().expect("cases").iter();
    cases.map(|case| (case["id"].as_str().expect("an id").to_owned(), case.clone())).collect()
}

/// The command of a case.
pub fn command(id: &str) -> String {
    all()[id]["command"].as_str().expect("a command").to_owned()
}
