//! Every operation is called as the description allows and as it does not (schemathesis): no
//! answer is a server error, and every answer is what the description says.
//!
//! A few calls of each; with `BULKHEAD_TEST_ALL` many.

use std::path::PathBuf;
use std::process::Command;

use tests::Stack;

const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,\
                      response_headers_conformance,response_schema_conformance";

fn schemathesis() -> PathBuf {
    let named = std::env::var_os("BULKHEAD_SCHEMATHESIS").map(PathBuf::from);
    let home = PathBuf::from(std::env::var_os("HOME").unwrap_or_default());
    named.unwrap_or_else(|| home.join(".cache/bulkhead/tools/schemathesis"))
}

#[test]
fn every_answer_is_as_described_and_none_is_a_server_error() {
    let stack = Stack::start("fuzz");
    let dev = stack.dev();
    let all = std::env::var_os("BULKHEAD_TEST_ALL").is_some();
    let examples = if all { "100" } else { "6" };
    let roles = [("owner", &dev.tenants["acme"].owner_token), ("platform", &dev.platform_token)];
    for (role, token) in roles {
        let output = Command::new("python3")
            .args(["-c", "from schemathesis.cli import schemathesis; schemathesis()"])
            .args(["run", &format!("{}/openapi.json", dev.api_url)])
            .args(["--header", &format!("Authorization: Bearer {token}")])
            .args(["--checks", CHECKS, "--max-examples", examples])
            .args(["--phases", "examples,coverage,fuzzing", "--mode", "all"])
            .args(["--request-timeout", "20", "--no-color", "--workers", "1", "--seed", "7"])
            .env("PYTHONPATH", schemathesis())
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .current_dir(stack.data_dir())
            .output()
            .expect("python3 runs");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr);
        let passed = output.status.success() || all_passed_but_a_body_it_cannot_write(&said);
        assert!(passed, "as {role}:\n{said}\n{errors}");
    }
}

/// schemathesis has no writer for one kind of body and counts that as an error of its own; every case
/// that it did send has to have passed.
fn all_passed_but_a_body_it_cannot_write(said: &str) -> bool {
    let unwritten = said.contains("Serialization not possible: 1") && said.contains("= 1 error");
    let all = said.lines().find_map(|line| {
        let (generated, passed) = line.trim().split_once(" generated, ")?;
        Some(passed.strip_suffix(" passed") == Some(generated) && generated != "0")
    });
    unwritten && all == Some(true)
}
