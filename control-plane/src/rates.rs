//! How many requests a token and its tenant may send in a minute, over all control planes.
//!
//! Each process counts by itself and adds what it let in to the shared count four times a second;
//! no request waits for that. So replicas together may let in too many by what arrives within a
//! quarter of a second, and no more.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use domain::ids::{TenantId, TokenId};
use time::OffsetDateTime;

use crate::store::{RateCount, Store, StoreError};

const SYNC: Duration = Duration::from_millis(250);
/// How often counts of minutes that are over are removed, in syncs.
const SWEEP: u32 = 400;

/// Requests per minute.
#[derive(Debug, Clone, Copy)]
pub struct RateLimits {
    /// Of one token.
    pub per_token: i64,
    /// Of all tokens of a tenant together.
    pub per_tenant: i64,
    /// Of one executor's token.
    pub per_executor: i64,
}

/// Where a caller stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Requests in a minute.
    pub limit: i64,
    /// Requests left in this one.
    pub remaining: i64,
    /// Seconds until the next one begins.
    pub reset_s: i64,
    /// This request was one too many.
    pub refused: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Subject {
    Token(TokenId),
    Tenant(TenantId),
}

impl std::fmt::Display for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Token(id) => id.fmt(f),
            Self::Tenant(id) => id.fmt(f),
        }
    }
}

#[derive(Default)]
struct Count {
    /// In the database, as far as we know.
    shared: i64,
    /// Let in by us and not in the database yet.
    unsent: i64,
}

#[derive(Default)]
struct Window {
    minute: i64,
    counts: HashMap<Subject, Count>,
}

/// See the module.
pub struct Rates {
    limits: RateLimits,
    window: Mutex<Window>,
}

impl Rates {
    /// Nobody has sent anything yet.
    pub fn new(limits: RateLimits) -> Self {
        Self { limits, window: Mutex::new(Window::default()) }
    }

    /// Counts a request of a token, unless it is one too many.
    pub fn take(&self, token_id: TokenId, tenant_id: Option<TenantId>) -> Standing {
        self.take_at(token_id, tenant_id, OffsetDateTime::now_utc().unix_timestamp())
    }

    /// Counts a request of an executor's token, unless it is one too many.
    pub fn take_executor(&self, token_id: TokenId) -> Standing {
        let subjects = [Some((Subject::Token(token_id), self.limits.per_executor)), None];
        self.count(subjects, OffsetDateTime::now_utc().unix_timestamp())
    }

    fn take_at(&self, token_id: TokenId, tenant_id: Option<TenantId>, now_s: i64) -> Standing {
        let token = Some((Subject::Token(token_id), self.limits.per_token));
        let tenant = tenant_id.map(|id| (Subject::Tenant(id), self.limits.per_tenant));
        self.count([token, tenant], now_s)
    }

    fn count(&self, subjects: [Option<(Subject, i64)>; 2], now_s: i64) -> Standing {
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        window.turn_to(now_s.div_euclid(60));
        let subjects = || subjects.iter().flatten();
        let left = |window: &Window, (subject, limit): &(Subject, i64)| {
            let count = window.counts.get(subject);
            (limit - count.map_or(0, |count| count.shared + count.unsent), *limit)
        };
        let refused = subjects().any(|subject| left(&window, subject).0 <= 0);
        if !refused {
            for (subject, _) in subjects() {
                window.counts.entry(*subject).or_default().unsent += 1;
            }
        }
        // Whichever is closer to its end is the one to tell of.
        let tightest = subjects().map(|subject| left(&window, subject)).min();
        let (remaining, limit) = tightest.unwrap_or_default();
        let reset_s = 60 - now_s.rem_euclid(60);
        Standing { limit, remaining: remaining.max(0), reset_s, refused }
    }

    /// Shares counts with the other control planes, for as long as the process lives.
    pub async fn keep_shared(self: Arc<Self>, store: Store) {
        for round in 0_u32.. {
            tokio::time::sleep(SYNC).await;
            let shared = match self.share(&store).await {
                Ok(()) if round.is_multiple_of(SWEEP) => store.sweep_rates().await,
                outcome => outcome,
            };
            if let Err(error) = shared {
                // Everybody counts alone meanwhile.
                tracing::debug!(%error, "request counts are not shared");
            }
        }
    }

    async fn share(&self, store: &Store) -> Result<(), StoreError> {
        let (minute, unsent) = self.unsent();
        if unsent.is_empty() {
            return Ok(());
        }
        let rows: Vec<RateCount> = unsent
            .iter()
            .map(|(subject, unsent)| RateCount { subject: subject.to_string(), requests: *unsent })
            .collect();
        let totals = store.add_rates(minute, &rows).await?;
        let totals: HashMap<String, i64> =
            totals.into_iter().map(|row| (row.subject, row.requests)).collect();
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        if window.minute != minute {
            return Ok(());
        }
        for (subject, sent) in unsent {
            let total = totals.get(&subject.to_string());
            if let (Some(total), Some(count)) = (total, window.counts.get_mut(&subject)) {
                count.unsent -= sent;
                count.shared = *total;
            }
        }
        Ok(())
    }

    fn unsent(&self) -> (i64, Vec<(Subject, i64)>) {
        let window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        let unsent = window.counts.iter().filter(|(_, count)| count.unsent > 0);
        (window.minute, unsent.map(|(subject, count)| (*subject, count.unsent)).collect())
    }
}

impl Window {
    /// What stands from an earlier minute counts no more. (A clock that is set back stays where it
    /// was: nobody gets a minute twice.)
    fn turn_to(&mut self, minute: i64) {
        if minute > self.minute {
            *self = Self { minute, counts: HashMap::new() };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids;

    fn rates() -> Rates {
        Rates::new(RateLimits { per_token: 3, per_tenant: 5, per_executor: 2 })
    }

    #[test]
    fn a_token_has_so_many_requests_in_a_minute() {
        let (rates, token) = (rates(), ids::new());
        let standing = |now| rates.take_at(token, None, now);
        let first = standing(120);
        assert_eq!(first, Standing { limit: 3, remaining: 2, reset_s: 60, refused: false });
        standing(121);
        assert_eq!(standing(179).remaining, 0);
        let refused = standing(179);
        assert_eq!(refused, Standing { limit: 3, remaining: 0, reset_s: 1, refused: true });
        assert!(!standing(180).refused, "the next minute is another one");
    }

    #[test]
    fn a_tenants_tokens_share_its_limit() {
        let (rates, tenant) = (rates(), Some(ids::new()));
        let (one, two) = (ids::new(), ids::new());
        (0..3).for_each(|_| assert!(!rates.take_at(one, tenant, 60).refused));
        assert!(rates.take_at(one, tenant, 60).refused);
        (0..2).for_each(|_| assert!(!rates.take_at(two, tenant, 60).refused));
        let refused = rates.take_at(two, tenant, 60);
        assert!(refused.refused && refused.limit == 5);
        assert!(!rates.take_at(two, Some(ids::new()), 60).refused, "another tenant is free");
    }

    #[test]
    fn an_executor_has_a_limit_of_its_own_and_takes_nothing_from_its_tenant() {
        let (rates, executor) = (rates(), ids::new());
        let counted: Vec<bool> = (0..3).map(|_| rates.take_executor(executor).refused).collect();
        // A minute may have begun in between; never is everything refused.
        assert!(!counted[0]);
        let minute = |n: i64| rates.count([Some((Subject::Token(executor), 2)), None], n * 60);
        let far = i64::from(u32::MAX);
        assert!([far, far].map(|n| minute(n).refused).iter().all(|refused| !refused));
        assert!(minute(far).refused);
    }

    #[test]
    fn a_clock_that_is_set_back_gives_nothing_twice() {
        let (rates, token) = (rates(), ids::new());
        (0..3).for_each(|_| assert!(!rates.take_at(token, None, 600).refused));
        assert!(rates.take_at(token, None, 60).refused);
    }
}
