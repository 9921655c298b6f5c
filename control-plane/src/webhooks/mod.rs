//! Calls webhooks: signed, to public addresses only, again and again with growing pauses until they
//! are taken. Tells what happened to what, by id; the rest is fetched with a token.

mod address;

use std::sync::Arc;
use std::time::Duration;

use hmac::{Hmac, Mac};
use protocol::grant::hex;
use reqwest::Url;
use serde_json::json;
use sha2::Sha256;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::keys::Keys;
use crate::store::{DueCall, Store, StoreError, Webhook};

/// What a webhook can hear of.
pub const EVENTS: [&str; 4] =
    ["approval.pending", "approval.voted", "approval.decided", "session.closed"];
const LOOK: Duration = Duration::from_millis(500);
/// Less than the first pause, or another control plane would make the same call.
const TIMEOUT: Duration = Duration::from_secs(4);
/// Pause after the first attempt, in seconds; it doubles up to an hour.
const FIRST_PAUSE_S: f64 = 5.0;
/// About a day.
const MAX_ATTEMPTS: i32 = 32;
const AT_ONCE: i64 = 16;

/// See the module.
pub struct Webhooks {
    store: Store,
    keys: Arc<Keys>,
    /// For tests: plain HTTP and addresses of this machine.
    allow_private: bool,
}

/// Why a call was not taken. Never shows more of the answer than its status.
#[derive(Debug, thiserror::Error)]
enum CallError {
    #[error("the webhook is gone")]
    Gone,
    #[error("its address is none of the public internet, or has no name")]
    Address,
    #[error("the server answered {0}")]
    Refused(u16),
    #[error("the server cannot be reached")]
    Unreachable(#[source] reqwest::Error),
    #[error("its secret cannot be read")]
    Secret,
    #[error("the database failed")]
    Store(#[from] StoreError),
}

/// The context that a webhook's secret is wrapped in.
pub fn secret_context(webhook_id: impl std::fmt::Display) -> String {
    format!("webhook/{webhook_id}")
}

/// `HMAC-SHA256(secret, timestamp "." body)`, in hex.
///
/// The time is part of it, so that a call that was overheard is not good for ever.
pub fn sign(secret: &[u8], timestamp: i64, body: &str) -> Option<String> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).ok()?;
    mac.update(format!("{timestamp}.{body}").as_bytes());
    Some(hex(&mac.finalize().into_bytes()))
}

impl Webhooks {
    /// Calls nobody yet.
    pub fn new(store: Store, keys: Arc<Keys>, allow_private: bool) -> Self {
        Self { store, keys, allow_private }
    }

    /// Whether a webhook may go there, as far as its text tells.
    pub fn accepts(&self, url: &str) -> bool {
        let Ok(url) = Url::parse(url) else { return false };
        let scheme = url.scheme() == "https" || (self.allow_private && url.scheme() == "http");
        let plain = url.username().is_empty() && url.password().is_none();
        scheme && plain && url.host().is_some() && url.fragment().is_none()
    }

    /// Whether its address may be reached now.
    pub async fn reaches(&self, url: &str) -> bool {
        let Ok(url) = Url::parse(url) else { return false };
        let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) else {
            return false;
        };
        address::resolve(host, port, self.allow_private).await.is_some()
    }

    /// Makes the calls that are due, for as long as the process lives.
    pub async fn run(self: Arc<Self>) {
        loop {
            match self.take().await {
                Ok(calls) if calls.is_empty() => tokio::time::sleep(LOOK).await,
                Ok(calls) => {
                    futures::future::join_all(calls.iter().map(|call| self.settle(call))).await;
                }
                Err(error) => {
                    tracing::debug!(%error, "cannot look for calls that are due");
                    tokio::time::sleep(LOOK * 4).await;
                }
            }
        }
    }

    async fn take(&self) -> Result<Vec<DueCall>, StoreError> {
        let mut scope = self.store.platform().await?;
        let calls = scope.take_due_calls(FIRST_PAUSE_S, AT_ONCE).await?;
        scope.commit().await?;
        Ok(calls)
    }

    async fn settle(&self, call: &DueCall) {
        let outcome = self.call(call).await;
        let over = match &outcome {
            Ok(()) | Err(CallError::Gone) => true,
            Err(_) => call.attempts >= MAX_ATTEMPTS,
        };
        if let Err(error) = outcome {
            tracing::info!(%error, call = call.id, attempt = call.attempts, over, "webhook");
        }
        if !over {
            return;
        }
        let forgotten = async {
            let mut scope = self.store.platform().await?;
            scope.forget_call(call.id).await?;
            scope.commit().await
        };
        if let Err(error) = forgotten.await {
            tracing::warn!(%error, call = call.id, "a call is made once more");
        }
    }

    async fn call(&self, call: &DueCall) -> Result<(), CallError> {
        let tenant_id = call.tenant_id.parse().map_err(|_| CallError::Gone)?;
        let mut scope = self.store.tenant(tenant_id).await?;
        let webhook = match scope.get_webhook(&call.webhook_id).await {
            Err(StoreError::NotFound) => return Err(CallError::Gone),
            webhook => webhook?,
        };
        drop(scope);
        let secret = self.keys.unwrap_secret(&secret_context(webhook.id), &webhook.secret);
        self.send(call, &webhook, &secret.map_err(|_| CallError::Secret)?).await
    }

    async fn send(&self, call: &DueCall, hook: &Webhook, secret: &[u8]) -> Result<(), CallError> {
        let url = Url::parse(&hook.url).map_err(|_| CallError::Address)?;
        let host = url.host_str().ok_or(CallError::Address)?.to_owned();
        let port = url.port_or_known_default().ok_or(CallError::Address)?;
        let addresses = address::resolve(&host, port, self.allow_private).await;
        let addresses = addresses.ok_or(CallError::Address)?;
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .timeout(TIMEOUT)
            // What was checked is what is called: the name is not asked again.
            .resolve_to_addrs(&host, &addresses)
            .build()
            .map_err(CallError::Unreachable)?;
        let timestamp = OffsetDateTime::now_utc().unix_timestamp();
        let body = json!({
            "delivery_id": call.id,
            "event": call.event,
            "subject": call.subject,
            "tenant_id": call.tenant_id,
            "at": call.created_at.format(&Rfc3339).unwrap_or_default(),
        })
        .to_string();
        let signature = sign(secret, timestamp, &body).ok_or(CallError::Secret)?;
        let request = client
            .post(url)
            .header("content-type", "application/json")
            .header("bulkhead-event", &call.event)
            .header("bulkhead-delivery", call.id)
            .header("bulkhead-timestamp", timestamp)
            .header("bulkhead-signature", format!("v1={signature}"))
            .body(body);
        let answer = request.send().await.map_err(|e| CallError::Unreachable(e.without_url()))?;
        match answer.status().is_success() {
            true => Ok(()),
            false => Err(CallError::Refused(answer.status().as_u16())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_over_the_time_and_the_body() {
        let signed = |time, body| sign(b"secret", time, body);
        assert_eq!(signed(1, "a"), signed(1, "a"));
        assert_ne!(signed(1, "a"), signed(2, "a"));
        assert_ne!(signed(1, "a"), signed(1, "b"));
        // openssl dgst -sha256 -hmac secret, over `1700000000.{}`.
        let known = "b8569b78799ff9e3cbff0fc2d63a33a2b57f3282abd07c37ae5e8e7d79a5f163";
        assert_eq!(signed(1_700_000_000, "{}").as_deref(), Some(known));
    }
}
