//! `grep_files`: the files whose content matches, the last changed first.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{BufReader, Read, Write};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::stat::FileStat;
use protocol::files::FileKind;
use protocol::tools::GrepFiles;
use regex_lite::{Regex, RegexBuilder};

use super::place::Places;
use super::{MAX_TEXT_BYTES, Refusal, unwritten};
use crate::files::beneath::{Links, open_file};
use crate::files::walk::{Bounds, Then, walk};

/// Most files in an answer.
const MAX_LIMIT: u64 = 2000;
/// Time for all of it.
const MAX_TIME: Duration = Duration::from_secs(25);
/// A file with a NUL in its first bytes, this many, is no text.
const PROBE_BYTES: usize = 8 * 1024;
/// Longest line that is looked at in one piece, in bytes: the clock is read between two.
const MAX_PIECE_BYTES: u64 = 64 * 1024;
/// Largest compiled expression, in bytes: bounds the time for one piece.
const MAX_REGEX_BYTES: usize = 1024 * 1024;
/// How far a walk goes.
const BOUNDS: Bounds = Bounds { names: 50_000, held: 100_000, depth: 64 };

/// Writes one absolute path a line.
pub(super) fn grep_files(
    places: &Places,
    arguments: &GrepFiles,
    output: &mut dyn Write,
) -> Result<(), Refusal> {
    let limit = usize::try_from(arguments.limit.min(MAX_LIMIT)).unwrap_or(1);
    if limit == 0 {
        return Err(Refusal::new("limit must be greater than zero"));
    }
    let pattern = arguments.pattern.trim();
    if pattern.is_empty() {
        return Err(Refusal::new("pattern must not be empty"));
    }
    let regex = compile(pattern)?;
    let include = arguments.include.as_deref().map(Include::new).transpose()?;
    let path = arguments.path.as_deref().unwrap_or(".");
    let place = places.find(path)?;
    let until = Instant::now() + MAX_TIME;
    let mut search = Search { regex, limit, until, best: BinaryHeap::new(), cut: false };

    let refuse = |errno| Refusal::about(path, errno);
    match place.root.listing(place.path.as_bytes(), Links::Follow) {
        Ok(top) => {
            let cut = walk(
                top,
                BOUNDS,
                &mut |step| {
                    if search.is_over() {
                        return Ok::<_, Refusal>(Then::Stop);
                    }
                    if step.kind == FileKind::Directory {
                        return Ok(if step.name == b".git" { Then::Pass } else { Then::Enter });
                    }
                    if step.kind == FileKind::File
                        && include.as_ref().is_none_or(|include| include.matches(step.path))
                        && let Ok((file, stat)) = open_file(step.folder, step.name)
                    {
                        search.look(file.into(), &stat, step.path);
                    }
                    Ok(Then::Pass)
                },
                &mut |_, _| Ok(()),
            )?;
            search.cut = cut;
        }
        Err(Errno::ENOTDIR) => {
            let (file, stat) =
                place.root.file(place.path.as_bytes(), Links::Follow).map_err(refuse)?;
            search.look(file.into(), &stat, b"");
        }
        Err(errno) => return Err(refuse(errno)),
    }
    search.report(&place.absolute, output)
}

fn compile(pattern: &str) -> Result<Regex, Refusal> {
    RegexBuilder::new(pattern)
        .size_limit(MAX_REGEX_BYTES)
        .build()
        .map_err(|error| Refusal::new(format!("the pattern is no regular expression: {error}")))
}

/// Time of the last change, in seconds and nanoseconds, and path.
type Found = (i64, i64, Reverse<Vec<u8>>);

struct Search {
    regex: Regex,
    limit: usize,
    until: Instant,
    /// The last changed files, the oldest on top.
    best: BinaryHeap<Reverse<Found>>,
    /// Not everything was looked at: there is too much.
    cut: bool,
}

impl Search {
    fn is_over(&self) -> bool {
        Instant::now() >= self.until
    }

    fn look(&mut self, file: File, stat: &FileStat, path: &[u8]) {
        let small = u64::try_from(stat.st_size).is_ok_and(|bytes| bytes <= MAX_TEXT_BYTES);
        if small && self.matches(file).unwrap_or(false) {
            self.best.push(Reverse((stat.st_mtime, stat.st_mtime_nsec, Reverse(path.to_vec()))));
            if self.best.len() > self.limit {
                self.best.pop();
            }
        }
    }

    fn matches(&self, file: File) -> std::io::Result<bool> {
        use std::io::BufRead as _;
        let mut reader = BufReader::with_capacity(PROBE_BYTES, file.take(MAX_TEXT_BYTES));
        if reader.fill_buf()?.contains(&0) {
            return Ok(false);
        }
        let mut line = Vec::new();
        loop {
            line.clear();
            let count = (&mut reader).take(MAX_PIECE_BYTES).read_until(b'\n', &mut line)?;
            if count == 0 || self.is_over() {
                return Ok(false);
            }
            let line = line.strip_suffix(b"\n").unwrap_or(&line);
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if self.regex.is_match(&String::from_utf8_lossy(line)) {
                return Ok(true);
            }
        }
    }

    fn report(self, top: &str, output: &mut dyn Write) -> Result<(), Refusal> {
        let seconds = MAX_TIME.as_secs();
        let (over, cut) = (self.is_over(), self.cut);
        let unfinished = match (over, cut) {
            (true, _) => Some(format!("The search ended after {seconds} seconds")),
            (false, true) => Some("There are too many files to look at all of them".to_owned()),
            (false, false) => None,
        };
        if self.best.is_empty() {
            return Err(Refusal::new(match unfinished {
                Some(why) => format!("No matches found. {why}: narrow the search by path."),
                None => "No matches found.".into(),
            }));
        }
        // Reversed twice: ascending order of Reverse is the last changed first.
        for Reverse((_, _, Reverse(path))) in self.best.into_sorted_vec() {
            let path = String::from_utf8_lossy(&path).replace('\n', "\u{fffd}");
            let slash = if path.is_empty() { "" } else { "/" };
            writeln!(output, "{top}{slash}{path}").map_err(|error| unwritten(&error))?;
        }
        if let Some(why) = unfinished {
            writeln!(output, "{why}: there may be more.").map_err(|error| unwritten(&error))?;
        }
        Ok(())
    }
}

/// A glob: of a name, or of the path when it has a slash. A `!` before it turns it round.
struct Include {
    regex: Regex,
    whole_path: bool,
    wanted: bool,
}

impl Include {
    fn new(glob: &str) -> Result<Self, Refusal> {
        let (glob, wanted) = glob.strip_prefix('!').map_or((glob, true), |rest| (rest, false));
        let whole_path = glob.contains('/');
        let regex = compile(&regex_of(glob.trim_start_matches('/')))
            .map_err(|_| Refusal::new(format!("include is no glob: \"{glob}\"")))?;
        Ok(Self { regex, whole_path, wanted })
    }

    fn matches(&self, path: &[u8]) -> bool {
        let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or(path);
        let text = String::from_utf8_lossy(if self.whole_path { path } else { name });
        self.regex.is_match(&text) == self.wanted
    }
}

/// The glob as an expression, which takes linear time.
fn regex_of(glob: &str) -> String {
    let mut regex = String::from("(?s)^");
    let mut rest = glob.chars().peekable();
    let mut braces = 0;
    while let Some(next) = rest.next() {
        match next {
            '*' if rest.next_if_eq(&'*').is_some() => {
                let folders = rest.next_if_eq(&'/').is_some();
                regex.push_str(if folders { "(?:.*/)?" } else { ".*" });
            }
            '*' => regex.push_str("[^/]*"),
            '?' => regex.push_str("[^/]"),
            '{' => {
                braces += 1;
                regex.push_str("(?:");
            }
            '}' if braces > 0 => {
                braces -= 1;
                regex.push(')');
            }
            ',' if braces > 0 => regex.push('|'),
            '[' => {
                regex.push('[');
                if rest.next_if(|next| matches!(next, '!' | '^')).is_some() {
                    regex.push('^');
                }
                while let Some(inner) = rest.next_if(|next| *next != ']') {
                    if matches!(inner, '\\' | '[' | '^' | '&' | '~') {
                        regex.push('\\');
                    }
                    regex.push(inner);
                }
                rest.next();
                regex.push(']');
            }
            '\\' => regex.push_str(&regex_lite::escape(&rest.next().unwrap_or('\\').to_string())),
            other => regex.push_str(&regex_lite::escape(&other.to_string())),
        }
    }
    regex.push('$');
    regex
}
