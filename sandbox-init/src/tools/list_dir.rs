//! `list_dir`: what is in a folder and below, indented.

use std::io::Write;

use protocol::files::FileKind;
use protocol::tools::ListDir;

use super::place::Places;
use super::read_file::cut;
use super::{Refusal, unwritten};
use crate::files::beneath::Links;
use crate::files::walk::{Bounds, Then, walk};

/// Deepest folder that is looked into.
const MAX_DEPTH: u64 = 16;
/// Furthest entry that can be asked for: more names of a folder are not held.
const MAX_ENTRIES: u64 = 10_000;

/// Writes the folder's path, then its entries, each folder's sorted by name.
pub(super) fn list_dir(
    places: &Places,
    arguments: &ListDir,
    output: &mut dyn Write,
) -> Result<(), Refusal> {
    let ListDir { dir_path, offset, limit, depth } = arguments;
    if *offset == 0 {
        return Err(Refusal::new("offset must be a 1-indexed entry number"));
    }
    if *limit == 0 || *depth == 0 {
        return Err(Refusal::new("limit and depth must be greater than zero"));
    }
    let last = offset.saturating_add(*limit - 1);
    if last > MAX_ENTRIES {
        let message =
            format!("offset and limit reach beyond {MAX_ENTRIES} entries: list a folder below");
        return Err(Refusal::new(message));
    }
    let place = places.find(dir_path)?;
    let top = place
        .root
        .listing(place.path.as_bytes(), Links::Follow)
        .map_err(|errno| Refusal::about(dir_path, errno))?;
    let mut lines = format!("Absolute path: {}\n", place.absolute);
    let mut seen = 0;
    let depth = usize::try_from((*depth).min(MAX_DEPTH)).unwrap_or(1);
    let names = usize::try_from(last).unwrap_or(usize::MAX).saturating_add(1);
    let bounds = Bounds { names, held: names.saturating_mul(depth), depth };
    walk(
        top,
        bounds,
        &mut |step| {
            seen += 1;
            if seen > last {
                return Ok::<_, Refusal>(Then::Stop);
            }
            if seen >= *offset {
                let mark = match step.kind {
                    FileKind::Directory => "/",
                    FileKind::Symlink => "@",
                    FileKind::Other => "?",
                    FileKind::File => "",
                };
                // A name with a line break would look like two entries.
                let name = String::from_utf8_lossy(step.name).replace(['\n', '\r'], "\u{fffd}");
                lines.push_str(&"  ".repeat(step.depth - 1));
                lines.push_str(cut(&name));
                lines.push_str(mark);
                lines.push('\n');
            }
            let inside = step.depth < depth;
            Ok(if inside { Then::Enter } else { Then::Pass })
        },
        // A folder that is closed is shown, not what is in it.
        &mut |_, _| Ok(()),
    )?;
    if seen < *offset && (seen > 0 || *offset > 1) {
        return Err(Refusal::new("offset exceeds directory entry count"));
    }
    if seen > last {
        lines.push_str(&format!("More than {limit} entries found\n"));
    }
    output.write_all(lines.as_bytes()).map_err(|error| unwritten(&error))
}
