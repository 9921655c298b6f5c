//! Every timeout and retry policy of the workflow, in one place. Nothing relies on a default.

use std::time::Duration;

use temporalio_common::RetryPolicy;
use temporalio_sdk::{
    ActivityCancellationType, ActivityCloseTimeouts, ActivityOptions, LocalActivityOptions,
};

type CancellationToken = temporalio_sdk::WorkflowCancellationToken;

const SECOND: Duration = Duration::from_secs(1);
/// What an attempt may take on top of the command's own time: making the sandbox, clean-up.
const EXEC_MARGIN: Duration = Duration::from_secs(90);
/// How long a command may wait for an executor before it is given up as never started.
const EXECUTOR_WAIT: Duration = Duration::from_secs(24 * 60 * 60);

/// For `authorize` and `record`: a database transaction, retried while the database is away.
pub(crate) fn control() -> LocalActivityOptions {
    LocalActivityOptions::builder()
        .start_to_close_timeout(10 * SECOND)
        .schedule_to_close_timeout(EXECUTOR_WAIT)
        .retry_policy(retry(Duration::from_millis(200), 10 * SECOND, 0))
        .build()
}

/// For `model_call`: streams an answer, with heartbeats; a broken stream is tried again.
pub(crate) fn model(cancellation: CancellationToken) -> ActivityOptions {
    ActivityOptions::with_close_timeouts(ActivityCloseTimeouts::ScheduleAndStartToClose {
        start_to_close: 600 * SECOND,
        schedule_to_close: 1800 * SECOND,
    })
    .heartbeat_timeout(30 * SECOND)
    .cancellation_type(ActivityCancellationType::WaitCancellationCompleted)
    .cancellation_token(cancellation)
    .retry_policy(retry(SECOND, 30 * SECOND, 8))
    .build()
}

/// For `tool_exec`: a dead executor is noticed by its heartbeats; a later attempt finds the
/// command in the journal and goes on with it, so attempts are not counted.
pub(crate) fn tool_exec(
    task_queue: String,
    timeout: Duration,
    cancellation: CancellationToken,
) -> ActivityOptions {
    ActivityOptions::with_close_timeouts(ActivityCloseTimeouts::ScheduleAndStartToClose {
        start_to_close: timeout + EXEC_MARGIN,
        schedule_to_close: EXECUTOR_WAIT + timeout + EXEC_MARGIN,
    })
    .task_queue(task_queue)
    .heartbeat_timeout(5 * SECOND)
    .cancellation_type(ActivityCancellationType::WaitCancellationCompleted)
    .cancellation_token(cancellation)
    .retry_policy(retry(Duration::from_millis(200), 5 * SECOND, 0))
    .build()
}

/// For `close_sandbox` while clients wait for the session's end.
pub(crate) fn close_sandbox_soon(task_queue: String) -> ActivityOptions {
    close_sandbox(task_queue, 20 * SECOND)
}

/// For `close_sandbox` when the executor was away: as long as a command would wait for it.
pub(crate) fn close_sandbox_late(task_queue: String) -> ActivityOptions {
    close_sandbox(task_queue, EXECUTOR_WAIT)
}

fn close_sandbox(task_queue: String, schedule_to_close: Duration) -> ActivityOptions {
    ActivityOptions::with_close_timeouts(ActivityCloseTimeouts::ScheduleAndStartToClose {
        start_to_close: 20 * SECOND,
        schedule_to_close,
    })
    .task_queue(task_queue)
    .retry_policy(retry(SECOND, 10 * SECOND, 0))
    .build()
}

fn retry(initial: Duration, maximum: Duration, attempts: u32) -> RetryPolicy {
    RetryPolicy::builder()
        .initial_interval(initial)
        .backoff_coefficient(2.0)
        .maximum_interval(maximum)
        .maximum_attempts(attempts)
        .build()
}
