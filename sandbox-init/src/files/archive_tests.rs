//! Archives into a real folder and out of it.

use std::os::unix::fs::symlink;

use nix::sys::stat::Mode;
use protocol::files::FileErrorCode::{self, *};
use protocol::files::{FileReply, FileRequest};
use tar::{EntryType, Header};

use super::scratch::Scratch;

fn put_archive(path: &str) -> FileRequest {
    FileRequest::PutArchive { path: path.into(), max_bytes: 64 << 20, max_entries: 20_000 }
}
fn get_archive(max_bytes: u64, max_entries: u64) -> FileRequest {
    FileRequest::GetArchive { path: String::new(), max_bytes, max_entries }
}

/// One entry, whatever it is.
fn entry(kind: EntryType, path: &str, link: &str, mode: u32, data: &[u8]) -> Vec<u8> {
    let mut header = Header::new_gnu();
    header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
    header.as_mut_bytes()[157..157 + link.len()].copy_from_slice(link.as_bytes());
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_mtime(1_000_000);
    header.set_size(data.len() as u64);
    header.set_cksum();
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend_from_slice(data);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}
fn file(path: &str, data: &[u8]) -> Vec<u8> {
    entry(EntryType::Regular, path, "", 0o644, data)
}
fn link(path: &str, target: &str) -> Vec<u8> {
    entry(EntryType::Symlink, path, target, 0o777, b"")
}
fn archive(entries: &[Vec<u8>]) -> Vec<u8> {
    [entries.concat(), vec![0; 1024]].concat()
}

#[test]
fn an_archive_comes_back_as_it_was_put() {
    let scratch = Scratch::new();
    let long = format!("{}/{}", "f".repeat(90), "g".repeat(90));
    let mut name =
        entry(EntryType::GNULongName, "././@LongLink", "", 0o644, format!("{long}\0").as_bytes());
    name.extend(file("cut", b"long"));
    let bytes = archive(&[
        entry(EntryType::Directory, "./", "", 0o755, b""),
        entry(EntryType::Directory, "closed/", "", 0o555, b""),
        file("closed/a", b"1"),
        file("closed/a", b"12"),
        link("closed/up", "../b"),
        file("b", &[7; 1000]),
        entry(EntryType::Link, "c", "closed/a", 0o644, b""),
        name,
    ]);
    let (reply, _) = scratch.ask(put_archive("in"), &bytes).expect("unpacked");
    assert!(matches!(reply, FileReply::PutArchive { entries: 8, bytes: 1007, .. }), "{reply:?}");
    assert_eq!(std::fs::read(scratch.at("in/c")).expect("hard link"), b"12");
    assert_eq!(std::fs::read(scratch.at("in").join(&long)).expect("long name"), b"long");
    std::fs::rename(scratch.at("in/closed"), scratch.at("closed")).expect("rename");
    nix::unistd::mkfifo(&scratch.at("pipe"), Mode::S_IRWXU).expect("fifo");

    let (reply, packed) = scratch.ask(get_archive(1 << 20, 100), b"").expect("packed");
    let FileReply::GetArchive { entries, .. } = reply else { panic!("no archive") };
    let other = Scratch::new();
    std::fs::write(other.at("x.tar"), &packed).expect("write");
    // The format is what other programs take it for.
    let mut tar = std::process::Command::new("tar");
    tar.args(["-xf", "x.tar"]).current_dir(&other.work);
    assert!(tar.status().expect("tar").success());
    assert_eq!(std::fs::read(other.at("in").join(&long)).expect("long name"), b"long");
    assert_eq!(
        std::fs::read_link(other.at("closed/up")).expect("link"),
        std::path::Path::new("../b")
    );
    assert!(!other.at("pipe").exists());
    let third = Scratch::new();
    let (reply, _) = third.ask(put_archive(""), &packed).expect("unpacked again");
    assert!(matches!(reply, FileReply::PutArchive { entries: again, .. } if again == entries));
}

#[test]
fn what_is_not_safe_is_refused_before_anything_is_written() {
    let scratch = Scratch::new();
    let pax = |record: &str| entry(EntryType::XHeader, "pax", "", 0o644, record.as_bytes());
    let cases: Vec<(&str, Vec<Vec<u8>>, FileErrorCode)> = vec![
        ("parent", vec![file("../../x", b"")], UnsafeArchiveEntry),
        ("absolute", vec![file("/etc/x", b"")], UnsafeArchiveEntry),
        ("empty", vec![file("", b"")], UnsafeArchiveEntry),
        ("link to root", vec![link("a", "/"), file("a/etc/x", b"")], UnsafeArchiveEntry),
        ("link up", vec![link("d/a", "../../x")], UnsafeArchiveEntry),
        ("link up behind a name", vec![link("a", "b/.."), file("c", b"")], UnsafeArchiveEntry),
        ("through a link", vec![link("a", "b"), file("a/x", b"")], UnsafeArchiveEntry),
        ("file as folder", vec![file("a", b""), file("a/x", b"")], UnsafeArchiveEntry),
        (
            "hard link out",
            vec![entry(EntryType::Link, "h", "/etc/passwd", 0o644, b"")],
            UnsafeArchiveEntry,
        ),
        (
            "hard link to what is there",
            vec![entry(EntryType::Link, "h", "old", 0o644, b"")],
            UnsafeArchiveEntry,
        ),
        ("device", vec![entry(EntryType::Char, "null", "", 0o666, b"")], UnsafeArchiveEntry),
        ("pipe", vec![entry(EntryType::Fifo, "pipe", "", 0o666, b"")], UnsafeArchiveEntry),
        ("setuid", vec![entry(EntryType::Regular, "su", "", 0o4755, b"")], UnsafeArchiveEntry),
        ("sparse", vec![entry(EntryType::GNUSparse, "s", "", 0o644, b"")], UnsafeArchiveEntry),
        ("pax sparse", vec![pax("22 GNU.sparse.major=1\n"), file("s", b"")], UnsafeArchiveEntry),
        ("pax NUL", vec![pax("12 path=a\0b\n"), file("s", b"")], UnsafeArchiveEntry),
        ("pax parent", vec![pax("13 path=../x\n"), file("s", b"")], UnsafeArchiveEntry),
        ("pax size", vec![pax("11 size=99\n"), file("s", b"")], MalformedArchive),
        (
            "long name",
            vec![
                file(&"a/".repeat(49), b""),
                pax(&format!("310 path={}\n", "a".repeat(300))),
                file("s", b""),
            ],
            UnsafeArchiveEntry,
        ),
        (
            "depth",
            vec![pax(&format!("140 path={}\n", "a/".repeat(65))), file("s", b"")],
            TooManyEntries,
        ),
    ];
    for (what, entries, code) in cases {
        let bytes = archive(&[vec![file("first", b"1")], entries].concat());
        assert_eq!(scratch.refused(put_archive("new"), &bytes), code, "{what}");
        assert_eq!(scratch.names(), [""; 0], "{what}");
    }
}

#[test]
fn damaged_archives_and_lies_about_sizes_are_refused() {
    let scratch = Scratch::new();
    let whole = archive(&[file("a", &[1; 5000])]);
    for length in [0, 100, 512, 3000, 5632] {
        assert_eq!(
            scratch.refused(put_archive(""), &whole[..length]),
            MalformedArchive,
            "{length}"
        );
    }
    let mut flipped = whole.clone();
    flipped[0] = b'b';
    assert_eq!(scratch.refused(put_archive(""), &flipped), MalformedArchive);
    for size in [1 << 20, 1 << 40, u64::MAX >> 1] {
        let mut header = Header::new_gnu();
        header.set_path("bomb").expect("path");
        header.set_mode(0o644);
        header.set_size(size);
        header.set_cksum();
        let bytes = archive(&[header.as_bytes().to_vec()]);
        assert_eq!(scratch.refused(put_archive(""), &bytes), MalformedArchive, "{size}");
    }
    let random: Vec<u8> = (0..20_000_u32).map(|n| ((n * 7919) >> 3) as u8).collect();
    assert_eq!(scratch.refused(put_archive(""), &random), MalformedArchive);
    for compressed in [&b"\x1f\x8b\x08\x00"[..], b"\x28\xb5\x2f\xfd\x24", b"BZh91AY", b"\xfd7zXZ"] {
        let error = scratch.ask(put_archive(""), compressed).expect_err("refused");
        assert_eq!(error.code, MalformedArchive);
        assert!(error.message.contains("it is compressed"), "{}", error.message);
    }
    assert_eq!(scratch.names(), [""; 0]);
}

#[test]
fn too_many_entries_are_refused_and_nothing_is_written() {
    let scratch = Scratch::new();
    let one = file("a", b"");
    let bytes = one.repeat(20_001);
    assert_eq!(scratch.refused(put_archive(""), &bytes), TooManyEntries);
    let small = FileRequest::PutArchive { path: String::new(), max_bytes: 1000, max_entries: 10 };
    assert_eq!(scratch.refused(small, &bytes), TooLarge);
    assert_eq!(scratch.names(), [""; 0]);
}

#[test]
fn links_that_are_there_already_are_not_written_through() {
    let scratch = Scratch::new();
    std::fs::create_dir(scratch.at("inside")).expect("folder");
    symlink("inside", scratch.at("a")).expect("link");
    symlink("../secret", scratch.at("f")).expect("link");
    assert_eq!(scratch.refused(put_archive(""), &archive(&[file("a/x", b"")])), PathOutside);
    assert!(std::fs::read_dir(scratch.at("inside")).expect("folder").next().is_none());
    scratch.ask(put_archive(""), &archive(&[file("f", b"new")])).expect("the link is replaced");
    assert_eq!(std::fs::read_to_string(scratch.at("f")).expect("file"), "new");
    assert_eq!(std::fs::read_to_string(scratch.outside()).expect("file"), super::scratch::SECRET);
    let folder = archive(&[entry(EntryType::Directory, "f/", "", 0o755, b"")]);
    assert_eq!(scratch.refused(put_archive(""), &folder), AlreadyExists);
}

#[test]
fn what_may_be_packed_may_be_unpacked_and_no_folder_deeper_than_that() {
    let scratch = Scratch::new();
    std::fs::create_dir_all(scratch.at(["a"; 63].join("/"))).expect("folders");
    std::fs::write(scratch.at(["a"; 63].join("/") + "/b"), "deep").expect("write");
    let (_, packed) = scratch.ask(get_archive(1 << 20, 100), b"").expect("64 names");
    let other = Scratch::new();
    other.ask(put_archive(""), &packed).expect("they come back");
    assert_eq!(std::fs::read(other.at(["a"; 63].join("/") + "/b")).expect("file"), b"deep");
    std::fs::create_dir(scratch.at(["a"; 64].join("/"))).expect("folder");
    std::fs::write(scratch.at(["a"; 64].join("/") + "/b"), "deeper").expect("write");
    assert_eq!(scratch.refused(get_archive(1 << 20, 100), b""), TooManyEntries);
}

#[test]
fn limits_of_a_folder_are_told_before_it_is_packed() {
    let scratch = Scratch::new();
    std::fs::write(scratch.at("a"), [0; 1000]).expect("write");
    std::fs::write(scratch.at("b"), [0; 1000]).expect("write");
    assert_eq!(scratch.refused(get_archive(1999, 10), b""), TooLarge);
    assert_eq!(scratch.refused(get_archive(2000, 1), b""), TooManyEntries);
    assert!(scratch.ask(get_archive(2000, 2), b"").is_ok());
}
