//! Details of audit events whose time is over are erased, as the tenant's owner has said; on record,
//! in portions.

use domain::ids::TenantId;
use serde_json::json;
use time::{Duration, OffsetDateTime};

use super::{PER_TENANT, Upkeep};
use crate::app::Retention;
use crate::app::erase_audit::{ERASED_AT_ONCE, before};
use crate::store::{AuditEntry, AuditSettingKind, ErasureScope, StoreError};

impl Upkeep {
    /// Erases what is older than the tenant wants it to be.
    pub(super) async fn apply_retention(&self, tenant_id: TenantId) -> Result<(), StoreError> {
        let mut scope = self.store.tenant(tenant_id).await?;
        let setting = scope.find_audit_setting(AuditSettingKind::Retention).await?;
        drop(scope);
        let Some(setting) = setting else { return Ok(()) };
        let version = setting.version;
        let Some(days) = Retention::stored(setting)?.days else { return Ok(()) };
        let time = OffsetDateTime::now_utc() - Duration::days(days.into());
        loop {
            let what = ErasureScope::Before(time);
            let mut scope = self.store.tenant(tenant_id).await?;
            let done = scope.erase_audit(what, ERASED_AT_ONCE).await?;
            if done.erased > 0 {
                let detail = json!({
                    "scope": "before", "before": before(what), "erased": done.erased,
                    "kept": done.kept, "retention_version": version,
                });
                let entry = AuditEntry::by_part("retention", "audit.erase", tenant_id);
                scope.append_audit(AuditEntry { detail, ..entry });
                scope.commit().await?;
                self.metrics.erased.inc_by(done.erased.unsigned_abs());
                tracing::info!(%tenant_id, events = done.erased, "details erased: their time is over");
            }
            if !done.has_more() {
                return Ok(());
            }
            tokio::time::sleep(PER_TENANT).await;
        }
    }
}
