//! Recordings of terminals as asciicast v2
//! (<https://docs.asciinema.org/manual/asciicast/v2/>): a header, then one event a line.
//!
//! Text only: bytes that are no UTF-8 become U+FFFD. A character that two chunks share is put
//! together first.

use protocol::init::TerminalSize;
use serde_json::json;
use time::OffsetDateTime;

/// Writes one recording, piece by piece.
#[derive(Default)]
pub struct Recording {
    /// Where its time begins: the start, or what came first, if clocks disagree.
    base: Option<OffsetDateTime>,
    /// Time of the last event, in microseconds: time does not go back.
    last_us: i64,
    /// The beginning of a character whose rest has not come; up to three bytes.
    begun: Vec<u8>,
}

impl Recording {
    /// A recording that begins at `start`, as far as that is known, and its first line.
    pub fn begin(
        start: Option<OffsetDateTime>,
        size: TerminalSize,
        terminal: &str,
    ) -> (Self, String) {
        let mut header = json!({
            "version": 2, "width": size.cols, "height": size.rows, "env": { "TERM": terminal },
        });
        if let Some(start) = start {
            header["timestamp"] = start.unix_timestamp().into();
        }
        (Self { base: start, ..Self::default() }, format!("{header}\n"))
    }

    /// The line of output; empty if it makes no character yet.
    pub fn output(&mut self, at: Option<OffsetDateTime>, bytes: &[u8]) -> String {
        let us = self.time_us(at);
        self.begun.extend_from_slice(bytes);
        let text = self.take_text();
        if text.is_empty() { text } else { line(us, "o", &text) }
    }

    /// The line of another size.
    pub fn resize(&mut self, at: OffsetDateTime, size: TerminalSize) -> String {
        let us = self.time_us(Some(at));
        line(us, "r", &format!("{}x{}", size.cols, size.rows))
    }

    /// The line of what never became a character; empty if there is nothing.
    pub fn finish(self) -> String {
        if self.begun.is_empty() {
            return String::new();
        }
        line(self.last_us, "o", &char::REPLACEMENT_CHARACTER.to_string())
    }

    fn time_us(&mut self, at: Option<OffsetDateTime>) -> i64 {
        if let Some(at) = at {
            let base = *self.base.get_or_insert(at);
            // What comes first is not before the beginning.
            let base = if self.last_us == 0 { base.min(at) } else { base };
            self.base = Some(base);
            let us = i64::try_from((at - base).whole_microseconds()).unwrap_or(i64::MAX);
            self.last_us = self.last_us.max(us);
        }
        self.last_us
    }

    fn take_text(&mut self) -> String {
        let bytes = std::mem::take(&mut self.begun);
        let mut text = String::with_capacity(bytes.len());
        let mut rest = bytes.as_slice();
        loop {
            let error = match std::str::from_utf8(rest) {
                Ok(valid) => {
                    text.push_str(valid);
                    return text;
                }
                Err(error) => error,
            };
            let (valid, after) = rest.split_at(error.valid_up_to());
            text.push_str(std::str::from_utf8(valid).unwrap_or_default());
            let Some(length) = error.error_len() else {
                self.begun = after.to_vec();
                return text;
            };
            text.push(char::REPLACEMENT_CHARACTER);
            rest = &after[length..];
        }
    }
}

fn line(us: i64, code: &str, data: &str) -> String {
    format!("{}\n", json!([us as f64 / 1e6, code, data]))
}

#[cfg(test)]
mod tests {
    use serde_json::Value;
    use time::Duration;

    use super::*;

    const START: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;
    const SIZE: TerminalSize = TerminalSize { rows: 24, cols: 80 };

    fn at(ms: i64) -> Option<OffsetDateTime> {
        Some(START + Duration::milliseconds(ms))
    }

    fn recording() -> Recording {
        Recording::begin(Some(START), SIZE, "xterm").0
    }

    #[test]
    fn the_header_is_one_line_of_version_2() {
        let start = OffsetDateTime::from_unix_timestamp(1_700_000_000).expect("a time");
        let (_, line) = Recording::begin(Some(start), SIZE, "vt\"100\n");
        assert_eq!(line.lines().count(), 1);
        let header: Value = serde_json::from_str(&line).expect("JSON");
        let wanted = json!({
            "version": 2, "width": 80, "height": 24, "timestamp": 1_700_000_000,
            "env": { "TERM": "vt\"100\n" },
        });
        assert_eq!(header, wanted);
        let (_, line) = Recording::begin(None, SIZE, "xterm");
        assert!(!line.contains("timestamp"), "{line}");
    }

    #[test]
    fn events_have_seconds_since_the_start_that_never_go_back() {
        let mut cast = recording();
        assert_eq!(cast.output(at(1500), b"a\r\n\x1b[1m"), "[1.5,\"o\",\"a\\r\\n\\u001b[1m\"]\n");
        let size = TerminalSize { rows: 10, cols: 20 };
        assert_eq!(cast.resize(START + Duration::seconds(2), size), "[2.0,\"r\",\"20x10\"]\n");
        assert_eq!(cast.output(at(1000), b"b"), "[2.0,\"o\",\"b\"]\n");
        assert_eq!(cast.output(None, b"c"), "[2.0,\"o\",\"c\"]\n");
        assert_eq!(cast.output(at(2001), b"d"), "[2.001,\"o\",\"d\"]\n");
        assert_eq!(cast.finish(), "");
    }

    #[test]
    fn a_clock_that_is_behind_moves_the_beginning() {
        let mut cast = recording();
        assert_eq!(cast.output(at(-5000), b"a"), "[0.0,\"o\",\"a\"]\n");
        assert_eq!(cast.output(at(-4000), b"b"), "[1.0,\"o\",\"b\"]\n");
    }

    #[test]
    fn a_character_that_chunks_share_is_put_together() {
        let mut cast = recording();
        assert_eq!(cast.output(at(0), b"x\xf0\x9f"), "[0.0,\"o\",\"x\"]\n");
        assert_eq!(cast.output(at(1), b"\x98"), "");
        assert_eq!(cast.output(at(2), b"\x80y"), "[0.002,\"o\",\"\u{1f600}y\"]\n");
        assert_eq!(cast.finish(), "");
    }

    #[test]
    fn bytes_that_are_no_text_become_replacement_characters() {
        let mut cast = recording();
        assert_eq!(
            cast.output(at(0), b"\xff\xc0a\x80"),
            "[0.0,\"o\",\"\u{fffd}\u{fffd}a\u{fffd}\"]\n"
        );
        // Begun, and then something else.
        assert_eq!(cast.output(at(0), b"\xe2\x82"), "");
        assert_eq!(cast.output(at(0), b"z"), "[0.0,\"o\",\"\u{fffd}z\"]\n");
        assert_eq!(cast.output(at(0), b"\xe2"), "");
        assert_eq!(cast.finish(), "[0.0,\"o\",\"\u{fffd}\"]\n");
    }

    /// However the bytes are cut, the text is that of the whole.
    #[test]
    fn cutting_changes_no_text() {
        let whole = b"a\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80\xff\xe2\x82b\xf0\x9f";
        for cut in 1..whole.len() {
            let mut cast = recording();
            let mut lines: Vec<String> = whole.chunks(cut).map(|c| cast.output(at(0), c)).collect();
            lines.push(cast.finish());
            let text: String = lines
                .iter()
                .filter(|line| !line.is_empty())
                .map(|line| serde_json::from_str::<Value>(line).expect("JSON")[2].clone())
                .map(|text| text.as_str().expect("a text").to_owned())
                .collect();
            assert_eq!(text, String::from_utf8_lossy(whole), "cut at {cut}");
        }
    }
}
