//! A path below a workspace, as people type it.

use crate::client::encode;

/// A path relative to `/work`; empty for the workspace itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RemotePath {
    names: Vec<String>,
}

/// A text names nothing below the workspace.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidRemotePath {
    /// Absolute, and elsewhere.
    #[error("`{0}` is outside of the workspace: give a path below /work, or a relative one")]
    Outside(String),
    /// It goes up.
    #[error("`{0}` contains `..`: write the path without it")]
    GoesUp(String),
    /// The workspace itself, where something in it is meant.
    #[error("the path names the workspace itself: name a file or a folder in it")]
    Root,
}

impl RemotePath {
    /// Reads a path; `/work/` in front is the same as nothing.
    ///
    /// # Errors
    /// When it leads elsewhere.
    pub(crate) fn parse(text: &str) -> Result<Self, InvalidRemotePath> {
        let relative = match text.strip_prefix("/work") {
            Some(rest) if rest.is_empty() || rest.starts_with('/') => rest,
            _ if text.starts_with('/') => return Err(InvalidRemotePath::Outside(text.into())),
            _ => text,
        };
        let names: Vec<String> = relative
            .split('/')
            .filter(|name| !name.is_empty() && *name != ".")
            .map(str::to_owned)
            .collect();
        if names.iter().any(|name| name == "..") {
            return Err(InvalidRemotePath::GoesUp(text.into()));
        }
        Ok(Self { names })
    }

    /// As [`Self::parse`], for something in the workspace.
    ///
    /// # Errors
    /// As [`Self::parse`]; also for the workspace itself.
    pub(crate) fn parse_entry(text: &str) -> Result<Self, InvalidRemotePath> {
        let path = Self::parse(text)?;
        if path.names.is_empty() { Err(InvalidRemotePath::Root) } else { Ok(path) }
    }

    /// The last name.
    pub(crate) fn name(&self) -> Option<&str> {
        self.names.last().map(String::as_str)
    }

    /// The URL path of it in a session, with `query` behind it.
    pub(crate) fn url(&self, session_id: &str, query: &str) -> String {
        let mut url = format!("/v1/sessions/{}/files", encode(session_id));
        for name in &self.names {
            url.push('/');
            url.push_str(&encode(name));
        }
        if query.is_empty() { url } else { format!("{url}?{query}") }
    }

    /// The URL path of the session's files with this one as a query, for folders.
    pub(crate) fn folder_url(&self, session_id: &str, query: &str) -> String {
        let (session_id, path) = (encode(session_id), encode(&self.to_string()));
        format!("/v1/sessions/{session_id}/files?path={path}&{query}")
    }
}

impl std::fmt::Display for RemotePath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.names.join("/"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Result<String, InvalidRemotePath> {
        RemotePath::parse(text).map(|path| path.to_string())
    }

    #[test]
    fn the_workspace_in_front_is_left_out() {
        for text in ["a/b", "/work/a/b", "./a//b/", "/work//a/./b"] {
            assert_eq!(shown(text).as_deref(), Ok("a/b"), "{text}");
        }
        for text in ["", ".", "/work", "/work/"] {
            assert_eq!(shown(text).as_deref(), Ok(""), "{text}");
            assert_eq!(RemotePath::parse_entry(text), Err(InvalidRemotePath::Root));
        }
    }

    #[test]
    fn what_leads_elsewhere_is_refused() {
        for text in ["/", "/etc/passwd", "/workspace/a"] {
            assert!(matches!(shown(text), Err(InvalidRemotePath::Outside(_))), "{text}");
        }
        for text in ["..", "a/../b", "/work/../etc"] {
            assert!(matches!(shown(text), Err(InvalidRemotePath::GoesUp(_))), "{text}");
        }
    }

    #[test]
    fn every_name_survives_the_url() {
        let path = RemotePath::parse("a b/50%/x?y#z/ü").expect("a path");
        let url = path.url("ses_1", "kind=stat");
        assert_eq!(url, "/v1/sessions/ses_1/files/a%20b/50%25/x%3Fy%23z/%C3%BC?kind=stat");
        let url = path.folder_url("ses_1", "kind=tar");
        assert!(url.ends_with("files?path=a%20b%2F50%25%2Fx%3Fy%23z%2F%C3%BC&kind=tar"), "{url}");
    }
}
