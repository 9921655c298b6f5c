//! A workspace for one test, with something secret beside it.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use protocol::files::{FileError, FileErrorCode, FileReply, FileRequest};

use super::beneath::Root;
use super::perform;

/// What is in the file outside.
pub(crate) const SECRET: &str = "secret of somebody else";

pub(crate) struct Scratch {
    top: PathBuf,
    pub(crate) work: PathBuf,
}

impl Scratch {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let top = std::env::temp_dir().join(format!("init-files-{}-{number}", std::process::id()));
        let work = top.join("work");
        std::fs::create_dir_all(&work).expect("temporary folder");
        std::fs::write(top.join("secret"), SECRET).expect("secret");
        Self { top, work }
    }

    pub(crate) fn root(&self) -> Root {
        Root::open(&self.work).expect("workspace")
    }

    pub(crate) fn at(&self, path: impl AsRef<Path>) -> PathBuf {
        self.work.join(path)
    }

    pub(crate) fn outside(&self) -> PathBuf {
        self.top.join("secret")
    }

    /// Does one request; gives the reply's line and what follows.
    pub(crate) fn ask(
        &self,
        request: FileRequest,
        input: &[u8],
    ) -> Result<(FileReply, Vec<u8>), FileError> {
        let mut output = Vec::new();
        perform(&self.root(), request, &mut &input[..], &mut output)?;
        let line = output.iter().position(|byte| *byte == b'\n').expect("a line");
        let body = output.split_off(line + 1);
        Ok((serde_json::from_slice(&output).expect("a reply"), body))
    }

    pub(crate) fn refused(&self, request: FileRequest, input: &[u8]) -> FileErrorCode {
        self.ask(request, input).expect_err("has to be refused").code
    }

    /// Names in the workspace, sorted.
    pub(crate) fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.work).expect("workspace");
        let name = |entry: std::fs::DirEntry| entry.file_name().to_string_lossy().into_owned();
        let mut names: Vec<_> = entries.map(|entry| name(entry.expect("entry"))).collect();
        names.sort();
        names
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::process::Command::new("rm").arg("-rf").arg(&self.top).status();
    }
}
