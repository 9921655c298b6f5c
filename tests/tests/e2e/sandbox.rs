//! Hostile and awkward commands: right state, in time, without harm to a neighbour.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::{Stack, TestSession};

/// Runs a command with a timeout of one second; asserts that it is over soon after.
async fn run_bounded(session: &TestSession, command: &str) -> Value {
    let started = Instant::now();
    let exec = session.run_approved(json!({ "command": command, "timeout_ms": 1000 })).await;
    let ran = exec["duration_ms"].as_u64().unwrap_or(0);
    assert!(ran <= 3000, "{command} ran {ran} ms");
    assert!(started.elapsed() < Duration::from_secs(20), "{command}");
    exec
}

#[tokio::test]
async fn what_does_not_end_is_ended() {
    let session = Stack::shared().session().await;
    for command in
        ["sleep 999", "trap '' TERM; sleep 999", "while :; do :; done", "yes > /dev/null"]
    {
        assert_eq!(run_bounded(&session, command).await["state"], "timed_out", "{command}");
    }
}

#[tokio::test]
async fn a_child_left_behind_delays_nothing() {
    let session = Stack::shared().session().await;
    for command in ["sleep 999 &", "(setsid sleep 999 &)", "nohup sleep 999 & echo done"] {
        let exec = run_bounded(&session, command).await;
        assert_eq!(
            (&exec["state"], &exec["exit_code"]),
            (&json!("exited"), &json!(0)),
            "{command}"
        );
        assert!(exec["duration_ms"].as_u64().is_some_and(|ms| ms < 900), "{exec}");
    }
}

#[tokio::test]
async fn reading_input_that_is_closed_ends_at_once() {
    let session = Stack::shared().session().await;
    let exec = run_bounded(&session, "read x; echo got $?").await;
    assert_eq!(exec["stdout"]["head"], "got 1\n");
    let body = json!({ "command": "cat", "stdin": "given\n" });
    assert_eq!(session.submit_and_wait(body).await["stdout"]["head"], "given\n");
}

trait SubmitAndWait {
    async fn submit_and_wait(&self, body: Value) -> Value;
}

impl SubmitAndWait for TestSession {
    async fn submit_and_wait(&self, body: Value) -> Value {
        let exec = self.submit(body).await;
        self.wait(&exec).await
    }
}

#[tokio::test]
async fn a_fork_bomb_hurts_nobody_else() {
    let stack = Stack::shared();
    let hostile = stack.session().await;
    let neighbour = TestSession::create(stack, "globex").await;
    neighbour.run("true").await;
    let bomb = run_bounded(&hostile, ":(){ :|:& };:; wait");
    let canary = async {
        let started = Instant::now();
        let exec = neighbour.run("echo ok").await;
        (exec["stdout"]["head"].clone(), started.elapsed())
    };
    let (bomb, (said, took)) = tokio::join!(bomb, canary);
    assert_ne!(bomb["state"], "running");
    assert_eq!(said, "ok\n");
    assert!(took < Duration::from_secs(5), "{took:?}");
}

#[tokio::test]
async fn the_kernel_killing_for_memory_is_told_as_such() {
    let session = Stack::shared().session().await;
    let exec = session.run_approved(json!({ "command": "exec tail /dev/zero" })).await;
    assert_eq!((&exec["state"], &exec["oom_killed"]), (&json!("killed"), &json!(true)), "{exec}");
    assert_eq!(session.run("echo alive").await["stdout"]["head"], "alive\n");
}

#[tokio::test]
async fn long_output_is_kept_byte_for_byte_and_summarised() {
    let session = Stack::shared().session().await;
    let command = "seq 1 300000; seq 5 >&2; printf '\\000\\377'";
    let exec = session.run_approved(json!({ "command": command })).await;
    let mut expected: Vec<u8> = (1..=300_000).flat_map(|n| format!("{n}\n").into_bytes()).collect();
    expected.extend([0, 255]);
    assert_eq!(exec["stdout"]["bytes_total"], expected.len());
    assert_eq!(exec["stdout"]["truncated"], true);
    assert!(session.output(&exec, "stdout").await == expected, "output differs");
    assert_eq!(session.output(&exec, "stderr").await, b"1\n2\n3\n4\n5\n");
}

#[tokio::test]
async fn a_command_has_no_rights_worth_having() {
    let session = Stack::shared().session().await;
    let checks = [
        (
            "grep -E '^Cap(Inh|Prm|Eff|Bnd|Amb)' /proc/self/status | grep -cv 0000000000000000",
            "0\n",
        ),
        ("grep NoNewPrivs /proc/self/status | tr -d '[:blank:]'", "NoNewPrivs:1\n"),
        ("test $(id -u) -ge 10000 && echo plain", "plain\n"),
        ("touch /x 2>/dev/null || echo read-only", "read-only\n"),
        ("ls /sys/class/net", "lo\n"),
        ("find / -xdev -perm /6000 -type f 2>/dev/null | wc -l", "0\n"),
        ("ls -A /.bulkhead/ctl 2>/dev/null | wc -l", "0\n"),
        ("kill -9 1; cat /proc/1/environ 2>/dev/null | wc -c", "0\n"),
        ("mount -t tmpfs none /tmp 2>/dev/null || echo no", "no\n"),
        ("unshare -U true 2>/dev/null || echo no", "no\n"),
        ("env | cut -d= -f1 | sort | tr '\\n' ' '", "HOME LANG PATH PWD SHLVL TERM USER _ "),
        ("pwd; echo $HOME", "/work\n/work\n"),
    ];
    for (command, expected) in checks {
        let exec = session.run_approved(json!({ "command": command })).await;
        assert_eq!(exec["stdout"]["head"], expected, "{command}: {exec}");
    }
}

#[tokio::test]
async fn a_missing_folder_is_said_before_anything_runs() {
    let session = Stack::shared().session().await;
    let exec = session.submit_and_wait(json!({ "command": "true", "cwd": "/work/none" })).await;
    assert_eq!(exec["error"]["code"], "cwd_missing", "{exec}");
    assert!(exec["exit_code"].is_null());
}

#[tokio::test]
async fn cancel_kills_what_runs_and_keeps_what_it_said() {
    let session = Stack::shared().session().await;
    let exec = session.submit(json!({ "command": "touch asked; echo begun; sleep 999" })).await;
    let approval_id = session.approval_of(&exec).await;
    session.decide(&approval_id, "approve", None).await;
    session.wait_until(&exec, |exec| exec["state"] == "running").await;
    let id = exec["exec_id"].as_str().unwrap();
    session.agent.post(&format!("/v1/execs/{id}/cancel"), json!({})).await.expect(200);
    let exec = session.wait(&exec).await;
    assert_eq!(exec["state"], "cancelled", "{exec}");
    assert_eq!(session.output(&exec, "stdout").await, b"begun\n");
}
