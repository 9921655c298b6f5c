//! Calls on a real folder.

use std::os::unix::fs::{MetadataExt as _, symlink};

use nix::sys::stat::Mode;
use protocol::tools::ToolCall;
use serde_json::json;

use super::perform;
use super::place::Places;
use crate::files::scratch::{SECRET, Scratch};

/// Does a call in the workspace's top folder; gives what the model reads.
fn call(scratch: &Scratch, name: &str, arguments: serde_json::Value) -> Result<String, String> {
    let work = scratch.work.to_str().expect("utf-8").to_owned();
    let places = Places::new((work.clone(), scratch.root()), None, work);
    let call = ToolCall::from_arguments(name, &arguments.to_string()).expect("a call");
    let mut output = Vec::new();
    perform(&places, call, &mut output).map_err(|refusal| refusal.to_string())?;
    Ok(String::from_utf8(output).expect("utf-8"))
}

fn read(scratch: &Scratch, arguments: serde_json::Value) -> Result<String, String> {
    call(scratch, "read_file", arguments)
}
fn list(scratch: &Scratch, arguments: serde_json::Value) -> Result<String, String> {
    call(scratch, "list_dir", arguments)
}
fn grep(scratch: &Scratch, arguments: serde_json::Value) -> Result<String, String> {
    call(scratch, "grep_files", arguments)
}
fn patch(scratch: &Scratch, body: &str) -> Result<String, String> {
    let input = format!("*** Begin Patch\n{body}\n*** End Patch\n");
    call(scratch, "apply_patch", serde_json::json!({ "input": input }))
}
fn write(scratch: &Scratch, name: &str, text: &str) {
    let path = scratch.at(name);
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("folder");
    std::fs::write(path, text).expect("write");
}
fn text(scratch: &Scratch, name: &str) -> String {
    std::fs::read_to_string(scratch.at(name)).expect("a file")
}

#[test]
fn lines_are_read_with_their_numbers() {
    let scratch = Scratch::new();
    write(&scratch, "a", &format!("one\r\ntwo\n{}\nlast", "é".repeat(600)));
    let all = read(&scratch, json!({"file_path": "a"})).expect("lines");
    assert_eq!(all, format!("L1: one\nL2: two\nL3: {}\nL4: last\n", "é".repeat(500)));
    let part = read(&scratch, json!({"file_path": "./x/../a", "offset": 2, "limit": 1}));
    assert_eq!(part.as_deref(), Ok("L2: two\n"));
    let beyond = read(&scratch, json!({"file_path": "a", "offset": 5}));
    assert_eq!(beyond, Err("offset exceeds file length".into()));
    std::fs::write(scratch.at("b"), b"\xff\xfe").expect("write");
    assert_eq!(read(&scratch, json!({"file_path": "b"})).as_deref(), Ok("L1: \u{fffd}\u{fffd}\n"));
}

#[test]
fn nothing_outside_is_read_listed_searched_or_patched() {
    let scratch = Scratch::new();
    symlink("..", scratch.at("up")).expect("link");
    nix::unistd::mkfifo(&scratch.at("pipe"), Mode::S_IRWXU).expect("fifo");
    let outside = scratch.outside().to_str().expect("utf-8").to_owned();
    for path in
        ["../secret", "up/secret", outside.as_str(), "/etc/passwd", "/proc/1/environ", "pipe"]
    {
        read(&scratch, json!({"file_path": path})).expect_err(path);
        grep(&scratch, json!({"pattern": "secret", "path": path})).expect_err(path);
        patch(&scratch, &format!("*** Update File: {path}\n-{SECRET}\n+x")).expect_err(path);
        patch(&scratch, &format!("*** Add File: {path}\n+x")).expect_err(path);
        if path != "pipe" {
            patch(&scratch, &format!("*** Delete File: {path}")).expect_err(path);
        }
    }
    for path in ["..", "up", "/etc"] {
        list(&scratch, json!({"dir_path": path})).expect_err(path);
    }
    grep(&scratch, json!({"pattern": "secret"})).expect_err("links are not followed");
    assert_eq!(std::fs::read_to_string(scratch.outside()).expect("still there"), SECRET);
}

#[test]
fn a_folder_is_listed_with_marks_and_indents() {
    let scratch = Scratch::new();
    write(&scratch, "sub/deep/file", "");
    write(&scratch, "sub-x", "");
    symlink("sub", scratch.at("link")).expect("link");
    nix::unistd::mkfifo(&scratch.at("pipe"), Mode::S_IRWXU).expect("fifo");
    let head = format!("Absolute path: {}\n", scratch.work.display());
    let all = list(&scratch, json!({"dir_path": "."})).expect("entries");
    assert_eq!(all, format!("{head}link@\npipe?\nsub/\n  deep/\nsub-x\n"));
    let page = list(&scratch, json!({"dir_path": ".", "offset": 2, "limit": 2, "depth": 3}));
    assert_eq!(page, Ok(format!("{head}pipe?\nsub/\nMore than 2 entries found\n")));
    let beyond = list(&scratch, json!({"dir_path": ".", "offset": 9}));
    assert_eq!(beyond, Err("offset exceeds directory entry count".into()));
}

#[test]
fn files_that_match_are_found_the_newest_first() {
    let scratch = Scratch::new();
    for (age, name) in ["c.ts", "b.tsx", "a/a.rs", ".git/x.ts"].into_iter().enumerate() {
        write(&scratch, name, "let needle = 1;\n");
        let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1000 - age as u64);
        let file = std::fs::File::options().write(true).open(scratch.at(name)).expect("open");
        file.set_modified(time).expect("time");
    }
    write(&scratch, "binary", "\0needle");
    let found = |arguments| {
        let found = grep(&scratch, arguments)?;
        let top = format!("{}/", scratch.work.display());
        Ok::<_, String>(found.lines().map(|line| line.replace(&top, "")).collect::<Vec<_>>())
    };
    let all = found(json!({"pattern": r"^let\s+n.*;$"}));
    assert_eq!(all, Ok(vec!["c.ts".into(), "b.tsx".into(), "a/a.rs".into()]));
    let typed = found(json!({"pattern": "needle", "include": "*.{ts,tsx}"}));
    assert_eq!(typed, Ok(vec!["c.ts".into(), "b.tsx".into()]));
    let path = found(json!({"pattern": "needle", "include": "**/a.[rx]s"}));
    assert_eq!(path, Ok(vec!["a/a.rs".into()]));
    assert_eq!(found(json!({"pattern": "needle", "limit": 1})), Ok(vec!["c.ts".into()]));
    assert_eq!(found(json!({"pattern": "needle", "path": "c.ts"})), Ok(vec!["c.ts".into()]));
    assert_eq!(found(json!({"pattern": "none"})), Err("No matches found.".into()));
    found(json!({"pattern": "("})).expect_err("no expression");
}

#[test]
fn a_patch_adds_updates_moves_and_deletes() {
    let scratch = Scratch::new();
    write(&scratch, "old", "x\n");
    write(&scratch, "run", "fn a() {\n    1\n}\nfn b() {\n    1\n}\n");
    std::fs::set_permissions(
        scratch.at("run"),
        std::os::unix::fs::PermissionsExt::from_mode(0o755),
    )
    .expect("chmod");
    let report = patch(
        &scratch,
        "*** Add File: new/file\n+one\n+\n*** Delete File: old\n*** Update File: run\n*** Move to: \
         moved/run\n@@ fn b() {\n-    1\n+    2",
    );
    let expected =
        "Success. Updated the following files:\nA new/file\nM moved/run\nD old\n".to_owned();
    assert_eq!(report, Ok(expected));
    assert_eq!(text(&scratch, "new/file"), "one\n\n");
    assert_eq!(text(&scratch, "moved/run"), "fn a() {\n    1\n}\nfn b() {\n    2\n}\n");
    assert_eq!(scratch.at("moved/run").metadata().expect("metadata").mode() & 0o777, 0o755);
    assert_eq!(scratch.names(), ["moved", "new"]);
}

#[test]
fn a_patch_that_does_not_fit_changes_nothing() {
    let scratch = Scratch::new();
    write(&scratch, "a", "1\n");
    let refusal = patch(
        &scratch,
        "*** Add File: new\n+x\n*** Update File: a\n-1\n+2\n*** Update File: a\n-1\n+3",
    );
    let expected = "Failed to find expected lines in a; nothing was changed:\n1".to_owned();
    assert_eq!(refusal, Err(expected));
    let bodies =
        ["*** Delete File: none", "*** Update File: none\n-a", "*** Update File: a", "what"];
    for body in bodies {
        patch(&scratch, &format!("*** Add File: new\n+x\n{body}")).expect_err(body);
    }
    assert_eq!((text(&scratch, "a").as_str(), scratch.names()), ("1\n", vec!["a".to_owned()]));
}

#[test]
fn a_patch_that_names_a_file_in_two_ways_loses_no_change() {
    let scratch = Scratch::new();
    write(&scratch, "d/f", "1\n2\n");
    symlink("d", scratch.at("dl")).expect("link");
    for body in [
        "*** Update File: d/f\n-1\n+a\n*** Update File: dl/f\n-2\n+b",
        "*** Add File: d/x/new\n+a\n*** Add File: dl/x/new\n+b",
        "*** Update File: d/f\n*** Move to: d/g\n-1\n+a\n*** Add File: dl/g\n+b",
        "*** Delete File: dl/f\n*** Update File: d/f\n-1\n+a",
    ] {
        let refusal = patch(&scratch, body).expect_err(body);
        assert!(refusal.contains("are the same file"), "{refusal}");
    }
    assert_eq!(text(&scratch, "d/f"), "1\n2\n");
    patch(&scratch, "*** Update File: d/f\n-1\n+a\n*** Update File: d/./f\n-2\n+b").expect("fits");
    assert_eq!(text(&scratch, "d/f"), "a\nb\n");
}

#[test]
fn old_lines_are_found_though_spaces_quotes_and_endings_differ() {
    let cases = [
        // (file, chunks, result)
        ("a  \nb\n", "-a\n+c", "c\nb\n"),
        ("\ta\nb\n", " a\n-b\n+c", "\ta\nc\n"),
        ("say \u{201c}hi\u{201d} \u{2014} x\n", "-say \"hi\" - x\n+bye", "bye\n"),
        ("a\r\nb\r\n", " a\n-b\n+c\n+d", "a\r\nc\r\nd\r\n"),
        ("a\nb", "-b\n+c", "a\nc\n"),
        ("x\na\nx\n", "@@\n-x\n+y\n*** End of File", "x\na\ny\n"),
        ("x\na\nx\n", "@@ a\n-x\n+y", "x\na\ny\n"),
        ("a\nb\n", "+c", "a\nb\nc\n"),
        ("a\nb\n", "@@ a\n+c", "a\nc\nb\n"),
        ("1\n2\n3\n2\n", "@@\n-2\n+a\n@@\n-2\n+b", "1\na\n3\nb\n"),
        ("a\n", "-a", ""),
        ("", "+a", "a\n"),
    ];
    for (before, chunks, after) in cases {
        let scratch = Scratch::new();
        write(&scratch, "f", before);
        patch(&scratch, &format!("*** Update File: f\n{chunks}")).expect(chunks);
        assert_eq!(text(&scratch, "f"), after, "{chunks}");
    }
}

#[test]
fn a_patch_of_a_folder_is_refused() {
    let scratch = Scratch::new();
    for body in [
        "*** Add File: m/\n+x",
        "*** Delete File: m/",
        "*** Update File: m/\n@@\n-a\n+b",
        "*** Update File: m\n*** Move to: n/\n@@\n-a\n+b",
    ] {
        let refusal = patch(&scratch, body).expect_err(body);
        assert!(refusal.contains("names a folder"), "{refusal}");
    }
    assert_eq!(scratch.names(), [""; 0]);
}

#[test]
fn a_patch_may_come_in_a_heredoc_and_with_spaces_around() {
    let scratch = Scratch::new();
    let body = "*** Begin Patch\n*** Add File: a\n+x\n*** End Patch";
    for input in [format!("<<'EOF'\n{body}\nEOF\n"), format!("\n  {body}  \n\n")] {
        call(&scratch, "apply_patch", json!({ "input": input })).expect("patched");
        assert_eq!(text(&scratch, "a"), "x\n");
        std::fs::remove_file(scratch.at("a")).expect("remove");
    }
    call(&scratch, "apply_patch", json!({"input": "*** Begin Patch\n*** Add File: a\n+x"}))
        .expect_err("cut off");
}

#[test]
fn a_link_is_not_updated_in_place_of_its_target() {
    let scratch = Scratch::new();
    write(&scratch, "a", "1\n");
    symlink("a", scratch.at("link")).expect("link");
    patch(&scratch, "*** Update File: link\n-1\n+2").expect_err("a link");
    patch(&scratch, "*** Delete File: link").expect("deletes the link");
    assert_eq!(scratch.names(), ["a"]);
}
