//! Requests on a real folder, hostile ones most of all.

use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt, symlink};
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::stat::Mode;
use protocol::files::FileErrorCode::*;
use protocol::files::{FileReply, FileRequest};

use super::scratch::{SECRET, Scratch};

fn put(path: &str) -> FileRequest {
    FileRequest::Put { path: path.into(), max_bytes: 1000, mode: None }
}
fn get(path: &str) -> FileRequest {
    FileRequest::Get { path: path.into(), max_bytes: 1 << 20 }
}
fn stat(path: &str) -> FileRequest {
    FileRequest::Stat { path: path.into() }
}
fn mkdir(path: &str) -> FileRequest {
    FileRequest::Mkdir { path: path.into() }
}
fn delete(path: &str, recursive: bool) -> FileRequest {
    FileRequest::Delete { path: path.into(), recursive }
}
fn list(after: Option<String>, limit: u32) -> FileRequest {
    FileRequest::List { path: String::new(), after, limit }
}

#[test]
fn a_file_comes_back_as_it_was_put_with_its_digest() {
    let scratch = Scratch::new();
    for (name, created) in [("a/b/c", true), ("a/b/c", false)] {
        let (reply, _) = scratch.ask(put(name), b"abc").expect("put");
        let sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad".to_owned();
        assert_eq!(reply, FileReply::Put { bytes: 3, sha256, created });
    }
    let (reply, body) = scratch.ask(get("a/b/c"), b"").expect("get");
    assert!(matches!(reply, FileReply::Get { bytes: 3, .. }));
    assert_eq!(body, b"abc");
    let big: Vec<u8> = (0..700_000_u32).map(|n| n as u8).collect();
    std::fs::write(scratch.at("big"), &big).expect("write");
    assert!(scratch.ask(get("big"), b"").expect("get").1 == big);
    assert!(scratch.ask(put("empty"), b"").is_ok());
    assert_eq!(scratch.ask(get("empty"), b"").expect("get").1, b"");
}

#[test]
fn a_replaced_file_keeps_its_permissions_and_none_gets_setuid() {
    let scratch = Scratch::new();
    let mode = |name: &str| scratch.at(name).metadata().expect("metadata").mode() & 0o7777;
    scratch.ask(put("a"), b"1").expect("put");
    assert_eq!(mode("a"), 0o644);
    std::fs::set_permissions(scratch.at("a"), PermissionsExt::from_mode(0o4750)).expect("chmod");
    scratch.ask(put("a"), b"2").expect("put");
    assert_eq!(mode("a"), 0o750);
    let setuid = FileRequest::Put { path: "b".into(), max_bytes: 9, mode: Some(0o6755) };
    scratch.ask(setuid, b"3").expect("put");
    assert_eq!(mode("b"), 0o755);
}

#[test]
fn a_file_that_is_too_large_leaves_nothing() {
    let scratch = Scratch::new();
    assert_eq!(scratch.refused(put("a"), &[0; 1001]), TooLarge);
    assert_eq!(scratch.names(), [""; 0]);
    let sparse = std::fs::File::create(scratch.at("sparse")).expect("create");
    sparse.set_len(1 << 40).expect("1 TiB with no block");
    assert_eq!(scratch.refused(get("sparse"), b""), TooLarge);
}

#[test]
fn links_that_lead_out_are_refused_whatever_their_kind() {
    let scratch = Scratch::new();
    let outside = scratch.outside();
    let targets = [
        "/proc/self/root/etc/passwd",
        "/proc/1/environ",
        "../secret",
        outside.to_str().expect("utf-8"),
    ];
    for target in targets {
        symlink(target, scratch.at("link")).expect("link");
        assert_eq!(scratch.refused(get("link"), b""), PathOutside, "{target}");
        std::fs::remove_file(scratch.at("link")).expect("remove");
    }
    symlink("..", scratch.at("up")).expect("link");
    for request in [
        get("up/secret"),
        put("up/new"),
        stat("up/secret"),
        mkdir("up/new"),
        delete("up/secret", true),
    ] {
        assert_eq!(scratch.refused(request, b"x"), PathOutside);
    }
    symlink("loop", scratch.at("loop")).expect("link");
    assert_eq!(scratch.refused(get("loop"), b""), PathOutside);
    assert_eq!(std::fs::read_to_string(outside).expect("still there"), SECRET);
}

#[test]
fn links_that_stay_inside_are_followed_but_not_at_the_end_of_what_changes() {
    let scratch = Scratch::new();
    scratch.ask(put("a/file"), b"inside").expect("put");
    symlink("a", scratch.at("folder")).expect("link");
    symlink("a/file", scratch.at("link")).expect("link");
    assert_eq!(scratch.ask(get("folder/file"), b"").expect("get").1, b"inside");
    assert_eq!(scratch.ask(get("link"), b"").expect("get").1, b"inside");
    let (FileReply::Stat { entry }, _) = scratch.ask(stat("link"), b"").expect("stat") else {
        panic!()
    };
    assert_eq!(entry.target.as_deref(), Some("a/file"));
    scratch.ask(put("link"), b"new").expect("put");
    assert!(!scratch.at("link").symlink_metadata().expect("metadata").is_symlink());
    scratch.ask(delete("folder", true), b"").expect("delete");
    assert_eq!(scratch.ask(get("a/file"), b"").expect("get").1, b"inside");
}

#[test]
fn a_link_that_is_swapped_all_the_time_leaks_nothing() {
    let scratch = Scratch::new();
    std::fs::write(scratch.at("inside"), "inside").expect("write");
    std::fs::create_dir(scratch.at("folder")).expect("folder");
    std::fs::write(scratch.at("folder/secret"), "inside").expect("write");
    let stop = AtomicBool::new(false);
    let given = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                for target in ["inside", "../secret"] {
                    symlink(target, scratch.at("next")).expect("link");
                    std::fs::rename(scratch.at("next"), scratch.at("link")).expect("rename");
                }
                // A folder on the way becomes a link out, and a folder again.
                std::fs::rename(scratch.at("folder"), scratch.at("kept")).expect("rename");
                symlink("..", scratch.at("folder")).expect("link");
                std::fs::remove_file(scratch.at("folder")).expect("remove");
                std::fs::rename(scratch.at("kept"), scratch.at("folder")).expect("rename");
            }
        });
        let mut given = 0;
        for _ in 0..1000 {
            for path in ["link", "folder/secret"] {
                if let Ok((_, body)) = scratch.ask(get(path), b"") {
                    assert_eq!(body, b"inside");
                    given += 1;
                }
            }
        }
        stop.store(true, Ordering::Relaxed);
        given
    });
    assert!(given > 0, "the race has to let some through, or it proves nothing");
}

#[test]
fn nothing_waits_for_a_pipe_and_only_files_are_files() {
    let scratch = Scratch::new();
    nix::unistd::mkfifo(&scratch.at("pipe"), Mode::S_IRWXU).expect("fifo");
    let _socket = std::os::unix::net::UnixListener::bind(scratch.at("socket")).expect("socket");
    std::fs::create_dir(scratch.at("folder")).expect("folder");
    for name in ["pipe", "socket", "folder"] {
        assert_eq!(scratch.refused(get(name), b""), NotRegularFile, "{name}");
        assert_eq!(scratch.refused(put(name), b"x"), NotRegularFile, "{name}");
    }
    assert_eq!(scratch.refused(get("pipe/x"), b""), NotDirectory);
    assert_eq!(scratch.refused(mkdir("pipe"), b""), AlreadyExists);
    assert_eq!(scratch.refused(get("none"), b""), NotFound);
}

#[test]
fn odd_names_are_only_names() {
    let scratch = Scratch::new();
    for name in ["-rf", "$(id)", "a\nb", "CON", "\u{202e}gpj.exe", " ", "'\"`"] {
        scratch.ask(put(name), name.as_bytes()).expect("put");
        assert_eq!(scratch.ask(get(name), b"").expect("get").1, name.as_bytes());
        scratch.ask(delete(name, false), b"").expect("delete");
    }
    for path in ["", "/etc/passwd", "../x", "a/../../x", "a\0b", &"a".repeat(300)] {
        for request in [get(path), put(path), mkdir(path), delete(path, true), stat(path)] {
            assert_eq!(scratch.refused(request, b""), InvalidPath, "{path:?}");
        }
    }
    assert_eq!(scratch.names(), [""; 0]);
}

#[test]
fn a_folder_is_listed_by_pages_with_exact_names() {
    let scratch = Scratch::new();
    let odd = std::ffi::OsStr::from_bytes(b"\x99\xa8\xa7");
    std::fs::write(scratch.at(odd), "").expect("write");
    for name in ["main", "z", "B", "a\nb"] {
        std::fs::write(scratch.at(name), "").expect("write");
    }
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let (reply, _) = scratch.ask(list(after, 1), b"").expect("list");
        let FileReply::List { entries, more } = reply else { panic!("no list") };
        let entry = entries.into_iter().next().expect("an entry");
        after =
            Some(entry.name_base64.as_ref().map_or(entry.name.clone(), |name| format!("/{name}")));
        seen.push(after.clone().expect("a cursor"));
        if !more {
            break;
        }
    }
    // `main` is also what the other name is in base64, and is not taken for it.
    assert_eq!(seen, ["B", "a\nb", "main", "z", "/main"]);
}

#[test]
fn deleting_takes_deep_and_closed_folders_and_follows_no_link() {
    let scratch = Scratch::new();
    std::fs::create_dir(scratch.at("top")).expect("folder");
    symlink("../..", scratch.at("top/up")).expect("link");
    // Far deeper than a path can be, with a name of 100 bytes each time.
    let name = "d".repeat(100);
    let mut here = scratch.root().listing(b"top", super::beneath::Links::Follow).expect("top");
    for _ in 0..300 {
        nix::sys::stat::mkdirat(&here, &name[..], Mode::S_IRWXU).expect("folder");
        here = super::beneath::open_listing(std::os::fd::AsFd::as_fd(&here), name.as_bytes())
            .expect("open");
    }
    nix::sys::stat::fchmod(&here, Mode::empty()).expect("chmod");
    assert_eq!(scratch.refused(delete("top", false), b""), NotEmpty);
    let (reply, _) = scratch.ask(delete("top", true), b"").expect("delete");
    assert_eq!(reply, FileReply::Delete { entries: 302 });
    assert_eq!(scratch.names(), [""; 0]);
    assert!(scratch.outside().exists());
}
