//! What the control plane would send and what it reads in a reply.

use domain::ids::{ExecId, SessionId};
use domain::limits::SandboxLimits;
use ed25519_dalek::pkcs8::EncodePrivateKey as _;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use protocol::exec::{
    ExecOrder, ExecResult, Intent, NotStarted, ToolOutcome, ToolReply, ToolReport, ToolRequest,
    order_context, reply_context,
};
use protocol::grant::{GrantClaims, ISSUER, order_digest};
use uuid::Uuid;

use super::Site;

impl Site {
    pub fn order(&self, session_id: SessionId, command: &str) -> ExecOrder {
        ExecOrder {
            tenant_id: self.tenant,
            session_id,
            exec_id: Uuid::now_v7().into(),
            command: command.into(),
            cwd: "/work".into(),
            env: [].into(),
            stdin: None,
            stdin_open: false,
            terminal: None,
            min_generation: 1,
            checks: Default::default(),
            kind: protocol::exec::ExecKind::Shell,
            timeout_ms: 60_000,
            limits: SandboxLimits {
                memory_bytes: 128 << 20,
                workspace_bytes: 64 << 20,
                ..SandboxLimits::default()
            },
            image_digest: self.image.clone(),
        }
    }

    /// What the control plane sends for an order: sealed and granted for the usual time.
    pub fn grant(&self, order: &ExecOrder) -> ToolRequest {
        self.grant_for(order, 300)
    }

    /// The same, valid for `seconds` from now, which may be over already.
    pub fn grant_for(&self, order: &ExecOrder, seconds: i64) -> ToolRequest {
        self.request(order, &self.claims(order, seconds))
    }

    /// What the control plane would sign for an order.
    pub fn claims(&self, order: &ExecOrder, seconds: i64) -> GrantClaims {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let now = now.expect("after 1970").as_secs() as i64;
        GrantClaims {
            iss: ISSUER.into(),
            aud: GrantClaims::audience(&order.checks).into(),
            sub: order.exec_id,
            jti: Uuid::now_v7().into(),
            iat: now,
            nbf: now.min(now + seconds),
            exp: now + seconds,
            tenant_id: order.tenant_id,
            session_id: order.session_id,
            executor_id: self.executor_id(),
            order_sha256: order_digest(order),
            policy_version: 1,
            checks_sha256: order.checks.digest(),
        }
    }

    /// A request under the very claims given.
    pub fn request(&self, order: &ExecOrder, claims: &GrantClaims) -> ToolRequest {
        let der = self.signing.to_pkcs8_der().expect("pkcs8");
        let key = EncodingKey::from_ed_der(der.as_bytes());
        let context = order_context(order.exec_id);
        ToolRequest {
            exec_id: order.exec_id,
            intent: Intent::Run,
            grant: jsonwebtoken::encode(&Header::new(Algorithm::EdDSA), claims, &key)
                .expect("signs"),
            order: sealing::seal(&self.payload_key, self.tenant, &context, order).expect("seals"),
            traceparent: None,
        }
    }

    /// What a reply says, once it is certain who says it.
    pub fn report(&self, exec_id: ExecId, reply: &ToolReply) -> ToolReport {
        let context = reply_context(exec_id);
        let report = sealing::open(&self.payload_key, self.tenant, &context, &reply.report);
        let report = report.expect("opens");
        assert_eq!(report.executor_id, self.executor_id());
        report
    }

    /// The result of a reply that has one.
    pub fn result(&self, exec_id: ExecId, reply: &ToolReply) -> ExecResult {
        match self.report(exec_id, reply).outcome {
            ToolOutcome::Finished(result) => result,
            ToolOutcome::NotStarted(why) => panic!("not started: {why:?}"),
        }
    }

    /// Why a reply says that nothing was started.
    pub fn why(&self, exec_id: ExecId, reply: &ToolReply) -> NotStarted {
        match self.report(exec_id, reply).outcome {
            ToolOutcome::NotStarted(why) => why,
            ToolOutcome::Finished(_) => panic!("it was started"),
        }
    }

    /// The generation of the sandbox that a reply's command ran in.
    pub fn generation(&self, exec_id: ExecId, reply: &ToolReply) -> u32 {
        self.report(exec_id, reply).sandbox.expect("a sandbox").generation
    }

    /// The request to settle an exec, whatever became of it, with a grant that is long over.
    pub fn settle(&self, order: &ExecOrder) -> ToolRequest {
        ToolRequest { intent: Intent::Settle, ..self.grant_for(order, -60) }
    }
}
