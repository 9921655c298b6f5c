//! The grammar of a patch: text in, hunks out. Lenient where models slip, precise where it cannot
//! tell what was meant. Knows no files.

use super::Refusal;

/// What is to be done to one file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Hunk {
    Add { path: String, text: String },
    Delete { path: String },
    Update { path: String, moved_to: Option<String>, chunks: Vec<Chunk> },
}

/// A run of lines in a file that is changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Chunk {
    /// Lines that come before it, each behind the one before.
    pub(super) context: Vec<String>,
    pub(super) lines: Vec<Line>,
    /// It is the end of the file.
    pub(super) at_end: bool,
}

/// A line of a chunk.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    Keep(String),
    Remove(String),
    Insert(String),
}

/// Parses a patch.
///
/// # Errors
/// Tells the line, counted in the patch from 1.
pub(super) fn parse(patch: &str) -> Result<Vec<Hunk>, Refusal> {
    let lines = unwrapped(patch)?;
    let mut hunks = Vec::new();
    let mut at = 0;
    while let Some((number, line)) = lines.get(at) {
        at += 1;
        let trimmed = line.trim();
        if trimmed.is_empty() {
            continue;
        }
        let (kind, path) = marker(trimmed).ok_or_else(|| {
            invalid(*number, &format!("\"{trimmed}\" is no header: expected `*** Add File: `, `*** Delete File: ` or `*** Update File: ` and a path"))
        })?;
        if path.is_empty() {
            return Err(invalid(*number, "the header has no path"));
        }
        if path.ends_with('/') {
            return Err(invalid(*number, &format!("\"{path}\" names a folder, not a file")));
        }
        let path = path.to_owned();
        match kind {
            Marker::Add => {
                let mut text = String::new();
                while let Some((_, line)) = lines.get(at) {
                    let Some(line) = line.strip_prefix('+') else { break };
                    text.push_str(line);
                    text.push('\n');
                    at += 1;
                }
                hunks.push(Hunk::Add { path, text });
            }
            Marker::Delete => hunks.push(Hunk::Delete { path }),
            Marker::Update => {
                let moved =
                    lines.get(at).and_then(|(_, line)| line.trim().strip_prefix("*** Move to: "));
                at += usize::from(moved.is_some());
                let moved_to = moved.map(|path| path.trim().to_owned());
                if let Some(path) = moved_to.as_ref().filter(|path| path.ends_with('/')) {
                    let message = format!("\"{path}\" names a folder, not a file");
                    return Err(invalid(*number, &message));
                }
                let chunks = chunks(&lines, &mut at)?;
                if chunks.is_empty() && moved_to.is_none() {
                    return Err(invalid(
                        *number,
                        &format!("the update of \"{path}\" has no lines"),
                    ));
                }
                hunks.push(Hunk::Update { path, moved_to, chunks });
            }
        }
    }
    if hunks.is_empty() {
        return Err(Refusal::new("the patch is empty: no file was to be changed"));
    }
    Ok(hunks)
}

enum Marker {
    Add,
    Delete,
    Update,
}

fn marker(line: &str) -> Option<(Marker, &str)> {
    let rest = line.strip_prefix("*** ")?;
    let (kind, path) = rest.split_once(':')?;
    let kind = match kind {
        "Add File" => Marker::Add,
        "Delete File" => Marker::Delete,
        "Update File" => Marker::Update,
        _ => return None,
    };
    Some((kind, path.trim()))
}

/// The numbered lines between the first and the last one, without a heredoc around them.
fn unwrapped(patch: &str) -> Result<Vec<(usize, &str)>, Refusal> {
    let numbered = || (1..).zip(patch.lines());
    let mut lines: Vec<_> = numbered().collect();
    let blank = |(_, line): &(usize, &str)| line.trim().is_empty();
    while lines.last().is_some_and(blank) {
        lines.pop();
    }
    let mut first = lines.iter().take_while(|line| blank(line)).count();
    if let (Some((_, head)), Some((_, tail))) = (lines.get(first), lines.last())
        && let Some((_, tag)) = head.split_once("<<")
        && !tail.trim().is_empty()
        && tag.trim_matches(|c: char| c == '-' || c == '\'' || c == '"' || c.is_whitespace())
            == tail.trim()
    {
        lines.pop();
        first += 1;
    }
    let mut lines = lines.split_off(first.min(lines.len()));
    if lines.first().is_none_or(|(_, line)| line.trim() != "*** Begin Patch") {
        return Err(Refusal::new("invalid patch: the first line must be '*** Begin Patch'"));
    }
    while lines.last().is_some_and(blank) {
        lines.pop();
    }
    if lines.len() < 2 || lines.pop().is_none_or(|(_, line)| line.trim() != "*** End Patch") {
        return Err(Refusal::new("invalid patch: the last line must be '*** End Patch'"));
    }
    lines.remove(0);
    Ok(lines)
}

/// The chunks of an update, up to the next header.
fn chunks(lines: &[(usize, &str)], at: &mut usize) -> Result<Vec<Chunk>, Refusal> {
    let mut chunks = Vec::new();
    let mut chunk = Chunk::default();
    while let Some((number, line)) = lines.get(*at) {
        let trimmed = line.trim_end();
        if trimmed == "*** End of File" {
            if chunk.lines.is_empty() {
                return Err(invalid(*number, "there are no lines before the end of the file"));
            }
            chunk.at_end = true;
            chunks.push(std::mem::take(&mut chunk));
        } else if trimmed.starts_with("*** ") {
            break;
        } else if trimmed == "@@" || line.starts_with("@@ ") {
            if !chunk.lines.is_empty() {
                chunks.push(std::mem::take(&mut chunk));
            }
            if let Some(context) =
                line.strip_prefix("@@ ").filter(|context| !context.trim().is_empty())
            {
                chunk.context.push(context.to_owned());
            }
        } else {
            let (Some(sign), rest) = (line.chars().next(), line.get(1..)) else {
                chunk.lines.push(Line::Keep(String::new()));
                *at += 1;
                continue;
            };
            let rest = rest.unwrap_or_default().to_owned();
            chunk.lines.push(match sign {
                ' ' => Line::Keep(rest),
                '-' => Line::Remove(rest),
                '+' => Line::Insert(rest),
                // A blank line whose first space was lost with a tab or a return after it.
                _ if line.trim().is_empty() => Line::Keep(String::new()),
                _ => {
                    let why = format!("\"{line}\" starts with neither ' ', '+' nor '-'");
                    return Err(invalid(*number, &why));
                }
            });
        }
        *at += 1;
    }
    if !chunk.lines.is_empty() {
        chunks.push(chunk);
    } else if !chunk.context.is_empty() {
        let number = lines.get(at.saturating_sub(1)).map_or(0, |(number, _)| *number);
        return Err(invalid(number, "there are no lines after the last @@"));
    }
    Ok(chunks)
}

fn invalid(line: usize, why: &str) -> Refusal {
    Refusal::new(format!("invalid patch at line {line}: {why}"))
}
