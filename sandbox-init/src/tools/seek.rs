//! Where a chunk's old lines are in a file, and the text with the new ones. Knows texts only.

use super::patch::{Chunk, Line};

/// How closely a line has to match, the closest first.
const CLOSENESS: [fn(&str) -> std::borrow::Cow<'_, str>; 4] = [
    |line| line.into(),
    |line| line.trim_end().into(),
    |line| line.trim().into(),
    |line| line.trim().chars().map(plain).collect::<String>().trim().to_owned().into(),
];

/// A chunk that does not fit.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Misfit {
    /// No line like it.
    Context(String),
    /// The old lines are nowhere.
    Lines(Vec<String>),
}

/// Changes a text. It ends in a newline afterwards, unless it is empty; lines keep the ending that
/// the text's first line has.
pub(super) fn change(text: &str, chunks: &[Chunk]) -> Result<String, Misfit> {
    let ending = match text.split_once('\n') {
        Some((first, _)) if first.ends_with('\r') => "\r\n",
        _ => "\n",
    };
    let strip = |line| strip(line, ending);
    let mut lines: Vec<&str> = text.split('\n').collect();
    if lines.last() == Some(&"") {
        lines.pop();
    }
    let mut result = String::with_capacity(text.len());
    let mut push = |line: &str| {
        result.push_str(line);
        result.push('\n');
    };
    let mut at = 0;
    for chunk in chunks {
        let mut from = at;
        for context in &chunk.context {
            let found = find(&lines, &[context.as_str()], from, false, strip);
            from = found.ok_or_else(|| Misfit::Context(context.clone()))? + 1;
        }
        let mut wanted: Vec<&str> = chunk.lines.iter().filter_map(old).collect();
        let mut used = &chunk.lines[..];
        let start = if wanted.is_empty() {
            Some(if chunk.context.is_empty() || chunk.at_end { lines.len() } else { from })
        } else {
            let mut found = find(&lines, &wanted, from, chunk.at_end, strip);
            // A blank line at the end may stand for the newline before the end of the file.
            if found.is_none() && wanted.last() == Some(&"") && old(&used[used.len() - 1]).is_some()
            {
                wanted.pop();
                used = &used[..used.len() - 1];
                found = find(&lines, &wanted, from, chunk.at_end, strip);
            }
            found
        };
        let start = start.ok_or_else(|| {
            Misfit::Lines(chunk.lines.iter().filter_map(old).map(str::to_owned).collect())
        })?;
        lines[at..start].iter().for_each(|line| push(line));
        at = start;
        for line in used {
            match line {
                // What the file has, which may differ in spaces.
                Line::Keep(_) => {
                    push(lines[at]);
                    at += 1;
                }
                Line::Remove(_) => at += 1,
                Line::Insert(new) => {
                    let new = new.strip_suffix('\r').unwrap_or(new);
                    if ending == "\r\n" { push(&format!("{new}\r")) } else { push(new) }
                }
            }
        }
    }
    lines[at..].iter().for_each(|line| push(line));
    Ok(result)
}

fn old(line: &Line) -> Option<&str> {
    match line {
        Line::Keep(line) | Line::Remove(line) => Some(line),
        Line::Insert(_) => None,
    }
}

fn strip<'a>(line: &'a str, ending: &str) -> &'a str {
    if ending == "\r\n" { line.strip_suffix('\r').unwrap_or(line) } else { line }
}

/// The first place at or behind `from` where `wanted` is, as closely as possible; at the end of the
/// file, if it can be.
fn find<'a>(
    lines: &[&'a str],
    wanted: &[&str],
    from: usize,
    at_end: bool,
    strip: impl Fn(&'a str) -> &'a str,
) -> Option<usize> {
    let last = lines.len().checked_sub(wanted.len())?;
    let from_end = at_end.then_some(last..=last);
    for places in from_end.into_iter().chain([from..=last]) {
        for form in CLOSENESS {
            let wanted: Vec<_> = wanted.iter().map(|line| form(strip_return(line))).collect();
            let fits = |place: &usize| {
                let here = &lines[*place..*place + wanted.len()];
                *place >= from
                    && here.iter().zip(&wanted).all(|(line, wanted)| form(strip(line)) == *wanted)
            };
            if let Some(place) = places.clone().find(fits) {
                return Some(place);
            }
        }
    }
    None
}

fn strip_return(line: &str) -> &str {
    line.strip_suffix('\r').unwrap_or(line)
}

/// The character of a keyboard for one of a typesetter.
fn plain(character: char) -> char {
    match character {
        '\u{2010}'..='\u{2015}' | '\u{2212}' => '-',
        '\u{2018}'..='\u{201b}' => '\'',
        '\u{201c}'..='\u{201f}' => '"',
        '\u{a0}' | '\u{2002}'..='\u{200a}' | '\u{202f}' | '\u{205f}' | '\u{3000}' => ' ',
        other => other,
    }
}
