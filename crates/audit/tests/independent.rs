//! The second verifier, in Python and without any code of ours, comes to the same verdicts: the
//! same files hold, and the others fail at the same line and the same event.
#![allow(clippy::expect_used, clippy::unwrap_used)] // a test that cannot go on fails

mod ledger;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use audit::export::{checkpoint_line, verify};
use audit::{ChainProof, GENESIS, Leaf};
use ledger::{Ledger, join, join_with_fitting_end, lines, signer};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/verify_audit.py");
const VECTORS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors.json");

type Verdict = (bool, u64, Option<i64>);

/// A folder that goes with the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).expect("a folder");
        Self(path)
    }

    fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, bytes).expect("a file");
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn ours(export: &[u8], ledger: &Ledger, kept: &[ChainProof]) -> Verdict {
    match verify(export, &ledger.keys(), kept) {
        Ok(_) => (true, lines(export).len() as u64 + 1, None),
        Err(error) => (false, error.line, error.seq),
    }
}

fn theirs(
    folder: &Folder,
    exports: &[Vec<u8>],
    ledger: &Ledger,
    kept: &[ChainProof],
) -> Vec<Verdict> {
    let key = folder.write("audit.pub", format!("{}\n", ledger.signers[0].public()).as_bytes());
    let mut python = Command::new("python3");
    python.arg(SCRIPT).arg("--key").arg(key);
    if !kept.is_empty() {
        let kept: String = kept.iter().map(checkpoint_line).collect();
        python.arg("--kept").arg(folder.write("kept.jsonl", kept.as_bytes()));
    }
    for (place, export) in exports.iter().enumerate() {
        python.arg(folder.write(&format!("{place}.jsonl"), export));
    }
    let output = python.output().expect("python3 must be installed");
    let said = String::from_utf8(output.stdout).expect("UTF-8");
    let verdicts: Vec<Verdict> = said
        .lines()
        .map(|line| {
            let said: serde_json::Value = serde_json::from_str(line).expect("JSON");
            let line = said["line"].as_u64().expect("a line");
            (said["ok"] == true, line, said["seq"].as_i64())
        })
        .collect();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(verdicts.len(), exports.len(), "{errors}");
    assert_eq!(output.status.success(), verdicts.iter().all(|(ok, ..)| *ok), "{errors}");
    verdicts
}

fn compare(name: &str, exports: &[Vec<u8>], ledger: &Ledger, kept: &[ChainProof]) {
    let folder = Folder::new(name);
    let theirs = theirs(&folder, exports, ledger, kept);
    for (export, theirs) in exports.iter().zip(theirs) {
        let ours = ours(export, ledger, kept);
        assert_eq!(ours, theirs, "{}", String::from_utf8_lossy(export));
    }
}

#[test]
fn both_believe_what_holds() {
    let mut ledger = Ledger::small();
    ledger.events[1].0.detail = None;
    let exports: Vec<Vec<u8>> = (1..=4).map(|from| ledger.export_from(from)).collect();
    assert!(exports.iter().all(|export| ours(export, &ledger, &ledger.proofs).0));
    compare("hold", &exports, &ledger, &ledger.proofs);
}

#[test]
fn both_refuse_changed_bytes_at_the_same_place() {
    let ledger = Ledger::small();
    let export = ledger.export();
    let changed = |place: usize| {
        let mut changed = export.clone();
        changed[place] ^= [1, 2, 4, 8, 16, 32, 64, 128][place % 8];
        changed
    };
    let exports: Vec<Vec<u8>> = (0..export.len()).step_by(17).map(changed).collect();
    compare("bytes", &exports, &ledger, &[]);
}

#[test]
fn both_refuse_changed_lines_at_the_same_place() {
    let ledger = Ledger::small();
    let good = lines(&ledger.export());
    let mut exports = Vec::new();
    for one in 0..good.len() {
        let mut lost = good.clone();
        lost.remove(one);
        let mut twice = good.clone();
        twice.insert(one, good[one].clone());
        let mut cut = good.clone();
        cut.truncate(one);
        let mut swapped = good.clone();
        swapped.swap(one, good.len() - 2);
        let mut wider = good.clone();
        wider[one].insert(1, b' ');
        exports.extend([&lost, &twice, &cut, &swapped, &wider].map(|lines| join(lines)));
        if (1..good.len() - 1).contains(&one) {
            exports.extend([&lost, &twice, &swapped, &wider].map(|it| join_with_fitting_end(it)));
        }
    }
    compare("lines", &exports, &ledger, &[]);
}

#[test]
fn both_refuse_other_histories_at_the_same_place() {
    let honest = Ledger::small();
    let mut rewritten = Ledger::small();
    rewritten.events[3].0.outcome = "deny".into();
    rewritten.rehash();
    let mut signed_anew = Ledger::new();
    signed_anew.append(5);
    signed_anew.events[1].0.outcome = "deny".into();
    signed_anew.rehash();
    signed_anew.checkpoint();
    let mut forged = Ledger::new();
    forged.signers = vec![signer(5)];
    forged.append(2);
    forged.checkpoint();
    let mut backup = Ledger::new();
    backup.append(3);
    backup.checkpoint();
    let mut unsealed = Ledger::small();
    unsealed.append(1);
    let exports =
        [rewritten, signed_anew, forged, backup, unsealed].map(|ledger| ledger.export()).to_vec();
    compare("histories", &exports, &honest, &honest.proofs);
    compare("histories-unkept", &exports, &honest, &[]);
}

#[test]
fn both_agree_on_the_vectors() {
    let output = Command::new("python3").arg(SCRIPT).arg("--vectors").arg(VECTORS).output();
    let output = output.expect("python3 must be installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    let vectors: serde_json::Value =
        serde_json::from_slice(&fs::read(VECTORS).expect("vectors")).expect("JSON");
    let list = |name: &str| vectors[name].as_array().cloned().expect("a list");
    let text = |value: &serde_json::Value| value.as_str().expect("text").to_owned();
    for one in list("events") {
        let event: audit::Event = serde_json::from_value(one["event"].clone()).expect("an event");
        let previous = audit::hex::decode(&text(&one["previous"])).expect("hex");
        assert_eq!(audit::hex::encode(&event.encode(&previous)), text(&one["encoded"]));
        assert_eq!(audit::hex::encode(&event.hash(&previous)), text(&one["hash"]));
        if let Some(detail) = &event.detail {
            assert_eq!(audit::hex::encode(&detail.encode()), text(&one["detail_encoded"]));
            assert_eq!(detail.digest(), event.detail_sha256);
        }
    }
    for one in list("leaves") {
        let leaf = Leaf {
            chain: text(&one["leaf"]["chain"]),
            size: one["leaf"]["size"].as_i64().expect("a number"),
            head: audit::hex::decode(&text(&one["leaf"]["head"])).unwrap_or(GENESIS),
        };
        assert_eq!(audit::hex::encode(&leaf.encode()), text(&one["encoded"]));
    }
    for one in list("proofs") {
        let proof: ChainProof = serde_json::from_value(one["proof"].clone()).expect("a proof");
        let keys = audit::KeyRing::parse(&text(&one["key"])).expect("a key");
        let checkpoint = proof.verify(&keys).expect("holds");
        assert_eq!(Some(checkpoint.number), one["number"].as_i64());
    }
}
