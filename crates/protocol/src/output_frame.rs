//! The head of a frame of output, for who has the bytes elsewhere and writes them behind it: a large
//! output is then not copied into its frame.

use domain::ids::ExecId;

use crate::frame::{FrameError, encode, lengthen};
use crate::init::{FromInit, Stream};

/// Appends to `buffer` everything of an [`FromInit::Output`] frame but its `length` bytes, which have
/// to follow.
///
/// # Errors
/// When the bytes are too many for a frame. The buffer is then as it was.
pub fn encode_output_head(
    exec_id: ExecId,
    stream: Stream,
    offset: u64,
    length: usize,
    buffer: &mut Vec<u8>,
) -> Result<(), FrameError> {
    let start = buffer.len();
    encode(&FromInit::Output { exec_id, stream, offset, bytes: Vec::new() }, buffer)?;
    let encoded = lengthen(start, length, buffer);
    if encoded.is_err() {
        buffer.truncate(start);
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{FrameBuffer, MAX_FRAME_BYTES};
    use uuid::Uuid;

    #[test]
    fn head_and_bytes_are_the_same_frame_as_ever() {
        let exec_id = ExecId::from(Uuid::from_u128(7));
        for length in [1, 127, 128, 16_383, 16_384, MAX_FRAME_BYTES - 100] {
            for (offset, stream) in [(0, Stream::Stdout), (u64::MAX, Stream::Stderr)] {
                let bytes: Vec<u8> = (0..length).map(|n| n as u8).collect();
                let mut wire = vec![9];
                encode_output_head(exec_id, stream, offset, length, &mut wire).expect("fits");
                wire.extend_from_slice(&bytes);
                let mut whole = vec![9];
                let frame = FromInit::Output { exec_id, stream, offset, bytes };
                encode(&frame, &mut whole).expect("fits");
                assert!(wire == whole, "{length} bytes");
            }
        }
    }

    #[test]
    fn a_frame_that_would_be_too_large_leaves_the_buffer_as_it_was() {
        let exec_id = ExecId::from(Uuid::from_u128(7));
        let mut buffer = vec![1, 2, 3];
        for length in [MAX_FRAME_BYTES, usize::MAX] {
            let refused = encode_output_head(exec_id, Stream::Stdout, 0, length, &mut buffer);
            assert!(matches!(refused, Err(FrameError::TooLarge(_))));
            assert_eq!(buffer, [1, 2, 3]);
        }
        assert!(FrameBuffer::default().take::<FromInit>().expect("nothing").is_none());
    }
}
