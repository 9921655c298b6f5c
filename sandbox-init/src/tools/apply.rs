//! `apply_patch`: every change is computed and every new file written, nameless, before the first
//! one gets its name; a patch that does not fit changes nothing.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::sys::stat::{SFlag, fstat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::patch::{Hunk, parse};
use super::place::{Place, Places};
use super::seek::{Misfit, change};
use super::{MAX_TEXT_BYTES, Refusal};
use crate::files::beneath::{Links, format, open_file, stat_entry};
use crate::files::draft::Draft;
use crate::files::failure::errno_of;
use crate::files::folder::make_folders;
use crate::files::put::{DEFAULT_MODE, mode_of_replaced};

/// Most files of one patch: each is open until all are written.
const MAX_FILES: usize = 200;
/// Most bytes of texts that are held at once.
const MAX_HELD_BYTES: usize = 24 * 1024 * 1024;
/// Most lines of a file, which take memory of their own.
const MAX_LINES: usize = 1_000_000;

/// What will be at a path: a text, with the permissions it had, or nothing.
struct State {
    shown: String,
    text: Option<String>,
    mode: Option<u32>,
}

/// Changes files. Gives the report.
pub(super) fn apply(places: &Places, patch: &str) -> Result<String, Refusal> {
    let hunks = parse(patch)?;
    if hunks.len() > MAX_FILES {
        return Err(Refusal::new(format!(
            "the patch changes more than {MAX_FILES} files: split it"
        )));
    }
    check_names(places, &hunks)?;
    let mut states = BTreeMap::new();
    let [mut added, mut modified, mut deleted] = [const { Vec::new() }; 3];
    for hunk in &hunks {
        match hunk {
            Hunk::Add { path, text } => {
                let place = places.find_writable(path)?;
                let mode = mode_at(&place, path)?;
                let state = State { shown: path.clone(), text: Some(text.clone()), mode };
                states.insert(place.absolute, state);
                added.push(path);
            }
            Hunk::Delete { path } => {
                let place = places.find_writable(path)?;
                if states.get(&place.absolute).is_none_or(|state: &State| state.text.is_some()) {
                    if !states.contains_key(&place.absolute) {
                        deletable(&place, path)?;
                    }
                } else {
                    return Err(Refusal::about(path, Errno::ENOENT));
                }
                states
                    .insert(place.absolute, State { shown: path.clone(), text: None, mode: None });
                deleted.push(path);
            }
            Hunk::Update { path, moved_to, chunks } => {
                let place = places.find_writable(path)?;
                let (text, mode) = match states.remove(&place.absolute) {
                    Some(State { text: Some(text), mode, .. }) => (text, mode),
                    Some(_) => return Err(Refusal::about(path, Errno::ENOENT)),
                    None => read(&place, path)?,
                };
                let text = change(&text, chunks).map_err(|misfit| explain(path, &misfit))?;
                let shown = moved_to.as_ref().unwrap_or(path);
                modified.push(shown);
                let target = places.find_writable(shown)?;
                if target.absolute != place.absolute {
                    mode_at(&target, shown)?;
                    states.insert(
                        place.absolute,
                        State { shown: path.clone(), text: None, mode: None },
                    );
                }
                states.insert(
                    target.absolute,
                    State { shown: shown.clone(), text: Some(text), mode },
                );
            }
        }
        let held: usize =
            states.values().filter_map(|state| state.text.as_ref()).map(String::len).sum();
        if held > MAX_HELD_BYTES {
            return Err(Refusal::new(format!(
                "the patch changes files of over {MAX_HELD_BYTES} bytes: split it"
            )));
        }
    }
    write(places, &states)?;
    let mut report = String::from("Success. Updated the following files:\n");
    for (letter, paths) in [('A', added), ('M', modified), ('D', deleted)] {
        for path in paths {
            report.push_str(&format!("{letter} {path}\n"));
        }
    }
    Ok(report)
}

/// Refuses a patch that names one file in two ways, of whose changes one would be lost.
fn check_names(places: &Places, hunks: &[Hunk]) -> Result<(), Refusal> {
    let mut known: BTreeMap<Identity, (String, &str)> = BTreeMap::new();
    for hunk in hunks {
        let (path, moved_to) = match hunk {
            Hunk::Add { path, .. } | Hunk::Delete { path } => (path, None),
            Hunk::Update { path, moved_to, .. } => (path, moved_to.as_ref()),
        };
        for path in std::iter::once(path).chain(moved_to) {
            let place = places.find_writable(path)?;
            let Some(identity) = identity(&place) else { continue };
            match known.get(&identity) {
                Some((absolute, before)) if *absolute != place.absolute => {
                    return Err(Refusal::new(format!(
                        "\"{before}\" and \"{path}\" are the same file by a link: name it in one \
                         way; nothing was changed"
                    )));
                }
                Some(_) => {}
                None => {
                    known.insert(identity, (place.absolute, path));
                }
            }
        }
    }
    Ok(())
}

/// The nearest folder that is there, by its numbers, and the names below it.
type Identity = (u64, u64, Vec<Vec<u8>>);

/// What a place is, by whatever name. What cannot be found is told when it is used.
fn identity(place: &Place<'_>) -> Option<Identity> {
    let (mut folder, name) = place.path.split()?;
    let mut names = vec![name.to_vec()];
    loop {
        match place.root.folder(folder.as_bytes(), Links::Follow) {
            Ok(found) => {
                let stat = fstat(&found).ok()?;
                return Some((stat.st_dev, stat.st_ino, names));
            }
            Err(Errno::ENOENT) => {
                let (above, name) = folder.split()?;
                names.push(name.to_vec());
                folder = above;
            }
            Err(_) => return None,
        }
    }
}

fn write(places: &Places, states: &BTreeMap<String, State>) -> Result<(), Refusal> {
    let mut drafts = Vec::new();
    for (absolute, State { shown, text, mode }) in states {
        let Some(text) = text else { continue };
        let refuse = |errno| Refusal::about(shown, errno);
        let place = places.find_writable(absolute)?;
        let (folder, name) = place.path.split().ok_or_else(|| refuse(Errno::EISDIR))?;
        let mut draft = Draft::before(place.root, &folder).map_err(refuse)?;
        draft.file().write_all(text.as_bytes()).map_err(|error| refuse(errno_of(&error)))?;
        drafts.push((draft, place.root, folder, name, mode.unwrap_or(DEFAULT_MODE), shown));
    }
    // All bytes are on the disk. What fails from here on leaves the files before it changed.
    for (draft, root, folder, name, mode, shown) in drafts {
        make_folders(root, &folder)
            .and_then(|(folder, _)| draft.place(folder.as_fd(), &name, mode))
            .map_err(|errno| Refusal::half_done(shown, errno))?;
    }
    for (absolute, State { shown, text, .. }) in states {
        if text.is_some() {
            continue;
        }
        let refuse = |errno| Refusal::about(shown, errno);
        let place = places.find_writable(absolute)?;
        let (folder, name) = place.path.split().ok_or_else(|| refuse(Errno::EISDIR))?;
        let gone = place
            .root
            .folder(folder.as_bytes(), Links::Follow)
            .and_then(|folder| unlinkat(folder, &name[..], UnlinkatFlags::NoRemoveDir));
        match gone {
            // Added, then deleted again: it never was.
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(errno) => return Err(Refusal::half_done(shown, errno)),
        }
    }
    Ok(())
}

/// The permissions of the file that will be replaced, if there is one.
fn mode_at(place: &Place<'_>, path: &str) -> Result<Option<u32>, Refusal> {
    let refuse = |errno| Refusal::about(path, errno);
    let Some((folder, name)) = place.path.split() else { return Err(refuse(Errno::EISDIR)) };
    match place.root.folder(folder.as_bytes(), Links::Follow) {
        Ok(folder) => mode_of_replaced(folder.as_fd(), &name).map_err(refuse),
        Err(Errno::ENOENT) => Ok(None),
        Err(errno) => Err(refuse(errno)),
    }
}

fn deletable(place: &Place<'_>, path: &str) -> Result<(), Refusal> {
    let refuse = |errno| Refusal::about(path, errno);
    let Some((folder, name)) = place.path.split() else { return Err(refuse(Errno::EISDIR)) };
    let folder = place.root.folder(folder.as_bytes(), Links::Follow).map_err(refuse)?;
    match format(&stat_entry(folder.as_fd(), &name).map_err(refuse)?) {
        SFlag::S_IFDIR => Err(refuse(Errno::EISDIR)),
        _ => Ok(()),
    }
}

/// The text of a file, which is no link: replacing one would leave its target as it is.
fn read(place: &Place<'_>, path: &str) -> Result<(String, Option<u32>), Refusal> {
    let refuse = |errno| Refusal::about(path, errno);
    let (folder, name) = place.path.split().ok_or_else(|| refuse(Errno::EISDIR))?;
    let folder = place.root.folder(folder.as_bytes(), Links::Follow).map_err(refuse)?;
    if format(&stat_entry(folder.as_fd(), &name).map_err(refuse)?) == SFlag::S_IFLNK {
        return Err(Refusal::new(format!("\"{path}\" is a link: update the file it leads to")));
    }
    let (file, stat) = open_file(folder.as_fd(), &name).map_err(refuse)?;
    let mut bytes = Vec::new();
    File::from(file)
        .take(MAX_TEXT_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| refuse(errno_of(&error)))?;
    if bytes.len() as u64 > MAX_TEXT_BYTES {
        let message = format!(
            "\"{path}\" is over the limit of {MAX_TEXT_BYTES} bytes: change it with a command"
        );
        return Err(Refusal::new(message));
    }
    if bytes.iter().filter(|byte| **byte == b'\n').count() > MAX_LINES {
        let message = format!("\"{path}\" has over {MAX_LINES} lines: change it with a command");
        return Err(Refusal::new(message));
    }
    let text = String::from_utf8(bytes).map_err(|_| {
        Refusal::new(format!("\"{path}\" is no UTF-8 text: change it with a command"))
    })?;
    Ok((text, Some(stat.st_mode & 0o777)))
}

fn explain(path: &str, misfit: &Misfit) -> Refusal {
    Refusal::new(match misfit {
        Misfit::Context(line) => {
            format!("Failed to find context '{line}' in {path}; nothing was changed")
        }
        Misfit::Lines(lines) => {
            format!(
                "Failed to find expected lines in {path}; nothing was changed:\n{}",
                lines.join("\n")
            )
        }
    })
}
