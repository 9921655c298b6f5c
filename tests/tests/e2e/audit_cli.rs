//! What an auditor types: following the log, and verifying files that are not what they should be.

use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use tests::Stack;
use tokio::io::{AsyncBufReadExt, BufReader};

use super::audit_proof::{Folder, verify_independently};

/// Verifies, and gives the exit code with everything that was said.
fn verify(from: &str, key: &str, kept: Option<&str>) -> (Option<i32>, String) {
    let mut command = Stack::shared().cli(&["audit", "verify", "--from", from, "--key", key]);
    command.args(kept.map(|kept| ["--checkpoint", kept]).iter().flatten());
    let output = command.output().expect("the program starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout) + &text(&output.stderr))
}

fn export(folder: &Folder, name: &str) -> String {
    let out = folder.path(name);
    let mut command = Stack::shared().cli(&["audit", "export", "--out", &out]);
    let output = command.args(["--tenant", "acme"]).output().expect("the program starts");
    assert!(output.status.success(), "{output:?}");
    out
}

#[tokio::test]
async fn what_cannot_be_verified_is_refused_with_a_sentence() {
    let stack = Stack::shared();
    stack.session().await;
    let folder = Folder::new("refusals");
    let key = stack.data_dir().join("audit.pub").to_string_lossy().into_owned();
    let file = export(&folder, "audit.jsonl");
    assert_eq!(verify(&file, &key, None).0, Some(0));
    let text = std::fs::read_to_string(&file).expect("the export");
    let written = |name: &str, text: &str| {
        let path = folder.path(name);
        std::fs::write(&path, text).expect("a file");
        path
    };
    let (manifest, rest) = text.split_once('\n').expect("lines");
    let of_manifest: Value = serde_json::from_str(manifest).expect("JSON");
    let to = of_manifest["manifest"]["to"].as_i64().expect("a number");
    let longer = manifest.replacen(&format!("\"to\":{to}"), &format!("\"to\":{}", to + 1), 1);
    let both = longer.replacen(&format!("\"count\":{to}"), &format!("\"count\":{}", to + 1), 1);
    let event = rest.find("{\"event\"").expect("an event");
    let cases = [
        (folder.path("none.jsonl"), "cannot open"),
        (folder.path(""), "cannot be read"),
        (written("empty.jsonl", ""), "not an export"),
        (written("text.jsonl", "Dear auditor,\n"), "not an export"),
        (written("other.jsonl", "{\"a\":1}\n"), "not an export"),
        (written("twisted.jsonl", &format!("{longer}\n{rest}")), "the manifest does not fit"),
        (
            written("promises.jsonl", &format!("{both}\n{rest}")),
            &*format!("{} to {}", to + 1, to + 1),
        ),
        (written("headless.jsonl", &rest[event..]), "not an export"),
        (written("cut.jsonl", &text[..text.len() * 2 / 3]), "cut off"),
        (
            written("endless.jsonl", &text[..text.trim_end().rfind('\n').expect("lines") + 1]),
            "cut off",
        ),
        (written("more.jsonl", &(text.clone() + "{}\n")), "should not be here"),
    ];
    for (path, said) in cases {
        let (code, answer) = verify(&path, &key, None);
        assert_eq!(code.map(|code| code != 0), Some(true), "{path}: {answer}");
        assert!(answer.contains(said), "{path}: {answer}");
    }
    // A key that is none, another one, and a file without any.
    let other = "bulkhead/other+8f4d1ef2+AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyAh";
    let keys = [
        (other.to_owned(), "--key is no public key"),
        (folder.path("none.pub"), "cannot open"),
        (written("empty.pub", "# nothing\n"), "has no public key"),
        (std::fs::read_to_string(&key).expect("keys").replacen("bulkhead/", "other/", 1), ""),
    ];
    for (key, said) in keys {
        let (code, answer) = verify(&file, &key, None);
        assert_eq!(code.map(|code| code != 0), Some(true), "{key}: {answer}");
        assert!(answer.contains(said), "{key}: {answer}");
    }
    let globex = stack.owner("globex").get("/v1/audit/export").await.text;
    let kept = stack.owner("acme").post("/v1/audit/checkpoints", json!({})).await.expect(201);
    let kept = written("kept.jsonl", &format!("{}\n", json!({ "checkpoint": kept["checkpoint"] })));
    let (code, answer) = verify(&written("globex.jsonl", &globex), &key, Some(&kept));
    assert_eq!(code.map(|code| code != 0), Some(true), "{answer}");
}

#[tokio::test]
async fn the_file_that_the_control_plane_keeps_is_compared_as_it_is() {
    let stack = Stack::shared();
    let folder = Folder::new("outside");
    let key = stack.data_dir().join("audit.pub").to_string_lossy().into_owned();
    let file = export(&folder, "audit.jsonl");
    let outside = stack.data_dir().join("checkpoints.jsonl");
    let copy = folder.path("checkpoints.jsonl");
    let lines = std::fs::read_to_string(outside).expect("the control plane's file");
    std::fs::write(&copy, &lines).expect("a copy");
    let (code, said) = verify(&file, &key, Some(&copy));
    assert_eq!((code, said.contains("it agrees with what you kept")), (Some(0), true), "{said}");
    assert!(verify_independently(&file, Some(&copy)));
    // Another history was written down outside.
    let last = lines.lines().last().expect("a line");
    let mut entry: Value = serde_json::from_str(last).expect("JSON");
    let note = entry["note"].as_str().expect("a note").replacen("time_us 1", "time_us 2", 1);
    entry["note"] = note.into();
    std::fs::write(&copy, lines.replace(last, &entry.to_string())).expect("a copy");
    let (code, said) = verify(&file, &key, Some(&copy));
    assert!(code == Some(1) && said.contains("two histories"), "{said}");
    assert!(!verify_independently(&file, Some(&copy)));
}

#[tokio::test]
async fn the_log_is_followed_and_says_from_where_something_was_asked() {
    let stack = Stack::shared();
    let owner = stack.owner("globex");
    let mut list = tokio::process::Command::from(stack.cli(&["audit", "list", "--follow"]));
    list.args(["--json", "--tenant", "globex", "--action", "token.create"]);
    let mut list = list.stdout(Stdio::piped()).kill_on_drop(true).spawn().expect("it starts");
    let mut lines = BufReader::new(list.stdout.take().expect("piped")).lines();
    let mut followed = async |name: &str| -> Value {
        let body = json!({ "name": name, "role": "viewer" });
        let made = owner.post("/v1/tokens", body).await.expect(201);
        let next = async {
            loop {
                let line = lines.next_line().await.expect("a pipe").expect("it goes on");
                let event: Value = serde_json::from_str(&line).expect("JSON");
                if event["object"] == made["token_id"] {
                    return event;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(60), next).await.expect("it is followed")
    };
    let first = followed("followed").await;
    let second = followed("followed too").await;
    assert!(first["seq"].as_i64() < second["seq"].as_i64(), "{first} {second}");
    assert_eq!(first["address"], "127.0.0.1");
    list.kill().await.expect("it ran until now");
}
