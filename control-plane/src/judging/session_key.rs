//! What "the same command later in the session" means: the digest that an answer for a session is
//! kept under, and looked up by.

use policy::Decision;
use protocol::exec::ExecOrder;
use sha2::{Digest, Sha256};

/// The key of a command. `None` where an answer cannot hold for more than this exec: variables and
/// input can make the same text do anything.
///
/// One plain command is the same as another with the same arguments, however they are quoted.
/// Everything else has to be the same to the byte, because what joins commands is part of it.
pub fn session_key(order: &ExecOrder, decision: &Decision) -> Option<[u8; 32]> {
    let is_plain = order.env.is_empty() && order.stdin.is_none() && !order.stdin_open;
    if !is_plain || order.terminal.is_some() {
        return None;
    }
    let (form, text) = match decision.facts.as_slice() {
        [fact] if order.kind.is_shell() && !fact.program.is_empty() => ("line", &fact.line),
        _ if order.kind.is_shell() => ("script", &order.command),
        _ => ("tool", &order.command),
    };
    let mut hash = Sha256::new();
    for field in ["bulkhead-session-approval-v1", form, text, &order.cwd, &order.image_digest] {
        hash.update((field.len() as u64).to_le_bytes());
        hash.update(field);
    }
    Some(hash.finalize().into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::limits::SandboxLimits;
    use policy::{CommandRequest, Engine};
    use protocol::exec::ExecKind;

    fn order(command: &str) -> ExecOrder {
        ExecOrder {
            tenant_id: uuid::Uuid::from_u128(1).into(),
            session_id: uuid::Uuid::from_u128(2).into(),
            exec_id: uuid::Uuid::from_u128(3).into(),
            kind: ExecKind::Shell,
            command: command.into(),
            cwd: "/work".into(),
            env: Default::default(),
            stdin: None,
            stdin_open: false,
            terminal: None,
            timeout_ms: 1000,
            limits: SandboxLimits::default(),
            image_digest: "sha256:0".into(),
            min_generation: 1,
            checks: Default::default(),
        }
    }

    fn key_of(order: &ExecOrder) -> Option<[u8; 32]> {
        let request = CommandRequest {
            command: &order.command,
            cwd: &order.cwd,
            ..CommandRequest::default()
        };
        session_key(order, &Engine::shipped().decide(&request))
    }

    fn key(command: &str) -> Option<[u8; 32]> {
        key_of(&order(command))
    }

    #[test]
    fn quoting_makes_no_other_command_of_one_plain_command() {
        assert!(key("touch a b").is_some());
        assert_eq!(key("touch a b"), key("touch  'a' \"b\""));
    }

    #[test]
    fn what_is_another_command_has_another_key() {
        let keys = [
            "touch a b",
            "touch 'a b'",
            "touch a b; true",
            "touch a b && true",
            "touch a b || true",
            "true && touch a b",
            "touch a b > c",
            "touch a b &",
            "touch $a b",
        ]
        .map(key);
        for (index, one) in keys.iter().enumerate() {
            assert!(keys[index + 1..].iter().all(|other| other != one), "{index}");
        }
    }

    #[test]
    fn another_folder_or_image_is_another_command() {
        let base = order("touch a");
        let elsewhere = ExecOrder { cwd: "/tmp".into(), ..base.clone() };
        let other = ExecOrder { image_digest: "sha256:1".into(), ..base.clone() };
        assert_ne!(key_of(&base), key_of(&elsewhere));
        assert_ne!(key_of(&base), key_of(&other));
    }

    #[test]
    fn what_reads_or_has_variables_is_asked_about_each_time() {
        let base = order("bash");
        let with_input = ExecOrder { stdin: Some(Default::default()), ..base.clone() };
        let open = ExecOrder { stdin_open: true, ..base.clone() };
        let with_env = ExecOrder { env: [("A".into(), "b".into())].into(), ..base.clone() };
        assert!(key_of(&base).is_some());
        assert!([with_input, open, with_env].iter().all(|order| key_of(order).is_none()));
    }
}
