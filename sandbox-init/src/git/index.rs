//! The index of a repository, as far as it tells of submodules. Read exactly as git reads it, or
//! refused: a file that two readers see differently would hide one.
//!
//! The form is that of git's `Documentation/gitformat-index.txt`, versions 2 and 3 with SHA-1.

use protocol::checks::Unfit;

const HEADER_BYTES: usize = 12;
const HASH_BYTES: usize = 20;
/// An entry up to its flags: times, device, inode, mode, owner, size and hash.
const STAT_BYTES: usize = 40;
const MODE_AT: usize = 24;
const FLAGS_AT: usize = STAT_BYTES + HASH_BYTES;
const EXTENDED: u16 = 0x4000;
const NAME_MASK: u16 = 0x0fff;
const TYPE_MASK: u32 = 0o170_000;
const REGULAR: u32 = 0o100_000;
const LINK: u32 = 0o120_000;
const SUBMODULE: u32 = 0o160_000;
/// Parts behind the entries that change nothing of what they say.
const HARMLESS: [&[u8; 4]; 3] = [b"TREE", b"REUC", b"UNTR"];
/// A part that git looks for at this distance from the end, and follows to wherever it points.
const JUMP: &[u8] = b"EOIE";
const JUMP_BYTES: usize = 8 + 4 + HASH_BYTES;

/// Checks an index.
///
/// # Errors
/// When it has a submodule, or is not plain.
pub(super) fn check(bytes: &[u8]) -> Result<(), Unfit> {
    // Git takes an empty file for an empty index.
    if bytes.is_empty() {
        return Ok(());
    }
    let end = bytes.len().checked_sub(HASH_BYTES).ok_or(Unfit::Unreadable)?;
    let (body, _) = bytes.split_at(end);
    let header = body.get(..HEADER_BYTES).ok_or(Unfit::Unreadable)?;
    let version = number(header, 4)?;
    if !header.starts_with(b"DIRC") || !matches!(version, 2 | 3) {
        return Err(Unfit::Unreadable);
    }
    let jump = body.len().checked_sub(JUMP_BYTES).and_then(|at| body.get(at..));
    if jump.is_some_and(|jump| jump.starts_with(JUMP)) {
        return Err(Unfit::Unreadable);
    }
    let mut rest = &body[HEADER_BYTES..];
    for _ in 0..number(header, 8)? {
        rest = skip_entry(rest)?;
    }
    while !rest.is_empty() {
        rest = skip_part(rest)?;
    }
    Ok(())
}

/// Checks the first entry. Gives what follows it.
fn skip_entry(rest: &[u8]) -> Result<&[u8], Unfit> {
    match number(rest, MODE_AT)? & TYPE_MASK {
        REGULAR | LINK => {}
        SUBMODULE => return Err(Unfit::Submodule),
        _ => return Err(Unfit::Unreadable),
    }
    let flags = rest.get(FLAGS_AT..FLAGS_AT + 2).ok_or(Unfit::Unreadable)?;
    let flags = u16::from_be_bytes([flags[0], flags[1]]);
    let name_at = FLAGS_AT + if flags & EXTENDED == 0 { 2 } else { 4 };
    let from_name = rest.get(name_at..).ok_or(Unfit::Unreadable)?;
    let length = from_name.iter().position(|byte| *byte == 0).ok_or(Unfit::Unreadable)?;
    // Git believes the flags where they can tell, and the zero otherwise.
    let told = usize::from(flags & NAME_MASK);
    if told != length.min(usize::from(NAME_MASK)) {
        return Err(Unfit::Unreadable);
    }
    let size = (name_at + length + 1).next_multiple_of(8);
    rest.get(size..).ok_or(Unfit::Unreadable)
}

/// Checks the first part behind the entries. Gives what follows it.
fn skip_part(rest: &[u8]) -> Result<&[u8], Unfit> {
    let size = number(rest, 4)?;
    if !HARMLESS.iter().any(|name| rest.starts_with(*name)) {
        return Err(Unfit::Unreadable);
    }
    let end = usize::try_from(size).ok().and_then(|size| size.checked_add(8));
    end.and_then(|end| rest.get(end..)).ok_or(Unfit::Unreadable)
}

fn number(bytes: &[u8], at: usize) -> Result<u32, Unfit> {
    let bytes = bytes.get(at..at + 4).and_then(|bytes| bytes.first_chunk::<4>());
    bytes.map(|bytes| u32::from_be_bytes(*bytes)).ok_or(Unfit::Unreadable)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::git) fn entry(mode: u32, name: &str, flags: u16) -> Vec<u8> {
        let mut bytes = vec![0; FLAGS_AT];
        bytes[MODE_AT..MODE_AT + 4].copy_from_slice(&mode.to_be_bytes());
        let length = u16::try_from(name.len()).expect("short").min(NAME_MASK);
        bytes.extend((flags | length).to_be_bytes());
        if flags & EXTENDED != 0 {
            bytes.extend([0, 0]);
        }
        bytes.extend(name.as_bytes());
        bytes.resize((bytes.len() + 1).next_multiple_of(8), 0);
        bytes
    }

    pub(in crate::git) fn index(version: u32, entries: &[Vec<u8>], parts: &[u8]) -> Vec<u8> {
        let count = u32::try_from(entries.len()).expect("few");
        let header = [&b"DIRC"[..], &version.to_be_bytes(), &count.to_be_bytes()].concat();
        [header, entries.concat(), parts.to_vec(), vec![7; HASH_BYTES]].concat()
    }

    fn part(name: &[u8; 4], content: &[u8]) -> Vec<u8> {
        let size = u32::try_from(content.len()).expect("short");
        [&name[..], &size.to_be_bytes(), content].concat()
    }

    fn files() -> Vec<Vec<u8>> {
        let long = "x".repeat(5000);
        vec![
            entry(0o100_644, "a", 0),
            entry(0o100_755, "bin/tool", 0),
            entry(0o120_000, "link", EXTENDED),
            entry(0o100_644, &long, 0),
        ]
    }

    #[test]
    fn files_and_links_pass() {
        assert_eq!(check(&index(2, &[], &[])), Ok(()));
        assert_eq!(check(&index(3, &files(), &part(b"TREE", b"abc"))), Ok(()));
        let parts = [part(b"TREE", b"abc"), part(b"REUC", b""), part(b"UNTR", &[1; 99])].concat();
        assert_eq!(check(&index(2, &files(), &parts)), Ok(()));
        assert_eq!(check(b""), Ok(()));
    }

    #[test]
    fn a_submodule_is_found_wherever_it_stands() {
        for at in 0..=files().len() {
            let mut entries = files();
            entries.insert(at, entry(0o160_000, "sub", if at == 2 { EXTENDED } else { 0 }));
            assert_eq!(check(&index(2, &entries, &[])), Err(Unfit::Submodule), "{at}");
        }
    }

    #[test]
    fn what_two_readers_could_see_differently_is_refused() {
        let refused = |bytes: &[u8], why: &str| {
            assert_eq!(check(bytes), Err(Unfit::Unreadable), "{why}");
        };
        refused(&index(4, &files(), &[]), "version 4");
        refused(&index(2, &files(), &part(b"link", &[0; 20])), "a split index");
        refused(&index(2, &files(), &part(b"sdir", b"")), "a sparse index");
        refused(&index(2, &files(), &part(b"FSMN", b"")), "an unknown part");
        let jump = part(b"EOIE", &[0; 24]);
        refused(&index(2, &files(), &jump), "a jump");
        refused(&index(2, &files(), &part(b"UNTR", &jump)), "a jump within another part");
        refused(&index(2, &[entry(0o040_000, "dir", 0)], &[]), "a folder");
        let mut short = entry(0o100_644, "abcdef", 0);
        short[FLAGS_AT + 1] = 3;
        refused(&index(2, &[short], &[]), "a name that is longer than told");
        let mut long = entry(0o100_644, "abcdef", 0);
        long[FLAGS_AT + 1] = 12;
        refused(&index(2, &[long], &[]), "a name that is shorter than told");
    }

    #[test]
    fn every_shortened_index_is_refused_and_none_panics() {
        let whole = index(2, &files(), &[]);
        for length in 1..whole.len() {
            assert!(check(&whole[..length]).is_err(), "{length}");
        }
    }
}
