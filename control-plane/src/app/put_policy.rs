//! Reading the tenant's policy and putting a new version of it. A version that does not load, or
//! whose own tests fail, never replaces one that does.

use domain::access::Operation;
use domain::limits::MAX_POLICY_BYTES;
use policy::{Engine, SHIPPED_POLICY};
use protocol::grant::hex;
use serde_json::json;
use sha2::{Digest, Sha256};

use super::{App, AppError, Caller};
use crate::judging::LoadFailure;
use crate::store::{NewPolicy, Outgoing, Policy, Scope, StoreError};

/// A version to be put.
pub struct PutPolicy {
    /// Cedar text.
    pub text: String,
    /// The version that it is a change of; another active one is a conflict.
    pub expected_version: Option<i64>,
}

impl App {
    /// A version of the tenant's policy, the active one by default. Version 0 is the shipped default,
    /// which applies until the tenant puts its own.
    ///
    /// # Errors
    /// When the caller may not, or there is no such version.
    pub async fn get_policy(
        &self,
        caller: &Caller,
        version: Option<i64>,
    ) -> Result<Policy, AppError> {
        let mut scope = caller.open(self, Operation::ReadPolicy).await?;
        let version = match version {
            Some(version) => version,
            None => scope.active_policy_version().await?,
        };
        stored_or_shipped(&mut scope, version).await
    }

    /// Puts a version, which is active from now on, also for what waits for an answer already and for
    /// what was allowed and has not started.
    ///
    /// # Errors
    /// When the caller may not, the policy is not valid, or somebody else was first.
    pub async fn put_policy(
        &self,
        caller: &Caller,
        request: &PutPolicy,
    ) -> Result<Policy, AppError> {
        let tenant_id = caller.authorize(Operation::WritePolicy)?;
        let engine = self.load_draft(&request.text).await?;
        let mut scope = caller.open(self, Operation::WritePolicy).await?;
        let active = scope.active_policy_version().await?;
        if request.expected_version.is_some_and(|expected| expected != active) {
            return Err(changed_meanwhile(active));
        }
        let version = active + 1;
        let policy = NewPolicy {
            version,
            text: &request.text,
            created_by: caller.token_id,
            author: caller.actor(),
        };
        scope.insert_policy(&policy).await.map_err(|error| match error {
            StoreError::Conflict(_) => changed_meanwhile(version),
            error => error.into(),
        })?;
        let detail = json!({
            "version": version, "bytes": request.text.len(), "rules": engine.rule_ids(),
            "sha256": hex(&Sha256::digest(&request.text)),
        });
        scope.append_audit(caller.entry("policy.put", format!("policy/{version}"), detail));
        let outgoing = scope.promise_reconsideration().await?;
        let stored = scope.get_policy(version).await?;
        scope.commit().await?;
        self.send_in_background(outgoing);
        self.recall_in_background(tenant_id, version);
        Ok(stored)
    }

    /// Reads a policy that somebody sent.
    ///
    /// # Errors
    /// Says where it is wrong.
    pub(super) async fn load_draft(&self, text: &str) -> Result<Engine, AppError> {
        if text.len() > MAX_POLICY_BYTES {
            return Err(AppError::TooLarge {
                code: "policy_too_large",
                message: format!("a policy has at most {MAX_POLICY_BYTES} bytes"),
            });
        }
        if let Some(at) = text.find('\0') {
            let line = text[..at].matches('\n').count() + 1;
            return Err(AppError::invalid(
                "invalid_policy",
                format!("line {line}: a policy must not contain NUL characters"),
            ));
        }
        self.engines.load_draft(text).await.map_err(|failure| match failure {
            LoadFailure::Invalid(error) => AppError::InvalidPolicy(error),
            LoadFailure::TooSlow => AppError::invalid("policy_too_slow", failure.to_string()),
        })
    }

    /// The outbox keeps what does not arrive; the active version is what counts in any case.
    pub(super) fn send_in_background(&self, outgoing: Vec<Outgoing>) {
        let dispatcher = self.dispatcher.clone();
        tokio::spawn(async move {
            for outgoing in outgoing {
                if let Err(error) = dispatcher.send(&outgoing).await {
                    let session_id = outgoing.session_id;
                    tracing::warn!(%error, %session_id, "hint stays in the outbox");
                }
            }
        });
    }
}

fn changed_meanwhile(active: i64) -> AppError {
    AppError::Conflict {
        code: "policy_changed",
        message: format!("version {active} is there already; look at it and put yours again"),
    }
}

pub(super) async fn stored_or_shipped(scope: &mut Scope, version: i64) -> Result<Policy, AppError> {
    if version == 0 {
        return Ok(Policy {
            version,
            text: SHIPPED_POLICY.into(),
            author: "bulkhead (shipped)".into(),
            created_at: time::OffsetDateTime::UNIX_EPOCH,
        });
    }
    scope.get_policy(version).await.map_err(AppError::of("policy version"))
}
