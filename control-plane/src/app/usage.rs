//! Quotas: set by the platform, shown to the tenant, checked where something is added.

use domain::access::Operation;
use domain::ids::TenantId;
use domain::quota::{Quota, QuotaExceeded, Usage};
use serde_json::json;

use super::{App, AppError, Caller};

impl From<QuotaExceeded> for AppError {
    fn from(error: QuotaExceeded) -> Self {
        Self::TooMany { code: "quota_exceeded", message: error.to_string() }
    }
}

impl App {
    /// What the caller's tenant may use and what it uses.
    ///
    /// # Errors
    /// When the caller may not read.
    pub async fn get_usage(&self, caller: &Caller) -> Result<(Quota, Usage), AppError> {
        Ok(caller.open(self, Operation::ReadWork).await?.get_usage().await?)
    }

    /// Sets what a tenant may use. What it uses already stays.
    ///
    /// # Errors
    /// When the caller is not the platform, a number is negative or there is no such tenant.
    pub async fn set_quota(
        &self,
        caller: &Caller,
        tenant_id: TenantId,
        quota: &Quota,
    ) -> Result<(), AppError> {
        let mut scope = caller.open_platform(self).await?;
        let numbers = [
            quota.sessions,
            quota.concurrent_execs,
            quota.memory_bytes,
            quota.cpu_millis,
            quota.exec_seconds_per_day,
            quota.output_bytes_per_day,
            quota.model_tokens_per_day,
        ];
        if numbers.into_iter().any(|number| number < 0) {
            return Err(AppError::invalid("invalid_quota", "quotas must not be negative"));
        }
        scope.set_quota(tenant_id, quota).await.map_err(AppError::of("tenant"))?;
        let detail = json!({ "quota": quota });
        scope.append_audit(caller.entry("tenant.quota", tenant_id.to_string(), detail));
        Ok(scope.commit().await?)
    }
}
