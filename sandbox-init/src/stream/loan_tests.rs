//! Streams whose pipes are lent.

use std::os::fd::OwnedFd;

use domain::limits::OUTPUT_HEAD_BYTES;
use nix::unistd::write;

use super::tests::{chunk, stream};
use super::{LENT_FROM_BYTES, OutputStream, widen};

/// A stream whose executor takes pipes, behind as many bytes as make a loan worth it.
fn fast_stream() -> (OutputStream, OwnedFd) {
    let (mut stream, writer) = stream();
    stream.allow_loan(true);
    widen(stream.pipe.as_ref().expect("a pipe"));
    while stream.total() < LENT_FROM_BYTES {
        assert_eq!(stream.next_loan().map(|(offset, _)| offset), None);
        write(&writer, &[7; 128 * 1024]).expect("write");
        stream.read();
    }
    (stream, writer)
}

fn lend(stream: &mut OutputStream) -> u64 {
    while let Some((offset, bytes)) = chunk(stream) {
        stream.acknowledge(offset + bytes.len() as u64);
    }
    let (offset, pipe) = stream.next_loan().expect("it is lent");
    assert!(pipe.is_some());
    offset
}

#[test]
fn a_pipe_is_lent_behind_everything_that_was_read_of_it() {
    let (mut stream, writer) = fast_stream();
    write(&writer, b"later").expect("write");
    stream.read();
    assert!(stream.next_loan().is_none(), "what was read is not sent yet");
    assert!(stream.wants_read().is_none());
    let offset = lend(&mut stream);
    assert_eq!(offset, stream.total());
    stream.read();
    assert_eq!((stream.total(), stream.is_sent(), stream.is_drained()), (offset, true, false));
    // The executor takes two bytes, and gives it back.
    stream.take_back(offset + 2, false);
    stream.take_back(offset + 4, false);
    read_from(&stream, 2);
    stream.read();
    assert_eq!(chunk(&mut stream), Some((offset + 2, b"ter".to_vec())));
    assert!(stream.next_loan().is_none(), "it is lent once");
}

fn read_from(stream: &OutputStream, count: usize) {
    let pipe = stream.pipe.as_ref().expect("a pipe");
    assert_eq!(nix::unistd::read(pipe, &mut vec![0; count]), Ok(count));
}

#[test]
fn a_lent_pipe_comes_back_with_another_executor() {
    let (mut stream, writer) = fast_stream();
    let offset = lend(&mut stream);
    write(&writer, b"more of it").expect("write");
    read_from(&stream, 5);
    stream.allow_loan(false);
    stream.resume_from(offset + 5);
    stream.read();
    assert_eq!(chunk(&mut stream), Some((offset + 5, b"of it".to_vec())));
    assert!(stream.next_loan().is_none());
    // One that takes pipes gets it again.
    stream.allow_loan(true);
    stream.resume_from(offset + 10);
    write(&writer, b".").expect("write");
    stream.read();
    assert_eq!(lend(&mut stream), offset + 11);
}

#[test]
fn an_executor_that_had_not_kept_what_came_before_the_loan_gets_it_again() {
    let (mut stream, _writer) = fast_stream();
    let total = stream.total();
    while chunk(&mut stream).is_some() {}
    assert!(matches!(stream.next_loan(), Some((offset, Some(_))) if offset == total));
    stream.acknowledge(1000);
    stream.resume_from(2000);
    assert_eq!(stream.total(), total);
    assert_eq!(chunk(&mut stream).map(|(offset, _)| offset), Some(2000));
}

#[test]
fn a_pipe_is_reclaimed_once_at_the_commands_end() {
    let (mut stream, writer) = fast_stream();
    let offset = lend(&mut stream);
    assert!(stream.next_loan().is_none());
    write(&writer, b"end").expect("write");
    stream.command_ended();
    stream.read();
    assert!(matches!(stream.next_loan(), Some((_, None))));
    assert!(stream.next_loan().is_none());
    assert!(!stream.is_drained());
    stream.take_back(offset, false);
    stream.read();
    assert_eq!(chunk(&mut stream), Some((offset, b"end".to_vec())));
    assert!(stream.is_drained());
}

#[test]
fn a_command_that_ends_before_its_pipe_is_lent_keeps_it() {
    let (mut stream, _writer) = fast_stream();
    stream.command_ended();
    while chunk(&mut stream).is_some() {}
    assert!(stream.next_loan().is_none());
    stream.acknowledge(stream.total());
    stream.read();
    assert!(stream.is_drained());
}

#[test]
fn what_is_not_kept_is_counted_and_its_end_sent_at_the_end() {
    let (mut stream, writer) = fast_stream();
    let offset = lend(&mut stream);
    stream.take_back(offset, true);
    let mut written = Vec::new();
    for round in 0..500_u32 {
        let piece: Vec<u8> =
            (0..2000).flat_map(|n: u32| (round * 2000 + n).to_le_bytes()).collect();
        write(&writer, &piece).expect("write");
        stream.read();
        assert!(!stream.has_unsent() && stream.wants_read().is_some());
        written.extend(piece);
    }
    drop(writer);
    stream.read();
    assert!(stream.has_unsent());
    let (begin, bytes) = chunk(&mut stream).expect("its end");
    assert_eq!(stream.total(), offset + written.len() as u64);
    assert_eq!(begin + bytes.len() as u64, stream.total());
    assert!(bytes.len() >= OUTPUT_HEAD_BYTES && written.ends_with(&bytes));
    // Another executor hears the same.
    stream.resume_from(offset);
    assert_eq!(chunk(&mut stream), Some((begin, bytes)));
}
