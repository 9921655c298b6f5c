//! Small chains for this crate's unit tests.

use crate::{Decision, Detail, Event, GENESIS, Hash, Sandbox};

/// The event `seq` of `chain`, with something in every field.
pub(crate) fn event(chain: &str, seq: i64) -> Event {
    let detail = Detail {
        salt: [7; 16],
        actor: "builder (agent)".into(),
        address: Some("127.0.0.1".into()),
        reasons: vec!["only reads".into()],
        stdout_sha256: Some([3; 32]),
        stderr_sha256: None,
        data: format!(r#"{{"command":"echo {seq}"}}"#),
    };
    Event {
        chain: chain.into(),
        seq,
        time_us: 1_000 + seq,
        role: "agent".into(),
        token_id: None,
        action: "exec.authorize".into(),
        object: "exe_1".into(),
        session_id: Some("ses_1".into()),
        exec_id: Some("exe_1".into()),
        outcome: "allow".into(),
        decision: Some(Decision {
            outcome: "allow".into(),
            rules: vec!["reads-only".into()],
            policy_version: Some(3),
            approver: None,
        }),
        sandbox: Some(Sandbox {
            id: "sbx_1".into(),
            generation: 1,
            image_digest: Some("sha256:00".into()),
        }),
        detail_sha256: detail.digest(),
        detail: Some(detail),
    }
}

/// The first `length` events of `chain` with their hashes.
pub(crate) fn chain(chain: &str, length: i64) -> Vec<(Event, Hash)> {
    let mut head = GENESIS;
    (1..=length)
        .map(|seq| {
            let event = event(chain, seq);
            head = event.hash(&head);
            (event, head)
        })
        .collect()
}
