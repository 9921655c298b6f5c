//! What a whole tenant may use at once and on a day, and what it does use.

use serde::{Deserialize, Serialize};

/// What a tenant may use. Days are those of UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Quota {
    /// Sessions that are not closed.
    pub sessions: i64,
    /// Execs that are not over.
    pub concurrent_execs: i64,
    /// Memory of all open sessions' sandboxes together, in bytes.
    pub memory_bytes: i64,
    /// Processor time of all open sessions' sandboxes together, in thousandths of a core.
    pub cpu_millis: i64,
    /// Seconds that execs ran, on a day.
    pub exec_seconds_per_day: i64,
    /// Bytes of output that were stored, on a day.
    pub output_bytes_per_day: i64,
    /// Tokens that models read and wrote, on a day.
    pub model_tokens_per_day: i64,
}

impl Default for Quota {
    fn default() -> Self {
        Self {
            sessions: 2000,
            concurrent_execs: 2000,
            memory_bytes: 1 << 40,
            cpu_millis: 2_000_000,
            exec_seconds_per_day: 4_000_000,
            output_bytes_per_day: 256 << 30,
            model_tokens_per_day: 100_000_000,
        }
    }
}

/// What a tenant uses now, and has used today.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Usage {
    /// Sessions that are not closed.
    pub sessions: i64,
    /// Execs that are not over.
    pub concurrent_execs: i64,
    /// Memory that open sessions' sandboxes may take, in bytes.
    pub memory_bytes: i64,
    /// Processor time that open sessions' sandboxes may take, in thousandths of a core.
    pub cpu_millis: i64,
    /// Seconds that execs ran today.
    pub exec_seconds: i64,
    /// Bytes of output that were stored today.
    pub output_bytes: i64,
    /// Tokens that models read and wrote today.
    pub model_tokens: i64,
}

/// A quota that is used up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the tenant's quota of {what} is used up: {used} of {quota}")]
pub struct QuotaExceeded {
    what: &'static str,
    used: i64,
    quota: i64,
}

fn within(what: &'static str, used: i64, wanted: i64, quota: i64) -> Result<(), QuotaExceeded> {
    let fits = used.checked_add(wanted).is_some_and(|sum| sum <= quota);
    if fits { Ok(()) } else { Err(QuotaExceeded { what, used, quota }) }
}

impl Quota {
    /// Whether another session fits whose sandbox may take this much.
    ///
    /// # Errors
    /// Names the first quota that is used up.
    pub fn check_session(
        &self,
        usage: &Usage,
        memory_bytes: i64,
        cpu_millis: i64,
    ) -> Result<(), QuotaExceeded> {
        within("sessions", usage.sessions, 1, self.sessions)?;
        within("memory_bytes", usage.memory_bytes, memory_bytes, self.memory_bytes)?;
        within("cpu_millis", usage.cpu_millis, cpu_millis, self.cpu_millis)
    }

    /// Whether another exec fits.
    ///
    /// # Errors
    /// Names the first quota that is used up.
    pub fn check_exec(&self, usage: &Usage) -> Result<(), QuotaExceeded> {
        within("concurrent_execs", usage.concurrent_execs, 1, self.concurrent_execs)?;
        within("exec_seconds_per_day", usage.exec_seconds, 1, self.exec_seconds_per_day)?;
        within("output_bytes_per_day", usage.output_bytes, 1, self.output_bytes_per_day)
    }

    /// Whether another turn fits.
    ///
    /// # Errors
    /// Names the first quota that is used up.
    pub fn check_turn(&self, usage: &Usage) -> Result<(), QuotaExceeded> {
        self.check_exec(usage)?;
        within("model_tokens_per_day", usage.model_tokens, 1, self.model_tokens_per_day)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_up_is_named_with_its_numbers() {
        let quota = Quota { sessions: 2, ..Quota::default() };
        let used = |sessions| Usage { sessions, ..Usage::default() };
        assert_eq!(quota.check_session(&used(1), 1, 1), Ok(()));
        let refused = quota.check_session(&used(2), 1, 1).expect_err("two are there");
        assert_eq!(refused.to_string(), "the tenant's quota of sessions is used up: 2 of 2");
    }

    #[test]
    fn sums_are_checked_with_what_comes_on_top() {
        let quota = Quota { memory_bytes: 100, cpu_millis: 10, ..Quota::default() };
        let usage = Usage { memory_bytes: 60, cpu_millis: 5, ..Usage::default() };
        assert!(quota.check_session(&usage, 40, 5).is_ok());
        assert!(quota.check_session(&usage, 41, 5).is_err());
        assert!(quota.check_session(&usage, 40, 6).is_err());
        assert!(quota.check_session(&usage, i64::MAX, 1).is_err());
    }

    #[test]
    fn a_day_that_is_used_up_takes_no_exec_and_a_turn_needs_model_tokens() {
        let quota = Quota { model_tokens_per_day: 10, ..Quota::default() };
        let usage = Usage { model_tokens: 10, ..Usage::default() };
        assert!(quota.check_exec(&usage).is_ok() && quota.check_turn(&usage).is_err());
        let usage = Usage { exec_seconds: quota.exec_seconds_per_day, ..Usage::default() };
        assert!(quota.check_exec(&usage).is_err());
    }
}
