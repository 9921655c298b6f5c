//! The hostile cases of `tests/cases/hostile.json` that concern execs and files, by their ids, on a
//! whole stack, with a second tenant's commands measured beside them.

mod canary;
mod cases;
mod execs;
mod files;
mod host;
mod processes;
mod record;

use std::collections::BTreeSet;

/// Cases that belong to what is not built yet, or to no test of a command, with the reason.
const ELSEWHERE: [(&str, &str); 12] = [
    ("HC-067", "escape tools are no part of this repository; their preconditions are checked here"),
    ("HC-071", "there is no egress proxy: sandboxes have no network at all"),
    ("HC-072", "there is no egress proxy"),
    ("HC-073", "there is no egress proxy"),
    ("HC-074", "there is no egress proxy"),
    ("HC-075", "there is no egress proxy"),
    ("HC-094", "the console shows commands"),
    ("HC-095", "the console shows commands; policy asks: crates/policy"),
    ("HC-100", "the console shows output"),
    ("HC-105", "tests/e2e/bad_input.rs"),
    ("HC-110", "the API takes no labels; unknown fields are refused: tests/e2e/bad_input.rs"),
    ("HC-113", "out of scope for a shared kernel: docs/threat-model.md"),
];

#[test]
fn every_case_is_run_or_accounted_for() {
    let known: BTreeSet<String> = cases::all().into_keys().collect();
    let mut seen = BTreeSet::new();
    for ids in [execs::IDS, processes::IDS, files::IDS, host::IDS, record::IDS] {
        for id in ids {
            assert!(seen.insert((*id).to_owned()), "{id} is listed twice");
        }
    }
    for (id, _) in ELSEWHERE {
        assert!(seen.insert(id.to_owned()), "{id} is listed twice");
    }
    assert_eq!(known, seen);
}
