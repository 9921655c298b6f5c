//! The program's own word on its host: the report, and the refusals that follow from it.
#![allow(clippy::expect_used, missing_docs)]

use std::process::{Command, Output};

fn doctor(args: &[&str]) -> Output {
    let mut program = Command::new(env!("CARGO_BIN_EXE_bulkhead-executor"));
    program.arg("doctor").args(args).output().expect("runs")
}

#[test]
fn the_report_names_tier_and_controls() {
    let output = doctor(&["--json"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert!(report["tier"].as_u64().expect("a tier") >= 1);
    let controls = report["controls"].as_array().expect("controls");
    let present =
        |name: &str| controls.iter().any(|one| one["name"] == name && one["standing"] == "present");
    assert!(present("seccomp") && present("memory limit") && present("workspace quota"));
    let text = String::from_utf8(doctor(&[]).stdout).expect("UTF-8");
    assert!(text.starts_with("isolation tier "), "{text}");
}

#[test]
fn a_host_below_the_demanded_tier_and_a_runtime_that_is_not_there_are_refused() {
    for (args, told) in [
        (["--min-tier", "3"], "BULKHEAD_MIN_TIER demands 3"),
        (["--runtime", "nonesuch"], "Docker has no runtime nonesuch"),
    ] {
        let output = doctor(&args);
        let message = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && message.contains(told), "{message}");
    }
}
