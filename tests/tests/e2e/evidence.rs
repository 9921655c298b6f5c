//! A session as evidence: one ordered view of everything on record about it.

use reqwest::Method;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tests::Stack;

/// What each item is evidence of, what was done, and how it went.
fn told(items: &[Value]) -> Vec<String> {
    let text = |item: &Value, key: &str| item[key].as_str().expect("a text").to_owned();
    let line = |item| ["kind", "action", "outcome"].map(|key| text(item, key)).join(" ");
    items.iter().map(line).collect()
}

fn sha256(text: &str) -> String {
    Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test]
async fn a_session_is_told_in_order_with_rules_approver_and_digests() {
    let stack = Stack::shared();
    let session = stack.session().await;
    // One that policy allows, one that is approved, one that is denied, a file, and a turn.
    let done = session.run("echo evidence").await;
    session.run_approved(json!({ "command": "touch asked" })).await;
    let denied = session.submit(json!({ "command": "touch denied" })).await;
    let approval = session.approval_of(&denied).await;
    session.decide(&approval, "deny", Some("not today")).await;
    session.wait(&denied).await;
    let file = format!("/v1/sessions/{}/files/evidence.txt", session.id);
    let put = session.agent.call(Method::PUT, &file, Some(json!("a file"))).await.expect(201);
    let turn = session.turn("run 'echo by a turn'").await;
    let path = format!("/v1/sessions/{}/evidence", session.id);
    let all = session.reviewer.get(&path).await.expect(200);
    let items = all["items"].as_array().expect("a list");
    assert_eq!(
        told(items),
        [
            "session session.create ok",
            "command exec.create ok",
            "sandbox sandbox.place ok",
            "decision exec.authorize allow",
            "result exec.finish exited",
            "command exec.create ok",
            "decision exec.authorize ask",
            "approval approval.decide approved",
            "decision exec.authorize allow",
            "result exec.finish exited",
            "command exec.create ok",
            "decision exec.authorize ask",
            "approval approval.decide denied",
            "result exec.finish denied",
            "file file.put requested",
            "file file.put ok",
            "turn turn.create ok",
            "command exec.create ok",
            "decision exec.authorize allow",
            "result exec.finish exited",
            "turn turn.finish completed",
        ]
    );
    assert!(items.windows(2).all(|two| two[0]["seq"].as_i64() < two[1]["seq"].as_i64()));
    assert!(items.windows(2).all(|two| two[0]["time"].as_str() <= two[1]["time"].as_str()));
    assert!(items.iter().all(|item| item["session_id"] == session.id.as_str()));
    assert!(items.iter().all(|item| item["time"].is_string() && item["hash"].is_string()));
    assert_eq!(items[1]["detail"]["command"], "echo evidence");
    assert!(items[3]["decision"]["rules"].as_array().is_some_and(|rules| !rules.is_empty()));
    assert!(items[3]["decision"]["policy_version"].is_number());
    // The digest is that of the output, as everybody can compute it.
    assert_eq!(items[4]["stdout_sha256"], sha256("evidence\n"));
    assert_eq!(items[4]["stdout_sha256"], done["stdout"]["sha256"]);
    assert_eq!(items[4]["sandbox"]["generation"], 1);
    // The image is that which was decided about.
    let image = items[4]["sandbox"]["image_digest"].as_str().expect("a digest");
    assert!(image.starts_with("sha256:"), "{image}");
    assert_eq!(items[3]["detail"]["image_digest"], image);
    // Who approved stands in the approval and in the decision that it led to.
    assert!(items[7]["actor"].as_str().is_some_and(|actor| actor.contains("reviewer")));
    assert_eq!(items[8]["decision"]["approver"], items[7]["token_id"]);
    // What was denied has no sandbox and no output.
    assert_eq!(items[12]["reasons"], json!(["not today"]));
    assert_eq!((&items[13]["sandbox"], &items[13]["stdout_sha256"]), (&Value::Null, &Value::Null));
    assert_eq!(items[15]["detail"]["path"], "evidence.txt");
    assert!(items[15]["detail"].to_string().contains(put["sha256"].as_str().expect("a digest")));
    assert_eq!(items[16]["detail"]["input_sha256"], sha256("run 'echo by a turn'"));
    assert_eq!(items[17]["detail"]["turn_id"], turn["turn_id"]);
    let answer = turn["answer"].as_str().expect("an answer");
    assert_eq!(items[20]["detail"]["answer_sha256"], sha256(answer));

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
