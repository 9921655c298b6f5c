//! Files on this side of a transfer: names in a workspace, packing, unpacking, and files that
//! appear whole or not at all. Knows no HTTP.

mod arrival;
mod folder;
mod pack;
mod remote_path;
mod unpack;

pub(crate) use arrival::Arrival;
pub(crate) use pack::{PackError, pack};
pub(crate) use remote_path::RemotePath;
pub(crate) use unpack::{Unpacked, unpack};

/// Most bytes of an archive, as the server's.
const MAX_ARCHIVE_BYTES: u64 = 256 * 1024 * 1024;
/// Most entries of an archive, as the server's.
const MAX_ARCHIVE_ENTRIES: u64 = 20_000;
/// Deepest folder in an archive, in names, as the server's.
const MAX_ARCHIVE_DEPTH: usize = 64;
