//! Looking up finds what a reader of the whole log would: in blocks that are indexed, in what stands
//! after them, and across the two.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::{Caller, Stack, bin_dir};

/// More than two blocks of 512, and less than three.
const EVENTS: &str = "1300";

/// Appends to a tenant's log as the service does.
fn append(stack: &Stack, tenant_id: &str, events: &str) {
    let program = bin_dir().join("bulkhead-control-plane");
    let output = Command::new(program)
        .args(["measure-append", "--tenant", tenant_id, "--writers", "4", "--events", events])
        .env("DATABASE_URL", &stack.dev().database_url)
        .output()
        .expect("it runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Waits until so many blocks of a chain are indexed.
async fn indexed(stack: &Stack, tenant_id: &str, blocks: u32) {
    let count = format!(
        "BEGIN; SET LOCAL app.tenant_id = '{tenant_id}'; SELECT count(*) FROM audit_blocks; COMMIT"
    );
    let deadline = Instant::now() + Duration::from_secs(60);
    while stack.psql(&count).expect("a number") != blocks.to_string() {
        assert!(Instant::now() < deadline, "the log is not indexed");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// All pages behind a filter.
async fn find(caller: &Caller, filter: &str, limit: usize) -> Vec<Value> {
    let mut found: Vec<Value> = Vec::new();
    let mut cursor = String::new();
    loop {
        let path = format!("/v1/audit/events?limit={limit}&{filter}{cursor}");
        let page = caller.get(&path).await.expect(200);
        found.extend(page["items"].as_array().expect("a list").iter().cloned());
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return found,
        }
    }
}

fn command(event: &Value) -> &str {
    event["detail"]["command"].as_str().unwrap_or_default()
}

/// The words of an event, as far as the tests look for them.
fn words(event: &Value) -> BTreeSet<String> {
    let reasons = event["reasons"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let texts = reasons.chain([command(event), event["actor"].as_str().unwrap_or_default()]);
    let split = |text: &str| -> Vec<String> {
        text.split(|c: char| !c.is_alphanumeric()).map(str::to_lowercase).collect()
    };
    texts.flat_map(split).collect()
}

#[tokio::test]
async fn a_filter_finds_what_a_reader_of_the_whole_log_would() {
    let stack = Stack::shared();
    let owner = stack.tenant("searched").await;
    let id = stack.tenant_id("searched").await;
    append(stack, &id, EVENTS);
    indexed(stack, &id, 2).await;
    let all = find(&owner, "", 200).await;
    assert!(all.len() > 1300 && all.len() < 1536, "{}", all.len());
    let some = &all[700];
    let (session, object) = (some["session_id"].clone(), some["object"].clone());
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let time = text(&some["time"]);
    let by = |name: &'static str, value: Value| move |event: &Value| event[name] == value;
    type Check = Box<dyn Fn(&Value) -> bool>;
    let has_rule = |event: &Value| {
        let rules = event["decision"]["rules"].as_array();
        rules.is_some_and(|rules| rules.contains(&json!("rule-7")))
    };
    let program = |name: &'static str| move |event: &Value| command(event).starts_with(name);
    let has = |word: &'static str| move |event: &Value| words(event).contains(word);
    let (of_session, of_object) = (by("session_id", session.clone()), by("object", object.clone()));
    let cases: Vec<(String, Check)> = vec![
        (format!("session_id={}", text(&session)), Box::new(of_session)),
        (format!("object={}", text(&object)), Box::new(of_object)),
        (format!("exec_id={}", text(&object)), Box::new(by("object", object.clone()))),
        ("action=exec.finish".into(), Box::new(by("action", json!("exec.finish")))),
        ("actor=agent%202".into(), Box::new(by("actor", json!("agent 2")))),
        ("decision=allow".into(), Box::new(|event| event["decision"]["outcome"] == "allow")),
        ("outcome=ok".into(), Box::new(by("outcome", json!("ok")))),
        ("rule=rule-7".into(), Box::new(has_rule)),
        ("program=pytest".into(), Box::new(program("pytest"))),
        ("q=reading".into(), Box::new(has("reading"))),
        (
            "q=number%2042".into(),
            Box::new(|it| words(it).contains("number") && words(it).contains("42")),
        ),
        ("q=nosuchword".into(), Box::new(|_| false)),
        ("rule=rule-7&program=ls".into(), Box::new(|_| false)),
        (
            "program=git&actor=agent%201".into(),
            Box::new(move |it| program("git")(it) && it["actor"] == "agent 1"),
        ),
        (
            format!("session_id={}&q=git", text(&session)),
            Box::new({
                let session = session.clone();
                move |it| it["session_id"] == session && words(it).contains("git")
            }),
        ),
        (
            format!("since={time}&action=exec.create&rule=rule-0"),
            Box::new({
                let seq = some["seq"].as_i64();
                move |it| {
                    it["seq"].as_i64() >= seq
                        && it["action"] == "exec.create"
                        && it["decision"]["rules"][0] == "rule-0"
                }
            }),
        ),
    ];
    for (filter, check) in cases {
        let expected: Vec<&Value> = all.iter().filter(|event| check(event)).collect();
        for limit in [7, 200] {
            let found = find(&owner, &filter, limit).await;
            let numbers = |events: &[&Value]| -> Vec<i64> {
                events.iter().filter_map(|event| event["seq"].as_i64()).collect()
            };
            let found: Vec<&Value> = found.iter().collect();
            assert_eq!(numbers(&found), numbers(&expected), "{filter}, {limit} at once");
        }
    }
    // A stranger's words find nothing here, wherever they stand.
    assert_eq!(
        find(&stack.owner("globex"), "q=reading%20pytest%20rule", 200).await,
        [Value::Null; 0]
    );
}

#[tokio::test]
async fn erased_words_find_nothing_in_an_indexed_block_and_the_rest_does() {
    let stack = Stack::shared();
    let owner = stack.tenant("search-erased").await;
    let id = stack.tenant_id("search-erased").await;
    append(stack, &id, "600");
    indexed(stack, &id, 1).await;
    owner.post("/v1/audit/checkpoints", json!({})).await.expect(201);
    let all = find(&owner, "", 200).await;
    let reading = find(&owner, "q=reading", 200).await.len();
    let finished = find(&owner, "action=exec.finish", 200).await.len();
    // The tenant's own event, which is the first one, says nothing of reading.
    // Events that waited for each other may have one time.
    let is_later = |at: &usize| all[*at]["time"] != all[*at - 1]["time"];
    let cut = (300..400).find(is_later).expect("a later one");
    let body = json!({ "before": all[cut]["time"] });
    assert_eq!(owner.post("/v1/audit/erasures", body).await.expect(201)["erased"], cut);
    let gone = all[..cut].iter().filter(|event| words(event).contains("reading")).count();
    assert!(gone > 290);
    assert_eq!(find(&owner, "q=reading", 200).await.len(), reading - gone);
    // What stays in the event still finds it.
    let kept = find(&owner, "action=exec.finish", 200).await;
    assert_eq!(kept.len(), finished);
    assert!(kept[0]["erased"] == true && kept[finished - 1]["erased"] == false);
    // Nor is one of its words left in the table.
    let left = |of: usize| {
        let number = command(&all[of]).split(' ').nth(2).expect("a number");
        let sql = format!(
            "BEGIN; SET LOCAL app.tenant_id = '{id}'; SELECT count(*) FROM audit_terms
             WHERE term = '{number}' AND ({} - 1) % 512 = ANY (places); COMMIT",
            all[of]["seq"]
        );
        stack.psql(&sql).expect("a number")
    };
    assert_eq!((left(cut - 1), left(cut)), ("0".into(), "1".into()));
}

#[tokio::test]
async fn hostile_texts_are_stored_as_they_are() {
    let stack = Stack::shared();
    let owner = stack.tenant("hostile-texts").await;
    let names = [
        "'",
        "''",
        "\\'",
        "\\",
        "'; DROP TABLE audit_events; --",
        "$$; COMMIT; $$",
        "E'\\047'",
        "\u{2019}\u{ff07}\u{02bc}'é日",
        "'||current_user||'",
        "/* ' */ -- '",
        "{\"a\": \"\\u0027\"}",
        "%s %n {} {0}",
    ];
    for name in names {
        let body = json!({ "name": name, "role": "viewer" });
        let token = owner.post("/v1/tokens", body).await.expect(201);
        let filter = format!("object={}", token["token_id"].as_str().expect("an id"));
        let events = find(&owner, &filter, 10).await;
        assert_eq!(events.len(), 1, "{name}");
        assert!(events[0]["detail"].to_string().contains(&json!(name).to_string()), "{events:?}");
    }
    let path = crate::audit_proof::Folder::new("hostile-texts");
    let file = path.path("audit.jsonl");
    let export = owner.get("/v1/audit/export").await;
    std::fs::write(&file, export.text).expect("a file");
    let (code, report) = crate::audit_proof::verify(&file, None);
    assert_eq!(code, Some(0), "{report}");
}

#[tokio::test]
async fn a_time_leads_to_the_first_event_that_is_not_before_it() {
    let stack = Stack::shared();
    let tenant = tests::TestTenant::create(stack, "times").await;
    let id = stack.tenant_id(&format!("times-{}", std::process::id())).await;
    append(stack, &id, "300");
    drop(tenant);
    // Every time that occurs and those beside it, by the slow way too.
    let wrong = format!(
        "BEGIN; SET LOCAL app.tenant_id = '{id}';
         SELECT count(*) || ' ' || count(*) FILTER (WHERE first_audit_from('{id}', us) <> (
             SELECT coalesce(min(seq), 9223372036854775807) FROM audit_events
             WHERE chain = '{id}' AND time_us >= us))
         FROM (SELECT DISTINCT time_us + beside AS us
               FROM audit_events, generate_series(-1, 1) AS beside WHERE chain = '{id}'
               UNION SELECT 0 UNION SELECT 9223372036854775807) AS times;
         COMMIT"
    );
    let counted = stack.psql(&wrong).expect("counts");
    let (times, wrong) = counted.split_once(' ').expect("two numbers");
    assert!(times.parse::<u32>().expect("a number") > 300, "{times}");
    assert_eq!(wrong, "0");
    let empty = "BEGIN; SET LOCAL app.tenant_id = 'ten_none';
                 SELECT first_audit_from('ten_none', 1); COMMIT";
    assert_eq!(stack.psql(empty).expect("a number"), i64::MAX.to_string());
}
