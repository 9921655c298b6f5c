//! Enrolment: waits for the control plane as long as it takes, gives up only where it says no.

use std::time::Duration;

use protocol::enrolment::{EnrolRequest, Enrolment};

use crate::backoff::Backoff;
use crate::control::{ControlError, ControlPlane};

/// The control plane said no.
#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    /// The token is wrong, revoked, or no executor's.
    #[error(
        "the control plane refuses this executor: check BULKHEAD_EXECUTOR_TOKEN; it must be an \
         executor token of the tenant, neither expired nor revoked"
    )]
    Refused(#[source] ControlError),
    /// The answer makes no sense, so the URL or the versions do not fit.
    #[error("the address in BULKHEAD_URL is no control plane that this executor understands")]
    Incompatible(#[source] ControlError),
}

/// Enrols, with patience.
///
/// # Errors
/// When trying again is of no use.
pub async fn enrol(
    control: &ControlPlane,
    request: &EnrolRequest,
) -> Result<Enrolment, EnrolError> {
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
    let mut told = String::new();
    loop {
        let error = match control.enrol(request).await {
            Ok(enrolment) => return Ok(enrolment),
            Err(error @ ControlError::Unauthorized(_)) => return Err(EnrolError::Refused(error)),
            Err(error @ (ControlError::Unreachable(_) | ControlError::Unavailable(_))) => error,
            Err(error) => return Err(EnrolError::Incompatible(error)),
        };
        // Logged once per change: an absent control plane must not fill the log.
        let message = error.to_string();
        if message != told {
            tracing::warn!(reason = %message, "cannot enrol yet; trying again");
            told = message;
        }
        tokio::time::sleep(backoff.next_wait()).await;
    }
}
