//! Paths as a model writes them: absolute or relative to the working directory, in the workspace or
//! in `/tmp`. Everything is opened beneath one of the two.

use std::path::Path;

use super::Refusal;
use crate::files::WORKSPACE;
use crate::files::beneath::Root;
use crate::files::path::RelativePath;

/// Where commands keep what is not part of the workspace.
const TEMPORARY: &str = "/tmp";

/// The folders that tools may work in.
pub(crate) struct Places {
    workspace: (String, Root),
    temporary: Option<(String, Root)>,
    cwd: String,
}

/// Something in one of them.
pub(crate) struct Place<'a> {
    pub(crate) root: &'a Root,
    pub(crate) path: RelativePath,
    /// The whole path, without `.` and `..`.
    pub(crate) absolute: String,
    pub(crate) in_workspace: bool,
}

impl Places {
    /// Those of a sandbox.
    pub(crate) fn open() -> Result<Self, Refusal> {
        let workspace =
            Root::open(Path::new(WORKSPACE)).map_err(|errno| Refusal::about(WORKSPACE, errno))?;
        let temporary = Root::open(Path::new(TEMPORARY)).ok();
        let cwd =
            std::env::current_dir().ok().and_then(|cwd| cwd.into_os_string().into_string().ok());
        let cwd = cwd.ok_or_else(|| Refusal::new("the working directory is gone"))?;
        Ok(Self::new(
            (WORKSPACE.into(), workspace),
            temporary.map(|root| (TEMPORARY.into(), root)),
            cwd,
        ))
    }

    /// Any two folders.
    pub(crate) fn new(
        workspace: (String, Root),
        temporary: Option<(String, Root)>,
        cwd: String,
    ) -> Self {
        Self { workspace, temporary, cwd }
    }

    /// Finds the place of a path.
    ///
    /// # Errors
    /// When it is in neither folder, or no path at all.
    pub(crate) fn find(&self, path: &str) -> Result<Place<'_>, Refusal> {
        if path.is_empty() {
            return Err(Refusal::new("the path is empty: give one in the workspace"));
        }
        let absolute = if path.starts_with('/') {
            normalise(path)
        } else {
            normalise(&format!("{}/{path}", self.cwd))
        };
        let roots = [Some(&self.workspace), self.temporary.as_ref()];
        for (index, (prefix, root)) in
            roots.into_iter().enumerate().filter_map(|(at, root)| Some((at, root?)))
        {
            let Some(rest) = absolute.strip_prefix(prefix.as_str()) else { continue };
            if !rest.is_empty() && !rest.starts_with('/') {
                continue;
            }
            let path = RelativePath::parse(rest.trim_start_matches('/').as_bytes())
                .map_err(|fault| Refusal::new(format!("the path \"{path}\" {fault}")))?;
            return Ok(Place { root, path, absolute, in_workspace: index == 0 });
        }
        Err(Refusal::new(format!(
            "\"{path}\" is outside: tools work in {} and {} only",
            self.workspace.0, TEMPORARY
        )))
    }

    /// The same, for what is to be written.
    pub(crate) fn find_writable(&self, path: &str) -> Result<Place<'_>, Refusal> {
        let place = self.find(path)?;
        if place.in_workspace && !place.path.is_empty() {
            return Ok(place);
        }
        let message =
            format!("\"{path}\" is no file in {}: patches work there only", self.workspace.0);
        Err(Refusal::new(message))
    }
}

/// Takes `.` and `..` out of an absolute path.
fn normalise(path: &str) -> String {
    let mut names = Vec::new();
    for name in path.split('/') {
        match name {
            "" | "." => {}
            ".." => {
                names.pop();
            }
            _ => names.push(name),
        }
    }
    format!("/{}", names.join("/"))
}
