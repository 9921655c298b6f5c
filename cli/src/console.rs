//! The one place that writes: data to stdout, everything else to stderr.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};

use serde::Serialize;

/// Tells the person at the terminal something. A closed stderr is no reason to fail.
pub fn say(message: impl Display) {
    let _ = writeln!(io::stderr().lock(), "bulkhead: {message}");
}

/// Writes a line to stderr without the program's name, for longer texts.
pub fn narrate(line: impl Display) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// Writes one line of data.
///
/// # Errors
/// When stdout is closed or full.
pub fn print(line: impl Display) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}

/// Writes one JSON document on one line.
///
/// # Errors
/// When stdout is closed or full.
pub fn print_json(document: &impl Serialize) -> io::Result<()> {
    print(serde_json::to_string(document)?)
}

/// Writes a command's output as it is.
///
/// # Errors
/// When the stream is closed or full.
pub fn write_stream(stream: crate::client::Stream, bytes: &[u8]) -> io::Result<()> {
    fn write(mut out: impl Write, bytes: &[u8]) -> io::Result<()> {
        out.write_all(bytes)?;
        out.flush()
    }
    match stream {
        crate::client::Stream::Stdout => write(io::stdout().lock(), bytes),
        crate::client::Stream::Stderr => write(io::stderr().lock(), bytes),
    }
}

/// Whether a person looks at stdout.
pub fn is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// Writes rows in columns as wide as their widest cell.
///
/// # Errors
/// When stdout is closed or full.
pub fn print_table(header: &[&str], rows: &[Vec<String>]) -> io::Result<()> {
    let mut lines = vec![header.iter().map(|&cell| cell.to_owned()).collect::<Vec<_>>()];
    lines.extend(rows.iter().map(|row| row.iter().map(|cell| printable(cell)).collect()));
    let width = |at: usize| lines.iter().filter_map(|l| l.get(at)).map(|c| c.chars().count()).max();
    let widths: Vec<usize> = (0..header.len()).map(|at| width(at).unwrap_or(0)).collect();
    for line in &lines {
        let cells = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        print(cells.collect::<Vec<_>>().join("  ").trim_end())?;
    }
    Ok(())
}

/// What an agent wrote must not move the reviewer's cursor or fake a line: control characters are
/// shown escaped.
pub fn printable(text: &str) -> String {
    text.chars().flat_map(escape).collect()
}

fn escape(c: char) -> Vec<char> {
    // Besides control characters those that change the direction or hide.
    let hidden = matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}');
    if c.is_control() || hidden { c.escape_default().collect() } else { vec![c] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_cannot_fake_what_the_reviewer_sees() {
        assert_eq!(printable("ls\u{1b}[2K\rrm x"), "ls\\u{1b}[2K\\rrm x");
        assert_eq!(printable("a\u{202e}b"), "a\\u{202e}b");
        assert_eq!(printable("Zeit für ☕"), "Zeit für ☕");
    }
}
