//! The program itself, as a user without rights, on a workspace in a mount namespace of its own.
//! Needs root, as the sandbox's own tests do.

#![allow(clippy::expect_used)]

use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt, chown, symlink};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use protocol::files::{FileError, FileErrorCode, FileReply, FileRequest};

const USER: u32 = 10_007;

/// Mounts what a program needs and the workspace, in a tree that only the program has.
const ENTER: &str = r#"
set -e
top=$1; shift
mount -t tmpfs none "$top/root"
for folder in usr bin lib lib64 proc dev; do
    [ -e "/$folder" ] || continue
    mkdir "$top/root/$folder"
    mount --rbind "/$folder" "$top/root/$folder"
done
mkdir "$top/root/work" "$top/root/tmp" "$top/root/.bulkhead"
cp "$top/init" "$top/root/.bulkhead/init"
mount --bind "$top/work" "$top/root/work"
exec chroot "$top/root" /usr/bin/setpriv --reuid 10007 --regid 10007 --clear-groups \
    --no-new-privs /bin/sh -c 'cd /work && exec /.bulkhead/init "$@"' sh "$@"
"#;

struct Sandbox {
    top: PathBuf,
    work: PathBuf,
}

impl Sandbox {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        assert!(nix::unistd::geteuid().is_root(), "this test mounts: run it as root");
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let top = std::env::temp_dir().join(format!("init-helper-{}-{number}", std::process::id()));
        let work = top.join("work");
        std::fs::create_dir_all(&work).expect("workspace");
        std::fs::create_dir(top.join("root")).expect("root");
        chown(&work, Some(USER), Some(USER)).expect("chown");
        std::fs::copy(env!("CARGO_BIN_EXE_sandbox-init"), top.join("init")).expect("program");
        Self { top, work }
    }

    fn start(&self, arguments: &[&str]) -> Child {
        Command::new("unshare")
            .args(["--mount", "--propagation", "private", "sh", "-c", ENTER, "sh"])
            .arg(&self.top)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("unshare")
    }

    fn run(&self, arguments: &[&str], input: &[u8]) -> Output {
        let mut child = self.start(arguments);
        // A program that refuses at once does not read it.
        let _ = child.stdin.take().expect("stdin").write_all(input);
        child.wait_with_output().expect("output")
    }

    fn files(
        &self,
        request: &FileRequest,
        input: &[u8],
    ) -> Result<(FileReply, Vec<u8>), FileError> {
        let request = serde_json::to_string(request).expect("json");
        let Output { status, mut stdout, stderr } = self.run(&["files", &request], input);
        if !status.success() {
            assert_eq!(status.code(), Some(1), "{}", String::from_utf8_lossy(&stderr));
            return Err(serde_json::from_slice(&stderr).expect("an error"));
        }
        let line = stdout.iter().position(|byte| *byte == b'\n').expect("a line");
        let body = stdout.split_off(line + 1);
        Ok((serde_json::from_slice(&stdout).expect("a reply"), body))
    }

    fn chmod(&self, path: &str, mode: u32) {
        std::fs::set_permissions(self.work.join(path), PermissionsExt::from_mode(mode))
            .expect("chmod");
    }

    fn is_empty(&self) -> bool {
        std::fs::read_dir(&self.work).expect("workspace").next().is_none()
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.top);
    }
}

fn put(path: &str) -> FileRequest {
    FileRequest::Put { path: path.into(), max_bytes: 1 << 26, mode: None }
}
fn get(path: &str) -> FileRequest {
    FileRequest::Get { path: path.into(), max_bytes: 1 << 26 }
}

#[test]
fn a_file_goes_in_and_comes_out_and_belongs_to_the_user() {
    let sandbox = Sandbox::new();
    let data: Vec<u8> = (0..300_000_u32).map(|n| n as u8).collect();
    let (reply, _) = sandbox.files(&put("a/b"), &data).expect("put");
    assert!(matches!(reply, FileReply::Put { bytes: 300_000, created: true, .. }));
    assert_eq!(sandbox.files(&get("a/b"), b"").expect("get").1, data);
    assert_eq!(sandbox.work.join("a/b").metadata().expect("metadata").uid(), USER);
}

#[test]
fn the_user_has_no_more_rights_than_a_command() {
    let sandbox = Sandbox::new();
    std::fs::write(sandbox.work.join("root"), "of root").expect("write");
    sandbox.chmod("root", 0o600);
    symlink("/proc/self/root/etc/passwd", sandbox.work.join("link")).expect("link");
    let code = |request| sandbox.files(&request, b"").expect_err("refused").code;
    assert_eq!(code(get("root")), FileErrorCode::PermissionDenied);
    assert_eq!(code(get("link")), FileErrorCode::PathOutside);
    let refused = sandbox.run(&["files", "{}"], b"");
    assert!(serde_json::from_slice::<FileError>(&refused.stderr).is_ok());
}

#[test]
fn a_closed_folder_of_the_users_own_is_deleted() {
    let sandbox = Sandbox::new();
    sandbox.files(&put("a/closed/b"), b"x").expect("put");
    sandbox.chmod("a/closed", 0);
    sandbox.chmod("a", 0o500);
    let request = FileRequest::Delete { path: "a".into(), recursive: true };
    let (reply, _) = sandbox.files(&request, b"").expect("deleted");
    assert_eq!(reply, FileReply::Delete { entries: 3 });
    assert!(sandbox.is_empty());
}

#[test]
fn a_program_that_is_killed_half_way_leaves_nothing() {
    let unpack = FileRequest::PutArchive { path: "".into(), max_bytes: 1 << 26, max_entries: 10 };
    for request in [put("file"), unpack] {
        let sandbox = Sandbox::new();
        let request = serde_json::to_string(&request).expect("json");
        let mut child = sandbox.start(&["files", &request]);
        // More than a pipe holds: when it is written, the program has taken some of it.
        let mut stdin = child.stdin.take().expect("stdin");
        stdin.write_all(&[1; 1 << 20]).expect("taken");
        child.kill().expect("kill");
        let until = Instant::now() + Duration::from_secs(10);
        while child.try_wait().expect("wait").is_none() {
            assert!(Instant::now() < until, "it was not killed");
            std::thread::yield_now();
        }
        assert!(sandbox.is_empty());
    }
}

#[test]
fn tools_read_their_call_and_tell_success_by_their_exit() {
    let sandbox = Sandbox::new();
    let patch = b"apply_patch\n*** Begin Patch\n*** Add File: a/b\n+hello\n*** End Patch";
    let done = sandbox.run(&["tool"], patch);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert_eq!(done.stdout, b"Success. Updated the following files:\nA a/b\n");
    let read = sandbox.run(&["tool"], br#"read_file {"file_path":"/work/a/b"}"#);
    assert_eq!(read.stdout, b"L1: hello\n");
    let found = sandbox.run(&["tool"], br#"grep_files {"pattern":"h.llo"}"#);
    assert_eq!(found.stdout, b"/work/a/b\n");
    let outside = sandbox.run(&["tool"], br#"read_file {"file_path":"/etc/passwd"}"#);
    assert_eq!((outside.status.code(), outside.stdout.len()), (Some(1), 0));
    assert!(String::from_utf8_lossy(&outside.stderr).contains("outside"));
}
