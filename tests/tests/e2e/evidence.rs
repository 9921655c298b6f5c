//! A session as evidence: one ordered view of everything on record about it.

use serde_json::{Value, json};
use tests::Stack;

fn kinds(items: &[Value]) -> Vec<&str> {
    items.iter().map(|item| item["kind"].as_str().expect("a kind")).collect()
}

#[tokio::test]
async fn a_session_is_told_in_order_with_rules_approver_and_digests() {
    let stack = Stack::shared();
    let session = stack.session().await;
    session.run("echo evidence").await;
    session.run_approved(json!({ "command": "touch asked" })).await;
    let path = format!("/v1/sessions/{}/evidence", session.id);
    let all = session.reviewer.get(&path).await.expect(200);
    let items = all["items"].as_array().expect("a list");
    assert_eq!(
        kinds(items),
        [
            "session", "command", "decision", "result", "command", "decision", "approval",
            "decision", "result"
        ]
    );
    assert!(items.windows(2).all(|two| two[0]["seq"].as_i64() < two[1]["seq"].as_i64()));
    assert!(items.iter().all(|item| item["time"].is_string() && item["hash"].is_string()));
    assert_eq!(items[1]["detail"]["command"], "echo evidence");
    assert!(items[2]["decision"]["rules"].as_array().is_some_and(|rules| !rules.is_empty()));
    assert!(items[2]["decision"]["policy_version"].is_number());
    assert_eq!(items[3]["stdout_sha256"].as_str().map(str::len), Some(64));
    // Who approved stands in the approval and in the decision that it led to.
    assert!(items[6]["actor"].as_str().is_some_and(|actor| actor.contains("reviewer")));
    assert_eq!(items[7]["decision"]["approver"], items[6]["token_id"]);

    // Page by page it is the same.
    let mut paged = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = session.reviewer.get(&format!("{path}?limit=2{cursor}")).await.expect(200);
        paged.extend(page["items"].as_array().expect("a list").clone());
        let Some(next) = page["next_cursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(&paged, items);

    // Its own agent may not read it; of another tenant it is not there.
    assert_eq!(session.agent.get(&path).await.status, 403);
    assert_eq!(stack.reviewer("globex").get(&path).await.status, 404);

    let mut cli = stack.cli(&["sessions", "evidence", &session.id, "--tenant", "acme", "--json"]);
    let output = cli.output().expect("it starts");
    assert!(output.status.success(), "{output:?}");
    let lines: Vec<Value> = serde_json::Deserializer::from_slice(&output.stdout)
        .into_iter()
        .map(|line| line.expect("JSON"))
        .collect();
    assert_eq!(&lines, items);
}
