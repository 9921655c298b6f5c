//! What policy rests on when it allows a command by itself, and what is therefore looked at in the
//! sandbox before the command starts: repositories that git reads, and paths that may be links.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::grant::hex;

/// Paths that one command may name and still be looked at.
pub const MAX_PATHS: usize = 256;

/// What has to be looked at before a command starts. With nothing in it, nothing has.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checks {
    /// Folders in which git has to find no repository that is unfit for its disarmed form; absolute,
    /// at most [`crate::git::MAX_FOLDERS`].
    pub git_folders: Vec<String>,
    /// What the command names; at most [`MAX_PATHS`].
    pub paths: Vec<NamedPath>,
}

impl Checks {
    /// Whether there is nothing to look at.
    pub fn is_empty(&self) -> bool {
        self.git_folders.is_empty() && self.paths.is_empty()
    }

    /// SHA-256 over them, in hex; `None` for none. Each folder and each path is preceded by its length
    /// (u64, little endian), all folders and all paths by their number, and each path is followed by
    /// whether links are followed (one byte).
    pub fn digest(&self) -> Option<String> {
        let mut hash = Sha256::new();
        let number = |hash: &mut Sha256, of: usize| hash.update((of as u64).to_le_bytes());
        number(&mut hash, self.git_folders.len());
        for folder in &self.git_folders {
            number(&mut hash, folder.len());
            hash.update(folder);
        }
        number(&mut hash, self.paths.len());
        for NamedPath { path, follows_links } in &self.paths {
            number(&mut hash, path.len());
            hash.update(path);
            hash.update([u8::from(*follows_links)]);
        }
        (!self.is_empty()).then(|| hex(&hash.finalize()))
    }
}

/// A file or folder that a command names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct NamedPath {
    /// Absolute, as it is named, links and all.
    pub path: String,
    /// Whether the command follows links that it finds beneath it.
    pub follows_links: bool,
}

/// Why a command that policy allowed is not started: its sandbox does not keep what policy rests on.
/// Says nothing of what is in there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unfit {
    /// It has a setting that is not known to be harmless.
    Setting,
    /// It has a submodule: git runs again in there, under settings that no variable reaches.
    Submodule,
    /// Its own files are somewhere else: a worktree, a submodule, a link.
    Elsewhere,
    /// It has no work tree, or something that looks like such a repository stands in one.
    Bare,
    /// Its settings or its index are larger than what is looked at, or there are too many folders.
    TooLarge,
    /// A folder is missing, or files of the repository cannot be read or understood.
    Unreadable,
    /// A path that it names, or a link that it would follow, leads out of the workspace, to something
    /// hidden, or nowhere.
    Link,
    /// It follows links, and more stands beneath what it names than is looked through.
    TooMany,
    /// A path that it names cannot be looked at.
    Path,
}

impl Unfit {
    /// Every reason.
    pub const ALL: [Self; 9] = [
        Self::Setting,
        Self::Submodule,
        Self::Elsewhere,
        Self::Bare,
        Self::TooLarge,
        Self::Unreadable,
        Self::Link,
        Self::TooMany,
        Self::Path,
    ];

    /// The number that it has in a pipe, above zero.
    pub fn number(self) -> u8 {
        Self::ALL.iter().zip(1..).find(|(unfit, _)| **unfit == self).map_or(0, |(_, number)| number)
    }

    /// The reason of a number.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|unfit| unfit.number() == number)
    }

    /// What people are told.
    pub fn message(self) -> &'static str {
        match self {
            Self::Setting => {
                "git may run other programs there: the repository's configuration has a setting \
                 that is not known to be harmless (see `.git/config`)"
            }
            Self::Submodule => {
                "git may run other programs there: the repository has a submodule, with a \
                 configuration of its own"
            }
            Self::Elsewhere => {
                "git may run other programs there: the repository's own files are somewhere else \
                 (a worktree, a submodule or a link)"
            }
            Self::Bare => {
                "git may run other programs there: a folder looks like a repository without a work \
                 tree"
            }
            Self::TooLarge => {
                "git may run other programs there: the repository's configuration or index is too \
                 large to be looked through"
            }
            Self::Unreadable => {
                "git may run other programs there: a folder or file of the repository cannot be \
                 read or understood"
            }
            Self::Link => {
                "a path that it names is a link, or has links beneath it that it would follow, which \
                 lead out of the workspace, to a hidden file or nowhere"
            }
            Self::TooMany => {
                "it follows links, and there are too many files beneath what it names to look \
                 through for links that lead out of the workspace"
            }
            Self::Path => "a path that it names cannot be looked at before it starts",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn reasons_have_numbers_of_their_own() {
        for unfit in Unfit::ALL {
            assert_eq!(Unfit::from_number(unfit.number()), Some(unfit));
        }
        assert_eq!(Unfit::from_number(0), None);
        assert_eq!(Unfit::from_number(200), None);
    }

    #[test]
    fn checks_differ_in_their_digest() {
        let named = |path: &str, follows_links| NamedPath { path: path.into(), follows_links };
        let of = |folders: &[&str], paths: &[NamedPath]| Checks {
            git_folders: folders.iter().map(|folder| (*folder).to_owned()).collect(),
            paths: paths.to_vec(),
        };
        let all = [
            of(&["/work"], &[]),
            of(&["/work", "/work"], &[]),
            of(&[], &[named("/work", false)]),
            of(&["/work"], &[named("/work", false)]),
            of(&[], &[named("/work", true)]),
            of(&[], &[named("/work", false), named("", false)]),
            of(&[], &[named("/tmp", false)]),
        ];
        let digests: BTreeSet<_> = all.iter().map(Checks::digest).collect();
        assert_eq!(digests.len(), all.len());
        assert_eq!(Checks::default().digest(), None);
    }
}
