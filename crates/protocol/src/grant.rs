//! The grant: a signed JWT that permits exactly one exec, once.
//!
//! Signing and verifying stand in the control plane and the executor; what is signed stands here.

use domain::ids::{ExecId, ExecutorId, GrantId, SessionId, TenantId};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::checks::Checks;
use crate::exec::{ExecKind, ExecOrder};

/// `iss` of every grant.
pub const ISSUER: &str = "bulkhead-control-plane";
/// `aud` of every grant.
pub const AUDIENCE: &str = "bulkhead-executor";
/// `aud` of a grant with [`GrantClaims::checks_sha256`]. An executor that does not know it refuses it.
pub const AUDIENCE_CHECKED: &str = "bulkhead-executor/checked";

/// The claims of a grant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrantClaims {
    /// [`ISSUER`].
    pub iss: String,
    /// [`GrantClaims::audience`].
    pub aud: String,
    /// The exec.
    pub sub: ExecId,
    /// This grant.
    pub jti: GrantId,
    /// Issued at, in seconds since the epoch.
    pub iat: i64,
    /// Not valid before, in seconds since the epoch.
    pub nbf: i64,
    /// Not valid after, in seconds since the epoch; only matters until the exec has started.
    pub exp: i64,
    /// Whose exec.
    pub tenant_id: TenantId,
    /// In which session.
    pub session_id: SessionId,
    /// The one executor that may run it: the session's sandbox is there.
    pub executor_id: ExecutorId,
    /// [`order_digest`] of the order.
    pub order_sha256: String,
    /// The policy version that decided.
    pub policy_version: i64,
    /// [`Checks::digest`] of what comes with the order, if it was allowed on the promise that the
    /// sandbox is looked at before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checks_sha256: Option<String>,
}

impl GrantClaims {
    /// The `aud` of a grant with these checks.
    pub fn audience(checks: &Checks) -> &'static str {
        if checks.is_empty() { AUDIENCE } else { AUDIENCE_CHECKED }
    }
}

/// SHA-256 over everything in an order, in hex. Two orders share it only if they are the same.
///
/// Each field is preceded by its length (u64, little endian), optional ones by a presence byte.
pub fn order_digest(order: &ExecOrder) -> String {
    let mut hash = Sha256::new();
    let mut field = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    field(b"bulkhead-order-v1");
    field(order.tenant_id.to_string().as_bytes());
    field(order.session_id.to_string().as_bytes());
    field(order.exec_id.to_string().as_bytes());
    field(order.command.as_bytes());
    field(order.cwd.as_bytes());
    field(&(order.env.len() as u64).to_le_bytes());
    for (name, value) in &order.env {
        field(name.as_bytes());
        field(value.as_bytes());
    }
    match &order.stdin {
        None => field(&[0]),
        Some(stdin) => {
            field(&[1]);
            field(&stdin.0);
        }
    }
    field(&order.timeout_ms.to_le_bytes());
    field(&order.limits.memory_bytes.to_le_bytes());
    field(&order.limits.cpu_millis.to_le_bytes());
    field(&order.limits.pids.to_le_bytes());
    field(&order.limits.workspace_bytes.to_le_bytes());
    field(order.image_digest.as_bytes());
    // Fields of later versions, each with its name, where they are not as they always were: digests
    // of open approvals stay what they are. The lowest generation says where a command runs, not
    // what it is: a session may be moved while an approval is open.
    if order.kind == ExecKind::Tool {
        field(b"kind:tool");
    }
    if order.stdin_open {
        field(b"stdin_open");
    }
    if let Some(size) = order.terminal {
        field(b"terminal");
        field(&size.rows.to_le_bytes());
        field(&size.cols.to_le_bytes());
    }
    hex(&hash.finalize())
}

/// Lower-case hex of `bytes`.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        for nibble in [byte >> 4, byte & 15] {
            text.push(char::from_digit(nibble.into(), 16).unwrap_or('0'));
        }
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::binary::Binary;
    use domain::limits::SandboxLimits;
    use uuid::Uuid;

    fn order() -> ExecOrder {
        ExecOrder {
            tenant_id: Uuid::from_u128(1).into(),
            session_id: Uuid::from_u128(2).into(),
            exec_id: Uuid::from_u128(3).into(),
            kind: crate::exec::ExecKind::Shell,
            stdin_open: false,
            terminal: None,
            min_generation: 1,
            checks: Default::default(),
            command: "echo a".into(),
            cwd: "/work".into(),
            env: [("A".to_owned(), "b".to_owned())].into(),
            stdin: None,
            timeout_ms: 1000,
            limits: SandboxLimits::default(),
            image_digest: "sha256:0".into(),
        }
    }

    #[test]
    fn every_field_changes_the_digest() {
        let base = order_digest(&order());
        let changes: [fn(&mut ExecOrder); 15] = [
            |o| o.kind = ExecKind::Tool,
            |o| o.stdin_open = true,
            |o| o.terminal = Some(crate::init::TerminalSize { rows: 24, cols: 80 }),
            |o| o.tenant_id = Uuid::from_u128(9).into(),
            |o| o.session_id = Uuid::from_u128(9).into(),
            |o| o.exec_id = Uuid::from_u128(9).into(),
            |o| o.command.push(' '),
            |o| o.cwd.push('/'),
            |o| _ = o.env.insert("C".into(), String::new()),
            |o| o.env = [("Ab".to_owned(), String::new())].into(),
            |o| o.stdin = Some(Binary::default()),
            |o| o.timeout_ms += 1,
            |o| o.limits.memory_bytes += 1,
            |o| o.limits.pids += 1,
            |o| o.image_digest.push('1'),
        ];
        for (index, change) in changes.into_iter().enumerate() {
            let mut changed = order();
            change(&mut changed);
            assert_ne!(order_digest(&changed), base, "change {index}");
        }
    }

    #[test]
    fn hex_is_lower_case_and_padded() {
        assert_eq!(hex(&[0, 10, 255]), "000aff");
    }
}
