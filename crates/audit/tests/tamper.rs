//! Whatever is done to an export or to the database behind it is noticed, and located where the
//! chain allows.
#![allow(clippy::expect_used, clippy::unwrap_used)] // a test that cannot go on fails

mod ledger;

use audit::KeyRing;
use audit::export::{Problem, VerifyError, read_checkpoints, read_kept, verify, verify_against};
use ledger::{Ledger, join, join_with_fitting_end, lines, signer};

fn refused(export: &[u8], ledger: &Ledger) -> VerifyError {
    match verify(export, &ledger.keys(), &[]) {
        Ok(report) => panic!("{report:?}\n{}", String::from_utf8_lossy(export)),
        Err(error) => error,
    }
}

#[test]
fn an_export_holds() {
    let ledger = Ledger::small();
    let report = verify(&*ledger.export(), &ledger.keys(), &[]).expect("holds");
    assert_eq!((report.from, report.to, report.erased, report.checkpoints), (1, 5, 0, 2));
    assert_eq!(Some(report.newest), ledger.last);
}

#[test]
fn an_export_of_a_part_holds() {
    let ledger = Ledger::small();
    for from in 1..=6 {
        let export = ledger.export_from(from);
        let report = verify(&*export, &ledger.keys(), &ledger.proofs[1..]).expect("holds");
        assert_eq!((report.from, report.to), (from as i64, 5));
    }
}

#[test]
fn erased_details_are_counted_and_the_chain_still_holds() {
    let mut ledger = Ledger::small();
    ledger.events[1].0.detail = None;
    ledger.events[4].0.detail = None;
    let report = verify(&*ledger.export(), &ledger.keys(), &ledger.proofs).expect("holds");
    assert_eq!(report.erased, 2);
}

#[test]
fn a_rotated_key_is_known_beside_the_old_one() {
    let mut ledger = Ledger::small();
    let old = ledger.keys();
    ledger.signers.push(signer(2));
    ledger.append(1);
    ledger.checkpoint();
    assert!(verify(&*ledger.export(), &old, &[]).is_ok(), "both sign during the rotation");
    ledger.signers.remove(0);
    ledger.append(1);
    ledger.checkpoint();
    let export = ledger.export();
    let both = format!("{}\n{}\n", signer(1).public(), signer(2).public());
    assert!(verify(&*export, &KeyRing::parse(&both).expect("keys"), &ledger.proofs).is_ok());
    let error = verify(&*export, &old, &[]).expect_err("signed by the new key alone");
    assert_eq!(error.seq, Some(7));
}

#[test]
fn every_changed_byte_is_noticed() {
    let ledger = Ledger::small();
    let export = ledger.export();
    for place in 0..export.len() {
        for change in [1, 0x20] {
            let mut changed = export.clone();
            changed[place] ^= change;
            refused(&changed, &ledger);
        }
    }
}

#[test]
fn every_changed_byte_is_located_even_if_the_end_line_is_made_to_fit() {
    let ledger = Ledger::small();
    let good = lines(&ledger.export());
    // Manifest, 3 events, checkpoint, 2 events, checkpoint, end. An event is located by itself. A
    // checkpoint that does not hold leaves the events before it unproven, back to the one before.
    let seqs = [1..=1, 2..=2, 3..=3, 1..=4, 4..=4, 5..=5, 4..=6];
    for (line, seqs) in seqs.into_iter().enumerate().map(|(place, seqs)| (place + 1, seqs)) {
        for place in 0..good[line].len() {
            let mut changed = good.clone();
            changed[line][place] ^= 1;
            let error = refused(&join_with_fitting_end(&changed), &ledger);
            assert_eq!(error.line as usize, line + 1, "{error}");
            let found = error.seq.expect("located");
            assert!(seqs.contains(&found), "line {line}, byte {place}: {error}");
        }
    }
}

#[test]
fn what_the_manifest_says_of_the_events_is_checked() {
    let ledger = Ledger::small();
    let good = lines(&ledger.export());
    let text = String::from_utf8(good[0].clone()).expect("JSON");
    for (from, to) in [
        ("\"from\":1", "\"from\":2"),
        ("\"to\":5", "\"to\":6"),
        ("\"to\":5", "\"to\":9223372036854775807"),
        ("\"count\":5", "\"count\":4"),
        ("\"count\":5", "\"count\":9223372036854775807"),
        ("\"from\":1,\"to\":5,\"count\":5", "\"from\":1,\"to\":4,\"count\":4"),
        ("\"from\":1,\"to\":5,\"count\":5", "\"from\":1,\"to\":6,\"count\":6"),
        ("\"from\":1,\"to\":5,\"count\":5", "\"from\":2,\"to\":6,\"count\":5"),
        ("ten_0189", "ten_0188"),
        ("\"previous\":\"00", "\"previous\":\"10"),
        ("\"version\":2", "\"version\":3"),
        ("audit-export", "audit-exporT"),
    ] {
        let mut changed = good.clone();
        assert!(text.contains(from), "{from}");
        changed[0] = text.replacen(from, to, 1).into_bytes();
        refused(&join_with_fitting_end(&changed), &ledger);
    }
}

#[test]
fn a_lost_swapped_or_repeated_line_is_noticed() {
    let ledger = Ledger::small();
    let good = lines(&ledger.export());
    for one in 0..good.len() {
        let mut lost = good.clone();
        lost.remove(one);
        let mut twice = good.clone();
        twice.insert(one, good[one].clone());
        for changed in [lost, twice] {
            refused(&join(&changed), &ledger);
            // The first checkpoint is not needed for the proof, and harmless twice.
            if (1..good.len() - 1).contains(&one) && one != 4 && one != 7 {
                let error = refused(&join_with_fitting_end(&changed), &ledger);
                let seq = if one < 4 { one } else { one - 1 } as i64;
                assert!(error.seq == Some(seq) || error.seq == Some(seq + 1), "{one}: {error}");
            }
        }
        for other in one + 1..good.len() {
            let mut swapped = good.clone();
            swapped.swap(one, other);
            refused(&join(&swapped), &ledger);
        }
    }
}

#[test]
fn a_file_that_is_cut_off_anywhere_is_noticed() {
    let ledger = Ledger::small();
    let export = ledger.export();
    for end in 0..export.len() {
        let error = refused(&export[..end], &ledger);
        let said = matches!(error.problem, Problem::CutOff { .. } | Problem::NotAnExport);
        assert!(said, "{error}");
    }
}

#[test]
fn what_comes_after_the_end_is_noticed() {
    let ledger = Ledger::small();
    for more in ["\n", " ", "{}", "{}\n"] {
        let export = [&ledger.export(), more.as_bytes()].concat();
        let error = refused(&export, &ledger);
        assert!(matches!(error.problem, Problem::Misplaced), "{error}");
    }
}

#[test]
fn events_that_were_cut_off_behind_a_checkpoint_are_missing() {
    let mut ledger = Ledger::small();
    ledger.events.truncate(4);
    let error = refused(&ledger.export(), &ledger);
    assert!(matches!(error.problem, Problem::Unsealed { from: 4, to: 4 }), "{error}");
    let good = lines(&Ledger::small().export());
    for lost in [6..7, 5..7] {
        let first = lost.start as i64 - 1;
        let mut changed = good.clone();
        changed.drain(lost);
        let error = refused(&join_with_fitting_end(&changed), &ledger);
        assert!(matches!(error.problem, Problem::CheckpointPlace { size: 5, .. }), "{error}");
        assert_eq!(error.seq, Some(first));
    }
}

#[test]
fn hashes_that_were_all_written_anew_contradict_the_checkpoint() {
    for (changed, first, size) in [(0, 1, 3), (2, 1, 3), (3, 4, 5), (4, 4, 5)] {
        let mut ledger = Ledger::small();
        ledger.events[changed].0.outcome = "deny".into();
        ledger.rehash();
        let error = refused(&ledger.export(), &ledger);
        let Problem::Contradiction { from, size: found } = error.problem else { panic!("{error}") };
        assert_eq!((from, found, error.seq), (first, size, Some(first)));
    }
}

#[test]
fn checkpoints_of_somebody_else_prove_nothing() {
    let honest = Ledger::small();
    let mut forger = Ledger::new();
    forger.signers = vec![signer(66)];
    forger.append(3);
    forger.events[1].0.outcome = "deny".into();
    forger.rehash();
    forger.checkpoint();
    let error = refused(&forger.export(), &honest);
    assert!(error.to_string().contains("by none of the given keys"), "{error}");
}

#[test]
fn a_restored_backup_is_noticed_with_a_kept_checkpoint() {
    let today = Ledger::small();
    let mut backup = Ledger::new();
    backup.append(3);
    backup.checkpoint();
    let kept = &today.proofs[1..];
    let error = verify(&*backup.export(), &today.keys(), kept).expect_err("shorter");
    assert!(matches!(error.problem, Problem::KeptIsAhead { size: 5, to: 3 }), "{error}");

    // Written on after the restore: longer again, but with other events.
    backup.append(3);
    for (event, _) in &mut backup.events[3..] {
        event.time_us += 1;
    }
    backup.rehash();
    backup.checkpoint();
    assert!(verify(&*backup.export(), &today.keys(), &[]).is_ok(), "it holds by itself");
    let error = verify(&*backup.export(), &today.keys(), kept).expect_err("other events");
    assert!(matches!(error.problem, Problem::KeptContradiction { size: 5, .. }), "{error}");
    let error = verify(&*backup.export(), &today.keys(), &today.proofs).expect_err("other events");
    assert_eq!(error.seq, Some(4), "the older checkpoint narrows it down");
}

#[test]
fn a_history_that_the_operator_signed_anew_is_noticed_with_a_kept_checkpoint() {
    let honest = Ledger::small();
    let mut rewritten = Ledger::new();
    rewritten.append(5);
    rewritten.events[1].0.outcome = "deny".into();
    rewritten.rehash();
    rewritten.checkpoint();
    rewritten.checkpoint();
    let kept = &honest.proofs[1..];
    let error = verify(&*rewritten.export(), &honest.keys(), kept).expect_err("rewritten");
    assert!(matches!(error.problem, Problem::KeptContradiction { from: 1, size: 5 }), "{error}");

    // The chain is the same, but the checkpoint of that number was another one.
    let mut forked = Ledger::new();
    forked.append(3);
    forked.checkpoint();
    forked.append(2);
    forked.last.as_mut().expect("one").time_us += 1;
    forked.checkpoint();
    let error = verify(&*forked.export(), &honest.keys(), kept).expect_err("forked");
    assert!(matches!(error.problem, Problem::KeptFork { number: 2 }), "{error}");
}

#[test]
fn a_kept_checkpoint_must_be_one_of_this_chain_and_comparable() {
    let mut ledger = Ledger::small();
    let keys = ledger.keys();
    let error = verify(&*ledger.export_from(5), &keys, &ledger.proofs).expect_err("too early");
    assert!(matches!(error.problem, Problem::KeptIsBefore { size: 3 }), "{error}");
    let export = ledger.export();
    ledger.proofs[0].head[0] ^= 1;
    let error = verify(&*export, &keys, &ledger.proofs).expect_err("changed");
    assert!(matches!(error.problem, Problem::Kept(_)), "{error}");
    ledger.proofs[0].chain = "ten_b".into();
    let error = verify(&*export, &keys, &ledger.proofs).expect_err("another chain");
    assert!(matches!(error.problem, Problem::KeptOtherChain { .. }), "{error}");
}

#[test]
fn kept_checkpoints_are_read_as_an_export_writes_them() {
    let ledger = Ledger::small();
    let text: String = ledger.proofs.iter().map(audit::export::checkpoint_line).collect();
    assert_eq!(read_checkpoints(text.as_bytes()).expect("reads"), ledger.proofs);
    let wrong = ["", "\n", "x\n", text.trim_end(), &text.replacen(':', ": ", 1)];
    for wrong in wrong.into_iter().chain([&*(text.clone() + "\n")]) {
        assert!(read_checkpoints(wrong.as_bytes()).is_err(), "{wrong}");
    }
    let export = ledger.export();
    assert_eq!(read_checkpoints(&*export).expect_err("an export").line, 1);
}

#[test]
fn checkpoints_must_follow_one_another() {
    for change in [0, 1] {
        let mut ledger = Ledger::new();
        ledger.append(3);
        ledger.checkpoint();
        let last = ledger.last.as_mut().expect("one");
        match change {
            0 => last.number -= 1,
            _ => last.root[0] ^= 1,
        }
        ledger.checkpoint();
        let error = refused(&ledger.export(), &ledger);
        assert!(matches!(error.problem, Problem::CheckpointOrder(_) | Problem::Checkpoint { .. }));
    }
}

#[test]
fn the_wrong_key_is_said_to_be_wrong() {
    let ledger = Ledger::small();
    let other = signer(9).public().clone().into();
    let error = verify(&*ledger.export(), &other, &[]).expect_err("wrong key");
    assert!(error.to_string().contains("is signed by bulkhead.test/audit+"), "{error}");
}

/// The file that a control plane appends to.
fn witness(ledger: &Ledger) -> String {
    let note = |proof: &audit::ChainProof| serde_json::to_string(&proof.note).expect("JSON");
    let line = |(number, proof)| format!("{{\"number\":{number},\"note\":{}}}\n", note(proof));
    (1..).zip(&ledger.proofs).map(line).collect()
}

#[test]
fn the_file_that_a_control_plane_writes_is_compared_as_it_is() {
    let ledger = Ledger::small();
    let file = witness(&ledger);
    let kept = read_kept(file.as_bytes()).expect("reads");
    assert!(verify_against(&*ledger.export(), &ledger.keys(), &kept).is_ok());
    // A crash left half a line, at the end and before another start.
    let torn = file.clone() + "{\"number\":3,\"no";
    assert_eq!(read_kept(torn.as_bytes()).expect("reads").texts, kept.texts);
    let mended = file.replacen('\n', "\n{\"number\":2,\"no\n", 1);
    assert_eq!(read_kept(mended.as_bytes()).expect("reads").texts, kept.texts);
    // One is missing, or out of its place, or was changed, or is no checkpoint.
    let mut longer = Ledger::small();
    longer.append(1);
    longer.checkpoint();
    let longer = witness(&longer);
    let lines: Vec<&str> = longer.split_inclusive('\n').collect();
    let changed = lines.concat().replacen("time_us ", "time_us 1", 1);
    for wrong in [
        [lines[0], lines[2]].concat(),
        [lines[1], lines[0]].concat(),
        [lines[0], lines[0]].concat(),
        changed,
        "{\"number\":1,\"note\":\"\"}\n".into(),
        "{\"number\":1}\n".into(),
    ] {
        assert!(read_kept(wrong.as_bytes()).is_err(), "{wrong}");
    }

    // Another history under the same numbers, and one that shares none of them.
    let mut forked = Ledger::new();
    forked.append(3);
    forked.checkpoint();
    forked.append(2);
    forked.last.as_mut().expect("one").time_us += 1;
    forked.checkpoint();
    let error = verify_against(&*forked.export(), &ledger.keys(), &kept).expect_err("forked");
    assert!(matches!(error.problem, Problem::KeptFork { number: 2 }), "{error}");
    let first = read_kept(lines[0].as_bytes()).expect("reads");
    let export = ledger.export_from(5);
    let error = verify_against(&*export, &ledger.keys(), &first).expect_err("none shared");
    assert!(matches!(error.problem, Problem::KeptNoneShared), "{error}");
}
