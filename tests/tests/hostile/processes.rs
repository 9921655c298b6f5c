//! Commands that fork, linger, flood, or do not end: right state, in time, and nothing left.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::{Stack, TestSession};

use crate::canary::Canary;
use crate::cases::command;
use crate::host::Container;

pub const IDS: &[&str] = &[
    "HC-001", "HC-002", "HC-004", "HC-005", "HC-007", "HC-009", "HC-010", "HC-011", "HC-013",
    "HC-014", "HC-016", "HC-017", "HC-018", "HC-019", "HC-021", "HC-023", "HC-024", "HC-025",
    "HC-026", "HC-027", "HC-029", "HC-031", "HC-033", "HC-035",
];

/// What a case's exec has to look like at its end.
struct Expected {
    timeout_ms: u64,
    states: &'static [&'static str],
    check: fn(&Value, &str),
}

fn nothing(_: &Value, _: &str) {}

fn expected(id: &str) -> Expected {
    let ends = |timeout_ms, states, check| Expected { timeout_ms, states, check };
    const OVER_TIME: &[&str] = &["timed_out"];
    const ENDED: &[&str] = &["exited"];
    const EITHER: &[&str] = &["exited", "timed_out", "killed"];
    const OOM: &[&str] = &["killed"];
    match id {
        "HC-001" | "HC-002" => ends(3000, EITHER, nothing),
        "HC-004" => ends(5000, EITHER, nothing),
        "HC-005" => ends(30_000, ENDED, |exec, out| {
            let zombies: u32 = out.trim().parse().unwrap_or(u32::MAX);
            assert!(zombies <= 1, "{zombies} zombies: {exec}");
        }),
        "HC-007" => ends(60_000, OOM, |exec, _| assert_eq!(exec["oom_killed"], true)),
        // The largest file is smaller than the memory: this ends before the memory does.
        "HC-010" => ends(60_000, ENDED, |exec, _| {
            assert_eq!(exec["exit_code"], 1);
            assert!(text(exec, "stderr").contains("File too large"), "{exec}");
        }),
        "HC-009" => ends(30_000, ENDED, |exec, _| {
            assert_eq!(exec["exit_code"], 1);
            assert!(text(exec, "stderr").contains("No space left"), "{exec}");
        }),
        "HC-011" => ends(3000, OVER_TIME, nothing),
        "HC-013" => ends(60_000, ENDED, |exec, _| {
            assert_eq!(exec["exit_code"], 1);
            assert!(text(exec, "stderr").contains("No space left"), "{exec}");
        }),
        "HC-014" => ends(10_000, ENDED, |exec, _| {
            assert!(text(exec, "stderr").contains("Read-only file system"), "{exec}");
        }),
        "HC-016" => ends(5000, EITHER, nothing),
        "HC-017" => ends(10_000, ENDED, nothing),
        "HC-018" => ends(20_000, ENDED, |exec, _| {
            assert!(text(exec, "stderr").contains("Too many open files"), "{exec}");
        }),
        "HC-019" => ends(120_000, EITHER, |exec, _| {
            let stdout = &exec["stdout"];
            assert_eq!(stdout["truncated"], true);
            if exec["state"] == "exited" {
                assert_eq!(stdout["bytes_total"].as_u64(), Some(10 << 30), "{stdout}");
            }
        }),
        "HC-021" => ends(3000, OVER_TIME, nothing),
        "HC-023" | "HC-025" | "HC-031" | "HC-033" | "HC-035" => ends(3000, OVER_TIME, nothing),
        "HC-024" | "HC-026" | "HC-027" => ends(20_000, ENDED, |exec, _| {
            // The one left behind, and a child of its own if it had one by then.
            assert!(matches!(exec["survivors"].as_u64(), Some(1 | 2)), "{exec}");
            assert_eq!(exec["exit_code"], 0);
            assert!(exec["duration_ms"].as_u64().is_some_and(|ms| ms < 2000), "{exec}");
        }),
        "HC-029" => ends(10_000, EITHER, nothing),
        other => panic!("{other} has no expectation"),
    }
}

fn text<'a>(exec: &'a Value, stream: &str) -> &'a str {
    exec[stream]["head"].as_str().unwrap_or_default()
}

/// Runs a case in a session of its own.
async fn run(id: &str) {
    let Expected { timeout_ms, states, check } = expected(id);
    let canary = Canary::start().await;
    let session = Stack::shared().session().await;
    let container = Container::of(&session).await;
    let begun = Instant::now();
    let command = command(id);
    let body = json!({ "command": command, "timeout_ms": timeout_ms });
    let exec = session.run_approved(body).await;
    let state = exec["state"].as_str().unwrap_or_default();
    assert!(states.contains(&state), "{id}: {exec}");
    let limit = Duration::from_millis(timeout_ms + 2000);
    let ran = Duration::from_millis(exec["duration_ms"].as_u64().unwrap_or(u64::MAX / 2));
    assert!(ran <= limit, "{id} ran {ran:?}");
    assert!(begun.elapsed() < limit + Duration::from_secs(20), "{id}");
    check(&exec, text(&exec, "stdout"));
    container.assert_only_pid_1(id).await;
    canary.assert_unharmed(id).await;
    // The sandbox is as good as before, or another one is.
    let after = session.run("echo still here").await;
    assert_eq!(after["stdout"]["head"], "still here\n", "{id}: {after}");
    container.close(&session).await;
}

macro_rules! cases {
    ($($name:ident: $($id:literal)+;)+) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            for id in [$($id),+] {
                run(id).await;
            }
        }
    )+};
}

cases! {
    fork_bombs_hurt_their_own_container_only: "HC-001" "HC-002";
    zombies_are_reaped: "HC-004" "HC-005";
    memory_ends_at_its_limit: "HC-007" "HC-009" "HC-010";
    processor_time_is_shared: "HC-011";
    the_disk_ends_at_its_limit: "HC-013" "HC-014" "HC-016" "HC-017";
    files_end_at_their_limit: "HC-018";
    output_is_bounded: "HC-021" "HC-023";
    what_is_left_behind_is_ended_and_counted: "HC-024" "HC-026" "HC-027";
    signals_hit_nobody_else: "HC-025" "HC-029" "HC-031";
    time_is_enforced: "HC-033" "HC-035";
}

/// Ten gigabytes take a while; the fast tier runs a tenth of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endless_output_is_counted_and_cut() {
    if std::env::var_os("BULKHEAD_TEST_ALL").is_some() {
        return run("HC-019").await;
    }
    let session = Stack::shared().session().await;
    let body = json!({ "command": "yes | head -c 1G", "timeout_ms": 60_000 });
    let exec = session.run_approved(body).await;
    assert_eq!(exec["state"], "exited", "{exec}");
    assert_eq!(exec["stdout"]["bytes_total"].as_u64(), Some(1 << 30));
    assert_eq!(exec["stdout"]["truncated"], true);
}

/// One file of memory ends at the limit of files; many of them end at that of memory.
#[tokio::test]
async fn files_in_memory_are_charged_as_memory() {
    let command = "python3 -c \"import os\nfor n in range(8):\n fd=os.memfd_create('a')\n \
                   [os.write(fd,b'x'*(1<<20)) for _ in range(200)]\"";
    let session = Stack::shared().session().await;
    let exec = session.run_approved(json!({ "command": command, "timeout_ms": 60_000 })).await;
    assert_eq!((&exec["state"], &exec["oom_killed"]), (&json!("killed"), &json!(true)), "{exec}");
}

#[tokio::test]
async fn sessions_do_not_leak_their_processes_into_each_other() {
    let one: TestSession = Stack::shared().session().await;
    let two = Stack::shared().session().await;
    one.submit(json!({ "command": "sleep 31.4159", "background": true })).await;
    let list = two.run_approved(json!({ "command": "ps -eo args" })).await;
    assert!(!text(&list, "stdout").contains("31.4159"), "{list}");
}
