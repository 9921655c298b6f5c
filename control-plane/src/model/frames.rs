//! Server-sent events out of a byte stream: only the `data` of each frame matters to us.

/// Largest frame, in bytes.
const MAX_FRAME_BYTES: usize = 8 * 1024 * 1024;

/// A frame is larger than we take.
#[derive(Debug, thiserror::Error)]
#[error("a frame of the stream is over {MAX_FRAME_BYTES} bytes")]
pub struct FrameTooLarge;

/// Collects bytes until frames are whole.
#[derive(Default)]
pub struct Frames {
    buffer: Vec<u8>,
}

impl Frames {
    /// Takes more bytes; gives the data of the frames that are whole now.
    ///
    /// # Errors
    /// When a frame grows too large.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Vec<String>, FrameTooLarge> {
        self.buffer.extend(bytes.iter().filter(|byte| **byte != b'\r'));
        let mut data = Vec::new();
        while let Some(end) = self.buffer.windows(2).position(|pair| pair == b"\n\n") {
            let frame: Vec<u8> = self.buffer.drain(..end + 2).collect();
            let text = String::from_utf8_lossy(&frame);
            let lines: Vec<&str> = text
                .lines()
                .filter_map(|line| line.strip_prefix("data:"))
                .map(|line| line.strip_prefix(' ').unwrap_or(line))
                .collect();
            if !lines.is_empty() {
                data.push(lines.join("\n"));
            }
        }
        if self.buffer.len() > MAX_FRAME_BYTES {
            return Err(FrameTooLarge);
        }
        Ok(data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_whole_whatever_the_pieces() {
        let wire = b"event: a\r\ndata: {\"x\":1}\r\n\r\n: ping\n\ndata: one\ndata: two\n\n";
        let mut frames = Frames::default();
        let mut seen = Vec::new();
        for byte in wire {
            seen.extend(frames.push(&[*byte]).expect("small"));
        }
        assert_eq!(seen, ["{\"x\":1}", "one\ntwo"]);
    }
}
