//! A tenant's webhooks, managed by its owners.

use domain::access::Operation;
use domain::ids::WebhookId;
use protocol::grant::hex;
use serde::{Deserialize, Serialize};
use serde_json::json;
use time::OffsetDateTime;

use super::{App, AppError, Caller};
use crate::ids;
use crate::store::Webhook;
use crate::webhooks::{EVENTS, secret_context};

const MAX_URL_BYTES: usize = 2048;
/// Webhooks of one tenant.
const MAX_WEBHOOKS: i64 = 20;

/// A webhook that was made, with its secret.
#[derive(Serialize, Deserialize)]
pub struct CreatedWebhook {
    /// Its id.
    pub id: WebhookId,
    /// Where calls go.
    pub url: String,
    /// What is told.
    pub events: Vec<String>,
    /// When it was made.
    pub created_at: OffsetDateTime,
    /// What calls are signed with.
    pub secret: String,
}

impl App {
    /// Makes a webhook. Gives its secret, which is shown once.
    ///
    /// # Errors
    /// When the caller may not, or the address or an event is not acceptable.
    pub async fn create_webhook(
        &self,
        caller: &Caller,
        url: &str,
        events: &[String],
        key: Option<&str>,
    ) -> Result<CreatedWebhook, AppError> {
        let tenant_id = caller.authorize(Operation::ManageWebhooks)?;
        if events.is_empty() || events.iter().any(|event| !EVENTS.contains(&event.as_str())) {
            let message = format!("events must be some of {}", EVENTS.join(", "));
            return Err(AppError::invalid("invalid_events", message));
        }
        let id: WebhookId = ids::new();
        let (body, subject) = (json!(["webhook", url, events]), id.to_string());
        let mut scope = self.store.tenant(tenant_id).await?;
        // Before the address is looked up, which may fail the second time; claimed for good below.
        let earlier = self.claim_answer(&mut scope, caller, key, &body, &subject).await?;
        if let Some(earlier) = earlier {
            return Ok(earlier);
        }
        scope.abandon().await?;
        let fits = url.len() <= MAX_URL_BYTES && self.webhooks.accepts(url);
        if !fits || !self.webhooks.reaches(url).await {
            return Err(AppError::invalid(
                "invalid_url",
                "url must be https://, without user or fragment, and lead to a public address",
            ));
        }
        let mut scope = self.store.tenant(tenant_id).await?;
        let earlier = self.claim_answer(&mut scope, caller, key, &body, &subject).await?;
        if let Some(earlier) = earlier {
            return Ok(earlier);
        }
        if scope.list_webhooks(None, MAX_WEBHOOKS).await?.len() as i64 >= MAX_WEBHOOKS {
            let message = format!("there are {MAX_WEBHOOKS} webhooks already; delete one");
            return Err(AppError::TooMany { code: "too_many_webhooks", message });
        }
        let random = sealing::Key::generate().map_err(AppError::internal)?;
        // What is signed with is the text that is shown.
        let secret = format!("whs_{}", hex(random.expose()));
        let wrapped = self.keys.wrap_secret(&secret_context(id), secret.as_bytes());
        let webhook = Webhook {
            id,
            url: url.to_owned(),
            events: events.to_vec(),
            secret: wrapped.map_err(AppError::internal)?,
            created_at: OffsetDateTime::now_utc(),
        };
        scope.insert_webhook(&webhook, caller.token_id).await?;
        let detail = json!({ "url": url, "events": events });
        scope.append_audit(caller.entry("webhook.create", subject, detail));
        let Webhook { url, events, created_at, .. } = webhook;
        let created = CreatedWebhook { id, url, events, created_at, secret };
        self.keep_answer(&mut scope, caller, key, &created).await?;
        scope.commit().await?;
        Ok(created)
    }

    /// The tenant's webhooks, oldest first.
    ///
    /// # Errors
    /// When the caller may not.
    pub async fn list_webhooks(
        &self,
        caller: &Caller,
        after: Option<WebhookId>,
        limit: i64,
    ) -> Result<Vec<Webhook>, AppError> {
        Ok(caller.open(self, Operation::ManageWebhooks).await?.list_webhooks(after, limit).await?)
    }

    /// Deletes a webhook; calls that were not taken yet are not made.
    ///
    /// # Errors
    /// When the caller may not or there is no such webhook.
    pub async fn delete_webhook(&self, caller: &Caller, id: WebhookId) -> Result<(), AppError> {
        let mut scope = caller.open(self, Operation::ManageWebhooks).await?;
        scope.delete_webhook(id).await.map_err(AppError::of("webhook"))?;
        scope.append_audit(caller.entry("webhook.delete", id.to_string(), json!({})));
        Ok(scope.commit().await?)
    }
}
