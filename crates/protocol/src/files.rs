//! Work on files of a workspace, done inside the sandbox by `sandbox-init files` as the tenant's
//! user, with no more rights than a command has.
//!
//! The program gets one [`FileRequest`] as JSON in its last argument. A body (of `put` and
//! `put_archive`) comes on standard input, whole when it ends; when the sender fails half-way, the
//! program is killed and nothing has changed. On success it exits with 0 and writes one line of
//! JSON, a [`FileReply`], to standard output; after it, for `get` and `get_archive`, the bytes. On
//! failure it exits with 1 and writes one line of JSON, a [`FileError`], to standard error.

use serde::{Deserialize, Serialize};

/// Longest path, in bytes (`PATH_MAX`).
pub const MAX_PATH_BYTES: usize = 4096;
/// Longest name of one file, in bytes (`NAME_MAX`).
pub const MAX_NAME_BYTES: usize = 255;
/// Largest file that is taken or given, in bytes.
pub const MAX_FILE_BYTES: u64 = 256 * 1024 * 1024;
/// Largest archive that is taken or given, in bytes, and most bytes of files in it.
pub const MAX_ARCHIVE_BYTES: u64 = 256 * 1024 * 1024;
/// Most entries of an archive.
pub const MAX_ARCHIVE_ENTRIES: u64 = 20_000;
/// Deepest folder in an archive, in names.
pub const MAX_ARCHIVE_DEPTH: usize = 64;
/// Most entries of a folder in one answer.
pub const MAX_LIST_ENTRIES: u32 = 1000;

/// One piece of work. Every path is relative to the workspace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case", deny_unknown_fields)]
pub enum FileRequest {
    /// Writes a file, whole or not at all. Folders on the way are made.
    Put {
        /// The file.
        path: String,
        /// Most bytes to take.
        max_bytes: u64,
        /// Permissions, as in `0o644`; those of the file it replaces, or 0644, without.
        mode: Option<u32>,
    },
    /// Reads a file.
    Get {
        /// The file.
        path: String,
        /// Most bytes to give: a larger file is an error.
        max_bytes: u64,
    },
    /// What is known of a file, a folder or a link; links are not followed at the end of the path.
    Stat {
        /// Which.
        path: String,
    },
    /// The entries of a folder, by name.
    List {
        /// The folder; empty for the workspace.
        path: String,
        /// Begins behind this name, for the next page: an entry's `name`, or, where it has one, a
        /// slash and its `name_base64` (no name has a slash, so neither is taken for the other).
        after: Option<String>,
        /// Most entries, up to [`MAX_LIST_ENTRIES`].
        limit: u32,
    },
    /// Makes a folder and those on the way. One that is there is no failure.
    Mkdir {
        /// The folder.
        path: String,
    },
    /// Deletes a file, a link, or a folder.
    Delete {
        /// Which.
        path: String,
        /// A folder with everything in it; otherwise it must be empty.
        recursive: bool,
    },
    /// Unpacks a tar archive into a folder, which is made. All entries are looked at before the
    /// first is written.
    PutArchive {
        /// The folder; empty for the workspace.
        path: String,
        /// Most bytes of the archive, and of the files in it.
        max_bytes: u64,
        /// Most entries.
        max_entries: u64,
    },
    /// Packs a folder into a tar archive: files, folders and links, no devices.
    GetArchive {
        /// The folder; empty for the workspace.
        path: String,
        /// Most bytes of files.
        max_bytes: u64,
        /// Most entries.
        max_entries: u64,
    },
}

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum FileKind {
    /// A regular file.
    File,
    /// A folder.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A device, a socket or a pipe.
    Other,
}

/// What is known of an entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct FileEntry {
    /// Its name, with U+FFFD where it is not UTF-8.
    pub name: String,
    /// Its exact bytes, where `name` is not exact.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name_base64: Option<String>,
    /// What it is.
    pub kind: FileKind,
    /// Size in bytes.
    pub bytes: u64,
    /// Permissions, the lowest twelve bits.
    pub mode: u32,
    /// Last change of its content, in milliseconds since the epoch.
    pub modified_at_ms: i64,
    /// Where a link points, with U+FFFD where it is not UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
}

/// The work was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "done", rename_all = "snake_case")]
pub enum FileReply {
    /// A file was written.
    Put {
        /// Its size.
        bytes: u64,
        /// SHA-256 of its bytes, in hex.
        sha256: String,
        /// There was none before.
        created: bool,
    },
    /// The file's bytes follow, exactly this many.
    Get {
        /// How many.
        bytes: u64,
        /// SHA-256 of them, in hex. Should the file change while it is read, the program fails
        /// before its last byte.
        sha256: String,
        /// Last change, in milliseconds since the epoch.
        modified_at_ms: i64,
    },
    /// Answer to `stat`.
    Stat {
        /// The entry.
        entry: FileEntry,
    },
    /// Answer to `list`.
    List {
        /// Sorted by the bytes of their names.
        entries: Vec<FileEntry>,
        /// There are more.
        more: bool,
    },
    /// A folder is there.
    Mkdir {
        /// It was not before.
        created: bool,
    },
    /// It is gone.
    Delete {
        /// Entries that were deleted.
        entries: u64,
    },
    /// An archive was unpacked.
    PutArchive {
        /// Entries in it.
        entries: u64,
        /// Bytes of its files.
        bytes: u64,
        /// SHA-256 of the archive, in hex.
        sha256: String,
    },
    /// An archive follows, until the end of the output.
    GetArchive {
        /// Entries in it.
        entries: u64,
        /// Bytes of its files.
        bytes: u64,
    },
}

/// Why work on a file was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileError {
    /// For programs.
    pub code: FileErrorCode,
    /// For people: what was wrong, where, and what helps. Names the path as the request did, and
    /// an entry of an archive or a folder by its name, escaped and cut.
    pub message: String,
}

/// For programs: why work on a file was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileErrorCode {
    /// Empty, absolute, with NUL or `..`, or too long.
    InvalidPath,
    /// It leads out of the workspace, by a link for instance.
    PathOutside,
    /// There is nothing.
    NotFound,
    /// It is a folder, a device, a pipe or a socket, where a file was wanted.
    NotRegularFile,
    /// It is none, where a folder was wanted.
    NotDirectory,
    /// It is there, and something else than what was to be made.
    AlreadyExists,
    /// A folder with something in it.
    NotEmpty,
    /// Its permissions forbid it.
    PermissionDenied,
    /// Over the limit on bytes.
    TooLarge,
    /// Over the limit on entries or depth.
    TooManyEntries,
    /// The workspace is full.
    WorkspaceFull,
    /// An archive's entry that is absolute, leads out, or is a device or setuid.
    UnsafeArchiveEntry,
    /// No tar archive, or a damaged one.
    MalformedArchive,
    /// It changed while it was read.
    Changed,
    /// Git rests on what was seen of the files: they may be changed when it is done.
    Busy,
    /// Something else.
    Failed,
}
