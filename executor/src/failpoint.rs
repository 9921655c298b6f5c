//! Places where a crash would be most awkward. In a debug build, `BULKHEAD_FAILPOINT=name[:n]` makes
//! the process kill itself at the n-th visit of one; in a release build there is nothing of it.

/// Every place, in the order in which an exec meets them.
pub const NAMES: [&str; 23] = [
    "before_record_start",
    "after_record_start",
    "start_sent",
    "start_written",
    "started_heard",
    "window_read",
    "output_kept",
    "output_taken",
    "exit_heard",
    "result_recorded",
    "reply_made",
    "result_reported",
    "report_marked",
    "output_shipped",
    "shipped_marked",
    "before_withdraw",
    "after_withdraw",
    "before_bury",
    "after_bury",
    "before_close",
    "close_marked",
    "close_emptied",
    "sandbox_removed",
];

/// Dies here, if this is where it shall.
#[cfg(debug_assertions)]
pub(crate) fn hit(name: &str) {
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    use nix::sys::signal::{Signal, raise};

    static WANTED: LazyLock<Option<(String, AtomicU64)>> =
        LazyLock::new(|| parse(&std::env::var("BULKHEAD_FAILPOINT").ok()?));

    debug_assert!(NAMES.contains(&name), "{name} is on no list, so nothing tests it");
    let Some((wanted, visits)) = &*WANTED else { return };
    if wanted == name && visits.fetch_sub(1, Ordering::Relaxed) == 1 {
        let _ = raise(Signal::SIGKILL);
    }
}

/// Nothing.
#[cfg(not(debug_assertions))]
#[inline]
pub(crate) fn hit(_: &str) {}

#[cfg(debug_assertions)]
fn parse(text: &str) -> Option<(String, std::sync::atomic::AtomicU64)> {
    let (name, visit) = match text.split_once(':') {
        Some((name, visit)) => (name, visit.parse().ok()?),
        None => (text, 1),
    };
    Some((name.to_owned(), visit.into()))
}

#[cfg(all(test, debug_assertions))]
mod tests {
    use super::*;

    #[test]
    fn a_place_may_be_passed_before_it_is_deadly() {
        let parsed = |text| parse(text).map(|(name, visit)| (name, visit.into_inner()));
        assert_eq!(parsed("exit_heard"), Some(("exit_heard".into(), 1)));
        assert_eq!(parsed("exit_heard:24"), Some(("exit_heard".into(), 24)));
        assert_eq!(parsed("exit_heard:x"), None);
    }
}
