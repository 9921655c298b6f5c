//! `read_file`: lines of a file, with their numbers.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};

use protocol::tools::ReadFile;

use super::place::Places;
use super::{MAX_TEXT_BYTES, Refusal, unwritten};
use crate::files::beneath::Links;

/// Longest line that is shown, in characters.
pub(super) const MAX_LINE_CHARS: usize = 500;
/// As many bytes of a line as these characters can take, and a cut one.
const MAX_LINE_BYTES: usize = MAX_LINE_CHARS * 4 + 4;

/// Writes `L{number}: {text}` for each line.
pub(super) fn read_file(
    places: &Places,
    arguments: &ReadFile,
    output: &mut dyn Write,
) -> Result<(), Refusal> {
    if arguments.offset == 0 {
        return Err(Refusal::new("offset must be a 1-indexed line number"));
    }
    if arguments.limit == 0 {
        return Err(Refusal::new("limit must be greater than zero"));
    }
    let path = arguments.file_path.as_str();
    let place = places.find(path)?;
    let (fd, stat) = place
        .root
        .file(place.path.as_bytes(), Links::Follow)
        .map_err(|errno| Refusal::about(path, errno))?;
    if u64::try_from(stat.st_size).unwrap_or(0) > MAX_TEXT_BYTES {
        let message = format!(
            "\"{path}\" has {} bytes, over the limit of {MAX_TEXT_BYTES}: read a part of it with a \
             command",
            stat.st_size
        );
        return Err(Refusal::new(message));
    }
    // It may grow meanwhile: the limit holds for what is read.
    let mut reader = BufReader::new(std::io::Read::take(File::from(fd), MAX_TEXT_BYTES));
    let mut line = Vec::new();
    let mut number = 0;
    let last = arguments.offset.saturating_add(arguments.limit - 1);
    while number < last
        && read_line(&mut reader, &mut line)
            .map_err(|error| Refusal::new(format!("\"{path}\" could not be read: {error}")))?
    {
        number += 1;
        if number < arguments.offset {
            continue;
        }
        let text = String::from_utf8_lossy(&line);
        let text = cut(text.strip_suffix('\r').unwrap_or(&text));
        writeln!(output, "L{number}: {text}").map_err(|error| unwritten(&error))?;
    }
    if number < arguments.offset {
        return Err(Refusal::new("offset exceeds file length"));
    }
    Ok(())
}

/// As much of a text as is shown of a line.
pub(super) fn cut(text: &str) -> &str {
    text.char_indices().nth(MAX_LINE_CHARS).map_or(text, |(end, _)| &text[..end])
}

/// Reads a line, of which only the beginning is kept. Tells whether there was one.
fn read_line(reader: &mut dyn BufRead, line: &mut Vec<u8>) -> std::io::Result<bool> {
    line.clear();
    let mut any = false;
    loop {
        let data = match reader.fill_buf() {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            outcome => outcome?,
        };
        if data.is_empty() {
            return Ok(any);
        }
        any = true;
        let end = data.iter().position(|byte| *byte == b'\n');
        let used = end.unwrap_or(data.len());
        let room = MAX_LINE_BYTES - line.len();
        line.extend_from_slice(&data[..used.min(room)]);
        reader.consume(end.map_or(used, |end| end + 1));
        if end.is_some() {
            return Ok(true);
        }
    }
}
