//! `bulkhead policy check`: the engine of the control plane, offline.

use std::io::{self, BufRead, Read};
use std::path::Path;

use anyhow::{Result, bail};
use policy::Engine;

use super::{INVALID, load};
use crate::console;

/// Longest line that is read, in bytes.
const MAX_LINE_BYTES: u64 = 4 * 1024 * 1024;

pub(super) fn run(policy: Option<&Path>) -> Result<u8> {
    let Some(engine) = load(policy)? else { return Ok(INVALID) };
    let mut input = io::stdin().lock();
    let mut number = 0;
    let mut all_decided = true;
    while let Some(line) = next_line(&mut input)? {
        number += 1;
        if line.trim_ascii().is_empty() {
            continue;
        }
        match answer(&engine, &line) {
            Ok(answer) => console::print(answer)?,
            Err(why) => {
                all_decided = false;
                console::say(format_args!("line {number} of stdin is no question: {why}"));
            }
        }
    }
    Ok(u8::from(!all_decided))
}

fn answer(engine: &Engine, line: &[u8]) -> Result<String> {
    Ok(policy::check_line(engine, std::str::from_utf8(line)?)?)
}

fn next_line(input: &mut impl BufRead) -> Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    let read = input.take(MAX_LINE_BYTES).read_until(b'\n', &mut line)?;
    if read as u64 == MAX_LINE_BYTES {
        bail!("a line on stdin is over {MAX_LINE_BYTES} bytes");
    }
    Ok((read > 0).then_some(line))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_one_by_one_and_are_bounded() {
        let mut input = io::Cursor::new(b"a\nb".to_vec());
        assert_eq!(next_line(&mut input).unwrap(), Some(b"a\n".to_vec()));
        assert_eq!(next_line(&mut input).unwrap(), Some(b"b".to_vec()));
        assert_eq!(next_line(&mut input).unwrap(), None);
        let mut endless = io::BufReader::new(io::repeat(b'x'));
        assert!(next_line(&mut endless).is_err());
    }
}
