//! What a tenant's owner says about its audit log: which execs are reviewed, and for how long details
//! stay. Each change is a version of its own, and on record.

use domain::access::Operation;
use domain::limits::MAX_RETENTION_DAYS;
use domain::sampling::Sampling;
use serde_json::{Value, json};
use time::OffsetDateTime;

use super::{App, AppError, Caller};
use crate::store::{AuditSetting, AuditSettingKind, NewAuditSetting, StoreError};

/// The active version of a setting.
pub struct Active<T> {
    /// Counts from 1; 0 where the tenant has said nothing.
    pub version: i64,
    /// What it says.
    pub value: T,
    /// Who said so, and when.
    pub by: Option<(String, OffsetDateTime)>,
}

/// How a setting is read and written down.
trait Setting: Sized + Default {
    const KIND: AuditSettingKind;
    const ACTION: &'static str;

    fn from_json(value: Value) -> Result<Self, serde_json::Error>;
    fn to_json(&self) -> Value;
}

/// For how many days details stay; for ever without.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Retention {
    /// Days of 24 hours.
    pub days: Option<u32>,
}

impl Setting for Sampling {
    const KIND: AuditSettingKind = AuditSettingKind::Sampling;
    const ACTION: &'static str = "audit.sampling";

    fn from_json(value: Value) -> Result<Self, serde_json::Error> {
        serde_json::from_value(value)
    }

    fn to_json(&self) -> Value {
        json!(self)
    }
}

impl Setting for Retention {
    const KIND: AuditSettingKind = AuditSettingKind::Retention;
    const ACTION: &'static str = "audit.retention";

    fn from_json(value: Value) -> Result<Self, serde_json::Error> {
        Ok(Self { days: serde_json::from_value(value["days"].clone())? })
    }

    fn to_json(&self) -> Value {
        json!({ "days": self.days })
    }
}

impl Retention {
    /// What a stored setting says.
    ///
    /// # Errors
    /// When it is none.
    pub fn stored(setting: AuditSetting) -> Result<Self, StoreError> {
        Self::from_json(setting.value.0).map_err(|_| StoreError::Inconsistent("audit retention"))
    }
}

impl App {
    /// Which execs are reviewed.
    ///
    /// # Errors
    /// When the caller may not.
    pub async fn get_sampling(&self, caller: &Caller) -> Result<Active<Sampling>, AppError> {
        self.get_setting(caller).await
    }

    /// Says which execs are reviewed from now on.
    ///
    /// # Errors
    /// When the caller may not, a rule is not acceptable, or somebody else was first.
    pub async fn put_sampling(
        &self,
        caller: &Caller,
        sampling: &Sampling,
        expected: Option<i64>,
    ) -> Result<Active<Sampling>, AppError> {
        caller.authorize(Operation::ManageAudit)?;
        sampling
            .validate()
            .map_err(|error| AppError::invalid("invalid_sampling", error.to_string()))?;
        self.put_setting(caller, sampling, expected).await
    }

    /// For how long details stay.
    ///
    /// # Errors
    /// When the caller may not.
    pub async fn get_retention(&self, caller: &Caller) -> Result<Active<Retention>, AppError> {
        self.get_setting(caller).await
    }

    /// Says for how long details stay from now on. What is older goes with the next sweep.
    ///
    /// # Errors
    /// When the caller may not, the time is not acceptable, or somebody else was first.
    pub async fn put_retention(
        &self,
        caller: &Caller,
        retention: Retention,
        expected: Option<i64>,
    ) -> Result<Active<Retention>, AppError> {
        caller.authorize(Operation::ManageAudit)?;
        if retention.days.is_some_and(|days| !(1..=MAX_RETENTION_DAYS).contains(&days)) {
            let message =
                format!("days must be between 1 and {MAX_RETENTION_DAYS}, or null: for ever");
            return Err(AppError::invalid("invalid_retention", message));
        }
        self.put_setting(caller, &retention, expected).await
    }

    async fn get_setting<T: Setting>(&self, caller: &Caller) -> Result<Active<T>, AppError> {
        let mut scope = caller.open(self, Operation::ReadAudit).await?;
        match scope.find_audit_setting(T::KIND).await? {
            Some(stored) => active(stored),
            None => Ok(Active { version: 0, value: T::default(), by: None }),
        }
    }

    async fn put_setting<T: Setting>(
        &self,
        caller: &Caller,
        setting: &T,
        expected: Option<i64>,
    ) -> Result<Active<T>, AppError> {
        let mut scope = caller.open(self, Operation::ManageAudit).await?;
        let before = scope.find_audit_setting(T::KIND).await?;
        let version = before.as_ref().map_or(0, |setting| setting.version);
        if expected.is_some_and(|expected| expected != version) {
            return Err(changed_meanwhile(version));
        }
        let value = setting.to_json();
        let new = NewAuditSetting {
            kind: T::KIND,
            version: version + 1,
            value: &value,
            created_by: caller.token_id,
            author: caller.actor(),
        };
        let stored = scope.insert_audit_setting(&new).await.map_err(|error| match error {
            StoreError::Conflict(_) => changed_meanwhile(version + 1),
            error => error.into(),
        })?;
        let detail = json!({ "to": value, "from": before.map(|setting| setting.value.0) });
        let object = format!("{}/{}", T::ACTION, stored.version);
        scope.append_audit(caller.entry(T::ACTION, object, detail));
        scope.commit().await?;
        active(stored)
    }
}

fn active<T: Setting>(stored: AuditSetting) -> Result<Active<T>, AppError> {
    let AuditSetting { version, value, author, created_at } = stored;
    let value = T::from_json(value.0).map_err(AppError::internal)?;
    Ok(Active { version, value, by: Some((author, created_at)) })
}

fn changed_meanwhile(version: i64) -> AppError {
    AppError::Conflict {
        code: "setting_changed",
        message: format!("version {version} is there already; look at it and put yours again"),
    }
}
