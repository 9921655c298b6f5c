//! Hostile archives, made by hand where `tar` would refuse to make them.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use tar::{Builder, Header};

use super::*;
use crate::scratch::Scratch;

/// One entry with exactly these bytes as its name.
fn entry(archive: &mut Builder<File>, name: &[u8], kind: EntryType, target: &[u8], data: &[u8]) {
    let mut header = Header::new_gnu();
    header.as_mut_bytes()[..name.len()].copy_from_slice(name);
    header.as_mut_bytes()[157..157 + target.len()].copy_from_slice(target);
    header.set_entry_type(kind);
    header.set_mode(0o4755);
    header.set_size(data.len() as u64);
    header.set_cksum();
    archive.append(&header, data).expect("appended");
}

struct Case {
    scratch: Scratch,
}

impl Case {
    fn new() -> Self {
        let scratch = Scratch::new();
        fs::create_dir(scratch.path().join("into")).expect("a folder");
        Self { scratch }
    }

    fn folder(&self) -> PathBuf {
        self.scratch.path().join("into")
    }

    fn unpack(&self, fill: impl FnOnce(&mut Builder<File>)) -> Result<Unpacked, UnpackError> {
        let path = self.scratch.path().join("a.tar");
        let mut archive = Builder::new(File::create(path).expect("a file"));
        fill(&mut archive);
        archive.finish().expect("finished");
        self.unpack_file()
    }

    fn unpack_file(&self) -> Result<Unpacked, UnpackError> {
        let mut file = File::open(self.scratch.path().join("a.tar")).expect("a file");
        unpack(&mut file, &self.folder())
    }

    fn left(&self) -> usize {
        fs::read_dir(self.folder()).expect("a folder").count()
    }
}

#[test]
fn hostile_entries_are_refused_by_name_and_nothing_is_written() {
    use EntryType as T;
    let cases: [(&[u8], EntryType, &[u8]); 14] = [
        (b"/etc/x", T::Regular, b""),
        (b"../x", T::Regular, b""),
        (b"a/../../x", T::Directory, b""),
        (b"passwd", T::Symlink, b"/etc/passwd"),
        (b"up", T::Symlink, b"../x"),
        (b"a/up", T::Symlink, b"../../x"),
        (b"a/tricky", T::Symlink, b"b/.."),
        (b"empty", T::Symlink, b""),
        (b"hard", T::Link, b"good"),
        (b"hard", T::Link, b"/etc/passwd"),
        (b"null", T::Char, b""),
        (b"sda", T::Block, b""),
        (b"pipe", T::Fifo, b""),
        (b".", T::Regular, b""),
    ];
    for (name, kind, target) in cases {
        let case = Case::new();
        let outcome = case.unpack(|archive| {
            entry(archive, b"good", T::Regular, b"", b"good");
            entry(archive, name, kind, target, b"");
        });
        let shown = String::from_utf8_lossy(name).into_owned();
        match outcome {
            Err(UnpackError::Refused { name, .. }) => assert_eq!(name, shown),
            other => panic!("{shown}: {other:?}"),
        }
        assert_eq!(case.left(), 0, "{shown}");
    }
}

#[test]
fn a_link_of_the_archive_is_not_written_through() {
    let case = Case::new();
    let outcome = case.unpack(|archive| {
        entry(archive, b"d", EntryType::Directory, b"", b"");
        entry(archive, b"l", EntryType::Symlink, b"d", b"");
        entry(archive, b"l/x", EntryType::Regular, b"", b"x");
    });
    assert!(matches!(outcome, Err(UnpackError::Refused { name, .. }) if name == "l/x"));
    assert_eq!(case.left(), 0);
}

#[test]
fn a_link_that_was_there_before_is_not_written_through() {
    let case = Case::new();
    let outside = case.scratch.path().join("outside");
    fs::create_dir(&outside).expect("a folder");
    fs::write(outside.join("kept"), "kept").expect("written");
    symlink(&outside, case.folder().join("d")).expect("linked");
    symlink(outside.join("kept"), case.folder().join("f")).expect("linked");
    let outcome = case.unpack(|archive| {
        entry(archive, b"f", EntryType::Regular, b"", b"new");
        entry(archive, b"d/x", EntryType::Regular, b"", b"x");
    });
    assert!(matches!(outcome, Err(UnpackError::Write { name, .. }) if name == "d/x"));
    assert!(!outside.join("x").exists());
    assert_eq!(fs::read(outside.join("kept")).expect("read"), b"kept");
    assert_eq!(fs::read(case.folder().join("f")).expect("read"), b"new");
}

#[test]
fn files_folders_and_inner_links_arrive_without_setuid() {
    let case = Case::new();
    let unpacked = case
        .unpack(|archive| {
            entry(archive, b"./a/", EntryType::Directory, b"", b"");
            entry(archive, b"./a/b/run", EntryType::Regular, b"", b"#!/bin/sh\n");
            entry(archive, b"./a/link", EntryType::Symlink, b"../a/b/run", b"");
        })
        .expect("unpacked");
    assert_eq!(unpacked, Unpacked { entries: 3, bytes: 10 });
    let run = case.folder().join("a/b/run");
    let mode = fs::metadata(&run).expect("there").permissions().mode();
    assert_eq!(mode & 0o7700, 0o700);
    assert_eq!(fs::read(case.folder().join("a/link")).expect("read"), b"#!/bin/sh\n");
    assert_eq!(fs::read_dir(case.folder().join("a/b")).expect("a folder").count(), 1);
}

#[test]
fn a_cut_archive_writes_nothing() {
    let case = Case::new();
    case.unpack(|archive| entry(archive, b"a", EntryType::Regular, b"", &[7; 4096]))
        .expect("whole");
    fs::remove_file(case.folder().join("a")).expect("removed");
    let path = case.scratch.path().join("a.tar");
    File::options().write(true).open(path).and_then(|f| f.set_len(2000)).expect("cut");
    assert!(matches!(case.unpack_file(), Err(UnpackError::Damaged(_))));
    assert_eq!(case.left(), 0);
}

#[test]
fn too_many_bytes_or_entries_are_refused_before_the_first() {
    let case = Case::new();
    let outcome = case.unpack(|archive| {
        for _ in 0..=MAX_ARCHIVE_ENTRIES {
            entry(archive, b"a", EntryType::Directory, b"", b"");
        }
    });
    assert!(matches!(outcome, Err(UnpackError::TooLarge(_))));
    assert_eq!(case.left(), 0);
}
