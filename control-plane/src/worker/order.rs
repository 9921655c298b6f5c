//! The order that a stored exec becomes: what is decided upon, granted and run is this one value.

use domain::ids::TenantId;
use protocol::binary::Binary;
use protocol::checks::Checks;
use protocol::exec::ExecOrder;

use crate::home::Home;
use crate::store::{Exec, Session};

/// The order for `exec`. The same rows always give the same order.
pub(super) fn build(tenant_id: TenantId, session: &Session, exec: &Exec, home: &Home) -> ExecOrder {
    ExecOrder {
        tenant_id,
        session_id: session.id,
        exec_id: exec.id,
        command: exec.command.clone(),
        cwd: exec.cwd.clone(),
        env: exec.env.clone(),
        stdin: exec.stdin.clone().map(Binary),
        stdin_open: exec.stdin_open,
        terminal: exec.terminal,
        kind: exec.kind,
        min_generation: home.min_generation,
        checks: Checks::default(),
        timeout_ms: exec.timeout_ms,
        limits: session.limits,
        image_digest: home.image_digest.clone(),
    }
}
