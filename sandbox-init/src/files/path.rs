//! A path relative to a folder: names only, none of them `..`.

use protocol::files::{FileErrorCode, MAX_NAME_BYTES, MAX_PATH_BYTES};

use super::failure::{Outcome, named, refuse};

/// Names, joined by single slashes. No name is empty, `.` or `..`, and none has a NUL.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RelativePath(Vec<u8>);

/// Why bytes are no such path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PathFault {
    #[error("is absolute: give a path relative to the workspace")]
    Absolute,
    #[error("has a NUL byte, which no path can have")]
    Nul,
    #[error("has a part `..`: give the path of the file itself")]
    Parent,
    #[error("is too long: a path has less than {MAX_PATH_BYTES} bytes, a name {MAX_NAME_BYTES}")]
    TooLong,
}

impl RelativePath {
    /// Parses bytes. Empty parts and `.` do not count; nothing at all is the folder itself.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, PathFault> {
        if bytes.first() == Some(&b'/') {
            return Err(PathFault::Absolute);
        }
        if bytes.contains(&0) {
            return Err(PathFault::Nul);
        }
        let mut joined = Vec::with_capacity(bytes.len().min(MAX_PATH_BYTES));
        for name in bytes.split(|byte| *byte == b'/') {
            match name {
                b"" | b"." => continue,
                b".." => return Err(PathFault::Parent),
                _ => {}
            }
            if !joined.is_empty() {
                joined.push(b'/');
            }
            joined.extend_from_slice(name);
            // The kernel counts the NUL behind a path, too.
            if name.len() > MAX_NAME_BYTES || joined.len() >= MAX_PATH_BYTES {
                return Err(PathFault::TooLong);
            }
        }
        Ok(Self(joined))
    }

    /// The path of a request, which may be the workspace itself.
    pub(crate) fn of_request(path: &str) -> Outcome<Self> {
        Self::parse(path.as_bytes()).map_err(|fault| {
            refuse(FileErrorCode::InvalidPath, format!("the path {} {fault}", named(path)))
        })
    }

    /// The path of a request for something in the workspace: its folder and its name there.
    pub(crate) fn of_entry(path: &str) -> Outcome<(Self, Vec<u8>)> {
        Self::of_request(path)?.split().ok_or_else(|| {
            let message = "the path is empty: it has to name something in the workspace";
            refuse(FileErrorCode::InvalidPath, message)
        })
    }

    /// For the kernel: `.` when it is the folder itself.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        if self.0.is_empty() { b"." } else { &self.0 }
    }

    /// Its names, from the top.
    pub(crate) fn names(&self) -> impl Iterator<Item = &[u8]> {
        self.0.split(|byte| *byte == b'/').filter(|name| !name.is_empty())
    }

    /// Whether it is the folder itself.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The folder it is in, and its name there; `None` for the folder itself.
    pub(crate) fn split(&self) -> Option<(Self, Vec<u8>)> {
        let name = self.names().last()?;
        let folder = self.0[..self.0.len() - name.len()].strip_suffix(b"/").unwrap_or_default();
        Some((Self(folder.to_vec()), name.to_vec()))
    }

    /// The folders on the way to it, from the top; neither the folder itself nor the last name.
    pub(crate) fn ancestors(&self) -> impl Iterator<Item = &[u8]> {
        let ends = self.0.iter().enumerate().filter(|(_, byte)| **byte == b'/');
        ends.map(|(end, _)| &self.0[..end])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_look_odd_are_only_names() {
        for name in ["CON", "-rf", "$(id)", "a\nb", "\u{202e}txt", "...", " ", "\\..\\x"] {
            let path = RelativePath::parse(name.as_bytes()).expect("a name");
            assert_eq!(path.names().collect::<Vec<_>>(), [name.as_bytes()]);
        }
    }

    #[test]
    fn what_leads_out_or_is_too_long_is_refused() {
        let cases: [(&[u8], PathFault); 6] = [
            (b"/etc", PathFault::Absolute),
            (b"a/../../b", PathFault::Parent),
            (b"..", PathFault::Parent),
            (b"a\0b", PathFault::Nul),
            (&[b'a'; 300], PathFault::TooLong),
            (&b"a/".repeat(2049), PathFault::TooLong),
        ];
        for (path, fault) in cases {
            assert_eq!(RelativePath::parse(path), Err(fault));
        }
    }

    #[test]
    fn a_path_falls_into_folder_and_name() {
        let path = RelativePath::parse(b".//a/./b/c/").expect("a path");
        assert_eq!(path.as_bytes(), b"a/b/c");
        assert_eq!(path.ancestors().collect::<Vec<_>>(), [&b"a"[..], b"a/b"]);
        let (folder, name) = path.split().expect("not the folder itself");
        assert_eq!((folder.as_bytes(), &name[..]), (&b"a/b"[..], &b"c"[..]));
        let top = RelativePath::parse(b"a").expect("a path").split().expect("a name").0;
        assert_eq!(top.as_bytes(), b".");
    }
}
