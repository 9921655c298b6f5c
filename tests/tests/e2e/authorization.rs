//! Every operation of `/openapi.json`, called by everybody who must not: generated from the
//! description, so that an operation without a row here fails.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::{Value, json};
use tests::{Caller, Stack};

const ROLES: [&str; 6] = ["platform", "owner", "agent", "reviewer", "viewer", "executor"];
const RANDOM: &str = "0123456789abcdef0123456789abcdef";

/// How an operation is called so that only who calls can be wrong.
struct Row {
    /// An object of acme, for `{id}`.
    id: Option<String>,
    query: &'static str,
    body: Option<Value>,
    headers: Vec<(&'static str, String)>,
}

/// Objects of acme.
struct Objects {
    session: String,
    exec: String,
    turn: String,
    approval: String,
    token: String,
    executor: String,
    tenant: String,
}

impl Objects {
    async fn create(stack: &Stack) -> Self {
        let session = stack.session().await;
        let exec = session.submit(json!({ "command": "touch asked" })).await;
        let approval = session.approval_of(&exec).await;
        let path = format!("/v1/sessions/{}/turns", session.id);
        let turn = session.agent.post(&path, json!({ "input": "hello" })).await.expect(201);
        let owner = stack.owner("acme");
        let body = json!({ "name": "t", "role": "viewer" });
        let token = owner.post("/v1/tokens", body).await.expect(201);
        let executors = owner.get("/v1/executors").await.expect(200);
        let text = |value: &Value| value.as_str().expect("an id").to_owned();
        Self {
            session: session.id,
            exec: text(&exec["exec_id"]),
            turn: text(&turn["turn_id"]),
            approval,
            token: text(&token["token_id"]),
            executor: text(&executors["items"][0]["executor_id"]),
            tenant: text(&stack.platform().get("/v1/tenants").await.body["items"][0]["tenant_id"]),
        }
    }

    fn row(&self, operation: &str) -> Option<Row> {
        let of = |id: &str, body: Option<Value>| Row {
            id: Some(id.to_owned()),
            query: "",
            body,
            headers: Vec::new(),
        };
        let plain = |body| Row { id: None, query: "", body, headers: Vec::new() };
        let reporter = || {
            vec![("bulkhead-executor", self.executor.clone()), ("bulkhead-epoch", "1".to_owned())]
        };
        Some(match operation {
            "set_quota" => of(&self.tenant, Some(json!({}))),
            "get_usage" | "list_tenants" | "list_tokens" | "list_sessions" | "list_approvals"
            | "list_audit_events" | "list_executors" => plain(None),
            // A name that is taken, or no name: nothing is made by those who may.
            "create_tenant" => plain(Some(json!({ "name": "acme" }))),
            "create_token" => plain(Some(json!({ "name": "", "role": "viewer" }))),
            "create_session" => plain(Some(json!({ "name": "" }))),
            "get_policy"
            | "list_policy_versions"
            | "list_audit_checkpoints"
            | "list_audit_reviews"
            | "list_audit_queue"
            | "get_audit_figures"
            | "get_audit_sampling"
            | "get_audit_retention"
            | "export_audit"
            | "create_audit_checkpoint" => plain(None),
            "put_policy" | "simulate_policy" => plain(Some(json!({ "text": "no policy" }))),
            "check_policy" | "explain_policy" => plain(Some(json!({ "command": "ls" }))),
            // No rule, no time and no scope: nothing is set or erased by those who may.
            "put_audit_sampling" => plain(Some(json!({ "rules": [{ "id": "", "one_in": 1 }] }))),
            "put_audit_retention" => plain(Some(json!({ "days": 0 }))),
            "create_audit_erasure" => plain(Some(json!({}))),
            "create_audit_review" => plain(Some(json!({ "verdict": "none" }))),
            "propose_rule" => of(&self.approval, None),
            "create_webhook" => plain(Some(json!({ "url": "x", "events": [] }))),
            "list_webhooks" => plain(None),
            "delete_webhook" => of(&format!("whk_{RANDOM}"), None),
            "revoke_token" => of(&self.token, None),
            "get_session"
            | "delete_session"
            | "shutdown_session"
            | "interrupt_session"
            | "list_execs"
            | "follow_session"
            | "list_files"
            | "get_file"
            | "delete_file"
            | "list_session_evidence" => of(&self.session, None),
            "put_file" => of(&self.session, Some(json!("content"))),
            "put_workspace" => Row { query: "?kind=tar", ..of(&self.session, Some(json!("tar"))) },
            "create_exec" => of(&self.session, Some(json!({ "command": "true" }))),
            "create_turn" => of(&self.session, Some(json!({ "input": "hi" }))),
            "get_turn" => of(&self.turn, None),
            "get_exec" | "read_exec_output" | "get_exec_cast" | "cancel_exec" => {
                of(&self.exec, None)
            }
            "send_exec_input" => of(&self.exec, Some(json!({ "data": "x" }))),
            "signal_exec" => of(&self.exec, Some(json!({ "signal": "TERM" }))),
            "resize_exec" => of(&self.exec, Some(json!({ "rows": 1, "cols": 1 }))),
            "get_approval" => of(&self.approval, None),
            "decide_approval" => of(&self.approval, Some(json!({ "decision": "approve" }))),
            "enrol_executor" => plain(Some(json!({ "executor_id": "none" }))),
            "report_alive" => Row { headers: reporter(), ..plain(None) },
            "open_call_line" => Row { headers: reporter(), ..plain(None) },
            "get_call" | "get_call_body" => of(&format!("cal_{RANDOM}"), None),
            "reply_to_call" => of(&format!("cal_{RANDOM}"), Some(json!("{}\n"))),
            "report_exec_started" => {
                Row { headers: reporter(), ..of(&self.exec, Some(json!({ "started_at_ms": 1 }))) }
            }
            "report_exec_loss" => Row {
                headers: reporter(),
                ..of(&self.exec, Some(json!({ "stream": "stdout", "reason": "refused" })))
            },
            "report_exec_output" => Row {
                headers: reporter(),
                query: "?stream=stdout&offset=0",
                ..of(&self.exec, Some(json!("bytes")))
            },
            "report_exec_result" => {
                let report = json!({ "tenant_id": self.tenant, "nonce": "", "ciphertext": "" });
                let reply = json!({ "report": report });
                Row { headers: reporter(), ..of(&self.exec, Some(reply)) }
            }
            _ => return None,
        })
    }
}

/// One operation of the description.
struct Operation {
    id: String,
    method: Method,
    path: String,
    /// None: anybody may.
    roles: Option<BTreeSet<String>>,
}

async fn operations(stack: &Stack) -> Vec<Operation> {
    let api = stack.anonymous().get("/openapi.json").await.expect(200);
    let mut found = Vec::new();
    for (path, item) in api["paths"].as_object().expect("paths") {
        for (method, operation) in item.as_object().expect("methods") {
            let roles = operation["x-roles"].as_array().map(|roles| {
                roles.iter().filter_map(|role| role.as_str().map(ToOwned::to_owned)).collect()
            });
            found.push(Operation {
                id: operation["operationId"].as_str().expect("an id").to_owned(),
                method: method.to_uppercase().parse().expect("a method"),
                path: path.clone(),
                roles,
            });
        }
    }
    found
}

impl Operation {
    /// Calls it on the row's object, or on one that does not exist.
    async fn call(&self, caller: &Caller, row: &Row, on_random: bool) -> (u16, String) {
        let id = row.id.clone().unwrap_or_default();
        let random = format!("{}{RANDOM}", id.get(..4).unwrap_or_default());
        let id = if on_random { random } else { id };
        let path = self.path.replace("{id}", &id).replace("{path}", "some/file");
        let headers: Vec<(&str, &str)> =
            row.headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let path = format!("{path}{}", row.query);
        let answer = caller.call_with(self.method.clone(), &path, row.body.clone(), &headers).await;
        (answer.status, answer.text)
    }
}

/// A token of a tenant with any role that its owner gives out.
async fn token(stack: &Stack, tenant: &str, role: &str, body: Value) -> Caller {
    let mut wanted = json!({ "name": "matrix", "role": role });
    wanted.as_object_mut().expect("an object").extend(body.as_object().cloned().expect("one"));
    let made = stack.owner(tenant).post("/v1/tokens", wanted).await.expect(201);
    stack.caller(made["token"].as_str())
}

/// A caller whose token has run out.
async fn expired(stack: &Stack) -> Caller {
    let caller = token(stack, "acme", "owner", json!({ "expires_in_s": 1 })).await;
    let gone = async {
        while caller.get("/v1/sessions?limit=1").await.status == 200 {
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        }
    };
    let limit = std::time::Duration::from_secs(10);
    tokio::time::timeout(limit, gone).await.expect("one second and five of leeway");
    caller
}

/// A caller whose token was called back.
async fn revoked(stack: &Stack) -> Caller {
    let owner = stack.owner("acme");
    let made = owner.post("/v1/tokens", json!({ "name": "gone", "role": "owner" })).await;
    let made = made.expect(201);
    let path = format!("/v1/tokens/{}", made["token_id"].as_str().expect("an id"));
    assert_eq!(owner.delete(&path).await.status, 204);
    stack.caller(made["token"].as_str())
}

#[tokio::test]
async fn every_operation_is_closed_to_everybody_who_must_not() {
    let stack = Stack::shared();
    let objects = Objects::create(stack).await;
    let operations = operations(stack).await;
    let nobodies = [
        ("anonymous", stack.anonymous()),
        ("malformed", stack.caller(Some("bh_a.b.c"))),
        ("expired", expired(stack).await),
        ("revoked", revoked(stack).await),
    ];
    let mut own = Vec::new();
    let mut foreign = Vec::new();
    for role in ROLES {
        let of = |tenant: &'static str| async move {
            match role {
                "platform" => stack.platform(),
                role => token(stack, tenant, role, json!({})).await,
            }
        };
        own.push((role, of("acme").await));
        foreign.push((role, of("globex").await));
    }
    let mut wrong = Vec::new();
    let mut checks = 0;
    for operation in &operations {
        let Some(roles) = &operation.roles else { continue };
        let Some(row) = objects.row(&operation.id) else {
            wrong.push(format!("{}: no row in tests/e2e/authorization.rs", operation.id));
            continue;
        };
        let mut check = |who: &str, ok: bool, got: &(u16, String)| {
            checks += 1;
            if !ok {
                wrong.push(format!("{} as {who}: {} {}", operation.id, got.0, got.1));
            }
        };
        for (who, caller) in &nobodies {
            let got = operation.call(caller, &row, false).await;
            check(who, got.0 == 401, &got);
        }
        for (role, caller) in &own {
            if !roles.contains(*role) {
                let got = operation.call(caller, &row, false).await;
                check(role, got.0 == 403, &got);
            } else if row.id.is_some() {
                let got = operation.call(caller, &row, true).await;
                check(role, got.0 == 404, &got);
            } else {
                let got = operation.call(caller, &row, false).await;
                check(role, !matches!(got.0, 401 | 403 | 500..), &got);
            }
        }
        for (role, caller) in foreign.iter().filter(|(role, _)| roles.contains(*role)) {
            if row.id.is_none() || *role == "platform" {
                continue;
            }
            let on_foreign = operation.call(caller, &row, false).await;
            let on_random = operation.call(caller, &row, true).await;
            check(&format!("{role} of another tenant"), on_foreign.0 == 404, &on_foreign);
            check(&format!("{role}: not the same"), on_foreign == on_random, &on_random);
        }
    }
    assert!(wrong.is_empty(), "{} of {checks} checks:\n{}", wrong.len(), wrong.join("\n"));
    assert!(operations.len() > 30 && checks > 300, "{checks} checks of {}", operations.len());
    // And nothing of it had any effect.
    let exec = stack.agent("acme").get(&format!("/v1/execs/{}", objects.exec)).await.expect(200);
    assert_eq!(exec["state"], "pending_approval");
}

#[tokio::test]
async fn a_foreign_id_in_a_query_finds_what_a_random_one_finds() {
    let stack = Stack::shared();
    let session = stack.session().await;
    let stranger = stack.owner("globex");
    let random = format!("ses_{RANDOM}");
    for path in ["/v1/audit/events?session_id={}", "/v1/sessions?cursor={}&limit=1"] {
        let foreign = stranger.get(&path.replace("{}", &session.id)).await;
        assert_eq!(foreign.status, 200, "{path}");
        assert!(!foreign.text.contains(&session.id), "{path}");
        let missing = stranger.get(&path.replace("{}", &random)).await;
        assert_eq!(missing.status, 200, "{path}");
    }
}
