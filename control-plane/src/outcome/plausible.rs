//! Whether a report can be true at all. An executor has its tenant's key and may still lie: what it
//! claims must fit the columns, the counters and the subtractions that are made of it.

use domain::exec::ExecOutcome;
use domain::limits::{MAX_OUTPUT_BYTES, MAX_TIMEOUT_MS, OUTPUT_HEAD_BYTES};
use domain::sandbox::SandboxRef;
use protocol::exec::{ExecResult, StreamSummary, ToolOutcome, ToolReport};
use protocol::grant::hex;
use sha2::{Digest as _, Sha256};

/// The last millisecond of the year 9999: the wildest clock that can still be written down.
const LAST_MS: u64 = 253_402_300_799_999;
/// Longer than any exec: its time, the grace, and a host that slept on top.
const MAX_DURATION_MS: u64 = 30 * MAX_TIMEOUT_MS;
/// Processes that a kernel can number.
const MAX_PROCESSES: u32 = 1 << 22;

/// What about the report cannot be.
pub(super) fn find_fault(report: &ToolReport) -> Option<&'static str> {
    if report.sandbox.is_some_and(is_impossible) {
        return Some("the sandbox's generation");
    }
    match &report.outcome {
        ToolOutcome::NotStarted(_) => None,
        ToolOutcome::Finished(result) => find_fault_of(result),
    }
}

fn is_impossible(sandbox: SandboxRef) -> bool {
    sandbox.generation == 0 || i32::try_from(sandbox.generation).is_err()
}

fn find_fault_of(result: &ExecResult) -> Option<&'static str> {
    let fault = match () {
        // Whether it may run is not for an executor to say.
        () if result.outcome == ExecOutcome::Denied => "the outcome",
        () if result.exit_code.is_some_and(|code| !(0..=255).contains(&code)) => "the exit code",
        () if result.signal.is_some_and(|signal| !(1..=64).contains(&signal)) => "the signal",
        () if result.exit_code.is_some() && result.signal.is_some() => "two ways to end",
        () if result.started_at_ms > LAST_MS => "the start",
        () if result.duration_ms > MAX_DURATION_MS => "the duration",
        () if result.survivors > MAX_PROCESSES => "the survivors",
        () if result.unended > MAX_PROCESSES => "what was not ended",
        () if is_unsound(&result.stdout) => "standard output",
        () if is_unsound(&result.stderr) => "standard error",
        () => return None,
    };
    Some(fault)
}

fn is_unsound(stream: &StreamSummary) -> bool {
    let shown = stream.head.0.len() + stream.tail.0.len();
    stream.head.0.len() > OUTPUT_HEAD_BYTES
        || stream.tail.0.len() > OUTPUT_HEAD_BYTES
        || shown as u64 > stream.bytes_total
        || stream.bytes_stored > stream.bytes_total.min(MAX_OUTPUT_BYTES)
        || i64::try_from(stream.bytes_total).is_err()
        || !is_digest(&stream.sha256)
        || is_other_than_digest(stream)
}

fn is_digest(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Everything is there and has another digest than the one told.
fn is_other_than_digest(stream: &StreamSummary) -> bool {
    stream.bytes_stored == stream.bytes_total
        && stream.whole().is_some_and(|bytes| hex(&Sha256::digest(bytes)) != stream.sha256)
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::binary::Binary;
    use protocol::exec::NotStarted;
    use uuid::Uuid;

    fn stream(bytes: &[u8]) -> StreamSummary {
        StreamSummary {
            bytes_total: bytes.len() as u64,
            bytes_stored: bytes.len() as u64,
            head: Binary(bytes.to_vec()),
            tail: Binary(Vec::new()),
            sha256: hex(&Sha256::digest(bytes)),
        }
    }

    fn result() -> ExecResult {
        ExecResult {
            outcome: ExecOutcome::Exited,
            exit_code: Some(0),
            signal: None,
            oom_killed: false,
            started_at_ms: 1_800_000_000_000,
            duration_ms: 5,
            survivors: 0,
            unended: 0,
            stdout: stream(b"hello"),
            stderr: stream(b""),
        }
    }

    fn report(outcome: ToolOutcome, generation: u32) -> ToolReport {
        let sandbox = SandboxRef { id: Uuid::from_u128(7).into(), generation };
        let executor_id = Uuid::from_u128(8).into();
        ToolReport { executor_id, sandbox: Some(sandbox), outcome }
    }

    #[test]
    fn what_an_executor_tells_passes() {
        let capped = StreamSummary {
            bytes_total: MAX_OUTPUT_BYTES + 9,
            bytes_stored: MAX_OUTPUT_BYTES,
            head: Binary(vec![b'h'; OUTPUT_HEAD_BYTES]),
            tail: Binary(vec![b't'; OUTPUT_HEAD_BYTES]),
            sha256: "0".repeat(64),
        };
        for result in [
            result(),
            ExecResult { exit_code: None, signal: Some(9), ..result() },
            ExecResult { stderr: capped, exit_code: Some(255), ..result() },
            ExecResult { outcome: ExecOutcome::Lost, exit_code: None, ..result() },
        ] {
            assert_eq!(find_fault(&report(ToolOutcome::Finished(result), 1)), None);
        }
        assert_eq!(find_fault(&report(ToolOutcome::NotStarted(NotStarted::Cancelled), 1)), None);
    }

    #[test]
    fn what_cannot_be_is_found() {
        let s = || stream(b"hello");
        let lies = [
            ("the outcome", ExecResult { outcome: ExecOutcome::Denied, ..result() }),
            ("the exit code", ExecResult { exit_code: Some(-1), ..result() }),
            ("the exit code", ExecResult { exit_code: Some(256), ..result() }),
            ("the signal", ExecResult { exit_code: None, signal: Some(0), ..result() }),
            ("two ways to end", ExecResult { signal: Some(9), ..result() }),
            ("the start", ExecResult { started_at_ms: u64::MAX, ..result() }),
            ("the duration", ExecResult { duration_ms: u64::MAX, ..result() }),
            ("the survivors", ExecResult { survivors: u32::MAX, ..result() }),
            ("what was not ended", ExecResult { unended: u32::MAX, ..result() }),
        ];
        let streams = [
            StreamSummary { bytes_total: 4, ..s() },
            StreamSummary { bytes_stored: 6, ..s() },
            StreamSummary { bytes_total: u64::MAX, ..s() },
            StreamSummary { bytes_total: u64::MAX, bytes_stored: u64::MAX, ..s() },
            StreamSummary { sha256: String::new(), ..s() },
            StreamSummary { sha256: "0".repeat(64), ..s() },
            StreamSummary { sha256: "G".repeat(64), ..s() },
            StreamSummary { bytes_total: 1 << 20, tail: Binary(vec![0; 16 * 1024 + 1]), ..s() },
        ];
        let of_stream = |stdout| ("standard output", ExecResult { stdout, ..result() });
        for (fault, lie) in lies.into_iter().chain(streams.map(of_stream)) {
            assert_eq!(
                find_fault(&report(ToolOutcome::Finished(lie.clone()), 1)),
                Some(fault),
                "{lie:?}"
            );
        }
        for generation in [0, u32::MAX] {
            let report = report(ToolOutcome::Finished(result()), generation);
            assert_eq!(find_fault(&report), Some("the sandbox's generation"));
        }
    }
}
