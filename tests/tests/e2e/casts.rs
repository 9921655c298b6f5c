//! Recordings of terminals: what was shown, when, and in which size; asciicast v2.

use serde_json::{Value, json};
use tests::{Caller, Stack, TestSession};

/// Shows a character in two halves, waits for input between them, and then for another size.
const COMMAND: &str = "stty -echo; printf 'caf\\303'; read -r _; printf '\\251 \\377\\n'
    trap 'stty size; exit 3' WINCH; echo ready; while :; do sleep 0.05; done";

fn at(exec: &Value, action: &str) -> String {
    format!("/v1/execs/{}/{action}", exec["exec_id"].as_str().expect("an id"))
}

/// Starts a command with a terminal, whether it asks or not.
async fn start(session: &TestSession, command: &str) -> Value {
    let tty = json!({ "rows": 11, "cols": 22 });
    let exec = session.submit(json!({ "command": command, "tty": tty })).await;
    let decided = |exec: &Value| exec["approval_id"].is_string() || !exec["decision"].is_null();
    let exec = session.wait_until(&exec, decided).await;
    if let Some(approval) = exec["approval_id"].as_str() {
        session.decide(approval, "approve", None).await;
    }
    exec
}

async fn wait_for_output(session: &TestSession, exec: &Value, wanted: &[u8]) {
    let shown = async || {
        let path = format!("{}?stream=stdout", at(exec, "output"));
        let answer = session.agent.0.request(reqwest::Method::GET, &path).send().await;
        answer.expect("an answer").bytes().await.expect("bytes")
    };
    let seen = async {
        while !shown().await.windows(wanted.len()).any(|part| part == wanted) {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    let limit = std::time::Duration::from_secs(60);
    tokio::time::timeout(limit, seen).await.expect("the output comes");
}

/// Header and events, each checked to be what the format says.
fn parse(text: &str) -> (Value, Vec<(f64, String, String)>) {
    let mut lines = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let header = lines.next().expect("a header");
    assert_eq!(header["version"], 2);
    let events: Vec<(f64, String, String)> =
        lines.map(|line| serde_json::from_value(line).expect("time, code, data")).collect();
    assert!(events.first().is_none_or(|event| event.0 >= 0.0));
    assert!(events.windows(2).all(|two| two[0].0 <= two[1].0), "{events:?}");
    (header, events)
}

fn shown(events: &[(f64, String, String)]) -> String {
    events.iter().filter(|event| event.1 == "o").map(|event| event.2.as_str()).collect()
}

async fn cast(caller: &Caller, exec: &Value) -> String {
    let answer = caller.get(&at(exec, "cast")).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(answer.headers["content-type"], "application/x-asciicast");
    answer.text
}

#[tokio::test]
async fn a_terminal_is_recorded_with_times_sizes_and_whole_characters() {
    let stack = Stack::shared();
    let session = stack.session().await;
    let exec = start(&session, COMMAND).await;
    wait_for_output(&session, &exec, b"caf\xc3").await;
    // While it runs there is what has arrived; half a character is none yet, or will never be one.
    let (_, events) = parse(&cast(&session.agent, &exec).await);
    assert_eq!(shown(&events), "caf\u{fffd}");
    let input = session.agent.post(&at(&exec, "stdin"), json!({ "data": "\n" })).await;
    assert_eq!(input.status, 200, "{}", input.text);
    wait_for_output(&session, &exec, b"ready").await;
    let resize = json!({ "rows": 33, "cols": 44 });
    assert_eq!(session.agent.post(&at(&exec, "resize"), resize).await.status, 204);
    let done = session.wait(&exec).await;
    assert_eq!(done["exit_code"], 3, "{done}");

    let output = session.output(&exec, "stdout").await;
    let text = cast(&stack.viewer("acme"), &exec).await;
    let (header, events) = parse(&text);
    assert_eq!((&header["width"], &header["height"]), (&json!(22), &json!(11)));
    assert_eq!(header["env"]["TERM"], "xterm-256color");
    assert!(header["timestamp"].as_i64().is_some_and(|at| at > 1_700_000_000), "{header}");
    assert_eq!(shown(&events), String::from_utf8_lossy(&output));
    let place = |part: &str| {
        let mut all = events.iter();
        all.position(|event| event.2.contains(part)).unwrap_or_else(|| panic!("{part}: {events:?}"))
    };
    // The halves came apart in time and are one character at the time of the second.
    let (first, second) = (place("caf"), place("\u{e9} \u{fffd}"));
    assert!(events[first].0 < events[second].0, "{events:?}");
    let (before, size, after) = (place("ready"), place("44x33"), place("33 44"));
    assert!(before < size && size < after, "{events:?}");
    assert_eq!(events.iter().filter(|event| event.1 == "r").count(), 1);

    let id = exec["exec_id"].as_str().expect("an id");
    let cli = stack.cli(&["execs", "cast", id, "--tenant", "acme"]).output().expect("it starts");
    assert!(cli.status.success(), "{cli:?}");
    assert_eq!(String::from_utf8_lossy(&cli.stdout), text);
    assert_eq!(stack.agent("globex").get(&at(&exec, "cast")).await.status, 404);
}

#[tokio::test]
async fn a_long_recording_is_complete() {
    let session = Stack::shared().session().await;
    let exec = start(&session, "yes recorded | head -n 200000").await;
    session.wait(&exec).await;
    let output = session.output(&exec, "stdout").await;
    assert_eq!(output.len(), 200_000 * "recorded\r\n".len());
    let (_, events) = parse(&cast(&session.agent, &exec).await);
    assert!(events.len() > 1, "not all of it at once");
    assert!(shown(&events).into_bytes() == output, "the same text");
}

#[tokio::test]
async fn an_exec_without_a_terminal_has_no_recording() {
    let session = Stack::shared().session().await;
    let exec = session.run("true").await;
    let answer = session.agent.get(&at(&exec, "cast")).await;
    assert_eq!((answer.status, answer.code()), (409, "exec_without_terminal"));
}

#[tokio::test]
async fn a_terminal_that_never_was_has_an_empty_recording() {
    let session = Stack::shared().session().await;
    let tty = json!({ "rows": 1, "cols": 2 });
    let exec = session.submit(json!({ "command": "touch asked", "tty": tty })).await;
    let approval = session.approval_of(&exec).await;
    session.decide(&approval, "deny", None).await;
    session.wait(&exec).await;
    let (header, events) = parse(&cast(&session.agent, &exec).await);
    assert_eq!((&header["width"], &header["timestamp"]), (&json!(2), &Value::Null));
    assert_eq!(events, []);
}
