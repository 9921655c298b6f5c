//! No intent is left without an outcome: what nobody tells of any more is closed as `unknown`, once.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::{Replica, Stack, TestSession, TestTenant};

/// How long to wait for what a sweep does: it looks after all tenants of the stack, one after another.
const PATIENCE: Duration = Duration::from_secs(120);
const EVERY_SECOND: [(&str, &str); 1] = [("BULKHEAD_AUDIT_SWEEP_S", "1")];

/// The id of a tenant that this process made.
async fn id_of(stack: &Stack, name: &str) -> String {
    stack.tenant_id(&format!("{name}-{}", std::process::id())).await
}

fn change(stack: &Stack, tenant: &str, sql: &str) {
    let scope = format!("SELECT set_config('app.tenant_id', '{tenant}', true)");
    stack.psql(&format!("BEGIN; {scope}; {sql}; COMMIT")).expect("changes");
}

async fn finishes(session: &TestSession, exec_id: &str) -> Vec<Value> {
    let path = format!("/v1/audit/events?action=exec.finish&exec_id={exec_id}");
    let page = session.reviewer.get(&path).await.expect(200);
    page["items"].as_array().cloned().unwrap_or_default()
}

#[tokio::test]
async fn a_permitted_exec_that_nobody_tells_of_is_closed_as_unknown_by_one_of_two() {
    let stack = Stack::shared();
    // Its executor only enrolled: what it is given is never heard of again.
    let tenant = TestTenant::create(stack, "unknown").await;
    let session = tenant.session().await;
    let id = id_of(stack, "unknown").await;
    let mut execs = Vec::new();
    for command in ["echo queued", "echo running", "echo patient", "touch asked", "echo clock"] {
        let exec = session.submit(json!({ "command": command })).await;
        execs.push(session.wait_until(&exec, |exec| !exec["decision"].is_null()).await);
    }
    let exec_id = |n: usize| execs[n]["exec_id"].as_str().expect("an id").to_owned();
    // Three days pass for all but two of them, for which it is an hour; the executor of one of these
    // says that it started three days ago, by its own clock.
    change(
        stack,
        &id,
        &format!(
            "UPDATE execs SET created_at = created_at - interval '3 days',
                    decided_at = decided_at - CASE WHEN id IN ('{}', '{}') THEN interval '1 hour'
                                                   ELSE interval '3 days' END
             WHERE session_id = '{}';
             UPDATE execs SET state = 'running', started_at = decided_at WHERE id = '{}';
             UPDATE execs SET state = 'running', started_at = now() - interval '3 days'
             WHERE id = '{}'",
            exec_id(2),
            exec_id(4),
            session.id,
            exec_id(1),
            exec_id(4)
        ),
    );
    let (one, two) =
        tokio::join!(Replica::start(stack, &EVERY_SECOND), Replica::start(stack, &EVERY_SECOND));
    for n in [0, 1] {
        let exec = session.wait(&execs[n]).await;
        assert_eq!(
            (&exec["state"], &exec["error"]["code"]),
            (&json!("lost"), &json!("outcome_unknown"))
        );
        let finishes = finishes(&session, &exec_id(n)).await;
        assert_eq!(finishes.len(), 1, "{finishes:?}");
        assert_eq!(finishes[0]["outcome"], "unknown");
        assert_eq!(finishes[0]["role"], "reconciler");
    }
    // Patience is not over for two, and the other was never permitted.
    for (n, state) in [(2, "queued"), (3, "pending_approval"), (4, "running")] {
        let exec = session.agent.get(&format!("/v1/execs/{}", exec_id(n))).await.expect(200);
        assert_eq!(exec["state"], state);
    }
    // One of the two did it, and says so; the stack's own may have been first.
    for replica in [&one, &two] {
        let metrics = replica.caller(None).get("/metrics").await;
        assert!(metrics.text.contains("bulkhead_execs_reconciled_total"), "{}", metrics.text);
    }
}

#[tokio::test]
async fn an_exec_that_nobody_decides_about_is_closed_when_its_turn_is_long_over() {
    let stack = Stack::shared();
    let tenant = TestTenant::create(stack, "undecided").await;
    let session = tenant.session().await;
    let id = id_of(stack, "undecided").await;
    let asked = session.submit(json!({ "command": "touch asked" })).await;
    let approval = session.approval_of(&asked).await;
    let behind = session.submit(json!({ "command": "touch behind" })).await;
    let exec_id = |exec: &Value| exec["exec_id"].as_str().expect("an id").to_owned();
    let (asked_id, behind_id) = (exec_id(&asked), exec_id(&behind));
    // Its workflow is gone, as far as the rows tell: its question expired three days ago, and the one
    // behind it has waited for as long.
    change(
        stack,
        &id,
        &format!(
            "UPDATE execs SET created_at = created_at - interval '4 days',
                    decided_at = decided_at - interval '4 days' WHERE session_id = '{}';
             UPDATE approvals SET expires_at = now() - interval '3 days' WHERE id = '{approval}'",
            session.id
        ),
    );
    let (_one, _two) =
        tokio::join!(Replica::start(stack, &EVERY_SECOND), Replica::start(stack, &EVERY_SECOND));
    let asked = session.wait(&asked).await;
    assert_eq!(
        (&asked["state"], &asked["error"]["code"]),
        (&json!("cancelled"), &json!("outcome_unknown"))
    );
    let events = finishes(&session, &asked_id).await;
    assert_eq!(events.len(), 1, "{events:?}");
    assert_eq!(
        (&events[0]["outcome"], &events[0]["role"]),
        (&json!("unknown"), &json!("reconciler"))
    );
    let approval = session.reviewer.get(&format!("/v1/approvals/{approval}")).await.expect(200);
    assert_eq!(approval["state"], "cancelled");
    // Only now it is the turn of the one behind it, which is asked about as ever.
    let second = session.approval_of(&behind).await;
    assert_eq!(finishes(&session, &behind_id).await, Vec::<Value>::new());
    // Its question expired as well, and nobody cared for nearly an hour, then for two: no whole day
    // is waited behind one that had been forgotten.
    let pass = |minutes: u32| {
        let ago = format!("now() - interval '{minutes} minutes'");
        change(
            stack,
            &id,
            &format!(
                "UPDATE approvals SET expires_at = now() - interval '3 days' WHERE id = '{second}';
                 UPDATE execs SET decided_at = created_at WHERE id = '{behind_id}';
                 UPDATE execs SET finished_at = {ago} WHERE id = '{asked_id}'"
            ),
        );
    };
    pass(55);
    let elsewhere = tenant.session().await;
    let marker = elsewhere.submit(json!({ "command": "echo queued" })).await;
    let marker = elsewhere.wait_until(&marker, |exec| !exec["decision"].is_null()).await;
    let of_elsewhere = format!("WHERE session_id = '{}'", elsewhere.id);
    let times = "created_at = created_at - interval '4 days',
                 decided_at = decided_at - interval '4 days'";
    change(stack, &id, &format!("UPDATE execs SET {times} {of_elsewhere}"));
    // Found by a look that began after the hour had not passed.
    assert_eq!(elsewhere.wait(&marker).await["state"], "lost");
    assert_eq!(finishes(&session, &behind_id).await, Vec::<Value>::new());
    pass(120);
    let behind = session.wait(&behind).await;
    assert_eq!(
        (&behind["state"], &behind["error"]["code"]),
        (&json!("cancelled"), &json!("outcome_unknown"))
    );
}

#[tokio::test]
async fn an_exec_that_waits_is_closed_once_nobody_says_so_any_more() {
    let stack = Stack::shared();
    let tenant = TestTenant::create(stack, "waiting").await;
    let id = id_of(stack, "waiting").await;
    // Its executor has been gone for a day.
    change(stack, &id, "UPDATE executors SET last_seen_at = now() - interval '1 day'");
    let (alive, gone) = (tenant.session().await, tenant.session().await);
    let mut execs = Vec::new();
    for session in [&alive, &gone] {
        let exec = session.submit(json!({ "command": "echo waits" })).await;
        execs.push(session.wait_until(&exec, |exec| exec["waiting_reason"].is_string()).await);
    }
    let exec_id = |n: usize| execs[n]["exec_id"].as_str().expect("an id");
    let asked = "UPDATE execs SET created_at = created_at - interval '4 days'";
    change(stack, &id, &format!("{asked} WHERE tenant_id = '{id}'"));
    let _replica = Replica::start(stack, &EVERY_SECOND).await;
    // As far as the rows tell, the workflow of one says nothing more; in truth it says so twice a
    // minute.
    let closing = async {
        let silent = "UPDATE execs SET waited_at = now() - interval '3 days'
                      WHERE finished_at IS NULL";
        loop {
            change(stack, &id, &format!("{silent} AND id = '{}'", exec_id(1)));
            let path = format!("/v1/execs/{}?wait_ms=5000", exec_id(1));
            let exec = gone.agent.get(&path).await.expect(200);
            if exec["state"] != "queued" {
                break exec;
            }
        }
    };
    let exec = tokio::time::timeout(PATIENCE, closing).await.expect("it is closed");
    assert_eq!(
        (&exec["state"], &exec["error"]["code"]),
        (&json!("cancelled"), &json!("outcome_unknown"))
    );
    let events = finishes(&gone, exec_id(1)).await;
    assert_eq!(events.len(), 1, "{events:?}");
    assert_eq!(events[0]["role"], "reconciler");
    // The other one is as old, and waits on.
    let exec = alive.agent.get(&format!("/v1/execs/{}", exec_id(0))).await.expect(200);
    assert_eq!(exec["state"], "queued", "{exec}");
}

#[tokio::test]
async fn an_exec_that_ended_without_its_event_gets_one() {
    let stack = Stack::shared();
    let tenant = TestTenant::create(stack, "unrecorded").await;
    let session = tenant.session().await;
    let id = id_of(stack, "unrecorded").await;
    let asked = session.submit(json!({ "command": "touch asked" })).await;
    let approval = session.approval_of(&asked).await;
    session.decide(&approval, "deny", None).await;
    session.wait(&asked).await;
    let recorded = asked["exec_id"].as_str().expect("an id");
    // A copy of it, which nobody ever spoke of.
    let copy = "exe_0123456789abcdef0123456789abcdef";
    change(
        stack,
        &id,
        &format!(
            "INSERT INTO execs (tenant_id, id, session_id, state, command, cwd, env, timeout_ms,
                                created_by, finished_at)
             SELECT tenant_id, '{copy}', session_id, 'exited', command, cwd, env, timeout_ms,
                    created_by, now() FROM execs WHERE id = '{recorded}'"
        ),
    );
    let _one = Replica::start(stack, &EVERY_SECOND).await;
    let _two = Replica::start(stack, &EVERY_SECOND).await;
    let deadline = Instant::now() + PATIENCE;
    let event = loop {
        if let Some(event) = finishes(&session, copy).await.pop() {
            break event;
        }
        assert!(Instant::now() < deadline, "no event");
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    assert_eq!((&event["outcome"], &event["role"]), (&json!("unknown"), &json!("reconciler")));
    assert_eq!(event["detail"]["state"], "exited");
    assert_eq!(event["session_id"], session.id);
    // It got one only, also from the other one, and who had one got none.
    change(
        stack,
        &id,
        &format!("UPDATE execs SET finished_at = now() WHERE id IN ('{copy}', '{recorded}')"),
    );
    let other = "exe_0123456789abcdef0123456789abcde0";
    change(
        stack,
        &id,
        &format!(
            "INSERT INTO execs (tenant_id, id, session_id, state, command, cwd, env, timeout_ms,
                                created_by, finished_at)
             SELECT tenant_id, '{other}', session_id, 'exited', command, cwd, env, timeout_ms,
                    created_by, now() + interval '1 second' FROM execs WHERE id = '{recorded}'"
        ),
    );
    // Looked through after both of them.
    while finishes(&session, other).await.is_empty() {
        assert!(Instant::now() < deadline, "no event");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(finishes(&session, copy).await.len(), 1);
    assert_eq!(finishes(&session, recorded).await.len(), 1);
}

#[tokio::test]
async fn work_on_files_whose_server_died_is_closed_as_unknown_once() {
    let stack = Stack::shared();
    let session = stack.session().await;
    session.run("true").await;
    let doomed = Replica::start(stack, &[]).await;
    let agent = doomed.caller(Some(&stack.dev().tenants["acme"].agent_token));
    let path = |name: &str| format!("/v1/sessions/{}/files/{name}", session.id);
    // A client that never gets to the end of what it sends.
    let body = futures::stream::pending::<Result<Vec<u8>, std::io::Error>>();
    let request = agent.0.request(reqwest::Method::PUT, &path("half"));
    let sending = tokio::spawn(request.body(reqwest::Body::wrap_stream(body)).send());
    let of_half = |events: &[Value]| -> Vec<Value> {
        let half = events.iter().filter(|event| event["detail"]["path"] == "half");
        half.cloned().collect()
    };
    let deadline = Instant::now() + PATIENCE;
    let requested = loop {
        if let Some(event) = of_half(&session.reviewer.audit_of(&session.id).await).pop() {
            break event;
        }
        assert!(Instant::now() < deadline, "no request on record");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert_eq!(requested["outcome"], "requested");
    drop(doomed);
    let _ = sending.await.expect("no panic").expect_err("nobody answers");
    // What has an outcome is of no concern, and what is young is waited for.
    let put = session.agent.call(reqwest::Method::PUT, &path("whole"), Some(json!("x"))).await;
    put.expect(201);
    let tenant = stack.tenant_id("acme").await;
    let (_one, _two) =
        tokio::join!(Replica::start(stack, &EVERY_SECOND), Replica::start(stack, &EVERY_SECOND));
    let age = |path: &str, age: &str| {
        change(
            stack,
            &tenant,
            &format!(
                "UPDATE file_calls SET begun_at = begun_at - interval '{age}'
                 WHERE session_id = '{}' AND path = '{path}'",
                session.id
            ),
        );
    };
    // Of a day and the ten minutes that work on files may take, less than all.
    age("half", "23 hours");
    age("whole", "3 days");
    // One that is overdue, looked at together with that.
    change(
        stack,
        &tenant,
        &format!(
            "INSERT INTO file_calls (tenant_id, id, session_id, token_id, action, path, begun_at)
             SELECT tenant_id, 'fcl_' || repeat('0', 32), session_id, token_id, action, 'old',
                    now() - interval '3 days'
             FROM file_calls WHERE session_id = '{}' AND path = 'half'",
            session.id
        ),
    );
    let is_old = |event: &Value| event["detail"]["path"] == "old";
    while !session.reviewer.audit_of(&session.id).await.iter().any(is_old) {
        assert!(Instant::now() < deadline, "not closed");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(of_half(&session.reviewer.audit_of(&session.id).await).len(), 1);
    age("half", "2 hours");
    let closed = loop {
        let mut events = of_half(&session.reviewer.audit_of(&session.id).await);
        if events.len() > 1 {
            events.retain(|event| event["outcome"] != "requested");
            break events;
        }
        assert!(Instant::now() < deadline, "not closed");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert_eq!(closed.len(), 1, "{closed:?}");
    for (field, value) in [
        ("outcome", "unknown"),
        ("role", "reconciler"),
        ("action", requested["action"].as_str().expect("a text")),
    ] {
        assert_eq!(closed[0][field], value);
    }
    assert_eq!(closed[0]["detail"]["call"], requested["detail"]["call"]);
    let events = session.reviewer.audit_of(&session.id).await;
    let whole = events.iter().filter(|event| event["detail"]["path"] == "whole");
    let outcomes: Vec<_> = whole.map(|event| event["outcome"].clone()).collect();
    assert_eq!(outcomes, ["requested", "ok"]);
}

#[tokio::test]
async fn a_turn_whose_agent_is_gone_is_closed_as_unknown() {
    let stack = Stack::shared();
    let tenant = TestTenant::create(stack, "turns").await;
    let (session, young) = (tenant.session().await, tenant.session().await);
    let id = id_of(stack, "turns").await;
    // Turns that no workflow has ever heard of: one of four days, one behind it, one of an hour.
    let turn = |digit: char| format!("trn_{}", digit.to_string().repeat(32));
    for (digit, session, age) in
        [('1', &session, "4 days"), ('2', &session, "3 days"), ('3', &young, "1 hour")]
    {
        change(
            stack,
            &id,
            &format!(
                "INSERT INTO turns (tenant_id, id, session_id, state, input, created_by, created_at)
                 SELECT tenant_id, '{}', id, 'queued', 'x', created_by, now() - interval '{age}'
                 FROM sessions WHERE id = '{}'",
                turn(digit),
                session.id
            ),
        );
    }
    let (_one, _two) =
        tokio::join!(Replica::start(stack, &EVERY_SECOND), Replica::start(stack, &EVERY_SECOND));
    let ended = async |session: &TestSession, turn: &str| -> Vec<Value> {
        let events = session.reviewer.audit_of(&session.id).await;
        let of = |e: &Value| e["action"] == "turn.finish" && e["object"] == turn;
        events.into_iter().filter(of).collect()
    };
    let deadline = Instant::now() + PATIENCE;
    let events = loop {
        let events = ended(&session, &turn('1')).await;
        if !events.is_empty() {
            break events;
        }
        assert!(Instant::now() < deadline, "not closed");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert_eq!(events.len(), 1, "{events:?}");
    assert_eq!(
        (&events[0]["outcome"], &events[0]["role"]),
        (&json!("unknown"), &json!("reconciler"))
    );
    let seen = session.agent.get(&format!("/v1/turns/{}", turn('1'))).await.expect(200);
    assert_eq!(seen["state"], "failed", "{seen}");
    // Only now it is the turn of the one behind it, and the young one is left alone.
    for (session, turn) in [(&session, turn('2')), (&young, turn('3'))] {
        let seen = session.agent.get(&format!("/v1/turns/{turn}")).await.expect(200);
        assert_eq!(seen["state"], "queued", "{seen}");
        assert_eq!(ended(session, &turn).await, Vec::<Value>::new());
    }
}
