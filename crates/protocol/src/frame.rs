//! Messages as frames: a length (u32, little endian) and that many bytes of postcard. Knows no
//! message and no socket; copies a payload once on its way out and once on its way in.

use postcard::ser_flavors::Flavor;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Largest frame, in bytes.
pub const MAX_FRAME_BYTES: usize = 1024 * 1024;

const HEADER_BYTES: usize = 4;

/// A frame that breaks the rules above.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// Longer than [`MAX_FRAME_BYTES`].
    #[error("frame of {0} bytes is over the limit of {MAX_FRAME_BYTES}")]
    TooLarge(usize),
    /// Not a message that we know.
    #[error("frame is malformed")]
    Malformed(#[from] postcard::Error),
}

/// Appends `message` to `buffer` as one frame.
///
/// # Errors
/// When the message is too large for a frame. The buffer is then as it was.
pub fn encode<T: Serialize>(message: &T, buffer: &mut Vec<u8>) -> Result<(), FrameError> {
    let start = buffer.len();
    let encoded = append(message, buffer);
    if encoded.is_err() {
        buffer.truncate(start);
    }
    encoded
}

fn append<T: Serialize>(message: &T, buffer: &mut Vec<u8>) -> Result<(), FrameError> {
    let start = buffer.len();
    let body = start + HEADER_BYTES;
    buffer.extend_from_slice(&[0; HEADER_BYTES]);
    postcard::serialize_with_flavor(message, Tail(buffer))?;
    let length = buffer.len() - body;
    if length > MAX_FRAME_BYTES {
        return Err(FrameError::TooLarge(length));
    }
    buffer[start..body].copy_from_slice(&(length as u32).to_le_bytes());
    Ok(())
}

/// Gives the frame at `start`, whose message ends with no bytes, `length` of them. They have to be
/// written behind it.
pub(crate) fn lengthen(
    start: usize,
    length: usize,
    buffer: &mut Vec<u8>,
) -> Result<(), FrameError> {
    let body = start + HEADER_BYTES;
    // The number of no bytes, which is one byte.
    buffer.pop();
    postcard::serialize_with_flavor(&length, Tail(buffer))?;
    let total = (buffer.len() - body).saturating_add(length);
    if total > MAX_FRAME_BYTES {
        return Err(FrameError::TooLarge(total));
    }
    buffer[start..body].copy_from_slice(&(total as u32).to_le_bytes());
    Ok(())
}

/// Serialises to the end of a buffer, whole slices at once. (Postcard's own way to extend a buffer
/// goes byte by byte.)
struct Tail<'a>(&'a mut Vec<u8>);

impl Flavor for Tail<'_> {
    type Output = ();

    fn try_extend(&mut self, data: &[u8]) -> postcard::Result<()> {
        self.0.extend_from_slice(data);
        Ok(())
    }

    fn try_push(&mut self, data: u8) -> postcard::Result<()> {
        self.0.push(data);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}

/// Bytes that are kept free before those that come. What the kernel copies begins at a page, and the
/// allocator puts large memory 16 bytes behind one: AMD's processors copy four times slower to a place
/// that lies up to 63 bytes further into its page than the source. Half a page is far from there.
const LEAD_BYTES: usize = 2032;

/// Bytes as they come, and the frames that they make.
#[derive(Debug, Default)]
pub struct FrameBuffer {
    /// After the first use, they begin with [`LEAD_BYTES`] of no meaning.
    bytes: Vec<u8>,
    /// Bytes at the front that mean nothing any more.
    taken: usize,
}

impl FrameBuffer {
    /// Where the bytes that come next are to be appended.
    pub fn tail(&mut self) -> &mut Vec<u8> {
        if self.bytes.len() < LEAD_BYTES {
            self.bytes.resize(LEAD_BYTES, 0);
            self.taken = LEAD_BYTES;
        }
        // Once for all frames that one read brought, not once for each.
        self.bytes.drain(LEAD_BYTES..self.taken);
        self.taken = LEAD_BYTES;
        &mut self.bytes
    }

    /// Bytes that are not part of a frame yet.
    pub fn pending(&self) -> usize {
        self.bytes.len() - self.taken
    }

    /// Takes out the first whole frame; `None` when more bytes are needed.
    ///
    /// # Errors
    /// When the frame is too large or malformed. The connection is then of no more use.
    pub fn take<T: DeserializeOwned>(&mut self) -> Result<Option<T>, FrameError> {
        let bytes = &self.bytes[self.taken..];
        let Some(header) = bytes.first_chunk::<HEADER_BYTES>() else { return Ok(None) };
        let length = u32::from_le_bytes(*header) as usize;
        if length > MAX_FRAME_BYTES {
            return Err(FrameError::TooLarge(length));
        }
        let Some(body) = bytes.get(HEADER_BYTES..HEADER_BYTES + length) else { return Ok(None) };
        let message = postcard::from_bytes(body)?;
        self.taken += HEADER_BYTES + length;
        Ok(Some(message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::init::ToInit;
    use uuid::Uuid;

    fn forget(n: u128) -> ToInit {
        ToInit::Forget { exec_id: Uuid::from_u128(n).into() }
    }

    #[test]
    fn frames_come_out_whole_whatever_the_pieces() {
        let mut wire = Vec::new();
        for n in 0..6 {
            encode(&forget(n), &mut wire).expect("encodes");
        }
        for piece in [1, 2, 3, 7, 50, wire.len()] {
            let mut buffer = FrameBuffer::default();
            let mut seen = 0;
            for bytes in wire.chunks(piece) {
                buffer.tail().extend_from_slice(bytes);
                while let Some(ToInit::Forget { exec_id }) = buffer.take().expect("decodes") {
                    assert_eq!(exec_id, Uuid::from_u128(seen).into());
                    seen += 1;
                }
            }
            assert_eq!((seen, buffer.pending()), (6, 0), "pieces of {piece}");
        }
    }

    #[test]
    fn an_oversized_frame_is_refused_before_it_is_read() {
        let mut buffer = FrameBuffer::default();
        buffer.tail().extend_from_slice(&u32::MAX.to_le_bytes());
        assert!(matches!(buffer.take::<ToInit>(), Err(FrameError::TooLarge(_))));
    }

    #[test]
    fn an_oversized_message_leaves_the_buffer_as_it_was() {
        let mut buffer = vec![1, 2, 3];
        let message = ToInit::Stdin {
            exec_id: Uuid::from_u128(1).into(),
            offset: 0,
            bytes: vec![0; MAX_FRAME_BYTES],
            close: false,
        };
        assert!(matches!(encode(&message, &mut buffer), Err(FrameError::TooLarge(_))));
        assert_eq!(buffer, [1, 2, 3]);
    }

    #[test]
    fn garbage_is_an_error_not_a_panic() {
        let mut buffer = FrameBuffer::default();
        buffer.tail().extend_from_slice(&[3, 0, 0, 0, 0xff, 0xff, 0xff]);
        assert!(buffer.take::<ToInit>().is_err());
    }
}
