//! What is taken, kept, owned and told of a stream, on a real disk.

use super::*;
use protocol::grant::hex;
use sha2::{Digest as _, Sha256};
use std::os::unix::fs::FileExt as _;

use crate::window::tests::window;

fn path() -> PathBuf {
    std::env::temp_dir().join(format!("bulkhead-spool-{}", uuid::Uuid::now_v7()))
}

/// Keeps what was taken, to the end.
async fn keep(sink: &mut OutputSink) -> Option<u64> {
    let counted = sink.keep().expect("keeps");
    let written = sink.written().await.expect("keeps");
    sink.settle().await.expect("settles");
    written.or(counted)
}

async fn accept(sink: &mut OutputSink, offset: u64, bytes: &[u8]) -> Option<u64> {
    sink.take(offset, bytes.to_vec()).expect("takes");
    keep(sink).await
}

fn bytes(range: std::ops::Range<usize>) -> Vec<u8> {
    range.map(|n| (n % 251) as u8).collect()
}

#[tokio::test]
async fn short_output_touches_no_disk_and_is_not_acknowledged() {
    let path = path();
    let mut sink = OutputSink::open(path.clone()).await.expect("opens");
    assert_eq!(accept(&mut sink, 0, b"hello").await, None);
    assert!(!path.exists());
    // PID 1 keeps it over an attach, and says it again.
    assert_eq!((sink.bytes_received(), sink.bytes_owned()), (5, 0));
    assert_eq!(accept(&mut sink, 0, b"hello").await, None);
    let summary = sink.summarize(Some(5));
    assert_eq!(summary.whole(), Some(b"hello".to_vec()));
    assert_eq!(summary.sha256, hex(&Sha256::digest(b"hello")));
}

#[tokio::test]
async fn long_output_survives_a_restart_without_gap_or_repeat() {
    let path = path();
    let all = bytes(0..100_000);
    let mut sink = OutputSink::open(path.clone()).await.expect("opens");
    assert_eq!(accept(&mut sink, 0, &all[..40_000]).await, Some(40_000));
    drop(sink);
    let mut sink = OutputSink::open(path).await.expect("opens again");
    assert_eq!((sink.bytes_received(), sink.bytes_owned()), (40_000, 40_000));
    assert_eq!(accept(&mut sink, 30_000, &all[30_000..]).await, Some(100_000));
    let summary = sink.summarize(Some(100_000));
    assert_eq!((summary.bytes_total, summary.bytes_stored), (100_000, 100_000));
    assert_eq!(summary.head.0, all[..OUTPUT_HEAD_BYTES]);
    assert_eq!(summary.tail.0, all[100_000 - OUTPUT_HEAD_BYTES..]);
    assert_eq!(summary.sha256, hex(&Sha256::digest(&all)));
    let view = sink.view();
    assert_eq!(view.read(10_000, 50_000).await.expect("reads"), all[10_000..60_000]);
    assert_eq!(view.read(100_000, 10).await.expect("reads"), b"");
    view.remove().await;
}

#[tokio::test]
async fn beyond_the_cap_bytes_are_counted_and_not_kept() {
    let path = path();
    let all = bytes(0..60_000);
    let mut sink = OutputSink::open_capped(path.clone(), 50_000).await.expect("opens");
    assert_eq!(accept(&mut sink, 0, &all).await, Some(60_000));
    let summary = sink.summarize(Some(60_000));
    assert_eq!((summary.bytes_total, summary.bytes_stored), (60_000, 50_000));
    assert_eq!(summary.tail.0, all[60_000 - OUTPUT_HEAD_BYTES..]);
    assert_eq!(std::fs::metadata(&path).expect("file").len(), 50_000);
    drop(sink);
    let mut sink = OutputSink::open_capped(path, 50_000).await.expect("opens again");
    assert_eq!(accept(&mut sink, 60_000, b"end").await, Some(60_003));
    assert_eq!(sink.summarize(None).bytes_total, 60_003);
    sink.view().remove().await;
}

#[tokio::test]
async fn pieces_that_wait_are_kept_in_one_go_and_what_is_repeated_once() {
    let path = path();
    let all = bytes(0..60_000);
    let mut sink = OutputSink::open_capped(path.clone(), 50_000).await.expect("opens");
    for range in [0..10, 0..12_000, 5..9, 11_000..30_000, 30_000..60_000] {
        sink.take(range.start as u64, all[range].to_vec()).expect("takes");
    }
    assert_eq!(sink.view().bytes_stored(), 0, "nothing is shown before it is kept");
    assert_eq!(keep(&mut sink).await, Some(60_000));
    assert_eq!(keep(&mut sink).await, None, "nothing to keep");
    assert!(std::fs::read(&path).expect("file") == all[..50_000]);
    let summary = sink.summarize(Some(60_000));
    assert_eq!((summary.bytes_total, summary.bytes_stored), (60_000, 50_000));
    assert_eq!(summary.sha256, hex(&Sha256::digest(&all[..50_000])));
    assert_eq!(summary.head.0, all[..OUTPUT_HEAD_BYTES]);
    assert_eq!(summary.tail.0, all[60_000 - OUTPUT_HEAD_BYTES..]);
    sink.view().remove().await;
}

/// Writes into a window as PID 1 does.
fn put(memory: &std::fs::File, offset: usize, bytes: &[u8]) {
    for (n, byte) in bytes.iter().enumerate() {
        let at = ((offset + n) % WIDE_WINDOW_BYTES) as u64;
        memory.write_all_at(std::slice::from_ref(byte), at).expect("writes");
    }
}

#[tokio::test]
async fn what_lies_in_a_window_is_the_same_as_what_comes() {
    let all = bytes(0..1_500_000);
    let cap = 1_300_000;
    let (window, memory) = window();
    let mut shared = OutputSink::open_capped(path(), cap).await.expect("opens");
    let mut sent = OutputSink::open_capped(path(), cap).await.expect("opens");
    for (begin, end) in [
        (0, 20_000),
        (0, 300_000),
        // Repeated in part, over the end of the memory, over the cap, and behind it.
        (250_000, 900_000),
        (900_000, 1_250_000),
        (1_250_000, 1_350_000),
        (1_350_000, 1_360_000),
        (1_360_000, 1_500_000),
        (1_400_000, 1_450_000),
    ] {
        put(&memory, begin, &all[begin..end]);
        shared.take_shared(&window, begin as u64, end - begin).expect("takes");
        sent.take(begin as u64, all[begin..end].to_vec()).expect("takes");
        assert_eq!(keep(&mut shared).await, keep(&mut sent).await, "{begin}");
    }
    shared.settle().await.expect("settles");
    sent.settle().await.expect("settles");
    let summary = shared.summarize(None);
    assert_eq!(summary, sent.summarize(None));
    assert_eq!((summary.bytes_total, summary.bytes_stored), (1_500_000, cap));
    assert_eq!(summary.sha256, hex(&Sha256::digest(&all[..cap as usize])));
    let stored = shared.view().read(0, cap as usize).await.expect("reads");
    assert!(stored == all[..cap as usize]);
    shared.view().remove().await;
    sent.view().remove().await;
}

#[tokio::test]
async fn a_piece_that_no_window_holds_is_an_error() {
    let (window, _memory) = window();
    let mut sink = OutputSink::open_capped(path(), 1000).await.expect("opens");
    let long = sink.take_shared(&window, 0, WIDE_WINDOW_BYTES + 1);
    assert!(matches!(long, Err(SpoolError::TooLong(_))));
    let gap = sink.take_shared(&window, 5, 10);
    assert!(matches!(gap, Err(SpoolError::Gap { have: 0, offset: 5 })));
    sink.take_shared(&window, 0, 2000).expect("takes");
    sink.take_shared(&window, u64::MAX, WIDE_WINDOW_BYTES).expect("nothing of it is left");
    assert_eq!(sink.bytes_received(), u64::MAX);
}

#[tokio::test]
async fn a_gap_below_the_cap_is_an_error() {
    let mut sink = OutputSink::open(path()).await.expect("opens");
    let gap = sink.take(1, b"x".to_vec());
    assert!(matches!(gap, Err(SpoolError::Gap { have: 0, offset: 1 })));
}

#[tokio::test]
async fn what_is_on_its_way_is_neither_owned_nor_shown() {
    let all = bytes(0..60_000);
    let path = path();
    let mut sink = OutputSink::open_capped(path.clone(), 50_000).await.expect("opens");
    sink.take(0, all[..30_000].to_vec()).expect("takes");
    assert_eq!(sink.keep().expect("begins"), None);
    assert_eq!((sink.bytes_received(), sink.bytes_owned()), (30_000, 0));
    assert_eq!((sink.is_writing(), sink.view().bytes_stored()), (true, 0));
    // More of it has to wait for what was before.
    sink.take(30_000, all[30_000..].to_vec()).expect("takes");
    assert_eq!(sink.keep().expect("waits"), None);
    assert_eq!((sink.bytes_received(), sink.bytes_owned()), (60_000, 0));
    assert_eq!(sink.written().await.expect("writes"), Some(30_000));
    assert_eq!((sink.bytes_owned(), sink.view().bytes_stored()), (30_000, 30_000));
    assert_eq!(sink.keep().expect("begins"), None);
    assert_eq!(sink.written().await.expect("writes"), Some(60_000));
    // Of this, nothing is to be written.
    sink.take(60_000, b"end".to_vec()).expect("takes");
    assert_eq!(sink.keep().expect("counts"), Some(60_003));
    assert_eq!((sink.is_writing(), sink.bytes_owned()), (false, 60_003));
    assert!(std::fs::read(&path).expect("file") == all[..50_000]);
    sink.settle().await.expect("settles");
    assert_eq!(sink.summarize(None).sha256, hex(&Sha256::digest(&all[..50_000])));
    sink.view().remove().await;
}

#[tokio::test]
async fn there_is_room_for_one_batch_while_another_one_is_written_and_all_is_kept_in_the_end() {
    let all = bytes(0..3 * BATCH_BYTES);
    let path = path();
    let mut sink = OutputSink::open(path.clone()).await.expect("opens");
    assert!(sink.has_room());
    let mut taken = 0;
    while sink.has_room() {
        sink.take(taken as u64, all[taken..taken + 100_000].to_vec()).expect("takes");
        sink.keep().expect("begins");
        taken += 100_000;
    }
    assert!(taken < 100_000 + BATCH_BYTES + 100_000, "{taken}");
    sink.settle().await.expect("settles");
    assert_eq!((sink.bytes_owned(), sink.has_room()), (taken as u64, true));
    assert!(std::fs::read(&path).expect("file") == all[..taken]);
    assert_eq!(sink.summarize(None).sha256, hex(&Sha256::digest(&all[..taken])));
    sink.view().remove().await;
}
