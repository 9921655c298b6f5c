//! Who calls. The tenant comes from here and from nowhere else.

use std::sync::Arc;

use domain::access::{Operation, Role};
use domain::ids::{SessionId, TenantId, TokenId};
use serde_json::Value;

use super::{App, AppError};
use crate::store::{AuditEntry, Evidence, Scope, Who};
use crate::tokens::{Claims, Pass};

/// An authenticated caller.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The token used.
    pub token_id: TokenId,
    /// What it is good for.
    pub role: Role,
    /// Tells whether the token still opens.
    pub pass: Pass,
    tenant_id: Option<TenantId>,
    /// `name (role)`, for the audit log.
    actor: String,
    address: Option<String>,
    /// The trace of its request.
    trace: Option<Arc<str>>,
}

impl Caller {
    /// The caller behind checked claims.
    pub fn new(
        claims: Claims,
        pass: Pass,
        address: Option<String>,
        trace: Option<Arc<str>>,
    ) -> Self {
        Self {
            token_id: claims.sub,
            role: claims.role,
            pass,
            tenant_id: claims.tenant,
            actor: format!("{} ({})", claims.name, claims.role.as_str()),
            address,
            trace,
        }
    }

    /// The traceparent of its request, where traces are exported.
    pub fn trace(&self) -> Option<&str> {
        self.trace.as_deref()
    }

    /// How the audit log names the caller.
    pub fn actor(&self) -> &str {
        &self.actor
    }

    /// The caller's tenant, if its role may do `operation`.
    ///
    /// # Errors
    /// [`AppError::Forbidden`] when it may not.
    pub fn authorize(&self, operation: Operation) -> Result<TenantId, AppError> {
        let allowed = self.role.allows(operation);
        self.tenant_id.filter(|_| allowed).ok_or_else(|| {
            AppError::Forbidden(format!("the role {} may not do this", self.role.as_str()))
        })
    }

    /// A transaction in the caller's tenant, if its role may do `operation`.
    ///
    /// # Errors
    /// [`AppError::Forbidden`] when it may not; database errors.
    pub async fn open(&self, app: &App, operation: Operation) -> Result<Scope, AppError> {
        Ok(app.store.tenant(self.authorize(operation)?).await?)
    }

    /// Whose audit chain the caller may read: its tenant's, or `system`, the platform's own. Nobody
    /// reads both.
    ///
    /// # Errors
    /// [`AppError::Forbidden`] when it may read none.
    pub fn audit_chain(&self) -> Result<Who, AppError> {
        let allowed = self.role.allows(Operation::ReadChain);
        if allowed && self.role == Role::Platform && self.tenant_id.is_none() {
            return Ok(Who::Platform);
        }
        Ok(Who::Tenant(self.authorize(Operation::ReadChain)?))
    }

    /// A transaction on the audit chain that the caller may read.
    ///
    /// # Errors
    /// As [`Caller::audit_chain`]; database errors.
    pub async fn open_audit(&self, app: &App) -> Result<Scope, AppError> {
        Ok(app.store.open(self.audit_chain()?).await?)
    }

    /// A transaction of the platform, if this is its token.
    ///
    /// # Errors
    /// [`AppError::Forbidden`] when it is not; database errors.
    pub async fn open_platform(&self, app: &App) -> Result<Scope, AppError> {
        if !self.role.allows(Operation::ManageTenants) {
            return Err(AppError::Forbidden("only the platform token manages tenants".into()));
        }
        Ok(app.store.platform().await?)
    }

    /// An audit entry with the caller as actor.
    pub fn entry(&self, action: &'static str, object: String, detail: Value) -> AuditEntry {
        AuditEntry {
            actor: self.actor.clone(),
            role: self.role.as_str(),
            token_id: Some(self.token_id),
            address: self.address.clone(),
            action,
            object,
            session_id: None,
            exec_id: None,
            outcome: "ok",
            evidence: Evidence::default(),
            detail,
        }
    }

    /// The same, for something that belongs to a session.
    pub fn session_entry(
        &self,
        action: &'static str,
        object: String,
        session_id: SessionId,
        detail: Value,
    ) -> AuditEntry {
        AuditEntry { session_id: Some(session_id), ..self.entry(action, object, detail) }
    }
}
