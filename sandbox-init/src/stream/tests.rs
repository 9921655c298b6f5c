//! Streams whose pipes stay here.

use super::*;
use nix::fcntl::OFlag;
use nix::unistd::{pipe2, write};
use protocol::init::WIDE_WINDOW_BYTES;

pub(super) fn stream() -> (OutputStream, OwnedFd) {
    let (reader, writer) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK).expect("pipe");
    (OutputStream::new(Some(reader), &Allowance::new()), writer)
}

pub(super) fn chunk(stream: &mut OutputStream) -> Option<(u64, Vec<u8>)> {
    stream.next_chunk().map(|(offset, parts)| (offset, parts.concat()))
}

#[test]
fn unacknowledged_bytes_are_sent_again_after_a_reconnect() {
    let (mut stream, writer) = stream();
    write(&writer, b"abcdef").expect("write");
    stream.read();
    assert_eq!(chunk(&mut stream), Some((0, b"abcdef".to_vec())));
    assert!(stream.is_sent());
    stream.resume_from(2);
    assert_eq!(chunk(&mut stream), Some((2, b"cdef".to_vec())));
    assert_eq!(stream.total(), 6);
}

#[test]
fn a_full_window_stops_reading_until_the_executor_catches_up() {
    let (mut stream, writer) = stream();
    while stream.wants_read().is_some() {
        write(&writer, &[7; 4096]).expect("write");
        stream.read();
    }
    assert_eq!(stream.total(), WIDE_WINDOW_BYTES as u64);
    stream.acknowledge(4096);
    assert!(stream.wants_read().is_some());
}

#[test]
fn a_writer_left_behind_does_not_delay_the_end() {
    let (mut stream, writer) = stream();
    write(&writer, b"last words").expect("write");
    stream.command_ended();
    assert!(!stream.is_drained());
    stream.read();
    assert!(stream.is_drained());
    assert_eq!(stream.total(), 10);
    drop(writer);
}

#[test]
fn a_writer_that_never_stops_is_cut_at_the_pipes_capacity() {
    let (mut stream, writer) = stream();
    stream.command_ended();
    let mut reads = 0;
    while !stream.is_drained() {
        write(&writer, &[7; 4096]).expect("write");
        stream.read_once();
        reads += 1;
        assert!(reads < 1000);
    }
    assert_eq!(stream.total(), 65536);
}

#[test]
fn a_writer_that_waits_goes_on_when_its_pipe_is_widened() {
    for _ in 0..100 {
        let (reader, writer) = std::io::pipe().expect("pipe");
        let reader = OwnedFd::from(reader);
        fcntl(&reader, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).expect("set");
        let mut stream = OutputStream::new(Some(reader), &Allowance::new());
        let writing = std::thread::spawn(move || {
            std::io::Write::write_all(&mut &writer, &[7; 600_000]).expect("writes");
        });
        while !stream.is_drained() {
            stream.read();
            stream.acknowledge(stream.total());
            std::thread::yield_now();
        }
        writing.join().expect("ends");
        assert_eq!((stream.total(), stream.widened), (600_000, true));
    }
}

#[test]
fn bytes_keep_their_order_when_the_window_wraps() {
    let (mut stream, writer) = stream();
    let (mut written, mut seen) = (0_u32, Vec::new());
    for round in 0..401_usize {
        let words: Vec<u8> = (0..1000).flat_map(|n| (written + n).to_le_bytes()).collect();
        written += 1000;
        write(&writer, &words).expect("write");
        stream.read();
        // Now and then, what was sent is kept back for a while.
        if round % 7 != 0 {
            while let Some((offset, bytes)) = chunk(&mut stream) {
                assert_eq!(offset, seen.len() as u64);
                seen.extend(bytes);
            }
            stream.acknowledge(seen.len() as u64 - 1500);
        }
    }
    let expected: Vec<u8> = (0..written).flat_map(u32::to_le_bytes).collect();
    assert!(seen == expected);
}
