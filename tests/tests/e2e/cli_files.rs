//! `bulkhead files` on a real workspace: what goes in comes out, byte for byte, and refusals say
//! what was wrong.

use std::path::PathBuf;
use std::process::Output;

use serde_json::Value;
use tests::{Stack, TestSession};

/// A folder here that goes with the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("bulkhead-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a folder");
        Self(path)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

async fn files(session: &TestSession, arguments: &[&str]) -> Output {
    let mut all = vec!["files", "--session", &session.id];
    all.extend_from_slice(arguments);
    let mut command = Stack::shared().cli(&all);
    let run = tokio::task::spawn_blocking(move || command.output().expect("the program starts"));
    run.await.expect("ends")
}

async fn done(session: &TestSession, arguments: &[&str]) -> Vec<u8> {
    let output = files(session, arguments).await;
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    output.stdout
}

async fn refused(session: &TestSession, arguments: &[&str], word: &str) {
    let output = files(session, arguments).await;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains(word), "{arguments:?}: {said}");
}

#[tokio::test]
async fn a_file_goes_in_is_looked_at_comes_out_and_is_deleted() {
    let session = Stack::shared().session().await;
    let here = Scratch::new("cli-file");
    let bytes: Vec<u8> = (0..1_000_000_u32).map(|n| (n * 7 % 251) as u8).collect();
    std::fs::write(here.path("in"), &bytes).expect("writes");
    done(&session, &["mkdir", "deep/er"]).await;
    done(&session, &["put", &here.path("in"), "deep/er/file", "--mode", "640"]).await;
    let stat = done(&session, &["stat", "deep/er/file", "--json"]).await;
    let stat: Value = serde_json::from_slice(&stat).expect("JSON");
    assert_eq!((stat["bytes"].as_u64(), stat["kind"].as_str()), (Some(1_000_000), Some("file")));
    let listed = done(&session, &["ls", "deep/er", "--json"]).await;
    assert!(String::from_utf8_lossy(&listed).contains("\"file\""));
    done(&session, &["get", "deep/er/file", &here.path("out")]).await;
    assert!(std::fs::read(here.path("out")).expect("reads") == bytes, "byte for byte");
    refused(&session, &["rm", "deep"], "something in it").await;
    done(&session, &["rm", "--recursive", "deep"]).await;
    refused(&session, &["stat", "deep/er/file"], "deep/er/file").await;
}

#[tokio::test]
async fn a_folder_goes_in_and_comes_out_with_its_links_and_modes() {
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    let session = Stack::shared().session().await;
    let here = Scratch::new("cli-folder");
    std::fs::create_dir_all(here.0.join("in/sub")).expect("a folder");
    std::fs::write(here.0.join("in/sub/run"), "#!/bin/sh\n").expect("writes");
    let mode = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(here.0.join("in/sub/run"), mode).expect("a mode");
    symlink("sub/run", here.0.join("in/link")).expect("a link");
    done(&session, &["upload", &here.path("in"), "project"]).await;
    done(&session, &["download", "project", &here.path("out")]).await;
    let link = std::fs::read_link(here.0.join("out/link")).expect("a link");
    assert_eq!(link, PathBuf::from("sub/run"));
    let run = std::fs::metadata(here.0.join("out/sub/run")).expect("a file");
    assert_eq!(run.permissions().mode() & 0o777, 0o755);
}

#[tokio::test]
async fn paths_that_lead_out_are_refused_in_words() {
    let session = Stack::shared().session().await;
    let here = Scratch::new("cli-refused");
    std::fs::write(here.path("x"), "x").expect("writes");
    refused(&session, &["put", &here.path("x"), "../x"], "..").await;
    refused(&session, &["get", "nothing-here", &here.path("y")], "nothing-here").await;
    assert!(!here.0.join("y").exists(), "a refused download leaves nothing");
    refused(&session, &["put", &here.path("not-here"), "x"], "not-here").await;
    refused(&session, &["ls", "nowhere"], "nowhere").await;
}
